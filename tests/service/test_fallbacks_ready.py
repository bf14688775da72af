"""Readiness: what it names, when it refuses, and that it answers in time whatever hangs."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from service.clock import SystemClock
from service.ledger.database import Database
from service.readiness import ANSWER_S
from tests.processes import eventually
from tests.service.asking import ask
from tests.service.conftest import Shop

NAMES = ["database", "schema", "folder", "policy", "leader", "writer", "policy_set"]
IN_TIME_S = ANSWER_S + 6
"""The deadline of the look itself, and what a busy machine may add; what hangs here hangs for ten seconds."""
MINUTE_US = 60_000_000


def ready(shop: Shop) -> dict[str, Any]:
    before = time.monotonic()
    answer = shop.client.get("/health/ready")
    assert time.monotonic() - before < IN_TIME_S
    assert answer.status_code == 200, answer.text
    return answer.json()


def states(shop: Shop) -> dict[str, str]:
    return {check["name"]: check["state"] for check in ready(shop)["checks"]}


def detail(shop: Shop, name: str) -> str:
    return next(check["detail"] for check in ready(shop)["checks"] if check["name"] == name)


def is_well(shop: Shop) -> bool:
    return ready(shop)["status"] == "ready"


@contextmanager
def held(shop: Shop, *, mark_at_us: int | None = None) -> Iterator[None]:
    """Another connection that has the file to itself; it may leave a mark before."""
    file = shop.database.path
    with closing(sqlite3.connect(file, isolation_level=None, timeout=10)) as holder:
        if mark_at_us is not None:
            holder.execute("INSERT INTO mark (store_no, order_id, at_us) VALUES (1, 'o', ?)", [mark_at_us])
        holder.execute("BEGIN EXCLUSIVE")
        yield
        holder.execute("ROLLBACK")


def test_all_is_well(shop: Shop) -> None:
    shop.running()
    ask(shop)
    eventually(lambda: is_well(shop))
    found = ready(shop)
    assert [check["name"] for check in found["checks"]] == NAMES
    assert {check["state"] for check in found["checks"]} == {"ok"}
    assert all(check["detail"] for check in found["checks"])


@pytest.mark.usefixtures("sqlite_only")
def test_a_file_that_somebody_holds_is_told_in_time_and_forgotten_when_it_is_free(shop: Shop) -> None:
    shop.running()
    eventually(lambda: is_well(shop))
    with held(shop):
        assert states(shop)["writer"] == "degraded"
        assert "see who else holds the ledger" in detail(shop, "writer")
        assert ready(shop)["status"] == "degraded"
        assert states(shop)["database"] == "ok", "readers do not wait for writers"
    eventually(lambda: is_well(shop), 20)


@pytest.mark.usefixtures("sqlite_only")
def test_asking_again_and_again_does_not_pile_up_work(shop: Shop) -> None:
    shop.running()
    writer = shop.client.app.state.service.writer
    with held(shop), ThreadPoolExecutor(8) as threads:
        before = time.monotonic()
        assert {r["status"] for r in threads.map(lambda _: ready(shop), range(24))} == {"degraded"}
        assert time.monotonic() - before < 3 * IN_TIME_S
        # One look of readiness, and one of each of the jobs that run by themselves.
        assert writer.waiting <= 4
        assert sum(thread.name == "readiness" for thread in threading.enumerate()) <= 1
    eventually(lambda: is_well(shop), 20)


@pytest.fixture
def hanging(monkeypatch: pytest.MonkeyPatch) -> Generator[threading.Event]:
    """Every look at the schema hangs until the event is set."""
    go_on = threading.Event()
    require_current = Database.require_current

    def hangs(self: Database) -> None:
        assert go_on.wait(60)
        require_current(self)

    monkeypatch.setattr(Database, "require_current", hangs)
    yield go_on
    go_on.set()


def test_a_database_that_never_answers_is_told_in_time(shop: Shop, hanging: threading.Event) -> None:
    for _ in range(3):
        assert states(shop) == {"database": "degraded", "writer": "ok", "policy_set": "ok"}
    assert "no answer within 1 s" in detail(shop, "database")
    assert sum(thread.name == "readiness" for thread in threading.enumerate()) == 1
    hanging.set()
    eventually(lambda: is_well(shop))


def test_another_schema_is_the_one_thing_that_takes_the_traffic_away(shop: Shop) -> None:
    with shop.database.write() as connection:
        known = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar_one()
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '0001'")
    refused = shop.client.get("/health/ready")
    assert (refused.status_code, refused.json()["code"]) == (503, "not_ready")
    assert refused.headers["content-type"] == "application/problem+json"
    assert "rialto upgrade" in refused.json()["detail"]
    assert [error["pointer"] for error in refused.json()["errors"]] == ["/checks/schema"]
    assert int(refused.headers["retry-after"]) >= 1
    with shop.database.write() as connection:
        connection.exec_driver_sql(f"UPDATE alembic_version SET version_num = '{known}'")
    eventually(lambda: shop.client.get("/health/ready").is_success)
    eventually(lambda: is_well(shop))


@pytest.mark.usefixtures("sqlite_only")
def test_a_folder_and_an_allocator_that_fall_behind_are_told(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing can be written, so nothing is folded; and the clock moves on by an hour."""
    shop.running()
    eventually(lambda: is_well(shop))
    hour_ago_us = time.time_ns() // 1000 - 60 * MINUTE_US
    with held(shop, mark_at_us=hour_ago_us):
        eventually(lambda: states(shop)["folder"] == "degraded")
        waits = detail(shop, "folder")
        assert "1 changes wait" in waits
        assert "for 36" in waits  # 3,600 s and a little
        assert states(shop)["policy"] == "ok"
        now_us = SystemClock.now_us
        later = lambda self, simulated: now_us(self, simulated) + 60 * MINUTE_US  # noqa: E731
        monkeypatch.setattr(SystemClock, "now_us", later)
        eventually(lambda: states(shop)["policy"] == "degraded")
        assert "1 running experiments" in detail(shop, "policy")
    eventually(lambda: is_well(shop), 20)


def test_a_policy_set_that_cannot_be_kept_is_told(open_shop: Callable[..., Shop], tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file stands where the folder should be")
    shop = open_shop(state_dir=str(tmp_path / "taken" / "state"))
    eventually(lambda: states(shop)["policy_set"] == "degraded")
    assert "taken" in detail(shop, "policy_set")
    (tmp_path / "taken").unlink()
    eventually(lambda: is_well(shop))

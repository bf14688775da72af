"""`rialto doctor`: what it finds on a sound ledger, and each trouble it is there to find."""

from __future__ import annotations

import json
import os
import resource
import signal
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from service.checks.contents import clock, waiting
from service.checks.finding import State
from service.checks.machine import open_files
from service.checks.postgres_server import durability
from service.checks.running import followed
from service.checks.sqlite_file import file_system, free_space
from service.ledger.database import Database
from tests.ledgers import SqliteLedgers
from tests.processes import free_port
from tests.service.conftest import ServiceProcess, document, new_stores, rialto, rialto_here

Start = Callable[..., ServiceProcess]


@pytest.fixture
def ledgers(empty_ledger: bytes) -> SqliteLedgers:
    """Files: what is special to PostgreSQL is asked of `postgres_url`."""
    return SqliteLedgers(empty_ledger)


def examined(*arguments: str) -> tuple[int, dict[str, Any]]:
    done = rialto_here("doctor", "--json", *arguments)
    told = json.loads(done.stdout)
    return done.returncode, {check["name"]: check for check in told["checks"]} | {"state": told["state"]}


@pytest.fixture
def ledger(tmp_path: Path, empty_ledger: bytes) -> Path:
    """A ledger that nobody serves."""
    file = tmp_path / "shop.db"
    file.write_bytes(empty_ledger)
    return file


def test_a_running_service_is_found_well(start_service: Start) -> None:
    running = start_service()
    with running.client() as client:
        assert client.post("/v1/experiments", json=document()).status_code == 201
        assert client.post("/v1/experiments/checkout-addon/start").status_code == 200
        body = {"touchpoint": "checkout", "unit_id": "u"}
        assert client.post("/v1/assign", json=body).status_code == 200
    code, found = examined("--database", running.database_url, "--url", running.url)
    assert code == 0
    bad = {name: check for name, check in found.items() if name != "state" and check["state"] == "fail"}
    assert bad == {}
    assert found["served by"]["found"] == f"process {running.process.pid}"
    wanted = {"python", "sqlite", "open files", "file system", "free space", "write-ahead log"}
    wanted |= {"journal mode", "integrity", "served by", "schema", "folding", "policies", "clock"}
    wanted |= {"service", "clock of the service", "readiness", "version", "policies served", "state"}
    assert found.keys() == wanted
    assert found["policies served"]["found"].startswith("1 experiments")
    for check in found.values():
        if isinstance(check, dict):
            assert (check["remedy"] == "") == (check["state"] == "ok")
    shown = rialto("doctor", "--database", running.database_url)
    assert shown.returncode == 0
    assert "ok    integrity: quick check passed" in shown.stdout


def test_nobody_serves_is_a_warning_with_the_remedy(ledger: Path) -> None:
    code, found = examined("--database", f"sqlite:///{ledger}")
    assert (code, found["served by"]["state"], found["state"]) == (0, "warn", "warn")
    assert "rialto serve" in found["served by"]["remedy"]


def test_a_damaged_file_fails(ledger: Path) -> None:
    """Every page but the first is overwritten with noise."""
    size = ledger.stat().st_size
    with ledger.open("r+b") as file:
        file.seek(8192)
        file.write(os.urandom(size - 8192))
    done = rialto_here("doctor", "--database", f"sqlite:///{ledger}")
    assert done.returncode == 1
    assert "fail " in done.stdout
    assert "restore the last backup" in done.stdout
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("url", "found", "remedy"),
    [
        ("sqlite:///absent.db", "there is no ledger at absent.db", "rialto init"),
        ("nonsense", "nonsense", "write a URL such as"),
        ("sqlite:///README.md", "not a database", "correct --database"),
        ("postgresql://rialto@127.0.0.1:{port}/none", "127.0.0.1:{port}", "start it"),
    ],
)
def test_what_is_no_ledger_fails_with_the_remedy(url: str, found: str, remedy: str) -> None:
    port = str(free_port())
    done = rialto_here("doctor", "--database", url.format(port=port))
    assert done.returncode == 1
    assert found.format(port=port) in done.stdout
    assert remedy in done.stdout


def test_an_older_schema_fails_with_the_remedy(ledger: Path) -> None:
    with closing(sqlite3.connect(ledger)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '0001'")
    code, found = examined("--database", f"sqlite:///{ledger}")
    assert code == 1
    assert "rialto upgrade" in found["ledger"]["remedy"]


def test_a_service_that_is_not_there_fails(ledger: Path) -> None:
    code, found = examined("--database", f"sqlite:///{ledger}", "--url", f"http://127.0.0.1:{free_port()}")
    assert code == 1
    assert "start `rialto serve`" in found["service"]["remedy"]


def test_changes_that_wait_are_told_with_their_age(ledger: Path) -> None:
    database = Database(f"sqlite:///{ledger}")
    new_stores(database, is_simulated=False)
    with database.write() as connection:
        connection.execute(
            text("INSERT INTO mark (store_no, unit_no, at_us) VALUES (1, 1, :at)"),
            {"at": time.time_ns() // 1000 - 120_000_000},
        )
    database.close()
    code, found = examined("--database", f"sqlite:///{ledger}")
    assert (code, found["folding"]["state"]) == (0, "warn")
    assert found["folding"]["found"].startswith("1 changes wait, the oldest for 12")


def test_a_ledger_with_rows_of_the_future_tells_of_the_clock(ledger: Path) -> None:
    database = Database(f"sqlite:///{ledger}")
    new_stores(database, is_simulated=False)
    ahead_us = time.time_ns() // 1000 + 3_600_000_000
    with database.write() as connection:
        connection.execute(
            text(
                "INSERT INTO event (store_no, event_id, type, occurred_at_us, received_at_us, is_clamped,"
                " digest, body) VALUES (1, 'e', 'cart', :at, :at, 0, x'00', '{}')"
            ),
            {"at": ahead_us},
        )
    database.close()
    code, found = examined("--database", f"sqlite:///{ledger}")
    assert (code, found["clock"]["state"]) == (1, "fail")
    assert "NTP" in found["clock"]["remedy"]


def test_limits_are_where_they_are_said_to_be(ledger: Path, tmp_path: Path) -> None:
    assert open_files(1024).state is State.WARN
    assert open_files(4096).state is open_files(resource.RLIM_INFINITY).state is State.OK
    assert [free_space(ledger, free).state for free in (50 << 20, 500 << 20, 2 << 30)] == list(State)[::-1]
    assert [waiting(1, age).state for age in (10, 100, 4000)] == list(State)
    assert waiting(0, 0.0).state is State.OK
    assert [clock(skew).state for skew in (0.5, -10, 400)] == list(State)
    assert durability("on", "on", "on").state is State.OK
    for settings in (("off", "on", "on"), ("on", "off", "on"), ("on", "on", "off")):
        assert durability(*settings).state is State.FAIL
    mounts = tmp_path / "mounts"
    for kind, state in (("ext4", State.OK), ("nfs4", State.FAIL), ("tmpfs", State.WARN)):
        mounts.write_text(f"/dev/a / ext4 rw 0 0\nx {tmp_path.resolve()} {kind} rw 0 0\n")
        assert file_system(ledger, mounts).state is state
        assert f"{kind} at {tmp_path.resolve()}" in file_system(ledger, mounts).found


def test_a_process_that_serves_an_older_policy_is_told() -> None:
    text = (
        'rialto_policy_version_published{store="s",experiment="a"} 7\n'
        'rialto_policy_version{store="s",experiment="a",worker="0"} 7\n'
        'rialto_policy_version{store="s",experiment="a",worker="1"} 6\n'
    )
    assert followed(text).state is State.WARN
    assert 'experiment="a"' in followed(text).found
    assert followed(text.replace(" 6\n", " 7\n")).state is State.OK


def test_postgresql_is_looked_over(postgres_url: str) -> None:
    """The tests' server runs without fsync, which is just what must be found."""
    code, found = examined("--database", postgres_url)
    assert (code, found["durability"]["state"]) == (1, "fail")
    assert "fsync=off" in found["durability"]["found"]
    assert {found[name]["state"] for name in ("postgresql", "connections", "indexes", "schema")} == {"ok"}
    assert (found["leader"]["state"], found["clock"]["state"]) == ("warn", "ok")
    database = Database(postgres_url)
    with database.write() as connection:
        connection.execute(text("DROP INDEX order_key"))
    database.close()
    code, found = examined("--database", postgres_url)
    assert found["indexes"]["state"] == "fail"
    assert "order_key of event" in found["indexes"]["found"]


def test_the_holder_of_a_stopped_service_is_gone(start_service: Start) -> None:
    running = start_service()
    running.process.send_signal(signal.SIGTERM)
    assert running.process.wait(15) == 0
    _, found = examined("--database", running.database_url)
    assert found["served by"]["found"] == "nobody"

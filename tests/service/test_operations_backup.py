"""`rialto backup` and `restore`: under load, between the two databases, and what they refuse."""

from __future__ import annotations

import json
import sqlite3
import stat
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from service.backup import back_up
from service.ledger import schema
from service.ledger.database import Database
from service.ledger.event_keys import EVENTS_SETTLED
from service.ledger.links import LINKS_SETTLED
from service.restore import restore, tables
from tests.ledgers import SqliteLedgers
from tests.processes import eventually
from tests.service.conftest import ServiceProcess, Shop, document, rialto, rialto_here

Start = Callable[..., ServiceProcess]


@pytest.fixture
def ledgers(empty_ledger: bytes) -> SqliteLedgers:
    """Files: what is special to PostgreSQL is asked of `postgres_url`."""
    return SqliteLedgers(empty_ledger)


BUSY_S = 60.0


def quiet(_what: str, _done: int, _total: int) -> None:
    """Nobody watches."""


def write_until(stop: threading.Event, running: ServiceProcess, name: str, seen: dict[str, str]) -> None:
    """Assign and order; what is acknowledged stands in `seen`."""
    with running.client() as client:
        turn = 0
        while not stop.is_set():
            unit = f"{name}-{turn}"
            made = client.post("/v1/assign", json={"touchpoint": "checkout", "unit_id": unit}).json()
            order = {"event_id": f"o-{unit}", "type": "order", "unit_id": unit, "order_id": unit}
            sent = client.post("/v1/events", json={**order, "amount": 100, "currency": "EUR"})
            if made["decision_id"] and sent.status_code == 200:
                seen[unit] = made["decision_id"]
            turn += 1


def test_a_backup_under_load_holds_what_was_acknowledged_before_it(
    start_service: Start, tmp_path: Path
) -> None:
    """Writes go on throughout; what is restored is served, and knows every unit of before."""
    running = start_service()
    with running.client() as client:
        assert client.post("/v1/experiments", json=document()).status_code == 201
        assert client.post("/v1/experiments/checkout-addon/start").status_code == 200
    seen: dict[str, str] = {}
    stop = threading.Event()
    names = ("a", "b", "c")
    writers = [threading.Thread(target=write_until, args=(stop, running, name, seen)) for name in names]
    for writer in writers:
        writer.start()
    try:
        eventually(lambda: len(seen) >= 100, BUSY_S)
        before, file = dict(seen), tmp_path / "backup.db"
        done = rialto("backup", "--database", running.database_url, "--out", str(file), "--verify", "--json")
        during = len(seen) - len(before)
    finally:
        stop.set()
        for writer in writers:
            writer.join()
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["verified"] is True
    assert during > 0
    assert len(before) <= report["rows"]["assignment"] <= len(seen) + len(names)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [
        path.name for path in tmp_path.iterdir() if "partial" in path.name or "restored" in path.name
    ] == []
    database = Database(f"sqlite:///{file}")
    with database.read() as connection:
        raw_ids = set(connection.execute(select(schema.unit.c.raw_id)).scalars())
        order_ids = set(connection.execute(select(schema.event.c.order_id)).scalars())
    database.close()
    assert raw_ids >= before.keys()
    assert order_ids >= before.keys()


def test_what_is_restored_is_served_and_decides_as_before(shop: Shop, tmp_path: Path) -> None:
    shop.running()
    units = [f"u{n}" for n in range(30)]
    first = {unit: decide(shop.client, shop.headers(), unit) for unit in units}
    file, copy = tmp_path / "backup.db", tmp_path / "again.db"
    back_up(shop.database, file, is_verified=True, progress=quiet)
    assert rialto_here("restore", "--from", str(file), "--database", f"sqlite:///{copy}").returncode == 0
    assert rialto_here("verify", "--database", f"sqlite:///{copy}").returncode == 0
    with closing(sqlite3.connect(copy)) as connection:
        assert connection.execute("SELECT count(*) FROM assignment").fetchone() == (30,)
    assert {unit: decide(shop.client, shop.headers(), unit) for unit in units} == first


def decide(client: Any, headers: dict[str, str], unit: str) -> tuple[str, str]:
    answer = client.post("/v1/assign", json={"touchpoint": "checkout", "unit_id": unit}, headers=headers)
    return answer.json()["decision_id"], answer.json()["variant"]


def contents(database: Database) -> dict[str, list[Any]]:
    """Every row of every table, comparable between databases."""
    found: dict[str, list[Any]] = {}
    with database.read() as connection:
        for table in tables():
            rows = connection.execute(select(table).order_by(*table.primary_key.columns))
            found[table.name] = [tuple(row) for row in rows]
    return found


@pytest.fixture
def filled(shop: Shop) -> Shop:
    """A shop with every kind of row, a cell with sums beyond 64 bits among them."""
    shop.running()
    for n in range(20):
        unit = f"µ-{n}"
        decision = shop.post("/v1/assign", {"touchpoint": "checkout", "unit_id": unit, "context": {"n": n}})
        exposure = {"event_id": f"x{n}", "type": "exposure", "decision_id": decision.json()["decision_id"]}
        order = {"event_id": f"o{n}", "type": "order", "unit_id": unit, "order_id": f"{n}", "currency": "EUR"}
        events = [exposure, {**order, "amount": 10**9 + n, "cost": 5}]
        sent = shop.post("/v1/events", {"events": events}).json()
        assert sent["accepted"] == 2, sent
    refund = {"event_id": "r", "type": "refund", "order_id": "3", "amount": 10}
    assert shop.post("/v1/events", refund).status_code == 200
    assert shop.call("DELETE", "/v1/units/µ-19").status_code == 200
    assert shop.get("/v1/experiments/checkout-addon/report").status_code == 200
    return shop


def test_a_ledger_goes_to_postgresql_and_back_without_a_difference(
    filled: Shop, tmp_path: Path, postgres_url: str
) -> None:
    first, second = tmp_path / "first.db", tmp_path / "second.db"
    back_up(filled.database, first, is_verified=True, progress=quiet)
    restore(first, postgres_url, quiet)
    server, file = Database(postgres_url), Database(f"sqlite:///{first}")
    try:
        there, here = contents(server), contents(file)
        keys, links = there.pop("unit_key"), there.pop("unit_event")
        here.pop("unit_key")
        here.pop("unit_event")
        here.pop("event_by_key")
        assert there.pop("event_by_key") == []
        marks = LINKS_SETTLED, EVENTS_SETTLED
        here["progress"] = [mark for mark in here["progress"] if mark[0] not in marks]
        assert there == here
        assert links == []  # PostgreSQL finds them by an index
        assert len(keys) == len(there["unit"])  # SQLite keeps the newest in memory, PostgreSQL none
        report = back_up(server, second, is_verified=True, progress=quiet)
    finally:
        server.close()
        file.close()
    again = Database(f"sqlite:///{second}")
    back = contents(again)
    with again.read() as connection:
        settled = connection.execute(select(schema.progress.c.value)).scalars().all()
        highest = connection.execute(select(func.max(schema.unit.c.unit_no))).scalar_one()
    again.close()
    assert report.verified
    assert highest in settled
    links = sorted((unit_no, event_no, kinds) for event_no, unit_no, kinds in back["event_unit"])
    assert sorted(back.pop("unit_event")) == links
    assert {event_no for _, event_no in back["event_by_key"]} == {row[0] for row in back["event"]}
    for name in ("progress", "unit_key", "event_by_key"):
        back.pop(name)
        here.pop(name, None)
    assert len(links) > 10
    assert back == here
    assert rialto_here("verify", "--database", postgres_url).returncode == 0


def test_numbers_of_erased_units_are_never_given_again(
    filled: Shop, tmp_path: Path, postgres_url: str
) -> None:
    """The last unit was erased before the backup: whoever comes next is the one after it."""
    file = tmp_path / "backup.db"
    back_up(filled.database, file, is_verified=False, progress=quiet)
    with closing(sqlite3.connect(file)) as connection:
        (last,) = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'unit'").fetchone()
        (highest,) = connection.execute("SELECT max(unit_no) FROM unit").fetchone()
    assert last > highest
    restore(file, postgres_url, quiet)
    server = Database(postgres_url)
    try:
        row = {"store_no": 1, "raw_id": "next"}
        with server.write() as connection:
            inserted = connection.execute(schema.unit.insert().values(row).returning(schema.unit.c.unit_no))
            assert inserted.scalar_one() == last + 1
    finally:
        server.close()


def test_refusals_name_the_remedy(shop: Shop, tmp_path: Path, postgres_url: str) -> None:
    url, file = f"sqlite:///{shop.database.path}", tmp_path / "backup.db"
    assert rialto_here("backup", "--database", url, "--out", str(file)).returncode == 0
    cases: list[tuple[tuple[str, ...], str]] = [
        (("backup", "--database", url, "--out", str(file)), "exists: name another file"),
        (("backup", "--database", url, "--out", str(tmp_path / "no" / "b.db")), "is no directory"),
        (("backup", "--database", f"sqlite:///{tmp_path}/none.db", "--out", str(tmp_path / "b.db")), "init"),
        (("restore", "--from", str(file), "--database", url), "exists: restore to another file"),
        (("restore", "--from", str(tmp_path / "none"), "--database", "sqlite:///x.db"), "is no file"),
        (
            ("restore", "--from", "README.md", "--database", f"sqlite:///{tmp_path}/x.db"),
            "no backup of Rialto",
        ),
    ]
    restore(file, postgres_url, quiet)
    cases.append((("restore", "--from", str(file), "--database", postgres_url), "empty database"))
    for arguments, said in cases:
        done = rialto_here(*arguments)
        assert (done.returncode, said in done.stderr) == (1, True), done.stderr
        assert "Traceback" not in done.stderr
    assert not (tmp_path / "x.db").exists()


def test_a_copy_that_does_not_verify_is_no_backup(filled: Shop, tmp_path: Path) -> None:
    """A sum changed by hand in the ledger: the drill must not pass it, and leaves nothing behind."""
    with filled.database.write() as connection:
        connection.execute(schema.order_balance.update().values(amount_minor=1))
    done = rialto_here(
        *("backup", "--database", f"sqlite:///{filled.database.path}"),
        *("--out", str(tmp_path / "backup.db"), "--verify"),
    )
    assert done.returncode == 1
    assert "rialto verify" in done.stderr
    assert not list(tmp_path.glob("backup*"))
    assert not list(tmp_path.glob(".rialto*"))

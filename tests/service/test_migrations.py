"""A ledger of the first schema is moved over: what it holds is answered as before, and every sum is exact."""

from __future__ import annotations

import json
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, create_engine, text

from experiments.allocation.hashing import unit_hash
from service.ledger.database import MIGRATIONS, Database
from service.ledger.shown import steps_of
from service.ledger.verify import verify
from tests.service.conftest import document

SECRET = b"s" * 32
UNITS = {1: "anna", 2: "bruno", 3: "carla"}


def add(connection: Connection, table: str, **values: object) -> None:
    names = ", ".join(values)
    places = ", ".join(f":{name}" for name in values)
    connection.execute(text(f"INSERT INTO {table} ({names}) VALUES ({places})"), values)


def fill(connection: Connection) -> None:
    """A running experiment with three units, an order that waits, and two changes of what is shown."""
    times = {"created_at_us": 1}
    settings = json.dumps({"currency": "EUR"})
    flags = {"is_simulated": 0, "version": 1}
    add(connection, "store", store_no=1, key="shop", secret=SECRET, settings=settings, **flags, **times)
    body = json.dumps(document(currency="EUR"))
    state = {"state": "running", "version": 1, "time_zone": "UTC", "caps": "{}", "report_from_epoch": 0}
    add(
        connection,
        "experiment",
        experiment_no=1,
        store_no=1,
        key="checkout-addon",
        document=body,
        **state,
        **times,
    )
    for number, key in enumerate(("none", "socks")):
        row = {"experiment_no": 1, "variant_no": number, "key": key, "state": "active", "changed_at_us": 1}
        add(connection, "variant", **row)
    add(connection, "candidate_set", experiment_no=1, set_no=1, members='["none", "socks"]')
    for unit_no, raw_id in UNITS.items():
        add(connection, "unit", unit_no=unit_no, store_no=1, hash16=unit_hash(SECRET, raw_id), raw_id=raw_id)
        place = {"experiment_no": 1, "unit_no": unit_no, "period": 0}
        drawn = {"variant_no": 1, "share": 1 << 31, "set_no": 1, "policy_version": 1, "epoch": 1}
        add(connection, "assignment", **place, **drawn, segment="", is_forced=0, at_us=10 * unit_no)
        first = "not_eligible_now" if raw_id == "bruno" else "offer"
        add(connection, "shown", **place, at_us=10 * unit_no, reason=first)
        add(connection, "dirty_unit", unit_no=unit_no, store_no=1)
    place = {"experiment_no": 1, "unit_no": 1, "period": 0}
    add(connection, "shown", **place, at_us=99, reason="paused")
    add(connection, "decision_context", **place, rejected="{}", context='{"device": "phone"}')
    add(connection, "dirty_order", store_no=1, order_id="o-1")


def test_a_ledger_of_the_first_schema_is_moved_over(tmp_path: Path) -> None:
    path = tmp_path / "old.db"
    path.touch()
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    engine = create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
    with engine.begin() as connection:
        fill(connection)
    engine.dispose()
    database = Database(f"sqlite:///{path}")
    database.migrate()
    database.require_current()
    with database.read() as connection:
        rows = connection.execute(text("SELECT * FROM assignment ORDER BY unit_no")).all()
        assert [(row.unit_no, row.at_us, row.share) for row in rows] == [(n, 10 * n, 1 << 31) for n in UNITS]
        shown = {(step.ref.unit_no, step.at_us): step.what for step in steps_of(connection, rows)}
        assert shown == {(1, 10): "offer", (1, 99): "paused", (2, 20): "not_eligible_now", (3, 30): "offer"}
        keys = connection.execute(text("SELECT hash16, unit_no FROM unit_key")).all()
        assert {key: number for key, number in keys} == {unit_hash(SECRET, UNITS[n]): n for n in UNITS}
        assert connection.scalar(text("SELECT value FROM progress WHERE name = 'units_settled'")) == 3
        marks = connection.execute(text("SELECT unit_no, order_id FROM mark ORDER BY mark_no")).all()
        assert [tuple(mark) for mark in marks] == [(1, None), (2, None), (3, None), (None, "o-1")]
        context = connection.scalar(text("SELECT context FROM decision_context WHERE unit_no = 1"))
        assert json.loads(context) == {"device": "phone"}
    assert verify(database).is_exact
    database.close()

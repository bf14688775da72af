"""Folding on PostgreSQL: by which way rows are found, however little the server knows of its tables."""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import Connection, event, insert, text

from service.ledger import schema
from service.ledger.database import Database
from service.ledger.fold_slices import Slice, prepare, write
from service.ledger.statements import found_by_key
from tests.service.conftest import Shop

pytestmark = pytest.mark.postgresql_only
UNITS = 5000
WAITING = 700
EVENTS = """
INSERT INTO event (event_no, store_no, event_id, type, occurred_at_us, received_at_us, is_clamped, digest,
                   order_id, experiment_no, decision_unit_no, decision_period, body)
SELECT n, 1, 'e' || n, CASE WHEN n % 10 = 0 THEN 'order' ELSE 'exposure' END, at_us, at_us, false, 'x',
       CASE WHEN n % 10 = 0 THEN 'o' || n END, CASE WHEN n % 10 > 0 THEN 1 END,
       CASE WHEN n % 10 > 0 THEN 1 + n % :units END, CASE WHEN n % 10 > 0 THEN 0 END,
       '{"amount": 1000, "currency": "EUR", "cost": 400, "rates": {}}'
FROM generate_series(1, 10 * :units) n, (SELECT at_us FROM assignment LIMIT 1) enrolled
"""
LINKS = """
INSERT INTO event_unit (unit_no, event_no, kinds) SELECT 1 + event_no % :units, event_no, 1 FROM event
"""


def fill(database: Database) -> None:
    """Many enrolled units with events and orders, of which some wait to be folded."""
    with database.write() as connection:
        one = dict(connection.execute(text("SELECT * FROM assignment")).mappings().one())
        others = [{**one, "unit_no": unit_no} for unit_no in range(2, UNITS + 1)]
        connection.execute(insert(schema.assignment), others)
        connection.execute(text(EVENTS), {"units": UNITS})
        connection.execute(text(LINKS), {"units": UNITS})
        wait(connection, range(1, WAITING))


def wait(connection: Connection, unit_nos: Sequence[int]) -> None:
    rows = [{"store_no": 1, "unit_no": n, "order_id": f"o{10 * n}", "at_us": 1} for n in unit_nos]
    connection.execute(insert(schema.mark), rows)


@contextmanager
def said(database: Database) -> Generator[list[tuple[str, Any]]]:
    """The statements that are executed meanwhile, with their parameters."""
    found: list[tuple[str, Any]] = []

    def note(_connection: Any, _cursor: Any, statement: str, values: Any, _context: Any, many: bool) -> None:
        if statement.split()[0] in ("SELECT", "WITH", "DELETE", "UPDATE"):
            found.append((statement, values[0] if many else values))

    engines = database._backend.reading, database._backend.writing
    for engine in engines:
        event.listen(engine, "before_cursor_execute", note)
    yield found
    for engine in engines:
        event.remove(engine, "before_cursor_execute", note)


GROW = (
    "assignment|cart_timer|cell|decision_context|enrolment_features|event|event_unit|person|unit|unit_total"
)
"""Tables with a row for each unit or event. Marks are read from the oldest on, as many as are wanted."""


def whole(plan: Sequence[str]) -> list[str]:
    """Where a plan goes through all of a table that grows with the shop."""
    found: list[str] = []
    for number, line in enumerate(plan):
        is_whole = re.search(
            rf"(Seq Scan|Index Scan using \w+|Index Only Scan using \w+) on ({GROW})\b", line
        )
        if is_whole and "Index Cond" not in "".join(plan[number + 1 : number + 3]):
            found.append(line)
    return found


@pytest.mark.parametrize("is_analyzed", [False, True])
def test_folding_looks_up_what_waits_and_reads_no_whole_table(
    open_shop: Callable[..., Shop], monkeypatch: pytest.MonkeyPatch, is_analyzed: bool
) -> None:
    """Else a slice costs as much as the ledger has events, and the more a shop sells the later it is told."""
    monkeypatch.setattr("service.jobs.loop.fold_pending", nothing)
    monkeypatch.setattr("service.jobs.loop.abandon_pending", nothing)
    shop = open_shop()
    shop.running()
    assert shop.post("/v1/assign", {"touchpoint": "checkout", "unit_id": "u"}).json()["decision_id"]
    database = shop.database
    fill(database)
    if is_analyzed:
        with database.write() as connection:
            connection.execute(text("ANALYZE"))
    looked_at: set[str] = set()
    for waiting in (range(WAITING), range(3)):  # the second time there are totals
        slices: list[Slice] = []
        with said(database) as statements:
            with database.read() as connection:
                slices = prepare(connection, 1, 2 * WAITING, 100)
            for part in slices:
                with database.write() as connection:
                    write(connection, part)
        assert slices[-1].is_all
        assert len(statements) > 12
        with database.read() as connection, found_by_key(connection):
            for statement, values in statements:
                rows = connection.exec_driver_sql(f"EXPLAIN (COSTS OFF) {statement}", values)
                plan = [row[0] for row in rows]
                looked_at.update(re.findall(r" on (\w+)", "".join(plan)))
                assert not whole(plan), "\n".join([statement, *plan])
        with database.write() as connection:
            wait(connection, waiting)
    assert {"assignment", "event", "event_unit", "person", "unit_total"} <= looked_at


async def nothing(*_: Any) -> int:
    return 0

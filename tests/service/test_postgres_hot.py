"""The hot path's statements on PostgreSQL: by which way rows are found, and what becomes of a lost race."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence

import asyncpg
import pytest

from service.hot import statements
from service.hot.ledger import APPENDED, LostRace, Round
from service.hot.postgres import COPIED_FROM, SETTINGS, PostgresLedger
from service.hot.statements import Lookup
from service.ledger.database import Database

LOOKUPS = {name: value for name, value in vars(statements).items() if isinstance(value, Lookup)}
EVENTS = """
INSERT INTO event (event_no, store_no, event_id, type, occurred_at_us, received_at_us, is_clamped, digest,
                   order_id, body)
SELECT n, 1, 'e' || n, 'custom', 1, 1, false, 'x', CASE WHEN n % 10 = 0 THEN 'o' || n END, '{}'
FROM generate_series($1::int, $2::int) n
"""
UNIT = (1, 1, "anna")


async def plans(url: str) -> dict[str, str]:
    """How a connection of the hot path that begins now would look rows up, as long as it lives."""
    connection = await asyncpg.connect(url, server_settings=SETTINGS)
    try:
        return {name: await plan(connection, name, found) for name, found in LOOKUPS.items()}
    finally:
        await connection.close()


async def plan(connection: asyncpg.Connection, name: str, lookup: Lookup) -> str:
    await connection.execute(f"PREPARE {name} AS {lookup.postgres}")
    values = "1, '{}'" if "$2" in lookup.postgres else "'{}'"
    rows = await connection.fetch(f"EXPLAIN (COSTS OFF) EXECUTE {name}({values})")
    return "\n".join(row[0] for row in rows)


@pytest.mark.parametrize("is_analyzed", [False, True])
def test_rows_are_found_by_their_whole_key_however_old_the_statistics_are(
    postgres_url: str, is_analyzed: bool
) -> None:
    """Else the first thousand events leave a plan behind that reads all events there will be."""

    async def scene() -> None:
        connection = await asyncpg.connect(postgres_url)
        for first, last in ((1, 3), (4, 64), (65, 320), (321, 1000), (1001, 5000)):
            await connection.execute(EVENTS, first, last)
            if is_analyzed:
                await connection.execute("ANALYZE event")
            for name, found in (await plans(postgres_url)).items():
                assert "Seq Scan" not in found, (last, name, found)
                assert "Filter" not in found, (last, name, found)
        await connection.close()

    asyncio.run(scene())


def batch_of(units: Sequence[tuple[int, int, str]], key: bytes) -> Round:
    batch = Round()
    for unit in units:
        batch.add(statements.UNIT, unit)
        batch.units[unit[1], key] = unit[0]
        batch.add(statements.MARK, (unit[1], unit[0], None, 1, None))
    return batch


def with_events(batch: Round, first: int, count: int) -> Round:
    """The batch with as many events, numbered and named from the first one on."""
    for n in range(first, first + count):
        order = (f"o-{n}", f"r-{n}" if n % 3 else None) if n % 2 else (None, None)
        body = f'{{"n":{n},"said":"naïve \\t \\\\N"}}'
        row = (n, 1, f"e-{n}\t\\N", "custom", n, n + 1, bool(n % 2), bytes([n % 256]) * 16, *order)
        batch.add(statements.EVENT, (*row, *((7, n, 0) if n % 5 else (None, None, None)), body))
        batch.add(statements.EVENT_UNIT, (n, 1, 1))
        batch.add(statements.MARK, (1, 1, None, n, n))
    return batch


def full_batch(events: int) -> Round:
    """Rows of every table."""
    batch = with_events(batch_of([UNIT, (2, 1, "béa")], b"a" * 16), 1, events)
    batch.add(statements.PERSON, (2, 1))
    batch.add(statements.PERSON, (1, 1))
    batch.add(statements.CANDIDATE_SET, (7, 0, '["plain","with \\"case\\""]'))
    batch.add(statements.ASSIGNMENT, (1, 7, 0, 1, 2**32, 0, 1, 1, "", False, 5))
    batch.add(statements.DECISION_CONTEXT, (1, 7, 0, '{"case":"in_cart"}', "{}"))
    batch.add(statements.ENROLMENT_FEATURES, (1, 7, 0, "[0,3]"))
    batch.add(statements.SHOWN_CHANGE, (1, 7, 0, 5, "fallback", True))
    return batch


@pytest.mark.parametrize("events", [COPIED_FROM - 1, COPIED_FROM])
def test_every_row_of_a_batch_is_on_record_as_it_was_given(postgres_url: str, events: int) -> None:
    async def scene() -> None:
        database = Database(postgres_url)
        ledger = PostgresLedger(database)
        batch = full_batch(events)
        await ledger.commit(batch)
        await ledger.close()
        database.close()
        connection = await asyncpg.connect(postgres_url)
        for append in APPENDED:
            names = ", ".join(append.columns)
            found = {tuple(row) for row in await connection.fetch(f"SELECT {names} FROM {append.table}")}
            assert {tuple(map(plain, row)) for row in found} == {
                tuple(map(plain, row)) for row in batch.rows[append.table]
            }, append.table
        keys = await connection.fetch("SELECT store_no, hash16, unit_no FROM unit_key")
        assert {(s, k): u for s, k, u in keys} == batch.units
        await connection.close()

    asyncio.run(scene())


def plain(value: object) -> object:
    """A JSON document is the same however it is spaced."""
    is_json = isinstance(value, str) and value[:1] in ("{", "[")
    return json.dumps(json.loads(value), sort_keys=True) if is_json else value


@pytest.mark.parametrize("events", [0, COPIED_FROM])
def test_a_batch_that_comes_second_leaves_nothing_behind(postgres_url: str, events: int) -> None:
    async def scene() -> None:
        database = Database(postgres_url)
        ledger = PostgresLedger(database)
        await ledger.commit(with_events(batch_of([UNIT], b"a" * 16), 1, events))
        with pytest.raises(LostRace, match="unit_key"):
            await ledger.commit(with_events(batch_of([(2, 1, "anna")], b"a" * 16), 1001, events))
        if events:
            again = with_events(batch_of([(3, 1, "bea")], b"b" * 16), 2001, events)
            event = again.rows["event"][-1]
            again.rows["event"][-1] = (*event[:2], "e-1\t\\N", *event[3:])
            with pytest.raises(LostRace, match="event_key"):
                await ledger.commit(again)
        with database.read() as connection:
            count = connection.exec_driver_sql("SELECT count(*) FROM event").scalar_one()
        assert count == events
        assert await ledger.find_units(1, [b"a" * 16]) == {b"a" * 16: 1}
        assert [list(row) for row in await ledger.lookup(statements.RAW_IDS, (), [1, 2])] == [[1, "anna"]]
        await ledger.close()
        database.close()

    asyncio.run(scene())


@pytest.mark.parametrize("events", [0, COPIED_FROM])
def test_batches_that_are_written_at_once_wait_and_the_second_is_told(postgres_url: str, events: int) -> None:
    """Each has a connection of its own; the one whose row is there already is decided anew."""

    async def scene() -> list[object]:
        database = Database(postgres_url)
        ledger = PostgresLedger(database)
        batches = [
            with_events(batch_of([(number, 1, "anna")], b"a" * 16), number * 1000, events)
            for number in range(1, 9)
        ]
        done = await asyncio.gather(*map(ledger.commit, batches), return_exceptions=True)
        await ledger.close()
        database.close()
        return list(done)

    done = asyncio.run(scene())
    assert [type(found) for found in done if found is not None] == [LostRace] * 7


def test_numbers_are_given_once(postgres_url: str) -> None:
    async def scene() -> list[int]:
        database = Database(postgres_url)
        ledger = PostgresLedger(database)
        parts = await asyncio.gather(*(ledger.event_numbers(100) for _ in range(5)))
        await ledger.close()
        database.close()
        return sorted(number for part in parts for number in part)

    assert asyncio.run(scene()) == list(range(1, 501))

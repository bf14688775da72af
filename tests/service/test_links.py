"""Links are found by unit as they stand by event, whatever of them is merged, wherever that stopped."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, insert, select, text

from service.hot import key_index, link_upkeep, sqlite, statements
from service.hot.ledger import Round
from service.hot.sqlite import SqliteLedger
from service.ledger import schema
from service.ledger.database import Database
from service.ledger.event_keys import event_key, events_settled, unequal_keys
from service.ledger.links import Linked, bring_up, merge, note_settled, reaching, unequal_links

Links = dict[int, set[tuple[int, int]]]
"""Events and kinds by unit."""
UNITS = 9
STEPS = ("append", "append", "bring up", *6 * ("merge",), "cut short", "look", "look")
STORE: dict[str, Any] = {
    **{"key": "shop", "secret": b"s" * 32, "settings": {}, "is_simulated": False, "version": 1},
    **{"created_at_us": 1, "revision": 1},
}
PLAIN = Linked(lambda link: select(link.c.unit_no, link.c.event_no, link.c.kinds))


@pytest.fixture
def database(tmp_path: Path) -> Generator[Database]:
    database = Database(f"sqlite:///{tmp_path}/rialto.db")
    database.migrate()
    yield database
    database.close()


def append(connection: Connection, truth: Links, chance: random.Random) -> None:
    """Some events, each of up to three units; some reach nobody."""
    first = max((event_no for events in truth.values() for event_no, _ in events), default=0) + 1
    for event_no in range(first, first + chance.randrange(1, 5)):
        for unit_no in chance.sample(range(1, UNITS + 1), chance.choice((0, 1, 1, 1, 3))):
            link = {"event_no": event_no, "unit_no": unit_no, "kinds": chance.randrange(1, 8)}
            connection.execute(insert(schema.event_unit), [link])
            truth.setdefault(unit_no, set()).add((event_no, link["kinds"]))


def check(connection: Connection, truth: Links, chance: random.Random) -> None:
    """What is found by unit, of all and of some, from the start and from some event on."""
    wanted = set(chance.sample(range(1, UNITS + 1), chance.randrange(1, UNITS + 1)))
    expected = {(u, *event) for u in wanted for event in truth.get(u, ())}
    rows = PLAIN.of_units(connection, wanted)
    assert sorted(rows) == sorted(expected)
    every = [(unit_no, *event) for unit_no, events in truth.items() for event in events]
    some = {event_no for _, event_no, _ in every if chance.random() < 0.3}
    assert sorted(PLAIN.of_events(connection, some)) == sorted(row for row in every if row[1] in some)
    numbers = connection.execute(reaching(wanted)).scalars().all()
    assert sorted(numbers) == sorted(event_no for _, event_no, _ in expected)


@pytest.mark.parametrize("seed", range(12))
def test_by_unit_is_as_by_event_at_every_step_of_a_merge(database: Database, seed: int) -> None:
    """Readers old and new look in between; merges are cut short and begun again, as after a crash."""
    chance, truth, merged = random.Random(seed), Links(), 0
    through, last = 0, None
    for _ in range(120):
        step = chance.choice(STEPS)
        if step == "look":
            with database.read() as connection:
                check(connection, truth, chance)
                assert list(unequal_links(connection)) == []
            if chance.random() < 0.1:
                database.close()  # the next reader is a new one
            continue
        with database.write() as connection:
            if step == "append":
                append(connection, truth, chance)
            elif step == "bring up":
                bring_up(connection)
                check(connection, truth, chance)
            elif step == "cut short":
                last = None
            elif last is None:
                (_, through), last = bring_up(connection), (0, 0)
            else:
                last = merge(connection, last, through, 8)
                if last is None:
                    note_settled(connection, through)
                    merged += 1
    assert merged > 1


def test_what_is_rolled_back_is_brought_up_again(database: Database) -> None:
    truth, chance = Links(), random.Random(1)
    with database.write() as connection:
        append(connection, truth, chance)
    with pytest.raises(ZeroDivisionError):
        fail_after_a_look(database)
    with database.read() as connection:
        check(connection, truth, chance)


def fail_after_a_look(database: Database) -> None:
    with database.read() as connection:
        assert PLAIN.of_units(connection, range(1, UNITS + 1))
        raise ZeroDivisionError


def test_the_ledger_merges_what_it_has_committed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Events go on being committed while their elders are merged; a ledger opened anew goes on."""
    monkeypatch.setattr(link_upkeep, "BRING_UP_AT", 10)
    monkeypatch.setattr(link_upkeep, "SETTLE_AT", 100)
    monkeypatch.setattr(link_upkeep, "SLICE", 7)
    monkeypatch.setattr(key_index, "RECENT_MAX", 9)
    monkeypatch.setattr(sqlite, "EVENTS_SETTLE_AT", 100)
    monkeypatch.setattr(sqlite, "SETTLE_SLICE", 7)

    async def scenario() -> int:
        database = Database(f"sqlite:///{tmp_path}/rialto.db")
        database.migrate()
        with database.write() as connection:
            if connection.execute(select(schema.store)).first() is None:
                connection.execute(insert(schema.store).values(**STORE))
        ledger = SqliteLedger(database)
        await ledger.open()

        async def commit(count: int) -> None:
            batch = Round()
            numbers = await ledger.event_numbers(count)
            for number in numbers:
                row = (number, 1, f"e{number}", "decline", 1, 1, False, bytes(16), *(None,) * 5, "{}")
                batch.add(statements.EVENT, row)
                batch.event_keys[1, f"e{number}"] = event_key(STORE["secret"], f"e{number}")
                batch.add(statements.EVENT_UNIT, (number, number * 7919 % 50 + 1, 1))
            await ledger.commit(batch)

        async def submit(job: Callable[[Connection], None]) -> None:
            await ledger.run(job)
            await commit(3)

        for _ in range(30):
            await commit(10)
            if ledger.is_upkeep_due:
                await ledger.upkeep(submit)
        await ledger.close()
        with database.read() as connection:
            assert list(unequal_links(connection)) == []
            assert list(unequal_keys(connection)) == []
            assert events_settled(connection) >= 100
            by_event = connection.execute(select(schema.event_unit)).all()
            found = PLAIN.of_units(connection, range(1, 51))
            assert sorted((event_no, unit_no, kinds) for unit_no, event_no, kinds in found) == sorted(
                tuple(row) for row in by_event
            )
            mark = connection.execute(text("SELECT value FROM progress WHERE name = 'links_settled'"))
            settled = mark.scalar_one()
        database.close()
        return int(settled)

    first = asyncio.run(scenario())
    assert first >= 100
    assert asyncio.run(scenario()) > first


def test_links_that_differ_are_told(database: Database) -> None:
    truth, chance = Links(), random.Random(2)
    with database.write() as connection:
        for _ in range(5):
            append(connection, truth, chance)
        _, through = bring_up(connection)
        assert merge(connection, (0, 0), through, 1000) is None
        note_settled(connection, through)
        (unit_no, events), *_ = truth.items()
        event_no = min(events)[0]
        change = {"unit_no": unit_no, "event_no": event_no}
        connection.execute(
            text("DELETE FROM unit_event WHERE unit_no = :unit_no AND event_no = :event_no"), change
        )
    with database.read() as connection:
        assert list(unequal_links(connection)) == [(event_no, unit_no)]
    with database.write() as connection:
        connection.execute(
            text("INSERT INTO unit_event (unit_no, event_no, kinds) VALUES (77, :event_no, 1)"), change
        )
    with database.read() as connection:
        assert sorted(unequal_links(connection)) == sorted([(event_no, unit_no), (event_no, 77)])

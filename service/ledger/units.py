"""Units and persons: ids to numbers, and who is one with whom.

A `unit_no` stands for an id; in which kind (visitor, customer ...) a row means it is said by the row. A
person is a customer's id with the anonymous ids linked to it, named by the customer's `unit_no`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from sqlalchemy import Connection, insert, select

from experiments.allocation.hashing import unit_hash
from experiments.model import UnitKind
from service.catalogue import StoreState
from service.ledger import schema
from service.ledger.statements import ByKeys, chunks

KIND_BITS = {UnitKind.VISITOR: 1, UnitKind.CUSTOMER: 2, UnitKind.SESSION: 4, UnitKind.REQUEST: 8}
ANY_KIND = 1 | 2 | 4
"""`unit_id` is the id in every kind at once (a request is only ever meant by its decision)."""
PERSON_KINDS = 1 | 2
UNITS_SETTLED = "units_settled"
"""The row of `progress` that says how far `unit_key` has come."""


def find_units(connection: Connection, store: StoreState, raw_ids: Iterable[str]) -> dict[str, int]:
    """unit_no by raw id, for ids seen before."""
    by_hash = {unit_hash(store.secret, raw_id): raw_id for raw_id in raw_ids}
    found: dict[str, int] = {}
    key, unit = schema.unit_key.c, schema.unit.c
    for part in chunks(by_hash):
        rows = connection.execute(
            select(key.hash16, key.unit_no).where(key.store_no == store.store_no, key.hash16.in_(part))
        )
        found.update({by_hash[row.hash16]: row.unit_no for row in rows})
    for part in chunks(raw_id for raw_id in by_hash.values() if raw_id not in found):
        rows = connection.execute(
            select(unit.raw_id, unit.unit_no).where(
                unit.unit_no > settled_through(connection),
                unit.store_no == store.store_no,
                unit.raw_id.in_(part),
            )
        )
        found.update({row.raw_id: row.unit_no for row in rows})
    return found


def settled_through(connection: Connection) -> int:
    """The last unit_no whose key stands in `unit_key`; of later ones some may."""
    table = schema.progress.c
    return connection.execute(select(table.value).where(table.name == UNITS_SETTLED)).scalar() or 0


def get_or_create_units(connection: Connection, store: StoreState, raw_ids: Iterable[str]) -> dict[str, int]:
    """unit_no by raw id; ids never seen get a row."""
    wanted = list(dict.fromkeys(raw_ids))
    found = find_units(connection, store, wanted)
    missing = [raw_id for raw_id in wanted if raw_id not in found]
    if missing:
        rows = [{"store_no": store.store_no, "raw_id": raw_id} for raw_id in missing]
        connection.execute(insert(schema.unit), rows)
        found |= find_units(connection, store, missing)
    return found


def persons_of(connection: Connection, unit_nos: Iterable[int]) -> dict[int, int]:
    """person_no by unit_no, for units linked by `identify`."""
    return {unit_no: person_no for unit_no, person_no in _PERSONS.rows(connection, set(unit_nos))}


def members_of(connection: Connection, person_nos: Iterable[int]) -> dict[int, list[int]]:
    """The unit_nos of each person, the customer's first."""
    members: dict[int, list[int]] = {}
    for unit_no, person_no in _MEMBERS.rows(connection, set(person_nos)):
        members.setdefault(person_no, []).append(unit_no)
    return {person: sorted(units, key=lambda u: (u != person, u)) for person, units in members.items()}


_person = schema.person.c
_PERSONS = ByKeys(select(_person.unit_no, _person.person_no), _person.unit_no)
_MEMBERS = ByKeys(select(_person.unit_no, _person.person_no), _person.person_no)


def groups_of(connection: Connection, unit_nos: Iterable[int]) -> dict[int, list[int]]:
    """For each unit the units that are one with it (itself alone when it is linked to nobody)."""
    wanted = set(unit_nos)
    persons = persons_of(connection, wanted)
    members = members_of(connection, persons.values())
    return {unit: members[persons[unit]] if unit in persons else [unit] for unit in wanted}


def hashes_of(connection: Connection, store: StoreState, unit_nos: Iterable[int]) -> Mapping[int, bytes]:
    """The keyed hash of each unit; an erased one has none."""
    hashes: dict[int, bytes] = {}
    unit = schema.unit.c
    for part in chunks(set(unit_nos)):
        rows = connection.execute(select(unit.unit_no, unit.raw_id).where(unit.unit_no.in_(part)))
        hashes.update({row.unit_no: unit_hash(store.secret, row.raw_id) for row in rows})
    return hashes

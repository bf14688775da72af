"""Units a folding process has folded before: of those it reads only what has come since.

A shopper's events come one after the other, and each has her folded again. Nearly all of what that reads was
read by the fold before it, so her facts are kept, as far as a fold needs them; and what has come since often
changes none of them, so that nothing is to be folded.

What has come is told by the marks that are about to be taken away. A unit is read whole when it is not kept,
and when a mark stands for something else than an event: an assignment, say, or rules that have changed. That
may hold events whose marks still wait; they change nothing when their turn comes.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence

from sqlalchemy import Connection

from experiments.facts import OrderFact, is_seen_earlier, sight_of
from service.ledger.marks import Marks
from service.ledger.orders import Orders
from service.ledger.unit_events import EventRow, read_events_of, units_of_archived
from service.ledger.unit_rows import Assigned, Reached, UnitRows

FACTS_KEPT = 600_000
"""Of all units, each counted as three more; some 160 MB. In two halves: when the young one is full it becomes
the old one, and what was the old one is forgotten."""


class _Kept:
    """A unit that nobody else is one with."""

    __slots__ = ("_facts", "_orders", "assignments", "is_folded")

    def __init__(self, assignments: Sequence[Assigned]) -> None:
        self.assignments = assignments
        self.is_folded = False  # as it is
        self._facts: dict[Hashable, Reached] = {}
        self._orders: dict[str, Reached] = {}

    def __len__(self) -> int:
        """How much room it takes."""
        return 3 + len(self._facts) + len(self._orders)

    @property
    def order_ids(self) -> Iterable[str]:
        return self._orders

    @property
    def reached(self) -> list[Reached]:
        return [*self._facts.values(), *self._orders.values()]

    def add(self, events: Iterable[Reached]) -> None:
        """Add what has come. What changes nothing, like a second look at an offer, is not kept."""
        for one in events:
            fact = one.fact
            if isinstance(fact, OrderFact):
                self._orders[fact.order_id] = one
                self.is_folded = False
                continue
            sight = sight_of(fact)
            key = one.event_no if sight is None else (one.kinds, one.experiment_no, sight)
            known = self._facts.get(key)
            if known is None or is_seen_earlier(fact, known.fact):
                self._facts[key] = one
                self.is_folded = False

    def restate(self, placed: Mapping[str, OrderFact]) -> None:
        """Take orders that have changed as they are now."""
        for order_id in self._orders.keys() & placed.keys():
            self._orders[order_id] = self._orders[order_id]._replace(fact=placed[order_id])
            self.is_folded = False


class KeptUnits:
    """Those that were folded last."""

    def __init__(self, facts_max: int = FACTS_KEPT) -> None:
        """Keep about so many facts."""
        self._half = facts_max // 2
        self._young: dict[int, _Kept] = {}
        self._old: dict[int, _Kept] = {}
        self._bases: dict[int, object] = {}  # by store_no
        self._come: dict[int, list[EventRow]] = {}  # since, by unit_no
        self._anew: set[int] = set()
        self._restated: set[str] = set()

    def __len__(self) -> int:
        """How many are kept."""
        return len(self._young.keys() | self._old.keys())

    def begin(self, connection: Connection, orders: Orders, found: Marks, basis: object) -> None:
        """Begin to fold what is marked, on the snapshot of a store that the orders are of.

        What is kept holds if the basis, whatever else folds depend on, equals what `end` was given. If not,
        rules have changed, or a slice was not written, or the ledger is another.
        """
        before = self._bases.get(orders.store_no, basis)
        self._bases[orders.store_no] = None  # until the end
        if before != basis:
            self._young, self._old = {}, {}
        if sum(map(len, self._young.values())) > self._half:
            self._old, self._young = self._young, {}
        event_nos = {
            number
            for unit_no, numbers in found.events.items()
            if unit_no in self._young or unit_no in self._old
            for number in numbers
        }
        self._come = {}
        for row in read_events_of(connection, event_nos):
            self._come.setdefault(row[0], []).append(row)
        self._anew, self._restated = set(found.anew), found.order_ids
        if orders.archive is not None:
            self._anew |= units_of_archived(connection, event_nos)

    def end(self, store_no: int, basis: object) -> None:
        """What folds will depend on once all that was folded is written."""
        self._bases[store_no] = basis

    def known(self, rows: UnitRows) -> dict[int, _Kept]:
        """Those of the units that are kept, and assigned as they were."""
        found: dict[int, _Kept] = {}
        for unit_no, assignments in rows.assignments.items():
            one = self._young.get(unit_no) or self._old.get(unit_no)
            is_alone = unit_no not in rows.linked and unit_no not in self._anew
            if one is not None and one.assignments == assignments and is_alone:
                found[unit_no] = one
        return found

    def come(self, known: Iterable[int]) -> list[EventRow]:
        """The events that have reached these since."""
        return [row for unit_no in known for row in self._come.get(unit_no, ())]

    def take(self, rows: UnitRows, known: Mapping[int, _Kept], orders: Orders) -> None:
        """Keep what was read of units that are by themselves, and add what is known of those that were kept.

        Those that are folded as they are now are taken out of the rows.
        """
        held = {order_id for one in known.values() for order_id in one.order_ids}
        placed = orders.facts(held & self._restated)
        done: set[int] = set()
        for unit_no, assignments in rows.assignments.items():
            if unit_no in rows.linked:
                self._young.pop(unit_no, None)
                self._old.pop(unit_no, None)
                continue
            if unit_no not in known and unit_no not in rows.reached:
                continue  # nothing has come, and of most that have just been assigned nothing will
            one = self._young[unit_no] = known.get(unit_no) or _Kept(assignments)
            one.restate(placed)
            one.add(rows.reached.pop(unit_no, ()))
            if one.is_folded:
                done.add(unit_no)
            else:
                rows.reached[unit_no] = one.reached
                one.is_folded = True  # it is about to be
        rows.groups = [group for group in rows.groups if group[0] not in done]

"""Units a folding process has folded before: of those it reads only what has come since.

A shopper's events come one after the other, and each has her folded again. Nearly all of what that reads was
read by the fold before it, so it is kept, as far as a fold needs it, and with it what came of it; and what
has come since often changes no fact, so that nothing is to be folded.

What has come is told by the marks that are about to be taken away. A unit is read whole when it is not kept;
when a mark stands for something else than an event, an assignment, say, or rules that have changed; and for
an event that is not found among those that are folded: it links her to another unit, or has been archived.
That may hold events whose marks still wait; they change nothing when their turn comes.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import NamedTuple

from sqlalchemy import Connection

from experiments.facts import OrderFact, is_seen_earlier, sight_of
from service.ledger.facts import read_units
from service.ledger.marks import Marks
from service.ledger.orders import Orders
from service.ledger.slice_cells import Place
from service.ledger.unit_events import reached_by, read_events_of
from service.ledger.unit_rows import Assigned, Enrolled, Reached, Total, UnitRows

FACTS_KEPT = 600_000
"""Of all units, each counted as `ROOM` more. In two halves: when the young one is full it becomes the old,
and what was the old one is forgotten."""
ROOM = 5


class Standing(NamedTuple):
    """What a unit's fold has come to: what the ledger holds of it once that is written."""

    totals: Sequence[tuple[Place, Total]]
    cart_due_us: int | None


class Kept:
    """A unit that nobody else is one with."""

    __slots__ = ("_facts", "_orders", "assignments", "features", "is_folded", "standing")

    def __init__(self, assignments: list[Assigned], features: Mapping[Enrolled, tuple[int, ...]]) -> None:
        self.assignments = assignments
        self.features = features
        self.is_folded = False  # as it is
        self.standing: Standing | None = None  # the ledger's, where that is known
        self._facts: dict[Hashable, Reached] = {}
        self._orders: dict[str, Reached] = {}

    def __len__(self) -> int:
        """How much room it takes."""
        return ROOM + len(self._facts) + len(self._orders)

    @property
    def reached(self) -> list[Reached]:
        """All that reaches it, but for what changes nothing."""
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

    def tell(self, rows: UnitRows, unit_no: int) -> None:
        """Put what is kept among the rows: it is about to be folded."""
        rows.assignments[unit_no] = self.assignments
        rows.features.update(self.features)
        rows.reached[unit_no] = self.reached
        self.is_folded = True


class KeptUnits:
    """Those that were folded last."""

    def __init__(self, facts_max: int = FACTS_KEPT) -> None:
        """Keep about so many facts."""
        self._half = facts_max // 2
        self._young: dict[int, Kept] = {}
        self._old: dict[int, Kept] = {}
        self._bases: dict[int, object] = {}  # by store_no

    def __len__(self) -> int:
        """How many are kept."""
        return len(self._young.keys() | self._old.keys())

    def begin(self, store_no: int, basis: object) -> None:
        """Begin to fold units of a store.

        What is kept holds if the basis, whatever folds depend on besides facts, equals what `end` was given.
        If not, rules have changed, or a slice was not written, or the ledger is another.
        """
        before = self._bases.get(store_no, basis)
        self._bases[store_no] = None  # until the end
        if before != basis:
            self._young, self._old = {}, {}
        if sum(map(len, self._young.values())) > self._half:
            self._old, self._young = self._young, {}

    def end(self, store_no: int, basis: object) -> None:
        """What folds will depend on once all that was folded is written."""
        self._bases[store_no] = basis

    def read(self, connection: Connection, unit_nos: Iterable[int], found: Marks, orders: Orders) -> UnitRows:
        """Those of the units that are to be folded, and those that are one with them."""
        wanted = set(unit_nos)
        known = self._known(wanted - found.anew)
        reached = _come(connection, known, found, orders)
        rows = read_units(connection, wanted - known.keys(), orders)
        for unit_no in rows.linked:
            known.pop(unit_no, None)
            self._young.pop(unit_no, None)
            self._old.pop(unit_no, None)
        self._keep(rows)
        placed = orders.facts(found.order_ids)
        for unit_no, one in known.items():
            self._young[unit_no] = one
            one.restate(placed)
            one.add(reached.get(unit_no, ()))
            if not one.is_folded:
                one.tell(rows, unit_no)
                rows.groups.append((unit_no,))
        rows.groups.sort()
        return rows

    def standing(self, unit_no: int) -> Standing | None:
        """What the ledger holds of a unit, where that is known."""
        one = self._young.get(unit_no)
        return None if one is None else one.standing

    def note(self, unit_no: int, standing: Standing) -> None:
        """Keep what a unit's fold has come to, if the unit is kept."""
        one = self._young.get(unit_no)
        if one is not None:
            one.standing = standing

    def _known(self, unit_nos: Iterable[int]) -> dict[int, Kept]:
        """Those of the units that are kept."""
        young, old = self._young, self._old
        kept = ((unit_no, young.get(unit_no, old.get(unit_no))) for unit_no in unit_nos)
        return {unit_no: one for unit_no, one in kept if one is not None}

    def _keep(self, rows: UnitRows) -> None:
        """Keep what was read of units that are by themselves."""
        features: dict[int, dict[Enrolled, tuple[int, ...]]] = {}
        for enrolled, codes in rows.features.items():
            features.setdefault(enrolled[0], {})[enrolled] = codes
        for unit_no, *others in rows.groups:
            # Of most that have just been assigned nothing will come.
            if others or unit_no in rows.linked or unit_no not in rows.reached:
                continue
            one = self._young[unit_no] = Kept(rows.assignments[unit_no], features.get(unit_no, {}))
            one.add(rows.reached[unit_no])
            one.tell(rows, unit_no)


def _come(
    connection: Connection, known: dict[int, Kept], found: Marks, orders: Orders
) -> dict[int, list[Reached]]:
    """What has come to each of the units that are known; those that are to be read whole are taken out."""
    marked = {unit_no: set(numbers) for unit_no, numbers in found.events.items() if unit_no in known}
    events = read_events_of(connection, set[int]().union(*marked.values()))
    # Of an event that another's mark has brought, this unit's own may still wait.
    reached = reached_by([row for row in events if row[1] in marked.get(row[0], ())], orders)
    for unit_no, numbers in marked.items():
        if len(reached.get(unit_no, ())) != len(numbers):
            del known[unit_no]
    return reached

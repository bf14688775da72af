"""Assignments known to be committed, in memory: a unit that comes back is answered without the ledger.

Bounded: those not asked for longest go first. An entry is the assignment that serves the unit, its own
or the earliest of its person; whoever links or erases units forgets theirs.
"""

from __future__ import annotations

from collections.abc import Collection, Generator, Iterable, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any, NamedTuple

from service.assigning import OPEN, Ask, Decision, Mode, again, still_serves, what_is_shown
from service.catalogue import StoreState
from service.hot.assignments import Enrolled

Key = tuple[int, str]  # experiment_no, raw id
GO_TOGETHER = 16
"""When the map is full, this part of it goes at once."""


class Known(NamedTuple):
    """An assignment, and what is on record as being shown of it."""

    row: Enrolled
    shown: str


class Flight:
    """The news that came while a batch was under way: another replica may have linked who is in it."""

    def __init__(self) -> None:
        self._unit_nos: set[int] = set()
        self._is_lost = False

    def hear(self, unit_nos: Collection[int] | None) -> None:
        """Note units; None: any of them."""
        self._is_lost = self._is_lost or unit_nos is None
        self._unit_nos.update(unit_nos or ())

    def is_overtaken(self, decision: Decision) -> bool:
        """Whether what was decided may be known better by now."""
        return self._is_lost or (decision.row is not None and decision.row.unit_no in self._unit_nos)


class Sticky:
    """The bounded map."""

    def __init__(self, maximum: int) -> None:
        self._maximum = maximum
        # Plain tuples, which the collector lets out of its sight; of named ones it would look through all,
        # again and again, while everybody waits.
        self._known: dict[Key, tuple[tuple[Any, ...], str]] = {}
        self._flights: set[Flight] = set()
        self.hits = 0
        self.misses = 0

    def __len__(self) -> int:
        return len(self._known)

    def decision(self, store: StoreState, ask: Ask) -> Decision | None:
        """The answer, when it can be given without reading or writing anything."""
        known = self._find(ask)
        if known is None:
            self.misses += 1
            return None
        decision = again(store, ask, ask.experiments[0], known.row)
        if what_is_shown(decision) != known.shown:  # has to be put on record
            return None
        self.hits += 1
        return decision

    def stale(self, store: StoreState, ask: Ask) -> Decision | None:
        """The answer as far as it is known here, while the ledger cannot be asked."""
        known = self._find(ask)
        if known is None:
            return None
        decision = again(store, ask, ask.experiments[0], known.row)
        if decision.reason == "sticky":
            decision.reason = "stale"
        return decision

    def _find(self, ask: Ask) -> Known | None:
        """The entry of the unit in the first experiment that asks for it; it becomes the newest."""
        if not ask.experiments or ask.mode is not Mode.LIVE:
            return None
        live = ask.experiments[0]
        raw_id = ask.ids.get(live.experiment.unit)
        if raw_id is None or live.state not in OPEN:
            return None
        key = (live.experiment_no, raw_id)
        kept = self._known.pop(key, None)
        if kept is None:
            return None
        known = Known(Enrolled._make(kept[0]), kept[1])
        if not still_serves(live, known.row, ask.at_us):
            return None
        self._known[key] = kept
        return known

    @contextmanager
    def flight(self) -> Generator[Flight]:
        """While a batch is decided and committed: what it read may be overtaken by news."""
        flight = Flight()
        self._flights.add(flight)
        try:
            yield flight
        finally:
            self._flights.discard(flight)

    def learn(self, asks: Iterable[Ask], decisions: Iterable[Decision], flight: Flight) -> None:
        """Remember what has just been committed or read, unless there has been news of it meanwhile."""
        for ask, decision in zip(asks, decisions, strict=True):
            if flight.is_overtaken(decision):
                continue
            if decision.row is not None and ask.mode is not Mode.PREVIEW:
                self._put(ask, decision, what_is_shown(decision))
        if len(self._known) > self._maximum:
            # Many at once: to find its first entry a dictionary goes through all places that were emptied
            # before it, and one by one that was more than all else an assignment costs.
            count = len(self._known) - self._maximum + self._maximum // GO_TOGETHER
            for key in list(islice(self._known, count)):
                del self._known[key]

    def note_shown(self, ask: Ask, decision: Decision, what: str) -> None:
        """Something else than the decision said is going to be on record as shown."""
        self._put(ask, decision, what)

    def _put(self, ask: Ask, decision: Decision, what: str) -> None:
        assert decision.live is not None
        assert decision.row is not None
        key = (decision.live.experiment_no, ask.ids[decision.live.experiment.unit])
        self._known.pop(key, None)
        self._known[key] = (tuple(decision.row), what)

    def forget(self, experiment_nos: Collection[int], raw_ids: Sequence[str]) -> None:
        """Forget units: their person has changed, or is gone."""
        for experiment_no in experiment_nos:
            for raw_id in raw_ids:
                self._known.pop((experiment_no, raw_id), None)

    def overtake(self, unit_nos: Collection[int] | None) -> None:
        """Let what is under way about these units, or (None) about any, not be remembered."""
        for flight in self._flights:
            flight.hear(unit_nos)

    def forget_numbers(self, unit_nos: Collection[int] | None) -> None:
        """Forget whoever is served by one of these units' enrolments, or (None) everybody.

        A unit linked to a person whose enrolment is earlier is served by that one, so the whole person has
        to be named.
        """
        self.overtake(unit_nos)
        if unit_nos is None:
            self._known.clear()
            return
        gone = set(unit_nos)
        for key in [key for key, (row, _) in self._known.items() if Enrolled._make(row).unit_no in gone]:
            del self._known[key]

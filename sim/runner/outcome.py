"""What one replication leaves: values that travel between processes and into files."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sim.worlds.cells import Floats, Ints

STATES = ("unknown", "ok", "warn", "throttle", "kill")
"""Guardrail states as numbers, the worse the higher; a variant's is its worst."""

FINAL_VERDICTS = frozenset({"healthy", "toxic", "harmful", "no_difference"})
"""Verdicts that decide; `promising` and `insufficient_data` ask for more data."""


@dataclass(frozen=True, slots=True)
class Look:
    """What the report said at the end of a day: verdict, corrected lift of the objective, SRM.

    `srm` is the state of its check of the sample ratio, None where it has none.
    """

    day: int
    verdict: str
    variant: str | None
    lift_abs: float | None
    lift_low: float | None
    lift_high: float | None
    srm: str | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Replication:
    """One simulated run of an experiment; arrays over days (D,) or days and arms (D, K), money minor units.

    by_segment      (D, K, S) customers by arm and segment
    expected_minor  true margin of the customers under the variants they got
    booked_minor    the margin that came of them, refunds and all, in the attribution window
    if_all_minor    (D, K) true margin had all of them got the arm; the control's until the arm arrives
    oracle_minor    true margin had each segment got its best arm, day by day
    harmed          customers exposed to an arm truly worse than control (margin, that day, in their segment)
    shares          (D, K) published at the end of the day, over all segments
    state           (D, K) worst guardrail state, index of `STATES`
    """

    number: int
    customers: Ints
    by_segment: Ints
    shares: Floats
    expected_minor: Floats
    booked_minor: Ints
    if_all_minor: Floats
    oracle_minor: Floats
    harmed: Ints
    state: NDArray[np.int8]
    looks: tuple[Look, ...] = ()

    @property
    def assigned(self) -> Ints:
        """Customers by day and arm, (D, K)."""
        return self.by_segment.sum(axis=2)

    @property
    def regret_minor(self) -> Floats:
        """Oracle less expected, by day."""
        return self.oracle_minor - self.expected_minor

    @property
    def best_arm(self) -> int:
        """The single arm that would have earned most."""
        return int(np.argmax(self.if_all_minor.sum(axis=0)))

    @property
    def decided(self) -> Look | None:
        """The first look with a verdict that decides."""
        return next((look for look in self.looks if look.verdict in FINAL_VERDICTS), None)

    def first_day(self, arm: int, state: str) -> int | None:
        """The first day at whose end an arm was in this guardrail state or a worse one."""
        days = np.flatnonzero(self.state[:, arm] >= STATES.index(state))
        return int(days[0]) if len(days) else None

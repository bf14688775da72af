"""Whether as many units got each variant as the propensities say: the sample ratio, over all versions.

Units are counted by what they were drawn with. With D = sum of (1{W = k} - p_k) over units and
V = sum of (diag p - p p'), D' V^-1 D is chi-square with one degree less than there are variants, whatever
the policy learnt in between, since the increments of D are those of a martingale (Pearson's statistic
against the sum of the p is not). A variant is left to the rest while fewer than `EXPECTED` units were due to
it: its count is too far from Normal for so small a limit.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from scipy.stats import chi2

from sim.closed_loop.errors import Broken
from sim.closed_loop.published import WHOLE, Shares

LIMIT = 1e-6
EXPECTED = 50.0


class SampleRatio:
    """Sums of D, V and p over decisions."""

    def __init__(self, variants: Iterable[str]) -> None:
        self._places = {key: place for place, key in enumerate(variants)}
        n = len(self._places)
        self._excess, self._due = np.zeros(n), np.zeros(n)
        self._variance = np.zeros((n, n))

    def add(self, shares: Shares, counts: dict[str, int]) -> None:
        """Add units that were drawn with these shares: how many got each variant."""
        units = sum(counts.values())
        p = np.zeros(len(self._places))
        for key, share in shares.items():
            p[self._places[key]] = share / WHOLE
        self._excess -= units * p
        for key, count in counts.items():
            self._excess[self._places[key]] += count
        self._due += units * p
        self._variance += units * (np.diag(p) - np.outer(p, p))

    def p_value(self) -> float:
        """P(a sample ratio at least so far off), 1 while there is nothing to tell.

        >>> ratio = SampleRatio(["a", "b"])
        >>> ratio.add({"a": WHOLE // 2, "b": WHOLE // 2}, {"a": 460, "b": 540})
        >>> round(ratio.p_value(), 6)  # (40 / sqrt(250))^2 = 6.4 of one degree of freedom
        0.011412
        """
        told = np.flatnonzero((self._due >= EXPECTED) & (np.diag(self._variance) > EXPECTED / 10))
        if len(told) and self._due[told].sum() > self._due.sum() - EXPECTED:
            told = told[:-1]  # all of them, or nearly: the last is what the others leave
        if not len(told):
            return 1.0
        excess, variance = self._excess[told], self._variance[np.ix_(told, told)]
        return float(chi2.sf(excess @ np.linalg.solve(variance, excess), len(told)))

    def check(self) -> None:
        """Raise `Broken` where the ratio is off by more than chance does in a million runs."""
        p = self.p_value()
        if p < LIMIT:
            off = {key: round(float(self._excess[place]), 1) for key, place in self._places.items()}
            raise Broken(
                "sample ratio", "units beyond those due", f"p of at least {LIMIT}", f"p {p:.2e}: {off}"
            )

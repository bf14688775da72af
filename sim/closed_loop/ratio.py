"""Whether as many units got each variant as the propensities say: the sample ratio, over all versions.

Units are counted by what they were drawn with. With D = sum of (1{W = k} - p_k) over units and
V = sum of (diag p - p p'), D' V^-1 D is chi-square with one degree less than there are variants, whatever
the policy learnt in between, since the increments of D are those of a martingale (Pearson's statistic
against the sum of the p is not). A variant is left to the rest while fewer than `EXPECTED` units were due to
it: its count is too far from Normal for so small a limit.

Where the context decides, only the share of what was drawn is known. Then, of each variant k by itself,
I = sum over units that had k to choose of (1{W = k} / p - 1) is a martingale too, and the sum of
1{W = k} (1 - p) / p^2 has the expectation of its variance: I / sqrt(V) is standard Normal, once k was drawn
`DRAWN` times. A logged propensity that is too large by a part e shows as I of about -e units.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from scipy.stats import chi2, norm

from sim.closed_loop.errors import Broken
from sim.closed_loop.published import WHOLE, Shares

LIMIT = 1e-6
EXPECTED = 50.0
DRAWN = 200


class SampleRatio:
    """Sums of D, V and p over decisions, and of I and its variance."""

    def __init__(self, variants: Iterable[str]) -> None:
        self._places = {key: place for place, key in enumerate(variants)}
        n = len(self._places)
        self._excess, self._due = np.zeros(n), np.zeros(n)
        self._variance = np.zeros((n, n))
        self._inverse, self._squares, self._drawn = np.zeros(n), np.zeros(n), np.zeros(n)

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

    def drawn(self, variant: str, propensity: float, candidates: Iterable[str]) -> None:
        """Add one unit of whom the share of its own variant alone is known."""
        for key in candidates:
            self._inverse[self._places[key]] -= 1.0
        place = self._places[variant]
        self._inverse[place] += 1 / propensity
        self._squares[place] += (1 - propensity) / propensity**2
        self._drawn[place] += 1

    def off(self) -> dict[str, float]:
        """I / sqrt(V) of the variants drawn often enough, of units of whom one share is known.

        >>> ratio = SampleRatio(["a", "b"])
        >>> for unit in range(900):
        ...     ratio.drawn("a" if unit < 400 else "b", 0.5, ["a", "b"])
        >>> {key: round(z, 2) for key, z in ratio.off().items()}  # (400 / .5 - 900) / sqrt(400 x 2)
        {'a': -3.54, 'b': 3.16}
        """
        told = (self._drawn >= DRAWN) & (self._squares > 0)
        found = np.divide(self._inverse, np.sqrt(self._squares), out=np.zeros_like(self._inverse), where=told)
        return {key: float(found[place]) for key, place in self._places.items() if told[place]}

    def check(self) -> None:
        """Raise `Broken` where the ratio is off by more than chance does in a million runs."""
        for key, z in self.off().items():
            if 2 * norm.sf(abs(z)) * len(self._places) < LIMIT:
                what = f"inverse propensities of {key}, of units drawn by context"
                raise Broken("sample ratio", what, "0 standard errors off", f"{z:.1f}")
        p = self.p_value()
        if p < LIMIT:
            off = {key: round(float(self._excess[place]), 1) for key, place in self._places.items()}
            raise Broken(
                "sample ratio", "units beyond those due", f"p of at least {LIMIT}", f"p {p:.2e}: {off}"
            )

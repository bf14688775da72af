"""Sample ratio mismatch: whether the units exposed match the shares they were assigned with.

Under the null an exposed unit i has variant k with its own propensity p_i(k), whatever came before, so
1{W_i = k} - p_i(k) are martingale increments with covariance diag p_i - p_i p_i'. For every tilt r > 0

    M(r) = product over units of r(W_i) / sum_k p_i(k) r(k)
         = exp( sum_k N_k log r_k - sum over places e of n_e log sum_k p_e(k) r_k )

is a non-negative martingale that starts at 1: it bets that exposures of variant k come r_k times as often as
they should, the same in every epoch. A place is an (epoch, candidate set, segment), within which p is equal,
so its counts are all that is needed. An average of such martingales is one too: here over every variant,
short of units or over, by 1.5, 5, 18 or 63 %. It is an e-process: the probability that it *ever* reaches
100, at any look, is at most 1 / 100 (Ville 1939). Units count in the order of their exposure.

Where some variant reports no exposure at all, the units assigned are counted instead: the missing exposures
are another check's.

When wrong: with propensities that are not those of the epoch (history brought in with other ones). Places of
which no shares are known are left out, as are units of a variant whose share was 0. Shares by context have
no place of equal p: `srm_context` has what can be said there.
Pearson's chi-square against the summed propensities is no substitute where shares move: it takes the
variance of one multinomial draw for a sum of draws that differ, which varies less.
Sources: Lindon & Malek, Anytime-valid inference for multinomial count data (2022), for one constant p; Wald
1945 and Robbins 1970 for tilting and mixing; Ramdas, Grunwald, Vovk & Shafer (2023), 2 and 3.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from experiments.analysis import srm_context
from experiments.analysis.report import Check
from experiments.analysis.served import EpochShares, served_place
from experiments.model import Experiment, PolicyKind
from experiments.posteriors.protocol import FloatArray
from experiments.statistics import Cell

ALARM = 100.0
"""E-value of the alarm: 1 / alpha."""

SIZES = (0.015, 0.05, 0.2, 1.0)
"""Sizes of log r that are bet on, with equal stakes; between two of them most of the evidence is kept."""
LOSS_STAKE = 0.75
"""The part of the stake that bets on losses; the rest bets on units that come too often."""


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """Units by place and variant against their shares; `left_out` units could not be compared.

    `counts` and `shares`: (places, variants), a row of shares sums to 1.
    """

    variants: tuple[str, ...]
    counts: FloatArray
    shares: FloatArray
    left_out: int = 0

    @property
    def units(self) -> float:
        """Units compared."""
        return float(self.counts.sum())

    @property
    def excess(self) -> Mapping[str, float]:
        """Units of each variant over what its shares lead to expect, as a share of that."""
        expected = (self.counts.sum(axis=1, keepdims=True) * self.shares).sum(axis=0)
        found = self.counts.sum(axis=0)
        return {
            key: float(n / e - 1.0)
            for key, n, e in zip(self.variants, found, expected, strict=True)
            if e > 0.0
        }


def split_of(cells: Iterable[Cell], shares: EpochShares, feature: str) -> Split:
    """Count a feature (`exposed`, or `assigned`) by place and variant, where the shares are known."""
    counted: dict[tuple[int, frozenset[str], str], dict[str, int]] = {}
    left_out = 0
    for cell in cells:
        n = cell.moments.sum(feature)
        place = served_place(cell)
        if shares.get(place, {}).get(cell.key.variant, 0.0) > 0.0:
            row = counted.setdefault(place, {})
            row[cell.key.variant] = row.get(cell.key.variant, 0) + n
        else:
            left_out += n
    keys = tuple(sorted({key for place in counted for key in shares[place]}))
    shape = len(counted), len(keys)
    counts = [[row.get(key, 0) for key in keys] for row in counted.values()]
    expected = [[shares[place].get(key, 0.0) for key in keys] for place in counted]
    return Split(
        keys, np.array(counts, float).reshape(shape), np.array(expected, float).reshape(shape), left_out
    )


def log_e_value(split: Split) -> float:
    """Logarithm of the e-process: the evidence against the split so far, 0 before any unit.

    Exact whatever the shares did, as long as each unit's were fixed before it was drawn.

    >>> even = Split(("a", "b"), np.array([[500.0, 500.0]]), np.array([[0.5, 0.5]]))
    >>> lost = Split(("a", "b"), np.array([[500.0, 400.0]]), np.array([[0.5, 0.5]]))
    >>> round(math.exp(log_e_value(even)), 2), round(math.exp(log_e_value(lost)), 1)
    (0.43, 32.3)
    """
    width = len(split.variants)
    totals, units = split.counts.sum(axis=0), split.counts.sum(axis=1)
    logs: list[FloatArray] = []
    for sign, stake in ((-1.0, LOSS_STAKE), (1.0, 1.0 - LOSS_STAKE)):
        for size in SIZES:
            change = math.expm1(sign * size)
            # log sum_k p(k) r(k) with one variant tilted, for each variant in turn: (places, variants)
            grown = np.log1p(split.shares * change)
            bets = sign * size * totals - units @ grown
            logs.append(bets + math.log(stake / (len(SIZES) * width)))
    return float(np.logaddexp.reduce(np.concatenate(logs)))


def srm_check(experiment: Experiment, cells: Sequence[Cell], shares: EpochShares) -> Check:
    """The check of the report: the e-value, and which variant is short or over."""
    assigned = _by_variant(cells, "assigned")
    exposed = _by_variant(cells, "exposed")
    sees = all(exposed.get(key) for key, units in assigned.items() if units)
    if experiment.policy.kind is PolicyKind.CONTEXTUAL:
        found = _by_context(experiment, cells, "exposed" if sees else "units")
    else:
        found = _by_shares(cells, shares, "exposed" if sees else "assigned")
    if isinstance(found, str):
        return Check("srm", "info", found)
    word = "exposed" if sees else "assigned"
    shown = ", ".join(
        f"{variant.key} {found.excess[variant.key]:+.2%}"
        for variant in experiment.variants
        if variant.key in found.excess
    )
    text = f"{found.units} {word} units against the shares they were assigned with: {shown}"
    evidence = f"{found.kind} {_rounded(found.log_e)}, alarm at {ALARM:.0f}"
    aside = f"; {found.left_out} units whose shares are not known are left out" if found.left_out else ""
    is_off = found.log_e >= math.log(ALARM)
    return Check("srm", "warn" if is_off else "ok", f"{text} ({evidence}){aside}", REMEDY if is_off else None)


@dataclass(frozen=True, slots=True)
class _Found:
    """What the check says, by either method."""

    units: int
    left_out: int
    log_e: float
    excess: Mapping[str, float]
    kind: str


def _by_shares(cells: Iterable[Cell], shares: EpochShares, feature: str) -> _Found | str:
    split = split_of(cells, shares, feature)
    if not split.units:
        return "no units whose shares are known, so their split cannot be checked"
    return _Found(round(split.units), split.left_out, log_e_value(split), split.excess, "e-value")


def _by_context(experiment: Experiment, cells: Sequence[Cell], feature: str) -> _Found | str:
    found, left_out = srm_context.weigh(cells, [v.key for v in experiment.variants], feature)
    if min((one.units for one in found.values()), default=0) < srm_context.MIN_UNITS:
        return (
            f"too few units to check their split: {srm_context.MIN_UNITS} of each variant with propensities"
        )
    excess = {key: one.excess for key, one in found.items()}
    units = sum(one.units for one in found.values())
    return _Found(units, left_out, srm_context.log_e_value(found.values()), excess, "asymptotic e-value")


REMEDY = (
    "Do not act on lifts before the cause is found: compare how each variant reports its exposures "
    "(redirects, slow or blocked scripts, bots filtered in one variant only, history brought in with other "
    "propensities)."
)


def _by_variant(cells: Iterable[Cell], feature: str) -> dict[str, int]:
    totals: dict[str, int] = {}
    for cell in cells:
        totals[cell.key.variant] = totals.get(cell.key.variant, 0) + cell.moments.sum(feature)
    return totals


def _rounded(log_e: float) -> str:
    return f"{math.exp(log_e):.2g}" if log_e < math.log(1e6) else f"1e{log_e / math.log(10.0):.0f}"

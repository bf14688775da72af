"""What it costs that a confidence sequence may be looked at always: the factor on the sample.

The report's anytime-valid interval (`analysis/sequential.py`) leaves 0 out later than its credible interval.
The size is that at which it does so with the power asked, as seen at that size; whoever stops at the first
look at which it does, stops earlier on average.

==============  ==========================================================================================
asymptotic      d sqrt(N) = multiplier(BEST_ETA N / TUNED_UNITS) + Phi^-1(power), 1,000 units of each arm
rates           the two arms' Beta-binomial mixtures together reject every common rate, at figures that lie
                Phi^-1(power) errors of the lift below the expected ones
==============  ==========================================================================================

The sequence is two-sided at 95 % whatever the number of treatments: with several, where the verdict asks
for more (tail / treatments), the factor may come below 1.
"""

from collections.abc import Callable
from math import log10, sqrt
from typing import Any, cast

from scipy import optimize

from experiments.analysis.sequential import BEST_ETA, LOG_LEVEL, TUNED_UNITS, Counts, log_mixture, multiplier
from experiments.analysis.sequential_lifts import MIN_UNITS
from experiments.planning.baselines import Quantity
from experiments.planning.contrasts import Split, quantile
from experiments.posteriors.roots import root_between

_MOST = 1e13
"""Units of all variants beyond which no plan is told."""


def units_asymptotic(d: float, split: Split, power: float) -> float | None:
    """Units of all variants until the asymptotic sequence leaves 0 out with that power; d > 0 or None.

    >>> found = units_asymptotic(0.025, Split(0.5, 0.5), 0.8)
    >>> round(found), round(found / ((1.959964 + 0.841621) / 0.025) ** 2, 2)
    (24617, 1.96)
    """
    if d <= 0.0:
        return None
    least = MIN_UNITS / min(split.control, split.treatment)
    reach = quantile(power)

    def excess(exponent: float) -> float:
        units = 10.0**exponent
        return d * sqrt(units) - multiplier(BEST_ETA * units / TUNED_UNITS) - reach

    return _root(excess, least)


def units_of_rates(treatment: Quantity, control: Quantity, split: Split, power: float) -> float | None:
    """The same for the exact sequence of two rates; None where the rates are equal.

    >>> from math import sqrt
    >>> arms = [Quantity(p, sqrt(p * (1 - p))) for p in (0.11, 0.10)]
    >>> round(units_of_rates(*arms, Split(0.5, 0.5), 0.8))
    83757
    """
    if treatment.mean == control.mean:
        return None
    side = 1.0 if treatment.mean > control.mean else -1.0
    reach = quantile(power)

    def excess(exponent: float) -> float:
        units = 10.0**exponent
        n = units * split.treatment, units * split.control
        parts = treatment.sd**2 / n[0], control.sd**2 / n[1]
        error = sqrt(sum(parts))
        rates = (
            treatment.mean - side * reach * parts[0] / error,
            control.mean + side * reach * parts[1] / error,
        )
        if side * (rates[0] - rates[1]) <= 0.0 or min(rates) <= 0.0 or max(rates) >= 1.0:
            return -LOG_LEVEL
        arms = [Counts(size, size * rate) for size, rate in zip(n, rates, strict=True)]
        return evidence_against_equal(*arms) - LOG_LEVEL

    return _root(excess, 2.0 / min(split.control, split.treatment))


def evidence_against_equal(treatment: Counts, control: Counts) -> float:
    """Log of the least evidence against a common rate: at log 20 the sequence of the lift leaves 0 out.

    The least over theta of log M_t(theta) + log M_c(theta), found between the two sample rates.

    >>> round(evidence_against_equal(Counts(20_000, 2_200), Counts(20_000, 2_000)), 2)
    1.48
    """
    low, high = sorted((treatment.rate, control.rate))

    def both(rate: float) -> float:
        return log_mixture(treatment, rate) + log_mixture(control, rate)

    if low == high:
        return both(low)
    found: Any = cast(Any, optimize.minimize_scalar)(
        both, bounds=(low, high), method="bounded", options={"xatol": 1e-4 * (high - low)}
    )
    return float(found.fun)


def _root(excess: Callable[[float], float], least: float) -> float | None:
    """Where the excess, over the logarithm of units, passes 0; None beyond `_MOST` units."""
    low, high = log10(least), log10(_MOST)
    if excess(low) >= 0.0:
        return least
    if excess(high) < 0.0:
        return None
    return float(10.0 ** root_between(excess, low, high, within=1e-8))

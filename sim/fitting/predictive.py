"""The posterior predictive check: the fitted world should be able to leave a log like this one.

R worlds are drawn from the posterior of the fit, each leaves a log, and every figure of the shop's own log is
compared with those of the R. Two-sided tail probability of a figure: 2 (1 + k) / (R + 1), k the lesser of the
numbers of simulated figures that are not above, and not below it. A figure is *bad* if it lies outside all R,
and further from their mean than z of their standard deviations, z = the two-sided Normal quantile of 0.01 /
(number of figures): a right world is to be told bad at most about once in a hundred fits (docs/fitting.md has
how often it is). Figures that the fit
rests on say whether estimates are carried over rightly, the others whether the world is of the right kind.
Source: Gelman, Meng and Stern 1996; Gelman et al., Bayesian Data Analysis (2013), 6.3.
"""

from dataclasses import dataclass

import numpy as np
from scipy.stats import norm

from sim.fitting.features import features_of
from sim.fitting.fit import Fit
from sim.fitting.found import DRAWS
from sim.fitting.log import Floats
from sim.fitting.simulating import simulate

LEVEL = 0.01
NO_MATTER = 1e-3
"""A figure that is off by less than this part is good, however little it varies."""
FAMILY_GAP = 10.0
DAYS = ("traffic_", "weekday_", "conversion_from")

ADVICE = {
    "customers": "days differ more than a world's: fit a quieter period (`arrivals`)",
    "traffic": "traffic moves by more than chance, weekday and month: leave promotions out, or add "
    "them to the file as season.shocks",
    "weekday_traffic": "the week is not that of the world: a fortnight of whole days is needed to tell it",
    "weekday_conversion": "conversion differs by weekday more than the world's: fit a fortnight or more",
    "weekend_refunds": "orders of the weekend come back more, or less, often than others, which no world "
    "has: fit the two kinds of days by themselves (`where`)",
    "second_order": "second orders follow upon the first: rows that stand there twice under another number, "
    "or orders sent in parts; give them one number",
    "conversion_from": "conversion moves from week to week by more than chance: prices, stock or campaigns "
    "changed; fit a quieter period, or add season.shocks to the file",
    "conversion": "conversion is not carried over: look whether segments or variants changed in the period",
    "share_of_zeros": "the share of customers who bring in nothing is not that of the world",
    "take_rate": "takes are not carried over: `assume.seeing` may be off",
    "order_delay": "orders do not come when the world's do: is `order_within` right?",
    "refund_delay": "refunds do not come when the world's do: a bulk of them on one day?",
    "refunded_value": "the orders that come back are not the usual ones (larger, or smaller): name segments "
    "or products that tell them apart",
    "whole_refunds": "the part of an order that comes back is not that of the world",
    "refund_rate": "refunds are not carried over: did the rule change in the period?",
    "repeat": "they come back otherwise than in even periods: set `repeats` in the mapping",
    "later_orders": "they come back otherwise than in even periods: set `repeats` in the mapping",
    "aov": "the mean order is not carried over: a few huge orders make it",
}
HEAVIER = (
    "the upper tail of order values is heavier than the world's: large orders are rarer in the simulation; "
    "make business customers a segment, or leave them out by `where`"
)
LIGHTER = "the upper tail of order values is lighter than the world's: the simulation has larger orders"
EVENER = "days are more alike than chance makes them: is the log a sample, rounded, or made up?"
SHAPE = (
    "order values are not log-normal (several kinds of orders at once?): name segments or products that tell "
    "them apart"
)


@dataclass(frozen=True, slots=True)
class Check:
    """One figure: the log's, and the mean and the middle 95 % of those simulated."""

    name: str
    observed: float
    mean: float
    low: float
    high: float
    tail_prob: float
    is_bad: bool
    advice: str


@dataclass(frozen=True, slots=True)
class Predictive:
    """All figures; `lognormal_gain` is the log-likelihood by which log-normal beats gamma, None unknown."""

    checks: tuple[Check, ...]
    replications: int
    lognormal_gain: float | None

    @property
    def bad(self) -> tuple[Check, ...]:
        """The figures the world could not have."""
        return tuple(check for check in self.checks if check.is_bad)

    @property
    def family_note(self) -> str | None:
        """What the comparison with gamma says, where it is clear and against the world."""
        if self.lognormal_gain is None or self.lognormal_gain > -FAMILY_GAP:
            return None
        return (
            "order values are more like a gamma than a log-normal law (log-likelihood "
            f"+{-self.lognormal_gain:.0f})"
            ": the world's largest orders are larger than the shop's"
        )


def check_fit(fit: Fit, *, replications: int, seed: int = 0) -> Predictive:
    """Compare the log with logs of `replications` worlds drawn from the posterior."""
    rng = np.random.default_rng([seed, 1])
    simulated: dict[str, list[float]] = {}
    for number in range(replications):
        world = fit.drawn(number % DRAWS)
        for name, value in features_of(simulate(world, fit.log, rng)).items():
            simulated.setdefault(name, []).append(value)
    observed = features_of(fit.log)
    names = [name for name in observed if len(simulated.get(name, ())) == replications]
    limit = float(norm.isf(LEVEL / 2 / max(1, len(names))))
    checks = [_check(name, observed[name], np.array(simulated[name]), limit) for name in names]
    return Predictive(tuple(checks), replications, fit.found.lognormal_gain)


def _check(name: str, observed: float, simulated: Floats, limit: float) -> Check:
    below, above = int((simulated <= observed).sum()), int((simulated >= observed).sum())
    runs = len(simulated)
    tail = min(1.0, 2 * (1 + min(below, above)) / (runs + 1))
    mean, sd = float(simulated.mean()), float(simulated.std(ddof=1)) if runs > 1 else float("inf")
    is_outside = min(below, above) == 0
    is_bad = is_outside and abs(observed - mean) > max(limit * sd, NO_MATTER * abs(observed))
    low, high = np.quantile(simulated, [0.025, 0.975]).tolist()
    advice = _advice(name, observed, mean) if is_bad else ""
    return Check(name, observed, mean, low, high, tail, is_bad, advice)


def _advice(name: str, observed: float, mean: float) -> str:
    if name in ("order_value[q99]", "order_value_tails", "order_value_skew") and observed > mean:
        return HEAVIER
    if name == "order_value[q99]":
        return LIGHTER
    if name.startswith("order_value"):
        return SHAPE
    if name.startswith(DAYS) and observed < mean:
        return EVENER
    return next(said for prefix, said in ADVICE.items() if name.startswith(prefix))

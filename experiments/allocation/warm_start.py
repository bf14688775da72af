"""What is known before the first unit, as priors of the variants: an expert's shares, or past results.

===========  ==================================================================  ==================
symbol       meaning                                                             unit
===========  ==================================================================  ==================
s_k          P(best) that the expert gives variant k; sum 1                      in (0, 1)
n            units of each variant the shares are worth                          units
r            the control's expected rate, of a proportion                        in (0, 1)
d_k          how far variant k's prior lies from the common level                prior standard errors
a            discount of a past experiment: a unit of it counts a                in (0, 1]
===========  ==================================================================  ==================

Expert, mean per unit: theta_k ~ Student-t(level + d_k sqrt(v / n), sqrt(v / n), df n), the marginal of the
Normal-inverse-gamma (mean_k, n, n, v); level and v are the pooled mean and variance of the data so far, as
in the default prior, and P(best) depends on neither. Expert, proportion: theta_k ~ Beta(m_k n, (1 - m_k) n),
the control's m = r. The d_k, or m_k, are the ones with P(theta_k is best) = s_k: one solution, since P(best)
of k rises in k's location and falls in the others' (Berry 1994, Estimating Discrete-Choice Models of Product
Differentiation, section 3); Newton's method on the logarithms, to 1e-9.

Past results: prior(theta) x likelihood^a, the power prior (Ibrahim, Chen 2000, Power Prior Distributions for
Regression Models, section 2): Beta(alpha + a x, beta + a (n - x)) and the Normal-inverse-gamma updated with
a n units of the same mean and variance. Over several candidate sets the figure is standardised and n is
1 / sum(W_s^2 / n_s), the units one set would need to be as sure.

Wrong when the past offer was another one, or shown to other people: a is how far one trusts that it was
not. Arms whose priors rest on the same past units are treated as independent, which understates how
well they are told apart (their common error cancels), never overstates it.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from typing import Any

import numpy as np
from scipy import special

from experiments.analysis.comparison import oriented
from experiments.analysis.estimates import Part, Pool, before_data
from experiments.analysis.maturity import matured
from experiments.analysis.metrics import MetricDefinition, metric_definitions
from experiments.analysis.strata import parts_of, plain_part, set_strata, tabulate
from experiments.errors import BrokenInvariant
from experiments.model import Experiment, MetricKind, Prior, WarmStart
from experiments.posteriors.beta import Beta
from experiments.posteriors.compare import prob_best
from experiments.posteriors.normal import NormalInverseGamma, StudentT
from experiments.posteriors.protocol import FloatArray, Posterior
from experiments.statistics import Cell

SOLVED_TO = 1e-9
"""How close P(best) comes to the expert's shares."""

_STEP = 1e-4
_LONGEST = 2.0
_ROUNDS = 30


@dataclass(frozen=True, slots=True)
class PastExperiment:
    """An experiment that another begins with: what it was, its cells, its time zone."""

    experiment: Experiment
    cells: Sequence[Cell]
    time_zone: str


@dataclass(frozen=True, slots=True)
class WarmPriors:
    """The priors by variant, what they say before any data, and how to tell people.

    `priors` replace the default where there is data to update them with; `initial` are the same as
    posteriors of no data, oriented so that more is better; of an expert's means before any data only
    their differences are known, in prior standard errors. `entries` is what `/policy` shows.
    """

    priors: Mapping[str, Prior] = field(default_factory=dict[str, Prior])
    initial: Mapping[str, Posterior] = field(default_factory=dict[str, Posterior])
    entries: Mapping[str, Mapping[str, Any]] = field(default_factory=dict[str, Mapping[str, Any]])


def warm_priors(
    experiment: Experiment,
    cells: Sequence[Cell],
    past: Mapping[str, PastExperiment],
    *,
    time_zone: str,
    now: datetime,
) -> WarmPriors:
    """The priors of a warm start, from the experiment's own cells (level and spread) and past ones'."""
    warm = experiment.policy.warm_start
    if warm is None:
        return WarmPriors()
    definition = metric_definitions(experiment)[experiment.policy.objective].winsorised
    priors: dict[str, Prior] = {}
    entries: dict[str, Mapping[str, Any]] = {}
    pools: list[Pool] = []
    for key, source in warm.variants.items():
        wanted = [one.variant for one in warm.variants.values() if one.experiment == source.experiment]
        told = told_by(definition, past.get(source.experiment), source.variant, wanted, now)
        entries[key] = {"experiment": source.experiment, "variant": source.variant}
        entries[key] = {**entries[key], "discount": source.discount}
        if isinstance(told, str):
            entries[key] = {**entries[key], "prior": None, "reason": told}
            continue
        pools += [part.pool for part in told if part.pool is not None]
        priors[key] = power_prior(definition, told, source.discount)
        units = source.discount * effective_units(definition, told)
        entries[key] = {**entries[key], "units": units, "prior": _plain(priors[key])}
    initial = {key: before_data(prior) for key, prior in priors.items()}
    if warm.shares is not None:
        own = matured(cells, definition.horizon, time_zone, now)
        pool = _pool(definition, own) or (pools[0] if pools else None)
        for key, prior in expert_priors(warm, definition, pool or Pool(0.0, 1.0), experiment).items():
            initial[key] = before_data(prior)
            if pool is not None or definition.kind is MetricKind.PROPORTION:
                priors[key] = prior
            entries[key] = {"share": warm.shares[key], "units": warm.units, "prior": _plain(priors.get(key))}
    return WarmPriors(
        priors, {key: oriented(prior, definition.sign) for key, prior in initial.items()}, entries
    )


def expert_priors(
    warm: WarmStart, definition: MetricDefinition, pool: Pool, experiment: Experiment
) -> dict[str, Prior]:
    """A prior for each variant of the shares; P(best) of these priors is the shares to `SOLVED_TO`.

    The control leads the rate; where it has no share of its own, the first variant named does.
    """
    assert warm.shares is not None
    assert warm.units is not None
    keys, units, sign = tuple(warm.shares), warm.units, definition.sign
    total = math.fsum(warm.shares.values())
    shares = tuple(share / total for share in warm.shares.values())
    if definition.kind is MetricKind.PROPORTION:
        assert warm.rate is not None
        control = experiment.control.key
        lead = keys.index(control) if control in keys else 0
        found = expert_betas(shares, units, warm.rate if sign > 0 else 1.0 - warm.rate, lead)
        return {
            key: Prior(alpha=good, beta=bad) if sign > 0 else Prior(alpha=bad, beta=good)
            for key, (good, bad) in zip(keys, found, strict=True)
        }
    error = math.sqrt(pool.variance / units)
    return {
        key: Prior(mean=pool.mean + sign * offset * error, kappa=units, nu=units, scale=pool.variance)
        for key, offset in zip(keys, expert_offsets(shares, units), strict=True)
    }


@lru_cache(maxsize=256)
def expert_offsets(shares: tuple[float, ...], units: float) -> tuple[float, ...]:
    """Locations of Student-t arms (scale 1, df `units`) whose P(best) are the shares; they sum to 0.

    Two Normal arms of equal scale: sqrt(2) times the normal quantile of the share apart.

    >>> low, high = expert_offsets((0.4, 0.6), 1e9)
    >>> round(high - low, 6)  # sqrt(2) x 0.253347
    0.358287
    """
    found = _solved(shares, 0, lambda offsets: [StudentT(float(d), 1.0, units) for d in offsets])
    return tuple(float(offset) for offset in found - found.mean())


@lru_cache(maxsize=256)
def expert_betas(
    shares: tuple[float, ...], units: float, rate: float, lead: int
) -> tuple[tuple[float, float], ...]:
    """(alpha, beta) of Betas of `units` units whose P(best) are the shares; the mean of `lead` is rate.

    Needs three expected successes and failures of the lead, units x min(rate, 1 - rate) >= 3: with fewer, a
    variant that is best with 0.999 would have next to no failure (or success) at all, a Beta with a pole.

    >>> [(round(a, 6), round(b, 6)) for a, b in expert_betas((0.5, 0.5), 100.0, 0.03, 0)]
    [(3.0, 97.0), (3.0, 97.0)]
    """
    spread = math.sqrt(1.0 / (units * rate) + 1.0 / (units * (1.0 - rate)))
    level = float(special.logit(rate))

    def betas_at(offsets: FloatArray) -> list[Beta]:
        odds = level + spread * offsets
        pairs = zip(special.expit(odds), special.expit(-odds), strict=True)  # a rate near 1 keeps its digits
        return [Beta(units * float(mean), units * float(rest)) for mean, rest in pairs]

    return tuple((found.alpha, found.beta) for found in betas_at(_solved(shares, lead, betas_at)))


def power_prior(definition: MetricDefinition, parts: Sequence[Part], discount: float) -> Prior:
    """The metric's prior times the likelihood of the parts to the power of `discount`.

    30 of 100 at a discount of 0.5 on Beta(1, 1): Beta(1 + 15, 1 + 35).

    >>> from datetime import timedelta
    >>> from experiments.analysis.sums import WEIGHT_ONE as one, PairSums
    >>> from experiments.model import Direction
    >>> rate = MetricDefinition("r", MetricKind.PROPORTION, {}, {}, Direction.UP, timedelta(7))
    >>> prior = power_prior(rate, [Part(1.0, PairSums(100 * one, 30 * one, 100 * one), {})], 0.5)
    >>> prior.alpha, prior.beta
    (16.0, 36.0)
    """
    units = discount * effective_units(definition, parts)
    base = definition.prior or Prior()
    if definition.kind is MetricKind.PROPORTION:
        rate = math.fsum(part.weight * part.sums.ratio for part in parts)
        alpha = 1.0 if base.alpha is None else base.alpha
        beta = 1.0 if base.beta is None else base.beta
        return Prior(alpha=alpha + units * rate, beta=beta + units * (1.0 - rate))
    mean = math.fsum(part.weight * part.sums.mean_x for part in parts)
    spread = math.fsum(p.weight * p.sums.squared_deviations() / p.sums.units for p in parts)
    pool = parts[0].pool or Pool(mean, spread)
    start = NormalInverseGamma(
        mean=pool.mean if base.mean is None else base.mean,
        kappa=1.0 if base.kappa is None else base.kappa,
        nu=1.0 if base.nu is None else base.nu,
        scale=pool.variance if base.scale is None else base.scale,
    )
    found = start.updated(units, mean, units * spread)
    return Prior(mean=found.mean, kappa=found.kappa, nu=found.nu, scale=found.scale)


def effective_units(definition: MetricDefinition, parts: Sequence[Part]) -> float:
    """1 / sum(W_s^2 / n_s), n_s the units (of a proportion its denominator) of part s; n with one part."""
    is_proportion = definition.kind is MetricKind.PROPORTION
    sizes = [part.sums.denominator if is_proportion else part.sums.units for part in parts]
    return 1.0 / math.fsum(part.weight**2 / size for part, size in zip(parts, sizes, strict=True))


def _solved(
    shares: Sequence[float], fixed: int, arms: Callable[[FloatArray], Sequence[Posterior]]
) -> FloatArray:
    """Offsets x (x_fixed = 0) at which P(best) of `arms(x)` is `shares`: Newton's method in logarithms."""
    wanted = np.log(np.asarray(shares))
    free = [k for k in range(len(shares)) if k != fixed]
    # The largest share follows from the others; left out, a small one could run off to 0 unnoticed.
    told = [k for k in range(len(shares)) if k != int(np.argmax(wanted))]

    def excess(x: FloatArray) -> FloatArray:
        return (np.log(np.maximum(prob_best(arms(x)), 1e-300)) - wanted)[told]

    x = 0.5 * (wanted - wanted[fixed])
    found = excess(x)
    for _ in range(_ROUNDS):
        if float(np.abs(np.expm1(found)).max()) <= SOLVED_TO:
            return x
        slopes = np.column_stack([(excess(_moved(x, k, _STEP)) - found) / _STEP for k in free])
        step = np.zeros(len(x))
        step[free] = np.linalg.solve(slopes, -found)
        step /= max(1.0, float(np.abs(step).max()) / _LONGEST)
        x = x + step
        found = excess(x)
    raise BrokenInvariant(f"no priors found whose P(best) are {list(shares)}")


def _moved(x: FloatArray, place: int, by: float) -> FloatArray:
    moved = x.copy()
    moved[place] += by
    return moved


def told_by(
    definition: MetricDefinition,
    past: PastExperiment | None,
    variant: str,
    wanted: Sequence[str],
    now: datetime,
) -> list[Part] | str:
    """The past variant's sums over the sets that hold all the variants wanted, or why there are none."""
    if past is None:
        return "no_such_experiment"
    theirs = metric_definitions(past.experiment).get(definition.key)
    if theirs is None or theirs.kind is not definition.kind:
        return "no_such_metric"
    closed = matured(past.cells, theirs.horizon, past.time_zone, now)
    usable = [cell for cell in closed if cell.candidates.issuperset(wanted)]
    for feature, reason in ((theirs.unconverted, "unconverted"), (theirs.unknown_cost, "cost_unknown")):
        mine = (cell.moments for cell in usable if cell.key.variant in wanted)
        if feature is not None and any(moments.sum(feature) for moments in mine):
            return reason
    table = tabulate(usable, theirs.winsorised)
    strata = set_strata(table, list(dict.fromkeys(wanted)))
    parts = parts_of(table, variant, strata)
    if not parts or (definition.kind is MetricKind.MEAN and parts[0].pool == Pool(0.0, 0.0)):
        return "insufficient_data"
    return parts


def _pool(definition: MetricDefinition, cells: Sequence[Cell]) -> Pool | None:
    """Level and spread of a mean over all variants; None while there is no spread."""
    if definition.kind is not MetricKind.MEAN or not cells:
        return None
    pool = plain_part(tabulate(cells, definition), "").pool
    return pool if pool is not None and pool.variance > 0.0 else None


def _plain(prior: Prior | None) -> dict[str, float] | None:
    if prior is None:
        return None
    names = ("alpha", "beta", "mean", "kappa", "nu", "scale")
    return {name: value for name in names if (value := getattr(prior, name)) is not None}

"""How customers react to each variant: the world's appeal, pressure and regret that make the log's figures.

===========  ==============================================================================  ========
symbol       meaning                                                                         solves
===========  ==============================================================================  ========
T            takes over exposures (over customers x `seeing` where exposures are not told)   appeal
G            log of orders over those expected of the same customers with nothing offered    pressure
D            refunds of the variant's orders less those expected, over its orders            regret
===========  ==============================================================================  ========

What is expected of a customer depends on segment, day and age, so a variant shown to others or at other
times is not taken for better. T has a Beta posterior; G and D are Normal, shrunk toward no effect
(`rates.shrunk`). Each is then a root: the closed-form truth of the world (`sim/worlds/truth.py`), as a
function of the one parameter, must give it; all three are monotone. The limits of an interval are the roots
of the statistic's limits. Need, price sensitivity and rescue are assumed: one price cannot tell them.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import cast

import numpy as np
from scipy.optimize import brentq

from sim.fitting.building import Structure, build
from sim.fitting.found import DRAWS, PROB, Estimate, Found
from sim.fitting.log import Floats, ShopLog
from sim.fitting.rates import shrunk
from sim.worlds.offers import Reaction
from sim.worlds.season import STEADY
from sim.worlds.truth import truth
from sim.worlds.world import World

LONG = timedelta(days=365)
LIMITS = {"appeal": (0.0, 100.0), "pressure": (-10.0, 1.0), "regret": (-1.0, 1.0)}
NO_REACTION = ("appeal", "pressure", "regret")


@dataclass(frozen=True, slots=True)
class Statistic:
    """What the log says of one variant: the value and the draws, (DRAWS,)."""

    value: float
    draws: Floats
    units: int


def fit_seeing(log: ShopLog, found: Found) -> None:
    """`seeing`: exposures over customers of the variants that have any."""
    kinds = max(1, len(log.variants))
    counts = np.bincount(log.variant, minlength=kinds)
    seen = np.bincount(log.variant, weights=log.seen, minlength=kinds)
    told = seen > 0
    if not log.tells.exposures or not told.any():
        found.assumed("seeing", "seeing")
        return
    events, trials = float(seen[told].sum()), float(counts[told].sum())
    draws = found.rng.beta(events + 0.5, trials - events + 0.5, DRAWS)
    found.data("seeing", events / trials, draws, trials)


def fit_reactions(
    log: ShopLog, structure: Structure, found: Found, orders: Floats | None, refunds: Floats | None
) -> None:
    """`appeal`, `pressure`, `regret` of every offer; `orders`, `refunds`: those expected of each customer."""
    offers = [effect.variant for effect in structure.effects if effect.is_offer]
    for key in offers:
        for name in NO_REACTION:
            found.assumed(f"{name}[{key}]", name)
    known = [key for key in offers if key in log.variants and (log.variant == log.variants.index(key)).any()]
    if not known or orders is None:
        return
    takes = {key: _takes(log, key, found) for key in known}
    for key, statistic in takes.items():
        if statistic is None:  # nothing was ever taken: all that the variant does is in the orders
            found.fixed(f"appeal[{key}]", 0.0)
        else:
            found.data(f"take_rate[{key}]", statistic.value, statistic.draws, statistic.units)
            _solved(structure, found, "appeal", key, statistic, _take_rate)
    for key, statistic in _lifts(log, known, orders, found).items():
        found.data(f"conversion_lift[{key}]", statistic.value, statistic.draws, statistic.units)
        _solved(structure, found, "pressure", key, statistic, _conversion_lift)
    if refunds is None:
        return
    for key, statistic in _refund_changes(log, known, refunds, found).items():
        if takes[key] is not None and found.value(f"appeal[{key}]") > 0:
            found.data(f"refund_change[{key}]", statistic.value, statistic.draws, statistic.units)
            _solved(structure, found, "regret", key, statistic, _refund_change)


def _takes(log: ShopLog, key: str, found: Found) -> Statistic | None:
    mine = log.variant == log.variants.index(key)
    if not log.tells.takes or not (mine & log.took).any():
        return None
    events = float((mine & log.took).sum())
    if log.tells.exposures and (mine & log.seen).any():
        trials, seeing = float((mine & log.seen).sum()), np.ones(1)
        value = 1.0
    else:
        trials = float(mine.sum())
        value = found.value("seeing")
        seeing = np.array([value])
    trials = max(trials, events)
    draws = found.rng.beta(events + 0.5, trials - events + 0.5, DRAWS) / seeing
    return Statistic(min(1.0, events / trials / value), np.minimum(1.0, draws), round(trials))


def _lifts(log: ShopLog, keys: list[str], orders: Floats, found: Found) -> dict[str, Statistic]:
    """exp(G) - 1 of each variant, shrunk; the control's own error is common to all of them."""
    control = log.variant == 0
    base = float(log.ordered[control].sum())
    if base < 1:
        found.notes.append("the control has no order: what offers do to conversion cannot be told")
        return {}
    effects, errors, units = [], [], []
    base_error = (1 - log.ordered[control].mean()) / base
    for key in keys:
        mine = log.variant == log.variants.index(key)
        bought = float(log.ordered[mine].sum())
        effects.append(np.log((bought + 0.5) / orders[mine].sum() / ((base + 0.5) / orders[control].sum())))
        errors.append(np.sqrt((1 - log.ordered[mine].mean()) / (bought + 0.5) + base_error))
        units.append(int(mine.sum()))
    means, draws = shrunk(np.array(effects), np.array(errors), found.rng, DRAWS)
    return {
        key: Statistic(float(np.expm1(means[place])), np.expm1(draws[:, place]), units[place])
        for place, key in enumerate(keys)
    }


def _refund_changes(log: ShopLog, keys: list[str], refunds: Floats, found: Found) -> dict[str, Statistic]:
    """D of each variant, shrunk: on the scale of the usual rate, so that the spreads fit."""
    effects, errors, units = [], [], []
    plain = float(log.returned[log.ordered & (log.variant == 0)].sum()) + 0.5
    usual = max(1e-4, float(refunds.sum()) / max(1.0, float(log.ordered.sum())))
    for key in keys:
        mine = (log.variant == log.variants.index(key)) & log.ordered
        # refunds[mine] counts each order by the part of its refunds that has come, as the events do
        expected = max(float(refunds[mine].sum()), 1e-9)
        came = float(log.returned[mine].sum())
        effects.append((came - expected) / expected)
        errors.append(np.sqrt((came + 0.5) / expected**2 + 1.0 / plain))
        units.append(int(mine.sum()))
    means, draws = shrunk(np.array(effects), np.array(errors), found.rng, DRAWS)
    return {
        key: Statistic(float(usual * means[place]), usual * draws[:, place], units[place])
        for place, key in enumerate(keys)
    }


def _solved(
    structure: Structure,
    found: Found,
    name: str,
    key: str,
    statistic: Statistic,
    of: Callable[[World, str], float],
) -> None:
    """Find the parameter at the statistic's value and limits; draws lie on the line between these roots."""
    world = replace(build(structure, found), season=STEADY)
    low, high = np.quantile(statistic.draws, [(1 - PROB) / 2, (1 + PROB) / 2]).tolist()
    roots = [_root(world, name, key, target, of) for target in (low, statistic.value, high)]
    points = np.array([low, statistic.value, high])
    if not points[0] < points[1] < points[2]:
        points = points + np.array([-1e-12, 0.0, 1e-12])
    drawn = np.interp(statistic.draws, points, roots)
    ends = sorted((roots[0], roots[2]))
    found.draws[f"{name}[{key}]"] = drawn
    found.estimates[f"{name}[{key}]"] = Estimate(
        f"{name}[{key}]", roots[1], ends[0], ends[1], statistic.units, "data"
    )


def _root(world: World, name: str, key: str, target: float, of: Callable[[World, str], float]) -> float:
    """The parameter whose truth is the target, or the nearest limit."""

    def excess(parameter: float) -> float:
        return of(_with(world, key, name, parameter), key) - target

    low, high = LIMITS[name]
    at_low, at_high = excess(low), excess(high)
    if at_low * at_high > 0:
        return low if abs(at_low) < abs(at_high) else high
    return cast("float", brentq(excess, low, high, xtol=1e-6))


def _with(world: World, key: str, name: str, parameter: float) -> World:
    place = world.arm(key)
    effect = world.effects[place]
    reaction: Reaction = replace(effect.reaction, **{name: parameter})
    effects = (*world.effects[:place], replace(effect, reaction=reaction), *world.effects[place + 1 :])
    return replace(world, effects=effects)


def _take_rate(world: World, key: str) -> float:
    features = truth(world, window=LONG)[key].features
    return features["took"] / features["exposed"]


def _conversion_lift(world: World, key: str) -> float:
    values = truth(world, window=LONG)
    return values[key].features["converted"] / values[_bare(world)].features["converted"] - 1


def _refund_change(world: World, key: str) -> float:
    values = truth(world, window=LONG)
    rates = [
        values[one].features["refunded_orders"] / values[one].features["converted"]
        for one in (key, _bare(world))
    ]
    return rates[0] - rates[1]


def _bare(world: World) -> str:
    """The variant that offers nothing, or the first."""
    return next((effect.variant for effect in world.effects if not effect.is_offer), world.effects[0].variant)

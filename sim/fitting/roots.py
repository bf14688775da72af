"""The parameter of a reaction at which a world's closed-form truth is what the log says."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import cast

import numpy as np
from scipy.optimize import brentq

from sim.fitting.building import Structure, build, reaction_name
from sim.fitting.found import PROB, Estimate, Found
from sim.fitting.log import Floats
from sim.worlds.offers import Reaction
from sim.worlds.season import STEADY
from sim.worlds.truth import truth
from sim.worlds.world import World

LONG = timedelta(days=365)
LIMITS = {"appeal": (0.0, 100.0), "pressure": (-10.0, 1.0)}


@dataclass(frozen=True, slots=True)
class Statistic:
    """What the log says of one variant, or of a segment of it: the value and the draws, (DRAWS,)."""

    value: float
    draws: Floats
    units: int


def solved(
    structure: Structure,
    found: Found,
    name: str,
    key: str,
    statistic: Statistic,
    of: Callable[[World, str], float],
    segment: str | None = None,
) -> None:
    """Find the parameter at the statistic's value and limits; draws lie on the line between these roots."""
    world = _alone(replace(build(structure, found), season=STEADY), segment)
    low, high = np.quantile(statistic.draws, [(1 - PROB) / 2, (1 + PROB) / 2]).tolist()
    points = np.array([low, min(max(statistic.value, low), high), high])
    roots = [_root(world, name, key, target, of) for target in points.tolist()]
    if not points[0] < points[1] < points[2]:
        points = points + np.array([-1e-12, 0.0, 1e-12])
    drawn = np.interp(statistic.draws, points, roots)
    ends = sorted((roots[0], roots[2]))
    named = reaction_name(name, key, segment)
    found.draws[named] = drawn
    found.estimates[named] = Estimate(named, roots[1], ends[0], ends[1], statistic.units, "data")


def _alone(world: World, segment: str | None) -> World:
    """The world of one segment; reactions are the variants' own."""
    if segment is not None:
        world = replace(world, segments=(replace(world.segments[world.segment_index(segment)], share=1.0),))
    return replace(world, effects=tuple(replace(effect, by_segment={}) for effect in world.effects))


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


def take_rate(world: World, key: str) -> float:
    """Takes over exposures."""
    features = truth(world, window=LONG)[key].features
    return features["took"] / features["exposed"]


def conversion_lift(world: World, key: str) -> float:
    """Orders of the variant over those of who is offered nothing, less 1."""
    values = truth(world, window=LONG)
    return values[key].features["converted"] / values[_bare(world)].features["converted"] - 1


def _bare(world: World) -> str:
    """The variant that offers nothing, or the first."""
    return next((effect.variant for effect in world.effects if not effect.is_offer), world.effects[0].variant)

"""The named scenarios, each in a module of its own."""

from collections.abc import Mapping
from importlib import import_module
from types import MappingProxyType

from sim.worlds.scenario import Scenario

__all__ = ["NAMES", "scenario", "scenarios"]

NAMES = (
    "healthy",
    "toxic_upsell",
    "revenue_trap",
    "novelty_fades",
    "price_sensitive_downsell",
    "black_friday",
    "late_refunds",
    "a_a",
    "cold_start_100_arms",
    "segment_flip",
    "bots_and_duplicates",
    "fatigue",
    "newcomer",
    "whole_year",
)


def scenario(name: str) -> Scenario:
    """The scenario of that name; KeyError when there is none."""
    if name not in NAMES:
        raise KeyError(name)
    return import_module(f"{__name__}.{name}").SCENARIO


def scenarios() -> Mapping[str, Scenario]:
    """Every scenario by its name, in the order in which they are listed."""
    return MappingProxyType({name: scenario(name) for name in NAMES})

"""Brent's root search, with a type."""

from collections.abc import Callable
from typing import Any, cast

from scipy import optimize

_brentq = cast("Callable[..., Any]", optimize.brentq)  # SciPy declares a union over its `full_output` flag


def root_between(function: Callable[[float], float], low: float, high: float, *, within: float) -> float:
    """The root of a function of opposite signs at low and high, to `within` or 1e-11 of its own size."""
    return float(_brentq(function, low, high, xtol=within, rtol=1e-11))

"""A part of a claim, with what a run says of it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

SURE = 1e-3
"""A part that says how often something happens fails when chance would give this few (or many) so seldom."""


@dataclass(frozen=True, slots=True)
class Finding:
    """`said` is the part of the claim, `found` the figure of the run; `limit` is what it is held against."""

    said: str
    found: float
    limit: str
    held: bool


def mostly(said: str, happened: Sequence[bool], at_least: float) -> Finding:
    """That something happens in at least this part of all runs.

    Held unless so few would come in less than one of 1,000 sets of runs in which the part is just that.

    >>> mostly("it rains", [True] * 7 + [False], 0.9).held
    True
    """
    count, n = sum(happened), len(happened)
    return Finding(
        said, count / n, f"at least {at_least:g} of runs", bool(stats.binom.cdf(count, n, at_least) > SURE)
    )


def seldom(said: str, happened: Sequence[bool], at_most: float) -> Finding:
    """That something happens in at most this part of all runs; the same rule."""
    count, n = sum(happened), len(happened)
    likely = stats.binom.sf(count - 1, n, at_most)
    return Finding(said, count / n, f"at most {at_most:g} of runs", bool(likely > SURE))


def above(said: str, values: Sequence[float], limit: float = 0.0, unit: str = "") -> Finding:
    """That a figure's mean over runs lies above a limit, by more than its standard error allows for chance.

    >>> above("it grows", [1.0, 1.2, 0.9]).held
    True
    """
    found = np.asarray(values, dtype=np.float64)
    error = found.std(ddof=1) / np.sqrt(len(found)) if len(found) > 1 else 0.0
    held = bool(found.mean() - 3.0 * error > limit)
    return Finding(said, float(found.mean()), f"above {limit:g}{unit}, by 3 standard errors", held)

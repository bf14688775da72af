"""Folds for cross-fitting: what is learnt from some units is used on others only.

A model that has seen a row expects nearly what happened there; r - f is then too small, and `dr` inherits the
bias of `dm`. Rows of one unit are alike, so folds are of units.
Source: Chernozhukov et al., Double/Debiased Machine Learning (2018), definition 3.1 (DML2).
"""

import numpy as np

from experiments.off_policy.terms import IntArray


def folds_of(rows: int, units: IntArray | None, count: int, *, rng: np.random.Generator) -> IntArray:
    """The fold of each row, from 0: units dealt out at random, so that folds differ by one unit at most.

    >>> folds_of(4, np.array([0, 0, 1, 1]), 2, rng=np.random.default_rng(3)).tolist()
    [1, 1, 0, 0]
    """
    groups = rows if units is None else 1 + int(units.max(initial=-1))
    if not 2 <= count <= groups:
        raise ValueError(f"{count} folds of {groups} units: at least 2, at most one for each unit")
    of_group = np.empty(groups, dtype=np.int64)
    of_group[rng.permutation(groups)] = np.arange(groups) % count
    return of_group if units is None else of_group[units]

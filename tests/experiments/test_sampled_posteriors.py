"""Posteriors of many replications at once are those the allocator has one at a time."""

from datetime import UTC, datetime

import numpy as np
import pytest

from experiments.allocation.sampled_posteriors import beta_table, student_table
from experiments.analysis.objective import allocation_posteriors
from experiments.model import PolicyKind
from experiments.posteriors.beta import Beta
from experiments.posteriors.normal import StudentT
from tests.experiments.cells import cell_of, experiment_of

NOW = datetime(2026, 12, 1, tzinfo=UTC)
KEYS = ("none", "socks", "kit")


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_they_are_the_allocators(seed: int) -> None:
    rng = np.random.default_rng(seed)
    units = rng.integers(2, 900, 3)
    margins = [np.rint(rng.gamma(0.3, 900, n) * (rng.random(n) < 0.4) - 20).astype(np.int64) for n in units]
    converted = [(one > 0).astype(np.int64) for one in margins]
    cells = [
        cell_of(key, n=int(n), candidates=KEYS, margin=x, converted=hit)
        for key, n, x, hit in zip(KEYS, units, margins, converted, strict=True)
    ]
    experiment = experiment_of(*KEYS[1:], policy=PolicyKind.THOMPSON)
    asked = {"time_zone": "UTC", "now": NOW}
    means = allocation_posteriors(experiment, cells, KEYS, **asked).posteriors
    rates = allocation_posteriors(experiment, cells, KEYS, objective="conversion_rate", **asked).posteriors
    n = units[None].astype(float)
    students = student_table(n, _sums(margins, 1), _sums(margins, 2))
    betas = beta_table(n, _sums(converted, 1))
    for arm, key in enumerate(KEYS):
        mean, rate = means[key], rates[key]
        assert isinstance(mean, StudentT)
        assert isinstance(rate, Beta)
        assert students.location[0, arm] == pytest.approx(mean.location, rel=1e-12)
        assert students.scale[0, arm] == pytest.approx(mean.scale, rel=1e-12)
        assert students.df[0, arm] == mean.df
        assert (betas.alpha[0, arm], betas.beta[0, arm]) == (rate.alpha, rate.beta)


def _sums(values: list[np.ndarray], power: int) -> np.ndarray:
    return np.array([[float((one.astype(float) ** power).sum()) for one in values]])

"""Against known truth: error falls with 1/sqrt(n), intervals cover, and what each needs to be right.

Tolerances are standard errors of the simulation. Beside every promise stands a planted bug that breaks it.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from experiments.off_policy.estimators import Estimator, estimate
from experiments.off_policy.folds import folds_of
from experiments.off_policy.terms import FloatArray, Log, terms
from tests.experiments.off_policy_world import (
    CANDIDATE,
    LOGGING,
    RATES,
    SETTINGS,
    TRUTH,
    WRONG_MODEL,
    WRONG_PROPENSITY,
    by_units,
    drawn,
    expected,
    replications,
)
from tests.statistical import share_errors_off, standard_errors_off

UNBIASED = (Estimator.IPS, Estimator.SNIPS, Estimator.DR, Estimator.SNDR)
BOUNDED = (Estimator.CLIPPED_IPS, Estimator.SWITCH_DR, Estimator.DROS)


@pytest.fixture(scope="module")
def large() -> dict[Estimator, FloatArray]:
    return replications(800, 1600, seed=11, model=WRONG_MODEL)


@pytest.fixture(scope="module")
def small() -> dict[Estimator, FloatArray]:
    return replications(800, 100, seed=12, model=WRONG_MODEL)


def covered(found: FloatArray, truth: float) -> int:
    return int((np.abs(found[:, 0] - truth) <= 1.959964 * found[:, 1]).sum())


@pytest.mark.parametrize("name", UNBIASED)
def test_errors_fall_with_the_root_of_n(
    name: Estimator, large: dict[Estimator, FloatArray], small: dict[Estimator, FloatArray]
) -> None:
    """Sixteen times the rows, a quarter of the error; the ratio of two such spreads errs by 1/sqrt(800)."""
    errors = [np.sqrt(((found[name][:, 0] - TRUTH) ** 2).mean()) for found in (small, large)]
    assert errors[0] / errors[1] == pytest.approx(4.0, rel=4 / np.sqrt(800))


@pytest.mark.parametrize("name", UNBIASED)
def test_intervals_cover(name: Estimator, large: dict[Estimator, FloatArray]) -> None:
    assert share_errors_off(covered(large[name], TRUTH), 800, 0.95) < 4
    assert large[name][:, 1].mean() == pytest.approx(large[name][:, 0].std(ddof=1), rel=4 / np.sqrt(1600))


def test_intervals_of_weights_the_wrong_way_round_do_not_cover() -> None:
    rng = np.random.default_rng(13)
    hits = 0
    for _ in range(200):
        log, contexts = drawn(1600, rng)
        rows = terms(log, CANDIDATE[contexts])
        one = estimate(Estimator.SNIPS, replace(rows, weights=1 / rows.weights), SETTINGS)
        hits += covered(np.array([[one.value, one.standard_error]]), TRUTH)
    assert share_errors_off(hits, 200, 0.95) > 10


def test_dr_needs_one_of_both_right() -> None:
    """Within 2 standard errors where either is right; the one that relies on the wrong one is not."""
    n, runs = 1000, 500
    wrong_model = replications(runs, n, seed=14, model=WRONG_MODEL)
    wrong_weights = replications(runs, n, seed=15, propensity=WRONG_PROPENSITY)
    both = replications(runs, n, seed=16, propensity=WRONG_PROPENSITY, model=WRONG_MODEL)
    for name in (Estimator.DR, Estimator.SNDR):
        assert standard_errors_off(wrong_model[name][:, 0], TRUTH) < 2
        assert standard_errors_off(wrong_weights[name][:, 0], TRUTH) < 2
        assert standard_errors_off(both[name][:, 0], TRUTH) > 10
    assert abs(wrong_model[Estimator.DM][:, 0].mean() - TRUTH) > 0.05  # whatever n: it has no spread at all
    for name in (Estimator.IPS, Estimator.SNIPS):
        assert standard_errors_off(wrong_model[name][:, 0], TRUTH) < 2
        assert standard_errors_off(wrong_weights[name][:, 0], TRUTH) > 10
    assert standard_errors_off(wrong_weights[Estimator.DM][:, 0], TRUTH) < 2


@pytest.mark.parametrize("name", BOUNDED)
def test_bounded_weights_tend_to_their_stated_limit(
    name: Estimator, large: dict[Estimator, FloatArray]
) -> None:
    limit = expected(name, WRONG_MODEL)
    assert standard_errors_off(large[name][:, 0], limit) < 3
    assert standard_errors_off(large[name][:, 0], TRUTH) > 10
    assert share_errors_off(covered(large[name], limit), 800, 0.95) < 4


def test_intervals_by_unit_cover_where_intervals_by_row_do_not() -> None:
    rng = np.random.default_rng(17)
    shares = np.array([[0.2, 0.8]])
    truth = 0.1 + 0.2 + 0.2 * 0.8
    by_unit, by_row = np.empty((400, 2)), np.empty((400, 2))
    for run in range(400):
        rows = terms(by_units(150, 8, rng), shares)
        together = estimate(Estimator.SNIPS, rows, SETTINGS)
        apart = estimate(Estimator.SNIPS, replace(rows, units=None), SETTINGS)
        by_unit[run] = together.value, together.standard_error
        by_row[run] = apart.value, apart.standard_error
    assert share_errors_off(covered(by_unit, truth), 400, 0.95) < 4
    assert share_errors_off(covered(by_row, truth), 400, 0.95) > 10


def _cell_means(log: Log, cells: np.ndarray, rows: np.ndarray, n_cells: int) -> FloatArray:
    """The mean reward of each cell and action among some rows; 0 where there is none."""
    places = cells[rows] * 2 + log.actions[rows]
    counts = np.bincount(places, minlength=2 * n_cells)
    sums = np.bincount(places, log.rewards[rows], minlength=2 * n_cells)
    return (sums / np.maximum(counts, 1)).reshape(n_cells, 2)


def test_folds_keep_a_greedy_model_from_answering_for_its_own_rows() -> None:
    """A mean for each of 300 cells out of 600 rows: fitted on the same rows it leaves nothing to correct."""
    rng = np.random.default_rng(18)
    runs, n, n_cells = 200, 600, 300
    crossed, leaked = np.empty(runs), np.empty(runs)
    for run in range(runs):
        cells, actions = rng.integers(n_cells, size=n), rng.integers(2, size=n)
        log = Log(actions, np.full(n, 0.5), (rng.random(n) < 0.3 + 0.4 * actions).astype(np.float64), 2)
        folds = folds_of(n, None, 3, rng=rng)
        predictions = np.empty((n, 2))
        for fold in range(3):
            predictions[folds == fold] = _cell_means(log, cells, folds != fold, n_cells)[cells[folds == fold]]
        shares = np.array([[0.2, 0.8]])
        own = _cell_means(log, cells, np.ones(n, dtype=bool), n_cells)[cells]
        crossed[run] = estimate(Estimator.DR, terms(log, shares, predictions), SETTINGS).value
        leaked[run] = estimate(Estimator.DR, terms(log, shares, own), SETTINGS).value
    assert standard_errors_off(crossed, 0.3 + 0.4 * 0.8) < 2
    assert standard_errors_off(leaked, 0.3 + 0.4 * 0.8) > 10


def test_the_world_is_as_said() -> None:
    assert np.allclose(LOGGING.sum(axis=1), 1)
    assert np.allclose(CANDIDATE.sum(axis=1), 1)
    assert pytest.approx(0.318) == TRUTH
    assert RATES.shape == (4, 3)

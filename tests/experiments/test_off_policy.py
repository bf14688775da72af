"""Values, errors and intervals by plain loops and by the jackknife; limits that each estimator states."""

from __future__ import annotations

from dataclasses import replace
from math import inf

import numpy as np
import pytest

from experiments.off_policy.estimators import (
    Estimator,
    Parts,
    Reason,
    Settings,
    bootstrap,
    estimate,
    parts_of,
)
from experiments.off_policy.evaluation import evaluate
from experiments.off_policy.folds import folds_of
from experiments.off_policy.gathering import BLOCK, BadShares
from experiments.off_policy.replay import rejection
from experiments.off_policy.terms import Log, Terms, joined, terms, terms_of_taken
from experiments.off_policy.tuning import tuned
from tests.experiments.off_policy_loops import by_loops, ess_of, jackknife_error

SUMMED = [name for name in Estimator if name is not Estimator.REPLAY]
SETTINGS = Settings(clip=2.0, switch=1.5, shrink=4.0)


def some(
    n: int = 400, k: int = 5, seed: int = 1, units: int | None = None
) -> tuple[Log, np.ndarray, np.ndarray]:
    """A log by a policy of its own, a candidate and a rough model, all by context."""
    rng = np.random.default_rng(seed)
    logging = rng.dirichlet(np.full(k, 2.0), n)
    actions = (rng.random((n, 1)) > logging.cumsum(axis=1)).sum(axis=1).clip(max=k - 1)
    rewards = rng.normal(actions, 1.0)
    of = None if units is None else np.concatenate([np.arange(units), rng.integers(units, size=n - units)])
    log = Log(actions, logging[np.arange(n), actions], rewards, k, units=of, places=rng.integers(3, size=n))
    return log, rng.dirichlet(np.full(k, 1.0), n), rng.normal(size=(n, k))


def test_values_are_those_of_plain_loops() -> None:
    log, shares, predictions = some()
    found = terms(log, shares, predictions)
    plain = (log.actions.tolist(), log.propensities.tolist(), log.rewards.tolist(), shares.tolist())
    looped = by_loops(*plain, predictions.tolist(), clip=2.0, switch=1.5, shrink=4.0)
    for name in SUMMED:
        assert estimate(name, found, SETTINGS).value == pytest.approx(looped[name], rel=1e-12, abs=1e-13)
    ess = ess_of((shares[np.arange(len(log)), log.actions] / log.propensities).tolist())
    assert estimate(Estimator.IPS, found, SETTINGS).ess == pytest.approx(ess, rel=1e-12)


def test_weights_the_wrong_way_round_are_told_apart() -> None:
    """The planted bug: p / pi in place of pi / p."""
    log, shares, predictions = some()
    found = terms(log, shares, predictions)
    looped = by_loops(
        log.actions.tolist(), log.propensities.tolist(), log.rewards.tolist(), shares.tolist(), None
    )
    inverted = replace(found, weights=1.0 / found.weights)
    assert abs((estimate(Estimator.SNIPS, inverted, SETTINGS).value or 0.0) - looped["snips"]) > 0.1


@pytest.mark.parametrize("units", [None, 60])
@pytest.mark.parametrize("name", SUMMED)
def test_standard_errors_are_those_of_the_jackknife(name: Estimator, units: int | None) -> None:
    """Leaving out one unit at a time: equal but for terms of order 1/G, here below 8 %; means to 1e-9."""
    log, shares, predictions = some(units=units)
    of = np.arange(len(log)) if log.units is None else log.units
    values: list[float] = []
    for unit in range(int(of.max()) + 1):
        rest = of != unit
        kept = Log(log.actions[rest], log.propensities[rest], log.rewards[rest], log.n_actions)
        values.append(estimate(name, terms(kept, shares[rest], predictions[rest]), SETTINGS).value or 0.0)
    found = estimate(name, terms(log, shares, predictions), SETTINGS)
    is_mean = units is None and name not in (Estimator.SNIPS, Estimator.SNDR)
    assert found.standard_error == pytest.approx(jackknife_error(values), rel=1e-9 if is_mean else 0.08)
    assert found.value is not None
    assert found.ci_low is not None
    assert found.standard_error is not None
    assert found.value - found.ci_low == pytest.approx(1.959964 * found.standard_error, rel=1e-6)


def test_rows_of_one_unit_count_together() -> None:
    """Every row four times over: by row the error would be half of what it is."""
    log, shares, predictions = some(n=100)
    fourfold = Log(*(np.repeat(a, 4) for a in (log.actions, log.propensities, log.rewards)), log.n_actions)
    by_unit = replace(fourfold, units=np.repeat(np.arange(100), 4))
    more = np.repeat(shares, 4, axis=0), np.repeat(predictions, 4, axis=0)
    for name in SUMMED:
        once = estimate(name, terms(log, shares, predictions), SETTINGS).standard_error
        together = estimate(name, terms(by_unit, *more), SETTINGS).standard_error
        apart = estimate(name, terms(fourfold, *more), SETTINGS).standard_error
        assert together == pytest.approx(once, rel=1e-9)
        assert apart == pytest.approx((once or 0.0) / 2, rel=0.01)


def test_the_share_of_what_was_done_is_enough_for_weights() -> None:
    log, shares, _ = some(units=40)
    of_taken = shares[np.arange(len(log)), log.actions]
    known, whole = terms_of_taken(log, of_taken), terms(log, shares)
    for name in (Estimator.IPS, Estimator.SNIPS, Estimator.CLIPPED_IPS):
        assert estimate(name, known, SETTINGS) == estimate(name, whole, SETTINGS)
    assert estimate(Estimator.DR, known, SETTINGS).reason is Reason.NO_MODEL
    for wrong in (-0.1, 1.1, np.nan):
        with pytest.raises(BadShares) as caught:
            terms_of_taken(log, np.where(np.arange(len(log)) == 7, wrong, of_taken))
        assert caught.value.row == 7


def test_slices_joined_are_the_whole() -> None:
    log, shares, predictions = some(units=40)
    whole = terms(log, shares, predictions)
    parts = []
    for rows in (slice(0, 150), slice(150, 400)):
        assert log.units is not None
        assert log.places is not None
        columns = (log.actions[rows], log.propensities[rows], log.rewards[rows])
        part = Log(*columns, log.n_actions, units=log.units[rows], places=log.places[rows])
        parts.append(terms(part, shares[rows], predictions[rows]))
    assert parts[0].wanted.shape == (3, 5)
    one_place = replace(parts[1], wanted=parts[1].wanted[:2], taken=parts[1].taken[:2])
    assert joined([parts[0], one_place]).wanted.shape == (3, 5)
    again = joined(parts)
    for name in ("weights", "fitted", "expected", "units", "taken"):
        assert np.array_equal(getattr(again, name), getattr(whole, name))
    assert np.allclose(again.wanted, whole.wanted, rtol=1e-12)
    assert joined([terms(log, shares)] * 2).fitted is None


def test_one_row_of_shares_serves_all() -> None:
    log, shares, predictions = some()
    everywhere = np.repeat(shares[:1], len(log), axis=0)
    wide = terms(log, everywhere, predictions)
    narrow = terms(log, shares[:1], predictions)
    assert np.array_equal(wide.weights, narrow.weights)
    assert np.allclose(wide.expected, narrow.expected, rtol=1e-12)  # type: ignore[arg-type]
    assert np.allclose(wide.wanted, narrow.wanted)
    flat = terms(log, shares[:1], predictions[:1])
    assert flat.expected == pytest.approx(np.full(len(log), shares[0] @ predictions[0]))


def test_figures_by_place_are_those_of_the_rows_place() -> None:
    log, _, _ = some(n=3 * BLOCK + 7)
    rng = np.random.default_rng(2)
    n, places = len(log), log.places
    assert places is not None
    shares = rng.dirichlet(np.ones(5), (n, 3)).transpose(0, 2, 1)
    predictions = rng.random((n, 5, 3))
    own = (np.array([figures[i, :, places[i]] for i in range(n)]) for figures in (shares, predictions))
    found, expected = terms(log, shares, predictions), terms(log, *own)
    for name in ("weights", "fitted", "expected"):
        assert np.array_equal(getattr(found, name), getattr(expected, name))
    assert np.allclose(found.wanted, [expected.wanted[place] for place in range(3)], rtol=1e-12)
    one = terms(log, shares[:1], predictions[:1])
    every = [np.repeat(figures[:1], n, axis=0) for figures in (shares, predictions)]
    assert np.allclose(one.weights, terms(log, *every).weights, rtol=1e-15)
    assert one.expected == pytest.approx(terms(log, *every).expected, rel=1e-14)


# ---- limits


def test_settings_lead_from_one_estimator_to_the_other() -> None:
    """Their stated limits: no clipping is ips; switch and shrinkage lie between dm and dr."""
    log, shares, predictions = some()
    found = terms(log, shares, predictions)
    none, all_of_it = Settings(inf, inf, inf), Settings(0.0, 0.0, 0.0)
    value = {name: estimate(name, found, none).value for name in SUMMED}
    assert value[Estimator.CLIPPED_IPS] == value[Estimator.IPS]
    assert value[Estimator.SWITCH_DR] == value[Estimator.DROS] == value[Estimator.DR]
    assert estimate(Estimator.DROS, found, Settings(0, 0, 1e12)).value == pytest.approx(value[Estimator.DR])
    assert estimate(Estimator.CLIPPED_IPS, found, all_of_it).value == 0.0
    for name in (Estimator.SWITCH_DR, Estimator.DROS):
        assert estimate(name, found, all_of_it).value == pytest.approx(value[Estimator.DM])


def test_a_model_that_says_nothing_leaves_the_weights() -> None:
    log, shares, _ = some()
    found = terms(log, shares, np.zeros((1, log.n_actions)))
    assert estimate(Estimator.DR, found, SETTINGS).value == estimate(Estimator.IPS, found, SETTINGS).value
    assert estimate(Estimator.SNDR, found, SETTINGS).value == estimate(Estimator.SNIPS, found, SETTINGS).value


# ---- not enough


def test_not_enough_is_a_reason() -> None:
    log, shares, predictions = some()
    none = Log(*(a[:0] for a in (log.actions, log.propensities, log.rewards)), log.n_actions)
    empty = terms(none, shares[:0], predictions[:0])
    few = terms(*[some(n=9)[i] for i in range(3)])  # type: ignore[arg-type]
    away = replace(terms(log, shares, predictions), weights=np.zeros(len(log)))
    alone = replace(few, units=np.zeros(9, dtype=np.int64))
    for name in SUMMED:
        assert estimate(name, empty, SETTINGS).reason is Reason.NO_ROWS
        for lacking in (few, alone):
            assert estimate(name, lacking, SETTINGS).reason is Reason.TOO_FEW_UNITS
            assert estimate(name, lacking, SETTINGS).value is not None
    assert estimate(Estimator.SNIPS, away, SETTINGS).reason is Reason.NO_OVERLAP
    assert estimate(Estimator.IPS, away, SETTINGS).reason is Reason.NO_SPREAD
    assert estimate(Estimator.DR, terms(log, shares), SETTINGS).reason is Reason.NO_MODEL
    with pytest.raises(ValueError, match="predictions"):
        parts_of(Estimator.DR, terms(log, shares), SETTINGS)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"rewards": np.ones(3)}, "3 values"),
        ({"actions": np.array([0, 2])}, "from 0 to 1"),
        ({"actions": np.array([-1, 1])}, "from 0 to 1"),
        ({"rewards": np.array([0.0, np.nan])}, "row 1"),
    ],
)
def test_a_log_that_can_be_none_is_refused(changes: dict[str, np.ndarray], problem: str) -> None:
    good = {"actions": np.array([0, 1]), "propensities": np.full(2, 0.5), "rewards": np.ones(2)}
    with pytest.raises(ValueError, match=problem):
        Log(**(good | changes), n_actions=2)


@pytest.mark.parametrize("row", [[-0.1, 1.1], [0.5, 0.6], [np.nan, 1.0]])
def test_shares_that_are_no_distribution_name_their_row(row: list[float]) -> None:
    log = Log(np.array([0, 1]), np.full(2, 0.5), np.ones(2), 2)
    with pytest.raises(BadShares) as caught:
        terms(log, np.array([[0.5, 0.5], row]))
    assert caught.value.row == 1


# ---- replay, tuning, folds, bootstrap


def test_replay_of_an_even_log_keeps_the_rows_that_agree() -> None:
    """Li et al. (2011), algorithm 2: of a candidate that always takes one action, exactly those rows."""
    rng = np.random.default_rng(3)
    actions = rng.integers(4, size=1000)
    log = Log(actions, np.full(1000, 0.25), rng.normal(size=1000), 4)
    found = rejection(terms(log, np.array([[0.0, 0.0, 1.0, 0.0]])), rng=rng)
    assert found.value == pytest.approx(log.rewards[actions == 2].mean(), rel=1e-12)
    assert found.ess == (actions == 2).sum()


def test_replay_is_right_on_average_on_an_uneven_log() -> None:
    log, _, _ = some(n=3000)
    found = terms(log, np.array([[0.0, 0.05, 0.15, 0.3, 0.5]]))  # far from the log, so that weights matter
    clipped = replace(found, weights=np.minimum(found.weights, 3.0))
    rng = np.random.default_rng(4)
    draws = np.array([rejection(clipped, rng=rng).value for _ in range(400)])
    aim = estimate(Estimator.SNIPS, clipped, SETTINGS).value
    assert abs(draws.mean() - aim) < 5 * draws.std() / 20  # type: ignore[operator]


def test_replay_without_a_row_says_so() -> None:
    log, shares, _ = some(n=20)
    away = replace(terms(log, shares), weights=np.zeros(20))
    assert rejection(away, rng=np.random.default_rng(1)).reason is Reason.NO_OVERLAP
    none = Log(*(a[:0] for a in (log.actions, log.propensities, log.rewards)), 5)
    assert rejection(terms(none, shares[:0]), rng=np.random.default_rng(1)).reason is Reason.NO_ROWS


def _one_heavy_row() -> Terms:
    """A thousand rows much like each other, and one of enormous weight that earned much more than them."""
    weights, rewards = np.full(1000, 0.8), np.full(1000, 1.0)
    weights[::5] = 1.3
    weights[0], rewards[0] = 100.9, 50.0
    rewards[1::2] = 0.0
    return Terms(np.zeros(1000, dtype=np.int64), np.full(1000, 0.5), rewards, weights, np.zeros(1000),
                 np.zeros(1000), None, np.ones((1, 1)), np.ones((1, 1)))  # fmt: skip


def test_settings_of_least_error_keep_the_weights_unless_there_is_something_to_gain() -> None:
    heavy = tuned(_one_heavy_row())
    assert heavy.clip < inf or heavy.switch < inf or heavy.shrink < inf
    log, shares, predictions = some(n=4000)
    mild = tuned(terms(log, 0.9 / 5 + 0.1 * shares, predictions))
    assert mild.clip > 1.0
    away = replace(_one_heavy_row(), weights=np.zeros(1000))
    assert tuned(away) == Settings(inf, inf, inf)
    assert tuned(terms(log, shares)).clip > 0.0


def test_tuning_minimises_what_it_says() -> None:
    """The estimated squared error of each setting tried, recomputed by its definition."""
    log, shares, predictions = some(n=2000, seed=7)
    found = terms(log, shares, predictions)
    w, left = found.weights, found.rewards - found.fitted  # type: ignore[operator]
    tried = [*np.quantile(w[w > 0], (0.9, 0.95, 0.99, 0.999)).tolist(), inf]
    errors = []
    for switch in tried:
        rows = found.expected + np.where(w <= switch, w, 0.0) * left
        errors.append(rows.var(ddof=1) / 2000 + (np.where(w <= switch, 0.0, w) * left).mean() ** 2)
    assert tuned(found).switch == tried[int(np.argmin(errors))]


def test_folds_are_of_units_and_even() -> None:
    units = np.repeat(np.arange(10), 3)
    folds = folds_of(30, units, 3, rng=np.random.default_rng(1))
    assert all(len(set(folds[units == unit].tolist())) == 1 for unit in range(10))
    assert sorted(np.bincount(folds).tolist()) == [9, 9, 12]
    assert sorted(np.bincount(folds_of(7, None, 2, rng=np.random.default_rng(1))).tolist()) == [3, 4]
    for count in (1, 11):
        with pytest.raises(ValueError, match="folds"):
            folds_of(30, units, count, rng=np.random.default_rng(1))


def test_bootstrap_intervals_are_as_wide_as_the_normal_ones() -> None:
    """Rewards of no tails: both 95 % intervals agree to the bootstrap's own error (5 % with 2,000 draws)."""
    log, shares, predictions = some(n=2000, units=500)
    found = terms(log, 0.5 / 5 + 0.5 * shares, predictions)
    normal = evaluate(found, list(Estimator), SETTINGS, rng=np.random.default_rng(1))
    drawn = evaluate(found, list(Estimator), SETTINGS, draws=2000, rng=np.random.default_rng(1))
    for one, other in zip(normal.estimates, drawn.estimates, strict=True):
        assert one.value == other.value
        if one.estimator == Estimator.REPLAY:
            assert one == other
        else:
            width = (other.ci_high or 0.0) - (other.ci_low or 0.0)
            assert width == pytest.approx(2 * 1.96 * (one.standard_error or 0.0), rel=0.12)
    with_units = bootstrap([Parts(np.arange(20.0))], None, draws=50, rng=np.random.default_rng(2))
    assert with_units[0][0] < 9.5 < with_units[0][1]


def test_nothing_to_draw_from_is_left_as_it_is() -> None:
    few = terms(*[some(n=9)[i] for i in range(3)])  # type: ignore[arg-type]
    found = evaluate(few, [Estimator.DM], SETTINGS, draws=10, rng=np.random.default_rng(1))
    assert found.estimates[0].reason is Reason.TOO_FEW_UNITS

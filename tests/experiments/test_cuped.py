"""CUPED and post-stratification against least squares on units, and in experiments whose truth is known."""

from datetime import UTC, datetime

import numpy as np
import pytest
from scipy import stats

from experiments.analysis.cohorts import cohort_of
from experiments.analysis.comparison import Pair
from experiments.analysis.cuped import covariate_of, cuped_lift, post_stratified_lift, segment_table
from experiments.analysis.metrics import metric_definitions
from experiments.analysis.read_out import read_out
from experiments.analysis.reading import read_metric
from experiments.analysis.report import AdjustedLift
from experiments.model import PolicyKind
from experiments.statistics import Cell
from tests.experiments.cells import cell_of, experiment_of

KEYS = ("none", "socks")


def cuped(cells: list[Cell], metric: str, policy: PolicyKind = PolicyKind.FIXED) -> AdjustedLift:
    experiment = experiment_of("socks", policy=policy)
    definition = metric_definitions(experiment)[metric]
    by_epoch = policy is not PolicyKind.FIXED
    reading = read_metric(experiment, cohort_of(cells), definition, by_epoch=by_epoch, seed=0)
    return cuped_lift(reading, covariate_of(cells, [definition]), "socks", by_epoch=by_epoch)


def shop(rng: np.random.Generator, n: int, rho: float, lift: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Margins before and after, whole minor units, correlation rho."""
    before = rng.gamma(1.0, 1000.0, n)
    noise = rng.gamma(1.0, 1000.0, n)
    after = rho * before + np.sqrt(1.0 - rho**2) * noise + lift
    return before.round().astype(int), after.round().astype(int)


@pytest.mark.parametrize("sizes", [(400, 400), (900, 150)])
def test_the_lift_of_a_mean_is_that_of_least_squares_with_a_level_for_each_arm_and_stratum(sizes):
    """Two epochs; weights by all units, so the strata's lifts are the interactions of the arm."""
    rng = np.random.default_rng(4)
    cells: list[Cell] = []
    rows: list[tuple[int, int, np.ndarray, np.ndarray]] = []
    for epoch, factor in ((0, 1), (1, 2)):
        for arm, key in enumerate(KEYS):
            n = sizes[arm if epoch == 0 else 1 - arm]
            z, x = shop(rng, n, 0.6, lift=90.0 * arm * factor)
            cells.append(cell_of(key, n=n, candidates=KEYS, epoch=epoch, margin=x, pre_margin=z))
            rows.append((epoch, arm, z, x))
    z, x = (np.concatenate([row[place] for row in rows]) for place in (2, 3))
    levels = np.concatenate([[2 * epoch + arm] * len(one) for epoch, arm, one, _ in rows])
    design = np.column_stack([*((levels == level) for level in range(4)), z]).astype(float)
    found = np.linalg.lstsq(design, x.astype(float), rcond=None)[0]
    # Each epoch has as many units as the other: weights one half.
    expected = ((found[1] - found[0]) + (found[3] - found[2])) / 2.0
    adjusted = cuped(cells, "margin_per_unit", PolicyKind.THOMPSON)
    assert adjusted.lift_abs.value == pytest.approx(expected, rel=1e-10)
    pooled = cuped(cells, "margin_per_unit")
    both = np.column_stack([levels % 2 == 0, levels % 2 == 1, z]).astype(float)
    slope = np.linalg.lstsq(both, x.astype(float), rcond=None)[0]
    assert pooled.lift_abs.value == pytest.approx(slope[1] - slope[0], rel=1e-10)


def test_the_variance_is_that_of_the_residuals_of_units():
    """One stratum: Welch's variance of x - theta z, and what it saves over that of x."""
    rng = np.random.default_rng(5)
    arms = {key: shop(rng, n, 0.7) for key, n in zip(KEYS, (700, 300), strict=True)}
    cells = [cell_of(key, n=len(z), candidates=KEYS, margin=x, pre_margin=z) for key, (z, x) in arms.items()]
    centred = {key: (z - z.mean(), x - x.mean()) for key, (z, x) in arms.items()}
    theta = sum(z @ x for z, x in centred.values()) / sum(z @ z for z, _ in centred.values())
    adjusted, plain = (
        sum(np.var(x - slope * z, ddof=1) / len(x) for z, x in arms.values()) for slope in (theta, 0.0)
    )
    welch = [np.var(x - theta * z, ddof=1) / len(x) for z, x in arms.values()]
    freedom = sum(welch) ** 2 / sum(
        v * v / (len(z) - 1) for v, (z, _) in zip(welch, arms.values(), strict=True)
    )
    found = cuped(cells, "margin_per_unit")
    assert found.variance_saved == pytest.approx(1.0 - adjusted / plain, rel=1e-9)
    half = stats.t.ppf(0.975, freedom - 1) * np.sqrt(adjusted)
    assert found.lift_abs.ci_high - found.lift_abs.value == pytest.approx(half, rel=1e-9)
    below = stats.t.sf(found.lift_abs.value / np.sqrt(adjusted), freedom - 1)
    assert found.prob_beats_control == pytest.approx(1.0 - below, rel=1e-6)


def test_by_epoch_the_spread_is_that_of_its_neighbours_as_of_the_figure():
    """A pre-period that foretells nothing, rates that rise, an arm starved late: nothing is saved.

    Pooled over all epochs the lift would seem surer than it is: two thirds of its standard error.
    """
    rng = np.random.default_rng(12)
    cells = [
        cell_of(
            key, n=n, candidates=KEYS, epoch=epoch, margin=1000 * rng.binomial(1, rate, n),
            pre_margin=rng.integers(0, 900, n),
        )
        for epoch, (rate, sizes) in enumerate([(0.02, (2000, 2000)), (0.5, (3600, 400))])
        for key, n in zip(KEYS, sizes, strict=True)
    ]  # fmt: skip
    adjusted = cuped(cells, "margin_per_unit", PolicyKind.THOMPSON)
    definition = metric_definitions(experiment_of("socks"))["margin_per_unit"]
    experiment = experiment_of("socks", policy=PolicyKind.THOMPSON)
    pair = read_metric(experiment, cohort_of(cells), definition, by_epoch=True, seed=0).pairs["socks"]
    assert isinstance(pair, Pair)
    plain = np.sqrt(pair.treatment_posterior.variance + pair.control_posterior.variance)
    found = adjusted.lift_abs
    assert (found.ci_high - found.ci_low) / 3.92 == pytest.approx(plain, rel=2e-3)
    assert adjusted.variance_saved == pytest.approx(0.0, abs=2e-3)


def test_a_ratio_is_adjusted_as_its_units_move_it():
    """Average order value: e = (x - R y) / mean y, whose slope moves R (Deng et al. 2013, appendix B)."""
    rng = np.random.default_rng(6)
    arms = {}
    for key in KEYS:
        z = rng.poisson(300, 800)
        orders = rng.poisson(0.5 + z / 600)
        arms[key] = z, orders, rng.poisson(20 * orders + orders * z / 10)
    cells = [
        cell_of(key, n=800, candidates=KEYS, revenue=x, orders=y, pre_margin=z)
        for key, (z, y, x) in arms.items()
    ]
    effects = {key: (x - x.sum() / y.sum() * y) / y.mean() for key, (_, y, x) in arms.items()}
    centred = {key: z - z.mean() for key, (z, _, _) in arms.items()}
    theta = sum(centred[k] @ effects[k] for k in KEYS) / sum(z @ z for z in centred.values())
    ratio = {key: x.sum() / y.sum() for key, (_, y, x) in arms.items()}
    plain = ratio["socks"] - ratio["none"]
    expected = plain - theta * (arms["socks"][0].mean() - arms["none"][0].mean())
    found = cuped(cells, "aov")
    assert found.lift_abs.value == pytest.approx(expected, rel=1e-9)


def test_of_a_metric_that_should_fall_less_is_better():
    rng = np.random.default_rng(12)
    z = rng.poisson(5, 500)
    arms = {"none": rng.binomial(1, 0.3, 500), "socks": rng.binomial(1, 0.1, 500)}
    orders = np.ones(500, int)
    cells = [
        cell_of(key, n=500, candidates=KEYS, orders=orders, refunded_orders=back, pre_margin=z)
        for key, back in arms.items()
    ]
    found = cuped(cells, "refund_rate")
    assert found.prob_beats_control > 0.999
    assert found.lift_abs.ci_high < 0.0


def one_lift(rng: np.random.Generator, rho: float, *, planted: float = 1.0) -> tuple[AdjustedLift, float]:
    """One experiment with a lift of 60; `planted` multiplies the control's pre-period by mistake."""
    cells = []
    for arm, key in enumerate(KEYS):
        z, x = shop(rng, 300, rho, lift=60.0 * arm)
        z = (z * (planted if arm == 0 else 1.0)).astype(int)
        cells.append(cell_of(key, n=300, candidates=KEYS, margin=x, pre_margin=z))
    found = cuped(cells, "margin_per_unit")
    return found, float(found.lift_abs.value or 0.0)


@pytest.mark.parametrize("rho", [0.0, 0.5, 0.8])
def test_intervals_cover_and_one_less_rho_squared_of_the_variance_is_left(rho):
    rng = np.random.default_rng(7)
    runs = [one_lift(rng, rho) for _ in range(400)]
    inside = sum(found.lift_abs.ci_low <= 60.0 <= found.lift_abs.ci_high for found, _ in runs)
    assert stats.binomtest(inside, 400, 0.95).pvalue > 1e-3
    lifts = np.array([lift for _, lift in runs])
    assert abs(lifts.mean() - 60.0) < 4.0 * lifts.std() / 20.0
    expected = (1.0 - rho**2) * 2 * 1000.0**2 / 300
    # Variance of a sample variance of 400 near-normal figures: sd sqrt(2 / 399) = 7 %.
    assert lifts.var(ddof=1) / expected == pytest.approx(1.0, abs=0.28)
    saved = np.mean([found.variance_saved for found, _ in runs])
    assert saved == pytest.approx(rho**2, abs=0.02)


def test_a_pre_period_that_differs_between_the_arms_would_be_seen():
    """Planted: control's pre-period a tenth too large. The lift is off by rho times that tenth."""
    rng = np.random.default_rng(8)
    runs = [one_lift(rng, 0.8, planted=1.1) for _ in range(200)]
    inside = sum(found.lift_abs.ci_low <= 60.0 <= found.lift_abs.ci_high for found, _ in runs)
    assert stats.binomtest(inside, 200, 0.95).pvalue < 1e-6


def test_without_a_pre_period_there_is_nothing_to_adjust():
    cells = [cell_of(key, n=50, candidates=KEYS, margin=np.arange(50)) for key in KEYS]
    found = cuped(cells, "margin_per_unit")
    assert (found.reason, found.variance_saved) == ("no_pre_period", None)
    assert cuped(cells[:1], "margin_per_unit").reason == "insufficient_data"


def test_too_few_units_for_a_slope_and_a_level_have_no_adjusted_lift():
    cells = [cell_of(key, n=2, candidates=KEYS, margin=[1, 5], pre_margin=[1, 2]) for key in KEYS]
    assert cuped(cells, "margin_per_unit").reason == "insufficient_data"
    lone = [
        cell_of(key, n=n, candidates=KEYS, margin=[9] * n, pre_margin=range(n))
        for key, n in zip(KEYS, (1, 3), strict=True)
    ]
    assert cuped(lone, "margin_per_unit", PolicyKind.THOMPSON).reason == "insufficient_data"


def segments(rng: np.random.Generator, base: tuple[float, float] = (100.0, 900.0)) -> list[Cell]:
    """New and loyal buyers in a mix that differs by chance; an effect of 30 in both."""
    cells = []
    for arm, key in enumerate(KEYS):
        is_loyal = rng.random(400) < 0.4
        for name, mask, level in (("new", ~is_loyal, base[0]), ("loyal", is_loyal, base[1])):
            n = int(mask.sum())
            margin = rng.normal(level + 30.0 * arm, 200.0, n).round().astype(int)
            cells.append(cell_of(key, n=n, candidates=KEYS, segment=name, margin=margin))
    return cells


def post_stratified(cells: list[Cell]) -> AdjustedLift:
    experiment = experiment_of("socks")
    definition = metric_definitions(experiment)["margin_per_unit"]
    reading = read_metric(experiment, cohort_of(cells), definition, by_epoch=False, seed=0)
    table = segment_table(cells, definition)
    assert table is not None
    return post_stratified_lift(reading, table, "socks", by_epoch=False)


def test_post_stratified_lifts_are_the_segments_weighed_by_all_units():
    cells = segments(np.random.default_rng(9))
    size = {(c.key.variant, c.key.segment): c.moments.sum("units") for c in cells}
    mean = {(c.key.variant, c.key.segment): c.moments.sum("margin") / c.moments.sum("units") for c in cells}
    expected = sum(
        (mean["socks", s] - mean["none", s]) * (size["socks", s] + size["none", s]) / 800
        for s in ("new", "loyal")
    )
    assert post_stratified(cells).lift_abs.value == pytest.approx(expected, rel=1e-9)


def test_post_stratification_covers_and_saves_what_lies_between_the_segments():
    """Between: .24 x 800^2 = 153,600 of 193,600: 79 % of the variance."""
    rng = np.random.default_rng(10)
    runs = [post_stratified(segments(rng)) for _ in range(200)]
    inside = sum(one.lift_abs.ci_low <= 30.0 <= one.lift_abs.ci_high for one in runs)
    assert stats.binomtest(inside, 200, 0.95).pvalue > 1e-3
    assert np.mean([one.variance_saved for one in runs]) == pytest.approx(0.793, abs=0.01)
    lifts = np.array([one.lift_abs.value for one in runs])
    assert lifts.var(ddof=1) == pytest.approx(2 * 40_000 / 400, rel=0.4)


def test_segments_that_hold_one_arm_only_leave_nothing_to_stratify():
    cells = [
        cell_of("none", n=50, candidates=KEYS, segment="a", margin=np.arange(50)),
        cell_of("socks", n=50, candidates=KEYS, segment="b", margin=np.arange(50)),
    ]
    assert post_stratified(cells).reason == "not_comparable"
    lone = [cell_of("none", n=50, candidates=KEYS, segment=s, margin=np.arange(50)) for s in "ab"]
    assert post_stratified(lone).reason == "insufficient_data"


def test_the_report_shows_both_beside_the_figure():
    rng = np.random.default_rng(11)
    cells = [
        cell_of(key, n=200, candidates=KEYS, segment=s, margin=x, pre_margin=z)
        for key in KEYS
        for s in ("new", "loyal")
        for z, x in [shop(rng, 200, 0.8)]
    ]
    report = read_out(experiment_of("socks"), cells, time_zone="UTC", now=datetime(2026, 6, 1, tzinfo=UTC))
    metric = report.variant("socks").metrics["margin_per_unit"]
    assert metric.cuped is not None
    assert metric.cuped.variance_saved == pytest.approx(0.64, abs=0.1)
    assert metric.post_stratified is not None
    assert report.variant("none").metrics["margin_per_unit"].cuped is None

"""AIPW from epoch cells: the same as unit by unit, right under Thompson, and null where it cannot be had."""

import math
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from scipy import stats

from experiments.analysis.adaptive import Method, aipw_of, parting
from experiments.analysis.aipw import increments, pair_by_aipw
from experiments.analysis.cohorts import cohort_of
from experiments.analysis.comparison import Pair
from experiments.analysis.estimates import Estimate
from experiments.analysis.inverse import by_shares, shares_by_place
from experiments.analysis.metrics import metric_definitions
from experiments.analysis.read_out import read_out
from experiments.analysis.reading import Reading, Reason, read_metric
from experiments.analysis.strata import tabulate
from experiments.model import PolicyKind
from experiments.statistics import Cell
from tests.experiments.cells import DAY, cell_of, experiment_of
from tests.experiments.test_analysis_adaptive import DRIFT

KEYS = ("none", "socks")
BOTH = frozenset(KEYS)
ADAPTIVE = experiment_of("socks", policy=PolicyKind.THOMPSON, objective="conversion_rate")
NOW = datetime(2026, 12, 1, tzinfo=UTC)
Served = dict[tuple[int, frozenset[str], str], Mapping[str, float]]


def epochs_of(
    rng: np.random.Generator, rates: np.ndarray, shares: list[float] | None, *, per_epoch: int, lift: float
) -> tuple[list[Cell], Served]:
    """Two arms whose common rate moves by epoch; `shares` of socks, by Thompson where None."""
    successes, failures = np.ones(2), np.ones(2)
    cells: list[Cell] = []
    served: Served = {}
    for epoch, base in enumerate(rates):
        best = (rng.beta(successes[1], failures[1], 200) > rng.beta(successes[0], failures[0], 200)).mean()
        share = 0.10 + 0.80 * best if shares is None else shares[epoch]
        served[epoch, BOTH, ""] = {"none": 1 - share, "socks": share}
        for arm, (key, n) in enumerate(
            zip(KEYS, rng.multinomial(per_epoch, [1 - share, share]), strict=True)
        ):
            hits = rng.binomial(n, base + lift * arm)
            successes[arm] += hits
            failures[arm] += n - hits
            day = DAY + timedelta(days=epoch)
            converted = np.arange(n) < hits
            cells.append(cell_of(key, n=n, candidates=KEYS, epoch=epoch, day=day, converted=converted))
    return cells, served


def read(cells: list[Cell], served: Served, metric: str = "conversion_rate") -> Reading:
    cohort = cohort_of(cells)
    shown = read_metric(ADAPTIVE, cohort, metric_definitions(ADAPTIVE)[metric], by_epoch=True, seed=1)
    return aipw_of(ADAPTIVE, cohort, shown, served, seed=1)


def pair_of(reading: Reading) -> tuple[Pair, float]:
    """The pair and its lift's standard error."""
    pair = reading.pairs["socks"]
    assert isinstance(pair, Pair)
    return pair, math.sqrt(pair.treatment_posterior.variance + pair.control_posterior.variance)


def test_it_is_the_score_of_every_unit_summed():
    """Orders and revenue of 600 units in 3 epochs: AOV's scores, means and squares unit by unit."""
    rng = np.random.default_rng(3)
    shares = [0.5, 0.8, 0.05]
    units = []  # (epoch, arm, orders, revenue)
    cells: list[Cell] = []
    for epoch, share in enumerate(shares):
        arms = (rng.random(400) < share).astype(int)
        orders = rng.poisson(0.8, 400)
        revenue = orders * rng.integers(1000, 5000, 400)
        units += list(zip([epoch] * 400, arms, orders, revenue, strict=True))
        for arm, key in enumerate(KEYS):
            mine = arms == arm
            totals = {"orders": orders[mine], "revenue": revenue[mine]}
            cells.append(cell_of(key, n=int(mine.sum()), candidates=KEYS, epoch=epoch, **totals))
    served: Served = {(e, BOTH, ""): {"none": 1 - p, "socks": p} for e, p in enumerate(shares)}
    h = [(1 / p + 1 / (1 - p)) ** -0.5 for p in shares]
    expected: list[tuple[float, float]] = []
    for arm in (1, 0):
        sums, before = np.zeros((3, 2)), np.zeros(3)  # before: sum 1/p, x/p, y/p of earlier epochs
        means = []
        for epoch, share in enumerate(shares):
            p = share if arm else 1 - share
            m = before[1:] / before[0] if before[0] else np.zeros(2)
            means.append(m)
            now = np.zeros(3)
            for _, a, y, x in (unit for unit in units if unit[0] == epoch):
                sums[epoch] += m + (a == arm) * (np.array([x, y]) - m) / p
                now += (a == arm) / p * np.array([1, x, y])
            before += now
        total = np.array(h) @ sums
        ratio = total[0] / total[1]
        squares = 0.0
        for epoch, a, y, x in units:
            if a == arm:
                p = shares[epoch] if arm else 1 - shares[epoch]
                mx, my = means[epoch]
                squares += (h[epoch] * (x - mx - ratio * (y - my)) / p) ** 2
        expected.append((ratio, squares / total[1] ** 2))
    reading = read(cells, served, "aov")
    pair, error = pair_of(reading)
    assert pair.treatment.figure == pytest.approx(expected[0][0], rel=1e-10)
    assert pair.control.figure == pytest.approx(expected[1][0], rel=1e-10)
    assert error**2 == pytest.approx(expected[0][1] + expected[1][1], rel=1e-9)
    assert sum(part**2 for part in pair.control.influence.values()) == pytest.approx(expected[1][1])
    assert (pair.treatment.method, reading.own["none"].method) == ("aipw", "aipw")  # type: ignore[union-attr]


@pytest.mark.parametrize("metric", ["conversion_rate", "aov"])
def test_increments_add_up_to_the_lift_and_its_variance(metric):
    rng = np.random.default_rng(4)
    cells = [
        cell_of(key, n=n, candidates=KEYS, epoch=epoch, converted=buys, orders=2 * buys, revenue=buys * size)
        for epoch in range(4)
        for key, n in zip(KEYS, (40 + 30 * epoch, 50), strict=True)
        for buys, size in [((rng.random(n) < 0.4).astype(int), rng.integers(1000, 9000, n))]
    ]
    served: Served = {(e, BOTH, ""): {"none": 0.3 + 0.1 * e, "socks": 0.7 - 0.1 * e} for e in range(4)}
    pair, error = pair_of(read(cells, served, metric))
    table = tabulate(cells, metric_definitions(ADAPTIVE)[metric])
    inverse = by_shares(table, shares_by_place(cells, served))
    found = increments(table, inverse, "socks", "none")
    assert [one.place[1] for one in found] == [0, 1, 2, 3]
    weights = np.array([one.weight * one.units for one in found])
    weights /= weights.sum()
    assert weights @ [one.lift for one in found] == pytest.approx(pair.lift_abs, rel=1e-12)
    assert weights**2 @ [one.variance for one in found] == pytest.approx(error**2, rel=1e-12)
    assert increments(table, inverse, "mug", "none") == []


def test_under_thompson_and_drift_it_covers_and_forgotten_weights_do_not():
    """Rates from 10 % to 50 %: coverage of 95 % over 200 runs; planted: every share taken for a half."""
    rng = np.random.default_rng(21)
    held = {"right": 0, "planted": 0}
    for _ in range(200):
        cells, served = epochs_of(rng, DRIFT, None, per_epoch=300, lift=0.05)
        planted: Served = {place: dict.fromkeys(KEYS, 0.5) for place in served}
        for name, shares in (("right", served), ("planted", planted)):
            pair, error = pair_of(read(cells, shares))
            held[name] += abs(pair.lift_abs - 0.05) < 1.96 * error
    low, high = stats.binom(200, 0.95).ppf([0.0005, 0.9995])
    assert low <= held["right"] <= high
    assert held["planted"] < 0.8 * 200


def test_an_epoch_in_which_an_arm_had_no_share_tells_nothing_of_it():
    """Socks were held back in epoch 1, of which everybody converted: the lift is that of epoch 0."""
    rng = np.random.default_rng(1)
    cells, served = epochs_of(rng, np.array([0.3]), [0.5], per_epoch=1000, lift=0.1)
    alone, error = pair_of(read(cells, served))
    cells.append(cell_of("none", n=900, candidates=KEYS, epoch=1, converted=np.ones(900)))
    served[1, BOTH, ""] = {"none": 1.0, "socks": 0.0}
    both, same = pair_of(read(cells, served))
    assert (both.lift_abs, same) == pytest.approx((alone.lift_abs, error))
    served[0, BOTH, ""] = {"none": 1.0, "socks": 0.0}  # as of a history with other propensities
    assert read(cells, served).pairs["socks"] is Reason.NOT_COMPARABLE


def test_what_cannot_be_had_is_null_with_its_reason():
    rng = np.random.default_rng(2)
    cells, served = epochs_of(rng, np.array([0.3, 0.4]), [0.5, 0.6], per_epoch=400, lift=0.0)
    unknown: Served = {(0, BOTH, ""): served[0, BOTH, ""]}
    assert read(cells, unknown).pairs["socks"] is Reason.PROPENSITY_UNKNOWN
    assert read(cells[:1] + cells[2:3], served).pairs["socks"] is Reason.INSUFFICIENT_DATA
    assert read(cells, served, "take_rate").own["none"] is Reason.NO_OFFER
    assert read(cells, served, "aov").own["none"] is Reason.INSUFFICIENT_DATA  # nobody ordered
    none_buys = [cell_of(key, n=50, candidates=KEYS, converted=np.zeros(50)) for key in KEYS]
    assert read(none_buys, served).pairs["socks"] is Reason.INSUFFICIENT_DATA  # no spread
    one_buyer = np.arange(50) == 7
    rare = [cell_of(k, n=50, candidates=KEYS, orders=one_buyer, revenue=one_buyer * 900) for k in KEYS]
    assert read(rare, served, "aov").pairs["socks"] is Reason.INSUFFICIENT_DATA  # denominator near 0


def test_one_pair_alone_is_that_of_the_whole_reading():
    rng = np.random.default_rng(6)
    cells, served = epochs_of(rng, np.array([0.3, 0.4]), [0.5, 0.6], per_epoch=400, lift=0.0)
    table = tabulate(cells, metric_definitions(ADAPTIVE)["conversion_rate"])
    shares = shares_by_place(cells, served)
    assert (
        pair_by_aipw(table, by_shares(table, shares), "socks", "none") == read(cells, served).pairs["socks"]
    )
    assert pair_by_aipw(table, by_shares(table, {}), "socks", "none") is Reason.PROPENSITY_UNKNOWN


def test_segments_with_shares_of_their_own_are_no_one_place():
    cells = [cell_of(key, n=50, candidates=KEYS, segment=segment) for key in KEYS for segment in ("", "vip")]
    half, most = {"none": 0.5, "socks": 0.5}, {"none": 0.2, "socks": 0.8}
    assert shares_by_place(cells, {(0, BOTH, ""): half, (0, BOTH, "vip"): half}) == {(255, 0): half}
    assert shares_by_place(cells, {(0, BOTH, ""): half, (0, BOTH, "vip"): most}) == {}


def check_of(cells: list[Cell], served: Served) -> tuple[str, str, str | None]:
    report = read_out(ADAPTIVE, cells, time_zone="UTC", now=NOW, epoch_shares=served)
    (found,) = [check for check in report.checks if check.name == "methods"]
    return found.state, found.detail, found.remedy


def test_the_report_has_all_three_and_warns_when_they_part():
    """Rates from 10 % to 50 % in both arms under Thompson: no effect, naively a large one."""
    cells, served = epochs_of(np.random.default_rng(8), DRIFT, None, per_epoch=400, lift=0.0)
    report = read_out(ADAPTIVE, cells, time_zone="UTC", now=NOW, epoch_shares=served)
    metric = report.variant("socks").metrics["conversion_rate"]
    assert metric.aipw is not None
    assert metric.naive is not None
    assert metric.aipw.lift_abs.ci_low < 0.0 < metric.aipw.lift_abs.ci_high  # type: ignore[operator]
    assert metric.aipw.method == "aipw"
    assert sum(v.metrics["conversion_rate"].aipw.prob_best for v in report.variants) == pytest.approx(1.0)  # type: ignore
    state, detail, remedy = check_of(cells, served)
    assert state == "warn"
    lift, naive = (f"{100 * one.lift_abs.value:+.2f}" for one in (metric.figures, metric.naive))  # type: ignore
    points = "percentage points"
    assert detail.startswith(
        f"conversion rate of socks: corrected lift {lift} {points}, plain {naive} {points}, "
    )
    assert remedy is not None
    assert remedy.startswith("Decide by the corrected figures")


def test_agreeing_figures_say_so_and_none_is_no_news():
    still = np.full(8, 0.3)
    cells, served = epochs_of(np.random.default_rng(9), still, None, per_epoch=400, lift=0.0)
    assert check_of(cells, served)[0] == "ok"
    assert check_of(cells[:1], served) == ("info", "nothing to compare yet", None)


def test_wrong_propensities_part_aipw_from_the_figures_shown():
    """Units were split 1:1, and the record says 1:9 in half the epochs, at rates of 10 % and 90 %."""
    rates = np.array([0.1, 0.9] * 4)
    cells, served = epochs_of(np.random.default_rng(10), rates, [0.5] * 8, per_epoch=2000, lift=0.0)
    wrong = served | {(e, BOTH, ""): {"none": 0.1, "socks": 0.9} for e in range(0, 8, 2)}
    state, detail, remedy = check_of(cells, wrong)
    assert (state, "AIPW" in detail) == ("warn", True)
    assert remedy is not None
    assert "propensities of its own" in remedy


def test_parting_is_calibrated_where_nothing_drifts():
    """200 runs of Thompson: the naive lift lies one standard error of the difference away (chi-square)."""
    rng = np.random.default_rng(11)
    apart: list[float] = []
    for _ in range(200):
        cells, _ = epochs_of(rng, np.full(10, 0.3), None, per_epoch=300, lift=0.05)
        definition, cohort = metric_definitions(ADAPTIVE)["conversion_rate"], cohort_of(cells)
        both = [read_metric(ADAPTIVE, cohort, definition, by_epoch=flag, seed=1) for flag in (True, False)]
        found = parting(*both, "socks", Method.NAIVE)
        assert found is not None
        apart.append(found)
    low, high = stats.chi2(200).ppf([0.0005, 0.9995])
    assert low < sum(gap * gap for gap in apart) < high


@pytest.mark.parametrize("per_epoch", [397, 400, 1003])
def test_orders_that_are_all_alike_have_no_spread_whatever_rounding_leaves(per_epoch: int) -> None:
    """Every order is of 49.99 with a margin of 29.97, at propensities that are no round numbers."""
    rng = np.random.default_rng(12)
    cells: list[Cell] = []
    served: Served = {}
    for epoch in range(5):
        share = float(rng.uniform(0.15, 0.85))
        served[epoch, BOTH, ""] = {"none": 1 - share, "socks": share}
        sizes = rng.multinomial(per_epoch, [1 - share, share])
        for key, n in zip(KEYS, sizes, strict=True):
            bought = (rng.random(n) < 0.3).astype(np.int64)
            money = {"orders": bought, "revenue": 4999 * bought, "net_revenue": 4999 * bought}
            day = DAY + timedelta(days=epoch)
            cells.append(cell_of(key, n=n, candidates=KEYS, epoch=epoch, day=day, **money))
    definition, cohort = metric_definitions(ADAPTIVE)["aov"], cohort_of(cells)
    stratified = read_metric(ADAPTIVE, cohort, definition, by_epoch=True, seed=1)
    for reading in (read(cells, served, "aov"), stratified):
        for key in KEYS:
            own = reading.own[key]
            assert isinstance(own, Estimate)
            assert own.figure == pytest.approx(4999.0, rel=1e-12)
            assert own.posterior is None
        assert reading.pairs["socks"] is Reason.INSUFFICIENT_DATA

"""Shares that follow outcomes: the naive figures are off, those stratified by epoch are not."""

import math
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from scipy import stats

from experiments.analysis.cohorts import cohort_of
from experiments.analysis.comparison import Pair
from experiments.analysis.metrics import metric_definitions
from experiments.analysis.read_out import read_out
from experiments.analysis.reading import read_metric
from experiments.analysis.strata import by_segment, epoch_strata, tabulate
from experiments.model import PolicyKind
from experiments.statistics import Cell
from tests.experiments.cells import DAY, cell_of, experiment_of

KEYS = ("none", "socks")
ADAPTIVE = experiment_of("socks", policy=PolicyKind.THOMPSON, objective="conversion_rate")
NOW = datetime(2026, 12, 1, tzinfo=UTC)


def thompson_run(rng: np.random.Generator, rates: np.ndarray, *, per_epoch: int, lift: float) -> list[Cell]:
    """A Thompson run of two arms whose common base rate moves by epoch; the true lift is constant."""
    successes, failures = np.ones(2), np.ones(2)
    cells: list[Cell] = []
    for epoch, base in enumerate(rates):
        best = (rng.beta(successes[1], failures[1], 200) > rng.beta(successes[0], failures[0], 200)).mean()
        share = 0.10 + 0.80 * best  # both keep a tenth
        counts = rng.multinomial(per_epoch, [1 - share, share])
        for arm, (key, n) in enumerate(zip(KEYS, counts, strict=True)):
            hits = rng.binomial(n, base + (lift if arm else 0.0))
            successes[arm] += hits
            failures[arm] += n - hits
            day = DAY + timedelta(days=epoch)
            cells.append(
                cell_of(key, n=n, candidates=KEYS, epoch=epoch, day=day, converted=np.arange(n) < hits)
            )
    return cells


DRIFT = np.linspace(0.10, 0.50, 12)


@pytest.mark.parametrize("lift", [0.0, 0.05])
def test_drift_under_thompson_stratified_covers_and_naive_does_not(lift):
    """300 runs, base rate from 10 % to 50 %: coverage of the 95 % interval within its binomial limits.

    An arm that gains share late holds later, better units: the naive lift mistakes that for an effect.
    """
    rng = np.random.default_rng(21)
    definition = metric_definitions(ADAPTIVE)["conversion_rate"]
    covered = {True: 0, False: 0}
    errors: list[float] = []
    for _ in range(300):
        cohort = cohort_of(thompson_run(rng, DRIFT, per_epoch=300, lift=lift))
        for by_epoch in covered:
            pair = read_metric(ADAPTIVE, cohort, definition, by_epoch=by_epoch, seed=1).pairs["socks"]
            assert isinstance(pair, Pair)
            variance = pair.treatment_posterior.variance + pair.control_posterior.variance
            covered[by_epoch] += abs(pair.lift_abs - lift) < 1.96 * math.sqrt(variance)
            if by_epoch:
                errors.append(pair.lift_abs - lift)
    low, high = stats.binom(300, 0.95).ppf([0.0005, 0.9995])
    assert low <= covered[True] <= high
    assert covered[False] < 0.8 * 300
    assert abs(np.mean(errors)) < 5 * np.std(errors) / math.sqrt(300)


def test_strata_close_when_every_compared_arm_has_ten_units_and_the_rest_joins_the_last():
    """Units of (none, socks) by epoch: (20, 4) (20, 5) (20, 1) | (10, 10) | then (5, 9) joins."""
    counts = [(20, 4), (20, 5), (20, 1), (10, 10), (5, 9)]
    cells = [
        cell_of(key, n=n, candidates=KEYS, epoch=epoch)
        for epoch, row in enumerate(counts)
        for key, n in zip(KEYS, row, strict=True)
    ]
    table = tabulate(cells, metric_definitions(ADAPTIVE)["conversion_rate"])
    strata = epoch_strata(table, KEYS)
    assert [[epoch for _, epoch in stratum.places] for stratum in strata] == [[0, 1, 2], [3, 4]]
    assert [stratum.weight for stratum in strata] == pytest.approx([70 / 104, 34 / 104])
    assert [len(stratum.places) for stratum in epoch_strata(table, ("none",))] == [1, 1, 1, 2]


def test_a_run_that_never_fills_a_stratum_is_one():
    cells = [cell_of(key, n=4, candidates=KEYS, epoch=epoch) for epoch in (0, 1) for key in KEYS]
    table = tabulate(cells, metric_definitions(ADAPTIVE)["conversion_rate"])
    assert [len(stratum.places) for stratum in epoch_strata(table, KEYS)] == [2]


def test_the_report_of_an_adaptive_policy_by_hand():
    """Two epochs, shares 1:1 then 1:9; rates 20 % then 60 % in both arms: no effect, naively a large one.

    none: 50 of 100 ... value sum of W_s p_s with W = (200, 1000) / 1200 for both arms: 0.5333.
    """
    counts = {
        ("none", 0): (20, 100),
        ("socks", 0): (20, 100),
        ("none", 1): (60, 100),
        ("socks", 1): (540, 900),
    }
    cells = [
        cell_of(key, n=n, candidates=KEYS, epoch=epoch, converted=np.arange(n) < hits)
        for (key, epoch), (hits, n) in counts.items()
    ]
    report = read_out(ADAPTIVE, cells, time_zone="UTC", now=NOW)
    assert report.matured
    metric = report.variant("socks").metrics["conversion_rate"]
    stratified, naive = metric.figures, metric.naive
    expected = (200 * 0.2 + 1000 * 0.6) / 1200
    assert stratified.value == pytest.approx(expected)
    assert report.variant("none").metrics["conversion_rate"].figures.value == pytest.approx(expected)
    assert stratified.lift_abs.value == pytest.approx(0.0, abs=1e-12)
    assert stratified.prob_beats_control == pytest.approx(0.5)
    assert stratified.method == "stratified normal"
    assert naive is not None
    assert naive.value == pytest.approx(0.56)
    assert naive.prob_beats_control > 0.999
    assert (metric.numerator, metric.denominator) == (560, 1000)


def test_a_late_variant_is_compared_only_with_the_control_of_its_time():
    """`mug` joins in epoch 2, when everyone converts twice as often; its candidate set is its own."""
    experiment = experiment_of("socks", "mug", policy=PolicyKind.THOMPSON, objective="conversion_rate")
    wide = (*KEYS, "mug")
    cells = [
        cell_of(key, n=500, candidates=KEYS, candidate_set=3, epoch=0, converted=np.arange(500) < 50)
        for key in KEYS
    ] + [
        cell_of(key, n=500, candidates=wide, candidate_set=7, epoch=1, converted=np.arange(500) < 100)
        for key in wide
    ]
    definition = metric_definitions(experiment)["conversion_rate"]
    reading = read_metric(experiment, cohort_of(cells), definition, by_epoch=True, seed=3)
    for pair in reading.pairs.values():
        assert isinstance(pair, Pair)
        assert pair.lift_abs == pytest.approx(0.0, abs=1e-12)
    naive = read_metric(experiment, cohort_of(cells), definition, by_epoch=False, seed=3)
    gap = naive.own["mug"].figure - naive.own["none"].figure  # type: ignore[union-attr]
    assert gap == pytest.approx(0.05)  # what pooling would have claimed
    assert reading.ranking is not None
    assert sum(reading.ranking.prob_best.values()) == pytest.approx(1.0)


def test_each_segment_has_a_residual_variance_of_its_own_once_it_has_a_hundred_units():
    """Totals of 0 or 2 a (variance a^2) in equal parts; errors sum_s W_s^2 a_s^2 n_s / (n_s - 1) / n_s."""
    sizes, spread, weight = {"few": 200, "many": 400}, {"few": 100, "many": 10}, {"few": 0.5, "many": 0.5}
    experiment = experiment_of("socks", policy=PolicyKind.SEGMENT)

    def read(least: int) -> float:
        cells = by_segment(
            [
                cell_of(
                    key, n=n // least, candidates=KEYS, segment=segment,
                    margin=2 * spread[segment] * (np.arange(n // least) % 2),
                )
                for segment in sizes
                for key, n in (("socks", sizes[segment]), ("none", 600 - sizes[segment]))
            ]
        )  # fmt: skip
        definition = metric_definitions(experiment)["margin_per_unit"]
        pair = read_metric(experiment, cohort_of(cells), definition, by_epoch=True, seed=1).pairs["socks"]
        assert isinstance(pair, Pair)
        return pair.treatment_posterior.variance

    assert read(1) == pytest.approx(
        sum(weight[s] ** 2 * spread[s] ** 2 / (sizes[s] - 1) for s in sizes), rel=1e-12
    )
    # With 40 and 80 units the two share one: (40 a1^2 + 80 a2^2) / (120 - 2) in either.
    shared = (40 * 100**2 + 80 * 10**2) / 118
    assert read(5) == pytest.approx(0.25 * shared * (1 / 40 + 1 / 80), rel=1e-12)


def test_epochs_of_another_spread_have_a_residual_variance_of_their_own():
    """Totals of 0 or 2 a: a = 1 in 3 epochs of 200 units an arm, then 10; each run needs 300, the rest joins.

    Runs are epochs (0, 1), (2, 3) and 4 with the second; errors sum_s W_s^2 v_run / n_s.
    """
    spreads = [1, 1, 1, 10, 10]
    cells = [
        cell_of(key, n=200, candidates=KEYS, epoch=epoch, margin=2 * a * (np.arange(200) % 2))
        for epoch, a in enumerate(spreads)
        for key in KEYS
    ]
    definition = metric_definitions(ADAPTIVE)["margin_per_unit"]
    pair = read_metric(ADAPTIVE, cohort_of(cells), definition, by_epoch=True, seed=1).pairs["socks"]
    assert isinstance(pair, Pair)
    first, second = 200 * 2 / (400 - 2), 200 * (1 + 100 + 100) / (600 - 3)
    expected = (2 * first + 3 * second) / 25 / 200
    assert pair.treatment_posterior.variance == pytest.approx(expected, rel=1e-12)

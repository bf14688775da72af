"""Candidate sets: who may be compared with whom, and the trap of pooling those who may not."""

import numpy as np
import pytest
from scipy import special, stats

from experiments.analysis.cohorts import cohort_of
from experiments.analysis.comparison import Pair, rank
from experiments.analysis.metrics import metric_definitions
from experiments.analysis.reading import Reason, read_metric
from experiments.analysis.strata import set_strata, tabulate
from experiments.posteriors.compare import difference
from experiments.statistics import Cell
from tests.experiments.cells import cell_of, experiment_of

NARROW, WIDE = 0b011, 0b111


def trap(rng: np.random.Generator, units: int = 20_000) -> list[Cell]:
    """No effect at all; 30 % of visitors cannot be offered `premium`, and convert at 5 % instead of 20 %.

    Shares are equal over the candidates of each visitor, so control and socks hold more of the
    ineligible than premium, which holds none.
    """
    cells: list[Cell] = []
    for mask, keys, share, rate in (
        (WIDE, ("none", "socks", "premium"), 0.7, 0.20),
        (NARROW, ("none", "socks"), 0.3, 0.05),
    ):
        for key in keys:
            n = int(units * share / len(keys))
            converted = rng.binomial(1, rate, n)
            money = converted * rng.integers(1000, 3000, n)
            cells.append(
                cell_of(
                    key,
                    n=n,
                    candidates=keys,
                    candidate_set=mask,
                    converted=converted,
                    orders=converted,
                    revenue=money,
                    margin=money // 2,
                )
            )
    return cells


@pytest.mark.parametrize("key", ["conversion_rate", "margin_per_unit", "revenue_per_unit"])
def test_the_trap_ineligible_visitors_do_not_make_an_effect(key):
    """The standardised lift covers 0; the pooled one (the planted bug) is many errors away from it."""
    experiment = experiment_of("socks", "premium")
    cells = trap(np.random.default_rng(11))
    reading = read_metric(
        experiment, cohort_of(cells), metric_definitions(experiment)[key], by_epoch=False, seed=1
    )
    for variant in ("socks", "premium"):
        pair = reading.pairs[variant]
        assert isinstance(pair, Pair)
        low, high = difference(pair.treatment_posterior, pair.control_posterior).interval(0.95)
        assert low < 0.0 < high
    pooled = [reading.own[arm] for arm in ("premium", "none")]
    low, high = difference(pooled[0].posterior, pooled[1].posterior).interval(0.95)  # type: ignore[union-attr]
    assert low > 0.0, "the naive comparison should have been fooled, or this test proves nothing"


def test_the_trap_keeps_its_coverage_over_many_stores():
    """200 experiments without effect: 95 % intervals cover 0 in a binomial share, the pooled ones never."""
    experiment = experiment_of("socks", "premium")
    definition = metric_definitions(experiment)["conversion_rate"]
    rng = np.random.default_rng(3)
    covered = fooled = 0
    for _ in range(200):
        cells = [_rates(rng, *row) for row in ROWS]
        reading = read_metric(experiment, cohort_of(cells), definition, by_epoch=False, seed=1)
        pair = reading.pairs["premium"]
        assert isinstance(pair, Pair)
        spread = (pair.treatment_posterior.variance + pair.control_posterior.variance) ** 0.5
        gap = pair.treatment_posterior.mean - pair.control_posterior.mean
        covered += abs(gap) < 1.96 * spread
        naive = [reading.own[arm].posterior for arm in ("premium", "none")]  # type: ignore[union-attr]
        fooled += abs(naive[0].mean - naive[1].mean) > 1.96 * (naive[0].variance + naive[1].variance) ** 0.5
    low, high = stats.binom(200, 0.95).ppf([0.0005, 0.9995])
    assert low <= covered <= high
    assert fooled > 195


ROWS = (
    ("none", WIDE, 2300, 0.20),
    ("premium", WIDE, 2300, 0.20),
    ("none", NARROW, 1500, 0.05),
    ("socks", NARROW, 1500, 0.05),
)


def _rates(rng: np.random.Generator, key: str, mask: int, n: int, rate: float) -> Cell:
    keys = ("none", "socks", "premium") if mask == WIDE else ("none", "socks")
    hits = rng.binomial(n, rate)
    return cell_of(key, n=n, candidates=keys, candidate_set=mask, converted=np.arange(n) < hits)


def test_weights_are_the_sets_share_of_all_units_and_common_to_both_arms():
    """Sets of 300 and 100 units in all: 3/4 and 1/4, though the treatment's own mix is 1/5 and 4/5."""
    keys = ("none", "socks")
    cells = [
        cell_of("none", n=280, candidates=keys, candidate_set=1, converted=[1] * 28 + [0] * 252),
        cell_of("socks", n=20, candidates=keys, candidate_set=1, converted=[1] * 4 + [0] * 16),
        cell_of("none", n=20, candidates=keys, candidate_set=2, converted=[1] * 10 + [0] * 10),
        cell_of("socks", n=80, candidates=keys, candidate_set=2, converted=[1] * 48 + [0] * 32),
    ]
    experiment = experiment_of("socks")
    definition = metric_definitions(experiment)["conversion_rate"]
    strata = set_strata(tabulate(cells, definition), keys)
    assert [stratum.weight for stratum in strata] == [0.75, 0.25]
    reading = read_metric(experiment, cohort_of(cells), definition, by_epoch=False, seed=1)
    pair = reading.pairs["socks"]
    assert isinstance(pair, Pair)
    assert pair.lift_abs == pytest.approx((0.75 * 0.2 + 0.25 * 0.6) - (0.75 * 0.1 + 0.25 * 0.5))
    assert reading.own["socks"].figure == pytest.approx(52 / 100)  # type: ignore[union-attr]


def test_sets_without_the_treatment_and_sets_too_small_are_not_compared():
    experiment = experiment_of("socks")
    definition = metric_definitions(experiment)["conversion_rate"]
    cells = [
        cell_of("none", n=50, candidates=("none", "socks"), candidate_set=3, converted=[1] * 50),
        cell_of("socks", n=50, candidates=("none", "socks"), candidate_set=3),
        cell_of("none", n=500, candidates=("none", "mug"), candidate_set=5),
        cell_of("none", n=40, candidates=("none", "socks", "mug"), candidate_set=7),
        cell_of("socks", n=9, candidates=("none", "socks", "mug"), candidate_set=7),
    ]
    table = tabulate(cells, definition)
    assert [stratum.places for stratum in set_strata(table, ("none", "socks"))] == [((3, 0),)]
    alone = tabulate(cells[3:], definition)
    assert [stratum.places for stratum in set_strata(alone, ("none", "socks"))] == [((7, 0),)]


def test_arms_that_share_no_set_are_not_comparable():
    experiment = experiment_of("socks", "mug")
    cells = [
        cell_of("none", n=50, candidates=("none", "mug"), candidate_set=5, converted=[1] * 9 + [0] * 41),
        cell_of("socks", n=50, candidates=("socks", "mug"), candidate_set=6, converted=[1] * 9 + [0] * 41),
    ]
    definition = metric_definitions(experiment)["conversion_rate"]
    reading = read_metric(experiment, cohort_of(cells), definition, by_epoch=False, seed=1)
    assert reading.pairs == {"socks": Reason.NOT_COMPARABLE, "mug": Reason.INSUFFICIENT_DATA}
    assert reading.ranking is None


def test_joint_draws_agree_with_brute_force_over_the_sets():
    """Treatments in different sets share control's units of one: 400,000 draws of each (variant, set).

    Three arms: premium only in the wide set, socks in both. Tolerance: 5 standard errors of the brute
    force and 1e-3 of the scrambled points.
    """
    experiment = experiment_of("socks", "premium")
    counts = {  # (variant, set): converted, units
        ("none", WIDE): (52, 500),
        ("socks", WIDE): (60, 480),
        ("premium", WIDE): (66, 510),
        ("none", NARROW): (30, 700),
        ("socks", NARROW): (36, 650),
    }
    cells = [
        cell_of(
            key,
            n=n,
            candidate_set=mask,
            converted=np.arange(n) < hits,
            candidates=("none", "socks", "premium") if mask == WIDE else ("none", "socks"),
        )
        for (key, mask), (hits, n) in counts.items()
    ]
    definition = metric_definitions(experiment)["conversion_rate"]
    ranking = read_metric(experiment, cohort_of(cells), definition, by_epoch=False, seed=4).ranking
    assert ranking is not None
    rng = np.random.default_rng(8)
    wide, narrow = 1490 / 2840, 1350 / 2840
    draws = {
        place: rng.beta(weight + hits, weight + n - hits, 400_000)
        for place, (hits, n) in counts.items()
        for weight in [1.0 if place[0] == "premium" else (wide if place[1] == WIDE else narrow)]
    }
    # The prior is spread by weight, so control's wide set has a whole one against premium.
    level = rng.random(400_000)
    control_wide = special.betaincinv(1 + 52, 1 + 448, level)
    socks = wide * (draws["socks", WIDE] - special.betaincinv(wide + 52, wide + 448, level))
    socks += narrow * (draws["socks", NARROW] - draws["none", NARROW])
    lifts = np.column_stack([np.zeros(400_000), socks, draws["premium", WIDE] - control_wide])
    best = np.bincount(lifts.argmax(axis=1), minlength=3) / len(lifts)
    for index, key in enumerate(("none", "socks", "premium")):
        error = np.sqrt(best[index] * (1 - best[index]) / len(lifts))
        assert abs(ranking.prob_best[key] - best[index]) < 5 * error + 1e-3
        gaps = lifts.max(axis=1) - lifts[:, index]
        assert abs(ranking.expected_loss[key] - gaps.mean()) < 5 * gaps.std() / len(gaps) ** 0.5 + 5e-5
    independent = np.column_stack([rng.permutation(lifts[:, 1]), lifts[:, 2]])  # control not shared
    wrong = (np.maximum(independent[:, 0], independent[:, 1]) <= 0).mean()
    assert abs(wrong - ranking.prob_best["none"]) > 0.005, "the shared control must matter here"


def test_equal_sets_and_differing_sets_meet_where_they_should():
    """Splitting control's influence unevenly but keeping the posteriors must give the quadrature's answer."""
    experiment = experiment_of("socks", "mug")
    keys = ("none", "socks", "mug")
    cells = [
        cell_of(key, n=900, candidates=keys, converted=np.arange(900) < hits)
        for key, hits in (("none", 90), ("socks", 100), ("mug", 95))
    ]
    definition = metric_definitions(experiment)["conversion_rate"]
    reading = read_metric(experiment, cohort_of(cells), definition, by_epoch=False, seed=4)
    exact = reading.ranking
    assert exact is not None
    pairs = {key: pair for key, pair in reading.pairs.items() if isinstance(pair, Pair)}
    first = pairs["socks"]
    nudged = type(first.control)(
        first.control.figure, first.control.posterior, "", {place: 1.0 for place in first.control.influence}
    )
    other = Pair(first.treatment, nudged, first.treatment_posterior, first.control_posterior)
    drawn = rank(pairs | {"socks": other}, "none", sign=1, seed=9)
    for key in keys:
        assert drawn.prob_best[key] == pytest.approx(exact.prob_best[key], abs=1e-3)
        assert drawn.expected_loss[key] == pytest.approx(exact.expected_loss[key], abs=3e-5)


def test_the_same_seed_gives_the_same_draws():
    experiment = experiment_of("socks", "premium")
    cells = trap(np.random.default_rng(2), 3000)
    definition = metric_definitions(experiment)["conversion_rate"]
    rankings = [
        read_metric(experiment, cohort_of(cells), definition, by_epoch=False, seed=seed).ranking
        for seed in (5, 5, 6)
    ]
    assert rankings[0] == rankings[1]
    assert rankings[0] != rankings[2]

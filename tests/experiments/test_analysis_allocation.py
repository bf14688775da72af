from datetime import UTC, date, datetime, timedelta

import numpy as np
import pytest

from experiments.analysis.objective import allocation_posteriors
from experiments.model import (
    CustomMetric,
    Direction,
    Experiment,
    MetricKind,
    PolicyKind,
    PolicySettings,
    Prior,
)
from experiments.posteriors.beta import Beta
from experiments.posteriors.compare import prob_best
from experiments.statistics import Cell
from tests.experiments.cells import DAY, cell_of, experiment_of

KEYS = ("none", "socks")
LATER = datetime(2026, 12, 1, tzinfo=UTC)


def converting(key: str, hits: int, n: int, **more: object) -> Cell:
    placement = {"candidates": KEYS} | more
    return cell_of(key, n=n, converted=np.arange(n) < hits, **placement)  # type: ignore[arg-type]


def adaptive(**settings: object) -> Experiment:
    defaults: dict[str, object] = {"kind": PolicyKind.THOMPSON, "objective": "conversion_rate"}
    policy = PolicySettings(**(defaults | settings))  # type: ignore[arg-type]
    return experiment_of("socks", settings=policy)


def test_one_set_gives_the_conjugate_posteriors():
    cells = [converting("none", 30, 300), converting("socks", 40, 290)]
    found = allocation_posteriors(adaptive(), cells, KEYS, time_zone="UTC", now=LATER)
    assert found.posteriors == {"none": Beta(31, 271), "socks": Beta(41, 251)}
    assert (found.reason, dict(found.units)) == (None, {"none": 300, "socks": 290})


def test_the_policys_prior_replaces_the_default():
    cells = [converting("none", 30, 300), converting("socks", 40, 290)]
    experiment = adaptive(prior=Prior(alpha=3.0, beta=60.0))
    found = allocation_posteriors(experiment, cells, KEYS, time_zone="UTC", now=LATER)
    assert found.posteriors["socks"] == Beta(43, 310)


def test_only_matured_cohorts_count_under_a_policy_that_learns():
    now = datetime.combine(DAY, datetime.min.time(), tzinfo=UTC) + timedelta(days=9)
    cells = [converting(key, 5, 50, day=day) for key in KEYS for day in (DAY, DAY + timedelta(days=2))]
    learned = allocation_posteriors(adaptive(), cells, KEYS, time_zone="UTC", now=now)
    fixed = allocation_posteriors(adaptive(kind=PolicyKind.FIXED), cells, KEYS, time_zone="UTC", now=now)
    assert learned.units["socks"] == 50
    assert fixed.units["socks"] == 100


def test_discounting_weighs_the_likelihood_by_the_age_of_the_cohort_day():
    """Half-life 4 days; at the end of the newer day + 4 the weights are 1/2 and 1/4, prior untouched."""
    experiment = adaptive(kind=PolicyKind.FIXED, discount_half_life=timedelta(days=4))
    now = datetime(2026, 3, 10, tzinfo=UTC)
    days = (date(2026, 3, 1), date(2026, 3, 5))
    cells = [converting(key, 8, 80, day=day) for key in KEYS for day in days]
    found = allocation_posteriors(experiment, cells, KEYS, time_zone="UTC", now=now)
    assert found.posteriors["none"] == Beta(1 + 8 * 0.75, 1 + 72 * 0.75)
    assert found.units["none"] == 60


def test_a_set_learns_from_every_set_that_contains_it_standardised():
    """For {none, socks} both sets count; for {none, socks, mug} only its own, whoever asks."""
    experiment = experiment_of("socks", "mug", policy=PolicyKind.THOMPSON, objective="conversion_rate")
    wide = (*KEYS, "mug")
    cells = [
        converting("none", 50, 1000, candidate_set=3),
        converting("socks", 50, 1000, candidate_set=3),
        *(converting(key, 40, 200, candidate_set=7, candidates=wide) for key in wide),
    ]
    broad = allocation_posteriors(experiment, cells, wide, time_zone="UTC", now=LATER)
    assert broad.posteriors["socks"] == Beta(41, 161)
    narrow = allocation_posteriors(experiment, cells, KEYS, time_zone="UTC", now=LATER)
    share = 2000 / 2600
    assert narrow.posteriors["socks"].mean == pytest.approx(share * 0.05 + (1 - share) * 0.2, abs=1e-3)
    assert narrow.posteriors["none"] == narrow.posteriors["socks"]


def test_an_arm_gains_nothing_from_the_mix_of_its_sets():
    """The planted trap for the allocator: `mug` never meets the shoppers who hardly convert."""
    experiment = experiment_of("socks", "mug", policy=PolicyKind.THOMPSON, objective="conversion_rate")
    wide = (*KEYS, "mug")
    cells = [converting(key, 75, 1500, candidate_set=3) for key in KEYS]
    cells += [converting(key, 200, 1000, candidate_set=7, candidates=wide) for key in wide]
    found = allocation_posteriors(experiment, cells, wide, time_zone="UTC", now=LATER)
    assert prob_best(list(found.better.values())) == pytest.approx([1 / 3] * 3, abs=1e-6)


@pytest.mark.parametrize(
    ("objective", "feature", "reason"),
    [
        ("margin_per_unit", "unknown_cost_orders", "cost_unknown"),
        ("margin_per_unit", "unconverted_orders", "unconverted"),
        ("aov", "unconverted_orders", "unconverted"),
    ],
)
def test_money_that_cannot_be_told_holds_the_shares(objective, feature, reason):
    rng = np.random.default_rng(1)
    money = rng.integers(0, 5000, 300)
    cells = [
        cell_of(key, n=300, candidates=KEYS, orders=[1] * 300, revenue=money, margin=money, **flag)
        for key, flag in (("none", {}), ("socks", {feature: [1] + [0] * 299}))
    ]
    held = allocation_posteriors(adaptive(objective=objective), cells, KEYS, time_zone="UTC", now=LATER)
    assert (held.reason, held.posteriors) == (reason, {})
    assert held.detail is not None
    assert held.detail.startswith("1 orders")
    free = allocation_posteriors(
        adaptive(objective="conversion_rate"), cells, KEYS, time_zone="UTC", now=LATER
    )
    assert free.reason is None


def test_too_little_data_names_the_arms():
    cells = [converting("none", 3, 30)]
    found = allocation_posteriors(adaptive(), cells, KEYS, time_zone="UTC", now=LATER)
    assert found.reason == "insufficient_data"
    assert found.detail is not None
    assert "socks" in found.detail


def test_the_allocator_uses_capped_totals():
    """One sale of a million moves the raw mean to 5,000 above; the cap at 2,000 leaves 1,010 and 1,000."""
    margins = {"none": [1000] * 100 + [1000] * 100, "socks": [1020] * 199 + [1_000_000]}
    cells = [
        cell_of(
            key,
            n=200,
            candidates=KEYS,
            margin=values,
            margin_capped=np.minimum(values, 2000) + np.arange(200) % 2,
        )
        for key, values in margins.items()
    ]
    found = allocation_posteriors(
        adaptive(objective="margin_per_unit"), cells, KEYS, time_zone="UTC", now=LATER
    )
    assert found.posteriors["socks"].mean == pytest.approx(1025, abs=2)


def test_lower_is_better_turns_the_comparison_round():
    metric = CustomMetric("complaints", MetricKind.PROPORTION, "complaint", direction=Direction.DOWN)
    policy = PolicySettings(kind=PolicyKind.THOMPSON, objective="complaints")
    experiment = experiment_of("socks", settings=policy, metrics=(metric,))
    cells = [
        cell_of(key, n=500, candidates=KEYS, **{"complaints:had": np.arange(500) < hits})
        for key, hits in (("none", 60), ("socks", 20))
    ]
    found = allocation_posteriors(experiment, cells, KEYS, time_zone="UTC", now=LATER)
    assert found.posteriors["socks"] == Beta(21, 481)
    assert prob_best(list(found.better.values()))[1] > 0.999
    cells_of_cancels = [
        cell_of(key, n=500, candidates=KEYS, orders=[1] * 500, cancelled_orders=np.arange(500) < hits)
        for key, hits in (("none", 60), ("socks", 20))
    ]
    ratio = allocation_posteriors(
        adaptive(objective="cancel_rate"), cells_of_cancels, KEYS, time_zone="UTC", now=LATER
    )
    assert prob_best(list(ratio.better.values()))[1] > 0.999

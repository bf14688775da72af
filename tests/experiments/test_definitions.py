"""Sentences of the definitions that no other test pins down, each by a computation of its own."""

from datetime import UTC, date, datetime, timedelta

import numpy as np
import pytest

from experiments.allocation.guarding import Guarded
from experiments.allocation.proposal import propose
from experiments.allocation.published import Cause, PolicyVersion, SetShares
from experiments.analysis.objective import allocation_posteriors
from experiments.analysis.read_out import read_out
from experiments.facts import Enrolment, OrderFact, UnitFacts
from experiments.fold import DAY_US, FoldRules, fold_unit
from experiments.model import Experiment, PolicyKind, PolicySettings
from experiments.posteriors.beta import Beta
from experiments.posteriors.compare import expected_loss, prob_best
from experiments.statistics import Cell, CellKey
from tests.experiments.cells import cell_of, experiment_of

KEYS = ("none", "socks")
WIDE = (*KEYS, "mug")
NOW = datetime(2026, 3, 10, tzinfo=UTC)


def adaptive(*treatments: str, **settings: object) -> Experiment:
    chosen = {"kind": PolicyKind.THOMPSON, "objective": "conversion_rate"} | settings
    policy = PolicySettings(**chosen)  # type: ignore[arg-type]
    return experiment_of(*treatments, settings=policy, attribution_window=timedelta(hours=1))


def converting(key: str, hits: int, n: int, **more: object) -> Cell:
    placement = {"candidates": KEYS} | more
    return cell_of(key, n=n, converted=np.arange(n) < hits, **placement)  # type: ignore[arg-type]


def test_discounting_touches_the_likelihood_and_not_the_weights_of_the_sets():
    """Set 3 is four half-lives older than set 7, of equal size: each still weighs one half.

    socks converts at 10 % in one and 50 % in the other; with weights discounted too the mean would be
    near (10/16 + 50) / (1 + 1/16) = 48 %.
    """
    experiment = adaptive("socks", "mug", discount_half_life=timedelta(days=1))
    old, new = date(2026, 3, 5), date(2026, 3, 9)
    cells = [converting(key, 100, 1000, candidate_set=3, day=old) for key in KEYS]
    cells += [converting(key, 500, 1000, candidate_set=7, day=new, candidates=WIDE) for key in KEYS]
    found = allocation_posteriors(experiment, cells, KEYS, time_zone="UTC", now=NOW + timedelta(hours=2))
    age = 2 / 24
    first, second = (Beta(0.5, 0.5).updated(w * s, w * (1000 - s)) for w, s in weights(age))
    assert found.posteriors["socks"].mean == pytest.approx((first.mean + second.mean) / 2, rel=1e-6)
    variance = (first.variance + second.variance) / 4
    assert found.posteriors["socks"].variance == pytest.approx(variance, rel=1e-6)


def weights(age: float) -> list[tuple[float, int]]:
    return [(2.0 ** -(4 + age), 100), (2.0**-age, 500)]


def last_version(sets: dict[tuple[str, ...], dict[str, float]], **more: object) -> PolicyVersion:
    shares = {keys: SetShares({k: int(v * 2**32) for k, v in of.items()}) for keys, of in sets.items()}
    return PolicyVersion(4, 3, 0, Cause.SHARES_MOVED, "none", shares, **more)  # type: ignore[arg-type]


def held_cells() -> list[Cell]:
    """Enough units for the burn-in, and one order of `socks` whose cost nobody knows."""
    rng = np.random.default_rng(5)
    return [
        cell_of(
            key,
            n=500,
            candidates=WIDE,
            orders=[1] * 500,
            margin=rng.integers(0, 900, 500),
            unknown_cost_orders=[int(key == "socks"), *[0] * 499],
        )
        for key in WIDE
    ]


def test_a_held_allocation_still_obeys_a_throttle():
    experiment = adaptive("socks", "mug", objective="margin_per_unit")
    last = last_version({WIDE: {"none": 0.25, "socks": 0.5, "mug": 0.25}})
    proposal = propose(
        experiment,
        held_cells(),
        frozenset(WIDE),
        [],
        guarded=Guarded(capped={"socks": 0.02}),
        promoted=None,
        last=last,
        time_zone="UTC",
        now=NOW,
    )
    assert proposal.held is not None
    shares = {key: share / 2**32 for key, share in proposal.sets[WIDE].shares.items()}
    assert shares == pytest.approx({"none": 0.73, "socks": 0.02, "mug": 0.25}, abs=1e-9)


def test_a_held_allocation_keeps_its_last_shares_when_a_variant_is_killed():
    """`mug` is gone; the two left keep the proportions they had, not those of the burn-in (0.1 : 0.9)."""
    experiment = adaptive("socks", "mug", objective="margin_per_unit")
    last = last_version({WIDE: {"none": 0.5, "socks": 0.25, "mug": 0.25}})
    proposal = propose(
        experiment,
        held_cells(),
        frozenset(KEYS),
        [],
        guarded=Guarded(),
        promoted=None,
        last=last,
        time_zone="UTC",
        now=NOW,
    )
    assert proposal.held is not None
    shares = {key: share / 2**32 for key, share in proposal.sets[KEYS].shares.items()}
    assert shares == pytest.approx({"none": 2 / 3, "socks": 1 / 3}, abs=1e-9)


def order(order_id: str, at_us: int, **more: object) -> OrderFact:
    given: dict[str, object] = {"currency": "EUR", "amount_minor": 5000, "cost_minor": 2000}
    return OrderFact(order_id, at_us, **(given | more))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("fault", "reason"), [({"cost_minor": None}, "cost_unknown"), ({"currency": "USD"}, "unconverted")]
)
def test_an_order_beyond_the_window_whose_margin_is_unknown_nulls_the_horizons_it_is_in(fault, reason):
    """The window is an hour. The order comes on day 40: within 90 and 180 days, outside 30 and the window."""
    experiment = adaptive("socks")
    rules = FoldRules(experiment, "UTC")
    cells: dict[CellKey, Cell] = {}
    for unit_no in range(60):
        variant = KEYS[unit_no % 2]
        orders = [order(f"a{unit_no}", 1000 + unit_no, cost_minor=2000 + unit_no)]
        if unit_no == 7:
            orders.append(order("late", 40 * DAY_US, **fault))
        facts = UnitFacts((Enrolment(unit_no, 0, 0, variant, "", 3, 1),), orders=tuple(orders))
        (made,) = fold_unit(rules, facts)
        cells.setdefault(made.key, Cell(made.key, frozenset(KEYS))).add_unit(made.vector, made.bins)
    report = read_out(experiment, list(cells.values()), time_zone="UTC", now=NOW)
    metrics = report.variant("socks").metrics
    told = {key: (metrics[key].figures.value is None, metrics[key].figures.reason) for key in metrics}
    assert told["margin_per_unit"] == (False, None)
    assert told["ltv_30d"] == (False, None)
    assert told["ltv_90d"] == told["ltv_180d"] == (True, reason)
    assert report.variant("none").metrics["ltv_90d"].figures.value is not None


def test_counting_open_windows_under_a_policy_that_learns_labels_every_figure():
    days = (date(2026, 3, 2), date(2026, 3, 10))
    cells = [converting(key, 30, 100 + 5 * i, day=day) for i, day in enumerate(days) for key in KEYS]
    opened, closed = (
        read_out(adaptive("socks"), cells, time_zone="UTC", now=NOW, matured=m) for m in (False, None)
    )
    for key in KEYS:
        metric = opened.variant(key).metrics["conversion_rate"]
        assert metric.naive is not None
        for figures in (metric.figures, metric.naive):
            assert figures.method is not None
            assert "open windows" in figures.method
        assert "open windows" not in (closed.variant(key).metrics["conversion_rate"].figures.method or "")
    fixed = read_out(experiment_of("socks"), cells, time_zone="UTC", now=NOW)
    assert fixed.variant("socks").metrics["conversion_rate"].figures.method == "beta"


def test_p_best_and_loss_of_three_betas_by_a_sum_over_a_fine_grid():
    """Trapezoid over 200,001 points, 0.1 * 2000 apart from the rule in use in every respect."""
    arms = [Beta(31, 271), Beta(41, 251), Beta(9, 55)]
    x = np.linspace(0.0, 1.0, 200_001)
    cdfs, pdfs = ([f(x) for f in fs] for fs in ([a.cdf for a in arms], [a.pdf for a in arms]))
    by_grid = [
        np.trapezoid(pdfs[k] * np.prod([c for j, c in enumerate(cdfs) if j != k], axis=0), x)
        for k in range(3)
    ]
    assert prob_best(arms) == pytest.approx(by_grid, abs=1e-8)
    highest = np.trapezoid(1.0 - np.prod(cdfs, axis=0), x)  # E[max] of variables in [0, 1]
    assert expected_loss(arms) == pytest.approx([highest - arm.mean for arm in arms], abs=1e-8)

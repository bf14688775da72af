"""Sums over the propensity: kept exactly, restated exactly, and what they say of all units."""

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from experiments.analysis.aipw import read_shown
from experiments.analysis.cohorts import cohort_of
from experiments.analysis.comparison import Pair
from experiments.analysis.inverse import Inverse, by_context, by_shares, is_kept, shares_by_place
from experiments.analysis.metrics import metric_definitions
from experiments.analysis.read_out import read_out
from experiments.analysis.strata import tabulate
from experiments.facts import CustomFact, Enrolment, OrderFact, Refund, UnitFacts
from experiments.fold import FoldRules, fold_unit
from experiments.model import CustomMetric, Feature, FeatureKind, MetricKind, PolicyKind, PolicySettings
from experiments.statistics import DIVIDED, FIXED_POINT, OVER_P, Cell, Moments, over_propensity
from tests.experiments.cells import cell_of, experiment_of

DEVICE = Feature("device", FeatureKind.CATEGORY, values=("mobile", "desktop"))
BY_CONTEXT = PolicySettings(kind=PolicyKind.CONTEXTUAL, features=(DEVICE,), objective="conversion_rate")
EXPERIMENT = experiment_of("socks", settings=BY_CONTEXT)
NOW = datetime(2026, 12, 1, tzinfo=UTC)
KEYS = ("none", "socks")
QUARTER = 1 << 30

VECTORS = st.dictionaries(
    st.sampled_from(["units", "margin", "units/p", "margin/p"]), st.integers(-(1 << 80), 1 << 80), max_size=4
)


@given(st.lists(st.tuples(VECTORS, st.integers(-3, 3)), max_size=6))
def test_many_at_once_are_one_after_the_other_whatever_is_divided(units: list[tuple[dict[str, int], int]]):
    at_once, in_turn = Moments(), Moments()
    at_once.add_units([vector for vector, _ in units], [weight for _, weight in units])
    for vector, weight in units:
        for _ in range(abs(weight)):
            in_turn.add_unit(vector, 1 if weight > 0 else -1)
    assert at_once == in_turn
    assert not any(
        a.endswith(OVER_P) != b.endswith(OVER_P) for a, b in (n.split("*") for n in at_once.products)
    )


@given(st.integers(-(10**9), 10**9), st.integers(1, 1 << 32))
def test_a_feature_over_its_propensity_is_rounded_to_the_nearest(value: int, share: int):
    """round(2^32 v / p): the error is at most half a unit of 2^-32, whatever the sign."""
    error = over_propensity(value, share) * share - value * FIXED_POINT * FIXED_POINT
    assert -share < 2 * error <= share


def facts_of(*refunds: Refund, share: int = QUARTER) -> UnitFacts:
    enrolment = Enrolment(1, 0, 0, "socks", "", 3, 1, (1,), share)
    order = OrderFact("o", 5, "EUR", 5000, 2000, refunds=refunds)
    return UnitFacts((enrolment,), orders=(order,), customs=(CustomFact("spins", 6, 7 * FIXED_POINT),))


def test_a_unit_counts_four_times_where_it_had_a_quarter_and_a_refund_restates_it():
    """Margin 3000 over 1/4: 12000; less a refund of 1000: 8000; of the old one nothing is left."""
    metric = CustomMetric("spins_value", MetricKind.MEAN, event="spins")
    rules = FoldRules(replace(EXPERIMENT, metrics=(metric,)), "UTC")
    (before,) = fold_unit(rules, facts_of())
    (after,) = fold_unit(rules, facts_of(Refund(1000, 0, 0, 9)))
    assert before.vector["units/p"] == 4 * FIXED_POINT
    assert before.vector["margin/p"] == 12_000 * FIXED_POINT
    assert after.vector["margin/p"] == 8_000 * FIXED_POINT
    assert after.vector["refunded_value/p"] == 4_000 * FIXED_POINT
    assert before.vector["spins_value:sum/p"] == 28 * FIXED_POINT * FIXED_POINT
    moments = Moments()
    for vector, sign in ((before.vector, 1), (after.vector, 1), (before.vector, -1)):
        moments.add_unit(vector, sign)
    alone = Moments()
    alone.add_unit(after.vector)
    assert moments == alone
    assert moments.product("margin/p", "units/p") == 32_000 * FIXED_POINT**2
    assert "margin*units/p" not in moments.products


def test_only_experiments_by_context_keep_them_and_only_where_the_share_is_known():
    plain = FoldRules(experiment_of("socks"), "UTC")
    unknown = facts_of(share=0)
    assert not any(name.endswith(OVER_P) for name in fold_unit(plain, facts_of())[0].vector)
    assert not any(
        name.endswith(OVER_P) for name in fold_unit(FoldRules(EXPERIMENT, "UTC"), unknown)[0].vector
    )


def divided(cell: Cell, share: int) -> Cell:
    """The same cell with what the ledger keeps where every unit had this share; shares divide 2^32."""
    part = (1 << 32) // share
    moments = cell.moments
    sums = {n + OVER_P: v * part * FIXED_POINT for n, v in moments.sums.items() if n in DIVIDED}
    products = {
        f"{a}{OVER_P}*{b}{OVER_P}": value * part * part * FIXED_POINT**2
        for (a, b), value in ((name.split("*"), value) for name, value in moments.products.items())
        if a in DIVIDED and b in DIVIDED
    }
    return replace(cell, moments=Moments(moments.sums | sums, moments.products | products))


def close(a: Inverse, b: Inverse) -> bool:
    return a.sums.keys() == b.sums.keys() and all(
        a.sums[atom] == pytest.approx(b.sums[atom], rel=1e-12) for atom in a.sums
    )


@pytest.mark.parametrize("metric", ["conversion_rate", "margin_per_unit", "aov", "aov_net", "rating_mean"])
def test_of_equal_shares_both_ways_give_the_same_sums(metric: str):
    rng = np.random.default_rng(5)
    cells: list[Cell] = []
    for epoch, share in ((0, 1 << 31), (1, 1 << 30)):
        n = 300
        orders = rng.poisson(0.5, n)
        totals = {
            "orders": orders,
            "converted": orders > 0,
            "revenue": orders * 4000,
            "refunded_value": orders // 2 * 1000,
            "margin": rng.integers(-500, 900, n),
            "ratings": orders > 0,
            "rating_sum": (orders > 0) * rng.integers(0, FIXED_POINT, n),
        }
        cells.append(divided(cell_of("socks", n=n, candidates=KEYS, epoch=epoch, **totals), share))
    definition = metric_definitions(EXPERIMENT)[metric]
    assert is_kept(definition)
    served = {(0, frozenset(KEYS), ""): {"socks": 0.5}, (1, frozenset(KEYS), ""): {"socks": 0.25}}
    table = tabulate(cells, definition)
    assert close(by_context(cells, definition), by_shares(table, shares_by_place(cells, served)))
    assert not is_kept(metric_definitions(EXPERIMENT)["ltv_90d"])
    assert not by_context([cell_of("socks", n=3, candidates=KEYS)], definition).is_known


RATES = np.array([[0.10, 0.30], [0.20, 0.24]])
"""By arm and context, each context half of the shoppers: socks 0.22, none 0.20, a lift of 0.02."""


def by_context_run(rng: np.random.Generator, *, epochs: int = 5, per_epoch: int = 1200) -> list[Cell]:
    """Shares follow outcomes context by context, with a floor of 0.1, and all the ledger keeps of it."""
    wins, losses = np.ones((2, 2)), np.ones((2, 2))  # arm, context
    found: list[Cell] = []
    for epoch in range(epochs):
        draws = rng.beta(wins, losses, (400, 2, 2))
        share = np.round((0.1 + 0.8 * (draws[:, 1] > draws[:, 0]).mean(axis=0)) * (1 << 32)).astype(np.int64)
        context = rng.integers(0, 2, per_epoch)
        arms = (rng.random(per_epoch) * (1 << 32) < share[context]).astype(int)
        bought = rng.random(per_epoch) < RATES[arms, context]
        np.add.at(wins, (arms, context), bought)
        np.add.at(losses, (arms, context), ~bought)
        own = np.where(arms == 1, share[context], (1 << 32) - share[context])
        counts = Counter(zip(arms.tolist(), own.tolist(), bought.tolist(), strict=True))
        for arm, key in enumerate(KEYS):
            kinds = [(p, hit, count) for (one, p, hit), count in counts.items() if one == arm]
            vectors = [
                {name: value for name, value in both.items() if value}
                for p, hit, _ in kinds
                for both in [
                    {"assigned": 1, "units": 1, "converted": int(hit)}
                    | {"units/p": over_propensity(1, p), "converted/p": over_propensity(int(hit), p)}
                ]
            ]
            cell = cell_of(key, n=0, candidates=KEYS, epoch=epoch)
            cell.moments.add_units(vectors, [count for _, _, count in kinds])
            found.append(cell)
    return found


def test_by_context_lifts_are_of_all_shoppers_and_the_plain_ones_are_not_shown():
    """100 runs: the 95 % interval holds 0.02 as often as it should; planted: weights forgotten."""
    rng = np.random.default_rng(31)
    held = {"aipw": 0, "planted": 0}
    definition = metric_definitions(EXPERIMENT)["conversion_rate"]
    for _ in range(100):
        cohort = cohort_of(by_context_run(rng))
        forgot = cohort_of([divided(plain(cell), 1 << 31) for cell in cohort.cells])
        for name, one in (("aipw", cohort), ("planted", forgot)):
            pair = read_shown(EXPERIMENT, one, definition, seed=1).pairs["socks"]
            assert isinstance(pair, Pair)
            variance = pair.treatment_posterior.variance + pair.control_posterior.variance
            held[name] += abs(pair.lift_abs - 0.02) < 1.96 * variance**0.5
    low, high = stats.binom(100, 0.95).ppf([0.0005, 0.9995])
    assert low <= held["aipw"] <= high
    assert held["planted"] < 0.7 * 100


def plain(cell: Cell) -> Cell:
    """The cell without what was divided."""
    sums = {name: value for name, value in cell.moments.sums.items() if OVER_P not in name}
    products = {name: value for name, value in cell.moments.products.items() if OVER_P not in name}
    return replace(cell, moments=Moments(sums, products))


def test_the_report_by_context_compares_by_propensity_alone():
    cells = by_context_run(np.random.default_rng(32))
    report = read_out(EXPERIMENT, cells, time_zone="UTC", now=NOW)
    metric = report.variant("socks").metrics["conversion_rate"]
    assert metric.figures.method == "aipw"
    assert metric.figures.lift_abs.value == pytest.approx(0.02, abs=0.04)
    assert metric.aipw is None  # it is what is shown
    assert metric.naive is not None
    assert (metric.naive.lift_abs.value, metric.naive.reason) == (None, "not_comparable")
    assert report.variant("none").metrics["conversion_rate"].figures.value == pytest.approx(0.2, abs=0.04)
    assert report.variant("socks").metrics["ltv_30d"].figures.lift_abs.reason == "not_comparable"
    assert "methods" not in {check.name for check in report.checks}
    old = read_out(EXPERIMENT, [plain(cell) for cell in cells], time_zone="UTC", now=NOW)
    figures = old.variant("socks").metrics["conversion_rate"].figures
    assert (figures.lift_abs.value, figures.reason) == (None, "not_comparable")

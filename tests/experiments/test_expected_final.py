"""Expected final refunds in shops whose truth is known, and beside them what is planted to be wrong."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import integrate, stats

from experiments.ages import BINS
from experiments.analysis import expected_final, refund_curve
from experiments.analysis.cohorts import Cohorts
from experiments.analysis.delay import Outcomes, delay_fit
from experiments.analysis.expected_final import REFUNDED, ExpectedFinal
from experiments.analysis.metrics import metric_definitions
from experiments.analysis.read_out import read_out
from experiments.analysis.reading import Reading, read_metric
from experiments.analysis.refund_curve import RefundsCome, refunds_come
from experiments.analysis.report import FinalFigures, Report
from experiments.model import PolicyKind
from experiments.statistics import Cell
from tests.experiments.cells import cell_of, experiment_of
from tests.experiments.late_shop import DAY, LateUnits, cells_at, instant, late_units

KEYS = ("none", "socks")
EXPERIMENT = experiment_of("socks")
DEFINITIONS = metric_definitions(EXPERIMENT)
REFUND = {"none": 0.1, "socks": 0.2}


def shop(seed: int, n: int, days: float) -> list[LateUnits]:
    """30 % order within 7 days, a tenth and a fifth of the orders come back after 8 days in the mean."""
    rng = np.random.default_rng(seed)
    return [
        late_units(rng, key, rng.uniform(0, days * DAY, n), rate=0.3, delay=DAY, refund=REFUND[key])
        for key in KEYS
    ]


def rate_within(key: str, horizon_days: float) -> float:
    """P(refund by that age | order), by integration over when the order was placed."""

    def come(order: float) -> float:
        return np.exp(-order) * (1.0 - np.exp(-(horizon_days - order) / 8.0))

    bought = 1.0 - np.exp(-7.0)
    return REFUND[key] * integrate.quad(come, 0.0, min(7.0, horizon_days))[0] / bought


def come_at(cells: list[Cell], now: float) -> RefundsCome:
    found = refunds_come(EXPERIMENT, cells, time_zone="UTC", now=instant(now * DAY))
    assert found is not None
    return found


def finals(
    cells: list[Cell], now: float, come: RefundsCome | None = None, policy: PolicyKind = PolicyKind.FIXED
) -> dict[str, tuple[Reading, dict[str, FinalFigures]]]:
    cohorts = Cohorts(cells, only_matured=False, time_zone="UTC", now=instant(now * DAY))
    cohort = cohorts.of(EXPERIMENT.attribution_window)
    final = ExpectedFinal(cohort, come or come_at(cells, now))
    by_epoch = policy is not PolicyKind.FIXED
    found = {}
    for key in REFUNDED:
        reading = read_metric(
            experiment_of("socks", policy=policy), cohort, DEFINITIONS[key], by_epoch=by_epoch, seed=0
        )
        found[key] = reading, {arm: final.figures(reading, arm, by_epoch=by_epoch) for arm in KEYS}
    return found


def reach(now: float) -> float:
    """The last edge of the curve, in days, that the first day's units have behind them."""
    edges = 37.0 * (np.arange(BINS + 1) / BINS) ** 3
    return float(edges[edges <= now - 1.0 + 1e-9][-1])


def covered(plant: str | None = None, runs: int = 60, n: int = 3000, now: float = 25.0) -> dict[str, int]:
    """How many intervals of the refund rate hold the truth, of both variants, the lift and the change."""
    truth = {key: rate_within(key, reach(now)) for key in KEYS}
    hits = dict.fromkeys((*KEYS, "lift", "change"), 0)
    for seed in range(runs):
        cells = cells_at(shop(seed, n, now - 1.0), now * DAY, KEYS)
        come = come_at(cells, now)
        if plant == "all refunds seen":
            come = replace(come, share={k: (1.0, 0.0 * d) for k, (_, d) in come.share.items()})
        found = finals(cells, now, come)["refund_rate"][1]
        for key in KEYS:
            hits[key] += found[key].ci_low <= truth[key] <= found[key].ci_high
        lift, change = found["socks"].lift_abs, found["socks"].lift_rel
        hits["lift"] += lift.ci_low <= truth["socks"] - truth["none"] <= lift.ci_high
        hits["change"] += change.ci_low <= truth["socks"] / truth["none"] - 1.0 <= change.ci_high
    return hits


def test_intervals_hold_the_refunds_of_the_end():
    hits = covered()
    for key, count in hits.items():
        assert stats.binomtest(count, 60, 0.95).pvalue > 1e-3, (key, count)


@pytest.mark.parametrize("plant", ["all refunds seen", "every cohort taken for an old one"])
def test_what_is_planted_wrong_is_seen(plant, monkeypatch):
    """The second is the plain distribution of the delays so far, which looks too fast."""
    if plant == "every cohort taken for an old one":
        monkeypatch.setattr(refund_curve, "Outcomes", lambda counts, _: Outcomes(counts, BINS))
    hits = covered(plant, runs=20, n=12_000, now=16.0)
    assert stats.binomtest(hits["socks"], 20, 0.95).pvalue < 1e-6


def test_the_curves_uncertainty_is_what_resampling_the_shop_gives():
    """The interval's width against the spread of the figure over 80 shops: sd of a sd of 80 is 8 %."""
    now, found = 25.0, []
    for seed in range(80):
        cells = cells_at(shop(1000 + seed, 1500, 24.0), now * DAY, KEYS)
        cohorts = Cohorts(cells, only_matured=False, time_zone="UTC", now=instant(now * DAY))
        reading = read_metric(
            EXPERIMENT, cohorts.all, DEFINITIONS["revenue_per_unit"], by_epoch=False, seed=0
        )
        one = ExpectedFinal(cohorts.all, come_at(cells, now)).figures(reading, "socks", by_epoch=False)
        found.append((one.value, (one.ci_high - one.ci_low) / 3.92, one.lift_abs.value))
    values, widths, _ = np.array(found).T
    assert values.std(ddof=1) == pytest.approx(widths.mean(), rel=0.32)


def test_of_one_stratum_refunds_in_the_end_are_those_seen_over_the_share_seen():
    cells = cells_at(shop(3, 4000, 24.0), 25 * DAY, KEYS)
    come = come_at(cells, 25.0)
    for key in KEYS:
        mine = [cell for cell in cells if cell.key.variant == key]
        seen = sum(come.of(key, c.key.day)[0] * c.moments.sum("orders") for c in mine)
        orders = sum(c.moments.sum("orders") for c in mine)
        refunded = sum(c.moments.sum("refunded_orders") for c in mine)
        found = finals(cells, 25.0)["refund_rate"][1][key]
        assert found.value == pytest.approx(refunded / seen, rel=1e-12)
        assert found.refunds_seen == pytest.approx(seen / orders, rel=1e-12)
        assert 0.5 < found.refunds_seen < 0.95


def test_once_every_window_has_closed_it_is_the_figure_itself():
    """And its interval the figure's delta method, to the factor n / (n - 1)."""
    cells = cells_at(shop(4, 2000, 24.0), 70 * DAY, KEYS)
    for metric, (reading, found) in finals(cells, 70.0).items():
        own = reading.own["socks"]
        assert found["socks"].value == pytest.approx(own.figure, rel=1e-12), metric
        assert found["socks"].refunds_seen == 1.0
        low, high = own.posterior.ppf(0.025), own.posterior.ppf(0.975)
        assert found["socks"].ci_high - found["socks"].ci_low == pytest.approx(high - low, rel=2e-3), metric


@pytest.mark.parametrize("metric", REFUNDED)
def test_the_gradient_is_that_of_the_figure(metric):
    """Against a step of each of the curves' logarithms by a hundred-thousandth."""
    cells = cells_at(shop(5, 3000, 24.0), 25 * DAY, KEYS)
    come = come_at(cells, 25.0)
    table = finals(cells, 25.0, come)[metric][0].table
    cohort = Cohorts(cells, only_matured=False, time_zone="UTC", now=instant(25 * DAY)).all
    strata = expected_final._own_strata(table, "socks", by_epoch=False)
    refunds = REFUNDED[metric]
    base = ExpectedFinal(cohort, come)._arm(table, refunds, "socks", strata)
    for step in range(0, len(come.variances), 7):
        moved = replace(come, share={k: (q + 1e-5 * d[step], d) for k, (q, d) in come.share.items()})
        other = ExpectedFinal(cohort, moved)._arm(table, refunds, "socks", strata)
        slope = (other.figure - base.figure) / 1e-5
        assert slope == pytest.approx(base.gradient[step], rel=1e-3, abs=1e-7 * abs(base.figure))


def test_a_curves_steps_have_greenwoods_variance():
    """Against resampled multinomial delays, cohorts cut at two ages."""
    rng = np.random.default_rng(6)
    p = np.array([0.0] * 8 + [0.3, 0.2, 0.2, 0.15, 0.15] + [0.0] * 11)
    found, expected = [], []
    for _ in range(400):
        full, cut = rng.multinomial(400, p), rng.multinomial(400, p)
        fit = delay_fit({"a": [Outcomes(full, 24), Outcomes([*cut[:10], *[0] * 14], 10)]})
        found.append(np.log(fit.reached("a")[9]))
        expected.append(fit.log_variances("a")[9:].sum())
    assert np.var(found, ddof=1) == pytest.approx(np.mean(expected), rel=0.3)


def test_variants_that_differ_have_curves_of_their_own_that_rest_on_fewer_outcomes():
    fast, slow = [0] * 5 + [90, 5, 5] + [0] * 16, [0] * 5 + [5, 5, 90] + [0] * 16
    apart = delay_fit({"a": [Outcomes(fast, 24)], "b": [Outcomes(slow, 24)]})
    assert not apart.is_common
    alike = delay_fit({"a": [Outcomes(fast, 24)], "b": [Outcomes(fast, 24)]})
    assert alike.is_common
    assert 100 < apart.sizes[0, 7] < 110 < alike.sizes[0, 7] == 200


def test_a_stratum_is_weighed_as_in_the_figure():
    """Two epochs whose shares differ: with every window closed the stratified figure comes back."""
    rng = np.random.default_rng(7)
    cells = []
    for epoch, (share, refund) in enumerate(((0.5, 0.1), (0.9, 0.3))):
        for key, n in (("socks", int(2000 * share)), ("none", int(2000 * (1 - share)))):
            units = late_units(rng, key, rng.uniform(0, 5 * DAY, n), rate=0.4, delay=DAY, refund=refund)
            cells += [
                replace(cell, key=cell.key._replace(epoch=epoch))
                for cell in cells_at([units], 70 * DAY, KEYS)
            ]
    for metric, (reading, found) in finals(cells, 70.0, policy=PolicyKind.THOMPSON).items():
        pair = reading.pairs["socks"]
        assert found["socks"].value == pytest.approx(reading.own["socks"].figure, rel=1e-12), metric
        assert found["socks"].lift_abs.value == pytest.approx(pair.lift_abs, rel=1e-9), metric


def report(cells: list[Cell], now: float, **more: object) -> Report:
    return read_out(EXPERIMENT, cells, time_zone="UTC", now=instant(now * DAY), **more)  # type: ignore[arg-type]


def test_the_report_has_booked_and_expected_beside_the_figure():
    found = report(cells_at(shop(8, 3000, 24.0), 25 * DAY, KEYS), 25.0).variant("socks").metrics
    revenue = found["revenue_per_unit"]
    assert revenue.booked.value > revenue.figures.value > revenue.expected_final.value
    assert found["refund_rate"].booked is None
    assert found["refund_rate"].expected_final.value > found["refund_rate"].figures.value
    assert found["conversion_rate"].expected_final is None
    rate = found["margin_rate"]
    assert rate.booked.value == pytest.approx(0.6)  # goods at 4,000 of 10,000
    assert 0.6 > rate.figures.value > rate.expected_final.value
    net = revenue.expected_final.value
    assert rate.expected_final.value == pytest.approx(found["margin_per_unit"].expected_final.value / net)
    margin = found["margin_per_unit"]
    assert margin.booked.value - margin.figures.value == pytest.approx(
        revenue.booked.value - revenue.figures.value
    )


def test_when_all_is_final_or_nothing_came_back_there_is_nothing_to_expect():
    late = report(cells_at(shop(8, 1000, 24.0), 70 * DAY, KEYS), 70.0).variant("socks").metrics
    assert late["revenue_per_unit"].expected_final is None
    assert late["revenue_per_unit"].booked is not None
    orders = {"orders": np.ones(50, int), "converted": np.ones(50, int), "revenue": np.full(50, 900)}
    none_back = report([cell_of(key, n=50, candidates=KEYS, **orders) for key in KEYS], 5.0)
    assert none_back.variant("socks").metrics["revenue_per_unit"].expected_final is None
    assert none_back.variant("socks").metrics["revenue_per_unit"].booked is None
    few = report(cells_at(shop(9, 100, 8.0), 9 * DAY, KEYS), 9.0).variant("socks").metrics
    assert few["revenue_per_unit"].expected_final.reason == "insufficient_data"
    alone = report(cells_at(shop(9, 1000, 8.0), 9 * DAY, KEYS), 9.0, metric="conversion_rate")
    assert alone.variant("socks").metrics["conversion_rate"].expected_final is None


def expected(cells: list[Cell], metric: str, key: str = "socks") -> FinalFigures:
    found = report(cells, 25.0).variant(key).metrics[metric].expected_final
    assert found is not None
    return found


def with_more(cells: list[Cell], key: str, **sums: int) -> list[Cell]:
    """The same, one unit of a variant with something more."""
    first = next(place for place, cell in enumerate(cells) if cell.key.variant == key)
    cells[first].moments.add_unit(sums)
    return cells


def test_a_figure_that_cannot_be_had_has_no_end_either():
    cells = cells_at(shop(8, 3000, 24.0), 25 * DAY, KEYS)
    found = expected(with_more(cells, "socks", unknown_cost_orders=1), "margin_per_unit")
    assert (found.value, found.reason, found.lift_abs.reason) == (None, "cost_unknown", "cost_unknown")


def test_a_variant_with_few_refunds_has_none_and_the_others_no_lift_over_it():
    rng = np.random.default_rng(1)
    anchors = rng.uniform(0, 24 * DAY, 3000)
    few, many = (
        late_units(rng, key, anchors, rate=0.3, delay=DAY, refund=refund)
        for key, refund in (("none", 0.005), ("socks", 0.2))
    )
    cells = cells_at([few, many], 25 * DAY, KEYS)
    assert expected(cells, "refund_rate", "none").reason == "insufficient_data"
    found = expected(cells, "refund_rate")
    assert found.value is not None
    assert found.lift_abs.reason == found.lift_rel.reason == "insufficient_data"


def test_variants_never_candidates_together_have_no_lift():
    cells = [
        replace(cell, candidates=frozenset({cell.key.variant}), key=cell.key._replace(candidate_set=number))
        for number, key in enumerate(KEYS)
        for cell in cells_at(shop(8, 3000, 24.0), 25 * DAY, KEYS)
        if cell.key.variant == key
    ]
    found = expected(cells, "refund_rate")
    assert found.value is not None
    assert found.lift_abs.reason == "not_comparable"


def test_no_change_is_told_from_a_control_near_zero():
    """Goods at 9,000 of 10,000 and a tenth refunded at no recovery: margin 0 of control."""
    units = [replace(one, cost=9000) for one in shop(8, 3000, 24.0)]
    found = expected(cells_at(units, 25 * DAY, KEYS), "margin_per_unit")
    assert found.lift_abs.value is not None
    assert found.lift_rel.reason == "control_near_zero"


def test_of_goods_of_which_more_than_all_would_come_back_there_is_no_rate():
    """All came back so far, by a curve that says half of it is still to come."""
    anchors = np.linspace(0, 5 * DAY, 500)
    units = [
        late_units(
            np.random.default_rng(11), key, anchors, rate=0.3, delay=DAY, refund=0.95, refund_delay=DAY
        )
        for key in KEYS
    ]
    cells = cells_at(units, 25 * DAY, KEYS)
    come = come_at(cells, 25.0)
    half = replace(come, share={k: (0.5 * q, d) for k, (q, d) in come.share.items()})
    found = {key: one["socks"] for key, (_, one) in finals(cells, 25.0, half).items()}
    assert found["margin_rate"].reason == "insufficient_data"
    assert found["aov_net"].value < 0.0


def test_one_unit_has_no_spread_however_many_orders_it_sent_back():
    cells = cells_at(shop(8, 3000, 24.0)[:1], 25 * DAY, KEYS)
    alone = cell_of("socks", n=1, candidates=KEYS, orders=[12], refunded_orders=[12], revenue=[120_000])
    assert expected([*cells, alone], "revenue_per_unit").reason == "insufficient_data"


def test_of_a_day_that_begins_now_nothing_has_come():
    cells = cells_at(shop(8, 3000, 24.0), 25 * DAY, KEYS)
    today = cell_of("socks", n=3, candidates=KEYS, day=instant(25 * DAY).date())
    assert come_at([*cells, today], 25.0).of("socks", today.key.day)[0] == 0.0
    assert 0.5 < come_at([*cells, today], 25.0).of("socks", cells[10].key.day)[0] < 1.0


def category_shop(slow: float) -> list[LateUnits]:
    """Shoes come back after two days in the mean, shirts after so many."""
    rng = np.random.default_rng(10)
    return [
        late_units(
            rng,
            key,
            rng.uniform(0, 24 * DAY, 6000),
            rate=0.3,
            delay=DAY / 4,
            refund=0.3,
            refund_delay=delay * DAY,
        )
        for key, delay in zip(KEYS, (2.0, slow), strict=True)
    ]


@pytest.mark.parametrize(("slow", "is_common"), [(2.0, True), (8.0, False)])
def test_offers_of_a_category_have_its_curve_and_alike_categories_one(slow, is_common):
    none, socks = EXPERIMENT.variants
    shirts = replace(socks, offer=replace(socks.offer, category="shirts"))
    experiment = replace(EXPERIMENT, variants=(none, shirts))
    cells = cells_at(category_shop(slow), 25 * DAY, KEYS)
    come = refunds_come(experiment, cells, time_zone="UTC", now=instant(25 * DAY))
    assert come is not None
    day = cells[20].key.day
    shares = [come.of(key, day)[0] for key in KEYS]
    if is_common:
        assert shares[0] == pytest.approx(shares[1], abs=0.02)
    else:
        assert shares[1] < shares[0] - 0.2
        alike = [come_at(cells, 25.0).of(key, day)[0] for key in KEYS]  # without categories one curve
        assert shares[1] < alike[0] == alike[1] < shares[0]

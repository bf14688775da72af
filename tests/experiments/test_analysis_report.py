"""The whole report: reasons for nulls, selections, winsorised and naive figures, the wire's JSON."""

import json
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import numpy as np
import pytest

from experiments.analysis.guardrails import GuardrailState
from experiments.analysis.read_out import read_out
from experiments.analysis.report import Report, to_wire
from experiments.analysis.wording import Language, money
from experiments.metric_keys import METRIC_KEYS
from experiments.model import (
    Anchor,
    Experiment,
    Guardrail,
    Offer,
    OfferKind,
    PolicyKind,
    PolicySettings,
    Prior,
    Variant,
)
from experiments.statistics import Cell
from tests.experiments.cells import DAY, cell_of, experiment_of

KEYS = ("none", "socks")
NOW = datetime(2026, 12, 1, tzinfo=UTC)
GUARDED = experiment_of(
    "socks",
    guardrails=(Guardrail("conversion_rate", 0.01, 0.02, 0.04), Guardrail("refund_rate", 0.1, 0.2, 0.4)),
)


def shop(
    rng: np.random.Generator,
    key: str,
    *,
    n: int = 4000,
    rate: float = 0.3,
    price: float = 3000,
    refund: float = 0.05,
    **more: object,
) -> Cell:
    """Units that order with a probability, at a price around its mean, and sometimes send it back."""
    bought = rng.binomial(1, rate, n)
    revenue = bought * rng.gamma(4.0, price / 4.0, n).astype(int)
    returned = bought * rng.binomial(1, refund, n)
    refunded = returned * revenue
    exposed = rng.binomial(1, 0.9, n)
    took = 0 if key == "none" else exposed * rng.binomial(1, 0.2, n)
    features: dict[str, object] = {
        "converted": bought,
        "orders": bought,
        "revenue": revenue,
        "refunded_value": refunded,
        "refunded_orders": returned,
        "margin": (revenue - refunded) // 2,
        "exposed": exposed,
        "took": took + np.zeros(n, dtype=int),
        "clicked": took + np.zeros(n, dtype=int),
        "carts": np.ones(n, dtype=int),
        "abandoned": 1 - bought,
    }
    return cell_of(key, n=n, candidates=KEYS, **(features | more))  # type: ignore[arg-type]


def read(cells: list[Cell], experiment: Experiment = GUARDED, **more: object) -> Report:
    return read_out(experiment, cells, time_zone="UTC", now=NOW, **more)  # type: ignore[arg-type]


def two(seed: int = 1, control: dict[str, object] | None = None, **treatment: object) -> list[Cell]:
    rng = np.random.default_rng(seed)
    return [shop(rng, "none", **(control or {})), shop(rng, "socks", **treatment)]  # type: ignore[arg-type]


def test_the_figures_of_a_plain_experiment_are_the_sample_figures():
    cells = two()
    report = read(cells)
    for cell, variant in zip(cells, report.variants, strict=True):
        moments = cell.moments
        metrics = variant.metrics
        assert tuple(metrics) == METRIC_KEYS
        assert metrics["aov"].figures.value == moments.sum("revenue") / moments.sum("orders")
        assert metrics["margin_per_unit"].figures.value == moments.sum("margin") / 4000
        assert (metrics["aov"].numerator, metrics["aov"].denominator) == (
            moments.sum("revenue"),
            moments.sum("orders"),
        )
        for key in ("aov", "conversion_rate", "margin_per_unit", "refund_rate", "refund_value_rate"):
            figures = metrics[key].figures
            assert figures.ci_low < figures.value < figures.ci_high, key
            assert (metrics[key].naive, metrics[key].winsorised) == (None, None)
    socks = report.variant("socks").metrics["conversion_rate"].figures
    none = report.variant("none").metrics["conversion_rate"].figures
    assert socks.lift_abs.value == pytest.approx(socks.value - none.value)
    assert socks.lift_rel.value == pytest.approx(socks.value / none.value - 1)
    assert socks.prob_best + none.prob_best == pytest.approx(1.0)
    assert socks.prob_best == pytest.approx(socks.prob_beats_control)
    assert none.lift_abs.reason == "is_control"


def test_alike_variants_make_no_difference_once_there_are_units_enough():
    """0.3 % apart at a conversion of 30 %: a million units each know that to 0.42 %, and the rope is 1 %."""
    conversion = replace(GUARDED, policy=PolicySettings(objective="conversion_rate"))
    cells = [bought("none", 300_000, 10**6), bought("socks", 299_100, 10**6)]
    verdict = read(cells, experiment=conversion).verdict
    assert (verdict.variant, verdict.kind) == ("socks", "no_difference")
    assert verdict.sentence.startswith("socks makes no difference that matters: ")


def bought(key: str, buyers: int, n: int) -> Cell:
    cell = cell_of(key, n=0, candidates=KEYS)
    cell.moments.add_units(
        [{"assigned": 1, "units": 1, "converted": 1, "orders": 1}, {"assigned": 1, "units": 1}],
        [buyers, n - buyers],
    )
    return cell


def test_a_variant_that_is_not_in_it_is_a_key_error():
    with pytest.raises(KeyError, match="boots"):
        read(two()).variant("boots")
    with pytest.raises(KeyError, match="boots"):
        GUARDED.variant("boots")


@pytest.mark.parametrize(
    ("window", "written"),
    [
        (timedelta(days=7), "7d"),
        (timedelta(hours=36), "36h"),
        (timedelta(minutes=90), "5400s"),
        (timedelta(seconds=90), "90s"),
    ],
)
def test_a_window_is_written_in_the_largest_unit_that_divides_it(window: timedelta, written: str):
    report = read(two(), experiment=replace(GUARDED, attribution_window=window))
    assert to_wire(report)["window"] == written


def test_a_lower_refund_rate_is_the_better_one():
    report = read(two(refund=0.30))
    figures = report.variant("socks").metrics["refund_rate"].figures
    assert figures.lift_abs.value > 0
    assert figures.prob_beats_control < 1e-6
    assert report.variant("none").metrics["refund_rate"].figures.prob_best > 1 - 1e-6
    assert figures.expected_loss == pytest.approx(figures.lift_abs.value, rel=0.01)


def test_a_control_without_offer_has_no_take_rate_and_no_lift_against_it():
    report = read(two())
    none, socks = (report.variant(key).metrics["take_rate"].figures for key in KEYS)
    assert (none.value, none.reason) == (None, "no_offer")
    assert socks.value == pytest.approx(0.2, abs=0.03)
    assert socks.ci_low is not None
    assert (socks.lift_abs.value, socks.lift_abs.reason, socks.prob_best) == (None, "no_offer", None)


def test_unknown_costs_and_rates_null_what_needs_them_and_only_that():
    flags = np.zeros(4000, dtype=int)
    flags[:3] = 1
    costless = read(two(unknown_cost_orders=flags))
    socks = costless.variant("socks").metrics
    assert (socks["margin_per_unit"].figures.value, socks["margin_per_unit"].figures.reason) == (
        None,
        "cost_unknown",
    )
    assert costless.variant("none").metrics["margin_per_unit"].figures.value is not None
    assert socks["revenue_per_unit"].figures.value is not None
    assert socks["conversion_rate"].figures.lift_abs.value is not None
    assert {c.name: c.state for c in costless.checks}["cost_unknown"] == "warn"
    foreign = read(two(unconverted_orders=flags)).variant("socks").metrics
    assert foreign["aov"].figures.reason == "unconverted"
    assert foreign["conversion_rate"].figures.reason is None


def test_with_anchor_exposure_a_silent_control_has_nothing_to_compare_with():
    rng = np.random.default_rng(1)
    silent = cell_of("none", n=50, candidates=KEYS, units=[0] * 50)
    experiment = experiment_of("socks", anchor=Anchor.EXPOSURE)
    report = read([silent, shop(rng, "socks")], experiment)
    figures = report.variant("socks").metrics["conversion_rate"].figures
    assert figures.value is not None
    assert (figures.lift_abs.value, figures.lift_abs.reason) == (None, "no_control_exposure")
    assert report.verdict.kind == "insufficient_data"
    assert report.verdict.reason == "no_control_exposure"


def test_a_control_that_is_an_offer_must_report_its_exposures():
    offer = Offer(OfferKind.UPSELL, sku="A")
    variants = (Variant("none", offer, is_control=True), Variant("socks", offer))
    experiment = Experiment(key="x", touchpoint="cart", currency="EUR", variants=variants)
    silent = read(two(control={"exposed": np.zeros(4000, dtype=int)}), experiment)
    assert silent.variant("socks").metrics["take_rate"].figures.reason == "no_control_exposure"
    seen = read(two(), experiment)
    assert seen.variant("socks").metrics["take_rate"].figures.lift_abs.value is not None


def test_no_data_at_all_is_a_report_of_nulls():
    report = read([])
    assert (report.units_assigned, report.days, report.value_remaining) == (0, (), None)
    assert {f.figures.reason for v in report.variants for k, f in v.metrics.items() if k != "take_rate"} >= {
        "insufficient_data"
    }
    assert all(f.figures.value is None for v in report.variants for f in v.metrics.values())
    assert report.verdict.kind == "insufficient_data"
    assert {g.state for g in report.guardrails} == {"unknown"}
    json.dumps(to_wire(report), allow_nan=False)


def test_a_handful_of_units_gives_figures_without_crashing():
    rng = np.random.default_rng(3)
    for n in (1, 2, 3, 5, 12):
        report = read([shop(rng, key, n=n) for key in KEYS])
        json.dumps(to_wire(report), allow_nan=False)
        assert report.variant("none").metrics["conversion_rate"].figures.value is not None


def test_matured_cohorts_only_unless_the_policy_is_fixed():
    rng = np.random.default_rng(1)
    old = [shop(rng, key, n=500) for key in KEYS]
    young = [shop(rng, key, n=300, day=date(2026, 11, 29)) for key in KEYS]
    everything = read(old + young)
    closed = read(old + young, matured=True)
    assert everything.variant("socks").metrics["conversion_rate"].denominator == 800
    assert closed.variant("socks").metrics["conversion_rate"].denominator == 500
    assert (everything.matured, closed.matured) == (False, True)
    assert closed.units_assigned == 1600
    learner = experiment_of("socks", policy=PolicyKind.THOMPSON)
    assert read(old + young, learner).variant("socks").metrics["conversion_rate"].denominator == 500
    detail = next(check.detail for check in closed.checks if check.name == "maturity")
    assert "1000 of 1600" in detail


def test_ltv_waits_for_its_own_horizon():
    """On day 60 a cohort of 100 days ago has its 90-day figure, one of 40 days ago only its 30-day one."""
    rng = np.random.default_rng(1)
    days = (date(2026, 8, 23), date(2026, 10, 22))
    cells = [shop(rng, key, n=100, day=day) for key in KEYS for day in days]
    metrics = read(cells, matured=True).variant("socks").metrics
    sizes = [metrics[key].denominator for key in ("ltv_30d", "ltv_90d", "ltv_180d")]
    assert sizes == [200, 100, 0]


def test_segments_days_and_one_metric_are_selected():
    rng = np.random.default_rng(1)
    cells = [
        shop(rng, key, n=10, segment=segment, day=DAY + timedelta(days=offset))
        for key in KEYS
        for segment in ("new", "loyal")
        for offset in range(3)
    ]
    report = read(cells, segment="new", from_day=DAY + timedelta(days=1), metric="aov")
    assert report.units_assigned == 40
    assert [(d.day, d.variant) for d in report.days] == [
        (DAY + timedelta(days=offset), key) for offset in (1, 2) for key in KEYS
    ]
    assert tuple(report.variant("socks").metrics) == ("aov",)
    with pytest.raises(KeyError):
        read(cells, metric="nonsense")


def test_winsorised_figures_stand_beside_the_plain_ones():
    cells = two()
    margin = np.full(4000, 500)
    margin[0] = 10_000_000
    capped = np.minimum(margin, 2000)
    cells[1] = shop(np.random.default_rng(4), "socks", margin=margin, margin_capped=capped)
    metric = read(cells).variant("socks").metrics["margin_per_unit"]
    assert metric.figures.value == pytest.approx(margin.mean())
    assert metric.winsorised is not None
    assert metric.winsorised.value == pytest.approx(capped.mean())
    assert metric.winsorised.ci_high < 600 < metric.figures.value
    assert metric.numerator == margin.sum()


def test_priors_of_the_document_move_the_interval_not_the_value():
    policy = PolicySettings(objective="conversion_rate", prior=Prior(alpha=10.0, beta=90.0))
    informed = (
        read(two(), experiment_of("socks", settings=policy)).variant("socks").metrics["conversion_rate"]
    )
    plain = read(two()).variant("socks").metrics["conversion_rate"]
    assert informed.figures.value == plain.figures.value
    assert informed.figures.ci_high < plain.figures.ci_high


def test_verdicts_from_end_to_end():
    toxic = read(two(rate=0.24, price=4200, refund=0.20)).verdict
    assert (toxic.variant, toxic.kind, toxic.reason) == ("socks", "toxic", "aov_up_guardrail_broken")
    assert "conversion rate" in toxic.sentence
    healthy = read(two(rate=0.36, price=3400, refund=0.03)).verdict
    assert healthy.kind == "healthy"
    assert "more a week" in healthy.sentence
    assert "margin per visitor" in healthy.sentence
    harmful = read(two(rate=0.24)).verdict
    assert harmful.kind == "harmful"
    assert read(two()).verdict.kind in {"insufficient_data", "promising"}
    assert healthy.sentence == healthy.sentences["en"]
    assert healthy.sentences.keys() == {"en", "it", "ro"}


def test_the_week_is_what_all_of_a_weeks_units_would_bring():
    """8,000 units on one day are 56,000 a week."""
    report = read(two(rate=0.36, price=3400, refund=0.03))
    lift = report.variant("socks").metrics["margin_per_unit"].figures.lift_abs
    assert report.value_remaining is not None
    weekly = [56_000 * end for end in (lift.value, lift.ci_low, lift.ci_high)]
    most, low, high = (money(end, "EUR", Language.EN, signed=k > 0) for k, end in enumerate(weekly))
    assert report.verdict.sentence.endswith(f"about {most} more a week ({low} to {high}).")
    assert report.value_remaining.units_per_week == 56_000


def test_revenue_up_and_margin_down_is_said_and_a_conversion_goal_still_tells_money():
    conversion = replace(GUARDED, policy=PolicySettings(objective="conversion_rate"))
    none = np.zeros(4000, dtype=int)
    dear = read(two(price=4200, margin=none), experiment=conversion).verdict
    assert "Mind gross against net: revenue per visitor rises" in dear.sentence
    assert "but margin per visitor falls" in dear.sentence
    assert "less a week" in dear.sentence
    assert "Mind gross" not in read(two(price=4200), experiment=conversion).verdict.sentence
    three = np.arange(4000) < 3
    unknown = read(two(price=4200, unknown_cost_orders=three), experiment=conversion).verdict.sentence
    assert "more a week" in unknown  # the cost of three orders is unknown: revenue is told instead
    assert "Mind gross" not in unknown
    lost = read(
        two(price=4200, unknown_cost_orders=three, unconverted_orders=three), experiment=conversion
    ).verdict.sentence
    assert "a week" not in lost


def test_the_verdict_is_of_the_treatment_with_the_highest_prob_best_and_each_has_its_own():
    experiment = experiment_of("bad", "good")
    rng = np.random.default_rng(5)
    keys = ("none", "bad", "good")
    cells = [_of(rng, key, rate, keys) for key, rate in (("none", 0.30), ("bad", 0.20), ("good", 0.38))]
    report = read(cells, experiment)
    assert report.verdict.variant == "good"
    kinds = {v.key: v.verdict.kind for v in report.variants if v.verdict}
    assert kinds == {"bad": "harmful", "good": "healthy"}


def _of(rng: np.random.Generator, key: str, rate: float, keys: tuple[str, ...]) -> Cell:
    cell = shop(rng, key, rate=rate)
    return Cell(cell.key, frozenset(keys), cell.moments)


def test_guardrail_states_on_record_are_kept_by_hysteresis():
    cells = two(seed=9, rate=0.295)
    fresh = {(g.metric, g.variant): g for g in read(cells).guardrails}["conversion_rate", "socks"]
    assert fresh.prob_breach is not None
    states = {("conversion_rate", "socks"): GuardrailState.KILL}
    kept = {(g.metric, g.variant): g for g in read(cells, states=states).guardrails}
    assert kept["conversion_rate", "socks"].state == "kill"
    assert len(kept) == 2

"""The named scenarios: sound experiments, and truths that have what their claims rest on."""

from dataclasses import replace

import numpy as np
import pytest

from experiments.document import parse_document, to_document
from sim.worlds.customers import visitors
from sim.worlds.document import from_json, to_json
from sim.worlds.scenario import Scenario
from sim.worlds.scenarios import NAMES, scenario, scenarios
from sim.worlds.truth import VariantTruth, true_lifts, truth_of_period


def of(one: Scenario, *, day: int | None = None, segment: str | None = None) -> dict[str, VariantTruth]:
    """The truth of the whole run, or of a day, in the experiment's own window."""
    days = range(one.days) if day is None else [day]
    return truth_of_period(one.world, days, segment=segment, window=one.experiment.attribution_window)


def lift(values: dict[str, VariantTruth], variant: str, metric: str = "margin_per_unit") -> float:
    found = true_lifts(values, next(iter(values)), metric)[variant].relative
    assert found is not None
    return found


@pytest.mark.parametrize("name", NAMES)
def test_a_scenario_is_what_the_service_and_a_file_can_take(name: str) -> None:
    one = scenario(name)
    assert one.key == name == one.experiment.key
    assert parse_document(to_document(one.experiment)) == one.experiment
    assert from_json(to_json(one.world)) == one.world
    assert one.claim.endswith(".")
    assert one.claim.count(". ") == 0, "a claim is one sentence"
    assert one.ground_truth.endswith(".")
    assert one.experiment.control.key == one.world.effects[0].variant
    assert set(one.arrives) < {effect.variant for effect in one.world.effects}


def test_the_list_has_every_scenario_once() -> None:
    found = scenarios()
    assert tuple(found) == NAMES
    assert len(set(NAMES)) == 14
    with pytest.raises(KeyError):
        scenario("nothing_of_the_kind")


def test_the_year_has_an_offer_for_everybody_and_one_that_harms() -> None:
    one = scenario("whole_year")
    loyal, new = (of(one, day=5, segment=segment) for segment in ("loyal", "new"))
    assert lift(loyal, "trail-kit") > 0.2 > 0 > lift(new, "trail-kit")
    assert lift(of(one), "pro-shoe") < -0.15
    first, last = (of(one, day=day) for day in (one.arrives["game"], one.days - 1))
    assert lift(first, "game") > lift(first, "socks") > 0.06
    assert lift(last, "game") < 0


def test_healthy_socks_earn_more_and_hurt_nothing() -> None:
    values = of(scenario("healthy"))
    assert 0.06 < lift(values, "socks") < 0.11
    assert abs(lift(values, "care-kit")) < 0.015
    for variant in ("socks", "care-kit"):
        assert lift(values, variant, "conversion_rate") > -0.015
        assert lift(values, variant, "refund_rate") < 0.01


def test_the_toxic_upsell_raises_the_order_value_and_lowers_all_else() -> None:
    values = of(scenario("toxic_upsell"))
    assert lift(values, "pro-shoe", "aov") > 0.05
    assert lift(values, "pro-shoe", "conversion_rate") < -0.12
    assert lift(values, "pro-shoe", "refund_rate") > 1.0
    assert lift(values, "pro-shoe", "ltv_90d") < -0.1
    assert lift(values, "pro-shoe") < -0.1
    assert lift(values, "socks") > 0.05


def test_the_trap_has_the_most_revenue_and_the_least_margin() -> None:
    values = of(scenario("revenue_trap"))
    revenue = {key: value["revenue_per_unit"] for key, value in values.items()}
    margin = {key: value["margin_per_unit"] for key, value in values.items()}
    assert max(revenue, key=revenue.__getitem__) == "discount-bundle"
    assert min(margin, key=margin.__getitem__) == "discount-bundle"
    assert lift(values, "discount-bundle", "revenue_per_unit") > 0.05
    assert lift(values, "discount-bundle") < -0.04
    assert revenue["discount-bundle"] > 1.03 * revenue["socks"]


def test_what_is_new_wears_off_until_it_does_harm() -> None:
    one = scenario("novelty_fades")
    lifts = [lift(of(one, day=day), "game") for day in range(one.days)]
    assert lifts[0] > 0.1
    assert min(lifts[:21]) > 0.0
    assert max(lifts[-21:]) < -0.02
    assert all(a >= b for a, b in zip(lifts, lifts[7:], strict=False))


def test_the_downsell_saves_the_sales_of_the_price_sensitive_alone() -> None:
    one = scenario("price_sensitive_downsell")
    segment = {key: lift(of(one, segment=key), "lite-shoe") for key in ("new", "loyal", "price_sensitive")}
    assert segment["price_sensitive"] > 0.2
    assert segment["new"] < -0.03
    assert segment["loyal"] < -0.05
    assert lift(of(one), "lite-shoe", "aov") < 0
    assert best_by_segment(one) > 1.04 * best_for_all(one)


def test_black_friday_is_another_world_with_the_same_best_variant() -> None:
    one = scenario("black_friday")
    usual, then = of(one, day=18), of(one, day=25)
    assert one.world.season.shocks[0].from_day == 25
    assert (one.world.start.toordinal() + 25) % 7 == 5, "a Friday"
    assert visitors(one.world, 25) == pytest.approx(4 * visitors(one.world, 18))
    assert then["none"]["conversion_rate"] > 1.2 * usual["none"]["conversion_rate"]
    assert then["none"]["aov"] < 0.85 * usual["none"]["aov"]
    for values in (usual, then, of(one)):
        assert 0.06 < lift(values, "socks") < 0.1
        assert 0.01 < lift(values, "belt") < 0.05


def test_the_watch_leads_until_its_refunds_are_in() -> None:
    one = scenario("late_refunds")
    gross = before_refunds(one)
    assert gross["watch"] > 1.06 * gross["none"]
    assert gross["watch"] > 1.02 * gross["socks"]
    assert lift(of(one), "watch") < -0.05
    assert lift(of(one), "socks") > 0.03
    assert one.world.delays.refund.edges_s[0] > one.experiment.attribution_window.total_seconds()


def test_nothing_differs_in_an_a_a_test() -> None:
    values = of(scenario("a_a"))
    first = values["socks-a"].metrics
    for value in values.values():
        assert value.metrics == pytest.approx(first, rel=1e-12)


def test_the_hundred_arms_are_spread_and_few_are_near_the_best() -> None:
    one = scenario("cold_start_100_arms")
    values = of(one)
    assert len(values) == 100
    lifts = np.sort([lift(values, key) for key in values if key != "none"])
    assert lifts[0] < -0.03
    assert 0.15 < lifts[-1] < 0.25
    assert (lifts > 0.8 * lifts[-1]).sum() < 15
    assert lifts.mean() < 0.3 * lifts[-1]
    by_name = [lift(values, key) for key in sorted(values) if key != "none"]
    assert abs(np.corrcoef(by_name, np.arange(99))[0, 1]) < 0.2, "the number must not tell the quality"


def test_the_kit_has_opposite_signs_by_segment_and_none_on_average() -> None:
    one = scenario("segment_flip")
    assert lift(of(one, segment="loyal"), "trail-kit") > 0.05
    assert lift(of(one, segment="new"), "trail-kit") < -0.05
    assert lift(of(one, segment="price_sensitive"), "trail-kit") < -0.05
    assert abs(lift(of(one), "trail-kit")) < 0.005
    assert best_by_segment(one) > 1.03 * best_for_all(one)


def test_bots_change_rates_and_no_relative_lift() -> None:
    dirty, clean = of(scenario("bots_and_duplicates")), of(scenario("healthy"))
    for variant in ("socks", "care-kit"):
        assert lift(dirty, variant) == pytest.approx(lift(clean, variant))
        assert dirty[variant]["conversion_rate"] == pytest.approx(0.85 * clean[variant]["conversion_rate"])
        assert dirty[variant]["click_through_rate"] > 1.1 * clean[variant]["click_through_rate"]


def test_the_wall_sells_more_and_earns_less() -> None:
    values = of(scenario("fatigue"))
    assert values["wall"]["take_rate"] > 1.1 * values["one-offer"]["take_rate"]
    assert values["wall"]["aov"] > values["one-offer"]["aov"] > values["none"]["aov"]
    assert lift(values, "wall") < -0.03
    assert lift(values, "one-offer") > 0.03


def test_the_newcomer_beats_the_leader_it_finds() -> None:
    one = scenario("newcomer")
    assert one.arrives == {"insoles": 21}
    assert lift(of(one), "insoles") > lift(of(one), "socks") + 0.05
    assert one.experiment.policy.ramp is not None


def test_the_document_of_a_scenario_must_offer_what_its_world_does() -> None:
    one = scenario("healthy")
    other = scenario("revenue_trap")
    with pytest.raises(ValueError, match=r"experiment\.variants"):
        Scenario(one.key, one.title, one.claim, one.ground_truth, one.world, other.experiment, 10)
    with pytest.raises(ValueError, match="days"):
        Scenario(one.key, one.title, one.claim, one.ground_truth, one.world, one.experiment, 0)
    late = scenario("newcomer")
    with pytest.raises(ValueError, match="arrives"):
        Scenario(late.key, late.title, late.claim, late.ground_truth, late.world, late.experiment, 21)


def best_for_all(one: Scenario) -> float:
    """The margin of the best single variant, in minor units per customer."""
    return max(value["margin_per_unit"] for value in of(one).values())


def best_by_segment(one: Scenario) -> float:
    """The margin where every segment has its own best variant."""
    return sum(
        segment.share * max(value["margin_per_unit"] for value in of(one, segment=segment.key).values())
        for segment in one.world.segments
    )


def before_refunds(one: Scenario) -> dict[str, float]:
    """The margin per customer of every variant in the same world without any refund."""
    effects = [replace(effect, reaction=replace(effect.reaction, regret=0.0)) for effect in one.world.effects]
    segments = [replace(segment, refund=0.0) for segment in one.world.segments]
    kept = replace(one.world, segments=tuple(segments), effects=tuple(effects))
    found = truth_of_period(kept, range(one.days), window=one.experiment.attribution_window)
    return {key: value["margin_per_unit"] for key, value in found.items()}

"""Worlds, their customers and what these do: laws, potential outcomes, money, files."""

import json
import pickle
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from datetime import date
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from experiments.model import OfferKind
from sim.runner.vectors import part_of
from sim.worlds.cells import cell_shares, cells_of, offers_seen
from sim.worlds.customers import Customers, alias_table, draw_customers, joined, visitors
from sim.worlds.document import from_document, from_json, to_document, to_json
from sim.worlds.outcomes import NEVER, Outcomes, outcomes
from sim.worlds.scenarios import scenario
from sim.worlds.world import Delay, Grid, InvalidWorld, Noise, Season, Session, Shock, Stage, World
from tests.sim.worlds import DAY_S, HOUR_S, WORLD
from tests.statistical import STANDARD_ERRORS, standard_errors_off

N = 30_000


def drawn(world: World = WORLD, day: int = 0, n: int = N, seed: int = 11) -> Customers:
    return draw_customers(world, day, n, rng=np.random.default_rng(seed))


def shown(world: World, customers: Customers, variant: str) -> Outcomes:
    return outcomes(world, customers, np.full(len(customers), world.arm(variant)))


def columns(value: Customers | Outcomes) -> dict[str, Any]:
    return {one.name: getattr(value, one.name) for one in fields(value)}


def same(a: Customers | Outcomes, b: Customers | Outcomes, *, but: str = "") -> bool:
    pairs = zip(columns(a).items(), columns(b).values(), strict=True)
    return all(np.array_equal(x, y) for (name, x), y in pairs if name != but)


def test_the_same_seed_draws_the_same_customers_and_another_does_not() -> None:
    assert same(drawn(seed=1), drawn(seed=1))
    assert not same(drawn(seed=1), drawn(seed=2))


def test_the_same_customer_does_the_same_whoever_else_is_there() -> None:
    customers = drawn(n=2000)
    arms = np.random.default_rng(5).integers(0, len(WORLD.effects), 2000)
    whole = outcomes(WORLD, customers, arms)
    assert same(whole, outcomes(WORLD, customers, arms))
    for variant, effect in enumerate(WORLD.effects):
        rows = np.flatnonzero(arms == variant)
        assert same(part_of(whole, rows), part_of(shown(WORLD, customers, effect.variant), rows))
    first, second = (
        Customers(0, **{k: v[..., rows] for k, v in columns(customers).items() if k != "day"})
        for rows in (slice(0, 700), slice(700, None))
    )
    assert same(joined([first, second]), customers)
    assert same(outcomes(WORLD, first, arms[:700]), part_of(whole, np.arange(700)))
    with pytest.raises(ValueError, match="different days"):
        joined([first, drawn(day=1)])


def test_equal_effects_have_equal_outcomes() -> None:
    world = scenario("a_a").world
    customers = drawn(world)
    a, b = (shown(world, customers, variant) for variant in ("socks-a", "socks-c"))
    assert same(a, b, but="shown")


def test_customers_of_two_worlds_that_differ_in_effects_alone_are_the_same() -> None:
    other = replace(WORLD, effects=WORLD.effects[:2])
    assert same(drawn(), drawn(other))
    customers = drawn()
    assert same(shown(WORLD, customers, "socks"), shown(other, customers, "socks"))


def test_an_offer_touches_only_those_who_see_it() -> None:
    customers = drawn()
    none, pro = shown(WORLD, customers, "none"), shown(WORLD, customers, "pro")
    assert np.array_equal(none.exposed_us, pro.exposed_us)
    blind = np.flatnonzero(pro.exposed_us == NEVER)
    assert len(blind) > 1000
    assert same(part_of(none, blind), part_of(pro, blind), but="shown")
    # Annoyance only loses orders, and a rescue only saves them
    untaken = pro.took_us == NEVER
    assert not np.any((pro.order_us[untaken] >= 0) & (none.order_us[untaken] == NEVER))
    cheaper = shown(WORLD, customers, "cheaper")
    assert not np.any((cheaper.order_us == NEVER) & (none.order_us >= 0) & (cheaper.took_us >= 0))


@pytest.mark.parametrize("variant", [effect.variant for effect in WORLD.effects])
def test_money_is_conserved_and_times_are_in_order(variant: str) -> None:
    customers = drawn(day=11)
    found = shown(WORLD, customers, variant)
    ordered, refunded = found.order_us >= 0, found.refund_us >= 0
    assert np.array_equal(found.amount_minor > 0, ordered)
    assert np.array_equal(found.refunded_minor, found.amount_minor * refunded)
    assert np.all(found.recovered_minor <= found.cost_minor * refunded)
    whole = np.rint(0.8 * found.cost_minor) * refunded
    assert np.all(np.abs(found.recovered_minor - whole) <= 1)  # a table times a factor, each rounded
    assert np.all((found.cost_minor >= 0) & (found.cost_minor < 2 * found.amount_minor + 1))
    for later in (found.refund_us, found.rated_us, *found.repeat_us):
        assert np.all((later == NEVER) | (ordered & (later > found.order_us)))
    assert np.array_equal(found.rating >= 0, found.rated_us >= 0)
    repeats = (found.repeat_us >= 0).any(axis=0)
    assert np.array_equal(found.repeat_amount_minor > 0, repeats)
    saw = found.exposed_us >= 0
    for answer in (found.clicked_us, found.took_us, found.declined_us):
        assert np.all(saw | (answer == NEVER))
    assert np.all((found.took_us == NEVER) | (found.clicked_us >= 0))
    assert not np.any((found.took_us >= 0) & (found.declined_us >= 0))
    assert np.all((found.cart_us == 0) | ~ordered)
    late = ordered & (found.order_us >= 86_400_000_000)
    assert np.array_equal(found.abandoned_us >= 0, (found.cart_us == 0) & (late | ~ordered))
    assert late.any()


def test_bots_see_and_click_and_nothing_else() -> None:
    customers = drawn()
    bots = np.flatnonzero(customers.is_bot)
    assert abs(len(bots) - 0.08 * N) < STANDARD_ERRORS * (0.08 * 0.92 * N) ** 0.5
    found = part_of(shown(WORLD, customers, "pro"), bots)
    assert not customers.pre_margin_minor[bots].any()
    for name in ("took_us", "declined_us", "cart_us", "order_us", "abandoned_us", "rated_us"):
        assert np.all(getattr(found, name) == NEVER)
    seen = found.exposed_us >= 0
    assert standard_errors_off(seen.astype(float), 0.5) < STANDARD_ERRORS
    assert standard_errors_off((found.clicked_us[seen] >= 0).astype(float), 0.7) < STANDARD_ERRORS
    assert np.all(part_of(shown(WORLD, customers, "none"), bots).clicked_us == NEVER)


@pytest.mark.parametrize("day", [0, 11])
def test_cells_are_drawn_as_often_as_they_should(day: int) -> None:
    customers = drawn(day=day, n=400_000)
    counts = np.bincount(customers.cell, minlength=len(cells_of(WORLD).part))
    shares = cell_shares(WORLD, day)
    assert shares.sum() == pytest.approx(1.0)
    statistic = ((counts - len(customers) * shares) ** 2 / (len(customers) * shares)).sum()
    assert stats.chi2.sf(statistic, len(shares) - 1) > 1e-3
    wrong = cell_shares(WORLD, 11 - day)
    statistic = ((counts - len(customers) * wrong) ** 2 / (len(customers) * wrong)).sum()
    assert stats.chi2.sf(statistic, len(shares) - 1) < 1e-3, "the mix of another day passes: no power"
    assert np.array_equal(cells_of(WORLD).segment[customers.cell], customers.segment)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=60).filter(lambda weights: sum(weights) > 1e-3))
def test_an_alias_table_has_the_law_it_is_made_of(weights: list[float]) -> None:
    shares = np.array(weights) / sum(weights)
    table = alias_table(shares)
    assert np.all((table.keep >= 0) & (table.keep <= 1))
    law = table.keep.copy()
    np.add.at(law, table.other, 1 - table.keep)
    assert law / len(law) == pytest.approx(shares, abs=1e-12)


def test_order_values_have_mean_one_and_their_spread() -> None:
    customers = drawn(n=400_000)
    factor = customers.multiplier
    assert standard_errors_off(factor, 1.0) < STANDARD_ERRORS
    assert standard_errors_off((factor - 1) ** 2, 0.6**2) < STANDARD_ERRORS
    assert stats.kstest(np.log(factor), stats.norm(-np.log(1.36) / 2, np.log(1.36) ** 0.5).cdf).pvalue > 1e-3
    exact = replace(WORLD, order_value_cv=0.0)
    plain = drawn(exact, n=100)
    assert np.all(plain.multiplier == 1)
    assert np.all(np.isin(plain.cart_minor[plain.segment != 1], [0, 8900, 10400, 15800]))


def test_the_margin_before_is_that_of_the_segment_and_goes_with_the_order_value() -> None:
    customers = drawn(n=200_000)
    for index, segment in enumerate(WORLD.segments):
        mine = (customers.segment == index) & ~customers.is_bot
        expected = segment.history * segment.history_margin_minor
        assert standard_errors_off(customers.pre_margin_minor[mine].astype(float), expected) < STANDARD_ERRORS
    loyal = (customers.segment == 1) & (customers.pre_margin_minor > 0)
    pairs = np.corrcoef(customers.pre_margin_minor[loyal], customers.multiplier[loyal])
    assert pairs[0, 1] > 0.999


def test_customers_come_at_the_hours_of_the_world() -> None:
    customers = drawn(n=200_000)
    hours = np.bincount(customers.arrival_us // 3_600_000_000, minlength=24)
    weights = np.array(WORLD.season.hourly) / sum(WORLD.season.hourly)
    statistic = ((hours - 200_000 * weights) ** 2 / (200_000 * weights)).sum()
    assert stats.chi2.sf(statistic, 23) > 1e-3


def test_a_delay_has_the_law_that_its_edges_say() -> None:
    delay = Delay((0, HOUR_S, DAY_S), (0.3, 0.7))
    u = np.random.default_rng(6).random(100_000)
    seconds = delay.at(u) / 1e6
    assert stats.kstest(seconds, lambda x: delay.below(np.asarray(x))).pvalue > 1e-3
    assert stats.kstest(seconds, lambda x: np.clip(np.asarray(x) / DAY_S, 0, 1)).pvalue < 1e-3
    assert delay.at(np.array([0.0, 0.3, 1 - 1e-12])).tolist()[:2] == [0, 3_600_000_000]


def test_traffic_follows_week_year_and_shocks() -> None:
    season = Season(
        weekday_traffic=(1, 1, 1, 1, 1, 2, 0.5),
        monthly_traffic=(1,) * 11 + (2,),
        shocks=(Shock(5, 6, traffic=3), Shock(6, 7, traffic=0.5, conversion=2)),
    )
    world = replace(WORLD, season=season)  # begins on Monday, 2 March
    assert [visitors(world, day) for day in range(8)] == [1000, 1000, 1000, 1000, 1000, 6000, 750, 500]
    assert visitors(world, 0, 7.0) == 7.0
    assert season.factors(date(2026, 3, 2), 7).conversion == 2
    assert season.factors(date(2026, 12, 16), 0).traffic == pytest.approx(2.0, abs=0.02)
    assert season.factors(date(2026, 12, 31), 0).traffic == pytest.approx(1.5, abs=0.03)
    calm = Season(monthly_traffic=season.monthly_traffic)
    december = [calm.factors(date(2026, 12, 1), day).traffic for day in range(15)]
    assert december == sorted(december)


def test_offers_of_the_session_add_up() -> None:
    session = Session((Stage("a", 0.5, 1), Stage("b", 0.2, 2), Stage("c", 1.0, 0)))
    assert dict(offers_seen(session)) == pytest.approx({0: 0.4, 1: 0.4, 2: 0.1, 3: 0.1})


def test_a_world_is_the_same_from_its_file_and_in_another_process() -> None:
    again = from_json(to_json(WORLD))
    assert again == WORLD
    assert hash(again) == hash(WORLD) == hash(pickle.loads(pickle.dumps(WORLD)))
    assert replace(WORLD, recovered=0.7).digest != WORLD.digest
    assert same(drawn(again), drawn())
    assert from_document(json.loads(to_json(WORLD))) == WORLD


def _set(document: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    *steps, last = [int(step) if step.isdigit() else step for step in path.split(".")]
    place: Any = document
    for step in steps:
        place = place[step]
    place[last] = value
    return document


FAULTS: Mapping[str, tuple[Any, str]] = {
    "segments.0.conversion": (1.2, "conversion: 1.2 is not from 0 to 1"),
    "segments.0.fatigue": (-0.1, "fatigue"),
    "segments.0.need": ({"values": [1.5], "weights": [1.0]}, "need: each must be from 0 to 1"),
    "segments.0.sensitivity": ({"values": [-1.0], "weights": [1.0]}, "sensitivity"),
    "segments.0.budget": ({"values": [0.0], "weights": [1.0]}, "budget"),
    "segments.0.rating": ({"values": [7.5], "weights": [1.0]}, "rating: scores are whole"),
    "segments.0.share": (0.9, "segments: share: they must sum to 1, not to 1.4"),
    "segments.0.key": ("loyal", "segments: each key may stand once"),
    "segments.0.colour": ("red", "$.segments[0].colour: there is no such field, only key"),
    "segments.0.need.weights": ([0.5, 0.4, 0.2], "weights: they must sum to 1"),
    "segments.0.need.values": ([0.5], "weights: there must be one for each value"),
    "segments": ([], "segments: there must be at least one"),
    "baskets.0.skus": (["HAT"], "baskets[0].skus: no product HAT"),
    "baskets.0.share": (0.6, "baskets: share"),
    "products.0.cost_minor": (-1, "cost_minor"),
    "products.0.price_minor": (1.5, "Expected `int`, got `float` - at `$.products[0].price_minor`"),
    "effects.1.kind": ("gift", "Invalid enum value 'gift' - at `$.effects[1].kind`"),
    "effects.1.sku": (None, "an offer names what it sells"),
    "effects.1.reaction.rescue": (2, "rescue: 2.0 is not from 0 to 1"),
    "effects.1.discount": (1, "discount"),
    "effects.1.novelty_days": (0, "novelty_days"),
    "effects.1.arrives": (-1, "arrives"),
    "effects.0.price_minor": (10, "kind: what offers nothing has no goods"),
    "effects.2.replaces": ("HAT", "effects[2].replaces: no product HAT"),
    "effects.3.by_segment": ({"old": {}}, "effects[3].by_segment: no segment old"),
    "session.seeing": (7, "seeing"),
    "session.stages": ([{"touchpoint": "cart"}], "touchpoint: no stage of the session: cart"),
    "season.weekday_traffic": ([1, 2], "weekday_traffic: there must be 7 factors above 0"),
    "season.monthly_conversion": ([0] * 12, "monthly_conversion"),
    "season.hourly": ([0] * 24, "hourly"),
    "season.shocks.0.to_day": (3, "from_day: it must be from 0 to to_day"),
    "season.shocks.0.traffic": (0, "traffic: it must be above 0"),
    "season.shocks.0.mix": ({"old": 2}, "season.shocks[0].mix: no segment old"),
    "season.shocks.1.mix": (
        {"new": 0, "loyal": 0, "price_sensitive": 0},
        "season.shocks[1].mix: nobody would be left",
    ),
    "delays.order": ({"edges_s": [5, 5], "weights": [1]}, "edges_s: they must rise"),
    "delays.refund": ({"edges_s": [5, 6], "weights": [0.5, 0.5]}, "weights: one for each pair"),
    "delays.abandonment_h": (0, "abandonment_h"),
    "repeats.every_days": (0, "every_days"),
    "noise.bots": (1, "bots: it must be from 0 to less than 1"),
    "noise.late_h_max": (0, "late_h_max"),
    "order_value_cv": (-1, "order_value_cv"),
    "currency": ("euro", "currency: three letters as EUR"),
    "start": ("yesterday", "Invalid RFC3339 encoded date - at `$.start`"),
    "customers_per_day": (0, "customers_per_day"),
    "colour": ("red", "$.colour: there is no such field, only currency"),
}


@pytest.mark.parametrize("path", FAULTS)
def test_what_is_wrong_with_a_world_is_named(path: str) -> None:
    value, message = FAULTS[path]
    document = _set(json.loads(to_json(WORLD)), path, value)
    with pytest.raises(InvalidWorld) as refused:
        from_document(document)
    assert message in str(refused.value)


def test_refunds_in_part_are_of_the_same_orders() -> None:
    """Parts .25 and 1 in the proportion of 2 to 3, whichever orders come back; goods in the same part."""
    whole, parts = WORLD, replace(WORLD, refunded_part=Grid((0.25, 1.0), (0.4, 0.6)))
    customers = drawn(day=11)
    all_back, some_back = shown(whole, customers, "pro"), shown(parts, customers, "pro")
    assert np.array_equal(all_back.refund_us, some_back.refund_us)
    back = some_back.refund_us >= 0
    part = some_back.refunded_minor[back] / some_back.amount_minor[back]
    is_whole = np.isclose(part, 1)
    assert np.all(is_whole | (np.abs(part - 0.25) < 1e-3))
    assert abs(is_whole.mean() - 0.6) < 5 * np.sqrt(0.24 / back.sum())
    goods = all_back.recovered_minor[back] * np.where(is_whole, 1.0, 0.25)
    assert np.all(np.abs(some_back.recovered_minor[back] - goods) <= 0.5)
    with pytest.raises(InvalidWorld, match="refunded_part"):
        replace(WORLD, refunded_part=Grid((0.0, 1.0), (0.5, 0.5)))


def test_a_world_is_a_mapping() -> None:
    with pytest.raises(InvalidWorld, match="mapping"):
        from_json("[]")


def test_defaults_need_not_be_written() -> None:
    document = to_document(WORLD)
    for name in ("session", "season", "delays", "repeats", "noise", "order_value_cv", "recovered"):
        del document[name]
    found = from_document(document)
    assert found.noise == Noise()
    assert found.season == Season()
    assert found.session.stages == (Stage("checkout"),)
    assert to_document(found).keys() == to_document(WORLD).keys()
    assert from_document(to_document(found)).digest == found.digest


def test_unknown_keys_of_a_world_have_no_index() -> None:
    asked: list[Callable[[str], int]] = [WORLD.arm, WORLD.segment_index]
    for ask in asked:
        with pytest.raises(KeyError):
            ask("nobody")
    assert WORLD.arrives == {"bundle": 5}
    assert WORLD.effects[WORLD.arm("pro")].kind is OfferKind.UPSELL

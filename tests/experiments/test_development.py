"""Open cohorts under a delay model: against the truth of simulated shops, by hand, and with planted bugs."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from functools import partial
from unittest import mock

import numpy as np
import pytest

from experiments.ages import HOURS
from experiments.analysis import development
from experiments.analysis.delay import DelayCurve, delay_curves
from experiments.analysis.development import Development, development_of, shrunk_rates
from experiments.analysis.metrics import metric_definitions
from experiments.analysis.objective import allocation_posteriors
from experiments.facts import Enrolment, OrderFact, Refund, UnitFacts
from experiments.fold import FoldRules, fold_unit
from experiments.model import (
    CustomMetric,
    DelayHandling,
    Experiment,
    MetricKind,
    PolicyKind,
    PolicySettings,
)
from experiments.posteriors.beta import Beta
from experiments.posteriors.protocol import Posterior
from experiments.statistics import Cell
from tests.experiments import late_shop
from tests.experiments.cells import experiment_of
from tests.experiments.late_shop import DAY, START, LateUnits, cells_at, instant, late_units
from tests.statistical import standard_errors_off

KEYS = ("none", "socks")
DAYS = 10


def learning(objective: str = "conversion_rate", **settings: object) -> Experiment:
    chosen = {"kind": PolicyKind.THOMPSON, "objective": objective, "delay": DelayHandling.MODEL}
    policy = PolicySettings(**(chosen | settings))  # type: ignore[arg-type]
    return experiment_of("socks", settings=policy)


def anchors(rng: np.random.Generator, per_day: list[int], days: int = DAYS) -> np.ndarray:
    """Instants of enrolment, more of them in the evening, `per_day` of each day in turn."""
    hours = np.append(np.arange(1.0, 23.0), [30.0, 20.0])
    parts = [
        day * DAY + 3600 * (rng.choice(24, n, p=hours / hours.sum()) + rng.random(n))
        for day, n in zip(range(days), per_day, strict=True)
    ]
    return np.concatenate(parts)


def risen(rng: np.random.Generator, delays: tuple[float, float] = (1.5 * DAY, 1.5 * DAY)) -> list[LateUnits]:
    """Arms of the same rate; socks goes from 1 in 10 to 5 in 10 of the units after day 7."""
    sizes = {"none": [3600] * 7 + [2000] * 3, "socks": [400] * 7 + [2000] * 3}
    return [
        late_units(rng, key, anchors(rng, sizes[key]), rate=0.10, delay=delay)
        for key, delay in zip(KEYS, delays, strict=True)
    ]


def means(experiment: Experiment, cells: list[Cell], now: float, **more: object) -> dict[str, float]:
    found = allocation_posteriors(
        experiment,
        cells,
        KEYS,
        time_zone="UTC",
        now=instant(now),
        **more,  # type: ignore[arg-type]
    )
    return {key: posterior.mean for key, posterior in found.posteriors.items()}


def test_the_shop_holds_what_the_folder_would():
    """Every unit of a small shop through `fold_unit`: the same sums, histograms and hours."""
    rng = np.random.default_rng(1)
    window, experiment = 7 * DAY, learning("margin_per_unit")
    units = late_units(rng, "socks", anchors(rng, [60] * 4, 4), rate=0.5, delay=2 * DAY, refund=0.4)
    now, wanted = 9 * DAY, {cell.key: cell for cell in cells_at([units], 9 * DAY, KEYS)}
    midnight_us = round(instant(0).timestamp() * 1e6)
    made: dict[object, Cell] = {}
    times = zip(units.anchor, units.ordered, units.refunded, strict=True)
    for number, (anchor, ordered, refunded) in enumerate(times):
        at_us = [midnight_us + round(t * 1e6) if t <= now else None for t in (anchor, ordered, refunded)]
        refunds = () if at_us[2] is None else (Refund(10_000, 0, 0, at_us[2]),)
        assert at_us[0] is not None
        orders = (
            () if at_us[1] is None else (OrderFact("o", at_us[1], "EUR", 10_000, 4_000, refunds=refunds),)
        )
        enrolled = Enrolment(number, 0, at_us[0], "socks", "", 1, 0)
        (one,) = fold_unit(FoldRules(experiment, "UTC"), UnitFacts((enrolled,), orders=orders))
        cell = made.setdefault(one.key, Cell(one.key, frozenset(KEYS)))
        vector = {
            name: n for name, n in one.vector.items() if name in next(iter(wanted.values())).moments.sums
        }
        cell.add_unit(vector, {name: n for name, n in one.bins.items() if "@" in name or name == HOURS})
    assert window == experiment.attribution_window.total_seconds()
    assert {key: cell.histograms for key, cell in made.items()} == {
        key: cell.histograms for key, cell in wanted.items()
    }
    assert {key: cell.moments for key, cell in made.items()} == {
        key: cell.moments for key, cell in wanted.items()
    }


def test_an_arm_whose_share_just_rose_shows_no_effect_and_more_units_count():
    """15 stores: counting open windows as they are reads -13 to -35 %, the model 0."""
    rng = np.random.default_rng(8)
    now, plain, ours, units = DAYS * DAY, [], [], []
    for _ in range(15):
        cells = cells_at(risen(rng), now, KEYS)
        rate = {
            key: sum(c.moments.sum("converted") for c in cells if c.key.variant == key)
            / sum(c.moments.sum("units") for c in cells if c.key.variant == key)
            for key in KEYS
        }
        plain.append(rate["socks"] / rate["none"] - 1)
        found = allocation_posteriors(learning(), cells, KEYS, time_zone="UTC", now=instant(now))
        ours.append(found.posteriors["socks"].mean / found.posteriors["none"].mean - 1)
        units.append(found.units["socks"])
    assert -0.35 < np.mean(plain) < -0.13
    assert standard_errors_off(np.array(plain), 0.0) > 10
    assert standard_errors_off(np.array(ours), 0.0) < 4
    closed = allocation_posteriors(
        learning(delay=DelayHandling.MATURED), cells, KEYS, time_zone="UTC", now=instant(now)
    )
    assert np.mean(units) > 3 * closed.units["socks"]


def test_failures_are_the_units_that_had_their_time_less_the_successes():
    """sum over units of F(age), against the true F, unit by unit: exponential delay, cut at the window."""
    rng = np.random.default_rng(5)
    now = 30 * DAY
    shop = [late_units(rng, key, anchors(rng, [1500] * 30, 30), rate=0.4, delay=2 * DAY) for key in KEYS]
    cells = cells_at(shop, now, KEYS)
    found = allocation_posteriors(learning(), cells, KEYS, time_zone="UTC", now=instant(now))
    for units in shop:
        age = np.minimum(now - units.anchor, 7 * DAY)
        wanted = float(np.sum((1 - np.exp(-age / (2 * DAY))) / (1 - np.exp(-3.5))))
        posterior = found.posteriors[units.variant]
        assert isinstance(posterior, Beta)
        assert posterior.alpha + posterior.beta - 2 == pytest.approx(wanted, rel=2e-3)
        assert found.units[units.variant] == pytest.approx(wanted, rel=2e-3)
        assert posterior.alpha - 1 == int(np.sum(units.ordered <= now))


def test_an_arm_that_is_slower_is_not_taken_for_worse():
    """Delays of 0.5 and 3 days: curves of their own find the truth, the pooled one (planted) does not."""
    rng = np.random.default_rng(2)
    now, own, pooled = DAYS * DAY, [], []
    for _ in range(25):
        cells = cells_at(risen(rng, (0.5 * DAY, 3 * DAY)), now, KEYS)
        found = means(learning(), cells, now)
        own.append(found["socks"] / found["none"] - 1)
        with mock.patch.object(development, "delay_curves", partial(delay_curves, shrinkage=np.inf)):
            found = means(learning(), cells, now)
        pooled.append(found["socks"] / found["none"] - 1)
    # Slow orders beyond the window are no outcomes: of the 3-day arm 1 - exp(-7/3) come, of the other all.
    truth = (1 - np.exp(-7 / 3)) / (1 - np.exp(-14)) - 1
    assert abs(np.mean(own) - truth) < 0.06  # the rest is what shrinkage leaves
    assert np.mean(pooled) < truth - 0.15


def test_before_any_window_has_closed_arms_are_compared_up_to_the_oldest_age():
    rng = np.random.default_rng(6)
    now, ours = 4 * DAY, []
    for _ in range(10):
        shop = [
            late_units(rng, key, anchors(rng, sizes, 4), rate=0.2, delay=3 * DAY)
            for key, sizes in zip(KEYS, ([2000, 2000, 500, 500], [200, 200, 1500, 1500]), strict=True)
        ]
        found = means(learning(), cells_at(shop, now, KEYS), now)
        ours.append(found["socks"] / found["none"] - 1)
    assert standard_errors_off(np.array(ours), 0.0) < 4
    matured = learning(delay=DelayHandling.MATURED)
    assert means(matured, cells_at(shop, now, KEYS), now) == {}


@pytest.mark.parametrize("objective", ["margin_per_unit", "revenue_per_unit", "aov_net", "refund_rate"])
def test_young_orders_carry_the_refunds_to_be_expected(objective):
    """socks sells twice as often and sees half of its orders come back, 8 days later."""
    rng = np.random.default_rng(4)
    now = 60 * DAY
    rates, refunds = {"none": 0.2, "socks": 0.4}, {"none": 0.05, "socks": 0.5}
    sizes = {"none": [300] * 60, "socks": [30] * 45 + [400] * 15}
    ours, plain = {key: [] for key in KEYS}, {key: [] for key in KEYS}
    for _ in range(12):
        shop = [
            late_units(
                rng, key, anchors(rng, sizes[key], 60), rate=rates[key], delay=DAY, refund=refunds[key]
            )
            for key in KEYS
        ]
        cells = cells_at(shop, now, KEYS)
        for key, value in means(learning(objective), cells, now).items():
            ours[key].append(value)
        for key, value in means(learning(objective, delay=DelayHandling.MATURED), cells, now).items():
            plain[key].append(value)
    come = 1 - np.exp(-7)  # within the window
    for key in KEYS:
        back = refunds[key] * float(np.mean(1 - np.exp(-(37 - rng.exponential(1, 100_000).clip(0, 7)) / 8)))
        truth = {
            "margin_per_unit": rates[key] * come * (6000 - 10_000 * back),
            "revenue_per_unit": rates[key] * come * 10_000 * (1 - back),
            "aov_net": 10_000 * (1 - back),
            "refund_rate": back,
        }[objective]
        size = abs(truth) if objective != "margin_per_unit" else 1200
        assert abs(np.mean(ours[key]) - truth) < 0.04 * size + 4 * np.std(ours[key]) / np.sqrt(12)
    low = {"margin_per_unit": 1, "revenue_per_unit": 1, "aov_net": 1, "refund_rate": -1}[objective]
    assert low * (np.mean(plain["socks"]) - truth) > 0.10 * size, (
        "closed windows alone miss the refunds to come"
    )


def one_by_one(shop: list[LateUnits], cells: list[Cell], mean: Callable[[], float]) -> float:
    """The jackknife's variance of a mean: what it does when each unit of the shop is left out in turn."""
    whole, found = mean(), 0.0
    of = {units.variant: units for units in shop}
    for cell in cells:
        orders, gone = cell.moments.sum("orders"), cell.moments.sum("refunded_orders")
        counts = {(0, 0): cell.moments.sum("units") - orders, (1, 0): orders - gone, (1, 1): gone}
        for kind, count in counts.items():
            if count:
                vector = late_shop._vector(of[cell.key.variant], *kind)
                cell.moments.add_unit(vector, -1)
                found += count * (mean() - whole) ** 2
                cell.moments.add_unit(vector)
    return found


@pytest.mark.parametrize("objective", ["margin_per_unit", "revenue_per_unit", "aov_net"])
def test_expected_refunds_are_as_uncertain_as_the_jackknife_finds(objective: str) -> None:
    """Curves held, of units that all have had the time to order; the planted bug takes what refunds the past
    taught for independent of the past itself.
    """
    rng = np.random.default_rng(9)
    now, days = 19 * DAY, 16
    shop = [
        late_units(rng, key, anchors(rng, [per_day] * days, days), rate=0.5, delay=DAY / 2, refund=0.3)
        for key, per_day in (("none", 50), ("socks", 200))
    ]
    cells = cells_at(shop, now, KEYS)
    reached = [0.05 * k for k in range(20)] + [1.0] * 5
    curve = {key: DelayCurve(37 * DAY, tuple(reached)) for key in KEYS}
    none: dict[str, DelayCurve] = {key: DelayCurve(7 * DAY, (0.0, *[1.0] * 24)) for key in KEYS}

    def fixed(cohorts: object, horizon_s: float) -> dict[str, DelayCurve]:
        return curve if horizon_s > 8 * DAY else none

    def read() -> Posterior:
        found = allocation_posteriors(learning(objective), cells, KEYS, time_zone="UTC", now=instant(now))
        return found.posteriors["socks"]

    def apart(*args: dict[str, float]) -> dict[str, tuple[float, float, float]]:
        lost, squares, seen = args
        whole = sum(squares.values()) / sum(seen.values())
        return {
            key: (rate, 0.0, rest + whole * growth**2 * seen[key])
            for key, (rate, growth, rest) in shrunk_rates(lost, squares, seen).items()
        }

    with mock.patch.object(development, "delay_curves", fixed):
        wanted = one_by_one(shop, cells, lambda: read().mean)
        found = read().variance
        with mock.patch.object(development, "shrunk_rates", apart):
            bug = read().variance
    assert found == pytest.approx(wanted, rel=0.01)
    assert bug < 0.9 * wanted


def test_refund_shares_by_hand():
    """Losses 10 and 30 of 100 seen each, squares 200: pooled 0.2, dispersion 2, s^2 = 0.02 each.

    Q = 50 (0.1^2 + 0.1^2) = 1, no excess over K - 1 = 1: all pooled, variance 1 / 100. With squares 20 s^2 is
    0.002, Q = 10, tau^2 = 9 / (1000 - 500) = 0.018, weight 0.018 / 0.02 = 0.9.
    """
    seen, lost = {"a": 100.0, "b": 100.0}, {"a": 10.0, "b": 30.0}
    assert shrunk_rates(lost, {"a": 200.0, "b": 200.0}, seen) == {
        "a": pytest.approx((0.2, 1 / 200, 0.01 - 2.0 * 100 / 200**2)),
        "b": pytest.approx((0.2, 1 / 200, 0.005)),
    }
    parted = shrunk_rates(lost, {"a": 20.0, "b": 20.0}, seen)
    growth = 0.9 / 100 + 0.1 / 200
    left = 0.9 * 0.002 + 0.1 * 0.001 - growth**2 * 0.2 * 100
    assert parted["a"] == pytest.approx((0.9 * 0.1 + 0.1 * 0.2, growth, left))
    new = shrunk_rates(lost | {"c": 0.0}, {"a": 20.0, "b": 20.0, "c": 0.0}, seen | {"c": 0.0})
    assert new["c"] == pytest.approx((0.2, 1 / 200, 0.018 + 0.001))
    assert shrunk_rates({"a": 0.0}, {"a": 0.0}, {"a": 50.0}) == {"a": (0.0, 1 / 50, 0.0)}
    assert shrunk_rates({"a": 1.0}, {"a": 1.0}, {"a": 50.0})["a"][0] == 0.02
    assert shrunk_rates({"a": 0.0}, {"a": 0.0}, {"a": 0.0}) == {}


def test_what_has_no_ages_is_read_from_closed_windows():
    rng = np.random.default_rng(3)
    now = 20 * DAY
    shop = [late_units(rng, key, anchors(rng, [50] * 20, 20), rate=0.3, delay=DAY) for key in KEYS]
    cells = cells_at(shop, now, KEYS)
    old = [replace(cell, histograms={}) for cell in cells]
    matured = learning(delay=DelayHandling.MATURED)
    assert means(learning(), old, now) == means(matured, cells, now)
    assert means(learning(), cells[:0], now) == {}
    said = {
        name: allocation_posteriors(learning(), some, KEYS, time_zone="UTC", now=instant(now)).methods["none"]
        for name, some in (("with", cells), ("without", old))
    }
    assert said == {
        "with": "beta; all units by age",
        "without": "beta; closed windows, no delay curve yet",
    }
    half = [*cells[:10], *[replace(cell, histograms={}) for cell in cells[10:20]], *cells[20:]]
    found = allocation_posteriors(learning(), half, KEYS, time_zone="UTC", now=instant(now))
    assert found.units["none"] < found.units["socks"]
    margins = means(learning("margin_per_unit"), half, now)
    assert margins == pytest.approx(dict.fromkeys(KEYS, 0.3 * 6000 * (1 - np.exp(-7))), rel=0.15)
    definitions = metric_definitions(learning())
    for key in ("cancel_rate", "ltv_90d", "rating_mean"):
        made = development_of(learning(), cells, definitions[key], time_zone="UTC", now=instant(now))
        assert made is None
    mixed = [late_units(rng, k, anchors(rng, [50] * 20, 20), rate=0.3, delay=DAY, refund=0.4) for k in KEYS]
    cells = [
        replace(c, histograms={}) if place < 5 else c for place, c in enumerate(cells_at(mixed, now, KEYS))
    ]
    assert means(learning("margin_per_unit"), cells, now).keys() == set(KEYS)
    cells = cells_at(shop, now, KEYS)
    # Without a curve of refunds (none has come yet) money counts as it stands.
    assert means(learning("margin_per_unit"), cells, now)["none"] == pytest.approx(0.3 * 6000, rel=0.1)


def test_custom_metrics_grow_with_their_own_events():
    kinds = {
        "signups": MetricKind.PROPORTION, "worth": MetricKind.MEAN, "depth": MetricKind.RATIO,
        "times": MetricKind.COUNT, "nps": MetricKind.NPS,
    }  # fmt: skip
    metrics = tuple(CustomMetric(key, kind, "signup", timedelta(days=7)) for key, kind in kinds.items())
    experiment = replace(learning("signups"), metrics=metrics)
    outcomes = {
        key: development.outcomes_of(experiment, definition)
        for key, definition in metric_definitions(experiment).items()
        if key in kinds
    }
    assert outcomes == {
        "signups": ("signups:had", None),
        "worth": ("worth:count", None),
        "depth": ("depth:count", "depth:count"),
        "times": ("times:count", None),
        "nps": ("", None),
    }


def test_the_average_of_orders_counts_open_cells_as_they_are():
    rng = np.random.default_rng(3)
    shop = [late_units(rng, key, anchors(rng, [200] * 3, 3), rate=0.3, delay=DAY) for key in KEYS]
    cells = cells_at(shop, 3 * DAY, KEYS)
    definition = metric_definitions(learning("aov"))["aov"]
    made = Development(learning("aov"), cells, definition, time_zone="UTC", now=instant(3 * DAY))
    assert made.is_known
    assert made.adjusted(cells[0], (5, 4, 3, 2, 1, 6)) == [5, 4, 3, 2, 1, 6]


def test_a_day_with_a_clock_change_has_its_hours():
    """On 29 March 2026 Rome has 23 hours: midnight is 23:00 UTC the day before, the day ends at 22:00 UTC."""
    (one,) = fold_unit(
        FoldRules(learning(), "Europe/Rome"),
        UnitFacts((Enrolment(1, 0, 1_774_821_599_000_000, "socks", "", 1, 0),)),
    )
    assert (one.key.day.isoformat(), one.bins[HOURS]) == ("2026-03-29", 23)
    assert START.isoformat() == "2026-03-02"

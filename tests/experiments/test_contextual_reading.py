"""What draws say of each value of a feature, against least squares and Beta posteriors of the units there."""

import json
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from experiments.allocation.contextual import ContextualDraws
from experiments.allocation.contextual_proposal import Held, contextual_draws
from experiments.allocation.contextual_reading import Place, places
from experiments.allocation.features import FEATURE_POINT
from experiments.model import CustomMetric, Direction, Experiment, Feature, FeatureKind, MetricKind
from experiments.statistics import Cell
from tests.experiments.test_contextual_fit import ALL, CART, DEVICE, FLIP, NOW, buyers, cell, experiment
from tests.statistical import STANDARD_ERRORS

DRAWS = 4000


def drawn(made: Experiment, cells: list[Cell]) -> ContextualDraws:
    found = contextual_draws(
        made, cells, ALL, joint=None, caps={}, last=None, seed=8, time_zone="UTC", now=NOW
    )
    assert not isinstance(found, Held)
    return ContextualDraws.from_json(json.loads(json.dumps(found[0].to_json())))


def read(made: Experiment, cells: list[Cell]) -> list[Place]:
    return places(drawn(made, cells), made.policy.features, ALL, {})


def test_categories_are_told_in_rates_as_the_units_there_say() -> None:
    """Each value by itself is a Beta posterior: means and ends of the interval within the draws' error."""
    made = experiment(DEVICE, objective="conversion_rate", draws=DRAWS, floor=0.02, control_share=0.1)
    cells = buyers(FLIP)
    told = read(made, cells)
    assert [place.value for place in told] == ["mobile", "desktop", None]
    assert sum(place.part or 0.0 for place in told) == pytest.approx(1.0)
    for code, place in zip((1, 2, 0), told, strict=True):
        for key, there in place.variants.items():
            (own,) = (c for c in cells if c.key.variant == key)
            units = own.moments.sum(f"context={code}")
            wins = own.moments.product(f"context={code}", "converted")
            beta = stats.beta(1 + wins, 1 + units - wins)
            error = STANDARD_ERRORS * beta.std() / np.sqrt(DRAWS)
            assert abs(there.metric.value - beta.mean()) < error + 0.002  # Laplace, and another prior
            assert there.metric.ci_low == pytest.approx(beta.ppf(0.025), abs=1.6 * error + 0.002)
            assert there.metric.ci_high == pytest.approx(beta.ppf(0.975), abs=1.6 * error + 0.002)
        assert place.variants["none"].lift_abs is None
        assert sum(there.share for there in place.variants.values()) == pytest.approx(1.0)
    mobile = told[0].variants
    assert (mobile["a"].prob_best, mobile["a"].share) == (1.0, pytest.approx(0.88, abs=1e-6))
    lift = mobile["a"].lift_abs
    assert lift is not None
    assert lift.value == pytest.approx(mobile["a"].metric.value - mobile["none"].metric.value)
    assert 0.05 < lift.ci_low < lift.value < lift.ci_high < 0.15


def test_a_value_that_everybody_has_is_known_although_its_coefficient_is_not() -> None:
    """Phones and desktops only, and carts: least squares of the units, the cart at its average.

    What "no device" would bring nobody knows: the coefficients' spread is many times that of the reading.
    """
    rng, cells = np.random.default_rng(3), []
    units: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for k, key in enumerate(ALL):
        codes = np.column_stack([rng.integers(1, 3, 2000), rng.integers(0, 5, 2000) * FEATURE_POINT])
        slope = 30 * k * codes[:, 1] / FEATURE_POINT
        margin = np.rint(500 + 80 * k * (codes[:, 0] == 1) + slope + rng.normal(0, 100, 2000)).astype(
            np.int64
        )
        design = np.column_stack([codes[:, 0] == 1, codes[:, 0] == 2, codes[:, 1] / FEATURE_POINT])
        units[key] = design.astype(np.float64), margin.astype(np.float64)
        cells.append(cell(key, (DEVICE, CART), codes, margin=margin))
    made = experiment(DEVICE, CART, draws=DRAWS)
    told = read(made, cells)
    cart = float(np.concatenate([x[:, 2] for x, _ in units.values()]).mean())
    assert [(p.feature, p.value) for p in told] == [
        ("device", "mobile"),
        ("device", "desktop"),
        ("cart_value", pytest.approx(1000 * cart, abs=5)),
        ("cart_value", pytest.approx(1000 * cart + 1000, abs=5)),
    ]
    part = told[0].part
    assert part is not None
    rows = [[1, 0, cart], [0, 1, cart], [part, 1 - part, cart], [part, 1 - part, cart + 1]]
    for place, row in zip(told, rows, strict=True):
        for key, (x, y) in units.items():
            best, left, *_ = np.linalg.lstsq(x, y, rcond=None)
            sd = float(np.sqrt(row @ np.linalg.inv(x.T @ x) @ row * left[0] / (len(y) - 3)))
            there = place.variants[key].metric
            assert there.value == pytest.approx(
                row @ best, abs=STANDARD_ERRORS * sd / np.sqrt(DRAWS) + 0.05 * sd
            )
            assert there.ci_high - there.ci_low == pytest.approx(2 * 1.96 * sd, rel=0.08)
    spread = drawn(made, cells).coefficients()[:, 0, 1].std()
    alone = told[0].variants["none"].metric
    assert 2 * 1.96 * spread > 5 * (alone.ci_high - alone.ci_low)


def test_where_less_is_better_figures_keep_the_metric_s_own_sign() -> None:
    returned = CustomMetric("returned", MetricKind.PROPORTION, "returned", direction=Direction.DOWN)
    made = replace(experiment(DEVICE, objective="returned"), metrics=(returned,))
    rng, cells = np.random.default_rng(5), []
    for key, rate in {"none": 0.3, "a": 0.2, "b": 0.4}.items():
        had = (rng.random(3000) < rate).astype(np.int64)
        cells.append(cell(key, (DEVICE,), rng.integers(0, 3, (3000, 1)), **{"returned:had": had}))
    for place in read(made, cells):
        assert place.variants["a"].metric.value == pytest.approx(0.2, abs=0.05)
        assert place.variants["a"].prob_best > 0.99
        lift = place.variants["b"].lift_abs
        assert lift is not None
        assert lift.ci_low > 0


def test_what_nobody_has_and_who_was_not_drawn_are_left_out() -> None:
    made = experiment(DEVICE, objective="conversion_rate")
    found = drawn(made, buyers(FLIP))
    assert found.level is not None
    nobody = replace(found, level=replace(found.level, average=(1.0, 0.9996, 0.0004)))
    told = places(nobody, (DEVICE,), (*ALL, "new"), {"a": 0.05})
    assert [place.value for place in told] == ["mobile"]
    assert told[0].variants.keys() == set(ALL)
    assert told[0].variants["a"].share <= 0.05, "capped as it is served"
    assert places(replace(found, level=None), (DEVICE,), ALL, {}) == [], "draws of old"


def test_a_number_is_read_no_further_than_it_is_cut() -> None:
    visits = Feature("visits", FeatureKind.NUMBER, center=3.0, scale=10.0)
    made = experiment(visits)
    rng = np.random.default_rng(9)
    cells = [
        cell(key, (visits,), rng.integers(7, 9, (500, 1)) * FEATURE_POINT, margin=rng.integers(0, 900, 500))
        for key in ALL
    ]
    low, high = read(made, cells)
    assert low.value == pytest.approx(78.0, abs=1.5)
    assert high.value == 83.0

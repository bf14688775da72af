from datetime import date, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.analysis.metrics import metric_definitions
from experiments.analysis.sums import WEIGHT_ONE, PairSums, gather
from experiments.metric_keys import METRIC_KEYS
from experiments.model import CustomMetric, Direction, MetricKind, Prior
from experiments.statistics import Moments
from tests.experiments.cells import cell_of, experiment_of, moments_of

EXPERIMENT = experiment_of(
    "socks",
    metrics=(
        CustomMetric("visit_rate", MetricKind.PROPORTION, "visit", prior=Prior(alpha=2.0, beta=8.0)),
        CustomMetric("seconds", MetricKind.MEAN, "stay", window=timedelta(days=1), direction=Direction.DOWN),
        CustomMetric("stars", MetricKind.RATIO, "star"),
        CustomMetric("visits", MetricKind.COUNT, "star"),
        CustomMetric("nps", MetricKind.NPS, "rating"),
    ),
)


def test_moments_of_arrays_are_those_of_units_added_one_by_one():
    rng = np.random.default_rng(1)
    arrays = {
        "units": np.ones(7, dtype=int),
        "margin": rng.integers(-9, 9, 7),
        "orders": rng.integers(0, 3, 7),
    }
    slow = Moments()
    for row in range(7):
        slow.add_unit({name: int(values[row]) for name, values in arrays.items()})
    assert moments_of(arrays) == slow


def test_every_metric_of_the_wire_is_defined_once_and_customs_follow():
    customs = ("visit_rate", "seconds", "stars", "visits", "nps")
    assert tuple(metric_definitions(EXPERIMENT)) == (*METRIC_KEYS, *customs)


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        # Two units: the first orders twice (3000 of which 1000 refunded), the second once, 500, cancelled.
        ("aov", 3500 / 3),
        ("aov_net", 2000 / 3),
        ("revenue_per_unit", 2000 / 2),
        ("margin_per_unit", 800 / 2),
        ("conversion_rate", 2 / 2),
        ("orders_per_unit", 3 / 2),
        ("margin_rate", 800 / 2000),
        ("refund_rate", 2 / 3),
        ("refund_value_rate", 1500 / 3500),
        ("cancel_rate", 1 / 3),
        ("cart_abandonment_rate", 1 / 4),
        ("rating_mean", 100 * (0.75 + 0.5) / 2),
        ("take_rate", 1 / 2),
        ("click_through_rate", 2 / 2),
        ("repeat_rate", 1 / 2),
        ("ltv_30d", 900 / 2),
        ("visit_rate", 1 / 2),
        ("seconds", 2.5 / 2),
        ("stars", 2.5 / 2),
        ("visits", 3 / 2),
        ("nps", 100 * (0 - 1) / 4),
    ],
)
def test_the_plain_figure_of_every_metric_by_hand(key, expected):
    half = 1 << 31
    cell = cell_of(
        "socks",
        n=2,
        candidates=("none", "socks"),
        exposed=[1, 1],
        clicked=[1, 1],
        took=[1, 0],
        converted=[1, 1],
        orders=[2, 1],
        revenue=[3000, 500],
        refunded_value=[1000, 500],
        refunded_orders=[1, 1],
        cancelled_orders=[0, 1],
        margin=[1000, -200],
        carts=[3, 1],
        abandoned=[1, 0],
        rating_sum=[3 * (half // 2), half],
        ratings=[1, 1],
        buyer_90d=[1, 1],
        repeat_90d=[1, 0],
        ltv_30d=[1000, -100],
        **{
            "visit_rate:had": [1, 0],
            "seconds:sum": [5 * half, 0],
            "stars:sum": [5 * half, 0],
            "stars:count": [2, 0],
            "visits:count": [2, 1],
            "nps:sum": [-1, 0],
            "nps:count": [3, 1],
        },
    )
    (sums,) = gather([cell], metric_definitions(EXPERIMENT)[key]).values()
    assert sums.units == 2
    assert sums.ratio == pytest.approx(expected, rel=1e-14)
    assert sums.numerator / sums.denominator == pytest.approx(expected, rel=1e-14)


def test_horizons_directions_and_priors():
    definitions = metric_definitions(EXPERIMENT)
    assert definitions["margin_per_unit"].horizon == timedelta(days=7)
    assert definitions["ltv_180d"].horizon == timedelta(days=180)
    assert [definitions[key].kind for key in ("visits", "nps")] == [MetricKind.MEAN, MetricKind.RATIO]
    assert [definitions[key].absolute for key in ("visits", "nps", "margin_rate")] == [False, True, True]
    assert definitions["nps"].support == (-100.0, 100.0)
    assert definitions["repeat_rate"].horizon == timedelta(days=90)
    assert definitions["seconds"].horizon == timedelta(days=1)
    assert (definitions["seconds"].sign, definitions["refund_rate"].sign, definitions["aov"].sign) == (
        -1,
        -1,
        1,
    )
    assert definitions["visit_rate"].prior == Prior(alpha=2.0, beta=8.0)


@given(
    st.lists(st.tuples(st.integers(-(10**12), 10**12), st.integers(0, 50)), min_size=2, max_size=30),
    st.floats(-1e6, 1e6),
)
def test_squared_deviations_equal_the_two_pass_ones(rows, ratio):
    x, y = (np.array(column) for column in zip(*rows, strict=True))
    cell = cell_of("socks", n=len(rows), candidates=("none", "socks"), revenue=x, orders=y)
    (sums,) = gather([cell], metric_definitions(EXPERIMENT)["aov"]).values()
    residual = x - ratio * y
    direct = float(((residual - residual.mean()) ** 2).sum())
    size = float((x.astype(float) ** 2).sum() + ratio**2 * (y.astype(float) ** 2).sum())
    assert sums.squared_deviations(ratio) == pytest.approx(direct, rel=1e-9, abs=1e-12 * size + 1e-9)


def test_no_units_have_no_spread():
    assert PairSums().squared_deviations(0.5) == 0.0


def test_a_tiny_spread_on_a_huge_mean_keeps_its_digits():
    """x = 10^15 + (0, 1, 2): sum of squares about 3e30 needs 102 bits, the deviation is exactly 2."""
    cell = cell_of("socks", n=3, candidates=("none", "socks"), margin=[10**15, 10**15 + 1, 10**15 + 2])
    (sums,) = gather([cell], metric_definitions(EXPERIMENT)["margin_per_unit"]).values()
    assert sums.squared_deviations() == 2.0
    in_floats = 3 * (float(10**15 + 1) ** 2) - (3.0 * float(10**15 + 1)) ** 2 / 3.0
    assert in_floats != 2.0  # the way it would go wrong


def test_weights_multiply_a_cells_units():
    definition = metric_definitions(EXPERIMENT)["margin_per_unit"]
    old = cell_of("socks", n=2, candidates=("none", "socks"), margin=[4, 8], day=date(2026, 1, 1))
    new = cell_of("socks", n=1, candidates=("none", "socks"), margin=[10], day=date(2026, 1, 2))
    weighed = gather([old, new], definition, lambda cell: 0.25 if cell is old else 1.0)
    (sums,) = weighed.values()
    assert sums.units == 1.5
    assert sums.mean_x == pytest.approx((0.25 * 12 + 10) / 1.5)
    assert sums.n == 3 * WEIGHT_ONE // 2


def test_sums_are_split_by_variant_set_and_epoch():
    definition = metric_definitions(EXPERIMENT)["conversion_rate"]
    both = ("none", "socks")
    cells = [
        cell_of("socks", n=2, candidates=both, converted=[1, 0], segment="new"),
        cell_of("socks", n=3, candidates=both, converted=[1, 1, 0], segment="loyal"),
        cell_of("socks", n=1, candidates=both, converted=[1], epoch=1),
        cell_of("none", n=1, candidates=("none",), candidate_set=1, converted=[1]),
    ]
    found = {atom: (sums.units, sums.numerator) for atom, sums in gather(cells, definition).items()}
    assert found == {("socks", 255, 0): (5, 3), ("socks", 255, 1): (1, 1), ("none", 1, 0): (1, 1)}

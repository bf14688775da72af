"""The context as integers: encoded once, columns, and sums that hold every product exactly."""

import pytest

from experiments.allocation.features import FEATURE_POINT, GROUPED_MAX, Columns, column_name
from experiments.eligibility import RequestContext
from experiments.facts import Enrolment, UnitFacts
from experiments.fold import FoldRules, fold_unit
from experiments.model import Feature, FeatureKind, PolicyKind, PolicySettings
from experiments.statistics import Moments
from tests.experiments.cells import experiment_of

DEVICE = Feature("device", FeatureKind.CATEGORY, values=("mobile", "desktop"))
FLAGS = Feature("returning", FeatureKind.CATEGORY, values=(True, 1))
CART = Feature("cart_value", FeatureKind.NUMBER, center=2000.0, scale=4000.0)


def encoded(feature: Feature, segment: str = "", **context: object) -> int:
    cart = context.pop("cart_value", None)
    request = RequestContext(cart_value_minor=cart, fields=context)  # type: ignore[arg-type]
    return Columns((feature,)).encoded(request, segment)[0]


@pytest.mark.parametrize(
    ("feature", "context", "code"),
    [
        (DEVICE, {"device": "mobile"}, 1),
        (DEVICE, {"device": "desktop"}, 2),
        (DEVICE, {"device": "watch"}, 0),
        (DEVICE, {}, 0),
        (FLAGS, {"returning": True}, 1),
        (FLAGS, {"returning": 1.0}, 2),
        (FLAGS, {"returning": "true"}, 0),
        (CART, {"cart_value": 2000}, 0),
        (CART, {"cart_value": 3000}, FEATURE_POINT // 4),
        (CART, {"cart_value": 0}, -FEATURE_POINT // 2),
        (CART, {"cart_value": 10**12}, 8 * FEATURE_POINT),
        (CART, {}, 0),
        (Feature("age", FeatureKind.NUMBER, scale=10.0), {"age": "old"}, 0),
        (Feature("age", FeatureKind.NUMBER, scale=10.0), {"age": True}, 0),
        (Feature("age", FeatureKind.NUMBER, scale=10.0), {"age": float("nan")}, 0),
        (Feature("age", FeatureKind.NUMBER, scale=10.0), {"age": -15}, -3 * FEATURE_POINT // 2),
    ],
)
def test_a_value_is_one_integer(feature: Feature, context: dict[str, object], code: int) -> None:
    assert encoded(feature, **context) == code


def test_a_segment_may_be_a_feature() -> None:
    feature = Feature("segment", FeatureKind.CATEGORY, values=("vip",))
    assert (encoded(feature, "vip"), encoded(feature, "other")) == (1, 0)


def test_columns_say_what_they_are_and_people_read_them_back() -> None:
    columns = Columns((DEVICE, CART))
    assert columns.names == ("1", "device=mobile", "device=desktop", "cart_value")
    assert columns.width == 4
    assert columns.row((1, -FEATURE_POINT)) == (FEATURE_POINT, FEATURE_POINT, 0, -FEATURE_POINT)
    assert columns.told((0, FEATURE_POINT)) == {"device": None, "cart_value": 6000.0}
    assert columns.told((2, 0)) == {"device": "desktop", "cart_value": 2000.0}
    assert not columns.is_grouped
    assert list(columns.all_contexts()) == []


def test_few_contexts_are_counted_each() -> None:
    columns = Columns((DEVICE, FLAGS))
    contexts = dict(columns.all_contexts())
    assert columns.contexts == len(contexts) == len(set(contexts.values())) == 9
    for name, codes in contexts.items():
        assert columns.vector_of(codes) == {name: 1}
    wide = Feature("f", FeatureKind.CATEGORY, values=tuple(map(str, range(GROUPED_MAX - 1))))
    assert Columns((wide,)).is_grouped
    assert not Columns((wide, DEVICE)).is_grouped
    assert Columns((wide, DEVICE)).vector_of((0, 1)) == {column_name(GROUPED_MAX): FEATURE_POINT}


def test_the_fold_adds_columns_once_a_unit_has_its_anchor() -> None:
    """Products of columns are exact integers; without features nothing is added."""
    settings = PolicySettings(kind=PolicyKind.CONTEXTUAL, features=(DEVICE, CART))
    rules = FoldRules(experiment_of("socks", settings=settings), "UTC")
    moments = Moments()
    for number, codes in enumerate([(1, 100), (2, -7), ()]):
        enrolment = Enrolment(number, 0, 0, "socks", "", 1, 1, codes)
        (found,) = fold_unit(rules, UnitFacts((enrolment,)))
        moments.add_unit(found.vector)
    assert moments.product("units", column_name(3)) == 93
    assert moments.product(column_name(3), column_name(3)) == 100**2 + 7**2
    assert moments.product(column_name(1), column_name(3)) == 100 * FEATURE_POINT
    plain = FoldRules(experiment_of("socks"), "UTC")
    (found,) = fold_unit(plain, UnitFacts((Enrolment(1, 0, 0, "socks", "", 1, 1, (1, 2)),)))
    assert found.vector == {"assigned": 1, "units": 1}

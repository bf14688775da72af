"""Arms moved to one mix of contexts: a regression of units, fair where raw figures are not, calibrated."""

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
from numpy.typing import NDArray

from experiments.allocation.features import FEATURE_POINT, Columns
from experiments.allocation.guarding import guard
from experiments.allocation.joint_posteriors import joint_of
from experiments.allocation.published import Cause, PolicyVersion, SetShares
from experiments.analysis.context import same_contexts
from experiments.analysis.metrics import metric_definitions
from experiments.analysis.objective import allocation_posteriors
from experiments.analysis.strata import tabulate
from experiments.analysis.sums import PairSums
from experiments.model import Experiment, Feature, FeatureKind, Guardrail, PolicyKind, PolicySettings
from experiments.statistics import Cell
from tests.experiments.cells import cell_of, experiment_of

BOTH = ("none", "a")
NOW = datetime(2026, 4, 1, tzinfo=UTC)
DEVICE = Feature("device", FeatureKind.CATEGORY, values=("mobile", "desktop"))
CART = Feature("cart_value", FeatureKind.NUMBER, scale=1000.0)
Ints = NDArray[np.int64]


def experiment(*features: Feature) -> Experiment:
    settings = PolicySettings(
        kind=PolicyKind.CONTEXTUAL, features=features, objective="margin_per_unit", burn_in=100
    )
    rail = (Guardrail("conversion_rate", 0.01, 0.02, 0.04),)
    return replace(experiment_of("a", settings=settings), guardrails=rail)


def cell(key: str, features: tuple[Feature, ...], codes: Ints, **totals: Ints) -> Cell:
    vectors = [Columns(features).vector_of(row) for row in codes.tolist()]
    names = sorted({name for vector in vectors for name in vector})
    given = {name: np.array([vector.get(name, 0) for vector in vectors]) for name in names}
    return cell_of(key, n=len(codes), candidates=BOTH, **given, **totals)  # type: ignore[arg-type]


def moved(made: Experiment, cells: list[Cell], metric: str) -> dict[str, PairSums]:
    definition = metric_definitions(made)[metric]
    found = same_contexts(tabulate(cells, definition), cells, Columns(made.policy.features))
    return {variant: sums for (variant, _, _), sums in found.sums.items()}


@pytest.mark.parametrize("features", [(DEVICE,), (DEVICE, CART)])
def test_it_is_the_regression_of_the_units(features: tuple[Feature, ...]) -> None:
    """By least squares over rows, a row for each slope's ridge: the fit at everybody's mix, and its error."""
    rng, n, columns = np.random.default_rng(2), 400, Columns(features)
    rows: dict[str, tuple[Ints, Ints, Ints]] = {}
    for key, tilt in (("none", 0.2), ("a", 0.7)):
        drawn = [rng.choice(3, n, p=[0.1, tilt, 0.9 - tilt]), rng.integers(-2, 3, n) * FEATURE_POINT // 2]
        codes = np.column_stack([one for one, _ in zip(drawn, features, strict=False)])
        orders = rng.integers(0, 3, n)
        rows[key] = (
            codes,
            orders,
            np.rint(orders * (900 + 300 * codes[:, 0]) + rng.normal(0, 90, n)).astype(int),
        )
    cells = [cell(key, features, codes, orders=o, revenue=r) for key, (codes, o, r) in rows.items()]
    z = {
        key: np.array([columns.row(c) for c in codes.tolist()]) / FEATURE_POINT
        for key, (codes, _, _) in rows.items()
    }
    mix = np.concatenate(list(z.values())).mean(axis=0)
    found = moved(experiment(*features), cells, "aov")
    ridge = np.eye(columns.width)[1:]
    for key, (_, orders, revenue) in rows.items():
        totals = np.column_stack([revenue, orders])
        padded = np.concatenate([totals, np.zeros((len(ridge), 2))])
        slopes, *_ = np.linalg.lstsq(np.concatenate([z[key], ridge]), padded, rcond=None)
        left = totals - z[key] @ slopes
        covariance = left.T @ left / (n - columns.width)
        units = 1.0 / (mix @ np.linalg.inv(z[key].T @ z[key] + ridge.T @ ridge) @ mix)
        assert found[key].units == pytest.approx(units, rel=1e-8)
        assert [found[key].mean_x, found[key].mean_y] == pytest.approx(mix @ slopes, rel=1e-8)
        for ratio in (0.0, 1500.0):
            direction = np.array([1.0, -ratio])
            expected = (units - 1) * direction @ covariance @ direction
            assert found[key].squared_deviations(ratio) == pytest.approx(expected, rel=1e-6)


def shown_by_device(
    rates: dict[str, tuple[float, float]], rng: np.random.Generator, n: int = 8000
) -> list[Cell]:
    """Units of mobile and desktop; `a` is shown on mobile eight times in ten, the control twice."""
    cells: list[Cell] = []
    for key, mobile in (("none", 0.2), ("a", 0.8)):
        codes = np.where(rng.random((n, 1)) < mobile, 1, 2)
        bought = (rng.random(n) < np.array((0.0, *rates[key]))[codes[:, 0]]).astype(np.int64)
        margin = bought * rng.integers(300, 900, n)
        cells.append(cell(key, (DEVICE,), codes, converted=bought, orders=bought, margin=margin))
    return cells


def state(made: Experiment, cells: list[Cell]) -> str:
    shares = SetShares(dict.fromkeys(BOTH, 1 << 31))
    last = PolicyVersion(3, 1, 0, Cause.SHARES_MOVED, "none", {BOTH: shares})
    (entry,) = guard(made, cells, frozenset(BOTH), (), last, time_zone="UTC", now=NOW).entries
    return str(entry["state"])


def test_who_is_shown_where_people_buy_less_does_no_harm() -> None:
    """Equal on each device; the arm's own rate is 0.24 below. The same cells without contexts are a kill."""
    made = experiment(DEVICE)
    cells = shown_by_device({"none": (0.3, 0.7), "a": (0.3, 0.7)}, np.random.default_rng(3))
    assert state(made, cells) == "ok"
    blind = replace(made, policy=replace(made.policy, kind=PolicyKind.THOMPSON))
    assert state(blind, cells) == "kill"


def test_harm_does_not_hide_where_people_buy_more() -> None:
    """Each device loses a tenth of its buyers, and yet the arm's own rate is the higher one."""
    made = experiment(DEVICE)
    cells = shown_by_device({"none": (0.7, 0.3), "a": (0.63, 0.27)}, np.random.default_rng(4))
    own = [cell.moments.sum("converted") for cell in cells]
    assert own[1] > 1.2 * own[0]
    assert state(made, cells) == "kill"


def test_the_draws_that_strike_out_read_the_same() -> None:
    made = experiment(DEVICE)
    cells = shown_by_device({"none": (0.3, 0.7), "a": (0.3, 0.7)}, np.random.default_rng(5))
    found = allocation_posteriors(made, cells, BOTH, time_zone="UTC", now=NOW)
    joint = joint_of(made, cells, BOTH, found, seed=1, time_zone="UTC", now=NOW)
    assert joint is not None
    (control,), (treatment,) = (arm.guards for arm in joint.arms)
    assert control is not None
    assert treatment is not None
    assert [control.mean, treatment.mean] == pytest.approx([0.5, 0.5], abs=0.02)


def test_its_errors_are_as_large_as_it_says() -> None:
    """Differences of 400 shops without effect, over the standard error told: mean 0, spread 1."""
    made, rng, off = experiment(DEVICE), np.random.default_rng(6), []
    for _ in range(400):
        found = moved(
            made, shown_by_device({"none": (0.3, 0.5), "a": (0.3, 0.5)}, rng, n=500), "conversion_rate"
        )
        rates = {key: sums.ratio for key, sums in found.items()}
        variance = sum(rates[key] * (1 - rates[key]) / found[key].denominator for key in BOTH)
        off.append((rates["a"] - rates["none"]) / np.sqrt(variance))
    assert np.mean(off) == pytest.approx(0.0, abs=4 / np.sqrt(len(off)))
    assert np.std(off) == pytest.approx(1.0, abs=4 / np.sqrt(2 * len(off)))


def test_an_arm_of_few_units_is_left_out_and_a_rate_stays_one() -> None:
    made, rng = experiment(DEVICE), np.random.default_rng(7)
    few = cell("a", (DEVICE,), np.array([[1], [2], [1]]), converted=np.ones(3, np.int64))
    cells = [shown_by_device({"none": (0.3, 0.5), "a": (0.3, 0.5)}, rng)[0], few]
    assert moved(made, cells, "conversion_rate").keys() == {"none"}
    # Only mobiles see a, and all buy: nothing says how desktops would, and no rate passes 1.
    sure = cell("a", (DEVICE,), np.ones((50, 1), np.int64), converted=np.ones(50, np.int64))
    found = moved(made, [cells[0], sure], "conversion_rate")["a"]
    assert 0.0 <= found.ratio <= 1.0
    assert found.units < 5.0

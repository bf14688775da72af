"""From cells to a contextual policy: the same regression as over units, and worlds where context decides."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import special

from experiments.allocation import contextual_fit
from experiments.allocation.contextual_fit import ContextualPosterior, contextual_posterior
from experiments.allocation.contextual_proposal import Held, average_shares, contextual_draws, struck_out
from experiments.allocation.features import FEATURE_POINT, Columns, column_name
from experiments.allocation.guarding import Guarded
from experiments.allocation.joint import Joint, JointArm, Limit, draw_wins
from experiments.allocation.proposal import Proposal, propose
from experiments.allocation.published import Cause, PolicyVersion
from experiments.analysis.read_out import read_out
from experiments.analysis.reading import Reason
from experiments.model import (
    CustomMetric,
    Direction,
    Experiment,
    Feature,
    FeatureKind,
    Guardrail,
    MetricKind,
    PolicyKind,
    PolicySettings,
    Prior,
)
from experiments.posteriors.beta import Beta
from experiments.posteriors.linear import LinearRegression, RegressionSums
from experiments.statistics import Cell
from tests.experiments.cells import DAY, cell_of, experiment_of
from tests.statistical import STANDARD_ERRORS, share_errors_off

ALL = ("none", "a", "b")
NOW = datetime(2026, 4, 1, tzinfo=UTC)
DEVICE = Feature("device", FeatureKind.CATEGORY, values=("mobile", "desktop"))
CART = Feature("cart_value", FeatureKind.NUMBER, scale=1000.0)
Ints = NDArray[np.int64]


def experiment(
    *features: Feature,
    objective: str = "margin_per_unit",
    guardrails: tuple[Guardrail, ...] = (),
    **policy: object,
) -> Experiment:
    kind = PolicyKind.CONTEXTUAL
    settings = PolicySettings(kind=kind, features=features, objective=objective, burn_in=100)
    made = experiment_of("a", "b", settings=replace(settings, **policy))  # type: ignore[arg-type]
    return replace(made, guardrails=guardrails)


def cell(key: str, features: tuple[Feature, ...], codes: Ints, **more: object) -> Cell:
    """A cell of units with these encoded contexts, (n, features)."""
    columns = Columns(features)
    vectors = [columns.vector_of(row) for row in codes.tolist()]
    names = sorted({name for vector in vectors for name in vector})
    given = {name: np.array([vector.get(name, 0) for vector in vectors]) for name in names}
    place = {name: more.pop(name) for name in ("candidates", "candidate_set", "day", "epoch") if name in more}
    return cell_of(key, n=len(codes), **({"candidates": ALL} | place), **given, **more)  # type: ignore[arg-type]


def posterior(made: Experiment, cells: list[Cell], keys: tuple[str, ...] = ALL) -> ContextualPosterior:
    found = contextual_posterior(made, cells, keys, time_zone="UTC", now=NOW)
    assert isinstance(found, ContextualPosterior)
    return found


def shop(features: tuple[Feature, ...], n: int = 600) -> tuple[list[Cell], dict[str, tuple[Ints, Ints]]]:
    """Units of three variants whose margin depends on the context: (codes, margins) by variant."""
    rng, units, cells = np.random.default_rng(1), {}, []
    for k, key in enumerate(ALL):
        drawn = {
            FeatureKind.CATEGORY: rng.integers(0, 3, n),
            FeatureKind.NUMBER: rng.integers(-4, 5, n) * FEATURE_POINT // 4,
        }
        codes = np.column_stack([drawn[feature.kind] for feature in features])
        margin = np.rint(500 + 40 * k * (codes[:, 0] == 1) + rng.normal(0, 100 * (1 + k), n)).astype(np.int64)
        units[key] = codes, margin
        cells.append(cell(key, features, codes, margin=margin))
    return cells, units


@pytest.mark.parametrize("features", [(DEVICE,), (DEVICE, CART)])
def test_cells_give_the_regression_of_their_units(features: tuple[Feature, ...]) -> None:
    """Units written out: prior at the pooled coefficients, worth one unit, its scale from what is left."""
    cells, units = shop(features)
    found = posterior(experiment(*features), cells)
    columns = Columns(features)
    sums = []
    for codes, margin in units.values():
        x = np.array([columns.row(row) for row in codes.tolist()]) / FEATURE_POINT
        y = margin.astype(np.float64)
        sums.append(RegressionSums(float(len(y)), x.T @ x, x.T @ y, float(y @ y)))
    ridge = np.diag([0.0, *np.ones(columns.width - 1)])
    total = sum(sums[1:], sums[0])
    pooled = np.linalg.solve(total.gram + ridge, total.cross)
    left = sum(s.residual(np.linalg.solve(s.gram + ridge, s.cross)) for s in sums)
    prior = LinearRegression(pooled, np.eye(columns.width), 1.0, left / (total.n - 3 * columns.width))
    alone = [prior.updated(s) for s in sums]
    assert found.model == "linear"
    assert found.coupled.mean == pytest.approx(np.array([arm.mean for arm in alone]), rel=1e-9)
    assert found.freedom == pytest.approx([601.0] * 3)
    for k, arm in enumerate(alone):
        own = slice(k * columns.width, (k + 1) * columns.width)
        expected = np.linalg.inv(arm.precision) * arm.scale
        assert found.coupled.covariance()[own, own] == pytest.approx(expected, rel=1e-7)
    draws = found.draw(40_000, rng=np.random.default_rng(3))
    spread = draws.std(axis=0).ravel() / np.sqrt(np.diag(found.coupled.covariance()))
    assert spread == pytest.approx(np.ones(len(spread)), abs=0.03)


def buyers(rates: dict[str, tuple[float, float, float]], n: int = 3000, seed: int = 4) -> list[Cell]:
    """Conversion by variant and device (other, mobile, desktop)."""
    rng, cells = np.random.default_rng(seed), []
    for key, by_device in rates.items():
        codes = rng.integers(0, 3, (n, 1))
        bought = (rng.random(n) < np.array(by_device)[codes[:, 0]]).astype(np.int64)
        cells.append(cell(key, (DEVICE,), codes, converted=bought, orders=bought, units=np.ones(n, np.int64)))
    return cells


FLIP = {"none": (0.10, 0.10, 0.10), "a": (0.10, 0.20, 0.05), "b": (0.10, 0.05, 0.20)}


def test_categories_and_a_proportion_are_logistic_by_counts() -> None:
    found = posterior(experiment(DEVICE, objective="conversion_rate"), buyers(FLIP, n=60_000))
    assert found.model == "logistic"
    fitted = special.expit(found.coupled.mean @ np.array([[1, 0, 0], [1, 1, 0], [1, 0, 1]]).T)
    assert fitted == pytest.approx(np.array(list(FLIP.values())), abs=0.006)
    assert found.contexts[1].sum() == pytest.approx(1.0)
    assert found.units == dict.fromkeys(ALL, 60_000.0)


def proposed(
    made: Experiment, cells: list[Cell], last: PolicyVersion | None = None, **more: object
) -> Proposal:
    given = {"guarded": Guarded(), "promoted": None, "time_zone": "UTC", "now": NOW, **more}
    return propose(made, cells, frozenset(ALL), [ALL, ("none", "a")], last=last, **given)  # type: ignore[arg-type]


def test_each_context_gets_the_variant_that_is_best_there() -> None:
    """On mobile a, on desktop b; elsewhere all alike, and the average hides all of it."""
    found = proposed(experiment(DEVICE, objective="conversion_rate"), buyers(FLIP))
    assert found.contextual is not None
    columns = Columns((DEVICE,))
    shares = {code: found.contextual.shares_for(ALL, columns.row((code,))) for code in (0, 1, 2)}
    most = 0.1 + 0.86 - 0.02
    assert shares[1]["a"] / 2**32 == pytest.approx(0.88, abs=0.005)
    assert shares[2]["b"] / 2**32 == pytest.approx(0.88, abs=0.005)
    assert max(shares[0].values()) / 2**32 < most
    average = found.sets[ALL].shares
    assert average["a"] / 2**32 == pytest.approx(
        np.mean([shares[c]["a"] for c in (0, 1, 2)]) / 2**32, abs=0.01
    )
    told = found.sets[ALL].posteriors
    assert told["a"].mean == pytest.approx(np.mean(FLIP["a"]), abs=0.02)
    assert 0 < (told["a"].sd or 0) < 0.02
    assert set(found.sets) == {ALL, ("none", "a")}
    assert found.sets["none", "a"].posteriors.keys() == {"none", "a"}


def test_a_metric_that_should_fall_falls() -> None:
    returned = CustomMetric("returned", MetricKind.PROPORTION, "returned", direction=Direction.DOWN)
    made = replace(experiment(DEVICE, objective="returned"), metrics=(returned,))
    rng, cells = np.random.default_rng(5), []
    for key, rate in {"none": 0.3, "a": 0.2, "b": 0.4}.items():
        had = (rng.random(3000) < rate).astype(np.int64)
        cells.append(cell(key, (DEVICE,), rng.integers(0, 3, (3000, 1)), **{"returned:had": had}))
    found = proposed(made, cells)
    assert found.sets[ALL].shares["a"] > 0.85 * 2**32


def test_lower_margins_lose_where_numbers_decide() -> None:
    """b earns 100 more per 1,000 of cart, a 100 less: the sign of the cart decides."""
    rng, cells = np.random.default_rng(6), []
    for key, slope in {"none": 0.0, "a": -100.0, "b": 100.0}.items():
        codes = rng.integers(-2 * FEATURE_POINT, 2 * FEATURE_POINT, (2000, 1))
        margin = np.rint(500 + slope * codes[:, 0] / FEATURE_POINT + rng.normal(0, 200, 2000)).astype(
            np.int64
        )
        cells.append(cell(key, (CART,), codes, margin=margin))
    found = proposed(experiment(CART), cells)
    assert found.contextual is not None
    row = Columns((CART,)).row
    assert found.contextual.shares_for(ALL, row((FEATURE_POINT,)))["b"] > 0.87 * 2**32
    assert found.contextual.shares_for(ALL, row((-FEATURE_POINT,)))["a"] > 0.87 * 2**32
    assert found.contextual.model == "linear"


def test_a_set_where_everybody_buys_does_not_flatter_who_was_there() -> None:
    """b competed only in set 2, where all rates are five times as high; it is the control's equal."""
    rng, cells = np.random.default_rng(7), []
    for key, number, rate in (("none", 1, 0.05), ("a", 1, 0.05), ("none", 2, 0.25), ("b", 2, 0.25)):
        bought = (rng.random(4000) < rate).astype(np.int64)
        some = ("none", key) if key != "none" else ("none", "a" if number == 1 else "b")
        given = {"candidates": some, "candidate_set": number, "converted": bought}
        cells.append(cell(key, (DEVICE,), rng.integers(0, 3, (4000, 1)), **given))
    found = posterior(experiment(DEVICE, objective="conversion_rate"), cells).coupled.mean
    assert found[2] - found[0] == pytest.approx(np.zeros(3), abs=0.35)
    assert found[1] - found[0] == pytest.approx(np.zeros(3), abs=0.45)


def test_many_sets_share_one_level(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contextual_fit, "SETS_MAX", 1)
    cells = [
        cell(key, (DEVICE,), np.full((50, 1), 1), candidate_set=number, margin=np.arange(50))
        for key in ALL
        for number in range(4)
    ]
    assert posterior(experiment(DEVICE), cells).coupled.precision.shape == (10, 10)


def test_without_costs_or_spread_there_is_no_posterior_and_the_last_draws_stand() -> None:
    made, (cells, _) = experiment(DEVICE), shop((DEVICE,))
    first = proposed(made, cells)
    last = PolicyVersion(1, 1, 1, Cause.STARTED, "none", first.sets, contextual=first.contextual)
    unknown = [cell("none", (DEVICE,), np.ones((1, 1), np.int64), unknown_cost_orders=[1])]
    held = proposed(made, [*cells, *unknown], last)
    assert held.held is not None
    assert held.held["reason"] == "cost_unknown"
    assert held.contextual is first.contextual
    still = [cell(key, (DEVICE,), np.ones((200, 1), np.int64)) for key in ALL]
    found = contextual_posterior(made, still, ALL, time_zone="UTC", now=NOW)
    assert found == (Reason.INSUFFICIENT_DATA, "totals have no spread yet")
    rate, soon = experiment(DEVICE, objective="conversion_rate"), NOW - timedelta(days=29)
    young = contextual_posterior(rate, buyers(FLIP), ALL, time_zone="UTC", now=soon)
    assert young == (Reason.INSUFFICIENT_DATA, "too little data on none, a, b")
    drawn = contextual_draws(
        made, still, ALL, joint=None, caps={}, last=None, seed=1, time_zone="UTC", now=NOW
    )
    assert drawn == Held(Reason.INSUFFICIENT_DATA, "totals have no spread yet")


def test_draws_are_made_anew_only_when_what_they_rest_on_has_changed() -> None:
    made, (cells, _) = experiment(DEVICE), shop((DEVICE,))
    first = proposed(made, cells)
    last = PolicyVersion(9, 1, 1, Cause.STARTED, "none", first.sets, contextual=first.contextual)
    assert proposed(made, cells, last).contextual is first.contextual
    more = [*cells, cell("a", (DEVICE,), np.ones((1, 1), np.int64), margin=[900])]
    again = proposed(made, more, last).contextual
    assert again is not None
    assert again != first.contextual
    assert proposed(made, more, last).contextual == again  # the seed is the version's


def test_old_days_count_less_where_the_policy_says_so() -> None:
    made = experiment(DEVICE, discount_half_life=timedelta(days=14))
    cells = [
        cell(key, (DEVICE,), np.ones((100, 1), np.int64), margin=np.arange(100) + 50 * old, day=day)
        for key in ALL
        for old, day in enumerate((DAY, date(2026, 3, 3)))
    ]
    found = posterior(made, cells)
    weights = [2.0 ** (-age / 14) for age in (28, 29)]  # days since the end of 3 and 2 March
    assert found.units["a"] == pytest.approx(100 * sum(weights))


def test_the_document_s_prior_takes_the_default_s_place() -> None:
    given = Prior(mean=9000.0, kappa=1e9, nu=3.0, scale=50.0)
    found = posterior(experiment(DEVICE, prior=given), shop((DEVICE,))[0])
    assert found.coupled.mean[:, 0] == pytest.approx([9000.0] * 3, rel=1e-3)
    assert found.freedom == pytest.approx([603.0] * 3)
    sure = experiment(DEVICE, objective="conversion_rate", prior=Prior(alpha=2e7, beta=2e7))
    assert posterior(sure, buyers(FLIP)).coupled.mean[:, 0] == pytest.approx([0.0] * 3, abs=0.01)


def test_harm_strikes_out_as_often_as_guardrails_drawn_jointly_say() -> None:
    """With one goal the draws must win as often as `joint.draw_wins`, whose law is proved elsewhere."""
    goal = Beta(60.0, 540.0)
    ties = ((1.0, 0.6), (0.6, 1.0))
    arms = tuple(JointArm(goal, (Beta(30.0 + 4 * k, 170.0),), ties) for k in range(3))
    joint = Joint(ALL, "none", (Limit("refund_rate", 0.1, is_up_bad=True, absolute=False),), arms, seed=3)
    exact, rng, n = draw_wins(joint), np.random.default_rng(8), 20_000
    goals = np.column_stack([goal.draw(n, rng=rng) for _ in range(3)])
    struck = struck_out(joint, ALL, goals, rng=rng)
    assert not struck[0].any()
    goals[struck.T] = -np.inf
    won = np.bincount(goals.argmax(axis=1), minlength=3)
    for k in range(3):
        assert share_errors_off(int(won[k]), n, float(exact.won[k])) < STANDARD_ERRORS
        assert k == 0 or share_errors_off(int(struck[k].sum()), n, float(exact.struck[k])) < STANDARD_ERRORS
    few = struck_out(joint, ("none", "b"), goals[:, [0, 2]], rng=rng)
    assert few.shape == (2, n)
    unread = replace(joint, arms=tuple(replace(arm, guards=(None,)) for arm in arms))
    assert not struck_out(unread, ALL, goals, rng=rng).any()


def test_a_variant_that_harms_gets_its_floor_in_every_context() -> None:
    """a sells best on every device, and doubles refunds."""
    rng, cells, n = np.random.default_rng(9), [], 3000
    for key, rate, refunds in (("none", 0.3, 0.1), ("a", 0.5, 0.3), ("b", 0.3, 0.1)):
        bought = (rng.random(n) < rate).astype(np.int64)
        back = bought * (rng.random(n) < refunds)
        given = {"converted": bought, "orders": bought, "refunded_orders": back}
        cells.append(cell(key, (DEVICE,), rng.integers(0, 3, (n, 1)), **given))
    rail = (Guardrail("refund_rate", 0.1, 0.2, 0.4),)
    found = proposed(experiment(DEVICE, objective="conversion_rate", guardrails=rail), cells)
    assert found.contextual is not None
    for code in (0, 1, 2):
        given = found.contextual.shares_for(ALL, Columns((DEVICE,)).row((code,)))
        assert given["a"] < 0.025 * 2**32
    assert found.sets[ALL].shares["a"] < 0.025 * 2**32


def test_a_newcomer_is_drawn_at_a_bounded_share() -> None:
    cells = [one for one in buyers(FLIP) if one.key.variant != "b"]
    found = proposed(experiment(DEVICE, objective="conversion_rate"), cells, added=frozenset({"b"}))
    assert found.contextual is not None
    assert found.newcomers == {"b"}
    for code in (0, 1, 2):
        given = found.contextual.shares_for(ALL, Columns((DEVICE,)).row((code,)))
        assert 0.02 * 2**32 < given["b"] <= 0.1 * 2**32


def test_what_it_comes_to_is_averaged_over_all_units() -> None:
    made = experiment(DEVICE, objective="conversion_rate")
    found = posterior(made, buyers(FLIP))
    drawn = contextual_draws(
        made, buyers(FLIP), ALL, joint=None, caps={}, last=None, seed=1, time_zone="UTC", now=NOW
    )
    assert not isinstance(drawn, Held)
    average = average_shares(*drawn, ALL, {"a": 0.05})
    assert average.shares["a"] <= 0.05 * 2**32
    assert sum((average.prob_best or {}).values()) == pytest.approx(1.0)
    assert column_name(1) == "context[1]"
    assert found.sign == 1


def test_means_are_averaged_over_contexts_too_and_not_read_at_the_average_one() -> None:
    """a is 60 better on mobile, 60 worse on desktop: certain in both. Planted: the average context."""
    rng, cells = np.random.default_rng(12), []
    for key, by_code in {"none": (0, 0), "a": (60, -60), "b": (-90, -90)}.items():
        codes = np.repeat([1, 2], [1500, 500])[:, np.newaxis]
        margin = np.rint(rng.normal(500, 100, 2000) + np.array(by_code)[codes[:, 0] - 1]).astype(np.int64)
        cells.append(cell(key, (DEVICE,), codes, margin=margin))
    found = proposed(experiment(DEVICE), cells)
    rows, parts = posterior(experiment(DEVICE), cells).contexts
    assert rows.tolist() == [[1, 1, 0], [1, 0, 1]]
    assert parts == pytest.approx([0.75, 0.25])
    best = found.sets[ALL].prob_best
    assert best == pytest.approx({"none": 0.25, "a": 0.75, "b": 0.0}, abs=1e-9)
    assert found.contextual is not None
    at_average = found.contextual.wins(ALL, (FEATURE_POINT, 3 * FEATURE_POINT // 4, FEATURE_POINT // 4))
    assert at_average["a"] > 0.99 * found.contextual.count


def test_the_report_shows_no_naive_lift_of_a_contextual_policy() -> None:
    """a was shown to those who buy anyway: its own figure stands, a comparison would be of shoppers."""
    found = read_out(experiment(DEVICE, objective="conversion_rate"), buyers(FLIP), time_zone="UTC", now=NOW)
    figures = next(v for v in found.variants if v.key == "a").metrics["conversion_rate"].figures
    assert figures.value == pytest.approx(0.12, abs=0.03)
    assert figures.lift_rel.value is None
    assert figures.lift_rel.reason == "not_comparable"
    assert found.verdict.kind == "insufficient_data"


def test_a_context_nobody_had_with_a_variant_is_known_from_the_others() -> None:
    """b was never shown on mobile: its rate there is a guess around everybody's, and a wide one."""
    rate = {"none": (0.1, 0.3, 0.1), "a": (0.1, 0.3, 0.1), "b": (0.1, 0.3, 0.1)}
    cells = [one for one in buyers(rate, n=4000) if one.key.variant != "b"]
    rng = np.random.default_rng(11)
    codes = 2 * rng.integers(0, 2, (4000, 1))
    cells.append(cell("b", (DEVICE,), codes, converted=(rng.random(4000) < 0.1).astype(np.int64)))
    found = posterior(experiment(DEVICE, objective="conversion_rate"), cells)
    spread = np.sqrt(np.diag(found.coupled.covariance())).reshape(3, 3)
    assert found.coupled.mean[2, 1] == pytest.approx(found.coupled.mean[0, 1], abs=0.5)
    assert spread[2, 1] > 10 * spread[0, 1]

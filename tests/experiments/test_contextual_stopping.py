"""Stop rules by context: against the plain figures, closed forms and integrals, and what follows of them."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from scipy import integrate, special, stats

from experiments.allocation.contextual_fit import ContextualPosterior
from experiments.allocation.contextual_stopping import DRAWS, ContextFigures, context_figures
from experiments.allocation.features import FEATURE_POINT, Columns
from experiments.allocation.mixes import Mix, mix_of
from experiments.allocation.stopping import (
    StopFigures,
    StopState,
    decide,
    in_words,
    read_figures,
    stop_figures,
)
from experiments.model import (
    Experiment,
    Feature,
    FeatureKind,
    PolicyKind,
    PolicySettings,
    StopAction,
    StopRule,
)
from experiments.posteriors.linear import Coupled
from experiments.posteriors.normal import StudentT
from experiments.statistics import Cell
from tests.experiments.cells import cell_of, experiment_of
from tests.statistical import STANDARD_ERRORS, share_errors_off

NOW = datetime(2026, 4, 1, tzinfo=UTC)
ALL = ("none", "a", "b")
DEVICE = Feature("device", FeatureKind.CATEGORY, values=("mobile", "desktop"))
CART = Feature("cart_value", FeatureKind.NUMBER, scale=1000.0)


def arms(
    means: Sequence[Sequence[float]], sds: Sequence[Sequence[float]], *, model: str = "linear", **more: Any
) -> ContextualPosterior:
    """Independent coefficients; `means` and `sds` (K, p)."""
    mean, sd = np.array(means), np.array(sds)
    given: dict[str, Any] = {"sign": 1, "noises": None, "freedom": None, "units": {}, **more}
    even = np.eye(mean.shape[1]), np.full(mean.shape[1], 1 / mean.shape[1])
    coupled = Coupled(mean, np.diag(1 / sd.ravel() ** 2))
    given |= {"keys": ALL[: len(mean)], "model": model, "coupled": coupled, "contexts": even}
    return ContextualPosterior(**given)


def figures(found: ContextualPosterior, mix: Mix | None = None, rope: float = 0.0) -> ContextFigures:
    return context_figures(found, mix or Mix(), "none", rope=rope, seed=4)


def off(found: float, truth: float) -> float:
    """Distance of a probability from the truth, in standard errors of the draws."""
    return share_errors_off(round(found * DRAWS), DRAWS, truth)


@pytest.mark.parametrize("sign", [1, -1])
def test_one_context_is_what_quadrature_says_of_the_same_arms(sign: int) -> None:
    """Student-t arms; planted: Normal ones of the same variance, which the 95th percentile tells apart."""
    means, scales = (10.0, 11.0, 9.0), (1.0, 1.5, 2.0)
    plain = {key: StudentT(m, s, 4.0) for key, m, s in zip(ALL, means, scales, strict=True)}
    better = {key: StudentT(sign * one.location, one.scale, 4.0) for key, one in plain.items()}
    truth = stop_figures(plain, better, "none", rope=0.05, sign=sign, units_per_week=1.0)
    columns: dict[str, Any] = {"means": [[m] for m in means], "sds": [[s] for s in scales], "sign": sign}
    found = figures(arms(**columns, freedom=np.full(3, 4.0)), rope=0.05)
    rng = np.random.default_rng(1)
    drawn = np.column_stack([one.draw(1_000_000, rng=rng) for one in better.values()])
    gap = drawn.max(axis=1) - drawn[:, ALL.index(truth.leader)]
    assert found.leads == {truth.leader: 1.0}
    assert off(found.prob_best, truth.prob_best) < STANDARD_ERRORS
    assert off(found.prob_any_better, truth.prob_any_better) < STANDARD_ERRORS
    assert abs(found.expected_loss - truth.expected_loss) < STANDARD_ERRORS * gap.std() / DRAWS**0.5
    assert off(float((gap <= found.value_remaining).mean()), 0.95) < STANDARD_ERRORS
    columns["sds"] = [[2.0**0.5 * s] for s in scales]
    thin = figures(arms(**columns), rope=0.05)
    assert abs(thin.expected_loss - truth.expected_loss) > STANDARD_ERRORS * gap.std() / DRAWS**0.5


def test_two_normal_arms_in_two_contexts_by_hand() -> None:
    """d_x = a - none in x is Normal(m_x, s_x^2), independent: a leads in the first, none in the second.

    E gap = s phi(m / s) - |m| Phi(-|m| / s) in each, P(best) = Phi(|m| / s), and a is better somewhere unless
    d_x < 0 in both. Planted: one leader for everybody.
    """
    found = figures(
        arms([[5.0, 7.0], [5.6, 6.8]], [[0.3, 0.4], [0.4, 0.3]]),
        Mix(((FEATURE_POINT, 0), (0, FEATURE_POINT)), (0.3, 0.7)),
    )
    m, s, part = np.array([0.6, -0.2]), np.array([0.5, 0.5]), np.array([0.3, 0.7])
    loss = s * stats.norm.pdf(m / s) - np.abs(m) * stats.norm.cdf(-np.abs(m) / s)
    best = stats.norm.cdf(np.abs(m) / s)
    assert found.leads == {"none": pytest.approx(0.7), "a": pytest.approx(0.3)}
    assert next(iter(found.leads)) == "none"
    assert found.contexts == 2
    rng = np.random.default_rng(2)
    d = rng.normal(m, s, (1_000_000, 2))
    gaps = np.where(m > 0, np.maximum(-d, 0), np.maximum(d, 0)) @ part
    error = gaps.std() / DRAWS**0.5
    assert abs(found.expected_loss - float(part @ loss)) < STANDARD_ERRORS * error
    wins = ((d > 0) == (m > 0)) @ part
    assert abs(found.prob_best - float(part @ best)) < STANDARD_ERRORS * wins.std() / DRAWS**0.5
    assert off(float((gaps <= found.value_remaining).mean()), 0.95) < STANDARD_ERRORS
    assert off(found.prob_any_better, 1 - float(np.prod(stats.norm.cdf(-m / s)))) < STANDARD_ERRORS
    everybody = (np.maximum(d, 0) @ part) - max(0.0, float(m @ part))  # what one leader would lose
    assert abs(found.expected_loss - everybody.mean()) > STANDARD_ERRORS * error


def test_the_rope_is_of_the_controls_level_over_everybody() -> None:
    """Planted: a rope of each context's own level."""
    found = figures(
        arms([[10.0, -30.0], [11.0, -29.5]], [[0.5, 0.5], [0.5, 0.5]]),
        Mix(((FEATURE_POINT, 0), (0, FEATURE_POINT)), (0.5, 0.5)),
        rope=0.08,
    )
    rng = np.random.default_rng(3)
    c, a = rng.normal([10, -30], 0.5, (1_000_000, 2)), rng.normal([11, -29.5], 0.5, (1_000_000, 2))
    gain = np.maximum(c, a).mean(axis=1) - c.mean(axis=1)
    assert off(found.prob_any_better, float((gain > 0.08 * np.abs(c.mean(axis=1))).mean())) < STANDARD_ERRORS
    assert off(found.prob_any_better, float((gain > 0.08 * np.abs(c).mean(axis=1)).mean())) > STANDARD_ERRORS


@pytest.mark.parametrize("sign", [1, -1])
def test_a_logistic_models_loss_is_in_the_rate(sign: int) -> None:
    """E max(0, rival - leader) of two logit-Normal rates by integration; planted: in log-odds."""
    means, sds = (-3.0, -2.5), (0.4, 0.5)
    found = figures(arms([[m] for m in means], [[s] for s in sds], model="logistic", sign=sign), rope=0.2)
    lead = 1 if sign > 0 else 0
    points, weights = np.polynomial.hermite_e.hermegauss(40)
    weights /= weights.sum()

    def short(z: float) -> float:
        """What the rival holds over the leader's rate at z, on average over the rival."""
        rate = special.expit(means[lead] + sds[lead] * z)

        def density(u: float) -> float:
            rival = special.expit(means[1 - lead] + sds[1 - lead] * u)
            return max(0.0, sign * (rival - rate)) * float(stats.norm.pdf(u))

        return integrate.quad(density, -9, 9, limit=200)[0]

    loss = float(weights @ np.array([short(float(z)) for z in points]))
    rng = np.random.default_rng(5)
    rates = special.expit(rng.normal(means, sds, (400_000, 2)))
    spread = np.maximum(0, sign * (rates[:, 1 - lead] - rates[:, lead])).std()
    assert found.leads == {ALL[lead]: 1.0}
    assert abs(found.expected_loss - loss) < STANDARD_ERRORS * spread / DRAWS**0.5
    odds = figures(arms([[m] for m in means], [[s] for s in sds], sign=sign)).expected_loss
    assert abs(odds - loss) > STANDARD_ERRORS * spread / DRAWS**0.5
    apart = stats.norm.cdf((means[1] - means[0]) / np.hypot(*sds))
    assert off(found.prob_best, float(apart)) < STANDARD_ERRORS
    better = sign * (rates[:, 1] - rates[:, 0]) > 0.2 * rates[:, 0]
    assert off(found.prob_any_better, float(better.mean())) < STANDARD_ERRORS


# ---- whose contexts


def cell(key: str, feature: Feature, codes: np.ndarray, **totals: Any) -> Cell:
    vectors = [Columns((feature,)).vector_of((code,)) for code in codes.tolist()]
    names = sorted({name for vector in vectors for name in vector})
    given = {name: np.array([vector.get(name, 0) for vector in vectors]) for name in names}
    return cell_of(key, n=len(codes), candidates=ALL, **given, **totals)


def test_every_unit_counts_where_contexts_are_few_whichever_variant_it_got() -> None:
    cells = [
        cell("none", DEVICE, np.repeat([0, 1], [10, 30])),
        cell("a", DEVICE, np.repeat([1, 2], [20, 40])),
    ]
    found = mix_of(Columns((DEVICE,)), cells, [(2,)] * 9)
    assert dict(zip(found.rows, found.parts, strict=True)) == {
        (FEATURE_POINT, 0, 0): 0.1,
        (FEATURE_POINT, FEATURE_POINT, 0): 0.5,
        (FEATURE_POINT, 0, FEATURE_POINT): 0.4,
    }
    assert mix_of(Columns((DEVICE,)), [], [(2,)]) == Mix()
    assert mix_of(Columns((CART,)), cells, []) == Mix()


# ---- what the allocator reads


def made(*features: Feature, objective: str = "conversion_rate", **rule: Any) -> Experiment:
    settings = PolicySettings(kind=PolicyKind.CONTEXTUAL, features=features, objective=objective, burn_in=100)
    return experiment_of("a", "b", settings=settings, stop_rule=StopRule(**rule))


def buyers(rates: dict[str, tuple[float, float, float]], n: int = 3000) -> list[Cell]:
    """Conversion by variant and device (other, mobile, desktop), a third of the units each."""
    found = []
    for key, by_device in rates.items():
        codes = np.arange(n) % 3
        hits = np.concatenate([np.arange(n // 3) < rate * n // 3 for rate in by_device])
        bought = hits.reshape(3, -1).T.ravel().astype(np.int64)
        found.append(cell(key, DEVICE, codes, converted=bought))
    return found


FLIP = {"none": (0.10, 0.10, 0.10), "a": (0.11, 0.20, 0.05), "b": (0.10, 0.05, 0.20)}
EVERYWHERE = {"none": (0.10, 0.10, 0.10), "a": (0.16, 0.20, 0.15), "b": (0.10, 0.05, 0.10)}


def read(
    experiment: Experiment, cells: list[Cell], contexts: Sequence[tuple[int, ...]] = ()
) -> StopFigures | str:
    return read_figures(experiment, cells, set(ALL), priors={}, time_zone="UTC", now=NOW, contexts=contexts)


def known(found: StopFigures | str) -> StopFigures:
    assert isinstance(found, StopFigures)
    return found


def test_who_leads_differs_by_context_and_then_nobody_is_promoted() -> None:
    experiment = made(DEVICE, prob_best_above=0.6, loss_below=0.01, action=StopAction.PROMOTE)
    found = known(read(experiment, buyers(FLIP)))
    assert found.leads == {"a": pytest.approx(2 / 3), "b": pytest.approx(1 / 3)}
    assert (found.leader, found.contexts) == ("a", 3)
    assert found.prob_any_better > 0.999
    assert found.to_json()["leads"] == found.leads
    assert known(read(experiment, buyers(FLIP))) == found  # the draws are the same at every step
    decided = decide(experiment, found, None, (), promoted=None, now=NOW)
    assert decided is not None
    assert (decided.state, decided.blocked) == (StopState.REACHED, ("not_everywhere",))
    said = in_words(decided.to_json(), experiment)
    assert said.startswith("stopping is recommended: choosing each context's leader loses 0.00")
    assert "; each context's leader is the best with probability 0.8" in said
    assert said.endswith("(not promoted: no variant leads in every context)")


def test_who_leads_in_every_context_is_promoted() -> None:
    experiment = made(DEVICE, loss_below=0.01, futility_below=0.01, action=StopAction.PROMOTE)
    found = known(read(experiment, buyers(EVERYWHERE)))
    assert found.leads == {"a": pytest.approx(1.0)}
    decided = decide(experiment, found, None, (), promoted=None, now=NOW)
    assert decided is not None
    assert (decided.state, decided.promote) == (StopState.PROMOTED, "a")
    assert "choosing a loses" in in_words(decided.to_json(), experiment)
    control = {**EVERYWHERE, "none": (0.4, 0.4, 0.4)}
    blocked = decide(experiment, known(read(experiment, buyers(control))), None, (), promoted=None, now=NOW)
    assert blocked is not None
    assert blocked.blocked == ("control_leads",)
    assert "each context's best variant beats the control by more than 1.00%" in in_words(
        blocked.to_json(), experiment
    )


def test_a_treatment_for_some_only_is_not_futile() -> None:
    """a does on mobile as much good as it does harm elsewhere: 0 over everybody, much by context."""
    mixed = {"none": (0.10, 0.10, 0.10), "a": (0.10, 0.20, 0.00), "b": (0.10, 0.10, 0.10)}
    found = known(read(made(DEVICE), buyers(mixed, n=9000)))
    assert found.prob_any_better > 0.999


def carts(n: int = 2000) -> tuple[list[Cell], list[tuple[int, ...]]]:
    """b earns 100 more per 1,000 of cart, a 100 less; carts are even around 0."""
    rng, found, seen = np.random.default_rng(6), [], []
    for key, slope in {"none": 0.0, "a": -100.0, "b": 100.0}.items():
        codes = rng.integers(-2 * FEATURE_POINT, 2 * FEATURE_POINT, n)
        codes -= round(codes.mean())
        noise = rng.normal(0, 200, n)
        margin = np.rint(500 + slope * codes / FEATURE_POINT + noise - noise.mean()).astype(np.int64)
        found.append(cell(key, CART, codes, margin=margin))
        seen += [(code,) for code in codes.tolist()]
    return found, seen[::60]


def test_endless_contexts_are_those_of_a_sample_and_else_the_average() -> None:
    """At the average cart all arms are equal; at nearly every cart there is, one is far ahead."""
    cells, seen = carts()
    experiment = made(CART, objective="margin_per_unit")
    average, found = known(read(experiment, cells)), known(read(experiment, cells, seen))
    assert (average.contexts, found.contexts) == (1, 100)
    assert average.prob_best < 0.5
    assert found.prob_best > 0.9
    assert set(found.leads or {}) >= {"a", "b"}
    assert found.value_remaining < average.value_remaining


def test_means_without_a_context_to_tell_apart_are_read_as_under_the_other_policies() -> None:
    """Nobody's device is listed; both priors are worth one of 2,000 units."""
    rng, cells = np.random.default_rng(7), []
    for k, key in enumerate(ALL):
        margin = np.rint(rng.normal(500 + 4 * k, 100, 2000)).astype(np.int64)
        cells.append(cell(key, DEVICE, np.zeros(2000, np.int64), margin=margin))
    experiment = made(DEVICE, objective="margin_per_unit", loss_below=1.0)
    plain = replace(experiment, policy=replace(experiment.policy, kind=PolicyKind.THOMPSON))
    found, truth = known(read(experiment, cells)), known(read(plain, cells))
    assert found.leader == truth.leader
    assert found.contexts == 1
    for name in ("prob_best", "prob_any_better"):
        assert getattr(found, name) == pytest.approx(getattr(truth, name), abs=0.02)
    assert found.expected_loss == pytest.approx(truth.expected_loss, rel=0.1)
    assert found.value_remaining == pytest.approx(truth.value_remaining, rel=0.05)


def test_without_a_posterior_there_is_the_reason() -> None:
    assert read(made(DEVICE), []) == "insufficient_data"
    unknown = cell("none", DEVICE, np.ones(1, np.int64), unknown_cost_orders=np.ones(1, np.int64))
    assert read(made(DEVICE, objective="margin_per_unit"), [unknown]) == "cost_unknown"

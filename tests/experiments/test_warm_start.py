"""Priors from an expert's shares and from past experiments, against integrals and conjugate closed forms."""

import math
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any

import numpy as np
import pytest
from scipy import integrate, stats

from experiments.allocation.warm_start import (
    PastExperiment,
    WarmPriors,
    expert_betas,
    expert_offsets,
    warm_priors,
)
from experiments.analysis.estimates import before_data
from experiments.analysis.objective import allocation_posteriors
from experiments.errors import BrokenInvariant
from experiments.model import (
    CustomMetric,
    Direction,
    Experiment,
    MetricKind,
    PolicyKind,
    PolicySettings,
    Prior,
    WarmSource,
    WarmStart,
)
from experiments.posteriors.beta import Beta
from experiments.posteriors.compare import prob_best
from experiments.posteriors.normal import StudentT
from experiments.statistics import Cell
from tests.experiments.cells import cell_of, experiment_of

NOW = datetime(2026, 4, 1, tzinfo=UTC)
ALL = ("none", "socks")


def best_by_scipy(arms: Sequence[Any], low: float, high: float) -> list[float]:
    """P(best) of frozen SciPy distributions, by adaptive quadrature over their densities."""
    found: list[float] = []
    for arm in arms:
        others = [other for other in arms if other is not arm]
        value, _ = integrate.quad(
            lambda x, arm=arm, others=others: arm.pdf(x) * math.prod(other.cdf(x) for other in others),
            low,
            high,
            epsabs=1e-10,
            epsrel=1e-10,
            limit=400,
        )
        found.append(value)
    return found


@pytest.mark.parametrize("shares", [(0.4, 0.6), (0.2, 0.3, 0.5), (0.7, 0.01, 0.29)])
@pytest.mark.parametrize("units", [4.0, 200.0])
def test_an_experts_shares_are_the_probabilities_of_being_best_of_the_priors(
    shares: tuple[float, ...], units: float
) -> None:
    means = [stats.t(units, loc=offset) for offset in expert_offsets(shares, units)]
    assert best_by_scipy(means, -80, 80) == pytest.approx(shares, abs=1e-6)
    rates = [stats.beta(*found) for found in expert_betas(shares, units, 0.3, 0)]
    assert best_by_scipy(rates, 0, 1) == pytest.approx(shares, abs=1e-6)
    assert [round(sum(found), 9) for found in expert_betas(shares, units, 0.3, 0)] == [units] * len(shares)
    normals = [stats.norm(loc=arm.mean()) for arm in means]  # planted: the tails of a few units forgotten
    if units == 4.0:
        assert np.abs(np.subtract(best_by_scipy(normals, -80, 80), shares)).max() > 1e-3


def test_the_hardest_shares_are_met_too() -> None:
    """Found among 3,000 random ones: Newton on the wrong four equations let the first share run off to 0."""
    shares = (0.001, 0.4635, 0.0015, 0.001, 0.533)
    found = expert_betas(shares, 9333.820766423938, 0.00032173319749212816, 0)
    assert prob_best([Beta(*pair) for pair in found]) == pytest.approx(shares, abs=1e-9)
    assert prob_best([StudentT(d, 1.0, 4.0) for d in expert_offsets(shares, 4.0)]) == pytest.approx(
        shares, abs=1e-9
    )


def test_priors_that_are_not_found_are_never_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("experiments.allocation.warm_start._ROUNDS", 1)
    with pytest.raises(BrokenInvariant):
        expert_offsets((0.123, 0.877), 77.0)


def test_two_normal_arms_lie_a_normal_quantile_apart() -> None:
    low, high = expert_offsets((0.25, 0.75), 1e12)
    assert high - low == pytest.approx(math.sqrt(2) * stats.norm.ppf(0.75), abs=1e-8)
    assert low + high == pytest.approx(0, abs=1e-12)


def warm(experiment: Experiment, cells: Sequence[Cell], **past: PastExperiment) -> WarmPriors:
    return warm_priors(experiment, cells, past, time_zone="UTC", now=NOW)


def settled(objective: str, start: WarmStart | None, **more: Any) -> Experiment:
    settings = PolicySettings(
        kind=PolicyKind.THOMPSON, objective=objective, warm_start=start, burn_in=0, **more
    )
    return experiment_of("socks", settings=settings)


def sold(n: int, rate: float, variant: str, **more: Any) -> Cell:
    bought = (np.arange(n) < round(n * rate)).astype(np.int64)
    margin = bought * (400 + 10 * (np.arange(n) % 7))
    return cell_of(
        variant, n=n, **{"candidates": ALL, **more}, converted=bought, orders=bought, margin=margin
    )


def best_of(found: WarmPriors) -> list[float]:
    arms = [found.initial[key] for key in ALL]
    return best_by_scipy(arms, *(-60, 60) if not isinstance(arms[0], Beta) else (0, 1))


def test_without_a_warm_start_there_is_none() -> None:
    assert warm(settled("conversion_rate", None), []) == WarmPriors()


@pytest.mark.parametrize("objective", ["conversion_rate", "margin_per_unit"])
def test_before_any_data_the_shares_stand_whatever_the_level(objective: str) -> None:
    rate = 0.03 if objective == "conversion_rate" else None
    start = WarmStart(shares={"none": 0.4, "socks": 0.6}, units=100, rate=rate)
    found = warm(settled(objective, start), [])
    assert best_of(found) == pytest.approx([0.4, 0.6], abs=1e-6)
    assert (found.priors == {}) == (rate is None)  # a mean's level and spread come with the data
    assert found.entries["socks"]["share"] == 0.6


def test_a_means_prior_takes_its_level_and_spread_from_the_data_and_keeps_the_shares() -> None:
    start = WarmStart(shares={"none": 0.4, "socks": 0.6}, units=100)
    cells = [sold(500, 0.2, "none"), sold(700, 0.4, "socks")]
    found = warm(settled("margin_per_unit", start), cells)
    prior = [found.priors[key] for key in ALL]
    total, square, within = 0, 0, 0.0
    for cell in cells:
        n, s = cell.moments.sum("units"), cell.moments.sum("margin")
        total, square = total + s, square + n
        within += cell.moments.product("margin", "margin") - s * s / n
    assert [p.scale for p in prior] == pytest.approx([within / (square - 2)] * 2)
    means = [p.mean for p in prior if p.mean is not None]
    assert sum(means) / 2 == pytest.approx(total / square)
    error = math.sqrt(within / (square - 2) / 100)
    arms = [stats.t(100, loc=(mean - means[0]) / error) for mean in means]
    assert best_by_scipy(arms, -60, 60) == pytest.approx([0.4, 0.6], abs=1e-6)


def test_where_less_is_better_the_shares_are_of_being_lowest() -> None:
    metrics = (
        CustomMetric("calls", MetricKind.PROPORTION, "call", direction=Direction.DOWN),
        CustomMetric("wait", MetricKind.MEAN, "wait", direction=Direction.DOWN),
    )
    start = WarmStart(shares={"none": 0.1, "socks": 0.9}, units=100, rate=0.2)
    rates = warm(replace(settled("calls", start), metrics=metrics), []).priors
    none, socks = (stats.beta(rates[key].alpha, rates[key].beta) for key in ALL)
    lowest, _ = integrate.quad(lambda x: socks.pdf(x) * none.sf(x), 0, 1, epsabs=1e-10)
    assert lowest == pytest.approx(0.9, abs=1e-6)
    assert none.mean() == pytest.approx(0.2)
    waited = [cell_of(key, n=100, candidates=ALL, **{"wait:sum": np.arange(100) << 32}) for key in ALL]
    means = warm(replace(settled("wait", replace(start, rate=None)), metrics=metrics), waited).priors
    assert means["socks"].mean is not None
    assert means["none"].mean is not None
    assert means["socks"].mean < means["none"].mean


def test_a_control_without_a_share_leaves_the_rate_to_the_first_variant_named() -> None:
    start = WarmStart(shares={"socks": 0.4, "cap": 0.6}, units=100, rate=0.2)
    experiment = replace(
        experiment_of("socks", "cap"),
        policy=PolicySettings(kind=PolicyKind.THOMPSON, objective="conversion_rate", warm_start=start),
    )
    priors = warm(experiment, []).priors
    assert priors["socks"].alpha == pytest.approx(20)
    assert set(priors) == {"socks", "cap"}


# ---- past experiments


def past(cells: Sequence[Cell], **more: Any) -> PastExperiment:
    return PastExperiment(replace(settled("margin_per_unit", None), key="spring", **more), cells, "UTC")


def learnt(discount: float, *keys: str) -> WarmStart:
    return WarmStart(variants={key: WarmSource("spring", key, discount) for key in keys or ALL})


def test_the_power_prior_of_a_rate_is_its_likelihood_to_the_power_on_a_grid() -> None:
    found = warm(
        settled("conversion_rate", learnt(0.3)),
        [],
        spring=past([sold(50, 0.2, "none"), sold(90, 0.3, "socks")]),
    )
    prior = found.priors["socks"]
    assert prior == Prior(alpha=1 + 0.3 * 27, beta=pytest.approx(1 + 0.3 * 63))
    grid = (np.arange(200_000) + 0.5) / 200_000
    density = np.exp(0.3 * (27 * np.log(grid) + 63 * np.log1p(-grid)))  # Beta(1, 1) is flat
    density /= density.mean()
    assert np.abs(density - stats.beta(prior.alpha, prior.beta).pdf(grid)).max() < 1e-6
    assert found.entries["socks"] == {
        **{"experiment": "spring", "variant": "socks", "discount": 0.3, "units": pytest.approx(27)},
        "prior": {"alpha": prior.alpha, "beta": prior.beta},
    }


def test_the_power_prior_of_a_mean_is_its_likelihood_to_the_power_on_a_grid() -> None:
    """Default prior (pooled mean and variance, one unit each) x Normal likelihood^0.4, over (mu, sigma^2)."""
    cells = [sold(30, 0.4, "none"), sold(40, 0.6, "socks")]
    found = warm(settled("margin_per_unit", learnt(0.4)), [], spring=past(cells))
    prior = found.priors["socks"]
    moments = cells[1].moments
    n, s, ss = moments.sum("units"), moments.sum("margin"), moments.product("margin", "margin")
    none = cells[0].moments
    center = (s + none.sum("margin")) / 70
    within = (ss - s * s / n + none.product("margin", "margin") - none.sum("margin") ** 2 / 30) / 68
    log_variance = np.linspace(math.log(within) - 7, math.log(within) + 12, 2_001)[:, None]
    mu = np.linspace(center - 3_000, center + 3_000, 6_001)[None, :]
    variance = np.exp(log_variance)
    log_prior = -0.5 * log_variance - (mu - center) ** 2 / (2 * variance)  # mean | variance, kappa 1
    log_prior = log_prior - 0.5 * log_variance - within / (2 * variance)  # scaled inverse chi2 (1), d log v
    log_likelihood = -0.5 * n * log_variance - (ss - 2 * mu * s + n * mu**2) / (2 * variance)
    joint = log_prior + 0.4 * log_likelihood
    density = np.exp(joint - joint.max()).sum(axis=0)
    density /= density.sum()
    mean = float((density * mu[0]).sum())
    sd = math.sqrt(float((density * (mu[0] - mean) ** 2).sum()))
    assert prior.kappa is not None
    assert prior.scale is not None
    exact = stats.t(prior.nu, loc=prior.mean, scale=math.sqrt(prior.scale / prior.kappa))
    assert mean == pytest.approx(exact.mean(), rel=1e-4)
    assert sd == pytest.approx(exact.std(), rel=1e-3)
    assert (prior.kappa, prior.nu) == (1 + 16, 1 + 16)


def test_half_of_twice_the_units_is_the_same_prior() -> None:
    once = warm(
        settled("margin_per_unit", learnt(1.0)),
        [],
        spring=past([sold(300, 0.4, "none"), sold(300, 0.6, "socks")]),
    )
    other = date(2026, 3, 3)
    twice = [
        sold(300, rate, key, day=day)
        for key, rate in (("none", 0.4), ("socks", 0.6))
        for day in (other, date(2026, 3, 2))
    ]
    half = warm(settled("margin_per_unit", learnt(0.5)), [], spring=past(twice))
    for key in ALL:
        a, b = once.priors[key], half.priors[key]
        assert (a.mean, a.kappa, a.nu) == (pytest.approx(b.mean, rel=1e-6), b.kappa, b.nu)
        assert a.scale == pytest.approx(b.scale, rel=5e-3)  # the base prior's spread is the data's own


def test_sets_are_standardised_and_worth_the_units_that_one_would_need() -> None:
    """Sets of 2/3 and 1/3 of the units, rates 0.2 and 0.5, 100 and 200 units: n = 1 / (4/900 + 1/1800)."""
    cells = [
        sold(500, 0.1, "none", candidate_set=1),
        sold(100, 0.2, "socks", candidate_set=1),
        sold(100, 0.1, "none", candidate_set=2),
        sold(200, 0.5, "socks", candidate_set=2),
    ]
    prior = warm(settled("conversion_rate", learnt(1.0)), [], spring=past(cells)).priors["socks"]
    units = 1 / ((2 / 3) ** 2 / 100 + (1 / 3) ** 2 / 200)
    assert prior.alpha == pytest.approx(1 + units * 0.3)
    assert prior.beta == pytest.approx(1 + units * 0.7)


def test_the_base_is_the_experiments_own_prior() -> None:
    own = settled("conversion_rate", learnt(0.5), prior=Prior(alpha=2, beta=20))
    prior = warm(own, [], spring=past([sold(50, 0.2, "none"), sold(90, 0.3, "socks")])).priors["none"]
    assert prior == Prior(alpha=2 + 5, beta=20 + 20)
    given = Prior(mean=100, kappa=5, nu=7, scale=10_000)
    means = settled("margin_per_unit", learnt(0.5), prior=given)
    found = warm(means, [], spring=past([sold(50, 0.2, "none"), sold(90, 0.3, "socks")])).priors["none"]
    assert (found.kappa, found.nu) == (5 + 25, 7 + 25)


LACKING = CustomMetric("visits", MetricKind.MEAN, "visit")


@pytest.mark.parametrize(
    ("there", "objective", "reason"),
    [
        (None, "conversion_rate", "no_such_experiment"),
        (past([]), "visits", "no_such_metric"),
        (past([], metrics=(replace(LACKING, kind=MetricKind.PROPORTION),)), "visits", "no_such_metric"),
        (past([]), "conversion_rate", "insufficient_data"),
        (past([sold(9, 0.5, "socks")]), "conversion_rate", "insufficient_data"),
        (past([sold(90, 0, "none"), sold(90, 0, "socks")]), "margin_per_unit", "insufficient_data"),
        (
            past([sold(50, 0.5, k, day=date(2026, 3, 30)) for k in ALL]),
            "conversion_rate",
            "insufficient_data",
        ),
    ],
)
def test_a_past_that_tells_nothing_gives_its_reason(
    there: PastExperiment | None, objective: str, reason: str
) -> None:
    experiment = replace(settled(objective, learnt(0.5)), metrics=(LACKING,))
    found = warm(experiment, [], **({} if there is None else {"spring": there}))
    assert found.priors == found.initial == {}
    assert {entry["reason"] for entry in found.entries.values()} == {reason}


@pytest.mark.parametrize(
    ("feature", "reason"), [("unknown_cost_orders", "cost_unknown"), ("unconverted_orders", "unconverted")]
)
def test_a_past_whose_margin_is_unknown_is_not_used(feature: str, reason: str) -> None:
    cells = [
        cell_of(key, n=50, candidates=ALL, margin=np.arange(50), **{feature: np.ones(50, int)}) for key in ALL
    ]
    found = warm(settled("margin_per_unit", learnt(0.5)), [], spring=past(cells))
    assert {entry["reason"] for entry in found.entries.values()} == {reason}


def test_an_expert_beside_a_past_takes_its_level_from_there_until_there_is_data() -> None:
    start = replace(learnt(0.5, "socks"), shares={"none": 0.5, "cap": 0.5}, units=50)
    experiment = replace(
        experiment_of("socks", "cap"),
        policy=PolicySettings(kind=PolicyKind.THOMPSON, objective="margin_per_unit", warm_start=start),
    )
    found = warm(experiment, [], spring=past([sold(50, 0.2, "none"), sold(90, 0.3, "socks")]))
    assert set(found.priors) == {"none", "socks", "cap"}
    assert found.priors["cap"].mean == pytest.approx(found.priors["none"].mean)


# ---- what the allocator makes of them


def posteriors(cells: Sequence[Cell], priors: dict[str, Prior], objective: str = "conversion_rate") -> Any:
    return allocation_posteriors(
        settled(objective, None), cells, ALL, time_zone="UTC", now=NOW, priors=priors
    )


def test_the_posterior_is_the_prior_and_the_units() -> None:
    prior = {"none": Prior(alpha=10, beta=90), "socks": Prior(alpha=12, beta=88)}
    found = posteriors([sold(100, 0.1, "none"), sold(50, 0.2, "socks")], prior)
    assert found.posteriors == {"none": Beta(20, 180), "socks": Beta(22, 128)}


def test_an_arm_without_units_has_its_prior_and_does_not_hold_up_the_others() -> None:
    prior = {"socks": Prior(alpha=12, beta=88)}
    found = posteriors([sold(100, 0.1, "none")], prior)
    assert found.posteriors == {"none": Beta(11, 91), "socks": Beta(12, 88)}
    assert posteriors([], {key: prior["socks"] for key in ALL}).posteriors["none"] == Beta(12, 88)
    assert posteriors([sold(100, 0.1, "none")], {}).reason == "insufficient_data"
    with pytest.raises(ValueError):
        before_data(Prior(mean=1.0))

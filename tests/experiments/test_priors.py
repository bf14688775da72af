"""The priors of the report, and the lift with others: against closed forms and numbers by hand."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from scipy import integrate, stats

from experiments.allocation.warm_start import PastExperiment
from experiments.analysis.priors import SCEPTICAL, normal_prob_best
from experiments.analysis.read_out import read_out
from experiments.analysis.report import MetricReport, to_wire
from experiments.model import Experiment, PolicyKind, Prior, WarmSource
from experiments.posteriors.compare import prob_best
from experiments.posteriors.normal import StudentT
from experiments.statistics import Cell
from tests.experiments.cells import cell_of, experiment_of

KEYS = ("none", "socks")
NOW = datetime(2026, 12, 1, tzinfo=UTC)
FIXED = experiment_of("socks")


def cells(none: int = 300, socks: int = 330, n: int = 1000, epochs: int = 1) -> list[Cell]:
    """Units of which so many convert and bring a margin of 100 or 300; carts without any abandoned."""
    return [
        cell_of(
            key, n=n, candidates=KEYS, epoch=epoch, converted=np.arange(n) < buyers,
            orders=np.arange(n) < buyers, revenue=1000 * (np.arange(n) < buyers),
            margin=(100 + 200 * (np.arange(n) % 2)) * (np.arange(n) < buyers), carts=np.ones(n, dtype=int),
        )
        for epoch in range(epochs)
        for key, buyers in (("none", none), ("socks", socks))
    ]  # fmt: skip


def metric(
    key: str, chosen: list[Cell], experiment: Experiment = FIXED, variant: str = "socks", **more: Any
) -> MetricReport:
    report = read_out(experiment, chosen, time_zone="UTC", now=NOW, **more)
    return report.variant(variant).metrics[key]


@pytest.mark.parametrize("tau", [None, 0.05])
def test_normal_p_best_is_that_of_quadrature(tau: float | None) -> None:
    """With the sceptic, the arms given mu are independent: averaged over mu by adaptive quadrature."""
    figures, errors = np.array([1.0, 1.03, 0.98, 1.05]), np.array([0.02, 0.05, 0.01, 0.04])

    def at(mu: float | None) -> Any:
        kept = 1.0 if tau is None else (tau**2 / 2) / (tau**2 / 2 + errors**2)
        means = figures if mu is None else kept * figures + (1 - kept) * mu
        return prob_best([StudentT(m, s) for m, s in zip(means, np.sqrt(kept) * errors, strict=True)])

    if tau is None:
        expected = at(None)
    else:
        weights = 1 / (tau**2 / 2 + errors**2)
        of_mu = stats.norm((weights * figures).sum() / weights.sum(), weights.sum() ** -0.5)
        nodes = of_mu.ppf((np.arange(400) + 0.5) / 400)
        expected = np.mean([at(float(mu)) for mu in nodes], axis=0)
    np.testing.assert_allclose(normal_prob_best(figures, errors, tau), expected, atol=1e-3)


def test_two_arms_under_the_sceptic_are_the_closed_form_whatever_their_errors() -> None:
    """P(theta_1 > theta_0) = Phi(sqrt(k) d / sqrt(v)), k = t^2 / (t^2 + v)."""
    for errors in ((0.3, 0.3), (0.9, 0.1)):
        variance, tau, gain = errors[0] ** 2 + errors[1] ** 2, 0.5, 0.6
        kept = tau**2 / (tau**2 + variance)
        expected = stats.norm.cdf(np.sqrt(kept / variance) * gain)
        found = normal_prob_best(np.array([1.0, 1.0 + gain]), np.array(errors), tau)
        assert found[1] == pytest.approx(expected, abs=1e-4)
        forgotten = normal_prob_best(np.array([1.0, 1.0 + gain]), np.array(errors))[1]
        assert abs(forgotten - expected) > 0.01


def test_the_lift_with_each_prior_by_hand() -> None:
    """300 and 330 of 1,000: the flat error is sqrt(.3 x .7 / 999 + .33 x .67 / 999), the sceptic's t .015."""
    found = metric("conversion_rate", cells())
    assert found.prior is not None
    assert (found.prior.kind, found.prior.parameters) == ("default", {"alpha": 1.0, "beta": 1.0})
    assert found.sensitivity is not None
    default, flat, sceptical = (found.sensitivity[name] for name in ("default", "flat", "sceptical"))
    assert default.lift_abs.value == pytest.approx(331 / 1002 - 301 / 1002)
    assert default.lift_abs.ci_low == found.figures.lift_abs.ci_low
    assert default.prob_best == found.figures.prob_best
    error = np.sqrt((0.3 * 0.7 + 0.33 * 0.67) / 999)
    assert flat.lift_abs.value == pytest.approx(0.03)
    assert flat.lift_abs.ci_high == pytest.approx(0.03 + stats.norm.ppf(0.975) * error)
    assert flat.prob_best == pytest.approx(stats.norm.cdf(0.03 / error), abs=1e-6)
    kept = 1 / (1 + error**2 / (SCEPTICAL * 0.3) ** 2)
    assert sceptical.lift_abs.value == pytest.approx(kept * 0.03)
    assert sceptical.lift_abs.ci_low == pytest.approx(
        kept * 0.03 - stats.norm.ppf(0.975) * np.sqrt(kept) * error
    )
    assert sceptical.prob_best == pytest.approx(stats.norm.cdf(np.sqrt(kept) * 0.03 / error), abs=1e-4)
    control = metric("conversion_rate", cells(), variant="none").sensitivity
    assert control is not None
    assert control["flat"].lift_abs.reason == "is_control"
    assert control["flat"].prob_best == pytest.approx(1 - (flat.prob_best or 0))


def test_the_chance_to_lie_in_the_rope_is_that_of_two_betas() -> None:
    """P(-1 % <= theta_1 / theta_0 - 1 <= 1 %) by adaptive quadrature over the control."""
    of_control, of_socks = stats.beta(301, 701), stats.beta(331, 671)
    expected, _ = integrate.quad(
        lambda x: of_control.pdf(x) * (of_socks.cdf(1.01 * x) - of_socks.cdf(0.99 * x)), 0.2, 0.4
    )
    assert metric("conversion_rate", cells()).prob_in_rope == pytest.approx(expected, abs=1e-9)
    wide = replace(FIXED, verdict=replace(FIXED.verdict, rope=0.2))
    assert (metric("conversion_rate", cells(), wide).prob_in_rope or 0) > 3 * expected
    assert metric("conversion_rate", cells(), variant="none").prob_in_rope is None


def test_an_experts_prior_moves_every_variant_and_the_default_stands_beside_it() -> None:
    told = replace(FIXED, priors={"conversion_rate": Prior(alpha=30.0, beta=970.0)})
    found, plain = metric("conversion_rate", cells(), told), metric("conversion_rate", cells())
    assert found.prior is not None
    assert (found.prior.kind, found.prior.parameters) == ("expert", {"alpha": 30.0, "beta": 970.0})
    assert found.figures.value == plain.figures.value == 0.33
    assert found.figures.ci_high == pytest.approx(stats.beta(360, 1640).ppf(0.975))
    assert found.sensitivity is not None
    assert plain.sensitivity is not None
    assert found.sensitivity["default"].lift_abs.value == plain.sensitivity["default"].lift_abs.value
    assert found.sensitivity["default"].lift_abs.ci_low == pytest.approx(plain.figures.lift_abs.ci_low)
    assert found.sensitivity["default"].prob_best == plain.figures.prob_best
    assert found.sensitivity["flat"] == plain.sensitivity["flat"]


def test_an_experts_prior_counts_in_strata_as_one_more_normal() -> None:
    """Two epochs of 1,000 units: precision of the data plus that of the prior's Beta."""
    adaptive = experiment_of("socks", policy=PolicyKind.THOMPSON)
    plain = metric("conversion_rate", cells(epochs=2), adaptive)
    assert plain.prior is not None
    assert plain.prior.kind == "flat"
    told = replace(adaptive, priors={"conversion_rate": Prior(alpha=30.0, beta=970.0)})
    found = metric("conversion_rate", cells(epochs=2), told)
    error = (plain.figures.ci_high - plain.figures.ci_low) / 2 / stats.norm.ppf(0.975)  # type: ignore[operator]
    prior = stats.beta(30, 970)
    precision = 1 / error**2 + 1 / prior.var()
    middle = (0.33 / error**2 + prior.mean() / prior.var()) / precision
    assert found.figures.method == "stratified normal, given prior"
    assert found.figures.value == pytest.approx(0.33)
    assert found.figures.ci_low == pytest.approx(middle - stats.norm.ppf(0.975) / np.sqrt(precision))
    vague = {"margin_per_unit": Prior(mean=0.0, kappa=1.0, nu=1.0, scale=1e12)}
    wide = metric("margin_per_unit", cells(epochs=2), replace(adaptive, priors=vague)).figures
    assert wide.ci_low == pytest.approx(
        metric("margin_per_unit", cells(epochs=2), adaptive).figures.ci_low, 1e-6
    )


def test_a_past_experiments_prior_counts_its_units_at_a_discount() -> None:
    source = WarmSource("spring", "none", 0.5)
    told = replace(FIXED, priors={"conversion_rate": source, "margin_per_unit": source})
    past = {"spring": PastExperiment(replace(FIXED, key="spring"), cells(100, 100, 400), "UTC")}
    found = metric("conversion_rate", cells(), told, past=past)
    assert found.prior is not None
    assert found.prior.kind == "historic"
    assert found.prior.parameters == {"alpha": 1 + 50.0, "beta": 1 + 150.0}
    assert found.prior.source == {"experiment": "spring", "variant": "none", "discount": 0.5}
    assert found.figures.ci_low == pytest.approx(stats.beta(330 + 51, 670 + 151).ppf(0.025))
    lost = metric("conversion_rate", cells(), told).prior
    assert lost is not None
    assert (lost.kind, lost.reason) == ("default", "no_such_experiment")


def test_what_has_no_spread_or_no_common_control_has_no_flat_prior() -> None:
    nothing = metric("conversion_rate", cells(0, 0)).sensitivity
    assert nothing is not None
    assert nothing["flat"].lift_abs.reason == nothing["sceptical"].lift_abs.reason == "insufficient_data"
    assert nothing["flat"].prob_best is nothing["sceptical"].prob_best is None
    free = metric("cart_abandonment_rate", cells()).sensitivity  # no cart abandoned, ever: a Beta of counts
    assert free is not None
    assert free["flat"].prob_best is None
    wide = (*KEYS, "mug")
    mixed = [*cells(), *(cell_of(k, n=500, candidates=wide, candidate_set=7, converted=np.arange(500) < 100)
                         for k in wide)]  # fmt: skip
    both = metric("conversion_rate", mixed, experiment_of("socks", "mug")).sensitivity
    assert both is not None
    assert both["default"].prob_best is not None
    assert both["flat"].prob_best is None


def test_ratios_and_means_say_which_prior_they_have() -> None:
    assert to_wire(read_out(FIXED, cells(), time_zone="UTC", now=NOW))["variants"][1]["metrics"]["aov"][
        "prior"
    ] == {"kind": "flat"}
    prior = metric("margin_per_unit", cells()).prior
    assert prior is not None
    assert prior.kind == "default"
    assert prior.parameters is not None
    assert prior.parameters["mean"] == pytest.approx((60_000 + 66_000) / 2000)
    policy = replace(FIXED.policy, prior=Prior(mean=50.0, kappa=10.0, nu=10.0, scale=1e4))
    found = metric("margin_per_unit", cells(), replace(FIXED, policy=policy)).prior
    assert found is not None
    assert (found.kind, found.parameters) == (
        "expert",
        {"mean": 50.0, "kappa": 10.0, "nu": 10.0, "scale": 1e4},
    )
    young = replace(FIXED, attribution_window=timedelta(days=7))
    assert metric("conversion_rate", cells(n=1000), young).prior is not None

"""The pooled model's parts that need no sampler: layout, priors, ratios, mixing, predictive checks."""

import doctest
import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from experiments.pooled import data as data_module
from experiments.pooled import diagnostics, predictive, ratios, stages
from experiments.pooled.data import PERIODS_MAX, Group, Place, layout_of, pooled_data
from experiments.pooled.predictive import prior_check, rate_check, size_checks
from experiments.pooled.ratios import loss_share, margin_rate, pooled_ratios, refund_size
from experiments.pooled.stages import (
    Kind,
    Parameters,
    Priors,
    StagePrior,
    binomial_stage,
    centring,
    mean_of,
    prior_draws,
    size_stage,
    stages_of,
    unit_of,
    with_data,
)
from experiments.statistics import Cell, Moments
from tests.experiments.pooled_shop import VARIANTS, cell, shop
from tests.statistical import STANDARD_ERRORS

RNG_SEED = 20261122


def of(cells: list[Cell], **more: bool) -> data_module.PooledData:
    return pooled_data([Place("here", "checkout", cells, **more)], VARIANTS)


@pytest.mark.parametrize("module", [data_module, diagnostics, ratios, stages])
def test_examples_of_the_docstrings(module) -> None:
    assert doctest.testmod(module).failed == 0


def test_cells_add_up_by_group_and_variant() -> None:
    """Two days of one cell are one row; sums are those of the cells, logs those of their bins."""
    rng = np.random.default_rng(RNG_SEED)
    cells = [cell(v, s, 400, rng) for v in VARIANTS for s in ("a", "b") for _ in range(2)]
    found = of(cells)
    assert found.layout.groups == (Group("here", "a", 1, 0), Group("here", "b", 1, 0))
    assert found.layout.variant.tolist() == [0, 1, 2, 0, 1, 2]
    assert found.layout.slopes == ((1, "here", "a"), (1, "here", "b"), (2, "here", "a"), (2, "here", "b"))
    assert found.units.tolist() == [800.0] * 6
    assert found.orders.x.sum() == sum(c.moments.sum("revenue") for c in cells)
    assert found.refunded.sum() == sum(c.moments.sum("refunded_orders") for c in cells)
    exact = math.log(found.orders.x.sum() / found.orders.n.sum()) - 0.18  # log-normal, sigma 0.6
    assert math.log(unit_of(found.orders)) == pytest.approx(exact, abs=0.05)
    assert (found.unknown_cost, found.unconverted) == (0, 0)


def test_cells_without_anchored_units_are_left_out() -> None:
    rng = np.random.default_rng(1)
    assert len(of([cell("none", "a", 10, rng), Cell(cell("socks", "a", 1, rng).key, frozenset())]).units) == 1


def test_time_is_held_apart_where_shares_move() -> None:
    """Twelve epochs of equal size are six periods of two; few, of fixed shares, stand for themselves."""
    rng = np.random.default_rng(2)
    cells = [cell("none", "a", 50, rng, epoch=epoch) for epoch in range(2 * PERIODS_MAX)]
    moving = of(cells, is_moving=True)
    assert [group.period for group in moving.layout.groups] == list(range(PERIODS_MAX))
    assert moving.units.tolist() == [100.0] * PERIODS_MAX
    assert len(of(cells[:3]).layout.groups) == 3
    assert len(of(cells).layout.groups) == PERIODS_MAX


def test_prior_draws_have_the_moments_of_their_definition() -> None:
    """Variance of a treated cell: level, group, main, slope, place; E spread^2 = median^2 exp(2 * 0.49)."""
    rows = [(Group(place, "a", 1, 0), v) for place in ("p", "q") for v in (0, 1)]
    prior = StagePrior((-1.0, 0.3), groups=0.2, variants=0.3, slopes=0.15, places=0.1, width=(2.0, 0.5))
    stage = binomial_stage("x", layout_of(rows, ["none", "socks"]), prior, np.ones(4), np.ones(4))
    drawn = prior_draws(stage, 40_000, np.random.default_rng(3))
    factor = math.exp(2 * stages.SPREAD_LOG_SD**2)
    treated = 0.3**2 + factor * (0.2**2 + 0.3**2 + 0.15**2 + 0.1**2)
    variance = drawn.eta.var(axis=0)
    # kurtosis of scale mixtures: the error of a variance is larger than a Normal's; 5 % is some six of them
    assert variance[[0, 2]] == pytest.approx(0.3**2 + factor * 0.2**2, rel=0.05)
    assert variance[[1, 3]] == pytest.approx(treated, rel=0.07)
    assert np.median(drawn.width) == pytest.approx(2.0, rel=0.02)
    assert np.all(np.abs(drawn.eta.mean(axis=0) + 1.0) < 5 * np.sqrt(variance / 40_000))


def test_means_of_the_laws_are_those_of_scipy() -> None:
    data = of(shop(900))
    found = Parameters(np.full((1, 9), 0.4), np.full((1, 3), 0.7))
    log_normal = mean_of(size_stage(Kind.LOG_NORMAL, data, Priors().log_normal), found)
    assert log_normal[0] == pytest.approx(stats.lognorm(0.7, scale=math.exp(0.4)).mean())
    assert mean_of(size_stage(Kind.GAMMA, data, Priors().gamma), found)[0] == pytest.approx(math.exp(0.4))
    assert mean_of(stages_of(data, Priors())["conversion"], found)[0] == pytest.approx(
        1 / (1 + math.exp(-0.4))
    )


def test_centring_follows_the_information() -> None:
    few, many = (stages_of(of(shop(units)), Priors()) for units in (300, 60_000))
    for name in few:
        for sparse, rich in zip(centring(few[name]), centring(many[name]), strict=True):
            assert np.all((sparse >= 0) & (sparse <= rich) & (rich <= 1))


def test_exact_mixture_of_ratios() -> None:
    """Two ratios known alike: the draws' mean against the posterior integrated over tau on a fine grid."""
    y, error, scale = np.array([0.2, 0.4]), np.array([0.05, 0.05]), 0.1
    drawn = pooled_ratios(y, error, scale, 40_000, np.random.default_rng(4))
    tau = np.linspace(1e-5, 1.0, 20_001)
    variance = error[0] ** 2 + tau**2
    weight = np.exp(-0.5 * (tau / scale) ** 2 - (y[1] - y[0]) ** 2 / (4 * variance)) / np.sqrt(variance)
    weight /= weight.sum()
    pull = error[0] ** 2 / variance
    mean = float((weight * (y[0] * (1 - pull) + 0.3 * pull)).sum())
    assert abs(drawn[:, 0].mean() - mean) < STANDARD_ERRORS * drawn[:, 0].std() / 200


def test_loss_of_a_refund_is_found_and_margins_add_up() -> None:
    """The shop recovers half of a cost of 0.6: a refund loses 0.7 of its value, the rate before is 0.4."""
    rng = np.random.default_rng(5)
    parts = [cell("none", "a", 3000, rng).moments]
    loss = loss_share(parts)
    assert loss == pytest.approx(0.7, abs=1e-3)
    rate, error = margin_rate(parts, loss)
    assert rate == pytest.approx(0.4, abs=1e-3)
    assert 0 < error < 1e-3
    total = parts[0]
    assert rate * total.sum("revenue") - loss * total.sum("refunded_value") == pytest.approx(
        total.sum("margin")
    )


def test_what_cannot_be_told_is_not() -> None:
    rng = np.random.default_rng(6)
    assert loss_share([cell("none", "a", 100, rng, refunds=0.0).moments, Moments()]) == 1.0
    same = Moments()
    for _ in range(20):
        same.add_unit({"converted": 1, "revenue": 9, "refunded_value": 9, "refunded_orders": 1, "margin": -1})
    assert loss_share([same, Moments()]) == 1.0, "all alike: no slope"
    assert margin_rate([Moments()], 1.0) == (0.0, math.inf)
    assert refund_size([same], 3.0, 9.0) == (1.0, math.inf)


def test_mixing_agrees_with_arviz() -> None:
    arviz = pytest.importorskip("arviz")
    rng = np.random.default_rng(7)
    steps = rng.standard_normal((4, 501))
    for t in range(1, 501):
        steps[:, t] += 0.8 * steps[:, t - 1]
    for draws in (rng.standard_normal((4, 500)), rng.standard_cauchy((3, 400)), steps, np.cumsum(steps, 1)):
        assert diagnostics.r_hat(draws) == pytest.approx(float(arviz.rhat(draws)), rel=1e-6)
        assert diagnostics.ess_bulk(draws) == pytest.approx(float(arviz.ess(draws, method="bulk")), rel=0.02)
        assert diagnostics.ess_tail(draws) == pytest.approx(float(arviz.ess(draws, method="tail")), rel=0.03)


def test_what_never_moves_is_the_worst_and_passes_no_gate() -> None:
    rng = np.random.default_rng(8)
    found = diagnostics.mixing({"fine": rng.standard_normal((4, 100)), "stuck": np.zeros((4, 100, 2))}, 3)
    assert found.worst == "stuck[0]"
    assert (math.isnan(found.r_hat), found.divergences) == (True, 3)


def known(stage: stages.Stage, *, width: float = 0.6, shift: float = 0.0) -> Parameters:
    """Draws about the truth of the data themselves, as a good fit has them."""
    rng = np.random.default_rng(9)
    if stage.kind is Kind.BINOMIAL:
        rate = (stage.s1 + 0.5) / (stage.n + 1)
        eta, error = np.log(rate / (1 - rate)), 1 / np.sqrt(stage.n * rate * (1 - rate) + 1)
    else:
        eta, error = stage.s1 / stage.n, 0.6 / np.sqrt(stage.n)
    drawn = eta + shift + error * rng.standard_normal((500, len(eta)))
    return Parameters(drawn, np.full((500, len(stage.layout.variants)), width))


def test_a_good_fit_passes_and_a_wrong_one_is_refused() -> None:
    rng = np.random.default_rng(10)
    data = of(shop(30_000))
    every = stages_of(data, Priors())
    unit = unit_of(data.orders)
    for name in ("conversion", "refunds"):
        assert rate_check(every[name], known(every[name]), rng).is_ok
        assert not rate_check(every[name], known(every[name], shift=0.5), rng).is_ok
    right = size_checks(every["log_normal"], data.orders, unit, known(every["log_normal"]), rng)
    assert all(check.is_ok for check in right)
    wide = size_checks(every["log_normal"], data.orders, unit, known(every["log_normal"], width=1.2), rng)
    assert {check.name for check in wide if not check.is_ok} >= {"sd, none", "mean, none"}
    gamma = known(every["gamma"], width=2.0, shift=0.5)
    wrong = size_checks(every["gamma"], data.orders, unit, gamma, rng)
    assert not all(check.is_ok for check in wrong)
    assert predictive.misfit(wrong) > predictive.misfit(right)


def test_with_many_units_a_difference_that_does_not_matter_passes() -> None:
    """A mean off by 1 % among 20,000 buyers is refuted by chance and allowed by size."""
    rng = np.random.default_rng(11)
    data = of(shop(100_000))
    stage = stages_of(data, Priors())["log_normal"]
    checks = size_checks(stage, data.orders, unit_of(data.orders), known(stage, shift=0.012), rng)
    mean = next(check for check in checks if check.name == "mean, none")
    assert mean.is_ok
    assert mean.p < 0.2


def test_a_variant_that_sold_nothing_has_no_size_to_check() -> None:
    rng = np.random.default_rng(12)
    data = of(
        [cell("none", "a", 900, rng), cell("socks", "a", 900, rng), cell("cap", "a", 900, rng, rate=0.0)]
    )
    stage = stages_of(data, Priors())["log_normal"]
    found = known(replace(stage, n=np.maximum(stage.n, 1.0)))
    names = [check.name for check in size_checks(stage, data.orders, unit_of(data.orders), found, rng)]
    assert not any("cap" in name for name in names)
    assert len(names) == 6


def test_a_prior_about_another_shop_is_refused() -> None:
    rng = np.random.default_rng(13)
    data = of(shop(3000))
    for name, stage in stages_of(data, Priors()).items():
        assert prior_check(stage, rng).is_ok, name
        elsewhere = replace(stage, prior=StagePrior((-9.0, 0.2)))
        assert not prior_check(elsewhere, rng).is_ok, name


def test_thinning_keeps_what_was_asked() -> None:
    every = Parameters(np.arange(10.0)[:, None], np.ones((10, 1)))
    assert every.thinned(4).eta[:, 0].tolist() == [0.0, 3.0, 6.0, 9.0]
    assert len(every.thinned(99).eta) == 10
    stage = stages_of(of(shop(300)), Priors())["conversion"]
    assert with_data(stage, stage.n, stage.n, stage.s2).s1 is stage.n

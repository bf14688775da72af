"""The pooled model fitted: its answer, its refusals, its agreement with closed forms and a second sampler.

One model is compiled for the tests that sample; the others put draws in its place.
"""

import json
import warnings
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import stats

pytest.importorskip("pymc", reason="it is in the extra `analysis`")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of PyMC and ArviZ, about their own future
    from experiments.pooled import analyse as module
    from experiments.pooled.analyse import Analysis, analyse
    from experiments.pooled.diagnostics import mixing
    from experiments.pooled.keeping import Labels, arviz_of, columns_of, document_of
    from experiments.pooled.sampling import Draws, Sampler, Sampling
    from sim.calibration import sbc

from experiments.pooled.data import Group, Place, PooledData, layout_of, pooled_data
from experiments.pooled.stages import Kind, Priors, Stage, StagePrior, mean_of
from experiments.statistics import Cell
from tests.experiments.pooled_shop import VARIANTS, cell, shop

pytestmark = pytest.mark.timeout(1200)  # compiling takes seconds, minutes on a machine with much else to do


def of(cells: list[Cell]) -> PooledData:
    return pooled_data([Place("here", "checkout", cells)], VARIANTS)


class Known:
    """A sampler whose draws lie about what each cell shows by itself: right with much data in each."""

    def __init__(self, stage: Stage, settings: Sampling) -> None:
        self.settings = settings

    def sample(self, stage: Stage, seed: int, *, target_accept: float | None = None) -> Draws:
        rng = np.random.default_rng(seed)
        n = np.maximum(stage.n, 0.5)
        if stage.kind is Kind.BINOMIAL:
            rate = (stage.s1 + 0.5) / (stage.n + 1)
            eta, error = np.log(rate / (1 - rate)), 1 / np.sqrt(n * rate * (1 - rate))
        else:
            eta, error = stage.s1 / n, 0.6 / np.sqrt(n)
        if stage.kind is Kind.GAMMA:
            eta = np.log(np.maximum(stage.s2, 0.1) / n)
        count = (4, self.settings.draws)
        width = {Kind.GAMMA: 2.9, Kind.LOG_NORMAL: 0.6, Kind.BINOMIAL: 1.0}[stage.kind]
        variants = len(stage.layout.variants)
        values = {
            "eta": eta + error * rng.standard_normal((*count, len(eta))),
            "level": rng.standard_normal(count),
            "spread": rng.standard_normal((*count, 3)),
            "main": rng.standard_normal((*count, variants - 1)),
        }
        if stage.kind is not Kind.BINOMIAL:
            values["width"] = np.full((*count, variants), width) + 1e-3 * rng.standard_normal(
                (*count, variants)
            )
        return Draws(stage, values, 0)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(module, "Sampler", Known)
    return


def fitted(cells: list[Cell], **more: Any) -> Analysis:
    return analyse(of(cells), seed=1, settings=Sampling(draws=500), **more)


@pytest.fixture(scope="module")
def found() -> Analysis:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "Sampler", Known)
        return fitted(shop(60_000))


def test_figures_are_those_of_the_shop(found: Analysis) -> None:
    """With much data everywhere the model's figures are the data's: within 4 posterior sd of the raw ones."""
    assert found.refused == ()
    assert found.law == "log_normal", "the shop's orders are"
    assert [variant.key for variant in found.variants] == list(VARIANTS)
    for variant in found.variants:
        for metric, span in variant.metrics.items():
            assert span.raw is not None
            assert abs(span.value - span.raw) < 2 * (span.ci_high - span.ci_low), (variant.key, metric)
            assert span.ci_low < span.value < span.ci_high


def test_margin_is_conversion_times_value_less_refunds(found: Analysis) -> None:
    """0.4 of the booked value, less 0.7 of what is refunded whole: margin = p v (0.4 - 0.7 r)."""
    for variant in found.variants:
        value = {metric: span.value for metric, span in variant.metrics.items()}
        booked = value["conversion_rate"] * value["order_value"]
        assert value["revenue_per_unit"] == pytest.approx(booked * (1 - value["refund_rate"]), rel=0.03)
        margin = booked * (0.4 - 0.7 * value["refund_rate"])
        assert value["margin_per_unit"] == pytest.approx(margin, rel=0.05)


def test_probabilities_add_up_and_follow_the_lifts(found: Analysis) -> None:
    for metric in ("conversion_rate", "revenue_per_unit", "margin_per_unit"):
        assert sum(variant.prob_best[metric] for variant in found.variants) == pytest.approx(1)
    _, socks, cap = found.variants
    assert socks.prob_best["margin_per_unit"] > 0.95
    assert cap.lifts["refund_rate"].absolute.value > 0.05
    assert cap.lifts["refund_rate"].prob_beats_control < 0.01, "more refunds are no gain"
    assert socks.lifts["conversion_rate"].relative is not None
    assert socks.lifts["conversion_rate"].relative.value == pytest.approx(0.15, abs=0.1)


def test_segments_have_figures_of_their_own(found: Analysis) -> None:
    assert list(found.segments) == ["s0", "s1", "s2"]
    units = sum(variant.units for variants in found.segments.values() for variant in variants)
    assert units == sum(variant.units for variant in found.variants)


def test_the_document_is_plain_and_the_draws_open(found: Analysis) -> None:
    document = json.loads(json.dumps(document_of(found)))
    assert document["order_value_law"] == "log_normal"
    socks = document["variants"][1]["metrics"]["margin_per_unit"]
    assert {"value", "ci_low", "ci_high", "raw", "lift_abs", "lift_rel", "prob_best"} <= socks.keys()
    assert document["variants"][0]["metrics"]["margin_per_unit"]["lift_abs"] is None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        opened = arviz_of(found)
    eta = opened.posterior["conversion_eta"]
    assert eta.shape == (4, 500, 9)
    assert eta.coords["cell"].values[0] == "none/here/s0/1/0"
    columns = columns_of(found)
    told = {name: np.array(c.names)[c.codes] if isinstance(c, Labels) else c for name, c in columns.items()}
    assert {len(column) for column in told.values()} == {4 * 500 * 9}
    row = {name: column[500 * 9 + 9 + 1] for name, column in told.items()}  # chain 1, draw 1, cell 1
    assert (row["chain"], row["draw"], row["variant"], row["segment"]) == (1, 1, "socks", "s0")
    assert row["conversion_eta"] == eta.values[1, 1, 1]
    assert row["log_normal_width"] == opened.posterior["log_normal_width"].values[1, 1, 1]


@pytest.mark.usefixtures("quick")
def test_without_refunds_or_costs_what_cannot_be_told_is_left_out() -> None:
    rng = np.random.default_rng(1)
    cells = [cell(v, "a", 3000, rng, refunds=0.0) for v in VARIANTS]
    cells[1].add_unit({"units": 1, "unknown_cost_orders": 1}, {})
    found = fitted(cells)
    assert found.refused == ()
    assert set(found.variants[1].metrics) == {"conversion_rate", "order_value", "revenue_per_unit"}
    assert [note.partition(":")[0] for note in found.notes] == ["no refund is on record", "cost_unknown"]


@pytest.mark.usefixtures("quick")
def test_few_refunds_count_as_whole() -> None:
    rng = np.random.default_rng(2)
    cells = [cell(v, "a", 900, rng, refunds=0.0) for v in VARIANTS]
    back = {
        "units": 1,
        "converted": 1,
        "orders": 1,
        "revenue": 5000,
        "refunded_value": 100,
        "refunded_orders": 1,
    }
    cells[0].add_unit(back, {"revenue": 200, "refunded_value": 100})
    found = fitted(cells, priors=Priors(refunds=StagePrior((-5.0, 2.0))))
    assert found.refused == ()
    assert any("counts as refunded whole" in note for note in found.notes)


@pytest.mark.usefixtures("quick")
def test_a_variant_is_compared_where_the_control_is_too() -> None:
    """Caps were shown in a candidate set without the control: figures, no lift; nor in a segment it lacks."""
    rng = np.random.default_rng(3)
    cells = [
        cell("none", "a", 3000, rng),
        cell("socks", "a", 3000, rng),
        cell("cap", "a", 3000, rng, candidate_set=2),
        cell("socks", "b", 3000, rng, candidate_set=2),
        cell("none", "c", 3000, rng),
        cell("socks", "c", 5, rng, rate=0.0),
    ]
    found = fitted(cells)
    by_key = {variant.key: variant for variant in found.variants}
    assert by_key["socks"].lifts.keys() == by_key["socks"].metrics.keys()
    assert (by_key["cap"].lifts, by_key["cap"].prob_best) == ({}, {})
    (alone,) = found.segments["b"]
    assert (alone.key, alone.prob_best) == ("socks", {})
    small = found.segments["c"][1]
    assert small.metrics["order_value"].raw is None
    assert small.lifts["order_value"].absolute.raw is None


@pytest.mark.usefixtures("quick")
def test_what_cannot_be_compared_is_refused_with_the_reason() -> None:
    rng = np.random.default_rng(4)
    alone = fitted([cell("none", "a", 500, rng)])
    few = fitted([cell(v, "a", 40, rng, rate=0.05) for v in ("none", "socks")])
    foreign = [cell(v, "a", 500, rng) for v in ("none", "socks")]
    foreign[0].add_unit({"units": 1, "unconverted_orders": 1}, {})
    codes = [[reason.code for reason in one.refused] for one in (alone, few, fitted(foreign))]
    assert codes == [["not_comparable"], ["insufficient_data"], ["unconverted"]]
    assert alone.variants == ()


def test_more_draws_than_memory_should_hold_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nine cells, four chains: 36 values a draw; nothing is compiled, since `quick` is not asked for."""
    monkeypatch.setattr(module, "VALUES_MAX", 36 * 499)
    (reason,) = fitted(shop(3000)).refused
    assert reason.code == "too_large"
    assert "499 draws" in reason.detail


@pytest.mark.usefixtures("quick")
def test_data_outside_the_prior_are_refused() -> None:
    found = fitted(shop(3000), priors=Priors(conversion=StagePrior((-9.0, 0.2))))
    assert [reason.code for reason in found.refused] == ["prior_predictive"]
    assert "conversion" in found.refused[0].detail


@pytest.mark.usefixtures("quick")
def test_order_values_of_neither_law_are_refused() -> None:
    """Half of the orders at 1, half at 1,000: no log-normal of that spread has their mean, nor a gamma."""
    cells: list[Cell] = []
    rng = np.random.default_rng(5)
    for variant in VARIANTS:
        cheap, dear = (cell(variant, "a", 1500, rng, size=size, sigma=0.01) for size in (100.0, 100_000.0))
        cheap.moments.add(dear.moments)
        for name, histogram in dear.histograms.items():
            cheap.histograms.setdefault(name, {}).update(histogram)
        cells.append(cheap)
    found = fitted(cells)
    assert "posterior_predictive" in {reason.code for reason in found.refused}
    assert found.variants == ()


def test_chains_that_diverge_are_sampled_twice_more_and_then_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """With smaller steps; an answer that is then good counts."""
    accepted: list[float | None] = []
    last = module.RETRY_ACCEPTS[-1]

    class Stubborn(Known):
        def sample(self, stage: Stage, seed: int, *, target_accept: float | None = None) -> Draws:
            accepted.append(target_accept)
            return replace(super().sample(stage, seed), divergences=0 if target_accept == last else 7)

    class Hopeless(Known):
        def sample(self, stage: Stage, seed: int, *, target_accept: float | None = None) -> Draws:
            return replace(super().sample(stage, seed), divergences=7)

    cells = shop(30_000)
    monkeypatch.setattr(module, "Sampler", Stubborn)
    assert fitted(cells).refused == ()
    assert accepted == [None, *module.RETRY_ACCEPTS] * 4
    monkeypatch.setattr(module, "Sampler", Hopeless)
    refused = fitted(cells)
    assert {reason.code for reason in refused.refused} == {"divergences"}
    assert refused.variants == ()
    assert len(refused.stages) == 4, "what was found of the fit stands beside the refusal"


@pytest.fixture(scope="module")
def stage() -> Stage:
    """Two segments, a control and two treatments; 10,000 units a cell, rates of 6, 7 and 6.5 %."""
    prior = StagePrior((-2.0, 2.0), groups=0.5, variants=2.0, slopes=0.02)
    hits = np.array([600.0, 700.0, 650.0] * 2)
    return replace(sbc.empty(Kind.BINOMIAL), prior=prior, n=np.full(6, 10_000.0), s1=hits)


@pytest.fixture(scope="module")
def sampler(stage: Stage) -> Sampler:
    return Sampler(stage, sbc.SAMPLING)


@pytest.mark.slow
def test_pooled_and_closed_form_agree_where_both_apply(stage: Stage, sampler: Sampler) -> None:
    """Equal segments with much data: the rates over both are Beta(1 + s, 1 + n - s) of the pooled counts.

    The lift's mean within 5 Monte-Carlo errors (400 effective draws) and 2 % for what the prior takes off.
    """
    draws = sampler.sample(stage, 1)
    rates = mean_of(stage, draws.parameters)
    lift = rates[:, 1::3].mean(axis=1) - rates[:, ::3].mean(axis=1)
    arms = [stats.beta(1 + s, 1 + 20_000 - s) for s in (1200, 1400)]
    exact, sd = arms[1].mean() - arms[0].mean(), np.hypot(arms[0].std(), arms[1].std())
    within = 5 * sd / 20 + 0.02 * exact
    assert abs(lift.mean() - exact) < within
    assert lift.std() == pytest.approx(sd, rel=0.12)
    assert abs(lift.mean() - (stats.beta(1601, 18_401).mean() - arms[0].mean())) > within


@pytest.mark.slow
def test_the_same_seed_gives_the_same_draws(stage: Stage, sampler: Sampler) -> None:
    first, again, other = (sampler.sample(stage, seed).values["eta"] for seed in (7, 7, 8))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.slow
def test_chains_that_cannot_be_trusted_are_refused(stage: Stage, sampler: Sampler) -> None:
    """The real sampler on the real model: large steps diverge, few draws are too few."""
    good = sampler.sample(stage, 1)
    assert mixing(good.values, good.divergences).r_hat < 1.05, "as near to 1 as two short chains come"
    sparse = replace(stage, prior=StagePrior((-2.0, 2.0)), n=np.full(6, 2.0), s1=np.array([0.0, 2.0] * 3))
    wild = sampler.sample(sparse, 1, target_accept=0.1)
    assert wild.divergences
    assert "divergences" in {r.code for r in module._unmixed("x", mixing(wild.values, wild.divergences))}
    short = {name: values[:, :20] for name, values in good.values.items()}
    assert {"ess_bulk", "ess_tail"} <= {r.code for r in module._unmixed("x", mixing(short, 0))}
    apart = {"eta": good.values["eta"] + np.arange(2)[:, None, None]}
    assert "r_hat" in {r.code for r in module._unmixed("x", mixing(apart, 0))}


@pytest.mark.slow
def test_ranks_of_truths_are_uniform_and_one_success_too_many_shows(sampler: Sampler) -> None:
    """The study `sbc`, short: 60 fits each, so 3 expected in each of its 20 bins."""
    right, planted = (
        sbc.ranks(sampler, sbc.empty(Kind.BINOMIAL), 60, 2026, is_planted=fault) for fault in (False, True)
    )
    assert max(sbc.chi_square(found) for found in right.values()) < sbc.LIMIT
    assert sbc.chi_square(planted["all cells"]) > sbc.LIMIT


@pytest.mark.slow
@pytest.mark.parametrize("kind", [Kind.LOG_NORMAL, Kind.GAMMA])
def test_pymcs_own_sampler_finds_the_truth_of_sizes(kind: Kind) -> None:
    """Two places, so that effects differ by place too: 300 orders a cell, each mean within 5 sd."""
    rng = np.random.default_rng(11)
    rows = [(Group(place, "a", 1, 0), v) for place in ("cart", "checkout") for v in range(2)]
    one = replace(sbc.empty(kind), layout=layout_of(rows, ["none", "socks"]), n=np.full(4, 300.0))
    truth = sbc.prior_draws(one, 1, rng)
    one = sbc.drawn(replace(one, s1=one.n, s2=one.n), truth, rng)
    draws = Sampler(one, Sampling(draws=300, tune=300, chains=2, sampler="pymc")).sample(one, 3)
    means = mean_of(one, draws.parameters)
    off = (means.mean(axis=0) - mean_of(one, truth)[0]) / means.std(axis=0)
    assert np.all(np.abs(off) < 5), off
    assert draws.values["spread"].shape[-1] == 4

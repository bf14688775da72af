"""Simulation-based calibration of the pooled model's stages.

A truth is drawn from the prior, data from the truth, and the truth is ranked among draws of the posterior:
when the posterior is right, ranks are uniform (Talts et al. 2018). Priors lean to one side, so that swapped
parameters show, and a fault is planted beside: one success, or the sums of one order of twice the unit, too
many in each cell. Cells are small, so that one unit matters, and few, so that a thousand fits take minutes.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from experiments.pooled.data import Group, Layout, layout_of
from experiments.pooled.sampling import Draws, Sampler, Sampling
from experiments.pooled.stages import Kind, Parameters, Stage, StagePrior, prior_draws
from experiments.posteriors.protocol import FloatArray
from sim.calibration.part import Step, nothing
from sim.calibration.ranked import BINS, RANKED, Row
from sim.calibration.ranked import LIMIT as LIMIT  # what the ranks made here are held to

SAMPLING = Sampling(draws=396, tune=400, chains=2, target_accept=0.95)
PRIORS: Mapping[Kind, StagePrior] = {
    Kind.BINOMIAL: StagePrior((-1.8, 0.7), groups=0.4, variants=0.5, slopes=0.2),
    Kind.LOG_NORMAL: StagePrior((0.4, 0.6), groups=0.4, variants=0.5, slopes=0.2, width=(0.5, 0.4)),
    Kind.GAMMA: StagePrior((0.4, 0.6), groups=0.4, variants=0.5, slopes=0.2, width=(2.0, 0.4)),
}
UNITS: Mapping[Kind, int] = {Kind.BINOMIAL: 40, Kind.LOG_NORMAL: 12, Kind.GAMMA: 12}


def calibrate(name: str, *, runs: int, planted: int, seed: int, step: Step = nothing) -> list[Row]:
    """Rank every quantity in so many fits, and in so many with the fault."""
    stage = empty(Kind(name))
    sampler = Sampler(stage, SAMPLING)
    right = ranks(sampler, stage, runs, seed, is_planted=False, step=step)
    wrong = ranks(sampler, stage, planted, seed, is_planted=True, step=step)
    return [
        Row(name, quantity, runs, planted, chi_square(found), chi_square(wrong[quantity]))
        for quantity, found in right.items()
    ]


def ranks(
    sampler: Sampler, stage: Stage, runs: int, seed: int, *, is_planted: bool, step: Step = nothing
) -> Mapping[str, FloatArray]:
    """Ranks of each quantity's truth among `RANKED` draws, shape (runs,)."""
    found: dict[str, list[int]] = {}
    for run in range(runs):
        rng = np.random.default_rng([seed, run])
        truth = prior_draws(stage, 1, rng)
        draws = sampler.sample(with_fault(drawn(stage, truth, rng), is_planted=is_planted), run + 1)
        ours, theirs = quantities(truth, stage.layout), quantities(thinned(draws), stage.layout)
        for name, values in theirs.items():
            found.setdefault(name, []).append(int((values < ours[name]).sum()))
        step()
    return {name: np.array(values, dtype=np.float64) for name, values in found.items()}


def chi_square(found: FloatArray) -> float:
    """Of ranks 0 to `RANKED` in `BINS` equal bins against uniform."""
    counts = np.bincount((found * BINS // (RANKED + 1)).astype(np.int64), minlength=BINS)
    expected = len(found) / BINS
    return float(((counts - expected) ** 2 / expected).sum())


def empty(kind: Kind) -> Stage:
    """Two segments with the control and two treatments."""
    rows = [(Group("here", segment, 1, 0), v) for segment in ("a", "b") for v in range(3)]
    n = np.full(6, float(UNITS[kind]))
    layout = layout_of(rows, ["none", "socks", "cap"])
    return Stage("sbc", kind, layout, PRIORS[kind], n, 0.2 * n, n)


def drawn(stage: Stage, truth: Parameters, rng: np.random.Generator) -> Stage:
    """Data from one draw of the parameters: counts, or the sums over sizes."""
    n, eta = stage.n.astype(np.int64), truth.eta[0]
    if stage.kind is Kind.BINOMIAL:
        return replace(stage, s1=rng.binomial(n, 1 / (1 + np.exp(-eta))).astype(np.float64))
    width = truth.width[0, stage.layout.variant]
    sizes = [_sizes(stage.kind, int(count), e, w, rng) for count, e, w in zip(n, eta, width, strict=True)]
    logs = np.array([np.log(x).sum() for x in sizes])
    if stage.kind is Kind.LOG_NORMAL:
        return replace(stage, s1=logs, s2=np.array([(np.log(x) ** 2).sum() for x in sizes]))
    return replace(stage, s1=logs, s2=np.array([x.sum() for x in sizes]))


def with_fault(stage: Stage, *, is_planted: bool) -> Stage:
    """The data as they are, or one success, one order of twice the unit, too many in each cell."""
    if not is_planted:
        return stage
    if stage.kind is Kind.BINOMIAL:
        return replace(stage, s1=np.minimum(stage.s1 + 1, stage.n))
    log, s2 = np.log(2.0), np.log(2.0) ** 2 if stage.kind is Kind.LOG_NORMAL else 2.0
    # counted in the sums, forgotten in n
    return replace(stage, s1=stage.s1 + log, s2=stage.s2 + s2)


def quantities(found: Parameters, layout: Layout) -> dict[str, FloatArray]:
    """What is ranked: a control's cell, an effect, the mean over cells, a width."""
    first = int(np.flatnonzero(layout.variant == 1)[0])
    base = int(np.flatnonzero((layout.variant == 0) & (layout.group == layout.group[first]))[0])
    told = {
        "control in a segment": found.eta[:, base],
        "effect in a segment": found.eta[:, first] - found.eta[:, base],
        "all cells": found.eta.mean(axis=1),
    }
    return told if np.all(found.width == 1.0) else {**told, "width of a variant": found.width[:, 1]}


def thinned(draws: Draws) -> Parameters:
    """`RANKED` draws, far enough apart to count as independent."""
    return draws.parameters.thinned(RANKED)


def _sizes(kind: Kind, n: int, eta: float, width: float, rng: np.random.Generator) -> FloatArray:
    if kind is Kind.GAMMA:
        return np.maximum(rng.gamma(width, np.exp(eta) / width, n), 1e-12)
    return np.exp(eta + width * rng.standard_normal(n))

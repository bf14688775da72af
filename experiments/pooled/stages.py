"""The stages of the hurdle: their likelihoods on sufficient statistics, and their priors.

Every stage is a regression with one linear predictor per cell c (group g, treatment t, slope j):

    eta_c   = base_g + [not control] effect_j
    base_g  ~ Normal(level, spread_groups)               level ~ Normal(prior)
    effect_j~ Normal(main_t + at_{t, place}, spread_slopes)
    main_t  ~ Normal(0, spread_variants)                 at ~ Normal(0, spread_places), with several places
    log spread ~ Normal(log median, 0.7)                 never 0, so there is no funnel's tip to fall into

    conversion, refunds   successes ~ Binomial(n, 1 / (1 + exp(-eta)))
    sizes, log-normal     log(x / unit) ~ Normal(eta, sigma_v^2)         sums n, sum log, sum log^2
    sizes, gamma          x / unit ~ Gamma(shape_v, mean exp(eta))       sums n, sum log, sum x

with a `width` (sigma, or shape) for each variant, so that an offer may make order values more alike. The unit
of sizes is the geometric mean of all, so that their priors hold in any currency. Stages share no parameter:
their posterior is the product of theirs, and each is sampled alone.

Source: Gelman et al., Bayesian Data Analysis (2013), 5, 7 and 15; Chung et al., A nondegenerate penalized
likelihood estimator for variance parameters (2013), for priors of spreads without mass at 0.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
from scipy import special

from experiments.pooled.data import Layout, PooledData, Sizes
from experiments.posteriors.protocol import FloatArray

SPREAD_LOG_SD = 0.7
"""Of the prior of every spread, on the log: a factor of 4 either way."""


class Kind(StrEnum):
    """The likelihood of a stage."""

    BINOMIAL = "binomial"
    LOG_NORMAL = "log_normal"
    GAMMA = "gamma"


@dataclass(frozen=True, slots=True)
class StagePrior:
    """Level: Normal(mean, sd); medians of the spreads; width: log Normal(log median, log_sd)."""

    level: tuple[float, float]
    groups: float = 0.5
    variants: float = 0.2
    slopes: float = 0.1
    places: float = 0.1
    width: tuple[float, float] = (1.0, 1.0)

    @property
    def spreads(self) -> FloatArray:
        """Medians of the spreads of groups, variants, slopes and places, shape (4,)."""
        return np.array([self.groups, self.variants, self.slopes, self.places])


@dataclass(frozen=True, slots=True)
class Priors:
    """The prior of each stage; an expert replaces one."""

    conversion: StagePrior = StagePrior((-2.0, 2.0))
    log_normal: StagePrior = StagePrior((0.0, 1.0), width=(0.6, 1.0))
    gamma: StagePrior = StagePrior((0.3, 1.0), width=(2.0, 1.2))
    refunds: StagePrior = StagePrior((-3.0, 1.5))


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage to sample: its cells, sufficient statistics by cell, and prior.

    `s1` are successes or sums of logs, `s2` sums of squared logs (log-normal) or of sizes (gamma).
    """

    name: str
    kind: Kind
    layout: Layout
    prior: StagePrior
    n: FloatArray
    s1: FloatArray
    s2: FloatArray

    @property
    def inputs(self) -> Mapping[str, FloatArray]:
        """What the compiled model takes as data: everything that differs between data sets of one layout."""
        groups, slopes, mains = centring(self)
        data = {"n": self.n, "s1": self.s1, "w_groups": groups, "w_slopes": slopes, "w_mains": mains}
        data |= {"level_prior": np.array(self.prior.level), "medians": self.medians}
        sizes = {"s2": self.s2, "width_prior": np.array(self.prior.width)}
        return data if self.kind is Kind.BINOMIAL else data | sizes

    @property
    def packed(self) -> FloatArray:
        """The same one after the other: for each array of its own, compiling would take a second longer."""
        return np.concatenate(list(self.inputs.values()))

    @property
    def medians(self) -> FloatArray:
        """Prior medians of the spreads there are: of groups, variants, slopes and, with several, places."""
        return self.prior.spreads[: 4 if len(self.layout.places) > 1 else 3]


def binomial_stage(name: str, layout: Layout, prior: StagePrior, n: FloatArray, s: FloatArray) -> Stage:
    """Successes s of n in each cell."""
    return Stage(name, Kind.BINOMIAL, layout, prior, n, s, np.zeros_like(s))


def unit_of(sizes: Sizes) -> float:
    """The geometric mean of all sizes, minor units.

    >>> one = np.ones(1)
    >>> round(unit_of(Sizes(2 * one, 5 * one, 17 * one, math.log(4) * one, math.log(4) ** 2 * one)), 9)
    2.0
    """
    return math.exp(float(sizes.log.sum() / sizes.n.sum()))


def size_stage(kind: Kind, data: PooledData, prior: StagePrior) -> Stage:
    """Order values under one of the two laws."""
    sizes, unit = data.orders, unit_of(data.orders)
    log_unit = math.log(unit)
    logs = sizes.log - sizes.n * log_unit
    squares = sizes.loglog - 2 * log_unit * sizes.log + sizes.n * log_unit**2
    s2 = squares if kind is Kind.LOG_NORMAL else sizes.x / unit
    return Stage(f"order_value, {kind.value}", kind, data.layout, prior, sizes.n, logs, s2)


def stages_of(data: PooledData, priors: Priors) -> dict[str, Stage]:
    """Every stage by name: conversion, order values under either law, refunds where there are any."""
    buyers = data.orders.n
    stages = {
        "conversion": binomial_stage("conversion", data.layout, priors.conversion, data.units, buyers),
        "log_normal": size_stage(Kind.LOG_NORMAL, data, priors.log_normal),
        "gamma": size_stage(Kind.GAMMA, data, priors.gamma),
    }
    if data.refunded.any():
        refunds = binomial_stage("refunds", data.layout, priors.refunds, buyers, data.refunded)
        stages["refunds"] = refunds
    return stages


def centring(stage: Stage) -> tuple[FloatArray, FloatArray, FloatArray]:
    """How far each group, slope and treatment is sampled about its parent (1) or apart from it (0).

    w = I / (I + 1/s^2), I the information of the data, s the prior's spread: with much data a centred
    parameter mixes, with little a non-centred one. Any w gives the same posterior; it decides the time only.
    Source: Papaspiliopoulos, Roberts, Skold, A general framework for the parametrization of hierarchical
    models (2007).
    """
    if stage.kind is Kind.BINOMIAL:
        rate = (stage.s1.sum() + 0.5) / (stage.n.sum() + 1.0)
        information = stage.n * rate * (1.0 - rate)
    else:
        information = stage.n * (stage.prior.width[0] if stage.kind is Kind.GAMMA else 1.0)
    prior, layout = stage.prior, stage.layout
    by_group = np.bincount(layout.group, weights=information, minlength=len(layout.groups))
    by_slope = layout.of_slope(information)
    seen = 1.0 / (1.0 / np.maximum(by_slope, 1e-9) + prior.slopes**2)
    by_main = np.bincount(layout.slope_variant, weights=seen, minlength=len(layout.variants) - 1)
    return (
        by_group / (by_group + prior.groups**-2),
        by_slope / (by_slope + prior.slopes**-2),
        by_main / (by_main + prior.variants**-2),
    )


@dataclass(frozen=True, slots=True)
class Parameters:
    """Draws of a stage: `eta` (draws, cells), `width` (draws, variants; ones for a binomial)."""

    eta: FloatArray
    width: FloatArray

    def thinned(self, count: int) -> "Parameters":
        """That many of the draws, evenly spaced."""
        chosen = np.linspace(0, len(self.eta) - 1, min(count, len(self.eta))).round().astype(int)
        return Parameters(self.eta[chosen], self.width[chosen])


def prior_draws(stage: Stage, count: int, rng: np.random.Generator) -> Parameters:
    """Draws of a stage's parameters from its prior, by the definition at the top of this module."""
    layout, prior = stage.layout, stage.prior
    spread = prior.spreads * np.exp(SPREAD_LOG_SD * rng.standard_normal((count, 4)))
    level = prior.level[0] + prior.level[1] * rng.standard_normal((count, 1))
    base = level + spread[:, :1] * rng.standard_normal((count, len(layout.groups)))
    treatments = len(layout.variants) - 1
    main = spread[:, 1:2] * rng.standard_normal((count, treatments))
    parent = main[:, layout.slope_variant]
    if len(layout.places) > 1:
        at = spread[:, 3:, None] * rng.standard_normal((count, treatments, len(layout.places)))
        parent = parent + at[:, layout.slope_variant, layout.slope_place]
    effect = parent + spread[:, 2:3] * rng.standard_normal((count, len(layout.slopes)))
    padded = np.concatenate([np.zeros((count, 1)), effect], axis=1)
    width = prior.width[0] * np.exp(prior.width[1] * rng.standard_normal((count, treatments + 1)))
    return Parameters(base[:, layout.group] + padded[:, layout.slope], width)


def mean_of(stage: Stage, found: Parameters) -> FloatArray:
    """The mean of a unit of each cell: a rate, or a size in units of the stage, shape (draws, cells)."""
    if stage.kind is Kind.BINOMIAL:
        return special.expit(found.eta)
    if stage.kind is Kind.GAMMA:
        return np.exp(found.eta)
    return np.exp(found.eta + 0.5 * found.width[:, stage.layout.variant] ** 2)


def with_data(stage: Stage, n: FloatArray, s1: FloatArray, s2: FloatArray) -> Stage:
    """The same stage on other data."""
    return replace(stage, n=n, s1=s1, s2=s2)

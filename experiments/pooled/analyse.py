"""The whole analysis: prior checks, sampling, diagnostics, posterior checks, figures; or a refusal.

A bad fit is a refusal with its reasons, never a number. A stage that is refused for its chains alone is
sampled again with smaller steps, twice; then its word stands.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from experiments.pooled.data import IntArray, PooledData
from experiments.pooled.diagnostics import Mixing, mixing
from experiments.pooled.figures import CellDraws, VariantFigures, figures
from experiments.pooled.predictive import Check, misfit, prior_check, rate_check, size_checks
from experiments.pooled.ratios import loss_share, margin_rate, pooled_ratios, refund_size
from experiments.pooled.sampling import Draws, Sampler, Sampling
from experiments.pooled.stages import Kind, Priors, Stage, mean_of, stages_of, unit_of
from experiments.posteriors.protocol import FloatArray
from experiments.statistics import Moments

R_HAT_MAX = 1.01
ESS_MIN = 400.0
BUYERS_MIN = 20
VALUES_MAX = 5_000_000
"""Draws times cells of a stage: a gigabyte of memory in all, files of a hundred megabytes."""
RETRY_ACCEPTS = (0.99, 0.999)
"""With one segment nothing tells how far segments differ, and the posterior narrows like a funnel: of 14 such
shops of 1,200 visitors a draw or more diverged in 13 at 0.95, in 3 at 0.99, in none at 0.999 (33 steps a draw
in place of 12)."""
RATE_SCALE, REFUND_SCALE = 0.1, 0.3
"""Prior scales of how much margin rates differ by segment, and sizes of refunds by variant."""


@dataclass(frozen=True, slots=True)
class Refused:
    """Why there is no number: a code, and one sentence with what to do."""

    code: str
    detail: str


@dataclass(frozen=True, slots=True)
class StageResult:
    """How a stage was fitted."""

    name: str
    mixing: Mixing
    checks: tuple[Check, ...]


@dataclass(frozen=True, slots=True)
class Analysis:
    """The fit, or the reasons why there is none; what was found of the fit stands beside either."""

    refused: tuple[Refused, ...]
    stages: tuple[StageResult, ...] = ()
    law: str | None = None
    notes: tuple[str, ...] = ()
    variants: tuple[VariantFigures, ...] = ()
    segments: Mapping[str, Sequence[VariantFigures]] = field(
        default_factory=dict[str, Sequence[VariantFigures]]
    )
    draws: Mapping[str, Draws] = field(default_factory=dict[str, Draws])


def analyse(
    data: PooledData, *, seed: int, settings: Sampling | None = None, priors: Priors | None = None
) -> Analysis:
    """Fit and read; the same data and seed give the same answer."""
    settings, priors = settings or Sampling(), priors or Priors()
    if missing := _missing(data) or _too_large(data, settings):
        return Analysis((missing,))
    rng = np.random.default_rng([seed, 1])
    stages = stages_of(data, priors)
    asked = [prior_check(stage, rng) for stage in stages.values()]
    if failed := [check for check in asked if not check.is_ok]:
        return Analysis(tuple(_against_prior(check) for check in failed))
    sampled: dict[str, Draws] = {}
    compiled: dict[Kind, Sampler] = {}
    results: dict[str, StageResult] = {}
    for number, (name, stage) in enumerate(stages.items()):
        # Compiling takes longer than sampling; conversion and refunds are one model on other data.
        compiled[stage.kind] = compiled.get(stage.kind) or Sampler(stage, settings)
        draws, mixed = _sampled(compiled[stage.kind], stage, seed=seed * 10 + number)
        checks = _checks(stage, data, draws, rng)
        sampled[name], results[name] = draws, StageResult(stage.name, mixed, (asked[number], *checks))
    law = min(("log_normal", "gamma"), key=lambda name: _fault(results[name]))
    used = [name for name in stages if name not in ("log_normal", "gamma") or name == law]
    refused = tuple(reason for name in used for reason in _refused(results[name]))
    told = tuple(results.values())
    if refused:
        return Analysis(refused, told, law)
    cells, notes = _cell_draws(data, {name: sampled[name] for name in used}, law, rng)
    segments = sorted({group.segment for group in data.layout.groups})
    return Analysis(
        (),
        told,
        law,
        notes,
        tuple(figures(data, cells)),
        {segment: tuple(figures(data, cells, segment)) for segment in segments},
        {name: sampled[name] for name in used},
    )


def _missing(data: PooledData) -> Refused | None:
    if data.unconverted:
        detail = f"{data.unconverted} orders have no rate into the experiment's currency: set fx_rates"
        return Refused("unconverted", detail)
    with_units = {int(v) for v, n in zip(data.layout.variant, data.units, strict=True) if n > 0}
    if 0 not in with_units or len(with_units) < 2:
        return Refused("not_comparable", "the control and a treatment need units: wait, or widen the cohort")
    buyers = int(data.orders.n.sum())
    if buyers < BUYERS_MIN:
        return Refused("insufficient_data", f"{buyers} units bought, {BUYERS_MIN} are needed: wait")
    return None


def _too_large(data: PooledData, settings: Sampling) -> Refused | None:
    cells = len(data.layout.group)
    if cells * settings.chains * settings.draws <= VALUES_MAX:
        return None
    most = VALUES_MAX // (cells * settings.chains)
    detail = f"{cells:,} cells leave room for {most:,} draws a chain: ask for no more, or pool less"
    return Refused("too_large", detail)


def _against_prior(check: Check) -> Refused:
    found = f"{check.observed:.4g} where the prior expects about {check.expected:.4g}"
    return Refused("prior_predictive", f"{check.name}: {found}; state a prior that can hold this shop")


def _sampled(sampler: Sampler, stage: Stage, *, seed: int) -> tuple[Draws, Mixing]:
    draws = sampler.sample(stage, seed)
    mixed = mixing(draws.values, draws.divergences)
    for accept in RETRY_ACCEPTS:
        if not _unmixed(stage.name, mixed):
            break
        draws = sampler.sample(stage, seed, target_accept=accept)
        mixed = mixing(draws.values, draws.divergences)
    return draws, mixed


def _unmixed(name: str, found: Mixing) -> list[Refused]:
    """Why these chains cannot be trusted; a figure that is nan fails too."""
    refused: list[Refused] = []
    more = "ask for more draws; if that does not help, report it with the data's sums"
    if not found.r_hat <= R_HAT_MAX:
        detail = f"{name}: R-hat {found.r_hat:.3f} of {found.worst} is above {R_HAT_MAX}: {more}"
        refused.append(Refused("r_hat", detail))
    for code, ess in (("ess_bulk", found.ess_bulk), ("ess_tail", found.ess_tail)):
        if not ess >= ESS_MIN:
            detail = f"{name}: {ess:.0f} effective draws are fewer than {ESS_MIN:.0f}: {more}"
            refused.append(Refused(code, detail))
    if found.divergences:
        detail = f"{name}: {found.divergences} draws diverged: the posterior was not explored; {more}"
        refused.append(Refused("divergences", detail))
    return refused


def _checks(stage: Stage, data: PooledData, draws: Draws, rng: np.random.Generator) -> list[Check]:
    if stage.name in ("conversion", "refunds"):
        return [rate_check(stage, draws.parameters, rng)]
    return size_checks(stage, data.orders, unit_of(data.orders), draws.parameters, rng)


def _fault(result: StageResult) -> tuple[int, float]:
    """What speaks against a law: checks that fail, then how unlikely the others are."""
    return sum(not check.is_ok for check in result.checks), misfit(result.checks)


def _refused(result: StageResult) -> list[Refused]:
    refused = _unmixed(result.name, result.mixing)
    for check in result.checks:
        if not check.is_ok:
            found = f"{check.observed:.4g} where the model gives about {check.expected:.4g}"
            detail = f"{result.name}, {check.name}: {found}; read the report's figures, which assume no law"
            refused.append(Refused("posterior_predictive", detail))
    return refused


def _cell_draws(
    data: PooledData, draws: Mapping[str, Draws], law: str, rng: np.random.Generator
) -> tuple[CellDraws, tuple[str, ...]]:
    """The stages by cell, with what orders earn and refunds take beside them."""
    means = {name: mean_of(found.stage, found.parameters) for name, found in draws.items()}
    count, layout = len(means[law]), data.layout
    notes: list[str] = []
    refunds = means.get("refunds", np.zeros((count, len(layout.group))))
    if "refunds" not in means:
        notes.append("no refund is on record: nothing is taken off for any to come")
    by_variant = [np.flatnonzero(layout.variant == number) for number in range(len(layout.variants))]
    sizes = [_size(data, cells) for cells in by_variant]
    if not any(math.isfinite(error) for _, error in sizes):
        if "refunds" in means:
            notes.append("too few refunds to tell their size: an order refunded counts as refunded whole")
        back = np.ones((count, len(by_variant)))
    else:
        back = _pooled(sizes, REFUND_SCALE, count, rng)
    losses = np.array([loss_share(_moments(data, cells)) for cells in by_variant])
    rate = None
    if data.unknown_cost:
        notes.append(f"cost_unknown: {data.unknown_cost} orders have no cost, so there is no margin")
    else:
        rate = _margin_rates(data, losses, count, rng)
    cells = CellDraws(
        means["conversion"],
        means[law] * unit_of(data.orders),
        refunds,
        back[:, layout.variant],
        rate,
        losses[layout.variant],
    )
    return cells, tuple(notes)


def _size(data: PooledData, cells: Sequence[int] | IntArray) -> tuple[float, float]:
    refunded, buyers = float(data.refunded[cells].sum()), float(data.orders.n[cells].sum())
    return refund_size(_moments(data, cells), refunded, buyers)


def _margin_rates(data: PooledData, losses: FloatArray, count: int, rng: np.random.Generator) -> FloatArray:
    """Margin before refunds over booked value by cell, pooled over a variant's segments and places."""
    layout = data.layout
    rates = np.zeros((count, len(layout.group)))
    for number, loss in enumerate(losses):
        parts: dict[tuple[str, str], list[int]] = {}
        for cell in np.flatnonzero(layout.variant == number):
            group = layout.groups[layout.group[cell]]
            parts.setdefault((group.place, group.segment), []).append(int(cell))
        found = [margin_rate(_moments(data, cells), loss) for cells in parts.values()]
        if not any(math.isfinite(error) for _, error in found):
            every = margin_rate(data.moments, loss)
            found = [every] * len(parts)
        drawn = _pooled(found, RATE_SCALE, count, rng)
        for place, cells in enumerate(parts.values()):
            rates[:, cells] = drawn[:, place, None]
    return rates


def _pooled(
    found: Sequence[tuple[float, float]], scale: float, count: int, rng: np.random.Generator
) -> FloatArray:
    ratios, errors = np.array(found).reshape(-1, 2).T
    return pooled_ratios(ratios, errors, scale, count, rng)


def _moments(data: PooledData, cells: Sequence[int] | IntArray) -> list[Moments]:
    return [data.moments[cell] for cell in cells]

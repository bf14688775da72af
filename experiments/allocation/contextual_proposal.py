"""What the next version of a contextual policy publishes: draws, and what they come to on average.

Guardrails take part as everywhere (`allocation.joint`): in each draw a variant that would do harm is struck
out, whatever the context. Its guardrails are drawn beside its coefficients, correlated as goal and
guardrails are, the goal being its mean over the contexts of all units.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray
from scipy import special

from experiments.allocation.caps import to_integer
from experiments.allocation.contextual import ContextualDraws, Level, packed_bits, rounded_draws
from experiments.allocation.contextual_fit import ContextualPosterior, contextual_posterior
from experiments.allocation.features import FEATURE_POINT, Columns
from experiments.allocation.joint import Joint
from experiments.allocation.published import PosteriorSummary, SetShares
from experiments.analysis.reading import Reason
from experiments.model import Experiment
from experiments.posteriors.protocol import FloatArray
from experiments.statistics import Cell

Keys = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Held:
    """Why there is no posterior to draw from."""

    reason: Reason
    detail: str


def contextual_draws(
    experiment: Experiment,
    cells: Sequence[Cell],
    keys: Keys,
    *,
    joint: Joint | None,
    caps: Mapping[str, float],
    last: ContextualDraws | None,
    seed: int,
    time_zone: str,
    now: datetime,
) -> tuple[ContextualDraws, ContextualPosterior] | Held:
    """Draws of these variants' coefficients, or why there are none; the last ones while they still hold."""
    found = contextual_posterior(experiment, cells, keys, time_zone=time_zone, now=now)
    if not isinstance(found, ContextualPosterior):
        return Held(*found)
    basis = _basis(experiment, found, joint, caps)
    if last is not None and last.basis == basis:
        return last, found
    rng = np.random.default_rng(seed)
    draws = found.draw(experiment.policy.draws, rng=rng)
    struck = b""
    if joint is not None:
        struck = packed_bits(struck_out(joint, found.keys, averages(found, draws), rng=rng))
    exponent, data = rounded_draws(draws)
    published = ContextualDraws(
        model=found.model,
        keys=found.keys,
        columns=Columns(experiment.policy.features).names,
        control=experiment.control.key,
        control_share=experiment.policy.control_share,
        floor=experiment.policy.floor,
        exponent=exponent,
        data=data,
        struck=struck,
        basis=basis,
        caps=dict(caps),
        level=_level(found, draws),
    )
    return published, found


def average_shares(
    published: ContextualDraws,
    found: ContextualPosterior,
    candidates: Keys,
    capped: Mapping[str, float],
) -> SetShares:
    """What the draws come to for a candidate set, averaged over the contexts of all units.

    Where a number makes contexts endless, it is the average context's. For people, not for serving.
    """
    rows, weights = found.contexts
    shares, best = np.zeros(len(candidates)), np.zeros(len(candidates))
    for row, weight in zip(rows, weights, strict=True):
        columns = [round(FEATURE_POINT * value) for value in row.tolist()]
        split = published.shares_for(candidates, columns, capped)
        won = published.wins(candidates, columns)
        shares += weight * np.array([split[key] for key in candidates])
        best += weight * np.array([won[key] for key in candidates]) / published.count
    values = _values(published, found)
    posteriors = {
        key: PosteriorSummary(float(values[:, k].mean()), float(values[:, k].std()), found.units[key])
        for k, key in enumerate(found.keys)
        if key in candidates
    }
    split = dict(zip(candidates, shares.tolist(), strict=True))
    return SetShares(to_integer(split), dict(zip(candidates, best.tolist(), strict=True)), posteriors)


def averages(found: ContextualPosterior, draws: FloatArray) -> FloatArray:
    """Each draw's coefficients on the average context, (n_draws, n_arms)."""
    rows, weights = found.contexts
    return draws @ (weights @ rows)


def struck_out(
    joint: Joint, keys: Sequence[str], goals: FloatArray, *, rng: np.random.Generator
) -> NDArray[np.bool_]:
    """In which draws each variant is beyond a guardrail's limit, (n_arms, n_draws).

    `goals` (n_draws, n_arms) are ranked to normal scores, which take the goal's place in the copula.
    """
    count, control = len(goals), joint.keys.index(joint.control)
    figures: list[list[FloatArray | None]] = []
    for arm, key in zip(joint.arms, joint.keys, strict=True):
        # Two metrics that are one and the same have no Cholesky root.
        root = np.linalg.cholesky(0.999999 * np.array(arm.correlation) + 1e-6 * np.eye(1 + len(joint.limits)))
        own = rng.standard_normal((1 + len(joint.limits), count))
        if key in keys:
            ranks = goals[:, keys.index(key)].argsort().argsort()
            own[0] = special.ndtri((ranks + 0.5) / count)
        scores = root @ own
        figures.append(
            [None if g is None else g.ppf(special.ndtr(scores[j])) for j, g in enumerate(arm.guards, start=1)]
        )
    struck = np.zeros((len(keys), count), dtype=np.bool_)
    for k, key in enumerate(joint.keys):
        if k == control or key not in keys:
            continue
        for j, limit in enumerate(joint.limits):
            ours, theirs = figures[control][j], figures[k][j]
            if ours is not None and theirs is not None:
                beyond = limit.of(ours)
                struck[keys.index(key)] |= theirs > beyond if limit.is_up_bad else theirs < beyond
    return struck


def _level(found: ContextualPosterior, draws: FloatArray) -> Level:
    rows, weights = found.contexts
    common = found.sign * draws.mean(axis=(0, 1))
    return Level(found.sign, tuple(common.tolist()), tuple((weights @ rows).tolist()))


def _values(published: ContextualDraws, found: ContextualPosterior) -> FloatArray:
    """Mean of the metric over all units' contexts by draw and arm, had everybody got that arm."""
    rows, weights = found.contexts
    away = published.coefficients()
    # What was published is centred; the level all arms share is put back for people to read.
    scores = found.sign * (away - away.mean(axis=0)) + found.coupled.mean
    linear = np.einsum("rkp,cp->rkc", scores, rows)
    return (special.expit(linear) if found.model == "logistic" else linear) @ weights


def _basis(
    experiment: Experiment, found: ContextualPosterior, joint: Joint | None, caps: Mapping[str, float]
) -> str:
    """A name for everything the draws depend on but their seed."""
    settings = experiment.policy
    numbers = settings.control_share, settings.floor, settings.draws
    parts = found.keys, found.model, numbers, sorted(caps.items())
    told = blake2b(repr(parts).encode(), digest_size=16)
    arrays = (found.coupled.mean, found.coupled.precision, found.noises, found.freedom)
    for array in arrays:
        told.update(b"" if array is None else array.tobytes())
    if joint is not None:
        told.update(repr((joint.limits, joint.arms)).encode())
    return told.hexdigest()

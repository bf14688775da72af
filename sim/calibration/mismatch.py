"""The split of exposures: false alarms of its e-process, lost exposures found, and what Pearson says."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from experiments.analysis.srm import ALARM, Split, log_e_value
from experiments.model import PolicyKind
from sim.calibration.looking import ARMS, experiment_of, thompson

LOOKS, BATCH, EVERY = 200, 1_000, 2
LOSS = 0.03
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class World:
    """The shares of each segment (of equal size), and which arm loses `LOSS` of its exposures.

    `rates` are the conversions that a bandit follows in place of such shares.
    """

    shares: Sequence[Mapping[str, float]] = ()
    losing: str | None = None
    rates: Sequence[float] = ()


SEGMENTS = [{"none": 0.9, "a": 0.1}, {"none": 0.1, "a": 0.9}]
WORLDS = {
    "fixed, 0.50 / 0.25 / 0.25": World([{"none": 0.5, "a": 0.25, "b": 0.25}]),
    "Thompson, no effect": World(rates=(0.1, 0.1, 0.1)),
    "Thompson, one better": World(rates=(0.1, 0.1, 0.12)),
    "fixed, 0.50 / 0.25 / 0.25, `a` loses": World([{"none": 0.5, "a": 0.25, "b": 0.25}], "a"),
    "fixed, 0.73 / 0.25 / 0.02, `a` loses": World([{"none": 0.73, "a": 0.25, "b": 0.02}], "a"),
    "fixed, 0.25 / 0.75, `a` loses": World([{"none": 0.25, "a": 0.75}], "a"),
    "fixed, a third each, `a` loses": World([{"none": 1 / 3, "a": 1 / 3, "b": 1 / 3}], "a"),
    "Thompson, no effect, `a` loses": World(losing="a", rates=(0.1, 0.1, 0.1)),
    "fixed, 0.10 / 0.88 / 0.02, `a` loses": World([{"none": 0.1, "a": 0.88, "b": 0.02}], "a"),
    "two segments, 0.90 / 0.10 and 0.10 / 0.90": World(SEGMENTS),
    "two segments, `a` loses": World(SEGMENTS, "a"),
}


@dataclass(frozen=True, slots=True)
class Row:
    """Runs with an alarm at some look; at the last one Pearson's alarms at 1 % and mean statistic over df."""

    world: str
    runs: int
    alarms: float
    pearson: float
    pearson_mean: float


def mismatch(name: str, world: World, *, runs: int, seed: int) -> Row:
    """Simulate a world; of a bandit's losses those count whose arm held 25 to 75 % of all units."""
    alarms: list[bool] = []
    statistics: list[float] = []
    for run_no in range(runs):
        splits = exposures(world, np.random.default_rng([seed, run_no]))
        last = splits[-1]
        if world.rates and world.losing is not None:
            held = float(_expected(last)[last.variants.index(world.losing)] / last.units)
            if not 0.25 <= held <= 0.75:
                continue
        alarms.append(any(log_e_value(split) >= math.log(ALARM) for split in reversed(splits)))
        statistics.append(pearson(last))
    freedom = len(ARMS if world.rates else world.shares[0]) - 1
    p_values = special.chdtrc(freedom, np.array(statistics))
    return Row(
        name,
        len(alarms),
        float(np.mean(alarms)),
        float(np.mean(p_values < 1.0 / ALARM)),
        float(np.mean(statistics) / freedom),
    )


def exposures(world: World, rng: np.random.Generator) -> list[Split]:
    """What is known of the split at each look."""
    return _of_bandit(world, rng) if world.rates else _of_shares(world, rng)


def _of_shares(world: World, rng: np.random.Generator) -> list[Split]:
    keys = tuple(world.shares[0])
    shares = np.array([[part[key] for key in keys] for part in world.shares])
    batches = rng.multinomial(BATCH // len(shares), shares, size=(LOOKS, len(shares)))
    counts = np.cumsum(rng.binomial(batches, _seen(world, keys)), axis=0)
    return [Split(keys, at_look.astype(float), shares) for at_look in counts]


def _of_bandit(world: World, rng: np.random.Generator) -> list[Split]:
    allocate = thompson(EVERY, experiment_of(ARMS, PolicyKind.THOMPSON))
    counts: list[Floats] = []
    shares: list[Floats] = []
    so_far = np.zeros((len(ARMS), 2), dtype=np.int64)
    splits: list[Split] = []
    for look in range(LOOKS):
        fresh = allocate(look, dict(zip(ARMS, so_far.tolist(), strict=True)))
        if fresh is not None:
            shares.append(np.array([fresh[key] for key in ARMS]))
            counts.append(np.zeros(len(ARMS)))
        units = rng.multinomial(BATCH, shares[-1])
        so_far += np.stack([units, rng.binomial(units, world.rates)], axis=1)
        counts[-1] = counts[-1] + rng.binomial(units, _seen(world, ARMS))
        splits.append(Split(ARMS, np.array(counts), np.array(shares)))
    return splits


def _seen(world: World, keys: Sequence[str]) -> Floats:
    """The part of each arm's exposures that arrives."""
    return np.array([1.0 - LOSS * (key == world.losing) for key in keys])


def pearson(split: Split) -> float:
    """Pearson's statistic of all counts against the summed shares."""
    expected = _expected(split)
    return float(((split.counts.sum(axis=0) - expected) ** 2 / expected).sum())


def _expected(split: Split) -> Floats:
    return (split.counts.sum(axis=1, keepdims=True) * split.shares).sum(axis=0)


def all_worlds(runs: int, seed: int) -> list[Row]:
    """Every world's row, told as it comes."""
    rows: list[Row] = []
    for name, world in WORLDS.items():
        rows.append(mismatch(name, world, runs=runs, seed=seed))
        print(rows[-1], file=sys.stderr, flush=True)
    return rows


def block(rows: Sequence[Row], runs: int, seed: int) -> str:
    """The study's part of docs/calibration.md."""
    lines = [
        f"{LOOKS} looks at {LOOKS * BATCH:,} exposed units, {runs:,} runs of a world, seed {seed}; an",
        f"alarm is an e-value of {ALARM:.0f} at some look. *Loses*: {LOSS:.0%} of the exposures of `a` never",
        "arrive. Thompson: control share 0.10, floor 0.02, shares up to 100 times anew; of its losses those",
        "count where `a` held 25 to 75 % of all units. Segments are equal in size. Pearson: chi-square of",
        "all counts against the summed shares at the last look, p < 0.01, and its mean over its degrees of",
        "freedom: 1 for a test that is one, but where shares differ it takes the variance for larger.",
        "",
        "| world | runs | e-process alarms | Pearson alarms | Pearson mean / df |",
        "|---|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {row.world} | {row.runs} | {row.alarms:.3f} | {row.pearson:.3f} | {row.pearson_mean:.2f} |"
        for row in rows
    ]
    return "\n".join(lines)

"""How often the verdict is right: of a toxic offer, a healthy one, and where no treatment does anything."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from benchmarks.studies.blocks import write_block
from experiments.analysis.read_out import read_out
from experiments.analysis.verdict import VerdictKind
from experiments.model import Experiment
from sim.calibration.checkout import CONTROL, Shoppers, cell, experiment

PAGE = Path(__file__).parents[2] / "docs" / "calibration.md"
UNITS = 50_000
NOW = datetime(2026, 6, 1, tzinfo=UTC)
BASE = Shoppers()


@dataclass(frozen=True, slots=True)
class World:
    """Treatments, the verdicts counted, and between which shares of runs they should lie."""

    treatments: Mapping[str, Shoppers]
    counted: frozenset[VerdictKind]
    at_least: float = 0.0
    at_most: float = 1.0


def _nothing(treatments: int) -> World:
    arms = {f"v{k}": BASE for k in range(1, treatments + 1)}
    return World(arms, frozenset({VerdictKind.HEALTHY, VerdictKind.TOXIC}), at_most=0.05)


TOXIC = replace(BASE, value=BASE.value * 1.12, refunds=2 * BASE.refunds, conversion=BASE.conversion * 0.97)
HEALTHY = replace(BASE, value=BASE.value * 1.08)
WORLDS: Mapping[str, World] = {
    "toxic": World({"v1": TOXIC}, frozenset({VerdictKind.TOXIC}), at_least=0.95),
    "healthy": World({"v1": HEALTHY}, frozenset({VerdictKind.HEALTHY}), at_least=0.90),
    **{f"no effect, {k} treatment{'s' * (k > 1)}": _nothing(k) for k in (1, 2, 3, 5)},
}


def verdict_in(world: World, about: Experiment, *, units: int, seed: Sequence[int]) -> str:
    """The report's verdict after one look at so many units of each arm."""
    rng = np.random.default_rng(seed)
    arms = {CONTROL: BASE, **world.treatments}
    cells = [cell(key, arm.totals(units, rng), units, list(arms)) for key, arm in arms.items()]
    return read_out(about, cells, time_zone="UTC", now=NOW, metric="margin_per_unit").verdict.kind


def counts_of(world: World, about: Experiment | None = None, *, runs: int, seed: int) -> Counter[str]:
    """How many runs end in each verdict; `about` replaces the experiment's own document."""
    chosen = about or experiment(list(world.treatments))
    return Counter(verdict_in(world, chosen, units=UNITS, seed=(seed, k)) for k in range(runs))


def share_of(world: World, counts: Counter[str]) -> float:
    """Share of the runs that end in one of the verdicts counted."""
    return sum(counts[kind.value] for kind in world.counted) / counts.total()


def verdicts(*, runs: int, seed: int, page: Path = PAGE) -> None:
    """Run every world and write its rows."""
    found = {name: counts_of(world, runs=runs, seed=seed) for name, world in WORLDS.items()}
    write_block(page, "verdicts", written(found, runs, seed))


def written(found: Mapping[str, Counter[str]], runs: int, seed: int) -> str:
    """The table."""
    kinds = [kind.value for kind in VerdictKind]
    lines = [
        f"Written by `make studies`: {runs:,} runs of each world, seed {seed}. Conversion 60 %, refunds 5 %,",
        "order values with a coefficient of variation of 1, margin 40 % of what is booked less refunds; one",
        f"look at {UNITS:,} units of each arm, with the guardrails of [the example](experiments.md) on",
        "conversion and refunds. `toxic` has order values 12 % higher, twice the refunds and 3 % less",
        "conversion; `healthy` order values 8 % higher. Counts are runs, the verdict that of the treatment",
        "most probably best.",
        "",
        f"| world | wanted | found | {' | '.join(f'`{kind}`' for kind in kinds)} |",
        f"|---|---:|---:|{'---:|' * len(kinds)}",
    ]
    for name, counts in found.items():
        world = WORLDS[name]
        low = f"at least {world.at_least:.0%}" if world.at_least else f"at most {world.at_most:.0%}"
        which = " or ".join(sorted(kind.value for kind in world.counted))
        row = " | ".join(str(counts[kind]) for kind in kinds)
        lines.append(f"| {name} | {which} {low} | {share_of(world, counts):.1%} | {row} |")
    return "\n".join(lines)

"""How often the verdict is right: of a toxic offer, a healthy one, and where no treatment does anything."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import numpy as np

from experiments.analysis.read_out import read_out
from experiments.analysis.verdict import VerdictKind
from experiments.model import Experiment
from sim.calibration.checkout import CONTROL, Shoppers, cell, experiment
from sim.calibration.part import Part, Promise, Rows, Step, at_least, at_most, flat, nothing, paragraph
from sim.calibration.tracks import bar_chart

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


@dataclass(frozen=True, slots=True)
class Row:
    """How many runs of a world ended in each verdict."""

    world: str
    counts: Mapping[str, int]

    @property
    def runs(self) -> int:
        """All of them."""
        return sum(self.counts.values())

    @property
    def share(self) -> float:
        """Share of the runs that end in one of the world's verdicts."""
        return sum(self.counts.get(kind.value, 0) for kind in WORLDS[self.world].counted) / self.runs


def verdicts(
    name: str, about: Experiment | None = None, *, runs: int, seed: int, step: Step = nothing
) -> Row:
    """Count the verdicts of a world; `about` replaces the experiment's own document."""
    world = WORLDS[name]
    chosen = about or experiment(list(world.treatments))
    counts: Counter[str] = Counter()
    for run_no in range(runs):
        counts[verdict_in(world, chosen, units=UNITS, seed=(seed, run_no))] += 1
        step()
    return Row(name, dict(counts))


def text(rows: Rows) -> str:
    """The table."""
    kinds = [kind.value for kind in VerdictKind]
    lines = [
        paragraph(
            "Conversion 60 %, refunds 5 %, order values with a coefficient of variation of 1, "
            f"margin 40 % of what is booked less refunds; one look at {UNITS:,} units of each arm, "
            "with the guardrails of the example in `docs/experiments.md` on conversion and "
            "refunds. `toxic` has order values 12 % higher, twice the refunds and 3 % less "
            "conversion; `healthy` order values 8 % higher. Counts are runs, the verdict that of "
            "the treatment most probably best."
        ),
        "",
        f"| world | wanted | found | {' | '.join(f'`{kind}`' for kind in kinds)} |",
        f"|---|---:|---:|{'---:|' * len(kinds)}",
    ]
    for row in flat(rows):
        counts = " | ".join(str(row.counts.get(kind, 0)) for kind in kinds)
        lines.append(f"| {row.world} | {_wanted(WORLDS[row.world])} | {row.share:.1%} | {counts} |")
    return "\n".join(lines)


def promises(rows: Rows) -> list[Promise]:
    """One for each world."""
    found: list[Promise] = []
    for row in flat(rows):
        world = WORLDS[row.world]
        state = (
            at_least(row.share, world.at_least, row.runs)
            if world.at_least
            else at_most(row.share, world.at_most, row.runs)
        )
        what = f"*{row.world}* is called {_wanted(world)}"
        found.append(Promise(what, f"{row.share:.1%}", state, row.world))
    return found


def _wanted(world: World) -> str:
    which = " or ".join(f"`{kind}`" for kind in sorted(kind.value for kind in world.counted))
    return (
        f"{which} at least {world.at_least:.0%}" if world.at_least else f"{which} at most {world.at_most:.0%}"
    )


def chart(rows: Rows) -> str:
    """A bar for each world."""
    return bar_chart(
        "Verdicts after one look at 50,000 units an arm",
        {row.world: row.counts for row in flat(rows)},
        [kind.value for kind in VerdictKind],
    )


PART = Part(
    key="verdicts",
    title="Is the verdict right?",
    runs=1_000,
    worlds=dict(zip(WORLDS, (17, 17, 19, 32, 44, 69), strict=True)),
    row=Row,
    measure=lambda world, runs, seed, step: [verdicts(world, runs=runs, seed=seed, step=step)],
    text=text,
    promises=promises,
    chart=chart,
    after="How soon a guardrail kills, and how rarely without cause: `docs/guardrails-measured.md`.",
)

"""How often the interval of a lift by CUPED holds the truth, and the variance that it saves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from experiments.analysis.cohorts import Cohorts
from experiments.analysis.cuped import covariate_of, cuped_lift
from experiments.analysis.reading import read_metric
from experiments.statistics import Cell
from sim.calibration.part import Part, Rows, Step, band, flat, nothing, paragraph
from sim.calibration.refunds import DEFINITIONS, EXPERIMENT, NONE, OFFER, START, cell_of
from sim.calibration.tracks import Dot, dot_chart

UNITS = 2_000
WORLDS: Mapping[str, float] = {f"rho {rho}": rho for rho in (0.0, 0.5, 0.8)}
"""The correlation of margins before and after."""


@dataclass(frozen=True, slots=True)
class Row:
    """CUPED at one rho: coverage, variance left over that without (None: of one run), what reports say."""

    rho: float
    runs: int
    coverage: float
    left: float | None
    said: float


def cuped(rho: float, *, runs: int, seed: int, units: int = UNITS, step: Step = nothing) -> Row:
    """Margins before and after with that correlation, both skewed (Gamma of shape 1/2); the lift is 50."""
    found: list[list[float]] = []
    for run in range(runs):
        rng = np.random.default_rng([seed, round(100 * rho), run])
        cells: list[Cell] = []
        for arm, key in enumerate((NONE, OFFER)):
            before, noise = rng.gamma(0.5, 1_000.0, (2, units))
            after = rho * before + np.sqrt(1.0 - rho**2) * noise + 50.0 * arm
            one = np.ones(units, np.int64)
            features = {
                "pre_margin": np.rint(before).astype(np.int64),
                "margin": np.rint(after).astype(np.int64),
            }
            cells.append(cell_of(key, START, {"assigned": one, "units": one, **features}))
        now = datetime(2027, 1, 1, tzinfo=UTC)
        cohort = Cohorts(cells, only_matured=False, time_zone="UTC", now=now).all
        definition = DEFINITIONS["margin_per_unit"]
        reading = read_metric(EXPERIMENT, cohort, definition, by_epoch=False, seed=0)
        one_lift = cuped_lift(reading, covariate_of(cells, [definition]), OFFER, by_epoch=False)
        plain = reading.pairs[OFFER].lift_abs  # type: ignore[union-attr]
        lift = one_lift.lift_abs
        holds = lift.ci_low <= 50.0 <= lift.ci_high  # type: ignore[operator]
        found.append([holds, lift.value or 0.0, plain, one_lift.variance_saved or 0.0])
        step()
    holds, adjusted, plain, said = np.array(found).T
    left = float(adjusted.var() / plain.var()) if runs > 1 else None
    return Row(rho, runs, float(holds.mean()), left, float(said.mean()))


def text(rows: Rows) -> str:
    """The table."""
    lines = [
        paragraph(
            f"{UNITS:,} visitors a variant, margins skewed (Gamma of shape 1/2), correlation rho "
            "with the margin of the period before. `left` is the variance of the adjusted lifts "
            "over that of the plain ones: 1 - rho^2; `saved` what the reports said."
        ),
        "",
        "| rho | coverage | 1 - rho^2 | left | saved |",
        "|---:|---:|---:|---:|---:|",
    ]
    for row in flat(rows):
        left = "–" if row.left is None else f"{row.left:.2f}"
        lines.append(f"| {row.rho} | {row.coverage:.3f} | {1 - row.rho**2:.2f} | {left} | {row.said:.2f} |")
    return "\n".join(lines)


def chart(rows: Rows) -> str:
    """A track for each correlation."""
    dots = [Dot(f"rho {row.rho}", row.coverage, band(row.runs), False) for row in flat(rows)]
    return dot_chart("Coverage of the lift by CUPED", dots, ("coverage of the 95 % interval", ""))


PART = Part(
    key="cuped",
    title="Variance saved by CUPED",
    runs=1_000,
    worlds=dict.fromkeys(WORLDS, 1.2),
    row=Row,
    measure=lambda world, runs, seed, step: [cuped(WORLDS[world], runs=runs, seed=seed, step=step)],
    text=text,
    promises=lambda rows: [],
    chart=chart,
)

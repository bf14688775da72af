"""Ranks of truths among the pooled model's draws: what is told of them. They are made by `sbc`.

Apart from it so that nobody needs PyMC to read a report, or to run the other parts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sim.calibration.part import Part, Promise, Rows, State, Step, flat, paragraph
from sim.calibration.tracks import Axis, Dot, dot_chart

BINS = 20
RANKED = 99
LIMIT = 43.8
"""The 99.9 % point of chi-square with 19 degrees of freedom."""
STAGES = ("binomial", "log_normal", "gamma")


@dataclass(frozen=True, slots=True)
class Row:
    """Of one quantity: fits without and with the planted fault, and chi-square of the ranks of both."""

    kind: str
    quantity: str
    fits: int
    planted_fits: int
    right: float
    planted: float


def planted_runs(runs: int) -> int:
    """A fault shows in fewer."""
    return max(1, runs * 3 // 10)


def text(rows: Rows) -> str:
    """The table."""
    lines = [
        paragraph(
            "The service's own model and sampler (`experiments/pooled`). A truth is drawn from "
            "the prior, data of three variants in two segments from the truth (40 units a cell, "
            f"12 orders); its rank among {RANKED} draws must be uniform: chi-square over {BINS} "
            f"bins below {LIMIT} (99.9 %; Talts et al. 2018). Priors are asymmetric. *Planted*: "
            "fits of such data with one success, or one order's sums, too many in each cell."
        ),
        "",
        "| stage | quantity | fits | chi-square | planted fits | planted |",
        "|---|---|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {row.kind} | {row.quantity} | {row.fits:,} | {row.right:.1f} "
        f"| {row.planted_fits:,} | {row.planted:.1f} |"
        for row in flat(rows)
    ]
    return "\n".join(lines)


def promises(rows: Rows) -> list[Promise]:
    """All ranks of a stage are uniform, and the fault is seen in some of them."""
    found: list[Promise] = []
    for name, of_stage in rows.items():
        right = max(row.right for row in of_stage)
        seen = max(row.planted for row in of_stage)
        fits = of_stage[0].fits
        state = State.MISSED if right > LIMIT else State.HELD if fits >= 5 * BINS else State.UNSURE
        what = f"ranks of the pooled model's stage are uniform: {name}"
        found.append(Promise(what, f"chi-square at most {right:.1f}", state, name))
        state = State.HELD if seen > LIMIT else State.UNSURE
        found.append(Promise(f"a planted fault is seen: {name}", f"chi-square {seen:.1f}", state, name))
    return found


def chart(rows: Rows) -> str:
    """A track for each quantity: chi-square on a scale of logarithms."""
    dots = [
        Dot(
            f"{row.kind}: {row.quantity}",
            row.right,
            (1.0, LIMIT),
            other=row.planted,
        )
        for row in flat(rows)
    ]
    axis = Axis([1.0, 10.0, 100.0, 1000.0], is_log=True)
    names = ("chi-square of ranks", "with the planted fault")
    return dot_chart("Ranks of the truth among draws, against uniform", dots, names, axis=axis, mark=LIMIT)


def _measure(world: str, runs: int, seed: int, step: Step) -> Sequence[Row]:
    from sim.calibration.sbc import calibrate  # needs the extra `analysis`

    return calibrate(world, runs=runs, planted=planted_runs(runs), seed=seed, step=step)


PART = Part(
    key="sbc",
    title="The pooled model",
    runs=1_000,
    worlds=dict.fromkeys(STAGES, 240),
    row=Row,
    measure=_measure,
    text=text,
    promises=promises,
    chart=chart,
    before=(
        "A posterior is right when the truth's rank among its draws is uniform over many "
        "simulated data sets (`docs/analysis.md`)."
    ),
    after=(
        "One success too many in every cell, control's too, leaves effects as they are, so that "
        "their ranks cannot show it."
    ),
    needs="analysis",
)

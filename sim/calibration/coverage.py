"""How often the 95 % interval of a lift holds the truth when shares follow outcomes."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from experiments.analysis.cohorts import cohort_of
from experiments.analysis.comparison import Pair
from experiments.analysis.metrics import metric_definitions
from experiments.analysis.reading import read_metric
from experiments.model import Experiment, Guardrail
from experiments.posteriors.compare import difference, ratio_minus_one
from experiments.statistics import Cell
from sim.calibration.bandit import CONTROL, Arm, Design, simulate
from sim.calibration.part import Part, Rows, Step, band, flat, nothing, paragraph
from sim.calibration.tracks import Dot, dot_chart

METRICS = ("conversion_rate", "refund_rate", "cart_abandonment_rate", "margin_per_unit", "aov")
GUARDRAILS = (
    Guardrail("conversion_rate", 0.02, 0.05, 0.10),
    Guardrail("refund_rate", 0.15, 0.30, 0.60),
    Guardrail("cart_abandonment_rate", 0.02, 0.05, 0.10),
)
SHOP = {
    CONTROL: Arm(0.5),
    "toxic": Arm(0.464, 0.22, regret=0.35, gain=4000, gain_margin=1900),
    "good": Arm(0.49775, 0.35, gain=1990, gain_margin=1500),
    "neutral": Arm(0.4955, 0.15, gain=2490, gain_margin=500),
}
NOTHING = {key: Arm(0.5) for key in SHOP}
DESIGNS = {
    "daily, guardrails": Design(SHOP, 20, 1000, guardrails=GUARDRAILS),
    "hourly": Design(SHOP, 240, 83),
    "daily, no effect": Design(NOTHING, 20, 1000),
    "daily, rates fall by half": Design(SHOP, 20, 1000, scale=tuple(np.linspace(1.0, 0.5, 20))),
    "daily, rates double": Design(SHOP, 20, 1000, scale=tuple(np.linspace(0.5, 1.0, 20))),
}


@dataclass(frozen=True, slots=True)
class Row:
    """Coverage of one metric in one design, over all treatments."""

    design: str
    metric: str
    intervals: int
    stratified: float
    naive: float
    bias: float  # mean of (lift - truth) / standard error
    spread: float  # standard deviation of the same


def coverage(name: str, design: Design, *, runs: int, seed: int, step: Step = nothing) -> list[Row]:
    """Simulate a design and count, for the relative lift (for margin the absolute one)."""
    held: dict[tuple[str, bool], list[bool]] = {}
    scores: dict[str, list[float]] = {}
    truth = {key: _average_truth(arm, design.scale) for key, arm in design.arms.items()}
    for run_no in range(runs):
        run = simulate(design, np.random.default_rng([seed, run_no]))
        for metric in METRICS:
            for by_epoch in (True, False):
                for key, pair in pairs_of(run.experiment, run.cells, metric, by_epoch=by_epoch).items():
                    lift, low, high, true = lift_of(metric, pair, truth[key], truth[CONTROL])
                    held.setdefault((metric, by_epoch), []).append(low <= true <= high)
                    if by_epoch:
                        scores.setdefault(metric, []).append((lift - true) / ((high - low) / 3.92))
        step()
    return [
        Row(
            name,
            metric,
            len(held[metric, True]),
            float(np.mean(held[metric, True])),
            float(np.mean(held[metric, False])),
            float(np.mean(scores[metric])),
            float(np.std(scores[metric])),
        )
        for metric in METRICS
    ]


def pairs_of(
    experiment: Experiment, cells: Sequence[Cell], metric: str, *, by_epoch: bool
) -> dict[str, Pair]:
    """Every comparison of a metric that has intervals."""
    definition = metric_definitions(experiment)[metric]
    reading = read_metric(experiment, cohort_of(cells), definition, by_epoch=by_epoch, seed=1)
    return {key: pair for key, pair in reading.pairs.items() if isinstance(pair, Pair)}


def lift_of(
    metric: str, pair: Pair, truth: dict[str, float], control: dict[str, float]
) -> tuple[float, float, float, float]:
    """The lift, its interval and the truth."""
    relative = ratio_minus_one(pair.treatment_posterior, pair.control_posterior)
    if metric == "margin_per_unit" or relative is None or pair.lift_rel is None:
        low, high = difference(pair.treatment_posterior, pair.control_posterior).interval()
        return pair.lift_abs, low, high, truth[metric] - control[metric]
    low, high = relative.interval()
    return pair.lift_rel, low, high, truth[metric] / control[metric] - 1


def _average_truth(arm: Arm, scale: Sequence[float]) -> dict[str, float]:
    """The truth over epochs of equal size: rates per unit are linear in the scale, ratios free of it."""
    truth = arm.truth()
    factor = float(np.mean(scale)) if scale else 1.0
    linear = {key: truth[key] * factor for key in ("conversion_rate", "margin_per_unit")}
    return truth | linear | {"cart_abandonment_rate": 1 - linear["conversion_rate"]}


def text(rows: Rows) -> str:
    """The table."""
    intervals = min(row.intervals for row in flat(rows))
    lines = [
        paragraph(
            "Four variants at a conversion of 50 %, about 20,000 units, control share 0.20, floor "
            "0.02, burn-in 400; 20 days of 1,000 units, or 240 hours of 83. Coverage is of the 95 "
            "% interval of the lift against control (relative; for margin absolute), over the "
            "three treatments; `naive` pools each arm's units. `bias` and `spread` are mean and "
            "standard deviation of (lift - truth) / standard error: 0 and 1 when all is well."
        ),
        "",
        "| design | metric | intervals | coverage | naive | bias | spread |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {row.design} | {row.metric} | {row.intervals} | {row.stratified:.3f} | {row.naive:.3f} "
        f"| {row.bias:+.2f} | {row.spread:.2f} |"
        for row in flat(rows)
    ]
    lines += [
        "",
        f"The Monte-Carlo error of a coverage is about {1.96 * np.sqrt(0.95 * 0.05 / intervals):.3f} if the",
        "three treatments of a run were independent; they share their control, so allow half as much again.",
    ]
    return "\n".join(lines)


def chart(rows: Rows) -> str:
    """A track for each metric of each design; the band is that of treatments which were as one."""
    dots = [
        Dot(f"{row.design}: {row.metric}", row.stratified, band(row.intervals // 3), False, row.naive)
        for row in flat(rows)
    ]
    return dot_chart("Coverage under shares that follow outcomes", dots, ("stratified", "naive"))


PART = Part(
    key="moving",
    title="Under shares that follow outcomes",
    runs=200,
    worlds=dict(zip(DESIGNS, (370, 980, 85, 83, 73), strict=True)),
    row=Row,
    measure=lambda world, runs, seed, step: coverage(world, DESIGNS[world], runs=runs, seed=seed, step=step),
    text=text,
    promises=lambda rows: [],
    chart=chart,
    before=(
        "The allocator and the read-out are the service's own (`experiments/`), guardrails "
        "included; only the shoppers are simulated. Published, not promised: 20,000 units are "
        "fewer than the intervals are promised for."
    ),
)

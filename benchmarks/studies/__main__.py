"""Run the studies (`make studies`; ARGS="--runs 20" for a quick look, ARGS="policies" for those alone).

`calibration`, `adaptive`, `intervals`, `verdicts`, `refunds`, `peeking`, `mismatch` and `sbc` each write a
part of docs/calibration.md, `pooled` the figures of docs/analysis.md, `policies` and `selection` the figures
and the chart of docs/policies.md, `delays` the figures of docs/delay-and-drift.md, `guardrails`
docs/guardrails-measured.md.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.studies.blocks import write_block
from benchmarks.studies.delays import delays
from benchmarks.studies.guardrails import guardrails
from benchmarks.studies.policies import policies
from benchmarks.studies.selection import selection
from sim.calibration import mismatch, peeking
from sim.calibration.adaptive import adaptive
from sim.calibration.coverage import DESIGNS, Row, coverage, worst_look
from sim.calibration.intervals import intervals
from sim.calibration.refunds import refunds
from sim.calibration.verdicts import verdicts

SEED = 2026
PAGE = Path(__file__).parents[2] / "docs" / "calibration.md"


def main() -> None:
    """Parse the arguments, run, write."""
    parser = argparse.ArgumentParser(prog="benchmarks.studies", description=__doc__)
    parser.add_argument("studies", nargs="*", help=f"{', '.join(STUDIES)}; all when none is named")
    parser.add_argument(
        "--runs", type=int, help="replications (200; of regret 1,000), or units to choose for"
    )
    chosen = parser.parse_args()
    if unknown := set(chosen.studies) - STUDIES.keys():
        parser.error(f"no study {', '.join(sorted(unknown))}: choose from {', '.join(STUDIES)}")
    for name in chosen.studies or STUDIES:
        STUDIES[name](chosen.runs)


def calibration(runs: int | None) -> None:
    """Coverage under moving shares, and the worst of many looks; its part of docs/calibration.md."""
    runs = runs or 200
    rows: list[Row] = []
    for name, design in DESIGNS.items():
        rows += coverage(name, design, runs=runs, seed=SEED)
        print(f"{name}: {[round(row.stratified, 3) for row in rows[-5:]]}", file=sys.stderr, flush=True)
    looks = worst_look(DESIGNS["daily, guardrails"], runs=max(1, runs // 2), seed=SEED)
    print(f"looks: {looks}", file=sys.stderr, flush=True)
    write_block(PAGE, "moving shares", block(rows, looks, runs))


def of_peeking(runs: int | None) -> None:
    """False alarms of whoever looks all the time; its part of docs/calibration.md."""
    runs = runs or 2_000
    write_block(PAGE, "peeking", peeking.block(peeking.all_worlds(runs, SEED), runs, SEED))


def of_mismatch(runs: int | None) -> None:
    """Lost exposures found, and false alarms; its part of docs/calibration.md."""
    runs = runs or 2_000
    write_block(PAGE, "mismatch", mismatch.block(mismatch.all_worlds(runs, SEED), runs, SEED))


def of_policies(runs: int | None) -> None:
    """Regret, the price of publishing rarely, and P(best) against draws."""
    policies(runs=runs or 1_000, seed=SEED)


def of_delays(runs: int | None) -> None:
    """Late orders, rates that change and the drift alarm; the measured half of docs/delay-and-drift.md."""
    delays(runs=runs or 100, seed=SEED)


def of_guardrails(runs: int | None) -> None:
    """Kills in time, and kills of what does not harm; writes its page."""
    guardrails(runs=runs or 1_000)


def of_adaptive(runs: int | None) -> None:
    """The lift under Thompson sampling, stratified, by AIPW and naive; its part of docs/calibration.md."""
    adaptive(runs=runs or 2_000, seed=SEED)


def of_intervals(runs: int | None) -> None:
    """Coverage at one look, metric by metric; its part of docs/calibration.md."""
    intervals(runs=runs or 2_000, seed=SEED)


def of_verdicts(runs: int | None) -> None:
    """How often the verdict is right; its part of docs/calibration.md."""
    verdicts(runs=runs or 1_000, seed=SEED)


def of_refunds(runs: int | None) -> None:
    """Expected final money and CUPED against the truth; their part of docs/calibration.md."""
    refunds(runs=runs or 1_000, seed=SEED)


def of_selection(runs: int | None) -> None:
    """Choices against logged propensities; its table in docs/policies.md."""
    selection(units=runs or 1_000_000, seed=SEED)


def block(rows: list[Row], looks: tuple[float, float], runs: int) -> str:
    """The study's part of docs/calibration.md."""
    error = 1.96 * np.sqrt(0.95 * 0.05 / (3 * runs))
    lines = [
        f"Written by `make studies`: {runs} replications of each design, seed {SEED}. The allocator and the",
        "read-out are the service's own (`experiments/`), only the shoppers are simulated",
        "(`benchmarks/studies`). Four variants at a conversion of 50 %, about 20,000 units, control share",
        "0.20, floor 0.02, burn-in 400; 20 days of 1,000 units, or 240 hours of 83. Coverage is of the 95 %",
        "interval of the lift against control (relative; for margin absolute), over the three treatments;",
        "`naive` pools each arm's units. `bias` and `spread` are mean and standard deviation of",
        "(lift - truth) / standard error: 0 and 1 when all is well.",
        "",
        "| design | metric | intervals | coverage | naive | bias | spread |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {row.design} | {row.metric} | {row.intervals} | {row.stratified:.3f} | {row.naive:.3f} "
        f"| {row.bias:+.2f} | {row.spread:.2f} |"
        for row in rows
    ]
    lines += [
        "",
        f"The Monte-Carlo error of a coverage is about {error:.3f} if the three treatments of a run were",
        "independent; they share their control, so allow half as much again.",
        "",
        "### Looking every day",
        "An interval holds 95 % at a moment chosen in advance, not at the worst of many looks. With a look",
        "at the conversion of three treatments after each of 20 days, some 95 % interval misses in",
        f"{looks[0]:.0%} of runs, and some lift lies 2.97 standard errors or more from the truth in",
        f"{looks[1]:.1%} ({max(1, runs // 2)} replications).",
    ]
    return "\n".join(lines)


def of_sbc(runs: int | None) -> None:
    """Ranks of truths among the pooled model's draws; its part of docs/calibration.md."""
    from sim.calibration.sbc import sbc  # needs the extra `analysis`

    write_block(PAGE, "pooled model", sbc(runs or 1_000, SEED))


def of_pooled(runs: int | None) -> None:
    """The pooled model's time by units, and Hillstrom's customers; its parts of docs/analysis.md."""
    from benchmarks.studies.pooled import pooled  # needs the extra `analysis`

    pooled(units=runs or 1_000_000, seed=SEED)


STUDIES: dict[str, Callable[[int | None], None]] = {
    "calibration": calibration,
    "adaptive": of_adaptive,
    "sbc": of_sbc,
    "pooled": of_pooled,
    "policies": of_policies,
    "delays": of_delays,
    "guardrails": of_guardrails,
    "selection": of_selection,
    "intervals": of_intervals,
    "verdicts": of_verdicts,
    "refunds": of_refunds,
    "peeking": of_peeking,
    "mismatch": of_mismatch,
}


if __name__ == "__main__":
    main()

"""Run the studies (`make studies`; ARGS="--runs 20" for a quick look, ARGS="policies" for those alone).

`calibration` writes docs/calibration.md, as `rialto calibrate --output docs/calibration.md` does, and any of
its parts by its own name. `pooled` writes the figures of docs/analysis.md, `policies` and `selection` the
figures and the chart of docs/policies.md, `delays` the figures of docs/delay-and-drift.md, `guardrails`
docs/guardrails-measured.md, `fits` the measured part of docs/fitting.md.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks.studies.delays import delays
from benchmarks.studies.fits import fits
from benchmarks.studies.guardrails import guardrails
from benchmarks.studies.policies import policies
from benchmarks.studies.selection import selection
from sim.calibrate_command import INTERRUPTED, calibrate
from sim.calibration.parts import PARTS

SEED = 2026
PAGE = Path(__file__).parents[2] / "docs" / "calibration.md"


def main() -> None:
    """Parse the arguments, run, write."""
    parser = argparse.ArgumentParser(prog="benchmarks.studies", description=__doc__)
    parser.add_argument("studies", nargs="*", help=f"{', '.join([*STUDIES, *PARTS])}; all when none is named")
    parser.add_argument(
        "--runs", type=int, help="replications (200; of regret 1,000), or units to choose for"
    )
    chosen = parser.parse_args()
    if unknown := set(chosen.studies) - STUDIES.keys() - PARTS.keys():
        parser.error(f"no study {', '.join(sorted(unknown))}: choose from {', '.join([*STUDIES, *PARTS])}")
    if parts := [name for name in chosen.studies if name in PARTS]:
        calibration(chosen.runs, parts)
    for name in chosen.studies or STUDIES:
        if name in STUDIES:
            STUDIES[name](chosen.runs)


def calibration(runs: int | None, parts: list[str] | None = None) -> None:
    """Of the named parts, or of all; docs/calibration.md."""
    arguments = [*(parts or []), "--seed", str(SEED), "--output", str(PAGE)]
    code = calibrate.main([*arguments, *(["--runs", str(runs)] if runs else [])], standalone_mode=False)
    if code == INTERRUPTED:
        sys.exit(code)


def of_policies(runs: int | None) -> None:
    """Regret, the price of publishing rarely, and P(best) against draws."""
    policies(runs=runs or 1_000, seed=SEED)


def of_delays(runs: int | None) -> None:
    """Late orders, rates that change and the drift alarm; the measured half of docs/delay-and-drift.md."""
    delays(runs=runs or 100, seed=SEED)


def of_guardrails(runs: int | None) -> None:
    """Kills in time, and kills of what does not harm; writes its page."""
    guardrails(runs=runs or 1_000)


def of_selection(runs: int | None) -> None:
    """Choices against logged propensities; its table in docs/policies.md."""
    selection(units=runs or 1_000_000, seed=SEED)


def of_fits(runs: int | None) -> None:
    """Intervals of fitted worlds, false alarms of their check, and misfits it finds."""
    fits(runs=runs or 200, seed=SEED)


def of_pooled(runs: int | None) -> None:
    """The pooled model's time by units, and Hillstrom's customers; its parts of docs/analysis.md."""
    from benchmarks.studies.pooled import pooled  # needs the extra `analysis`

    pooled(units=runs or 1_000_000, seed=SEED)


STUDIES: dict[str, Callable[[int | None], None]] = {
    "calibration": calibration,
    "pooled": of_pooled,
    "policies": of_policies,
    "delays": of_delays,
    "guardrails": of_guardrails,
    "selection": of_selection,
    "fits": of_fits,
}


if __name__ == "__main__":
    main()

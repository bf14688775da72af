"""Write docs/guardrails-measured.md: kills in time, false kills, units at the kill (`make studies`).

Results are kept as they come, one line a run, so that a study that was interrupted goes on where it was.
"""

import argparse
import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from scipy import special

from benchmarks.studies.kills import CHECKOUT, SAME, run
from sim.calibration.bandit import CONTROL, Arm

SEED = 2026
PAGE = Path(__file__).parents[2] / "docs" / "guardrails-measured.md"
WORLDS: Mapping[str, tuple[Mapping[str, Arm], dict[str, Any]]] = {
    "checkout": (CHECKOUT, {}),
    "same": (SAME, {}),
    "plain": ({CONTROL: Arm(0.60), "bad": Arm(0.552)}, {"objective": "conversion_rate"}),
    "season": (SAME, {"falls_to": 0.75}),
}
PARTS = (1.0, 1.0, 1.0, 0.2)
"""Of the runs asked for, how many of each world."""


def main() -> None:
    """Parse the arguments, run what is missing, write."""
    parser = argparse.ArgumentParser(prog="benchmarks.studies.guardrails", description=__doc__)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--keep", type=Path, help="file of the runs so far")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after so long")
    parser.add_argument("--output", type=Path, default=PAGE)
    chosen = parser.parse_args()
    found = measured(chosen.runs, chosen.keep, time.monotonic() + chosen.seconds)
    if found is not None:
        chosen.output.write_text(page(found), encoding="utf-8")


def guardrails(*, runs: int, output: Path = PAGE) -> None:
    """Run all of it and write the page."""
    found = measured(runs, None, float("inf"))
    assert found is not None, "there is no end of time"
    output.write_text(page(found), encoding="utf-8")


def measured(runs: int, keep: Path | None, until: float) -> dict[str, list[dict[str, Any]]] | None:
    """Every world's runs; None when the time is over before they are done."""
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in WORLDS}
    if keep is not None and keep.exists():
        for line in keep.read_text("utf-8").splitlines():
            kept = json.loads(line)
            found[kept["world"]].append(kept)
    for (name, (arms, more)), part in zip(WORLDS.items(), PARTS, strict=True):
        place = list(WORLDS).index(name)
        for number in range(len(found[name]), round(runs * part)):
            if time.monotonic() > until:
                print({key: len(ends) for key, ends in found.items()}, file=sys.stderr)
                return None
            end = run(arms, np.random.default_rng([SEED, place, number]), **more)
            row = {"world": name, "killed": end.killed, "units": end.units, "own": end.own}
            found[name].append(row)
            if keep is not None:
                with keep.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(row) + "\n")
    return found


def killed_by(ends: list[dict[str, Any]], units: int, variant: str | None = None) -> float:
    """The part of the runs in which a variant (or any) was killed by so many units."""
    hits = [e for e in ends if e["killed"] is not None and e["units"] <= units]
    return len([e for e in hits if variant in (None, e["killed"])]) / len(ends)


def upper(ends: list[dict[str, Any]]) -> float:
    """The 95 % upper limit of the part killed (Clopper and Pearson 1934)."""
    hits = sum(end["killed"] is not None for end in ends)
    return float(special.betaincinv(hits + 1, len(ends) - hits, 0.95))


def page(found: Mapping[str, list[dict[str, Any]]]) -> str:
    """The page's text."""
    checkout, same, season = found["checkout"], found["same"], found["season"]
    units = sorted(e["units"] for e in checkout if e["killed"] == "toxic")
    own = sorted(e["own"] for e in checkout if e["killed"] == "toxic")
    levels = (0.05, 0.25, 0.5, 0.75, 0.95)
    quantiles = [[round(float(np.quantile(rows, q))) for q in levels] for rows in (units, own)]
    times = (5_000, 10_000, 20_000, 50_000, 100_000, 150_000, 200_000, 250_000)
    lines = [
        "# Guardrails, measured",
        "",
        f"Written by `make studies` (seed {SEED}). The allocator is the service's own (`experiments/`),",
        "only the shoppers are simulated (`benchmarks/studies/kills.py`). Conversion 60 %, guarded with",
        "warn 1 %, throttle 2 %, kill 4 %; control share 0.10, floor 0.02, burn-in 200; the allocator",
        "looks every 1,000 units, later every twentieth of those there are, and sees them in full.",
        "",
        "## How soon what harms is killed",
        f"Checkout world, {len(checkout):,} runs: three variants, one of which has by far the best order",
        "value and margin and lowers conversion by 8 %, twice its kill margin. The plain world has that",
        f"one beside the control alone, and conversion as its objective ({len(found['plain']):,} runs).",
        "",
        "| killed by units | checkout | plain |",
        "|---:|---:|---:|",
    ]
    lines += [
        f"| {n:,} | {killed_by(checkout, n, 'toxic'):.1%} | {killed_by(found['plain'], n):.1%} |"
        for n in times
    ]
    lines += [
        "",
        "Units at the kill in the checkout world, all variants' and the killed one's own:",
        "",
        "| quantile | 5 % | 25 % | 50 % | 75 % | 95 % |",
        "|---|---:|---:|---:|---:|---:|",
        *(
            f"| {name} | {' | '.join(f'{n:,}' for n in row)} |"
            for name, row in zip(("all units", "its own"), quantiles, strict=True)
        ),
        "",
        "## How rarely what does not harm is killed",
        "Three identical variants, up to 250,000 units: any of the two treatments was killed in",
        f"{killed_by(same, 250_000):.1%} of {len(same):,} runs (were it {upper(same):.1%}, so few would come",
        "about once in twenty). In the checkout world the harmless variant was killed first in",
        f"{killed_by(checkout, 250_000, 'fine'):.1%}.",
        "",
        "Where every conversion falls evenly by a quarter over the run (a season, alike for all variants),",
        f"{killed_by(season, 250_000):.1%} of {len(season):,} runs killed an identical variant. The",
        "allocator pools all units, so that a variant whose share grew meanwhile has more of the poorer",
        "ones: where seasons are strong set `discount_half_life`, and look at the report, which is",
        "stratified by epoch, before acting on a kill.",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()

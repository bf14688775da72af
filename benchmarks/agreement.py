"""`make agreement`: what GrowthBook's gbstats says of the same sums, recorded for the test that reads them.

gbstats runs in an environment of its own. Each case is a metric with the sums of its arms, the control first;
the record holds inputs, answers and versions, so that the test needs none of it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers.install import python_with_gbstats
from benchmarks.wrk import BenchmarkFailed
from experiments.analysis.metrics import metric_definitions
from experiments.analysis.sums import WEIGHT_ONE, PairSums, gather
from sim.calibration.checkout import CONTROL, FloatArray, Shoppers, cell, experiment

ROOT = Path(__file__).parents[1]
RECORD = ROOT / "tests" / "experiments" / "golden" / "gbstats.json"
RUNNER = ROOT / "benchmarks" / "peers" / "gbstats_runner.py"
METRICS = (
    "conversion_rate",
    "orders_per_unit",
    "revenue_per_unit",
    "margin_per_unit",
    "aov",
    "aov_net",
    "refund_rate",
    "refund_value_rate",
)
SEED = 2026
CHECKOUT = Shoppers(more_orders=0.3, unit_spread=0.4)
WORLDS: Mapping[str, tuple[int, Sequence[Shoppers]]] = {
    "checkout": (20_000, [CHECKOUT, replace(CHECKOUT, value=5400.0, refunds=0.08), CHECKOUT]),
    "3 % convert": (180_000, [Shoppers(conversion=0.03), Shoppers(conversion=0.033, value=4900.0)]),
}
PUBLISHED: Mapping[str, Sequence[tuple[int, int]]] = {
    # published_examples.json: Beta(a, b) as a successes and b failures, and successes of trials
    "field_test 1": [(1, 3), (3, 7)],
    "field_test 2": [(55, 105), (30, 60)],
    "Robinson 2016": [(3847, 12659), (2203, 7206)],
    "recomputed": [(120, 200), (100, 200)],
}


def cases() -> list[dict[str, Any]]:
    """Every case: the worlds' metrics, and the published proportions."""
    found: list[dict[str, Any]] = []
    for number, (name, (units, arms)) in enumerate(WORLDS.items()):
        keys = [CONTROL, *(f"v{k}" for k in range(1, len(arms)))]
        found += [
            {"world": name, **case}
            for case in simulated(dict(zip(keys, arms, strict=True)), units, (SEED, number))
        ]
    for name, counts in PUBLISHED.items():
        arms = [{"n": n, "x": x, "y": n, "xx": x, "xy": x, "yy": n} for x, n in counts]
        found.append({"world": name, "name": "conversion_rate", "kind": "proportion", "arms": arms})
    return found


def simulated(
    arms: Mapping[str, Shoppers], units: int, seed: Sequence[int], metrics: Sequence[str] = METRICS
) -> list[dict[str, Any]]:
    """The sums of each metric of simulated arms, by metric."""
    totals = drawn(arms.values(), units, seed)
    cells = [cell(key, one, units, list(arms)) for key, one in zip(arms, totals, strict=True)]
    definitions = metric_definitions(experiment([key for key in arms if key != CONTROL]))
    found: list[dict[str, Any]] = []
    for key in metrics:
        definition = definitions[key]
        sums = {variant: one for (variant, _, _), one in gather(cells, definition).items()}
        rows = [_plain(sums[arm]) for arm in arms]
        found.append({"name": key, "kind": definition.kind.value, "arms": rows})
    return found


def drawn(arms: Iterable[Shoppers], units: int, seed: Sequence[int]) -> list[dict[str, FloatArray]]:
    """The totals of every arm's units that ordered."""
    rng = np.random.default_rng(seed)
    return [shoppers.totals(units, rng) for shoppers in arms]


def _plain(sums: PairSums) -> dict[str, int]:
    return {name: getattr(sums, name) // WEIGHT_ONE for name in ("n", "x", "y", "xx", "xy", "yy")}


def asked(python: Path, chosen: Sequence[Mapping[str, Any]], *, timed: bool = False) -> dict[str, Any]:
    """What gbstats answers, run by the Python that has it."""
    done = subprocess.run(
        [str(python), str(RUNNER)],
        input=json.dumps({"cases": list(chosen), "timed": timed}),
        capture_output=True,
        text=True,
        timeout=600,
    )
    if done.returncode:
        raise BenchmarkFailed(f"gbstats failed: {done.stderr.strip()[-300:]}")
    return json.loads(done.stdout)


def main() -> int:
    """Ask gbstats and write the record."""
    work = ROOT / ".bench"
    work.mkdir(exist_ok=True)
    chosen = cases()
    try:
        answer = asked(python_with_gbstats(work), chosen)
    except BenchmarkFailed as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    told = [{**case, "lifts": lifts} for case, lifts in zip(chosen, answer["lifts"], strict=True)]
    versions = {"gbstats": answer["version"], "numpy": answer["numpy"]}
    RECORD.write_text(json.dumps({"versions": versions, "cases": told}, indent=1) + "\n", "utf-8")
    sys.stdout.write(f"{RECORD.relative_to(ROOT)}: {len(told)} cases by gbstats {answer['version']}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""What the closed-form read-out costs: beside gbstats on the same sums, and whatever the number of events.

Ten variants and eight metrics, CPU of one process each. Ours gives lifts absolute and relative with exact
intervals, P(best) of all arms at once and expected losses. gbstats compares each variant with the control: as
its back end calls it, from rows to results (relative lifts), and by its bare test classes on ready sums
(absolute and relative lifts). The whole report (`read_out`: all metrics, guardrails, checks, sequences,
sensitivity, verdicts) is timed at 10,000 and at 10 million events in turn.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from benchmarks.agreement import METRICS, asked, simulated
from benchmarks.bench import Bench
from benchmarks.parts.allocation import cpu_ms
from benchmarks.peers.install import python_with_gbstats
from experiments.analysis.closed_form import metric_reports
from experiments.analysis.cohorts import cohort_of
from experiments.analysis.metrics import metric_definitions
from experiments.analysis.read_out import read_out
from experiments.analysis.reading import read_metric
from experiments.statistics import Cell
from sim.calibration.checkout import CONTROL, DAY, Shoppers, cell, experiment

VARIANTS = 10
UNITS = 20_000
DAYS = 7
EVENTS = (10_000, 10_000_000)
SHOPPERS = Shoppers(more_orders=0.3)
EVENTS_PER_UNIT = 2 + SHOPPERS.conversion * 1.3 * (1 + SHOPPERS.refunds)
"""Its assignment and exposure, its orders and their refunds."""
NOW = datetime(2026, 6, 1, tzinfo=UTC)
KEYS = (CONTROL, *(f"v{k}" for k in range(1, VARIANTS)))
EXPERIMENT = experiment(KEYS[1:])


def analysis(bench: Bench) -> dict[str, Any]:
    """CPU milliseconds of each, every round in turn."""
    python = python_with_gbstats(bench.work)
    theirs = simulated(dict.fromkeys(KEYS, SHOPPERS), UNITS, (1,))
    figures = _figures(_cells(UNITS * VARIANTS, days=1))
    whole = {events: _whole(_cells(round(events / EVENTS_PER_UNIT), days=DAYS)) for events in EVENTS}
    found: dict[str, Any] = {
        "figures_ms": [],
        "gbstats_ms": [],
        "bare_ms": [],
        "ratios": [],
        "bare_ratios": [],
    }
    found |= {"report_ms": {str(events): [] for events in EVENTS}, "growth": []}
    for work in (figures, *whole.values()):
        work()  # what is imported or cached at first use is not measured
    for _ in range(bench.rounds):
        ours = cpu_ms(figures)
        answer = asked(python, theirs, timed=True)
        found["figures_ms"].append(round(ours, 2))
        found["gbstats_ms"].append(round(answer["cpu_ms"], 2))
        found["bare_ms"].append(round(answer["bare_cpu_ms"], 2))
        found["ratios"].append(round(ours / answer["cpu_ms"], 4))
        found["bare_ratios"].append(round(ours / answer["bare_cpu_ms"], 4))
        found["gbstats"] = answer["version"]
        costs = [_least_ms(whole[events]) for events in EVENTS]
        for events, cost in zip(EVENTS, costs, strict=True):
            found["report_ms"][str(events)].append(round(cost, 1))
        found["growth"].append(round(costs[1] / costs[0], 3))
    return found


def _least_ms(work: Callable[[], object]) -> float:
    """CPU of the cheapest of three runs: what else the machine does only adds."""
    costs: list[float] = []
    for _ in range(3):
        start = time.process_time()
        work()
        costs.append(1000 * (time.process_time() - start))
    return min(costs)


def _cells(units: int, *, days: int) -> list[Cell]:
    """The units shared out evenly over variants and days."""
    rng = np.random.default_rng(1)
    each = max(1, units // (VARIANTS * days))
    found: list[Cell] = []
    for day in range(days):
        for key in KEYS:
            one = cell(key, SHOPPERS.totals(each, rng), each, KEYS)
            found.append(replace(one, key=one.key._replace(day=DAY + timedelta(days=day))))
    return found


def _figures(cells: Sequence[Cell]) -> Callable[[], object]:
    definitions = metric_definitions(EXPERIMENT)

    def work() -> object:
        cohort = cohort_of(cells)
        return [
            metric_reports(
                EXPERIMENT,
                cohort,
                read_metric(EXPERIMENT, cohort, definitions[key], by_epoch=False, seed=1),
                seed=1,
            )
            for key in METRICS
        ]

    return work


def _whole(cells: Sequence[Cell]) -> Callable[[], object]:
    return lambda: read_out(EXPERIMENT, cells, time_zone="UTC", now=NOW)

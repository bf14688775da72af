"""The report's cost follows the number of cells, never the number of events they sum up."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from time import process_time

import numpy as np

from experiments.analysis.metrics import metric_definitions
from experiments.analysis.read_out import read_out
from experiments.analysis.strata import epoch_strata, parts_of, tabulate
from experiments.model import PolicyKind
from experiments.statistics import Cell, Moments
from tests.experiments.cells import DAY, cell_of, experiment_of

KEYS = ("none", "socks")
EXPERIMENT = experiment_of("socks", policy=PolicyKind.THOMPSON)
NOW = datetime(2027, 12, 1, tzinfo=UTC)


def epochs(count: int) -> list[Cell]:
    bought = np.arange(12) % 3 == 0
    return [
        cell_of(
            key, n=12, candidates=KEYS, epoch=epoch, day=DAY + timedelta(days=epoch // 24), converted=bought,
            orders=bought, revenue=bought * (1000 + epoch), margin=bought * (500 + epoch),
        )
        for epoch in range(count)
        for key in KEYS
    ]  # fmt: skip


def cpu_seconds(cells: Sequence[Cell]) -> float:
    table = tabulate(cells, metric_definitions(EXPERIMENT)["margin_per_unit"])
    started = process_time()
    for arm in KEYS:
        parts_of(table, arm, epoch_strata(table, KEYS))
    return process_time() - started


def test_eight_times_the_epochs_cost_about_eight_times_the_work():
    """Linear is 8, quadratic 64; the limit of 24 leaves room for a busy machine."""
    few, many = epochs(150), epochs(1200)
    cpu_seconds(few)
    assert min(cpu_seconds(many) for _ in range(3)) < 24 * min(cpu_seconds(few) for _ in range(3))


def test_a_million_units_a_cell_cost_what_twelve_do():
    small = epochs(24)
    large = [
        Cell(
            cell.key,
            cell.candidates,
            Moments(
                {name: 10**6 * value for name, value in cell.moments.sums.items()},
                {name: 10**6 * value for name, value in cell.moments.products.items()},
            ),
        )
        for cell in small
    ]
    report = read_out(EXPERIMENT, large, time_zone="UTC", now=NOW)
    assert report.units_assigned == 24 * 2 * 12 * 10**6
    value = report.variant("socks").metrics["margin_per_unit"].figures.value
    few = read_out(EXPERIMENT, small, time_zone="UTC", now=NOW)
    assert value == few.variant("socks").metrics["margin_per_unit"].figures.value

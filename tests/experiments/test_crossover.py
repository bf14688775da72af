"""The objective without the units seen in two variants: against cells that never held them."""

from datetime import UTC, datetime

import numpy as np
import pytest

from experiments.analysis.read_out import read_out
from experiments.analysis.report import Figures, Report
from experiments.model import PolicySettings
from experiments.statistics import Cell
from tests.experiments.cells import cell_of, experiment_of

KEYS = ("none", "socks")


def report(cells: list[Cell], objective: str = "margin_per_unit") -> Report:
    experiment = experiment_of("socks", settings=PolicySettings(objective=objective))
    return read_out(experiment, cells, time_zone="UTC", now=datetime(2026, 6, 1, tzinfo=UTC))


def both(objective: str, anchored: bool = True) -> tuple[Figures, Figures]:
    """The figures without crossover, from all units and from the others alone; 2 % are seen in both."""
    rng = np.random.default_rng(1)
    every, others = [], []
    for arm, key in enumerate(KEYS):
        crossed = np.arange(3000) < 60
        orders = rng.poisson(0.4 + 0.1 * arm, 3000) + crossed
        features = {
            "crossover": crossed.astype(int),
            "orders": orders,
            "converted": (orders > 0).astype(int),
            "margin": rng.poisson(900, 3000) * orders - 200,
            "revenue": rng.poisson(2000, 3000) * orders,
        }
        if not anchored:
            features = {name: np.where(crossed & (name != "crossover"), 0, x) for name, x in features.items()}
            features["units"] = (~crossed).astype(int)
        every.append(cell_of(key, n=3000, candidates=KEYS, **features))
        left = {name: x[~crossed] for name, x in features.items()}
        others.append(cell_of(key, n=2940, candidates=KEYS, **left))
    found = report(every, objective).variant("socks").metrics[objective].without_crossover
    assert found is not None
    return found, report(others, objective).variant("socks").metrics[objective].figures


@pytest.mark.parametrize("objective", ["margin_per_unit", "conversion_rate", "aov"])
def test_figures_are_exact_and_intervals_hardly_wider(objective):
    found, expected = both(objective)
    assert found.value == pytest.approx(expected.value, rel=1e-12)
    assert found.lift_abs.value == pytest.approx(expected.lift_abs.value, rel=1e-9)
    width, exact = (x.lift_abs.ci_high - x.lift_abs.ci_low for x in (found, expected))
    assert exact * (1 - 1e-9) <= width <= 1.05 * exact


def test_units_without_an_anchor_take_nothing_away():
    found, expected = both("margin_per_unit", anchored=False)
    assert found.value == pytest.approx(expected.value, rel=1e-12)
    assert found.lift_abs.ci_high == pytest.approx(expected.lift_abs.ci_high, rel=1e-9)


def test_nothing_is_shown_without_crossover_or_beside_other_metrics():
    plain = report([cell_of(key, n=50, candidates=KEYS, margin=np.arange(50)) for key in KEYS])
    assert plain.variant("socks").metrics["margin_per_unit"].without_crossover is None
    crossed = report(
        [cell_of(key, n=50, candidates=KEYS, margin=np.arange(50), crossover=[1] * 50) for key in KEYS]
    )
    assert crossed.variant("socks").metrics["revenue_per_unit"].without_crossover is None
    left = crossed.variant("socks").metrics["margin_per_unit"].without_crossover
    assert (left.value, left.reason) == (None, "insufficient_data")

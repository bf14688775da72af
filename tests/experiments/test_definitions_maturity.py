"""The trap of open windows: an arm whose share just rose is younger, and its outcomes have yet to come."""

from datetime import UTC, date, datetime, timedelta

import numpy as np
import pytest

from experiments.analysis.metrics import metric_definitions
from experiments.analysis.objective import allocation_posteriors
from experiments.analysis.read_out import read_out, watch_guardrails
from experiments.model import Experiment, Guardrail, PolicyKind, PolicySettings
from experiments.posteriors.beta import Beta
from experiments.posteriors.contrasts import ratio_minus_one
from experiments.statistics import Cell
from tests.experiments.cells import cell_of, experiment_of
from tests.statistical import standard_errors_off

KEYS = ("none", "socks")
START = date(2026, 3, 2)
DAYS = 10
NOW = datetime(2026, 3, 2, tzinfo=UTC) + timedelta(days=DAYS)
RATE = 0.10
SETTLED = 1.5  # mean delay of an order, in days


def adaptive(kind: PolicyKind = PolicyKind.THOMPSON) -> Experiment:
    return experiment_of(
        "socks",
        settings=PolicySettings(kind=kind, objective="conversion_rate"),
        attribution_window=timedelta(days=7),
        guardrails=(Guardrail("conversion_rate", 0.02, 0.05, 0.10),),
    )


def enrolled(number: int) -> dict[str, int]:
    """Units of a day: socks goes from 1 in 10 to 5 in 10 after day 7."""
    return {"none": 3600, "socks": 400} if number < 7 else {"none": 2000, "socks": 2000}


def rate_by_now(number: int) -> float:
    """What has converted by now of a day's units, the same in both arms: orders come late."""
    return RATE * (1 - np.exp(-min(7.0, DAYS - number - 0.5) / SETTLED))


def risen(rng: np.random.Generator) -> list[Cell]:
    """Identical arms over ten days, one of them with a share that rises."""
    cells: list[Cell] = []
    for number in range(DAYS):
        for key, n in enrolled(number).items():
            hits = rng.binomial(n, rate_by_now(number))
            day, epoch = START + timedelta(days=number), int(number >= 7)
            converted = np.arange(n) < hits
            cells.append(cell_of(key, n=n, candidates=KEYS, day=day, epoch=epoch, converted=converted))
    return cells


def expected_naive_lift() -> float:
    """The relative lift of the pooled arms, from the world's own rates."""
    rate = {
        key: sum(enrolled(d)[key] * rate_by_now(d) for d in range(DAYS))
        / sum(enrolled(d)[key] for d in range(DAYS))
        for key in KEYS
    }
    return rate["socks"] / rate["none"] - 1


def test_identical_arms_read_as_a_loss_when_open_windows_count_and_as_nothing_by_default():
    """20 stores. Counting open windows the risen arm is expected to read 13 to 35 % worse, ours 0."""
    rng = np.random.default_rng(8)
    naive, ours, allocated = [], [], []
    for _ in range(20):
        cells = risen(rng)
        opened = read_out(adaptive(), cells, time_zone="UTC", now=NOW, matured=False)
        figures = opened.variant("socks").metrics["conversion_rate"].naive
        assert figures is not None
        naive.append(figures.lift_rel.value)
        report = read_out(adaptive(), cells, time_zone="UTC", now=NOW)
        ours.append(report.variant("socks").metrics["conversion_rate"].figures.lift_rel.value)
        found = allocation_posteriors(adaptive(), cells, KEYS, time_zone="UTC", now=NOW).posteriors
        allocated.append(found["socks"].mean / found["none"].mean - 1)
    assert -0.35 < expected_naive_lift() < -0.13
    assert standard_errors_off(np.array(naive), expected_naive_lift()) < 4
    assert standard_errors_off(np.array(naive), 0.0) > 10
    assert standard_errors_off(np.array(ours), 0.0) < 4
    assert standard_errors_off(np.array(allocated), 0.0) < 4
    assert abs(np.mean(ours)) < 0.05


def test_the_guardrail_of_the_risen_arm_looks_at_closed_windows_whatever_the_policy():
    cells = risen(np.random.default_rng(3))
    for kind in (PolicyKind.THOMPSON, PolicyKind.FIXED):
        (watched,) = watch_guardrails(adaptive(kind), cells, time_zone="UTC", now=NOW, previous={})
        assert watched.state in ("ok", "unknown")
        assert watched.units_variant == sum(c.moments.sum("units") for c in cells[1:6:2])
    naive = {
        key: Beta(1, 1).updated(
            sum(c.moments.sum("converted") for c in cells if c.key.variant == key),
            sum(c.moments.sum("units") - c.moments.sum("converted") for c in cells if c.key.variant == key),
        )
        for key in KEYS
    }
    change = ratio_minus_one(naive["socks"], naive["none"])
    assert change is not None
    assert change.cdf(-0.10) > 0.99, "with open windows an identical arm would have been killed"


@pytest.mark.parametrize("metric", ["conversion_rate", "cancel_rate", "margin_per_unit"])
def test_the_bad_direction_and_the_kind_of_margin_follow_the_metric(metric):
    """Down for conversion, up for cancels (relative), down in money for margin (absolute): by draws."""
    rng = np.random.default_rng(4)
    n = 4000
    worse = {"none": 0.30, "socks": 0.27} if metric != "cancel_rate" else {"none": 0.10, "socks": 0.13}
    cells: list[Cell] = []
    for key, rate in worse.items():
        hit = rng.random(n) < rate
        columns = {
            "conversion_rate": {"converted": hit},
            "cancel_rate": {"orders": np.ones(n, dtype=int), "cancelled_orders": hit},
            "margin_per_unit": {"margin": hit * 1000},
        }[metric]
        cells.append(cell_of(key, n=n, candidates=KEYS, **columns))  # type: ignore[arg-type]
    margin = {"conversion_rate": 0.10, "cancel_rate": 0.25, "margin_per_unit": 25.0}[metric]
    experiment = experiment_of("socks", guardrails=(Guardrail(metric, margin, 2 * margin, 3 * margin),))
    report = read_out(experiment, cells, time_zone="UTC", now=NOW)
    told = report.guardrails[0]
    assert told.prob_breach is not None
    x, y = (draws(cell, metric, rng) for cell in (cells[1], cells[0]))
    beyond = {
        "conversion_rate": x < (1 - margin) * y,
        "cancel_rate": x > (1 + margin) * y,
        "margin_per_unit": x < y - margin,
    }[metric]
    assert told.prob_breach.warn == pytest.approx(beyond.mean(), abs=0.006)
    assert told.absolute == (metric == "margin_per_unit")
    assert metric_definitions(experiment)[metric].absolute == told.absolute


def draws(cell: Cell, metric: str, rng: np.random.Generator) -> np.ndarray:
    n = cell.moments.sum("units")
    name = {"conversion_rate": "converted", "cancel_rate": "cancelled_orders", "margin_per_unit": "margin"}
    total = cell.moments.sum(name[metric])
    if metric == "conversion_rate":
        return rng.beta(1 + total, 1 + n - total, 200_000)
    mean = total / n
    variance = cell.moments.product(name[metric], name[metric]) / n - mean**2
    return rng.normal(mean, np.sqrt(variance / n), 200_000)

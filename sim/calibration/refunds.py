"""How often the intervals of expected final money hold the truth.

A shop whose refunds are late: orders come a day after the anchor in the mean (cut at the window of 7 days),
refunds eight days after their order (exponential, so some 7 % of them later than three weeks). Sizes of
orders are log-normal with a coefficient of variation of 1. The offer raises them by 12 % and doubles the
refunds: its margin per visitor looks better the fewer refunds have come.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import numpy as np
from numpy.typing import NDArray
from scipy import integrate

from experiments.ages import BINS, binned
from experiments.analysis.cohorts import Cohorts
from experiments.analysis.expected_final import REFUNDED, ExpectedFinal
from experiments.analysis.metrics import metric_definitions
from experiments.analysis.reading import read_metric
from experiments.analysis.refund_curve import refunds_come
from experiments.model import Experiment, Offer, OfferKind, Variant
from experiments.statistics import Cell, CellKey, product_name
from sim.calibration.part import Part, Rows, Step, band, flat, nothing, paragraph
from sim.calibration.tracks import Dot, dot_chart

START = date(2026, 3, 2)
NONE, OFFER = "none", "offer"
RATE, WINDOW, REFUND_WINDOW, REFUND_DELAY = 0.3, 7.0, 30.0, 8.0
VALUE = {NONE: 8_000.0, OFFER: 8_960.0}
REFUND = {NONE: 0.08, OFFER: 0.16}
COST = 0.4
EXPERIMENT = Experiment(
    "refunds",
    "checkout",
    "EUR",
    (
        Variant(NONE, Offer(OfferKind.NONE), is_control=True),
        Variant(OFFER, Offer(OfferKind.CROSS_SELL, sku="A")),
    ),
)
DEFINITIONS = metric_definitions(EXPERIMENT)
_EDGES = (np.arange(BINS + 1) / BINS) ** 3
_SIGMA = float(np.sqrt(np.log(2.0)))  # a coefficient of variation of 1

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Row:
    """Coverage of one metric: of the figure as it stands, the expected one, and the expected lift."""

    design: str
    metric: str
    runs: int
    so_far: float
    expected: float
    lift: float
    bias: float  # of the lift, in its standard errors
    seen: float  # share of the refunds that has come


def coverage(name: str, units: int, day: int, *, runs: int, seed: int, step: Step = nothing) -> list[Row]:
    """Coverage over `runs` shops of so many visitors an arm, read on the morning of a day."""
    truth = {key: in_the_end(key, reach(day)) for key in (NONE, OFFER)}
    rows: dict[str, list[list[float]]] = {key: [] for key in REFUNDED}
    for run in range(runs):
        rng = np.random.default_rng([seed, day, run])
        cells = [cell for key in (NONE, OFFER) for cell in shop(rng, key, units, day)]
        now = datetime.combine(START, datetime.min.time(), UTC) + timedelta(days=day)
        come = refunds_come(EXPERIMENT, cells, time_zone="UTC", now=now)
        assert come is not None
        cohort = Cohorts(cells, only_matured=True, time_zone="UTC", now=now).of(EXPERIMENT.attribution_window)
        final = ExpectedFinal(cohort, come)
        for metric, found in rows.items():
            reading = read_metric(EXPERIMENT, cohort, DEFINITIONS[metric], by_epoch=False, seed=0)
            one, own = final.figures(reading, OFFER, by_epoch=False), reading.own[OFFER]
            true, difference = truth[OFFER][metric], truth[OFFER][metric] - truth[NONE][metric]
            low, high = (float(own.posterior.ppf(q)) for q in (0.025, 0.975))  # type: ignore[union-attr]
            lift = one.lift_abs
            error = (lift.ci_high - lift.ci_low) / 3.92  # type: ignore[operator]
            found.append(
                [
                    low <= true <= high,
                    one.ci_low <= true <= one.ci_high,  # type: ignore[operator]
                    lift.ci_low <= difference <= lift.ci_high,  # type: ignore[operator]
                    (lift.value - difference) / error,  # type: ignore[operator]
                    one.refunds_seen or 0.0,
                ]
            )
        step()
    return [Row(name, metric, runs, *map(float, np.mean(found, axis=0))) for metric, found in rows.items()]


def reach(day: int) -> float:
    """How old, in days, the curve knows refunds to be: the last edge that the first day has passed."""
    edges = (WINDOW + REFUND_WINDOW) * _EDGES
    return float(edges[edges <= day - 1.0 + 1e-9][-1])


def in_the_end(key: str, days: float) -> dict[str, float]:
    """The truth of each metric, refunds up to that age counted."""
    bought = 1.0 - np.exp(-WINDOW)

    def returned(at: float) -> float:
        return float(np.exp(-at) * -np.expm1(-(days - at) / REFUND_DELAY))

    within = float(integrate.quad(returned, 0.0, min(WINDOW, days))[0])
    back, value = REFUND[key] * within / bought, VALUE[key]
    each = RATE * bought * value
    return {
        "aov_net": value * (1.0 - back),
        "revenue_per_unit": each * (1.0 - back),
        "margin_per_unit": each * (1.0 - COST - back),
        "margin_rate": (1.0 - COST - back) / (1.0 - back),
        "refund_rate": back,
        "refund_value_rate": back,
    }


def shop(rng: np.random.Generator, key: str, units: int, day: int) -> list[Cell]:
    """The cells of one arm on the morning of a day, its visitors spread evenly over the days before."""
    anchor = rng.uniform(0.0, day, units)
    lag = rng.exponential(1.0, units)
    buys = (rng.random(units) < RATE) & (lag < WINDOW)
    amount = np.rint(VALUE[key] * np.exp(rng.normal(-(_SIGMA**2) / 2.0, _SIGMA, units))).astype(np.int64)
    back = lag + rng.exponential(REFUND_DELAY, units)
    returns = buys & (rng.random(units) < REFUND[key])
    age = day - anchor
    cells: list[Cell] = []
    for number in range(day):
        mine = (anchor >= number) & (anchor < number + 1)
        sold, gone = mine & buys & (lag <= age), mine & returns & (back <= age)
        value, lost = amount * sold, amount * gone
        features = {
            "assigned": mine,
            "units": mine,
            "converted": sold,
            "orders": sold,
            "revenue": value,
            "refunded_orders": gone,
            "refunded_value": lost,
            "refund_loss": lost,
            "margin": value - np.rint(COST * value).astype(np.int64) - lost,
        }
        cell = cell_of(
            key, START + timedelta(days=number), {k: x[mine].astype(np.int64) for k, x in features.items()}
        )
        _ages(cell, "orders", lag[sold] / WINDOW)
        _ages(
            cell, "refunded_orders", back[gone & (back <= WINDOW + REFUND_WINDOW)] / (WINDOW + REFUND_WINDOW)
        )
        cells.append(cell)
    return cells


def cell_of(key: str, day: date, features: Mapping[str, NDArray[np.int64]]) -> Cell:
    """A cell of these units."""
    cell = Cell(CellKey(key, "", 1, day, 0), frozenset((NONE, OFFER)))
    names, rows = list(features), np.array(list(features.values()), dtype=np.int64)
    cell.moments.sums = {n: int(x) for n, x in zip(names, rows.sum(axis=1), strict=True) if x}
    products = rows @ rows.T
    cell.moments.products = {
        product_name(a, b): int(products[i, j])
        for i, a in enumerate(names)
        for j, b in enumerate(names)
        if products[i, j]
    }
    return cell


def _ages(cell: Cell, feature: str, ages: FloatArray) -> None:
    numbers = np.maximum(1, np.searchsorted(_EDGES, ages))
    for number, events in zip(*np.unique(numbers, return_counts=True), strict=True):
        cell.histograms[binned(feature, int(number))] = {1: int(events)}


DESIGNS = {
    "2,000 visitors, day 25": (2_000, 25),
    "20,000 visitors, day 25": (20_000, 25),
    "20,000 visitors, day 60": (20_000, 60),
}
"""Visitors of each arm, and when they are read."""


def text(rows: Rows) -> str:
    """The table."""
    error = 1.96 * np.sqrt(0.95 * 0.05 / min(row.runs for row in flat(rows)))
    lines = [
        paragraph(
            "Visitors of each of two variants, closed windows only. 30 % order, sizes log-normal "
            "with a coefficient of variation of 1, refunds eight days after their order in the "
            "mean. The offer's orders are 12 % larger and twice as often refunded. Coverage is of "
            "95 % intervals for the refunds up to the oldest age seen: of the offer's figure as "
            "it stands (`so far`), of its expected one, and of the expected lift. `bias` is the "
            "mean of (lift - truth) / standard error. Monte-Carlo error of a coverage: "
            f"{error:.3f}."
        ),
        "",
        "| design | metric | refunds seen | so far | expected | lift | bias |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {row.design} | {row.metric} | {row.seen:.0%} | {row.so_far:.3f} | {row.expected:.3f} "
        f"| {row.lift:.3f} | {row.bias:+.2f} |"
        for row in flat(rows)
    ]
    return "\n".join(lines)


def chart(rows: Rows) -> str:
    """A track for each metric of each design."""
    dots = [
        Dot(f"{row.design}: {row.metric}", row.expected, band(row.runs), False, row.so_far)
        for row in flat(rows)
    ]
    return dot_chart(
        "Coverage of money once all refunds have come", dots, ("expected figure", "as it stands")
    )


PART = Part(
    key="refunds",
    title="Refunds still to come",
    runs=1_000,
    worlds=dict(zip(DESIGNS, (16, 34, 60), strict=True)),
    row=Row,
    measure=lambda world, runs, seed, step: coverage(world, *DESIGNS[world], runs=runs, seed=seed, step=step),
    text=text,
    promises=lambda rows: [],
    chart=chart,
)

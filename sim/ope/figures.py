"""The figures of an evaluation: estimates with intervals, where the weights lie, who would be shown what."""

from __future__ import annotations

from collections.abc import Sequence
from math import floor

import numpy as np

from experiments.off_policy.terms import FloatArray
from sim.ope.run import Outcome
from sim.ope.show import number
from sim.ope.slates import SlateOutcome
from sim.report.markup import Html
from sim.report.plot import Axis, Entry, Frame, Plot, figure
from sim.report.scales import percent, plain, round_ticks

NAMED_MOST, LETTERS = 12, 14
"""Actions that have bars of their own, and how much of a name is written beside one."""
POWERS = 8
"""Weights below 2^-8 and above 2^8 are counted in the last bins."""
ROW = 26


def estimates_figure(outcome: Outcome | SlateOutcome) -> Html | None:
    """Every estimate with its interval, beside what the log's own policy earned."""
    shown = [one for one in outcome.estimates if one.value is not None]
    if not shown or outcome.logged.value is None:
        return None
    ends = [
        x for one in (*shown, outcome.logged) for x in (one.value, one.ci_low, one.ci_high) if x is not None
    ]
    ticks = round_ticks(min(ends), max(ends), most=6)
    plot = Plot(Axis(ticks, plain, "value"), _names([one.estimator for one in shown]), _frame(len(shown)))
    own, value = outcome.logged, outcome.logged.value
    if own.ci_low is not None and own.ci_high is not None:
        plot.band([own.ci_low, own.ci_high], [0.5] * 2, [len(shown) + 0.5] * 2, "band control")
    plot.line([value] * 2, [0.5, len(shown) + 0.5], "line control")
    for place, one in enumerate(reversed(shown), start=1):
        if one.ci_low is not None and one.ci_high is not None:
            plot.line([one.ci_low, one.ci_high], [place] * 2, "line s1")
        plot.dots([one.value or 0.0], [place], "dot s1")
    said = "; ".join(f"{one.estimator} {number(one.value)}" for one in shown)
    entries = [Entry("estimate and 95 % interval", "line s1"), Entry("the log's own policy", "line control")]
    caption = "Intervals stand on true propensities."
    if any(one.estimator == "dm" for one in shown):
        caption = "Intervals stand on true propensities; that of dm knows nothing of what its model errs by."
    return figure("What it would have earned", plot.svg(said), entries, caption)


def weights_figure(weights: FloatArray) -> Html | None:
    """How many rows have which weight, and which part of all weight they carry."""
    positive = weights[weights > 0.0]
    if not len(positive) or not np.isfinite(weights).all():
        return None
    bins = np.clip(np.floor(np.log2(positive)), -POWERS, POWERS).astype(int)
    first, last = min(int(bins.min()), -1), max(int(bins.max()), 0)
    rows = np.bincount(bins - first, minlength=last - first + 1) / len(weights)
    carried = np.bincount(bins - first, positive, minlength=last - first + 1) / positive.sum()
    top = round_ticks(0.0, float(max(rows.max(), carried.max())), most=6)
    ticks = [tick for tick in round_ticks(first, last + 1, most=10, whole=True) if first <= tick <= last + 1]
    plot = Plot(Axis(ticks, _power, "weight", first, last + 1), Axis(top, percent, ""))
    for place, (of_rows, of_weight) in enumerate(zip(rows.tolist(), carried.tolist(), strict=True)):
        low, high = _power(first + place), _power(first + place + 1)
        left = first + place
        plot.bar(
            left + 0.1, left + 0.5, 0, of_rows, "dot control", f"{low} to {high}: {percent(of_rows)} of rows"
        )
        says = f"{low} to {high}: {percent(of_weight)} of all weight"
        plot.bar(left + 0.5, left + 0.9, 0, of_weight, "dot s1", says)
    none = percent(1.0 - len(positive) / len(weights))
    heavy = np.sort(positive)[::-1][: max(1, len(weights) // 100)].sum() / positive.sum()
    caption = (
        f"{none} of the rows have no weight; the heaviest hundredth carries {percent(float(heavy))} of it."
    )
    entries = [
        Entry("of all rows", "dot control", is_area=True),
        Entry("of all weight", "dot s1", is_area=True),
    ]
    return figure("Where the weights lie", plot.svg(caption), entries, caption)


def actions_figure(outcome: Outcome | SlateOutcome) -> list[Html]:
    """What the candidate would show and what the log showed, by action, the most shown first."""
    if isinstance(outcome, SlateOutcome) or outcome.candidate.taken is not None:
        return []
    wanted, taken = outcome.wanted / outcome.wanted.sum(), outcome.taken / outcome.taken.sum()
    order: list[int] = np.argsort(-np.maximum(wanted, taken), kind="stable")[:NAMED_MOST].tolist()
    most = float(max(wanted.max(), taken.max()))
    plot = Plot(
        Axis(round_ticks(0.0, most, most=5), percent, "share"),
        _names([outcome.actions[k] for k in order]),
        _frame(len(order)),
    )
    for place, k in enumerate(reversed(order), start=1):
        name = outcome.actions[k]
        plot.bar(0, taken[k], place, place + 0.36, "dot control", f"{name}: the log {percent(taken[k], 2)}")
        plot.bar(
            0, wanted[k], place - 0.36, place, "dot s1", f"{name}: the candidate {percent(wanted[k], 2)}"
        )
    more = len(outcome.actions) - len(order)
    caption = f"Share of all rows{f'; {more} more actions are not drawn' if more else ''}."
    entries = [Entry("the log", "dot control", is_area=True), Entry("the candidate", "dot s1", is_area=True)]
    return [figure("Who would be shown what", plot.svg(caption), entries, caption)]


def _names(names: Sequence[str]) -> Axis:
    """One height for each name, the first at the top."""
    short = [name if len(name) <= LETTERS else f"{name[: LETTERS - 1]}…" for name in names]
    heights = [float(place) for place in range(1, len(names) + 1)]
    return Axis(heights, lambda height: short[len(short) - floor(height)], "", 0.5, len(names) + 0.5)


def _frame(rows: int) -> Frame:
    return Frame(height=60 + ROW * max(rows, 2), left=126, right=26)


def _power(exponent: float) -> str:
    return f"{2**exponent:.4g}" if exponent >= 0 else f"1/{2**-exponent:.4g}"

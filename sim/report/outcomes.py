"""The figures of what a team would have seen: lifts at the looks, guardrails, days to a verdict."""

from dataclasses import replace

import numpy as np

from experiments.analysis.wording import MONEY_METRICS, change_in_words, is_rate, metric_in_words
from sim.report.charts import day_axis, money_axis
from sim.report.lifts import Fan, fans, objective_of
from sim.report.markup import Html
from sim.report.plot import Axis, Entry, Frame, Plot, figure, fitted
from sim.report.scales import percent, plain, points, round_ticks, whole
from sim.report.series import guardrail_states, part_in, troubled, variants_of
from sim.runner.run import Run

FANS_MOST = 3
TROUBLED_MOST = 4
STATES = ("kill", "throttle", "warn")
KINDS = ("healthy", "toxic", "harmful", "no_difference")
_LOW = Frame(height=180)

Drawn = tuple[list[Html], str]
"""Figures, and what is to be said where there are none or not all."""


def fan_figures(run: Run) -> Drawn:
    """For each variant that looks named most: estimates, their interval and the truth."""
    found = fans(run, most=FANS_MOST)
    note = "" if found else "No look could tell the lift of a variant: no window had closed."
    return [_fan_figure(run, fan) for fan in found], note


def guardrail_figures(run: Run) -> Drawn:
    """For each variant that was warned of: the part of replications in each state, by day."""
    if not run.settings.scenario.experiment.guardrails:
        return [], "The experiment has no guardrails."
    states, keys = guardrail_states(run), variants_of(run)
    arms = troubled(states)
    if not arms:
        return [], "No guardrail warned of any variant on any day."
    found: list[Html] = []
    for arm in arms[:TROUBLED_MOST]:
        days = states.shape[1]
        plot = Plot(day_axis(days), Axis([0, 0.5, 1], percent, ""), _LOW)
        below = np.zeros(days)
        for state in STATES:
            part = part_in(states, arm, state)
            if part.any():
                plot.steps(below.tolist(), (below + part).tolist(), f"bar {state}")
            below = below + part
        peaks = [f"{state} at most {percent(float(part_in(states, arm, state).max()))}" for state in STATES]
        caption = f"{keys[arm]}, share of replications in a state, by day: {', '.join(peaks)}."
        entries = [Entry(state, f"bar {state}", is_area=True) for state in STATES]
        found.append(figure(f"Guardrails: {keys[arm]}", plot.svg(caption), entries, caption))
    more = len(arms) - TROUBLED_MOST
    return found, f"Guardrails warned of {more} more variants, on fewer days." if more > 0 else ""


def verdict_figure(run: Run) -> Html:
    """Days to the first verdict that decides, and how many had none."""
    days, total = run.settings.scenario.days, len(run.replications)
    at: dict[tuple[int, str], int] = {}
    for one in run.replications:
        if one.decided is not None:
            place = (one.decided.day + 1, one.decided.verdict)
            at[place] = at.get(place, 0) + 1
    looks = sorted({look.day + 1 for one in run.replications for look in one.looks})
    width = max(0.5, 0.35 * min(np.diff([0, *looks])))
    undecided = total - sum(at.values())
    heights = {day: sum(n for (when, _), n in at.items() if when == day) for day, _ in at}
    top = max([1, undecided, *heights.values()])
    # The undecided stand apart, behind the last day
    room = 2 * width + 0.08 * days
    ticks = day_axis(days).ticks
    plot = Plot(
        Axis(ticks, whole, "day of the first verdict that decides", 0, days + room),
        Axis(round_ticks(0, top, whole=True), whole, ""),
        _LOW,
    )
    for day in sorted(heights):
        below = 0
        for kind in KINDS:
            count = at.get((day, kind), 0)
            if count:
                says = f"day {day}: {kind.replace('_', ' ')} {count}"
                plot.bar(day - 2 * width, day, below, below + count, f"bar {kind}", says)
                below += count
    if undecided:
        right = days + room
        plot.bar(right - 2 * width, right, 0, undecided, "bar undecided", f"undecided {undecided}")
    counts = {kind: sum(n for (_, verdict), n in at.items() if verdict == kind) for kind in KINDS}
    shown = {kind.replace("_", " "): count for kind, count in counts.items() if count}
    said = ", ".join(f"{kind} {count}" for kind, count in {**shown, "undecided": undecided}.items() if count)
    entries = [Entry(kind.replace("_", " "), f"bar {kind}", is_area=True) for kind in KINDS if counts[kind]]
    entries += [Entry("undecided, at the right", "bar undecided", is_area=True)] if undecided else []
    caption = f"Replications by the look that decided, of {total}: {said}."
    return figure("When there was a verdict", plot.svg(caption), entries, caption)


def _fan_figure(run: Run, fan: Fan) -> Html:
    scenario, total = run.settings.scenario, len(run.replications)
    objective, currency = objective_of(scenario), scenario.world.currency
    drawn = np.concatenate([fan.quantiles.ravel(), fan.interval.ravel(), fan.truth])
    known = drawn[np.isfinite(drawn)]
    low, high = float(known.min()), float(known.max())
    if is_rate(objective):
        axis = fitted(low, high, points, 0.001)
    elif objective.key in MONEY_METRICS:
        axis = money_axis(run, low, high)
    else:
        axis = fitted(low, high, plain, 0.001)
    plot = Plot(day_axis(scenario.days), axis)
    if len(fan.days) == 1:
        fan = _widened(fan, 0.02 * scenario.days)
    days = fan.days.tolist()
    q05, q25, q50, q75, q95 = fan.quantiles.tolist()
    plot.band(days, q05, q95, "band s1")
    plot.band(days, q25, q75, "band inner s1")
    for end in fan.interval.tolist():
        plot.line(days, end, "line thin s1 d1")
    plot.line(days, fan.truth.tolist(), "line truth")
    plot.line(days, q50, "line s1")
    plot.dots(days, q50, "dot s1")
    words = [change_in_words(objective, currency, value) for value in (q50[-1], fan.truth[-1])]
    first, last = (f"{fan.named[place]:.0f}" for place in (0, -1))
    named = f"named in {first} of {total} replications at its first look and {last} at its last"
    caption = (
        f"{fan.variant} against the control, {named}. At the last: median {words[0]}, truth {words[1]}. "
        "The truth is that of the customers whose window had closed."
    )
    entries = [
        Entry("median of the estimates", "line s1"),
        Entry("25–75 %", "band inner s1", is_area=True),
        Entry("5–95 %", "band s1", is_area=True),
        Entry("ends of the 95 % credible interval, mean", "line thin s1 d1"),
        Entry("truth", "line truth"),
    ]
    title = f"Lift of {metric_in_words(objective.key, scenario.experiment.unit)}: {fan.variant}"
    return figure(title, plot.svg(caption), entries, caption)


def _widened(fan: Fan, by: float) -> Fan:
    """A fan of one look, drawn as wide as the eye needs."""
    return replace(
        fan,
        days=np.array([fan.days[0] - by, fan.days[0]]),
        quantiles=np.repeat(fan.quantiles, 2, axis=1),
        interval=np.repeat(fan.interval, 2, axis=1),
        truth=np.repeat(fan.truth, 2),
    )

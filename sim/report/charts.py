"""The figures of the page: what the policy cost and earned, and to whom it gave the traffic."""

from collections.abc import Sequence

import numpy as np

from experiments.analysis.wording import Language, money
from experiments.money import exponent
from sim.report.markup import Html
from sim.report.plot import Axis, Entry, Plot, figure, fitted
from sim.report.scales import percent, round_ticks, short_money, whole
from sim.report.series import (
    LEVELS,
    Spread,
    best_first,
    control_of,
    ends,
    given_in,
    is_sampled,
    is_split,
    profit,
    published,
    regret,
    smoothed,
    spread_of,
    variants_of,
)
from sim.runner.run import Run
from sim.worlds.cells import Floats

PUBLISHED = "Published shares at the end of each day"
NAMED_MOST = 5
"""Treatments that have a line of their own; all others are one line together."""


def day_axis(days: int) -> Axis:
    """From the start of the first day to the end of the last."""
    ticks = [tick for tick in round_ticks(0, days, most=8, whole=True) if tick <= days]
    return Axis(ticks, whole, "day", 0, days)


def money_axis(run: Run, low: float, high: float) -> Axis:
    """Amounts of minor units, 0 among them."""
    currency = run.settings.scenario.world.currency
    return fitted(low, high, short_money(currency), 10.0 ** exponent(currency))


def told(run: Run, minor: float) -> str:
    """An amount in the currency of the world."""
    return money(minor, run.settings.scenario.world.currency, Language.EN)


def regret_figure(run: Run) -> Html:
    """Cumulative regret with bands."""
    found = regret(run)
    days = _days(found.mean)
    plot = Plot(day_axis(len(days) - 1), money_axis(run, found.low, found.high))
    _bands(plot, days, found, "s1")
    plot.line(days, found.mean.tolist(), "line s1")
    low, high = (told(run, end) for end in ends(found))
    end = f"{told(run, found.mean[-1])} at the end, {low} to {high} in nine of ten replications."
    return figure(
        "Regret so far",
        plot.svg(f"Cumulative regret over the days: {end}"),
        _band_entries("s1", "mean"),
        f"True margin given away against the best variant of every day and segment. {end}",
    )


def profit_figure(run: Run) -> Html:
    """What was earned above offering nothing, against what could be had."""
    found = profit(run)
    earned, oracle, best = found.earned, found.oracle.mean, found.best.mean
    days = _days(oracle)
    low = min(earned.low, float(oracle.min()), float(best.min()))
    high = max(earned.high, float(oracle.max()), float(best.max()))
    plot = Plot(day_axis(len(days) - 1), money_axis(run, low, high))
    q05, _, _, _, q95 = earned.quantiles.tolist()
    plot.band(days, q05, q95, "band s1")
    plot.line(days, oracle.tolist(), "line s3 d2")
    plot.line(days, best.tolist(), "line s2 d1")
    plot.line(days, [0.0] * len(days), "line control")
    plot.line(days, earned.mean.tolist(), "line s1")
    end = {"the policy": earned.mean[-1], "the best single variant": best[-1], "the oracle": oracle[-1]}
    said = ", ".join(f"{name} {told(run, value)}" for name, value in end.items())
    entries = [
        Entry("the policy, mean", "line s1"),
        Entry("5–95 % of replications", "band s1", is_area=True),
        Entry("best single variant for all", "line s2 d1"),
        Entry("oracle: the best of every day and segment", "line s3 d2"),
        Entry("control only", "line control"),
    ]
    alt = f"True margin above offering nothing, at the end: {said}."
    return figure("Profit above offering nothing", plot.svg(alt), entries, alt)


def shares_figures(run: Run) -> list[Html]:
    """Who got the traffic: the published shares, or where every segment has its own, what each was given."""
    if not is_split(run):
        what = "Share of the customers, day by day" if is_sampled(run) else PUBLISHED
        return [_shares_figure(run, "Who got the traffic", published(run), what)]
    segments = run.settings.scenario.world.segments
    when = "day by day" if smoothed(run) == 1 else "of the last seven days together"
    return [
        _shares_figure(
            run,
            f"Who got the traffic: {one.key}",
            given_in(run, index),
            f"Share of the customers of {one.key}, {when}",
        )
        for index, one in enumerate(segments)
    ]


def _shares_figure(run: Run, title: str, shares: Floats, what: str) -> Html:
    """Shares (R, D, K) over time: control, the best few, and all others together."""
    groups = _groups(run)
    days = np.arange(1, shares.shape[1] + 1, dtype=np.float64).tolist()
    plot = Plot(
        Axis(day_axis(len(days)).ticks, whole, "day", 0, max(2, len(days))),
        Axis([0, 0.2, 0.4, 0.6, 0.8, 1], percent, ""),
    )
    spreads = [spread_of(shares[:, :, list(arms)].sum(axis=2)) for _, _, arms in groups]
    for (_, class_, _), found in zip(groups, spreads, strict=True):
        plot.band(days, found.quantiles[0].tolist(), found.quantiles[-1].tolist(), f"band {class_}")
    median = LEVELS.index(0.5)
    for (_, class_, _), found in zip(groups, spreads, strict=True):
        plot.line(days, found.quantiles[median].tolist(), f"line {class_}")
        if len(days) == 1:
            plot.dots(days, found.quantiles[median].tolist(), f"dot {class_}")
    said = ", ".join(
        f"{name} {percent(float(found.quantiles[median, -1]))}"
        for (name, _, _), found in zip(groups, spreads, strict=True)
    )
    entries = [Entry(name, f"line {class_}") for name, class_, _ in groups]
    caption = f"{what}: median, and 5–95 % of replications. At the end: {said}."
    return figure(title, plot.svg(caption), entries, caption)


def _groups(run: Run) -> list[tuple[str, str, Sequence[int]]]:
    """The lines of a plot of shares: name, class and arms."""
    keys, control = variants_of(run), control_of(run)
    ranked = [arm for arm in best_first(run) if arm != control]
    alone = ranked if len(ranked) <= NAMED_MOST + 1 else ranked[:NAMED_MOST]
    groups: list[tuple[str, str, Sequence[int]]] = [(f"{keys[control]} (control)", "control", [control])]
    groups += [(keys[arm], f"s{n + 1} d{n % 4}", [arm]) for n, arm in enumerate(alone)]
    if others := [arm for arm in ranked if arm not in alone]:
        groups.append((f"{len(others)} others together", "s7 d3", others))
    return groups


def _days(totals: Floats) -> list[float]:
    return np.arange(len(totals), dtype=np.float64).tolist()


def _bands(plot: Plot, days: Sequence[float], found: Spread, class_: str) -> None:
    q05, q25, _, q75, q95 = found.quantiles.tolist()
    plot.band(days, q05, q95, f"band {class_}")
    plot.band(days, q25, q75, f"band inner {class_}")


def _band_entries(class_: str, line: str) -> list[Entry]:
    return [
        Entry(line, f"line {class_}"),
        Entry("25–75 % of replications", f"band inner {class_}", is_area=True),
        Entry("5–95 %", f"band {class_}", is_area=True),
    ]

"""How sure the objective's change is: the intervals to read beside each other, and what else it might be.

First what one decides by: the credible interval, the one that holds at every look, and the figures of other
methods beside the corrected one. Then, folded away, what less noise or another prior makes of it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

import streamlit as st

from dashboard import markup, reading, words
from dashboard.reading import Interval

Json: TypeAlias = dict[str, Any]

_OPEN = "windows still open"
"""What the service writes of an interval that counts visitors whose window is open."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """One way to tell the same change: its name, when to read it, and the figures."""

    name: str
    note: str
    lift: Interval


def section(document: Json, report: Json, variant: str) -> None:
    """The objective's change by every method, each with a word on when to read it."""
    key = objective(report)
    about = reading.metric_words(document, _unit(report), key)
    found = estimates(reading.variant(report, variant), key)
    control = reading.control_key(report)
    note = f"{variant} against {control}: the change with its 95\u202f% interval, and when to read which."
    st.html(markup.heading(f"How sure is the change in {_lower(about.label)}?", note))
    warning = parted(report)
    if warning:
        st.html(markup.checks([warning]))
    if all(one.lift.value is None for one in found):
        st.html(
            markup.block(f'<span class="muted">{markup.text(words.lift_reason(found[0].lift.reason))}</span>')
        )
    else:
        st.html(bars(found, about, str(report.get("currency") or "")))


def estimates(variant: Json, key: str) -> list[Estimate]:
    """The credible interval, the one for every look, then other methods where the report has them."""
    block, told = reading.block(variant, key), reading.reading(variant, key)
    other = {name: cast("Json", block.get(name) or {}) for name in ("aipw", "naive", "sequential")}
    corrected = bool(other["naive"])
    found = [
        Estimate(
            "If you decide once, on a day set beforehand",
            "The credible interval. "
            + ("Corrected: visitors of the same time are compared." if corrected else ""),
            told.lift_abs,
        )
    ]
    if other["sequential"]:
        lift = reading.interval(other["sequential"])
        found.append(
            Estimate("If you look every day and stop when it is clear", _looks(other["sequential"]), lift)
        )
    if other["aipw"]:
        lift = reading.interval(other["aipw"].get("lift_abs"), reading.reason(other["aipw"]))
        note = "Weighed by each visitor's chance of the variant (AIPW): it should agree with the first."
        found.append(Estimate("Corrected in a second way", note, lift))
    if corrected:
        lift = reading.interval(other["naive"].get("lift_abs"), reading.reason(other["naive"]))
        note = "Plain averages. They mislead when shares moved while shoppers changed: do not decide by them."
        found.append(Estimate("Not corrected", note, lift))
    return found


def parted(report: Json) -> tuple[str, str, str, str] | None:
    """The warning that the methods part, as a check is shown; None while they agree."""
    item = next((one for one in report.get("checks") or [] if one.get("name") == PARTED), None)
    if item is None or item.get("state") != "warn":
        return None
    _, finding, advice = words.check_of(item)
    return "warn", "The methods do not agree", finding, advice


PARTED = "methods"
"""The check of whether corrected, AIPW and plain lifts agree."""


def bars(found: Sequence[Estimate], about: words.Metric, currency: str) -> str:
    """Every estimate with its bar, all on one scale."""
    ends = [end for one in found for end in (one.lift.low, one.lift.high, one.lift.value) if end is not None]
    reach = 1.08 * max((abs(end) for end in ends), default=0.0)
    rows = [
        markup.estimate(one.name, one.note, _figures(one.lift, about, currency), one.lift, reach)
        for one in found
    ]
    return markup.estimates(rows, lower_is_better=about.lower_is_better, drawn=bool(ends))


def objective(report: Json) -> str:
    """The metric that decides."""
    return str(report.get("objective") or "margin_per_unit")


def _looks(block: Json) -> str:
    """What the interval for every look promises."""
    promise = "It is wider because it stays true however often you look and whenever you stop"
    if block.get("exact"):
        return f"{promise}, with few visitors too."
    if _OPEN in str(block.get("method") or ""):
        return f"{promise}; here roughly, since visitors count whose window is still open."
    return f"{promise}. Shown from about a thousand visitors of each variant on."


def _figures(lift: Interval, about: words.Metric, currency: str) -> str:
    if lift.value is None:
        return words.lift_reason(lift.reason)
    value = words.change(lift.value, about.scale, currency)
    if lift.low is None or lift.high is None:
        return value
    low, high = (words.change(end, about.scale, currency) for end in (lift.low, lift.high))
    return f"{value} ({low} to {high})"


def _lower(label: str) -> str:
    return label[:1].lower() + label[1:]


def _unit(report: Json) -> str:
    return str(report.get("unit") or "visitor")

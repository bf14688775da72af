"""Money as booked, after the refunds that have come, and as it will be once all have come."""

from typing import Any, TypeAlias, cast

import streamlit as st

from dashboard import markup, reading, words

Json: TypeAlias = dict[str, Any]

_METRICS = ("margin_per_unit", "revenue_per_unit", "refund_rate")
_NOTE = (
    "Refunds come weeks after the order. Booked: before any. So far: after those that have come. Expected: "
    "once all have come, from how late refunds came before."
)


def section(document: Json, report: Json, variant: str) -> None:
    """The table, while refunds are still to come or make a difference; else nothing."""
    rows = money_rows(document, report, variant)
    if rows:
        st.html(markup.heading("What is booked, and what will stay", _NOTE))
        head = ["", "Booked", "So far", "Expected in the end", "Refunds that have come"]
        st.html(markup.table(head, rows))


def money_rows(document: Json, report: Json, variant: str) -> list[list[str]]:
    """A row for each metric and side: the variant's, the control's, and the change."""
    unit, currency = str(report.get("unit") or "visitor"), str(report.get("currency") or "")
    control = reading.control_key(report) or ""
    rows: list[list[str]] = []
    for key in _METRICS:
        about = reading.metric_words(document, unit, key)
        mine = reading.block(reading.variant(report, variant), key)
        theirs = reading.block(reading.variant(report, control), key)
        if mine.get("booked") or mine.get("expected_final"):
            rows.append(_row(about, mine, theirs, (variant, control), currency))
    return rows


def _row(about: words.Metric, mine: Json, theirs: Json, names: tuple[str, str], currency: str) -> list[str]:
    variant, control = names
    row = [markup.cell(about.label, [f"{variant} against {control}"])]
    for part in ("booked", "", "expected_final"):
        one = cast("Json", (mine.get(part) or {}) if part else mine)
        other = cast("Json", (theirs.get(part) or {}) if part else theirs)
        row.append(_figures(about, one, other, currency))
    seen, control_seen = _seen(mine), _seen(theirs)
    return [*row, markup.cell(seen or "–", [f"control {control_seen}"] if control_seen else [])]


def _seen(block: Json) -> str:
    """The share of the refunds that have come by now."""
    share = reading.number(cast("Json", block.get("expected_final") or {}).get("refunds_seen"))
    return "" if share is None else words.percent(share, places=0)


def _figures(about: words.Metric, one: Json, other: Json, currency: str) -> str:
    value = reading.number(one.get("value"))
    if value is None:
        return markup.why_cell(reading.reason(one)) if one else markup.cell("–")
    subs: list[str] = []
    against = reading.number(other.get("value"))
    if against is not None:
        subs.append(f"control {words.amount(against, about.scale, currency)}")
    lift = reading.interval(one.get("lift_abs"))
    if lift.value is not None:
        subs.append(f"change {words.change(lift.value, about.scale, currency)}")
    if lift.low is not None and lift.high is not None:
        low, high = (words.change(end, about.scale, currency) for end in (lift.low, lift.high))
        subs.append(f"({low} to {high})")
    return markup.cell(words.amount(value, about.scale, currency), subs)

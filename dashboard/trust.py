"""Whether the figures can be trusted: the report's checks, worst first, each with what to do."""

from typing import Any, TypeAlias, cast

import streamlit as st

from dashboard import estimates, markup, words

Json: TypeAlias = dict[str, Any]

_IN_ORDER = "ok"
_NOTE = "info"
_ORDER = ("fail", "alarm", "reached", "warn", "unknown", _NOTE, _IN_ORDER)


def section(report: Json, policy: Json) -> None:
    """What is not in order, worst first; what is, folded away."""
    st.html(
        markup.heading(
            "Can the figures be trusted?", "What could make the figures on this page wrong, worst first."
        )
    )
    found = checks(report, policy)
    if estimates.parted(report):  # told beside the figures that part
        found = [item for item in found if item.get("name") != estimates.PARTED]
    if not found:
        st.html(markup.block('<span class="muted">No checks were made.</span>'))
        return
    open_ones = [item for item in found if item.get("state") != _IN_ORDER]
    in_order = [item for item in found if item.get("state") == _IN_ORDER]
    if open_ones:
        st.html(markup.checks([_told(item) for item in open_ones]))
    else:
        st.html(markup.block(f"{markup.badge(_IN_ORDER)} Nothing found that speaks against them."))
    if in_order:
        title = "1 check in order" if len(in_order) == 1 else f"{len(in_order)} checks in order"
        with st.expander(title):
            st.html(markup.checks([_told(item) for item in in_order]))


def checks(report: Json, policy: Json) -> list[Json]:
    """The report's checks, worst first, but for those that an alarm at the top of the page tells already."""
    alarms = {alarm.get("name") for alarm in policy.get("alarms") or []}
    items = cast("list[Json]", report.get("checks") or [])
    return sorted((item for item in items if item.get("name") not in alarms), key=_severity)


def hints(report: Json, policy: Json) -> list[str]:
    """One line beside the verdict that names what warns; what to do stands further down."""
    named = [_told(item)[1] for item in checks(report, policy) if _severity(item) < _ORDER.index(_NOTE)]
    if not named:
        return []
    return [f"Before you act, read below what is not in order: {', '.join(f'“{name}”' for name in named)}."]


def _severity(item: Json) -> int:
    state = str(item.get("state"))
    return _ORDER.index(state) if state in _ORDER else _ORDER.index("unknown")


def _told(item: Json) -> tuple[str, str, str, str]:
    """(state, what it looks at, finding, what to do)."""
    return str(item.get("state")), *words.check_of(item)

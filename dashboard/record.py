"""What guardrails and circuit breakers did, when, and on which numbers."""

from typing import Any, TypeAlias, cast

import streamlit as st

from dashboard import markup, reading, words

Json: TypeAlias = dict[str, Any]

_SHOWN = 20
_BREAKERS = {
    "outcomes": "Circuit breaker: outcomes arriving",
    "exposure": "Circuit breaker: exposures alike",
    "fallbacks": "Circuit breaker: answers from the ledger",
}
_ACTIONS = {
    "kill": "taken out; a person resumes it",
    "throttle": "held at its floor",
    "warn": "shown, nothing else",
    "ok": "free again",
    "tripped": "shares held",
    "closed": "shares follow results again",
}


def changes(document: Json, report: Json, found: list[Json]) -> None:
    """The latest changes of state, newest first."""
    st.html(
        markup.heading(
            "What guardrails and circuit breakers did",
            "Each change of state, newest first, with the probabilities of being beyond the margins.",
        )
    )
    rows = change_rows(document, report, found)
    if rows:
        st.html(markup.listing(["When", "What", "State", "Why"], rows))
    else:
        st.html(markup.block('<span class="muted">Nothing yet.</span>'))


def change_rows(document: Json, report: Json, found: list[Json]) -> list[list[str]]:
    """Rows of the table: the latest changes, newest first; becoming known is none anybody acts on."""
    told = [one for one in found if not _is_quiet(one)]
    action = str(_breakers(document).get("action") or "hold")
    unit = str(report.get("unit") or "visitor")
    return [_row(document, unit, action, one) for one in reversed(told[-_SHOWN:])]


def said(document: Json, found: list[Json]) -> list[str]:
    """What changed, in a few words each: `socks, conversion rate: throttled`."""
    parts: list[str] = []
    for one in found:
        if not _is_quiet(one):
            _, _, state = words.state(str(one.get("after")))
            what = _subject(document, "visitor", str(one.get("subject")))
            who = f"{one['variant']}, {what[:1].lower()}{what[1:]}" if one.get("variant") else what
            parts.append(f"{who}: {state.lower()}")
    return parts


def _is_quiet(change: Json) -> bool:
    """Whether a guardrail only became known, or unknown again."""
    return {change.get("before"), change.get("after")} == {"unknown", "ok"}


def _subject(document: Json, unit: str, subject: str) -> str:
    return _BREAKERS.get(subject) or reading.metric_words(document, unit, subject).label


def _row(document: Json, unit: str, action: str, change: Json) -> list[str]:
    after = str(change.get("after"))
    what = _subject(document, unit, str(change.get("subject")))
    did = "the experiment was paused" if after == "tripped" and action == "pause" else _ACTIONS.get(after, "")
    if change.get("before") == "kill":
        did = "resumed by a person"
    return [
        markup.cell(words.instant(str(change.get("at"))), [f"version {change.get('policy_version')}"]),
        markup.cell(what, [str(change.get("variant") or "all variants")]),
        f'<td>{markup.badge(after)}<span class="sub">{markup.text(did)}</span></td>',
        markup.cell(_why(change)),
    ]


def _why(change: Json) -> str:
    numbers = cast("Json", change.get("numbers") or {})
    if numbers.get("detail"):
        return words.sentence(str(numbers["detail"]))
    beyond = cast("Json", numbers.get("prob_breach") or {})
    if not beyond:
        return words.reason(numbers.get("reason"))
    told = ", ".join(f"{name} {words.probability(beyond.get(name))}" for name in ("warn", "throttle", "kill"))
    own, control = (round(float(numbers.get(name) or 0)) for name in ("units", "units_control"))
    return f"P(beyond): {told}; {words.count(own)} matured units, control {words.count(control)}"


def _breakers(document: Json) -> Json:
    return cast("Json", (document.get("policy") or {}).get("breakers") or {})

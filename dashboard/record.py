"""What guardrails and circuit breakers did, when, and on which numbers; and who still grows step by step."""

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


def changes(document: Json, report: Json, policy: Json, found: list[Json]) -> None:
    """The latest changes of state, newest first, and the variants on a ramp."""
    st.html(
        markup.heading(
            "What guardrails did",
            "Each change of a guardrail or a circuit breaker, newest first, with the numbers behind it.",
        )
    )
    ramping = [ramp_words(ramp) for ramp in policy.get("ramps") or [] if ramp.get("cap") is not None]
    if ramping:
        st.html(markup.block("".join(f'<div class="hint">{markup.text(one)}</div>' for one in ramping)))
    rows = change_rows(document, report, found)
    if rows:
        st.html(markup.table(["When", "What", "Variant", "State", "Why"], rows))
    else:
        st.html(markup.block('<span class="muted">Nothing yet.</span>'))


def change_rows(document: Json, report: Json, found: list[Json]) -> list[list[str]]:
    """Rows of the table: the latest changes, newest first; becoming known is none anybody acts on."""
    told = [one for one in found if {one.get("before"), one.get("after")} != {"unknown", "ok"}]
    action = str(_breakers(document).get("action") or "hold")
    unit = str(report.get("unit") or "visitor")
    return [_row(document, unit, action, one) for one in reversed(told[-_SHOWN:])]


def ramp_words(ramp: Json) -> str:
    """One sentence on a variant whose share is still capped by its ramp."""
    cap = words.percent(float(ramp["cap"]), places=0)
    since = words.instant(str(ramp.get("since")))
    return f"{ramp.get('variant')} grows step by step: at most {cap} since {since}."


def _row(document: Json, unit: str, action: str, change: Json) -> list[str]:
    subject, after = str(change.get("subject")), str(change.get("after"))
    what = _BREAKERS.get(subject) or reading.metric_words(document, unit, subject).label
    did = "the experiment was paused" if after == "tripped" and action == "pause" else _ACTIONS.get(after, "")
    if change.get("before") == "kill":
        did = "resumed by a person"
    return [
        markup.cell(words.instant(str(change.get("at"))), [f"version {change.get('policy_version')}"]),
        markup.cell(what),
        markup.cell(str(change.get("variant") or "all")),
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

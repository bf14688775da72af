"""The verdict: its word and sentence in the reader's language, and what to know before believing it."""

from typing import Any, TypeAlias, cast

import streamlit as st

from dashboard import learning, markup, reading, trust, words

Json: TypeAlias = dict[str, Any]

LANGUAGES = {"en": "English", "it": "Italiano", "ro": "Română"}
"""Those the report has its sentence in, by their code in the page's address (`?lang=it`)."""

_WORDS = {
    "it": {
        "toxic": "Tossica",
        "harmful": "Dannosa",
        "healthy": "Sana",
        "promising": "Promettente",
        "no_difference": "Nessuna differenza",
        "insufficient_data": "Troppo presto per dirlo",
    },
    "ro": {
        "toxic": "Toxică",
        "harmful": "Dăunătoare",
        "healthy": "Sănătoasă",
        "promising": "Promițătoare",
        "no_difference": "Nicio diferență",
        "insufficient_data": "Prea devreme pentru un verdict",
    },
}
"""The verdict in one word, of an offer (feminine in both); in English as every state."""

_HARM = ("harmful", "toxic")
_NONE = "The service gives no verdict on this variant."


def language(place: Any) -> str:
    """The language of the verdict, chosen in a box and kept in the page's address."""
    codes = list(LANGUAGES)
    asked = str(st.query_params.get("lang") or codes[0])
    chosen = str(
        place.selectbox(
            "Language of the verdict",
            codes,
            index=codes.index(asked) if asked in codes else 0,
            format_func=LANGUAGES.__getitem__,
            key="language",
            help="The verdict's sentence; all else on the page is in English.",
        )
    )
    if chosen != asked:
        st.query_params["lang"] = chosen
    return chosen


def section(report: Json, policy: Json, variant: str | None, *, tongue: str, fixed: bool) -> None:
    """What the figures say of the chosen variant, and what to know before believing them."""
    st.html(banner(report, variant, tongue))
    found = [*_hints(policy), *trust.hints(report, policy)]
    if not fixed and report.get("matured") is False:
        found.append(
            "These figures include visitors whose window is still open; under this policy they read low for "
            "a variant whose share has just grown. Switch “Matured only” on for figures to act on."
        )
    if found:
        st.html(markup.hints(found))
    learning.alarms(policy)


def banner(report: Json, variant: str | None, tongue: str) -> str:
    """The verdict on the variant; in English where the service has no sentence in that language."""
    whole = cast("Json", report.get("verdict") or {})
    own = reading.variant(report, variant or "").get("verdict")
    said = cast("Json", own or (whole if whole.get("variant") in (variant, None) else {}))
    kind = str(said.get("kind") or "insufficient_data")
    sentence = cast("Json", said.get("sentences") or {}).get(tongue)
    spoken = tongue if sentence else "en"
    return markup.banner(
        kind,
        str(sentence or said.get("sentence") or _NONE),
        "" if kind in _HARM else _remaining(report),
        word=_WORDS.get(spoken, {}).get(kind),
        tongue=spoken,
    )


def _hints(policy: Json) -> list[str]:
    """What holds the shares, who is new, and whom the figures compare."""
    found: list[str] = []
    held = cast("Json", policy.get("held") or {})
    if policy.get("burn_in"):
        found.append(
            "Burn-in: every variant first gets its minimum of visitors, then shares follow the results."
        )
    elif held and held.get("reason") != "breaker":  # that is an alarm of its own
        found.append(f"Shares are held where they are. {words.held(held)}")
    found += learning.hints(policy)
    if reading.policy_kind(policy) == "contextual":
        found.append(
            "Who was shown a variant depended on the context: the lifts below are weighed by each visitor's "
            "own chance of it, so that they stand for all. “Who gets what” tells where each does well."
        )
    promoted = policy.get("promoted")
    if promoted and (policy.get("stop") or {}).get("promote") != promoted:  # that is an alarm of its own
        found.append(f"{promoted} was promoted by hand: it gets all traffic but the control's share.")
    return found


def _remaining(report: Json) -> str:
    remaining = cast("Json", report.get("value_remaining") or {})
    per_week = remaining.get("per_week")
    if per_week is None:
        return ""
    if float(per_week) < 0.5:  # of a minor unit, or of an order
        return f"No other variant is likely to bring more than {remaining.get('leader')} (95 %)."
    unit = str(report.get("unit") or "visitor")
    about = words.metric(str(report.get("objective") or "margin_per_unit"), unit)
    if about.scale == "money":
        most = words.money(float(per_week), str(report.get("currency") or ""))
    else:  # a rate times the units of a week
        most = f"{float(per_week):,.0f} ({about.label.lower()} times the {unit}s of a week)"
    return f"Another variant may bring at most {most} a week more than {remaining.get('leader')} (95 %)."

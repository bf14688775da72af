"""What is learnt and why shares moved: alarms, newcomers, what was known before, each version's cause."""

from typing import Any, TypeAlias, cast

import streamlit as st

from dashboard import markup, reading, words

Json: TypeAlias = dict[str, Any]

_SHOWN = 12
_LATEST = 5
_ALARMS = {
    "stop_rule": ("Stop rule", "Decide: promote a variant, or stop the experiment."),
    "exploration_collapsed": ("Exploration", ""),
    "breaker_outcomes": ("Circuit breaker: outcomes", "See whether orders still reach the service."),
    "breaker_exposure": (
        "Circuit breaker: exposures",
        "See whether every variant's slot is drawn and reported.",
    ),
    "breaker_fallbacks": ("Circuit breaker: answers without the ledger", "See /health/ready and the log."),
}
_CAUSES = {
    "started": "Started",
    "shares_moved": "Shares followed the results",
    "daily": "A day passed",
    "guardrail": "A guardrail changed",
    "breaker": "A circuit breaker changed",
    "ramp": "A ramp took a step",
    "edited": "Somebody edited the experiment",
    "promoted": "Somebody promoted a variant",
    "resumed": "Somebody resumed a variant",
    "retired": "Somebody retired a variant",
    "added": "A variant was added",
    "replaced": "A variant took another's place",
    "stop_rule": "The stop rule changed",
}
_ROUTINE = frozenset({"shares_moved", "daily"})


def alarms(policy: Json) -> None:
    """What a person should know of the policy today; nothing while there is nothing."""
    found = alarm_items(policy)
    if found:
        st.html(markup.heading("Alarms") + markup.checks(found))


def alarm_items(policy: Json) -> list[tuple[str, str, str]]:
    """(state, what, detail) of every alarm that is raised."""
    items: list[tuple[str, str, str]] = []
    for alarm in cast("list[Json]", policy.get("alarms") or []):
        name, state = str(alarm.get("name")), str(alarm.get("state"))
        title, remedy = _ALARMS.get(name, (words.spoken(name), ""))
        said = [words.sentence(str(alarm.get("detail") or ""))]
        if remedy and state != "promoted":
            said.append(remedy)
        if alarm.get("since"):
            said.append(f"Since {words.instant(str(alarm['since']))}.")
        items.append((state if state in ("alarm", "tripped") else "reached", title, " ".join(said)))
    return items


def hints(policy: Json) -> list[str]:
    """Who is new, and what the variants began with."""
    found: list[str] = []
    fresh = cast("list[str]", policy.get("newcomers") or [])
    if fresh:
        verb = (
            "is new and burns in at a share of its"
            if len(fresh) == 1
            else "are new and burn in at shares of their"
        )
        found.append(f"{' and '.join(fresh)} {verb} own, while the others go on.")
    priors = cast("dict[str, Json]", policy.get("warm_start") or {})
    expert = [key for key, entry in priors.items() if entry.get("share") is not None]
    if expert:
        told = ", ".join(f"{key} {words.percent(float(priors[key]['share']), places=0)}" for key in expert)
        units = words.count(round(float(priors[expert[0]].get("units") or 0)))
        found.append(f"Shares began with an expert's P(best) ({told}), worth {units} units of each.")
    for key, entry in priors.items():
        source = f"{entry.get('variant')} of {entry.get('experiment')}"
        if entry.get("reason"):
            found.append(f"{key} could not begin with {source}: {words.reason(str(entry['reason']))}")
        elif entry.get("experiment"):
            units = words.count(round(float(entry.get("units") or 0)))
            found.append(f"{key} began with the results of {source}, worth {units} units.")
    return found


def causes(policy: Json, control: str | None) -> None:
    """The latest versions with their cause, and whether anything is still explored."""
    rows = cause_rows(policy, control)
    if not rows:
        return
    st.html(
        markup.heading(
            "Why shares moved",
            "The latest policy versions, and what somebody or a rule did before; newest first.",
        )
        + markup.table(["When", "Version", "Cause", "Shares"], rows)
    )
    line = exploration_line(policy)
    if line:
        st.html(markup.facts(line))


def cause_rows(policy: Json, control: str | None) -> list[list[str]]:
    """Rows of the table: when, version, cause, and every share with what it changed by.

    The latest few, and before them those that something other than the results caused.
    """
    versions = cast("list[Json]", policy.get("versions") or [])
    pairs = [({} if place == 0 else versions[place - 1], one) for place, one in enumerate(versions)]
    told = [
        pair
        for place, pair in enumerate(pairs, start=_LATEST - len(pairs))
        if place >= 0 or pair[1].get("cause") not in _ROUTINE
    ]
    rows: list[list[str]] = []
    for before, version in reversed(told[-_SHOWN:]):
        cause = str(version.get("cause") or "")
        rows.append(
            [
                markup.cell(words.instant(str(version.get("published_at")))),
                markup.cell(str(version.get("policy_version"))),
                markup.cell(_CAUSES.get(cause, words.spoken(cause))),
                markup.cell(_shares(before, version, control)),
            ]
        )
    return rows


def notable(policy: Json) -> list[Json]:
    """Rows {at, cause, version} of the versions that something other than the results caused."""
    return [
        {
            "at": str(version.get("published_at")),
            "cause": _CAUSES.get(str(version.get("cause")), words.spoken(str(version.get("cause") or ""))),
            "version": version.get("policy_version"),
        }
        for version in cast("list[Json]", policy.get("versions") or [])
        if str(version.get("cause")) not in _ROUTINE
    ]


def exploration_line(policy: Json) -> list[str]:
    """Entropy and its trend, the least share, and what the units of each variant are worth."""
    health = cast("Json", policy.get("exploration") or {})
    entropy, trend = health.get("entropy"), health.get("entropy_trend_per_day")
    if entropy is None:
        return []
    moving = "" if not trend or abs(trend) < 0.0005 else f", {trend:+.3f} a day".replace("-", words.MINUS)
    parts = [markup.fact("Entropy of the shares", f"{entropy:.2f} of 1{moving}")]
    least = health.get("min_propensity")
    if least is not None:
        parts.append(markup.fact("Least share", words.percent(float(least))))
    for key, one in cast("dict[str, Json]", health.get("variants") or {}).items():
        worth = f"{words.count(round(float(one['ess'])))} of {words.count(int(one['units']))}"
        parts.append(markup.fact(f"{key}: units worth", worth))
    return parts


def _shares(before: Json, version: Json, control: str | None) -> str:
    old, new = reading.first_shares(before), reading.first_shares(version)
    order = sorted(new, key=lambda key: (key != control, key))
    parts: list[str] = []
    for key in order:
        change = new[key] - old.get(key, 0.0)
        moved = f" ({words.percent(change, signed=True)})" if old and abs(change) >= 0.0005 else ""
        parts.append(f"{key} {words.percent(new[key])}{moved}")
    gone = [key for key in old if key not in new and old[key] > 0]
    return ", ".join([*parts, *(f"{key} out" for key in gone)])

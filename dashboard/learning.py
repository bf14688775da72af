"""What is learnt: alarms, newcomers, what was known before, and how much is still tried out."""

from typing import Any, TypeAlias, cast

import streamlit as st

from dashboard import markup, reading, words

Json: TypeAlias = dict[str, Any]

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


def alarms(policy: Json) -> None:
    """What a person should know of the policy today; nothing while there is nothing."""
    found = alarm_items(policy)
    if found:
        st.html(markup.heading("Alarms") + markup.checks(found))


def alarm_items(policy: Json) -> list[tuple[str, str, str, str]]:
    """(state, what, finding, what to do) of every alarm that is raised."""
    items: list[tuple[str, str, str, str]] = []
    for alarm in cast("list[Json]", policy.get("alarms") or []):
        name, state = str(alarm.get("name")), str(alarm.get("state"))
        title, remedy = _ALARMS.get(name, (words.spoken(name), ""))
        said = words.sentence(str(alarm.get("detail") or ""))
        if alarm.get("since"):
            said += f" Since {words.instant(str(alarm['since']))}."
        shown = state if state in ("alarm", "tripped") else "reached"
        items.append((shown, title, said, "" if state == "promoted" else remedy))
    drifts = reading.drift_words(policy)
    return [*items, ("drifting", "Rates that change", drifts, "")] if drifts else items


def hints(policy: Json) -> list[str]:
    """Who is new, and what the variants began with."""
    found = _new(policy)
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


def _new(policy: Json) -> list[str]:
    """One sentence on each variant that came later, while it burns in or its ramp holds it."""
    ramps = {str(ramp.get("variant")): ramp for ramp in cast("list[Json]", policy.get("ramps") or [])}
    steps = len(((policy.get("policy") or {}).get("ramp") or {}).get("steps") or [])
    fresh = cast("list[str]", policy.get("newcomers") or [])
    said: list[str] = []
    for key in dict.fromkeys([*fresh, *ramps]):
        ramp = ramps.get(key) or {}
        parts: list[str] = []
        if ramp.get("cap") is not None:
            at = f" (step {ramp.get('step')} of {steps})" if steps else ""
            cap, since = words.percent(float(ramp["cap"]), places=0), words.instant(str(ramp.get("since")))
            parts.append(f"at most {cap} of the traffic since {since}{at}, more while guardrails hold")
        if key in fresh:
            parts.append("it is not compared with the others before it has enough units of its own")
        if parts:
            said.append(f"{key} {'is new' if key in fresh else 'grows step by step'}: {'; '.join(parts)}.")
    return said


def exploration(policy: Json) -> None:
    """Whether anything is still explored; nothing where that is somebody's decision."""
    line = exploration_line(policy)
    if line:
        note = (
            "Evenness: 1 is equal shares, 0 all to one variant. Worth: as many evenly drawn units as a "
            "variant's own come to when past decisions are weighed anew."
        )
        st.html(markup.heading("How much is still tried out", note) + markup.facts(line))


def exploration_line(policy: Json) -> list[str]:
    """Entropy and its trend, the least share, and what the units of each variant are worth."""
    health = cast("Json", policy.get("exploration") or {})
    entropy, trend = health.get("entropy"), health.get("entropy_trend_per_day")
    if entropy is None:
        return []
    moving = "" if not trend or abs(trend) < 0.0005 else f", {trend:+.3f} a day".replace("-", words.MINUS)
    parts = [markup.fact("Evenness of the shares (entropy)", f"{entropy:.2f} of 1{moving}")]
    least = health.get("min_propensity")
    if least is not None:
        parts.append(markup.fact("Smallest share", words.percent(float(least))))
    for key, one in cast("dict[str, Json]", health.get("variants") or {}).items():
        worth = f"{words.count(round(float(one['ess'])))} of {words.count(int(one['units']))}"
        parts.append(markup.fact(f"{key}: worth", worth))
    return parts

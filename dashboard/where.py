"""Who gets what under a policy that tells visitors apart: by segment, or by the context of the decision."""

from typing import Any, TypeAlias, cast

import streamlit as st

from dashboard import charts, markup, reading, words

Json: TypeAlias = dict[str, Any]

_CHARTS = 6
_PER_ROW = 3
_SURE, _LIKELY = 0.95, 0.8
_SD_95 = 1.96
_MONEY_FEATURES = frozenset({"cart_value", "item.price"})  # in minor units, as the service has them


def section(document: Json, report: Json, policy: Json) -> None:
    """A table of segments or contexts, and shares over time by segment; nothing under other policies."""
    kind = reading.policy_kind(policy)
    if kind == "segment":
        _by_segment(document, report, policy)
    elif kind == "contextual":
        _by_context(document, report, policy)


def _by_segment(document: Json, report: Json, policy: Json) -> None:
    about, unit = _objective(document, report, policy), str(report.get("unit") or "visitor")
    note = (
        "A share for each segment. Below it P(best), how probable it is that the variant is the best one "
        f"there, and its {about.label.lower()} with the 95\u202f% credible interval, drawn toward what it "
        "does in all segments."
    )
    st.html(markup.heading("Who gets what: shares by segment", note))
    found = reading.segments(policy)
    if not found:
        wait = f"No segment has shares of its own yet: each needs 10 matured {unit}s of every variant."
        st.html(markup.block(f'<span class="muted">{markup.text(wait)}</span>'))
        return
    keys = _keys(report, policy)
    st.html(markup.table(["Segment", *keys, "Best there"], segment_rows(document, report, policy)))
    shown = found[:_CHARTS]
    for start in range(0, len(shown), _PER_ROW):
        places = st.columns(_PER_ROW)
        for place, segment in zip(places, shown[start : start + _PER_ROW], strict=False):
            with place:
                _chart(report, policy, segment)


def segment_rows(document: Json, report: Json, policy: Json) -> list[list[str]]:
    """A row for each segment with shares of its own, the largest first; the last is for everybody else."""
    about, currency = _objective(document, report, policy), str(report.get("currency") or "")
    unit, keys = str(report.get("unit") or "visitor"), _keys(report, policy)
    rows: list[list[str]] = []
    for segment in [*reading.segments(policy), None]:
        one = (reading.sets_of(policy, segment) or [{}])[0]
        posteriors = cast("Json", one.get("posteriors") or {})
        units = round(sum(float(found.get("n") or 0) for found in posteriors.values()))
        name = "All together" if segment is None else words.segment(segment)
        under = ["for everybody else"] if segment is None else [f"{words.count(units)} {unit}s"]
        row = [markup.cell(name, under)]
        best = cast("Json", one.get("prob_best") or {})
        for key in keys:
            share = cast("Json", one.get("shares") or {}).get(key)
            lines = [] if best.get(key) is None else [f"P(best) {words.probability(float(best[key]))}"]
            lines += _posterior(posteriors.get(key) or {}, about.scale, currency)
            row.append(markup.cell("–" if share is None else words.percent(float(share)), lines))
        rows.append([*row, markup.cell(_winner(best))])
    return rows


def _by_context(document: Json, report: Json, policy: Json) -> None:
    about, control = _objective(document, report, policy), reading.control_key(report)
    note = (
        "The share a variant gets where the request has this value and is as on average in all else. "
        "Below it P(best), how probable it is that the variant is the best one there; its "
        f"{about.label.lower()}; and the difference to {control} with the 95\u202f% credible interval."
    )
    st.html(markup.heading("Who gets what: where each variant does well", note))
    rows = context_rows(document, report, policy)
    if rows:
        st.html(markup.table(["Where", *_keys(report, policy), "Best there"], rows))
    else:
        wait = "Nothing is known of contexts yet: until burn-in is over everybody gets the same shares."
        st.html(markup.block(f'<span class="muted">{wait}</span>'))


def context_rows(document: Json, report: Json, policy: Json) -> list[list[str]]:
    """A row for each value of each feature, in the document's order."""
    about, currency = _objective(document, report, policy), str(report.get("currency") or "")
    unit, keys = str(report.get("unit") or "visitor"), _keys(report, policy)
    rows: list[list[str]] = []
    for place in cast("list[Json]", (policy.get("contextual") or {}).get("where") or []):
        part = place.get("units_share")
        under = [] if part is None else [f"{words.percent(float(part), places=0)} of {unit}s"]
        row = [markup.cell(_name(place, currency), under)]
        variants = cast("dict[str, Json]", place.get("variants") or {})
        for key in keys:
            there = variants.get(key)
            row.append(markup.cell("–") if there is None else _there(there, about.scale, currency))
        rows.append(
            [*row, markup.cell(_winner({key: one.get("prob_best") for key, one in variants.items()}))]
        )
    return rows


def _there(there: Json, scale: words.Scale, currency: str) -> str:
    lines = [f"P(best) {words.probability(float(there['prob_best']))}"]
    lines.append(words.amount(float(there["value"]), scale, currency))
    lift = there.get("lift_abs")
    if lift is not None:
        value, low, high = (
            words.change(float(lift[name]), scale, currency) for name in ("value", "ci_low", "ci_high")
        )
        lines.append(f"{value} ({low} to {high})")
    return markup.cell(words.percent(float(there["share"])), lines)


def _posterior(found: Json, scale: words.Scale, currency: str) -> list[str]:
    mean, sd = found.get("mean"), found.get("sd")
    if mean is None:
        return []
    value = words.amount(float(mean), scale, currency)
    if sd is None:
        return [value]
    low, high = (words.amount(float(mean) + z * float(sd), scale, currency) for z in (-_SD_95, _SD_95))
    return [f"{value} ({low} to {high})"]


def _winner(best: Json) -> str:
    """Who is best there, as far as it is known."""
    known = {key: float(value) for key, value in best.items() if value is not None}
    if not known:
        return "not known yet"
    key = max(known, key=lambda key: known[key])
    if known[key] >= _SURE:
        return key
    return f"leaning to {key}" if known[key] >= _LIKELY else "open"


def _name(place: Json, currency: str) -> str:
    feature, value = str(place.get("feature")), place.get("value")
    spoken = words.spoken(feature)
    if place.get("units_share") is None and value is not None:
        at = words.money(float(value), currency) if feature in _MONEY_FEATURES else f"{float(value):,.4g}"
        return f"{spoken} about {at}"
    return f"{spoken}: any other" if value is None else f"{spoken}: {value}"


def _chart(report: Json, policy: Json, segment: str) -> None:
    order = [str(item["key"]) for item in reading.variants(report)]
    until = report.get("generated_at")
    rows = reading.share_rows(policy, str(until) if until else None, segment=segment)
    name = words.segment(segment)
    st.html(markup.block(f"<b>{markup.text(name)}</b>"))
    chart = charts.steps(rows, order, reading.control_key(report), title="Share", height=150)
    told = chart.properties(description=f"Step lines over time: shares in segment {name} by variant")
    st.altair_chart(told, width="stretch", key=f"chart-segment-{segment}")


def _keys(report: Json, policy: Json) -> list[str]:
    """The variants that have a share, control first."""
    live = {key for one in reading.sets_of(policy) for key in one.get("shares") or {}}
    return [str(item["key"]) for item in reading.variants(report) if item["key"] in live]


def _objective(document: Json, report: Json, policy: Json) -> words.Metric:
    settings = cast("Json", policy.get("policy") or {})
    key = str(settings.get("objective") or report.get("objective") or "margin_per_unit")
    return reading.metric_words(document, str(report.get("unit") or "visitor"), key)

"""The pooled model's last result: how variants do in each segment when segments inform each other."""

from typing import Any, TypeAlias, cast

import streamlit as st

from dashboard import markup, reading, words
from dashboard.client import Client

Json: TypeAlias = dict[str, Any]

_TITLE = "By segment, all at once: the pooled model"
_NOTE = (
    "Each variant's change against control in each segment. Segments inform each other: one with few "
    "visitors is drawn toward what the others show, by as much as its own data is thin. Below: where the "
    "change lies with 95 %, and plain, what the segment's own data show."
)
_METRICS = ("margin_per_unit", "revenue_per_unit", "conversion_rate")
_SHOWN = 12
_REASONS = {
    "r_hat": "The sampler's runs disagree.",
    "ess_bulk": "Too few independent draws for the means.",
    "ess_tail": "Too few independent draws for the ends of the intervals.",
    "divergences": "The sampler could not follow the shape of the answer.",
    "prior_predictive": "The data lie outside what the model thought possible beforehand.",
    "posterior_predictive": "Data drawn from the fitted model look different from the real data.",
}
"""What a refusal means, where its own sentence is the statistician's."""

_ENDED = {
    "queued": "It waits for its turn.",
    "running": "It is being fitted.",
    "failed": "The last fit ended without a result.",
    "cancelled": "The last fit was cancelled.",
}


def last(client: Client, experiment: str) -> tuple[Json, Json]:
    """(the newest analysis, the newest with figures), either empty; figures are fetched once.

    While the newest has no figures of its own, an earlier one stands in; but for a refused one none does.
    """
    found = client.analyses(experiment)
    newest = found[-1] if found else {}
    if newest.get("state") == "refused":
        return client.analysis(experiment, str(newest["id"])), {}
    done = next((one for one in reversed(found) if one.get("state") == "done"), None)
    if done is None:
        return newest, {}
    place = f"analysis-{experiment}"
    kept = cast("Json", st.session_state.get(place) or {})
    if kept.get("id") != done.get("id"):
        kept = client.analysis(experiment, str(done["id"]))
        st.session_state[place] = kept
    return newest, kept


def section(document: Json, report: Json, newest: Json, done: Json) -> None:
    """State of the newest fit, then the figures; nothing where none was ever asked for."""
    if not newest:
        return
    result = cast("Json", done.get("result") or {})
    st.html(markup.heading(_TITLE, _NOTE if result else ""))
    said = state_words(newest)
    if said:
        st.html(markup.hints(said))
    if not result:
        return
    metric = _metric(report, result)
    control, unit = reading.control_key(report), str(report.get("unit") or "visitor")
    keys = [str(one["key"]) for one in result.get("variants") or [] if one["key"] != control]
    about = reading.metric_words(document, unit, metric)
    ended = words.instant(str(done.get("ended_at") or ""))
    when = [markup.fact("Shown", f"change in {about.label.lower()}"), markup.fact("Fitted", ended)]
    st.html(markup.facts(when))
    st.html(markup.table(["Segment", *keys], segment_rows(about, keys, result, metric, unit)))
    notes = [str(note) for note in result.get("notes") or []]
    files = cast("Json", result.get("files") or {})
    if files:
        notes.append(
            f"All draws, on the service's machine: {files.get('netcdf')} (ArviZ) and {files.get('parquet')}. "
            f"GET /v1/experiments/{done.get('experiment')}/analyses/{done.get('id')}/draws.nc "
            "and .../draws.parquet send them; docs/pooled.ipynb opens both."
        )
    st.html(
        markup.block("".join(f'<div class="muted small rl-path">{markup.text(one)}</div>' for one in notes))
    )


def state_words(newest: Json) -> list[str]:
    """What to know of the newest fit when it has no figures; nothing when it has."""
    state = str(newest.get("state"))
    reasons = cast("list[Json]", newest.get("reasons") or [])
    if state == "refused":
        is_misfit = any(reason.get("code") in _REASONS for reason in reasons)
        why = ": the model does not hold for these data." if is_misfit else "."
        return [f"The last fit was refused, so there are no figures{why}", *_by_code(reasons)]
    if state in _ENDED:
        return [_ENDED[state], *_by_code(reasons)]
    return []


def segment_rows(
    about: words.Metric, keys: list[str], result: Json, metric: str, unit: str
) -> list[list[str]]:
    """All, then the segments with most units: each variant's change, P(better) and the plain change."""
    segments = cast("dict[str, list[Json]]", result.get("segments") or {})
    largest = sorted(segments, key=lambda key: (-_units(segments[key]), key))[:_SHOWN]
    found = [("All segments", cast("list[Json]", result.get("variants") or []))]
    if len(segments) > 1:
        found += [(words.segment(key), segments[key]) for key in largest]
    currency = str(result.get("currency") or "")
    rows: list[list[str]] = []
    for name, variants in found:
        by_key = {str(one.get("key")): one for one in variants}
        row = [markup.cell(name, [f"{words.count(round(_units(variants)))} {unit}s"])]
        row += [
            _cell(about, by_key[key], metric, currency) if key in by_key else markup.cell("–") for key in keys
        ]
        rows.append(row)
    return rows


def _cell(about: words.Metric, variant: Json, metric: str, currency: str) -> str:
    block = reading.block(variant, metric)
    lift = reading.interval(block.get("lift_abs"))
    if lift.value is None or lift.low is None or lift.high is None:
        return markup.why_cell("not_comparable")
    low, high = (words.change(end, about.scale, currency) for end in (lift.low, lift.high))
    subs = [f"{low} to {high}"]
    better = reading.number(block.get("prob_beats_control"))
    if better is not None:
        subs.append(f"P(beats control) {words.probability(better)}")
    raw = reading.number(cast("Json", block.get("lift_abs") or {}).get("raw"))
    if raw is not None:
        subs.append(f"plain {words.change(raw, about.scale, currency)}")
    return markup.cell(words.change(lift.value, about.scale, currency), subs)


def _metric(report: Json, result: Json) -> str:
    """The objective where the model has it, else the first of those that decide."""
    there = {key for one in result.get("variants") or [] for key in one.get("metrics") or {}}
    wanted = (str(report.get("objective") or ""), *_METRICS)
    return next((key for key in wanted if key in there), _METRICS[-1])


def _by_code(reasons: list[Json]) -> list[str]:
    """A line for each kind of reason, in plain words first."""
    details: dict[str, list[str]] = {}
    for reason in reasons:
        details.setdefault(str(reason.get("code")), []).append(str(reason.get("detail") or ""))
    return [
        " ".join([*([_REASONS[code]] if code in _REASONS else []), *map(words.sentence, said)])
        for code, said in details.items()
    ]


def _units(variants: list[Json]) -> float:
    return sum(reading.number(one.get("units")) or 0.0 for one in variants)

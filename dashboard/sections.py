"""The sections of the experiment page: each takes the service's JSON and draws one block."""

from typing import Any, TypeAlias, cast

import altair as alt
import streamlit as st

from dashboard import causes, charts, headline, learning, markup, reading, words
from dashboard.notices import Notice

Json: TypeAlias = dict[str, Any]

_GUARDRAILS_PER_ROW = 3
_SHARE_HEADS = {"segment": "Share, all together", "contextual": "Average share"}
_SHARE_NOTES = {
    "segment": "Of everybody whose segment has no shares of its own; those of the segments stand above.",
    "contextual": "Averaged over all visitors: what one of them meets depends on the context, as told above.",
}


def notice(message: Notice) -> None:
    """A calm message: what is the matter, what to do, the command to run."""
    with st.container(border=True):
        st.html(markup.heading(message.title) + markup.block(f"<p>{markup.text(message.advice)}</p>"))
        for command in message.commands:
            st.code(command, language="bash", wrap_lines=True)
        if message.detail:
            st.html(markup.block(f'<span class="muted small">{markup.text(message.detail)}</span>'))


def overview(experiment: Json, report: Json, policy: Json) -> None:
    """The experiment's state and how much it has seen."""
    document = cast("Json", experiment.get("document") or {})
    unit = _unit(report)
    parts = [markup.badge(str(experiment.get("state") or "draft"))]
    parts.append(markup.fact(f"{unit.capitalize()}s assigned", words.count(report.get("units_assigned"))))
    parts.append(markup.fact("Exposed", words.count(report.get("units_exposed"))))
    parts.append(markup.fact("Policy", _policy_words(document, policy, unit)))
    parts.append(
        markup.fact("Window", str(report.get("window") or document.get("attribution_window") or "–"))
    )
    if report.get("folded_through"):
        parts.append(markup.fact("Data until", words.instant(str(report["folded_through"]))))
    hypothesis = str(document.get("hypothesis") or "")
    st.html(
        markup.facts(parts)
        + (markup.block(f'<div class="muted">{markup.text(hypothesis)}</div>') if hypothesis else "")
    )


def headlines(document: Json, report: Json, variant: str) -> None:
    """The three cards: order value, take rate, margin per unit."""
    control = reading.control_key(report) or ""
    found = [
        headline.card(
            metric,
            reading.metric_words(document, _unit(report), metric),
            reading.reading(reading.variant(report, variant), metric),
            reading.reading(reading.variant(report, control), metric),
            str(report.get("currency") or ""),
        )
        for metric in reading.HEADLINES
    ]
    st.html(markup.heading(f"Headline: {variant} against {control}") + markup.cards(found))


def guardrails(document: Json, report: Json, variant: str) -> None:
    """Each guardrail of the variant: state, change, and the posterior against the margins."""
    own = reading.guardrails(report, variant)
    note = (
        "The hill is where the change against control probably lies. Beyond “throttle” a variant is "
        "capped at its floor, beyond “kill” it is taken out."
    )
    st.html(markup.heading(f"Guardrails: what {variant} must not make worse", note if own else ""))
    if not own:
        st.html(
            markup.block('<span class="muted">The document of this experiment sets no guardrails.</span>')
        )
    for start in range(0, len(own), _GUARDRAILS_PER_ROW):
        places = st.columns(_GUARDRAILS_PER_ROW)
        for place, guardrail in zip(places, own[start : start + _GUARDRAILS_PER_ROW], strict=False):
            with place.container(border=True):
                _guardrail(document, report, guardrail)
    others = reading.troubled(report, but=variant)
    if others:
        parts = [_trouble(document, report, item) for item in others]
        st.html(markup.facts(['<span class="muted">Other variants:</span>', *parts]))


def table(experiment: Json, report: Json, policy: Json, lead: str | None) -> None:
    """Every variant with its share, its units and the metrics that matter most."""
    unit, currency = _unit(report), str(report.get("currency") or "")
    document = cast("Json", experiment.get("document") or {})
    states = {str(item.get("key")): str(item.get("state")) for item in experiment.get("variants") or []}
    described = [reading.metric_words(document, unit, metric) for metric in reading.COLUMNS]
    rows: list[list[str]] = []
    leader: int | None = None
    for number, item in enumerate(reading.variants(report)):
        is_control = bool(item.get("is_control"))
        share = item.get("share")
        key = str(item.get("key"))
        row = [markup.variant_cell(key, states.get(key, "active"), is_control=is_control)]
        row.append(markup.cell("–" if share is None else words.percent(float(share))))
        row += [markup.cell(words.count(item.get(name))) for name in ("assigned", "exposed")]
        row += [
            markup.metric_cell(reading.reading(item, metric), about.scale, currency, is_control=is_control)
            for metric, about in zip(reading.COLUMNS, described, strict=True)
        ]
        rows.append(row)
        leader = number if key == lead else leader
    share_head = _SHARE_HEADS.get(reading.policy_kind(policy), "Share")
    head = ["Variant", share_head, "Assigned", "Exposed", *(about.label for about in described)]
    st.html(
        markup.heading("All variants", f"Under each figure its {_level(report)} credible interval.")
        + markup.table(head, rows, leader)
    )


def over_time(document: Json, report: Json, policy: Json, changes: list[Json]) -> None:
    """Shares and P(best) as steps, one per policy version; then what caused them."""
    order = [str(item["key"]) for item in reading.variants(report)]
    control, until = reading.control_key(report), report.get("generated_at")
    shares = reading.share_rows(policy, str(until) if until else None)
    best = reading.share_rows(policy, str(until) if until else None, "prob_best")
    kind = reading.policy_kind(policy)
    of_whom = {"segment": ", all together", "contextual": ", on average"}.get(kind, "")
    marks = causes.notable(causes.told(document, policy, changes))
    left, right = st.columns(2)
    with left:
        note = _SHARE_NOTES.get(kind, "How much of the traffic each variant gets.")
        note += " A thin line marks what somebody or a rule did: point at it."
        st.html(markup.heading(f"Shares over time{of_whom}", note))
        empty = "No policy version has been published yet."
        _steps(shares, order, control, "Share of traffic", empty, marks)
    with right:
        note = "How probable it is that each variant is the best one."
        st.html(markup.heading(f"P(best) over time{of_whom}", note))
        _steps(
            best, order, control, "P(best)", "P(best) appears once shares follow the results, after burn-in."
        )
    causes.section(document, report, policy, changes)
    learning.exploration(policy)


def enrolments(report: Json) -> None:
    """Enrolments per day by variant."""
    st.html(markup.heading(f"{_unit(report).capitalize()}s enrolled per day"))
    rows = reading.day_rows(report)
    if rows:
        order = [str(item["key"]) for item in reading.variants(report)]
        chart = charts.enrolments(rows, order, reading.control_key(report))
        _draw(chart, "enrolments", "Stacked bars: units enrolled per day by variant")
    else:
        st.html(markup.block('<span class="muted">Nobody yet.</span>'))


def every_metric(document: Json, report: Json) -> None:
    """All metrics of all variants, folded away."""
    with st.expander("Every metric of every variant"):
        unit, currency = _unit(report), str(report.get("currency") or "")
        found = reading.variants(report)
        rows: list[list[str]] = []
        for metric in reading.metric_keys(report):
            about = reading.metric_words(document, unit, metric)
            row = [markup.cell(about.label, [metric])]
            row += [
                markup.full_cell(
                    reading.reading(item, metric),
                    about.scale,
                    currency,
                    is_control=bool(item.get("is_control")),
                )
                for item in found
            ]
            rows.append(row)
        note = "“Plain”: not corrected for shares that changed. “Capped”: the largest totals cut to the cap."
        st.html(markup.block(f'<div class="muted small">{note}</div>'))
        st.html(markup.table(["Metric", *(str(item.get("key")) for item in found)], rows))


def _guardrail(document: Json, report: Json, guardrail: Json) -> None:
    metric = str(guardrail.get("metric"))
    about = reading.metric_words(document, _unit(report), metric)
    st.html(headline.guardrail(about, guardrail, str(report.get("currency") or "")))
    chart = charts.density(guardrail, about, str(report.get("currency") or ""))
    if chart is not None:
        _draw(
            chart,
            f"density-{guardrail.get('variant')}-{metric}",
            f"Posterior of the change in {about.label.lower()} against control, with the margins",
        )


def _trouble(document: Json, report: Json, guardrail: Json) -> str:
    about = reading.metric_words(document, _unit(report), str(guardrail.get("metric")))
    who = f"{guardrail.get('variant')}, {about.label.lower()}"
    return f"{markup.text(who)} {markup.badge(str(guardrail.get('state')))}"


def _steps(
    rows: list[Json],
    order: list[str],
    control: str | None,
    title: str,
    empty: str,
    marks: list[Json] | None = None,
) -> None:
    if rows:
        _draw(
            charts.steps(rows, order, control, title=title, marks=marks or []),
            title,
            f"Step lines over time: {title} by variant",
        )
    else:
        st.html(markup.block(f'<span class="muted">{markup.text(empty)}</span>'))


def _draw(chart: alt.Chart | alt.LayerChart, key: str, description: str) -> None:
    st.altair_chart(chart.properties(description=description), width="stretch", key=f"chart-{key}")


def _policy_words(document: Json, policy: Json, unit: str) -> str:
    current = cast("Json", policy.get("policy") or document.get("policy") or {})
    kind = str(current.get("kind") or "fixed")
    version = policy.get("policy_version")
    after = f", version {version}" if version is not None else ""
    if kind == "fixed":
        return f"fixed shares{after}"
    objective = words.metric(str(current.get("objective") or "margin_per_unit"), unit).label.lower()
    return f"{words.POLICIES.get(kind, words.spoken(kind) + ' on')} {objective}{after}"


def _level(report: Json) -> str:
    found = [item for item in reading.variants(report) if item.get("metrics")]
    level = reading.reading(found[0], reading.COLUMNS[0]).ci_prob if found else 0.95
    return words.percent(level, places=0)


def _unit(report: Json) -> str:
    return str(report.get("unit") or "visitor")

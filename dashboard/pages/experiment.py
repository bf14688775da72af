"""The page of one experiment: whether its offers earn money and are safe to go on with.

The whole page is one fragment that repeats itself, so that a refresh keeps every choice. Everything is
fetched before it is drawn: a page never shows half of one moment and half of another.
"""

import os
from collections import Counter
from typing import Any, TypeAlias, cast

import streamlit as st

from dashboard import (
    assumptions,
    estimates,
    markup,
    notices,
    pooled,
    reading,
    record,
    refunds,
    sections,
    trust,
    verdicts,
    where,
)
from dashboard.client import Client, ServiceError

Json: TypeAlias = dict[str, Any]

REFRESH_SECONDS = 5
DEFAULT_URL = "http://127.0.0.1:8000"

_STATE_ORDER = ("running", "paused", "stopped", "draft", "archived")
_COLUMNS = (3, 3, 2, 2)  # the same for title and filters, so that the switches stand in line
_ALL = "All visitors"
_LEADING = "Leading now"  # never a variant's key: those hold no space and no capital
_MATURED_HELP = (
    "On: only units whose attribution window has closed, so that every variant had the same time to sell. "
    "Off: everyone so far; a variant whose share has just grown then has younger units and reads too low."
)


def render() -> None:
    """Draw the page, and again every few seconds unless that is switched off."""
    st.html(markup.STYLESHEET)
    columns = st.columns(_COLUMNS, vertical_alignment="center")
    columns[0].html(markup.page_title("Rialto", "Which offer earns money, and is it safe?"))
    live = columns[-1].toggle(f"Refresh every {REFRESH_SECONDS} s", value=True, key="live")
    tongue = verdicts.language(columns[-2])
    st.fragment(_page, run_every=REFRESH_SECONDS if live else None)(tongue)


def _page(tongue: str) -> None:
    url, key = os.environ.get("RIALTO_URL") or DEFAULT_URL, os.environ.get("RIALTO_KEY") or ""
    if not key:
        sections.notice(notices.no_key(url))
        return
    try:
        with Client(url, key) as client:
            _choose(client, tongue)
    except ServiceError as error:
        sections.notice(notices.of_error(error, url))


def _choose(client: Client, tongue: str) -> None:
    experiments = sorted(client.experiments(), key=_order)
    if not experiments:
        sections.notice(notices.no_experiments())
        return
    columns = st.columns(_COLUMNS, vertical_alignment="bottom")
    chosen = _chosen_experiment(columns[0], _names(experiments))
    experiment = next((item for item in experiments if item["key"] == chosen), experiments[0])
    key, document = str(experiment["key"]), cast("Json", experiment.get("document") or {})
    if experiment.get("state") == "draft":
        st.html(markup.facts([markup.badge("draft"), markup.fact("Experiment", key)]))
        sections.notice(notices.not_started(key))
        return
    segment = _chosen_segment(key)
    matured = columns[3].toggle(
        "Matured only", value=not _is_fixed(document), key=f"matured-{key}", help=_MATURED_HELP
    )
    report, policy = client.report(key, segment=segment, matured=matured), _policy(client, key)
    changes, fits = client.guardrail_changes(key), pooled.last(client, key)
    _offer_segments(columns[2], report, key)
    sections.overview(experiment, report, policy)
    if not report.get("units_assigned"):
        empty = matured or segment is not None
        window = str(report.get("window") or "")
        sections.notice(
            notices.nothing_selected(window, matured, segment)
            if empty
            else notices.no_data(key, str(document.get("touchpoint") or ""))
        )
        return
    variant = _variant(columns[1], report, key)
    verdicts.section(report, policy, variant, tongue=tongue, fixed=_is_fixed(document))
    if variant is not None:
        _of_variant(document, report, variant)
    trust.section(report, policy)
    _of_all(experiment, report, policy, variant, changes)
    pooled.section(document, report, *fits)
    sections.every_metric(document, report)


def _of_variant(document: Json, report: Json, variant: str) -> None:
    sections.headlines(document, report, variant)
    sections.guardrails(document, report, variant)
    estimates.section(document, report, variant)
    assumptions.section(document, report, variant)
    refunds.section(document, report, variant)


def _of_all(experiment: Json, report: Json, policy: Json, variant: str | None, changes: list[Json]) -> None:
    document = cast("Json", experiment.get("document") or {})
    if document.get("guardrails") or changes:
        record.changes(document, report, changes)
    where.section(document, report, policy)
    sections.over_time(document, report, policy, changes)
    sections.table(experiment, report, policy, variant)
    sections.enrolments(report)


def _is_fixed(document: Json) -> bool:
    return (document.get("policy") or {}).get("kind", "fixed") == "fixed"


def _chosen_experiment(place: Any, names: dict[str, str]) -> str:
    def name_of(key: str) -> str:
        return names.get(key, key)

    return str(place.selectbox("Experiment", list(names), format_func=name_of, key="experiment"))


def _policy(client: Client, key: str) -> Json:
    """The policy with all versions, which are fetched again only when there is a new one."""
    policy, place = client.policy(key), f"versions-{key}"
    number, versions = st.session_state.get(place, (None, []))
    if number is None or number != policy.get("policy_version"):
        whole = client.policy(key, every_version=True)
        number, versions = whole.get("policy_version"), whole.get("versions") or []
        st.session_state[place] = (number, versions)
    return {**policy, "versions": versions}


def _chosen_segment(experiment: str) -> str | None:
    """The segment chosen at the last run of the page: the report is asked for before the box is drawn."""
    chosen = st.session_state.get(f"segment-{experiment}", _ALL)
    return None if chosen in (None, _ALL) else str(chosen)


def _offer_segments(place: Any, report: Json, experiment: str) -> None:
    segments = [str(segment) for segment in report.get("segments") or []]
    if segments:
        place.selectbox("Segment", [_ALL, *segments], key=f"segment-{experiment}")


def _variant(place: Any, report: Json, experiment: str) -> str | None:
    """The variant to read: the leading one, which may change from refresh to refresh, or a chosen one."""
    leader = reading.leading(report, str(report.get("objective") or "margin_per_unit"))
    if leader is None:
        return None

    options = [_LEADING, *reading.treatments(report)]
    chosen = str(place.selectbox("Variant", options, key=f"variant-{experiment}"))
    return leader if chosen == _LEADING else chosen


def _order(experiment: Json) -> tuple[int, str]:
    state = str(experiment.get("state"))
    place = _STATE_ORDER.index(state) if state in _STATE_ORDER else len(_STATE_ORDER)
    return place, str(experiment.get("key"))


def _names(experiments: list[Json]) -> dict[str, str]:
    """Key -> label, each label once and free of what may change between two refreshes, such as the state.

    A box knows its choice by the label alone: with another label the choice would be lost, or shown wrong.
    """
    names = {str(item["key"]): str((item.get("document") or {}).get("name") or "") for item in experiments}
    count = Counter(names.values())
    return {
        key: name if name and count[name] == 1 else f"{name} ({key})" if name else key
        for key, name in names.items()
    }

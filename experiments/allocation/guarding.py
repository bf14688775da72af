"""Guardrail states as the allocator keeps them: who is capped at the floor, who is killed.

States are sticky (`analysis.guardrails.next_state`); a kill ends a variant until a person resumes it,
and after that takes fresh evidence.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from experiments.allocation.published import PolicyVersion
from experiments.analysis.cohorts import Cohorts
from experiments.analysis.guardrails import KILL_UNITS, GuardrailState, guardrail_report
from experiments.analysis.metrics import metric_definitions
from experiments.analysis.reading import is_adaptive, read_metric
from experiments.analysis.report import GuardrailReport
from experiments.model import Experiment
from experiments.statistics import Cell


@dataclass(frozen=True, slots=True)
class Guarded:
    """What the guardrails demand of the shares now, and the entries that explain it."""

    entries: Sequence[Mapping[str, Any]] = ()
    capped: Mapping[str, float] = field(default_factory=dict)
    killed: frozenset[str] = frozenset()


def guard(
    experiment: Experiment,
    cells: Sequence[Cell],
    active: frozenset[str],
    before: Sequence[Mapping[str, Any]],
    last: PolicyVersion,
    *,
    time_zone: str,
    now: datetime,
) -> Guarded:
    """The next state of every guardrail of every treatment.

    `before` are the entries of the last version. A variant that was killed and is active again was
    resumed by a person: its kill needs 1,000 more units than it had then.
    """
    known = {(entry["metric"], entry["variant"]): entry for entry in before}
    reports = _reports(experiment, cells, active, known, last, time_zone, now)
    entries = [_entry(report, known.get((report.metric, report.variant)), active) for report in reports]
    throttled = {e["variant"] for e in entries if e["state"] == GuardrailState.THROTTLE} & active
    killed = {e["variant"] for e in entries if e["state"] == GuardrailState.KILL} & active
    capped = dict.fromkeys(sorted(throttled - killed), experiment.policy.floor)
    return Guarded(entries, capped, frozenset(killed))


def _reports(
    experiment: Experiment,
    cells: Sequence[Cell],
    active: frozenset[str],
    known: Mapping[tuple[str, str], Mapping[str, Any]],
    last: PolicyVersion,
    time_zone: str,
    now: datetime,
) -> list[GuardrailReport]:
    adaptive = is_adaptive(experiment)
    cohorts = Cohorts(cells, only_matured=adaptive, time_zone=time_zone, now=now)
    definitions = metric_definitions(experiment)
    reports: list[GuardrailReport] = []
    for guardrail in experiment.guardrails:
        definition = definitions[guardrail.metric]
        cohort = cohorts.of(definition.horizon)
        reading = read_metric(experiment, cohort, definition, by_epoch=adaptive, seed=last.number)
        for variant in experiment.variants:
            if variant.is_control:
                continue
            entry = known.get((guardrail.metric, variant.key))
            report = guardrail_report(
                guardrail,
                reading,
                variant.key,
                cohorts.closed(definition.horizon),
                previous=_previous(entry, variant.key in active),
                is_at_floor=_is_at_floor(experiment, last, variant.key),
            )
            reports.append(report)
    return reports


def _previous(entry: Mapping[str, Any] | None, is_active: bool) -> GuardrailState:
    if entry is None:
        return GuardrailState.UNKNOWN
    state = GuardrailState(entry["state"])
    return GuardrailState.THROTTLE if state is GuardrailState.KILL and is_active else state


def _entry(
    report: GuardrailReport, before: Mapping[str, Any] | None, active: frozenset[str]
) -> dict[str, Any]:
    was_killed = before is not None and before["state"] == GuardrailState.KILL
    is_active = report.variant in active
    rearmed_at = 0 if before is None else before["rearmed_at_units"]
    if was_killed and is_active:
        rearmed_at = int(report.units_variant) + KILL_UNITS
    state = report.state
    if state == GuardrailState.KILL and is_active and report.units_variant < rearmed_at:
        state = GuardrailState.THROTTLE.value
    probs = report.prob_breach
    return {
        "metric": report.metric,
        "variant": report.variant,
        "state": GuardrailState.KILL.value if was_killed and not is_active else state,
        "prob_breach": None
        if probs is None
        else {"warn": probs.warn, "throttle": probs.throttle, "kill": probs.kill},
        "reason": report.reason,
        "units": report.units_variant,
        "rearmed_at_units": rearmed_at,
    }


def _is_at_floor(experiment: Experiment, last: PolicyVersion, key: str) -> bool:
    floor = experiment.policy.floor
    total = 1 << 32
    shares = [entry.shares[key] / total for keys, entry in last.sets.items() if key in keys]
    return bool(shares) and max(shares) <= floor + 1e-9

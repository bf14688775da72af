"""Guardrail states as the allocator keeps them: who is capped at the floor, who is killed.

States are sticky (`analysis.guardrails.next_state`); a kill ends a variant until a person resumes it,
and after that takes fresh evidence.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from experiments.allocation.published import PolicyVersion
from experiments.analysis.guardrails import KILL_UNITS, GuardrailState
from experiments.analysis.read_out import watch_guardrails
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
    reports = watch_guardrails(
        experiment,
        cells,
        time_zone=time_zone,
        now=now,
        previous={place: _previous(entry, active) for place, entry in known.items()},
        at_floor=[key for key in active if _is_at_floor(experiment, last, key)],
        seed=last.number,
    )
    entries = [_entry(report, known.get((report.metric, report.variant)), active) for report in reports]
    throttled = {e["variant"] for e in entries if e["state"] == GuardrailState.THROTTLE} & active
    killed = {e["variant"] for e in entries if e["state"] == GuardrailState.KILL} & active
    capped = dict.fromkeys(sorted(throttled - killed), experiment.policy.floor)
    return Guarded(entries, capped, frozenset(killed))


def _previous(entry: Mapping[str, Any], active: frozenset[str]) -> GuardrailState:
    """The state on record; a killed variant that is active again was resumed by a person."""
    state = GuardrailState(entry["state"])
    is_resumed = state is GuardrailState.KILL and entry["variant"] in active
    return GuardrailState.THROTTLE if is_resumed else state


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
        "margins": {
            "warn": report.margins.warn,
            "throttle": report.margins.throttle,
            "kill": report.margins.kill,
        },
        "units": report.units_variant,
        "units_control": report.units_control,
        "rearmed_at_units": rearmed_at,
    }


def _is_at_floor(experiment: Experiment, last: PolicyVersion, key: str) -> bool:
    floor = experiment.policy.floor
    total = 1 << 32
    shares = [entry.shares[key] / total for keys, entry in last.sets.items() if key in keys]
    return bool(shares) and max(shares) <= floor + 1e-9

"""Changes of guardrails and circuit breakers as rows: what changed, when, and on which numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from sqlalchemy import Connection, insert, select

from experiments.allocation.published import PolicyVersion
from service.ledger import schema

GUARDRAIL, BREAKER = "guardrail", "breaker"
_NUMBERS = ("prob_breach", "margins", "units", "units_control", "reason")


def record_changes(
    connection: Connection,
    experiment_no: int,
    version: PolicyVersion,
    before: Mapping[str, Any],
    after: Mapping[str, Any],
) -> None:
    """Insert a row for every state that differs between two versions' bodies; `version` is the later one."""
    common = {
        "experiment_no": experiment_no,
        "policy_version": version.number,
        "at_us": version.published_at_us,
        "cause": version.cause.value,
    }
    rows = [common | row for row in (*_guardrails(before, after), *_breakers(before, after))]
    if rows:
        connection.execute(insert(schema.guardrail_change), rows)


def changes_after(
    connection: Connection, experiment_no: int, change_no: int, limit: int
) -> list[dict[str, Any]]:
    """Rows of an experiment with higher numbers, oldest first."""
    table = schema.guardrail_change
    chosen = (
        select(table)
        .where(table.c.experiment_no == experiment_no, table.c.change_no > change_no)
        .order_by(table.c.change_no)
        .limit(limit)
    )
    return [
        {str(name): value for name, value in row.items()} for row in connection.execute(chosen).mappings()
    ]


def _guardrails(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    known = {(e["metric"], e["variant"]): e["state"] for e in before["guardrails"]}
    for entry in after["guardrails"]:
        was = known.get((entry["metric"], entry["variant"]), "unknown")
        if was != entry["state"]:
            numbers = {name: entry.get(name) for name in _NUMBERS}
            yield _row(GUARDRAIL, entry["metric"], entry["variant"], was, entry["state"], numbers)


def _breakers(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    known = {entry["breaker"]: entry["state"] for entry in before.get("breakers") or ()}
    for entry in after["breakers"]:
        was = known.get(entry["breaker"], "closed")
        if was != entry["state"]:
            numbers = {name: entry[name] for name in ("found", "limit", "detail")}
            yield _row(BREAKER, entry["breaker"], None, was, entry["state"], numbers)


def _row(
    kind: str, subject: str, variant: str | None, before: str, after: str, numbers: Mapping[str, Any]
) -> dict[str, Any]:
    return {
        "kind": kind,
        "subject": subject,
        "variant": variant,
        "before": before,
        "after": after,
        "numbers": dict(numbers),
    }

"""What stands in the Parquet: the columns of events and assignments, and the checksum of their rows.

A record is a tuple in the order of the columns. Money is in integer minor units. What people wrote
(comments, reasons, properties) never leaves the ledger, so that erasing a person reaches every copy of it;
nor do ids of units, for which their `unit_no` stands.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import msgspec

from service.catalogue import LiveExperiment

SCHEMA_VERSION = 1
PERSONAL_FIELDS = ("comment", "reason", "anonymous_id", "properties")
"""Of an event's body: what a person wrote or is called by. No sum reads them."""
SHARE_TOTAL = 1 << 32
NO_EXPERIMENT = "__none__"
"""The partition of events that name no decision: they may concern every experiment, and lie there once."""

Record = tuple[Any, ...]

EVENT_COLUMNS: Mapping[str, str] = {
    "event_no": "BIGINT",
    "event_id": "VARCHAR",
    "type": "VARCHAR",
    "occurred_at_us": "BIGINT",
    "received_at_us": "BIGINT",
    "is_clamped": "BOOLEAN",
    "digest": "VARCHAR",
    "order_id": "VARCHAR",
    "refund_id": "VARCHAR",
    "experiment_no": "INTEGER",
    "decision_unit_no": "BIGINT",
    "decision_period": "INTEGER",
    "amount_minor": "BIGINT",
    "cost_minor": "BIGINT",
    "currency": "VARCHAR",
    "cost_recovered_minor": "BIGINT",
    "recovered_rate_ppm": "INTEGER",
    "cart_id": "VARCHAR",
    "unit_nos": "BIGINT[]",
    "unit_kinds": "INTEGER[]",
    "body": "VARCHAR",
}

ASSIGNMENT_COLUMNS: Mapping[str, str] = {
    "unit_no": "BIGINT",
    "period": "INTEGER",
    "experiment_no": "INTEGER",
    "variant": "VARCHAR",
    "is_control": "BOOLEAN",
    "share": "BIGINT",
    "propensity": "DOUBLE",
    "candidates": "VARCHAR[]",
    "policy_version": "INTEGER",
    "epoch": "INTEGER",
    "segment": "VARCHAR",
    "is_forced": "BOOLEAN",
    "at_us": "BIGINT",
}

PERSON_COLUMNS: Mapping[str, str] = {"unit_no": "BIGINT", "person_no": "BIGINT"}


@dataclass(frozen=True, slots=True)
class ArchivedRow:
    """An event read back from the archive: what a fold reads of a row of `event`."""

    event_no: int
    event_id: str
    type: str
    occurred_at_us: int
    received_at_us: int
    is_clamped: bool
    order_id: str | None
    refund_id: str | None
    experiment_no: int | None
    decision_unit_no: int | None
    decision_period: int | None
    body: Mapping[str, Any]


ARCHIVED_ROW_COLUMNS = tuple(ArchivedRow.__slots__)


def event_record(row: Any, units: Sequence[tuple[int, int]]) -> Record:
    """The record of an event row and of the units it reaches (unit_no, kinds)."""
    body = {name: value for name, value in row.body.items() if name not in PERSONAL_FIELDS}
    reached = sorted(units)
    return (
        row.event_no,
        row.event_id,
        row.type,
        row.occurred_at_us,
        row.received_at_us,
        bool(row.is_clamped),
        bytes(row.digest).hex(),
        row.order_id,
        row.refund_id,
        row.experiment_no,
        row.decision_unit_no,
        row.decision_period,
        body.get("amount", body.get("amount_delta")),
        body.get("cost", body.get("cost_delta")),
        body.get("currency"),
        body.get("cost_recovered"),
        body.get("recovered_rate_ppm"),
        body.get("cart_id"),
        [unit_no for unit_no, _ in reached],
        [kinds for _, kinds in reached],
        json.dumps(body, sort_keys=True, ensure_ascii=False, separators=(",", ":")),
    )


def assignment_record(row: Any, live: LiveExperiment, candidates: Sequence[str]) -> Record:
    """The record of an assignment row."""
    variant = live.variant_key(row.variant_no)
    return (
        row.unit_no,
        row.period,
        row.experiment_no,
        variant,
        variant == live.experiment.control.key,
        row.share,
        row.share / SHARE_TOTAL,
        list(candidates),
        row.policy_version,
        row.epoch,
        row.segment,
        bool(row.is_forced),
        row.at_us,
    )


def archived_row(values: Sequence[Any]) -> ArchivedRow:
    """A row as it was read from Parquet by `ARCHIVED_ROW_COLUMNS`."""
    named = dict(zip(ARCHIVED_ROW_COLUMNS, values, strict=True))
    return ArchivedRow(**{**named, "body": json.loads(named["body"])})


class Checksum:
    """BLAKE2b-256 of records in their order: each as a line of compact JSON."""

    def __init__(self) -> None:
        self._hash = blake2b(digest_size=32)
        self.rows = 0

    def add(self, records: Iterable[Sequence[Any]]) -> None:
        """Take records in."""
        for record in records:
            self._hash.update(msgspec.json.encode(record) + b"\n")
            self.rows += 1

    def digest(self) -> bytes:
        """The checksum of what was taken in."""
        return self._hash.digest()

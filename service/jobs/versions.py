"""Policy versions as rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, func, insert, select

from experiments.allocation import publishing
from experiments.allocation.published import PolicyVersion
from experiments.allocation.publishing import Body
from service.catalogue import LiveExperiment
from service.ledger import schema


def publish(connection: Connection, experiment_no: int, version: PolicyVersion, body: Body) -> None:
    """Insert a version; from the next snapshot on it is served."""
    values: dict[str, Any] = {
        "experiment_no": experiment_no,
        "number": version.number,
        "epoch": version.epoch,
        "published_at_us": version.published_at_us,
        "body": body.to_json(version),
    }
    connection.execute(insert(schema.policy_version), values)


def last_body(connection: Connection, live: LiveExperiment) -> Mapping[str, Any]:
    """The body of the version that is served."""
    assert live.policy is not None
    table = schema.policy_version.c
    return connection.execute(
        select(table.body).where(
            table.experiment_no == live.experiment_no, table.number == live.policy.number
        )
    ).scalar_one()


def may_move(connection: Connection, live: LiveExperiment, last: PolicyVersion, now_us: int) -> bool:
    """Whether shares may move now."""
    table = schema.policy_version.c
    began_us: int = connection.execute(
        select(func.min(table.published_at_us)).where(
            table.experiment_no == live.experiment_no, table.epoch == last.epoch
        )
    ).scalar_one()
    return publishing.may_move(started_us=live.started_at_us or 0, epoch_began_us=began_us, now_us=now_us)

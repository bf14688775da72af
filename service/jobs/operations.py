"""What circuit breakers look at, as rows: an experiment's totals by the hour, and the service's answers."""

from __future__ import annotations

from sqlalchemy import Connection, delete, select

from experiments.allocation.breakers import HOUR_US, KEPT_US, Mark, Totals
from service.ledger import schema
from service.ledger.statements import upsert
from service.metrics import FALLBACKS, REQUESTS, Metrics

_ASSIGN = frozenset({"/v1/assign", "/v1/assign/batch"})


def marks_of(connection: Connection, experiment_no: int, now_us: int) -> list[Mark]:
    """The marks still of use, oldest first; none of the running hour, which is being noted."""
    table = schema.operations_mark
    rows = connection.execute(
        select(table)
        .where(
            table.c.experiment_no == experiment_no,
            table.c.hour >= (now_us - KEPT_US) // HOUR_US,
            table.c.hour < now_us // HOUR_US,
        )
        .order_by(table.c.hour)
    )
    return [
        Mark(
            row.at_us,
            {key: Totals(*total) for key, total in row.totals.items()},
            row.outcome,
            row.answers,
            row.fallbacks,
        )
        for row in rows
    ]


def note(connection: Connection, experiment_no: int, mark: Mark) -> None:
    """Keep a mark as its hour's, and forget those past their use."""
    table = schema.operations_mark
    totals = {key: [total.assigned, total.exposed, total.outcomes] for key, total in mark.variants.items()}
    row = {
        "experiment_no": experiment_no,
        "hour": mark.at_us // HOUR_US,
        "at_us": mark.at_us,
        "outcome": mark.outcome,
        "totals": totals,
        "answers": mark.answers,
        "fallbacks": mark.fallbacks,
    }
    upsert(connection, table, [row])
    old = (mark.at_us - KEPT_US) // HOUR_US
    connection.execute(delete(table).where(table.c.experiment_no == experiment_no, table.c.hour < old))


def answered(metrics: Metrics) -> tuple[int, int]:
    """Assign requests answered since the service began, and how many of them without the ledger.

    A batch is one request, so that of a shop that asks in batches the part is too high rather than too low;
    never more than all.
    """
    requests = fallbacks = 0.0
    for family in metrics.families():
        for labels, numbers in family.values.items():
            if family.name == FALLBACKS.name:
                fallbacks += numbers[0]
            elif family.name == REQUESTS.name and dict(labels).get("route") in _ASSIGN:
                requests += numbers[0]
    return int(requests), int(min(requests, fallbacks))

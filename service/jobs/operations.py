"""What circuit breakers look at, as rows: an experiment's totals by the hour, and the store's answers."""

from __future__ import annotations

from sqlalchemy import Connection, delete, select

from experiments.allocation.breakers import HOUR_US, KEPT_US, Mark, Totals
from service.answers import Answers, Counts
from service.ledger import schema
from service.ledger.statements import add_up, upsert


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


def answered(connection: Connection, answers: Answers, store_no: int) -> tuple[int, int]:
    """Assign requests of a store answered ever, by all services, and how many of them without the ledger.

    What other services counted in the last seconds, and have not told yet, is missing.
    """
    untold = answers.untold(store_no)
    table = schema.answer_count.c
    row = connection.execute(select(table.answers, table.fallbacks).where(table.store_no == store_no)).first()
    told = (0, 0) if row is None else (row.answers, row.fallbacks)
    return told[0] + untold[0], told[1] + untold[1]


def tell(connection: Connection, counts: Counts) -> None:
    """Add what a service has counted; those of ten seconds twice when a COMMIT's answer is lost."""
    rows = [
        {"store_no": store_no, "answers": answers, "fallbacks": fallbacks}
        for store_no, (answers, fallbacks) in sorted(counts.items())
    ]
    add_up(connection, schema.answer_count, rows)

"""What the ledger holds: what waits to be folded, how old policies are, whose clock is wrong."""

from __future__ import annotations

import time
from collections.abc import Iterator

from sqlalchemy import Connection, func, select, text

from experiments.model import Lifecycle
from service.checks.finding import Finding, bad, ok, warn
from service.ledger import marks, schema
from service.ledger.database import Database, DatabaseKind

LAG_WARN_S, LAG_FAIL_S = 60, 3600
POLICY_WARN_S = 26 * 3600
"""A version is published at least daily."""
SKEW_WARN_S, SKEW_FAIL_S = 2, 300
"""Events more than five minutes ahead are refused."""


def contents(database: Database, connection: Connection) -> Iterator[Finding]:
    """Check a ledger whose schema is this version's."""
    count, oldest_us = marks.waiting(connection)
    yield waiting(count, 0.0 if oldest_us is None else time.time() - oldest_us / 1e6)
    yield from _policies(connection)
    yield clock(_skew_s(database, connection))


def waiting(count: int, age_s: float) -> Finding:
    """Check that folding keeps up."""
    found = f"{count} changes wait, the oldest for {max(age_s, 0):.0f} s" if count else "all is folded"
    if count and age_s > LAG_FAIL_S:
        return bad("folding", found, "see whether `rialto serve` runs, and its log for a failing step")
    if count and age_s > LAG_WARN_S:
        return warn("folding", found, "start `rialto serve`, or give it time: reports fold first what waits")
    return ok("folding", found)


def clock(skew_s: float) -> Finding:
    """Check this machine's clock against the ledger's."""
    found = f"{abs(skew_s):.1f} s {'behind' if skew_s > 0 else 'ahead of'} the ledger's"
    if abs(skew_s) > SKEW_FAIL_S:
        return bad("clock", found, "set the clock (NTP): events of shops are refused as from the future")
    if abs(skew_s) > SKEW_WARN_S:
        return warn("clock", found, "set the clock: run NTP on every machine")
    return ok("clock", "agrees with the ledger's" if abs(skew_s) < 1 else found)


def _policies(connection: Connection) -> Iterator[Finding]:
    """Running experiments of real stores whose newest version is older than a day."""
    store, experiment, policy = schema.store.c, schema.experiment.c, schema.policy_version.c
    newest = func.max(policy.published_at_us)
    rows = connection.execute(
        select(experiment.key, newest)
        .join_from(schema.experiment, schema.store, store.store_no == experiment.store_no)
        .join(schema.policy_version, policy.experiment_no == experiment.experiment_no)
        .where(experiment.state == Lifecycle.RUNNING.value, store.is_simulated.is_(False))
        .group_by(experiment.experiment_no, experiment.key)
    ).all()
    old = [key for key, at_us in rows if time.time() - at_us / 1e6 > POLICY_WARN_S]
    if old:
        found = f"older than a day: {', '.join(sorted(old)[:5])}"
        yield warn("policies", found, "see whether `rialto serve` runs, and its log for a failing step")
    else:
        yield ok("policies", f"{len(rows)} experiments run, all versions of the last day")


def _skew_s(database: Database, connection: Connection) -> float:
    """How far the ledger's time is ahead of this machine's: the server's own, or its latest row."""
    if database.kind is DatabaseKind.POSTGRES:
        now = connection.execute(text("SELECT extract(epoch FROM clock_timestamp())")).scalar_one()
        return float(now) - time.time()
    store, event = schema.store.c, schema.event.c
    latest_us = connection.execute(
        select(event.received_at_us)
        .join_from(schema.event, schema.store, store.store_no == event.store_no)
        .where(store.is_simulated.is_(False))
        .order_by(event.event_no.desc())
        .limit(1)
    ).scalar()
    return max(0.0, latest_us / 1e6 - time.time()) if latest_us else 0.0

"""Whether this process should get traffic, and what is not as it should be; told in time, whatever hangs.

A process whose ledger is away goes on answering storefronts, so it stays ready, degraded: the replicas of one
database lose it together, and a balancer that then sends to none of them makes things worse.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, select, text

from experiments.model import Lifecycle
from service.hot.writer import Overloaded, WriterStopped
from service.jobs.allocator import stepped_name
from service.ledger import marks, schema
from service.ledger.database import DatabaseKind, DatabaseUnreachable, DatabaseUnusable
from service.ledger.postgres_database import LEADING, LOCKS

if TYPE_CHECKING:
    from service.context import Service

ANSWER_S = 1.0
"""How long the ledger may take to answer a read, or to commit nothing."""
FRESH_S = 1.0
"""How long what was read of the ledger holds: whoever asks more often does not make it work."""
LAG_S_MAX = 60.0
"""A fold that is behind by more shows in the reports."""
CADENCES_MAX, LATE_S_MAX = 3, 60.0
"""An allocation step is late after so many cadences and so many seconds more."""


class State(StrEnum):
    """How a part does. REFUSED: nothing can be answered rightly until somebody has seen to it."""

    OK = "ok"
    DEGRADED = "degraded"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Check:
    """One part of the service, and what to know or do about it."""

    name: str
    state: State
    detail: str


class Readiness:
    """Looks at the parts, one look at a time: what hangs holds one thread and one place in a queue."""

    def __init__(self) -> None:
        self._reading: asyncio.Future[list[Check]] | None = None
        self._read_at = 0.0
        self._writing: asyncio.Task[Check] | None = None

    async def checks(self, service: Service) -> list[Check]:
        """Every check, at the latest a little after `ANSWER_S`."""
        read, written = await asyncio.gather(self._read(service), self._written(service))
        return [*read, written, _policy_set(service)]

    async def _read(self, service: Service) -> list[Check]:
        now = time.monotonic()
        if self._reading is None or (self._reading.done() and now - self._read_at > FRESH_S):
            self._reading, self._read_at = _in_daemon(lambda: _of_ledger(service)), now
        done, _ = await asyncio.wait({self._reading}, timeout=ANSWER_S)
        if done:
            return self._reading.result()
        return [_bad("database", f"no answer within {ANSWER_S:g} s: see whether it hangs or is locked")]

    async def _written(self, service: Service) -> Check:
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(_commit(service))
        done, _ = await asyncio.wait({self._writing}, timeout=ANSWER_S)
        if done:
            return self._writing.result()
        waiting = service.writer.waiting
        return _bad(
            "writer", f"no commit within {ANSWER_S:g} s, {waiting} waiting: see who else holds the ledger"
        )


def _ok(name: str, detail: str) -> Check:
    return Check(name, State.OK, detail)


def _bad(name: str, detail: str) -> Check:
    return Check(name, State.DEGRADED, detail)


def _in_daemon(look: Callable[[], list[Check]]) -> asyncio.Future[list[Check]]:
    """Run it in a thread that nobody waits for at the end of the process."""
    loop = asyncio.get_running_loop()
    found: asyncio.Future[list[Check]] = loop.create_future()

    def tell(checks: list[Check]) -> None:
        if not found.done():
            found.set_result(checks)

    def work() -> None:
        checks = look()
        if not loop.is_closed():
            loop.call_soon_threadsafe(tell, checks)

    threading.Thread(target=work, name="readiness", daemon=True).start()
    return found


def _of_ledger(service: Service) -> list[Check]:
    """What the ledger says; never raises."""
    started = time.perf_counter()
    try:
        service.database.require_current()
        with service.database.read() as connection:
            rest = [
                _folding(connection),
                _allocation(connection, service),
                _leader(connection, service),
            ]
    except DatabaseUnreachable as error:
        return [_bad("database", str(error))]
    except DatabaseUnusable as error:
        return [Check("schema", State.REFUSED, str(error))]
    except Exception as error:  # whatever it is, the checks of memory are still worth telling
        return [_bad("database", str(error).partition("\n")[0])]
    answered = f"answered in {1000 * (time.perf_counter() - started):.0f} ms"
    return [_ok("database", answered), _ok("schema", "as this version needs it"), *rest]


def _folding(connection: Connection) -> Check:
    count, oldest_us = marks.waiting(connection)
    lag_s = 0.0 if oldest_us is None else max(time.time() - oldest_us / 1e6, 0.0)
    said = f"{count} changes wait to be folded, the oldest for {lag_s:.0f} s"
    return _ok("folder", said) if lag_s <= LAG_S_MAX else _bad("folder", f"{said}: see the leader's log")


def _allocation(connection: Connection, service: Service) -> Check:
    stepped = {row.name: row.value for row in connection.execute(select(schema.progress))}
    late = [late_s for late_s in _lateness(service, stepped) if late_s > 0]
    if late:
        said = f"{len(late)} running experiments wait for their allocation step, one for {max(late):.0f} s"
        return _bad("policy", f"{said} too long: see the leader's log")
    return _ok("policy", "every running experiment has had its allocation step")


def _lateness(service: Service, stepped: dict[str, int]) -> Iterator[float]:
    """By how many seconds each running experiment's step is late; negative when it is not."""
    for store in service.catalogue.held():
        now_us = service.now_us(store)
        for live in store.experiments.values():
            if live.state is Lifecycle.RUNNING and live.policy is not None:
                last_us = max(stepped.get(stepped_name(live.experiment_no), 0), live.policy.published_at_us)
                allowed_s = CADENCES_MAX * live.experiment.policy.cadence.total_seconds() + LATE_S_MAX
                yield (now_us - last_us) / 1e6 - allowed_s


def _leader(connection: Connection, service: Service) -> Check:
    if service.leader.is_leader:
        return _ok("leader", "this process leads")
    if service.database.kind is DatabaseKind.POSTGRES:
        held = text(
            "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND granted"
            " AND classid::bigint = :ours AND objid::bigint = :leading)"
        )
        if connection.scalar(held, {"ours": LOCKS, "leading": LEADING}):
            return _ok("leader", "another process leads")
    return _bad("leader", "nobody folds or allocates: see why no process can lead")


async def _commit(service: Service) -> Check:
    """A commit of nothing: it waits for its turn and for locks as every other."""
    started = time.perf_counter()

    def nothing(_connection: Any) -> None: ...

    try:
        await service.writer.submit(nothing)
    except (Overloaded, WriterStopped) as error:
        return _bad("writer", str(error))
    except Exception as error:
        return _bad("writer", f"cannot commit: {str(error).partition(chr(10))[0]}")
    return _ok("writer", f"commits in {1000 * (time.perf_counter() - started):.0f} ms")


def _policy_set(service: Service) -> Check:
    trouble = service.last_known.trouble
    if trouble:
        return _bad("policy_set", f"the next start without the ledger would be blind: {trouble}")
    return _ok("policy_set", "kept on disk")

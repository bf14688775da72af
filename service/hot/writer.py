"""The one writer: what is asked at one moment is decided together, committed together, then answered.

There is no fixed window: while one batch is being committed the next one gathers. A batch that fails is
taken apart, so that a request that cannot be served takes nobody else's rows with it. Jobs (changes by
people, the folder, the allocator) take turns with batches.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import Connection

from experiments.allocation.hashing import unit_hash
from service.assigning import Ask, decide_many
from service.catalogue import StoreState
from service.event_content import Arrived
from service.hot import statements
from service.hot.ledger import HotLedger, LedgerUnavailable, LostRace, Round
from service.hot.sticky import Sticky
from service.hot.waiting import Waiting
from service.metrics import Metrics
from service.recording import record_many

BATCH_MAX = 1024
"""Assignments and events decided together, unless one request alone brings more."""
ITEMS_PER_REQUEST = 8
"""Of them this many times as many may wait as requests: a queue of long lists is full much earlier."""
RACES_MAX = 5
BUSY_S = 0.5
"""After the last batch, requests are still taken to be coming for so long."""
SWEEP_S = 0.01
FALLBACK = "fallback"

Result = TypeVar("Result")
Job = Callable[[Connection], Any]
log = logging.getLogger(__name__)


class Overloaded(Exception):
    """The queue is full: try again in a moment."""


class WriterStopped(Exception):
    """The service is shutting down."""


@dataclass(slots=True, eq=False)
class _Job:
    run: Job
    after: Callable[[Any], None] | None
    done: asyncio.Future[Any]
    is_derived: bool = False  # what it writes can be made again


class Writer:
    """Everything that is written passes here, in batches and jobs."""

    def __init__(self, ledger: HotLedger, sticky: Sticky, metrics: Metrics, queue_max: int) -> None:
        self.ledger = ledger
        self.sticky = sticky
        self._metrics = metrics
        self._queue_max = queue_max
        self._queue: deque[Waiting] = deque()
        self._items = 0  # in the queue
        self._timed: dict[float, deque[Waiting]] = {}  # by deadline: in the order in which they expire
        self._jobs: deque[_Job] = deque()
        self._background: deque[_Job] = deque()
        self._not_shown: list[tuple[Any, ...]] = []  # rows of `shown`: decided, but answered too late
        self._came, self._job_came = asyncio.Event(), asyncio.Event()
        self._served_at = float("-inf")
        self._stopping = False
        self.has_refused = False  # the ledger, the last time it was written
        self._pumps: list[asyncio.Task[None]] = []
        self._upkeep: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Open the ledger and begin."""
        self._loop = asyncio.get_running_loop()
        await self.ledger.open()
        pumps = [*(self._pump_batches() for _ in range(self.ledger.batches_at_once)), self._pump_jobs()]
        self._pumps = [asyncio.create_task(pump) for pump in pumps]
        self._sweeper = asyncio.create_task(self._sweep())

    async def stop(self) -> None:
        """Finish what is queued, then stop."""
        self._stopping = True
        self._came.set()
        self._job_came.set()
        if self._pumps:
            await asyncio.gather(*self._pumps)
            self._pumps = []
            self._sweeper.cancel()
            await asyncio.gather(self._sweeper, return_exceptions=True)
            await self.ledger.close()

    @property
    def is_busy(self) -> bool:
        """Whether requests come at this time."""
        return time.monotonic() - self._served_at < BUSY_S

    @property
    def waiting(self) -> int:
        """Requests and jobs queued."""
        return len(self._queue) + len(self._jobs) + len(self._background)

    def assign(self, store: StoreState, asks: Sequence[Ask], deadline_s: float | None) -> Waiting:
        """Have requests decided: done once that is committed, or when the deadline has passed before."""
        expires_at = float("inf") if deadline_s is None else time.monotonic() + deadline_s
        waiting = Waiting(store, asks, expires_at=expires_at)
        self._enqueue(waiting)
        if deadline_s is not None:
            self._timed.setdefault(deadline_s, deque()).append(waiting)
        return waiting

    def record(self, store: StoreState, events: Sequence[Arrived]) -> Waiting:
        """Have events recorded: done once that is committed."""
        waiting = Waiting(store, events=events)
        self._enqueue(waiting)
        return waiting

    async def submit(
        self,
        run: Callable[[Connection], Result],
        *,
        background: bool = False,
        after: Callable[[Result], None] | None = None,
    ) -> Result:
        """Queue a job and wait until it is committed; its exception is raised here.

        `after` is called with the result before anything else is decided.
        """
        queue = self._background if background else self._jobs
        return await self._queued(queue, _Job(run, after, self._loop.create_future()))

    async def derive(self, run: Callable[[Connection], Result]) -> Result:
        """Queue a background job that writes what can be made again from other rows."""
        job = _Job(run, None, self._loop.create_future(), is_derived=True)
        return await self._queued(self._background, job)

    async def _queued(self, queue: deque[_Job], job: _Job) -> Any:
        self._refuse(len(queue))
        queue.append(job)
        self._job_came.set()
        return await job.done

    def forget(self, unit_nos: Collection[int] | None) -> None:
        """Units that another replica has linked or erased; None: news of some may have been missed."""
        self.sticky.forget_numbers(unit_nos)

    def forget_ids(self, store: StoreState, raw_ids: Sequence[str]) -> None:
        """Ids whose person has been erased."""
        self.sticky.forget([live.experiment_no for live in store.experiments.values()], raw_ids)
        self.ledger.forget_units([unit_hash(store.secret, raw_id) for raw_id in raw_ids])

    def _enqueue(self, waiting: Waiting) -> None:
        self._refuse(max(len(self._queue), self._items // ITEMS_PER_REQUEST))
        self._queue.append(waiting)
        self._items += waiting.size
        self._came.set()

    def _refuse(self, queued: int) -> None:
        if self._stopping:
            raise WriterStopped("the service is shutting down")
        if queued >= self._queue_max:
            raise Overloaded("too many writes are waiting")

    async def _pump_batches(self) -> None:
        while await self._has(self._queue, self._came):
            await asyncio.sleep(0)  # requests that came with the first one are of its batch
            async with self.ledger.turns:
                if self._queue:  # another pump may have been here
                    await self._serve(self._next_batch())
        if self._not_shown:
            batch = Round()
            batch.rows[statements.SHOWN_CHANGE.table] += self._not_shown
            await self.ledger.commit(batch)

    def _next_batch(self) -> list[Waiting]:
        batch = [self._queue.popleft()]
        size = batch[0].size
        while self._queue and size + self._queue[0].size <= BATCH_MAX:
            batch.append(self._queue.popleft())
            size += batch[-1].size
        self._items -= size
        return batch

    async def _pump_jobs(self) -> None:
        while await self._has(self._jobs, self._job_came) or self._background:
            # The lock is fair: a batch that waits comes between two slices of folding, and they between two.
            async with self.ledger.turns:
                await self._do((self._jobs or self._background).popleft())

    async def _has(self, queue: Collection[Any], came: asyncio.Event) -> bool:
        """Wait for something in the queue; False when it is empty and the service is stopping."""
        while not queue and not (queue is self._jobs and self._background):
            if self._stopping:
                return False
            came.clear()
            await came.wait()
        return bool(queue)

    async def _do(self, job: _Job) -> None:
        if job.done.cancelled():
            return
        try:
            run = self.ledger.run_derived if job.is_derived else self.ledger.run
            result = await run(job.run)
        except Exception as error:
            if not job.done.done():
                job.done.set_exception(error)
        else:
            if job.after is not None:
                job.after(result)
            if not job.done.done():
                job.done.set_result(result)

    async def _serve(self, batch: Sequence[Waiting]) -> None:
        """Serve what still waits: together, or one by one when that fails."""
        wanted = [waiting for waiting in batch if not waiting.is_done]
        if not wanted:
            return
        try:
            await self._together(wanted)
            self.has_refused = False
        except LedgerUnavailable as error:
            if not self.has_refused:  # one line when it begins, not one a batch
                log.error("the ledger cannot be written: %s", error)
            self.has_refused = True
            _fail(wanted, error)
        except Exception as error:
            if len(wanted) == 1:
                log.exception("a request could not be served")
                _fail(wanted, error)
                return
            for waiting in wanted:
                await self._serve([waiting])

    async def _together(self, wanted: Sequence[Waiting]) -> None:
        with self.sticky.flight() as flight:
            batch = await self._commit(wanted)
            self._metrics.observe_batch(len(wanted))
            self._served_at = time.monotonic()
            for waiting in wanted:
                self.sticky.learn(waiting.asks, waiting.decisions, flight)
        await self._forget_linked(batch, wanted)
        for waiting in wanted:
            self._answer(waiting)
        if self.ledger.is_upkeep_due and (self._upkeep is None or self._upkeep.done()):
            self._upkeep = asyncio.create_task(self._keep_up())

    async def _commit(self, wanted: Sequence[Waiting]) -> Round:
        """Decide and commit; anew, when another replica was first."""
        batch = Round()
        for races_left in reversed(range(RACES_MAX)):
            batch = Round()
            await self._decide(batch, wanted)
            late, self._not_shown = self._not_shown, []
            batch.rows[statements.SHOWN_CHANGE.table] += late
            if batch.is_empty:
                break
            started = time.perf_counter()
            try:
                await self.ledger.commit(batch)
            except LostRace:
                self._not_shown += late
                if not races_left:
                    raise
                continue
            except BaseException:
                self._not_shown += late
                raise
            self._metrics.observe_commit(time.perf_counter() - started)
            break
        return batch

    async def _decide(self, batch: Round, wanted: Sequence[Waiting]) -> None:
        """Decide and record store by store: all requests of a store share their look-ups."""
        at_us = time.time_ns() // 1000
        by_store: dict[int, list[Waiting]] = {}
        for waiting in wanted:
            by_store.setdefault(waiting.store.store_no, []).append(waiting)
        for found in by_store.values():
            store = found[-1].store  # the newest snapshot of them
            asking = [waiting for waiting in found if waiting.asks]
            if asking:
                asks = [ask for waiting in asking for ask in waiting.asks]
                decisions = iter(await decide_many(self.ledger, batch, store, asks, at_us))
                for waiting in asking:
                    waiting.decisions = [next(decisions) for _ in waiting.asks]
            telling = [waiting for waiting in found if waiting.events]
            if telling:
                events = [event for waiting in telling for event in waiting.events]
                outcomes = iter(await record_many(self.ledger, batch, store, events, at_us))
                for waiting in telling:
                    waiting.outcomes = [next(outcomes) for _ in waiting.events]

    def _answer(self, waiting: Waiting) -> None:
        """Tell who waits; what has been answered by its deadline already is put right in the ledger."""
        if not waiting.is_done:
            waiting.end()
            return
        for ask, decision in zip(waiting.asks, waiting.decisions, strict=True):
            if decision.row is not None and decision.reason == "assigned":
                self._not_shown.append((*decision.row[:3], ask.at_us, FALLBACK, False))
                self.sticky.note_shown(ask, decision, FALLBACK)

    async def _forget_linked(self, batch: Round, wanted: Sequence[Waiting]) -> None:
        """Units that have become a person's are served by its earliest enrolment from now on."""
        linked = batch.rows[statements.PERSON.table]
        if not linked:
            return
        person_nos = {person_no for _, person_no in linked}
        try:
            members = await self.ledger.lookup(statements.MEMBERS, (), person_nos)
            raw_ids = await self._raw_ids_of({unit_no for unit_no, _ in members})
        except LedgerUnavailable:  # it is committed all the same: whoever it concerns is looked up anew
            self.sticky.forget_numbers(None)
            return
        for store in {waiting.store.store_no: waiting.store for waiting in wanted}.values():
            self.sticky.forget([live.experiment_no for live in store.experiments.values()], raw_ids)
        self.sticky.overtake({unit_no for unit_no, _ in members})  # batches under way beside this one

    async def _raw_ids_of(self, unit_nos: set[int]) -> list[str]:
        return [raw_id for _, raw_id in await self.ledger.lookup(statements.RAW_IDS, (), unit_nos)]

    async def _keep_up(self) -> None:
        """The ledger's own upkeep, in jobs between the batches."""
        try:
            await self.ledger.upkeep(lambda run: self.submit(run, background=True))
        except WriterStopped:
            pass  # it is begun again at the next start
        except Exception:
            log.exception("upkeep of the ledger failed; it is tried again")

    async def _sweep(self) -> None:
        """Let go, at its deadline, whoever still waits for a decision."""
        while True:
            await asyncio.sleep(SWEEP_S)
            now = time.monotonic()
            for deadline_s, queue in list(self._timed.items()):
                while queue and (queue[0].is_done or queue[0].expires_at <= now):
                    waiting = queue.popleft()
                    if not waiting.is_done:
                        waiting.end(is_late=True)
                if not queue:
                    del self._timed[deadline_s]  # a store's deadline may be set anew


def _fail(wanted: Sequence[Waiting], error: Exception) -> None:
    for waiting in wanted:
        if not waiting.is_done:
            waiting.end(error)

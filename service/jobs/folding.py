"""Where slices are computed: in a process of its own beside the service, or in a thread.

Folding is all Python. In a thread it would have the interpreter to itself for milliseconds at a time, again
and again, and every request would wait for that. So `rialto serve` has a process for it, which reads
snapshots and hands the finished slice over; the service writes it between two batches.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
import threading
from collections import defaultdict
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING

import msgspec
from sqlalchemy import Connection

from service.archive.duck import ArchiveUnusable
from service.ledger.database import Database
from service.ledger.fold_slices import Slice, prepare
from service.ledger.kept_units import KeptUnits

if TYPE_CHECKING:
    from service.context import Service

UNITS, UNITS_BUSY = 8000, 2000
"""Units chosen at once, and while requests come: the more, the fewer are folded twice, and the longer a
request for the next waits."""
ANSWER_S = 120.0
"""How long slices may be computed, before the process is taken for stuck; some seconds are usual."""
LINE_MAX = 1 << 26
log = logging.getLogger(__name__)


class FoldRequest(msgspec.Struct):
    """What the folding process is asked: the next slices of a store."""

    store_no: int
    units: int
    per_slice: int


class FoldAnswer(msgspec.Struct):
    """The slices, none when nothing waits; or what went wrong."""

    slices: list[msgspec.Raw] = []  # each read when it is to be written: all at once hold up requests
    trouble: str | None = None
    archive: str | None = None  # what is wrong with the archive, where that is the trouble


def slices_of(
    connection: Connection, store_no: int, units: int, per_slice: int, kept: KeptUnits
) -> list[msgspec.Raw]:
    """The next slices of a store as they go from process to process."""
    return [msgspec.Raw(_encode(part)) for part in prepare(connection, store_no, units, per_slice, kept)]


_encode = msgspec.msgpack.Encoder().encode
read_slice = msgspec.msgpack.Decoder(Slice).decode


class Folding:
    """Computes slices."""

    def __init__(self, database: Database, *, in_process: bool) -> None:
        self._database = database
        self._in_process = in_process
        self._turns: defaultdict[int, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._asking = asyncio.Lock()
        self._kept = KeptUnits()  # of the thread
        self._in_thread = threading.Lock()  # held on by a read that nobody waits for any more
        self._process: asyncio.subprocess.Process | None = None
        self._killed: list[asyncio.subprocess.Process] = []  # and not yet seen to have ended

    def turn(self, store_no: int) -> AbstractAsyncContextManager[object]:
        """Held while a store is folded: two who do so at once would compute the same."""
        return self._turns[store_no]

    async def prepare(self, service: Service, store_no: int) -> list[msgspec.Raw]:
        """The next slices of a store, for `read_slice`, computed on a snapshot; none when nothing waits."""
        writer = service.writer
        busy, idle = writer.ledger.slice_units
        sizes = (UNITS_BUSY, busy) if writer.is_busy else (UNITS, idle)
        if not self._in_process:
            return await service.read(lambda connection: self._slices_of(connection, store_no, *sizes))
        async with self._asking:
            answer = await self._ask(FoldRequest(store_no, *sizes))
        if answer.archive is not None:
            raise ArchiveUnusable(answer.archive)
        if answer.trouble is not None:
            raise RuntimeError(f"folding failed: {answer.trouble}")
        return answer.slices

    def _slices_of(
        self, connection: Connection, store_no: int, units: int, per_slice: int
    ) -> list[msgspec.Raw]:
        with self._in_thread:
            return slices_of(connection, store_no, units, per_slice, self._kept)

    async def _ask(self, request: FoldRequest) -> FoldAnswer:
        process = self._process
        if process is None or process.returncode is not None:
            process = self._process = await self._start()
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(msgspec.json.encode(request) + b"\n")
            await process.stdin.drain()
            async with asyncio.timeout(ANSWER_S):
                length = int.from_bytes(await process.stdout.readexactly(8), "big")
                return msgspec.msgpack.decode(await process.stdout.readexactly(length), type=FoldAnswer)
        except BaseException:
            # Cut short, it may have half an answer in the pipe: the next request gets a new process.
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            self._killed.append(process)
            self._process = None
            raise

    async def _start(self) -> asyncio.subprocess.Process:
        self._killed = [killed for killed in self._killed if killed.returncode is None]
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "service.jobs.fold_process"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=LINE_MAX,
        )
        assert process.stdin is not None
        # Not among the arguments, which anybody on the machine may read: it may hold a password.
        process.stdin.write(msgspec.json.encode(self._database.url) + b"\n")
        return process

    async def close(self) -> None:
        """End the process: it does so when nobody is there to ask it."""
        for killed in self._killed:
            with contextlib.suppress(TimeoutError):  # it waits for a disk
                await asyncio.wait_for(killed.wait(), 5)
        process, self._process = self._process, None
        if process is not None and process.stdin is not None:
            process.stdin.close()
            try:
                await asyncio.wait_for(process.wait(), 5)
            except TimeoutError:
                process.kill()
                await process.wait()

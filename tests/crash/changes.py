"""What is done to a service before it is killed: all that these tests know of its inside stands here.

Each is code that runs in the service's process before it starts (`tests.launched`). COMMIT is held open, so
that a kill falls between the last row and its commit wherever the code would let it, and folding is held in
the middle of its writes. The hasty one answers before it commits: the control that the tests must catch.
"""

from __future__ import annotations

from pathlib import Path

HELD_SQLITE = """
import time
from service.hot.sqlite import SqliteLedger

commit = SqliteLedger._commit

def held(self):
    time.sleep(0.03)
    commit(self)

SqliteLedger._commit = held
"""
HELD_POSTGRES = """
import asyncio
from service.hot.postgres import PostgresLedger

append = PostgresLedger._append

async def held(self, connection, batch):
    async with connection.transaction():
        await append(self, connection, batch)
        await asyncio.sleep(0.03)

PostgresLedger._append = held
"""
SLOW_TO_HEAR = """
import asyncio
from service.hot.postgres import PostgresLedger

commit = PostgresLedger.commit

async def heard_late(self, batch):
    await commit(self, batch)
    await asyncio.sleep(0.03)  # as on a busy machine: other news is read first

PostgresLedger.commit = heard_late
"""
HASTY_SQLITE = """
import asyncio
import time
from service.hot.sqlite import SqliteLedger

run = SqliteLedger.run

async def committed(self):
    if getattr(self, "late", None) is not None:
        await self.late

async def hasty(self, batch):
    await committed(self)
    self._append(batch)
    self.units.add((key, unit_no) for (_, key), unit_no in batch.units.items())
    for experiment_no, sets in batch.sets.items():
        self._sets[experiment_no].update(sets)

    def commit_late():
        time.sleep(0.15)
        self._commit()

    self.late = asyncio.ensure_future(self._in_thread(commit_late))

async def run_after(self, job):
    await committed(self)
    return await run(self, job)

SqliteLedger.commit = hasty
SqliteLedger.run = run_after
"""
HASTY_POSTGRES = """
import asyncio
from service.hot.postgres import PostgresLedger

commit = PostgresLedger.commit
late = set()

async def hasty(self, batch):
    async def commit_late():
        await asyncio.sleep(0.15)
        await commit(self, batch)

    late.add(asyncio.ensure_future(commit_late()))

PostgresLedger.commit = hasty
"""
_HELD_FOLD = """
import time
from pathlib import Path
from service.ledger import fold_slices

marker = Path({marker!r})
marker.unlink(missing_ok=True)
write_cells = fold_slices.write_cells

def held_fold(connection, changes):
    numbers = write_cells(connection, changes)
    marker.touch()  # the marks are gone and the cells moved, the totals not yet, nothing committed
    time.sleep(0.05)
    marker.unlink()
    return numbers

fold_slices.write_cells = held_fold
"""
FOLD_IN_THREAD = """
from service.jobs.folding import Folding

make = Folding.__init__

def in_thread(self, database, *, in_process):
    make(self, database, in_process=False)

Folding.__init__ = in_thread
"""
"""A folding process takes longer to start than most services live here; what it computes is written by the
service either way, and that is where a kill can do harm."""


def held_fold(marker: Path) -> str:
    """Hold folding in the middle of its writes; the file is there meanwhile."""
    return _HELD_FOLD.format(marker=str(marker))

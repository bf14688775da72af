"""The folding process: reads requests from its input, writes slices to its output, ends with its input."""

from __future__ import annotations

import gc
import os
import signal
import sys

import msgspec

from service.archive.duck import ArchiveUnusable
from service.jobs.folding import FoldAnswer, FoldRequest, slices_of
from service.ledger.database import Database
from service.ledger.kept_units import KeptUnits

COLLECT_EVERY = 256
"""Requests. What folding leaves behind holds no cycles; what else does is little."""


def main() -> None:
    """Answer until the input ends; its first line is the ledger's URL."""
    # The service ends us by closing our input, after its last answers; a Ctrl-C reaches us as well.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.nice(10)  # requests come first
    url = sys.stdin.buffer.readline()
    if not url:
        return
    database = Database(msgspec.json.decode(url, type=str))
    kept = KeptUnits()
    # Rows and facts are many and hold no cycles: looked for among them, garbage costs a third of folding.
    gc.disable()
    try:
        for number, line in enumerate(sys.stdin.buffer):
            request = msgspec.json.decode(line, type=FoldRequest)
            content = msgspec.msgpack.encode(_answer(database, request, kept))
            send(content)
            if number % COLLECT_EVERY == 0:
                gc.collect()
    finally:
        database.close()


def send(content: bytes) -> None:
    """Write an answer to standard output, whole, its length before it."""
    # Not `sys.stdout`: PYTHONUNBUFFERED makes its writes end where a stopped process goes on, and the rest of
    # the answer would be waited for in vain.
    with open(1, "wb", closefd=False) as output:
        output.write(len(content).to_bytes(8, "big") + content)


def _answer(database: Database, request: FoldRequest, kept: KeptUnits) -> FoldAnswer:
    asked = request.store_no, request.units, request.per_slice
    try:
        with database.read() as connection:
            return FoldAnswer(slices_of(connection, *asked, kept))
    except ArchiveUnusable as error:
        return FoldAnswer(archive=str(error))  # which file to put back
    except Exception as error:
        # The kind alone: a message may quote what a shopper's event holds.
        return FoldAnswer(trouble=f"{type(error).__name__} at {where_of(error)}")


def where_of(error: Exception) -> str:
    """The function and line an error comes from."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return "?" if trace is None else f"{trace.tb_frame.f_code.co_name}:{trace.tb_lineno}"


if __name__ == "__main__":
    main()

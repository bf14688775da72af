"""One thread that does what a coroutine waits for, one thing after the other."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from threading import Thread
from typing import Any, TypeVar

Result = TypeVar("Result")
_Work = tuple[Callable[[], Any], "asyncio.Future[Any]"]


class WritingThread:
    """A thread of its own: an executor hands each result on through two futures and a lock.

    That costs more than half of a small batch's statements, and every request waits for it.
    """

    def __init__(self, name: str) -> None:
        self._queue: SimpleQueue[_Work | None] = SimpleQueue()
        # Not left running at the end of a process that was cut short: it may wait for a disk for ever.
        self._thread = Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    async def run(self, call: Callable[[], Result]) -> Result:
        """Have it called in the thread; its result, or its exception raised here."""
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._queue.put((call, future))
        return await future

    def stop(self) -> None:
        """Let it end once it has done everything asked before."""
        self._queue.put(None)
        self._thread.join()

    def _work(self) -> None:
        while (work := self._queue.get()) is not None:
            call, future = work
            try:
                result, error = call(), None
            except BaseException as raised:  # whoever waits has it, and the thread goes on
                result, error = None, raised
            with suppress(RuntimeError):  # the loop is gone, and with it whoever waited
                future.get_loop().call_soon_threadsafe(_tell, future, result, error)
            del work, call, future, result, error  # nothing is held on to while nothing is done


def _tell(future: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
    if future.done():  # nobody waits any more
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)

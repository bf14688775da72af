"""The thread that writes: in order, its exceptions where they belong, and nothing lost by who gives up."""

from __future__ import annotations

import asyncio
import threading

import pytest

from service.hot.thread import WritingThread


def test_calls_are_done_one_after_the_other_in_one_thread() -> None:
    done: list[int] = []
    names: set[str] = set()

    def note(number: int) -> int:
        names.add(threading.current_thread().name)
        done.append(number)
        return number

    async def run() -> list[int]:
        thread = WritingThread("writes")
        found = await asyncio.gather(*(thread.run(lambda n=n: note(n)) for n in range(20)))
        thread.stop()
        return list(found)

    assert asyncio.run(run()) == done == list(range(20))
    assert names == {"writes"}


def test_an_exception_is_raised_where_it_is_waited_for_and_the_thread_goes_on() -> None:
    async def run() -> str:
        thread = WritingThread("writes")
        with pytest.raises(ZeroDivisionError):
            await thread.run(lambda: 1 // 0)
        found = await thread.run(lambda: "on")
        thread.stop()
        return found

    assert asyncio.run(run()) == "on"


def test_what_nobody_waits_for_any_more_is_done_all_the_same() -> None:
    """A COMMIT that has been asked for is not taken back; what is asked next comes after it."""
    begin = threading.Event()
    done: list[str] = []

    def first() -> None:
        begin.wait(10)
        done.append("first")

    async def run() -> None:
        thread = WritingThread("writes")
        given_up = asyncio.create_task(thread.run(first))
        await asyncio.sleep(0.01)
        given_up.cancel()
        with pytest.raises(asyncio.CancelledError):
            await given_up
        begin.set()
        await thread.run(lambda: done.append("second"))
        thread.stop()

    asyncio.run(run())
    assert done == ["first", "second"]


def test_stopping_waits_for_what_was_asked_though_the_loop_is_gone() -> None:
    begin = threading.Event()
    done: list[str] = []

    async def run() -> WritingThread:
        thread = WritingThread("writes")
        asyncio.get_running_loop().call_soon(asyncio.ensure_future, thread.run(lambda: begin.wait(10)))
        asyncio.get_running_loop().call_soon(asyncio.ensure_future, thread.run(lambda: done.append("last")))
        await asyncio.sleep(0.01)
        return thread

    thread = asyncio.run(run())
    begin.set()
    thread.stop()
    assert done == ["last"]

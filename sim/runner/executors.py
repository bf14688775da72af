"""Where replications are run: here, in processes, or on a Dask cluster. What comes out is the same.

A replication is a pure function of the settings and its number, so it does not matter where it runs, in which
order, or how often it had to be begun again because a worker was lost.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager
from multiprocessing import active_children, get_context
from typing import Any, Protocol, TypeVar

from sim.runner.errors import LostWorkers, UnknownExecutor

T = TypeVar("T")
Job = Callable[[Any, int], T]
LOST_MAX = 3
"""How often a pool of processes may break before the run is given up: something kills every one of them."""


class Executor(Protocol):
    """Runs job(settings, number) for every number, and yields results as they come, in any order."""

    def run(self, job: Job[T], settings: object, numbers: Sequence[int]) -> Iterator[T]:
        """The results; each number exactly once."""
        ...


class Serial:
    """One after the other, in this process."""

    def run(self, job: Job[T], settings: object, numbers: Sequence[int]) -> Iterator[T]:
        """The results, in the order of the numbers."""
        for number in numbers:
            yield job(settings, number)


class Processes:
    """A pool of processes; where one is lost, what it had not finished is begun again in a new pool."""

    def __init__(self, workers: int | None = None) -> None:
        self._workers = workers or os.cpu_count() or 1

    def run(self, job: Job[T], settings: object, numbers: Sequence[int]) -> Iterator[T]:
        """The results as they come."""
        left, lost = list(numbers), 0
        while left:
            try:
                for number, found in self._pass(job, settings, left):
                    left.remove(number)
                    yield found
            except BrokenProcessPool as error:
                lost += 1
                if lost > LOST_MAX:
                    raise LostWorkers(lost, len(left)) from error

    def _pass(self, job: Job[T], settings: object, numbers: list[int]) -> Iterator[tuple[int, T]]:
        # Spawned, not forked: threads of numerical libraries do not survive a fork
        others = set(active_children())
        pool = ProcessPoolExecutor(
            min(self._workers, len(numbers)), mp_context=get_context("spawn"), initializer=_leave_interrupts
        )
        try:
            running: dict[Future[T], int] = {pool.submit(job, settings, n): n for n in numbers}
            while running:
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    yield running.pop(future), future.result()
        except BaseException:
            # Nobody waits for what is running: a replication of a year takes a minute
            for worker in set(active_children()) - others:
                worker.terminate()
            raise
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


class Dask:
    """A Dask cluster: `dask://host:port` of its scheduler, `dask://local` for processes of this machine."""

    def __init__(self, address: str) -> None:
        self._address = address

    def run(self, job: Job[T], settings: object, numbers: Sequence[int]) -> Iterator[T]:
        """The results as they come; the scheduler begins again what a lost worker had not finished."""
        try:
            from distributed import as_completed
        except ImportError as error:
            raise UnknownExecutor(f"dask://{self._address}", "pip install 'rialto[dask]'") from error
        with self._client() as client:
            # One copy of the settings for each worker; results are not kept by the key of an earlier run
            shared = client.scatter(settings, broadcast=True, hash=False)
            futures = [client.submit(job, shared, n, pure=False, retries=LOST_MAX) for n in numbers]
            try:
                for future in as_completed(futures):
                    yield future.result()
            finally:
                client.cancel(futures, force=True)

    def _client(self) -> AbstractContextManager[Any]:
        from distributed import Client

        if self._address == "local":
            return Client(processes=True, threads_per_worker=1, dashboard_address=None)
        return Client(f"tcp://{self._address}")


def executor_of(name: str) -> Executor:
    """The executor of a name: serial, processes, processes:N, dask://local, dask://HOST:PORT.

    >>> isinstance(executor_of("serial"), Serial)
    True
    """
    kind, _, rest = name.partition(":")
    if name == "serial":
        return Serial()
    if kind == "processes" and (not rest or (rest.isdigit() and int(rest) > 0)):
        return Processes(int(rest) if rest else None)
    if kind == "dask" and rest.startswith("//") and len(rest) > 2:
        return Dask(rest.removeprefix("//"))
    raise UnknownExecutor(name, "serial, processes, processes:4, dask://local or dask://HOST:PORT")


def _leave_interrupts() -> None:
    """Ctrl-C is the parent's: it ends the pool, and writes what has come."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

"""Several workers on one listening socket: started, started again when they die, drained together.

Every worker is a process of its own (`worker.py`) that inherits the socket; the kernel hands each new
connection to one of them. A worker's crash costs the requests it was answering and nothing else.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from types import FrameType

import msgspec

from service.draining import STOP_SIGNALS, let_nobody_connect
from service.settings import Settings

STEADY_S = 10.0
"""A worker that lived so long is started again at once; one that did not, after a pause that doubles."""
PAUSE_S, PAUSE_S_MAX = 0.5, 30.0
GRACE_S = 1.0
"""Beyond a worker's own limit to drain, before it is killed."""

log = logging.getLogger(__name__)


class WorkerOrder(msgspec.Struct, frozen=True):
    """What a worker is told on its standard input, which then stays open as long as the supervisor lives."""

    settings: Settings
    listener: int  # the inherited socket


@dataclass(slots=True)
class _Worker:
    number: int
    process: subprocess.Popen[bytes] | None = None
    started_s: float = 0.0
    due_s: float = 0.0
    pause_s: float = PAUSE_S


def supervise(settings: Settings, listener: socket.socket) -> bool:
    """Run the workers until a signal asks for the end; whether all ended in order."""
    listener.listen()
    with tempfile.TemporaryDirectory(prefix="rialto-metrics-") as folder, _signals() as (asked, wake):
        settings = replace(settings, metrics_dir=folder)
        workers = [_Worker(number) for number in range(settings.workers)]
        try:
            while not asked:
                for worker in workers:
                    _keep_running(worker, settings, listener)
                _sleep(wake, _until_next(workers))
            return _drain(workers, listener, settings, asked, wake)
        finally:
            for process in _alive(workers):
                process.kill()
                process.wait()


def _keep_running(worker: _Worker, settings: Settings, listener: socket.socket) -> None:
    process, now = worker.process, time.monotonic()
    if process is not None and process.poll() is not None:
        lived_s = now - worker.started_s
        worker.pause_s = 0.0 if lived_s >= STEADY_S else min(max(2 * worker.pause_s, PAUSE_S), PAUSE_S_MAX)
        worker.process, worker.due_s = None, now + worker.pause_s
        fields = {"worker": worker.number, "code": process.returncode, "again_in_s": worker.pause_s}
        log.error("a worker ended by itself", extra={"fields": fields})
        _close_order(process)
    if worker.process is None and now >= worker.due_s:
        worker.process, worker.started_s = _start(worker.number, settings, listener), now


def _start(number: int, settings: Settings, listener: socket.socket) -> subprocess.Popen[bytes]:
    order = WorkerOrder(replace(settings, worker_no=number), listener.fileno())
    process = subprocess.Popen(
        [sys.executable, "-m", "service.worker"],
        stdin=subprocess.PIPE,  # the order may hold a password: it is on no command line
        pass_fds=[listener.fileno()],
        start_new_session=True,  # Ctrl-C is for the supervisor, which passes it on once
    )
    assert process.stdin is not None
    try:
        process.stdin.write(msgspec.json.encode(order) + b"\n")
        process.stdin.flush()
    except BrokenPipeError:
        log.error("worker %d ended before it began", number)
    log.info("worker started", extra={"fields": {"worker": number, "pid": process.pid}})
    return process


def _drain(
    workers: list[_Worker], listener: socket.socket, settings: Settings, asked: list[int], wake: socket.socket
) -> bool:
    """Pass the signal on and wait; a second one, or too long a wait, kills."""
    let_nobody_connect(listener)
    listener.close()  # the workers' copies go on until each has taken what waits
    ended = _alive(workers)
    for process in ended:
        process.send_signal(signal.SIGTERM)
    until = time.monotonic() + settings.drain_s + GRACE_S
    while _alive(workers) and len(asked) == 1 and time.monotonic() < until:
        _sleep(wake, 0.1)
    return not _alive(workers) and all(process.returncode == 0 for process in ended)


def _alive(workers: list[_Worker]) -> list[subprocess.Popen[bytes]]:
    return [w.process for w in workers if w.process is not None and w.process.poll() is None]


def _close_order(process: subprocess.Popen[bytes]) -> None:
    if process.stdin is not None:
        try:
            process.stdin.close()
        except BrokenPipeError:
            log.debug("the worker had not read its order")


def _until_next(workers: list[_Worker]) -> float:
    """Seconds until a worker is due to be started; its end wakes us up besides."""
    waits = [worker.due_s - time.monotonic() for worker in workers if worker.process is None]
    return max(0.0, min([1.0, *waits]))


@contextmanager
def _signals() -> Generator[tuple[list[int], socket.socket]]:
    """The stop signals received so far, and a socket that is readable when any signal came.

    Not `sigwait`: a thread of a numerical library may be the one that takes the signal.
    """
    asked: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        if number in STOP_SIGNALS:
            asked.append(number)

    wake, waker = socket.socketpair()
    wake.setblocking(False)
    waker.setblocking(False)
    numbers = (*STOP_SIGNALS, signal.SIGCHLD)
    before = {number: signal.signal(number, note) for number in numbers}
    descriptor = signal.set_wakeup_fd(waker.fileno())
    try:
        yield asked, wake
    finally:
        signal.set_wakeup_fd(descriptor)
        for number, handler in before.items():
            signal.signal(number, handler)
        wake.close()
        waker.close()


def _sleep(wake: socket.socket, seconds: float) -> None:
    readable, _, _ = select.select([wake], [], [], seconds)
    if readable:
        os.read(wake.fileno(), 4096)

"""`rialto serve` forked from a process that has imported everything already.

What is killed twenty times has to start twenty times, and importing is most of a start. Each service is a
process of its own all the same: it shares nothing with the others but the code.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.launched import Serving
from tests.processes import eventually, free_port, wait_until_ready
from tests.service.conftest import ROOT, clean_environment

_FORKING = """
import json, os, signal, sys
import service.app, service.serving
from service.entry import main

signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the dead are not waited for
for line in sys.stdin:
    order = json.loads(line)
    pid = os.fork()
    if pid == 0:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        nothing = os.open(os.devnull, os.O_RDWR)
        for number, file in ((0, nothing), (1, nothing), (2, log)):
            os.dup2(file, number)
        exec(order["changes"], {})
        main(order["arguments"])
    print(pid, flush=True)
"""


class ForkedProcess:
    """A service forked from another process than this one: as much of `Popen` as tests use."""

    def __init__(self, pid: int, args: list[str]) -> None:
        self.pid = pid
        self.args = args

    def poll(self) -> int | None:
        """None while it runs."""
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return -signal.SIGKILL
        return None

    def kill(self) -> None:
        """SIGKILL, if it still runs."""
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)

    def send_signal(self, number: int) -> None:
        """Send a signal."""
        os.kill(self.pid, number)

    def wait(self) -> None:
        """Wait until it is gone."""
        eventually(lambda: self.poll() is not None, within_s=30)


class Forkery:
    """Starts services; ends with the block that made it."""

    def __init__(self, folder: Path, parent: subprocess.Popen[str]) -> None:
        self._folder = folder
        self._parent = parent
        self._count = 0

    @contextmanager
    def serving(
        self,
        database_url: str,
        *,
        changes: str = "",
        arguments: tuple[str, ...] = (),
        port: int | None = None,
    ) -> Iterator[Serving]:
        """A service until the block ends. `changes` is code that runs in it first."""
        port = port or free_port()
        self._count += 1
        log = self._folder / f"serve{self._count}.log"
        args = ["serve", "--database", database_url, "--port", str(port), *arguments]
        assert self._parent.stdin is not None
        assert self._parent.stdout is not None
        order = {"log": str(log), "changes": changes, "arguments": args}
        self._parent.stdin.write(json.dumps(order) + "\n")
        self._parent.stdin.flush()
        process = ForkedProcess(int(self._parent.stdout.readline()), args)
        url = f"http://127.0.0.1:{port}"
        try:
            wait_until_ready(process, f"{url}/health/ready", log)  # type: ignore[arg-type]
            yield Serving(process, url, port, log)  # type: ignore[arg-type]
        finally:
            process.kill()
            process.wait()


@contextmanager
def forkery(folder: Path) -> Iterator[Forkery]:
    """A process that has imported the service and forks it."""
    parent = subprocess.Popen(
        [sys.executable, "-c", _FORKING],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=folder,
        env={**clean_environment(), "PYTHONPATH": str(ROOT)},
    )
    try:
        yield Forkery(folder, parent)
    finally:
        parent.kill()
        parent.communicate()

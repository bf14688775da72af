"""The demo's child processes: start, wait until they answer, stop without orphans."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import httpx

from sim.demo_signals import Stop

HOST = "127.0.0.1"
STOP_S = 10.0
LOG_LINES = 8


class DemoFailed(Exception):
    """The demo cannot go on; the message is for the person who started it."""


class Child:
    """A `rialto` subcommand running beside the demo, its output in a file.

    It runs in a session of its own, so that Ctrl-C reaches the demo alone and the demo decides in
    which order things stop.
    """

    def __init__(self, name: str, arguments: Sequence[str], folder: Path, env: Mapping[str, str]) -> None:
        self.name = name
        self._log = folder / f"{name}.log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                rialto(*arguments),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **env},
                start_new_session=True,
            )

    @property
    def is_running(self) -> bool:
        """Whether the process is still there."""
        return self._process.poll() is None

    def wait_ready(self, url: str, *, within_s: float, stop: Stop) -> None:
        """Wait until a URL answers well; fail with the log's last lines when it cannot any more."""
        deadline = time.monotonic() + within_s
        while not stop.is_asked:
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(url, timeout=2.0, trust_env=False).is_success:
                    return
            if not self.is_running:
                raise DemoFailed(f"the {self.name} stopped at its start:\n{self.last_words()}")
            if time.monotonic() > deadline:
                raise DemoFailed(
                    f"the {self.name} did not answer within {within_s:.0f} s:\n{self.last_words()}"
                )
            stop.wait(0.1)

    def last_words(self) -> str:
        """The last lines of its log."""
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-LOG_LINES:])

    def ask_to_stop(self) -> None:
        """Ask it to end; returns at once."""
        if self.is_running:
            self._process.terminate()

    def end(self) -> None:
        """Wait for its end, then make sure that nothing it started is left."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(STOP_S)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


def stop_all(children: Sequence[Child]) -> None:
    """End all of them, the latest first, waiting for them together."""
    for child in reversed(children):
        child.ask_to_stop()
    for child in reversed(children):
        child.end()


def rialto(*arguments: str) -> list[str]:
    """The command line of a `rialto` subcommand under this interpreter."""
    return [sys.executable, "-m", "service.entry", *arguments]


def run_rialto(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a subcommand to its end, its output captured."""
    return subprocess.run(rialto(*arguments), capture_output=True, text=True, check=False)


def check_ports(ports: Mapping[str, int]) -> None:
    """Fail, naming the option, when two ports are the same or one is in use."""
    seen: dict[int, str] = {}
    for option, port in ports.items():
        if port in seen:
            raise DemoFailed(f"{seen[port]} and {option} are both {port}: give each a port of its own")
        seen[port] = option
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError as error:
                raise DemoFailed(f"port {port} is in use: choose another with {option}") from error


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def error_line(result: subprocess.CompletedProcess[str]) -> str:
    """What a subcommand that failed said last."""
    said = (result.stderr.strip() or result.stdout.strip()).splitlines()
    return said[-1].removeprefix("error: ") if said else f"exit code {result.returncode}"

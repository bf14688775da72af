"""A run that ends, and says at once what failed, even if it is cut off before its end."""

from __future__ import annotations

import faulthandler
import os
import sys
from collections.abc import Generator

import pytest

STUCK_S = 300
"""What a test may take beyond its time limit, and its teardown at all; then the process ends.

A time limit interrupts Python and only once: neither a call that never comes back to it nor a teardown that
waits for what the test had begun is ended by it, and one such test held up a whole run.
"""


def _arm(config: pytest.Config, seconds: float) -> None:
    faulthandler.dump_traceback_later(seconds, exit=True, file=config.stash[_STDERR])


_STDERR = pytest.StashKey[int]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    marker = item.get_closest_marker("timeout")
    limit = marker.args[0] if marker is not None and marker.args else float(item.config.getini("timeout"))
    _arm(item.config, limit + STUCK_S)
    try:
        return (yield)
    finally:
        faulthandler.cancel_dump_traceback_later()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, object, object]:
    _arm(item.config, STUCK_S)
    try:
        return (yield)
    finally:
        faulthandler.cancel_dump_traceback_later()


class Told:
    """Writes a line for every failure as it happens."""

    def __init__(self, terminal: pytest.TerminalReporter) -> None:
        self._terminal = terminal

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            why = "".join(report.longreprtext.strip().splitlines()[-1:])
            self._terminal.write_line(f"\n{report.nodeid} ({report.when}, {report.duration:.0f} s): {why}")


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    config.stash[_STDERR] = os.dup(sys.__stderr__.fileno() if sys.__stderr__ else 2)
    terminal = config.pluginmanager.get_plugin("terminalreporter")
    if terminal is not None and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Told(terminal))


def pytest_unconfigure(config: pytest.Config) -> None:
    os.close(config.stash[_STDERR])

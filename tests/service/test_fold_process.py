"""The folding process: its answers arrive whole, and one that is stuck is replaced."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from service.jobs import folding
from tests.service.histories import RULES, new_history

LENGTH = 2_000_000  # many times what the socket holds


def test_an_answer_arrives_whole_when_its_process_is_stopped_in_the_middle_of_it() -> None:
    """As a container that is paused, or a profiler, does; also where Python is told not to buffer."""
    ours, theirs = socket.socketpair()
    code = f"from service.jobs.fold_process import send; send(bytes({LENGTH}))"
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with ours, subprocess.Popen([sys.executable, "-c", code], stdout=theirs, env=environment) as process:
        theirs.close()
        received = ours.recv(8)
        for _ in range(20):  # it waits for us to read on
            time.sleep(0.02)
            process.send_signal(signal.SIGSTOP)
            os.waitid(os.P_PID, process.pid, os.WSTOPPED)
            process.send_signal(signal.SIGCONT)
        while part := ours.recv(1 << 20):
            received += part
    assert int.from_bytes(received[:8], "big") == LENGTH
    assert len(received) == 8 + LENGTH


def test_a_process_that_never_answers_is_replaced(
    empty_ledger: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    history = new_history(tmp_path / "a.db", empty_ledger)
    monkeypatch.setattr(folding, "ANSWER_S", 30.0)  # in which it begins, also where many run
    try:
        service = history.shop.client.app.state.service
        service.folding._in_process = True
        history.assign(RULES["by-visitor"], {"unit_id": "a"}, [])
        history.shop.get("/v1/experiments/by-visitor/report")  # folds what waits
        stuck = service.folding._process
        assert stuck is not None
        monkeypatch.setattr(folding, "ANSWER_S", 5.0)
        stuck.send_signal(signal.SIGSTOP)
        history.assign(RULES["by-visitor"], {"unit_id": "b"}, [])
        deadline = time.monotonic() + 200  # what was asked before the change waits for 30
        while service.folding._process in (None, stuck):
            assert time.monotonic() < deadline
            time.sleep(0.1)
    finally:
        history.close()

"""kill -9 under mixed load, twenty times: what was acknowledged is there afterwards, unchanged, once.

COMMIT is held open and so is folding, so that the kill falls where the code would let it do harm. A service
that answers before COMMIT is the control: the same check must catch it.
"""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import pytest

from tests.crash.changes import FOLD_IN_THREAD, HASTY_SQLITE, HELD_SQLITE, held_fold
from tests.crash.load import Acknowledged, Load, wait_for
from tests.crash.shop import check_nothing_is_doubled, check_verified, lost, new_shop
from tests.forked import Forkery
from tests.launched import Serving
from tests.processes import eventually

KILLS = 20
ENOUGH = 60
"""What is acknowledged at least before a kill."""
FOLDED_APART = 10
"""The turn in which the folding process is killed too."""


def url_of(folder: Path) -> str:
    return f"sqlite:///{folder / 'killed.db'}"


@pytest.fixture
def key(forks: Forkery, tmp_path: Path) -> str:
    """The secret key of a new ledger with a running experiment."""
    return new_shop(forks, url_of(tmp_path))


def children_of(pid: int) -> list[int]:
    """The processes a process has started."""
    return [int(text) for text in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def kill(running: Serving, turn: int, marker: Path) -> bool:
    """SIGKILL: nothing of the process runs on. Whether it fell in the middle of a fold's writes."""
    if turn == FOLDED_APART:  # the folding process goes first, the service while it starts another
        eventually(lambda: children_of(running.process.pid) != [], within_s=30)
        for child in children_of(running.process.pid):
            os.kill(child, signal.SIGKILL)
    elif turn % 3 == 1:
        eventually(marker.exists, within_s=30)
    else:
        time.sleep(random.Random(turn).uniform(0, 0.08))
    running.process.kill()
    running.process.wait()
    return marker.exists()


def test_nothing_acknowledged_is_lost_or_doubled_by_twenty_kills(
    forks: Forkery, key: str, tmp_path: Path
) -> None:
    url, marker = url_of(tmp_path), tmp_path / "folding"
    everything, before, in_mid_fold = Acknowledged(), Acknowledged(), 0
    for turn in range(KILLS):
        changes = HELD_SQLITE + held_fold(marker) + ("" if turn == FOLDED_APART else FOLD_IN_THREAD)
        with forks.serving(url, changes=changes) as running:
            with running.client(key) as client:
                assert lost(client, before) == [], f"after kill {turn}"
            with Load([running], key, f"turn{turn}").running() as acknowledged:
                wait_for(acknowledged, ENOUGH)
                in_mid_fold += kill(running, turn, marker)
        before = acknowledged
        everything.add(acknowledged)
        check_verified(url)
    assert in_mid_fold >= KILLS // 4
    with forks.serving(url) as running, running.client(key, timeout_s=60) as client:
        assert lost(client, everything) == []
        check_nothing_is_doubled(client)
    check_verified(url)


def test_a_service_that_answers_before_it_commits_is_caught(forks: Forkery, key: str, tmp_path: Path) -> None:
    url = url_of(tmp_path)
    with (
        forks.serving(url, changes=HASTY_SQLITE + FOLD_IN_THREAD) as running,
        Load([running], key, "hasty").running() as acknowledged,
    ):
        wait_for(acknowledged, ENOUGH)
        running.process.kill()
        running.process.wait()
    with forks.serving(url) as running, running.client(key) as client:
        assert lost(client, acknowledged) != []

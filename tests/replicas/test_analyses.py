"""An analysis on two replicas: whoever leads runs it, whoever is asked answers, and it ends once.

What fits is put aside: in its place stands a process that says it has begun and answers when told to.
"""

from __future__ import annotations

import sys
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest

from service.ledger import analyses
from service.ledger.analyses import Claim, State
from service.ledger.database import Database
from tests.crash.changes import FOLD_IN_THREAD
from tests.crash.shop import new_shop
from tests.forked import Forkery, forkery
from tests.launched import Serving
from tests.postgres import PostgresServer, running_server
from tests.processes import eventually
from tests.replicas.test_replicas import FAIL_OVER_S_MAX, leads

PATH = "/v1/experiments/checkout-addon/analyses"
pytestmark = pytest.mark.timeout(280)
pytest.importorskip("pymc", reason="it is in the extra `analysis`, and asking for a fit wants it")

_FIT = """
import json, os, sys, time
from pathlib import Path

request = json.loads(sys.stdin.readline())
here = Path({folder!r})
(here / f"begun {{os.getppid()}}").touch()
until = time.monotonic() + 120
while not (here / "go").exists() and time.monotonic() < until:
    time.sleep(0.02)
print(json.dumps({{"state": "done", "result": {{"by": os.getppid(), "seed": request["seed"]}}}}))
"""
_CHANGES = """
import asyncio
from service.jobs import analysing
from service.ledger import analyses

analyses.LEASE_US, analysing.RENEW_S, analysing.LOOK_S = 3_000_000, 0.5, 0.2
start = asyncio.create_subprocess_exec

async def put_aside(*arguments, **more):
    if "service.jobs.analysis_process" in arguments:
        arguments = ({python!r}, "-c", {fit!r})
    return await start(*arguments, **more)

asyncio.create_subprocess_exec = put_aside
"""


@pytest.fixture(scope="module")
def forks(tmp_path_factory: pytest.TempPathFactory) -> Generator[Forkery]:
    """Starts services."""
    with forkery(tmp_path_factory.mktemp("replicas")) as made:
        yield made


@pytest.fixture(scope="module")
def server() -> Generator[PostgresServer]:
    """A server of this module's."""
    yield from running_server()


@contextmanager
def pair(forks: Forkery, url: str, folder: Path) -> Generator[tuple[Serving, Serving]]:
    """The leader of two, and its follower."""
    changes = FOLD_IN_THREAD + _CHANGES.format(python=sys.executable, fit=_FIT.format(folder=str(folder)))
    with ExitStack() as stack:
        first, second = (stack.enter_context(forks.serving(url, changes=changes)) for _ in range(2))
        eventually(lambda: leads(first) or leads(second), within_s=60)
        yield (first, second) if leads(first) else (second, first)


def begun(folder: Path) -> set[int]:
    """The services that have begun a fit."""
    return {int(file.name.split()[1]) for file in folder.glob("begun *")}


def test_what_a_follower_is_asked_the_leader_runs(
    forks: Forkery, server: PostgresServer, tmp_path: Path
) -> None:
    url = server.new_database()
    key = new_shop(forks, url)
    with pair(forks, url, tmp_path) as (leader, follower), follower.client(key) as client:
        number = client.post(PATH).json()["id"]
        eventually(lambda: bool(begun(tmp_path)), within_s=60)
        assert client.get(f"{PATH}/{number}").json()["state"] == "running"
        assert client.post(PATH).json()["id"] == number, "it runs already"
        (tmp_path / "go").touch()
        eventually(lambda: client.get(f"{PATH}/{number}").json()["state"] == "done", within_s=60)
        assert begun(tmp_path) == {leader.process.pid}
        with leader.client(key) as other:
            assert other.get(f"{PATH}/{number}").json() == client.get(f"{PATH}/{number}").json()


def test_an_analysis_whose_leader_is_killed_is_taken_up_once(
    forks: Forkery, server: PostgresServer, tmp_path: Path
) -> None:
    """The killed one's process lives on and answers too: nobody hears it."""
    url = server.new_database()
    key = new_shop(forks, url)
    with pair(forks, url, tmp_path) as (leader, follower), follower.client(key, timeout_s=60) as client:
        number = client.post(PATH).json()["id"]
        eventually(lambda: begun(tmp_path) == {leader.process.pid}, within_s=60)
        leader.process.kill()
        leader.process.wait()
        eventually(lambda: begun(tmp_path) == {leader.process.pid, follower.process.pid}, FAIL_OVER_S_MAX)
        (tmp_path / "go").touch()
        eventually(lambda: client.get(f"{PATH}/{number}").json()["state"] == "done", within_s=60)
        found = client.get(f"{PATH}/{number}").json()
        assert (found["attempt"], found["result"]["by"]) == (2, follower.process.pid)
        assert [one["id"] for one in client.get(PATH).json()["items"]] == [number]


def test_of_two_that_claim_at_once_one_gets_it(forks: Forkery, server: PostgresServer) -> None:
    """And of two that finish, the one whose attempt it is."""
    url = server.new_database()
    new_shop(forks, url)
    ledgers = [Database(url) for _ in range(2)]
    both = Barrier(2)

    def claim(ledger: Database, now_us: int) -> Claim | None:
        both.wait(60)
        with ledger.write() as connection:
            return analyses.claim(connection, now_us)

    def finish(ledger: Database, mine: Claim) -> bool:
        both.wait(60)
        with ledger.write() as connection:
            return analyses.finish(connection, mine, State.DONE, {"attempt": mine.attempt}, 0)

    try:
        with ThreadPoolExecutor(2) as pool:
            for turn in range(20):
                settings: dict[str, Any] = {"time_limit_s": 60, "turn": turn}
                with ledgers[0].write() as connection:
                    number = analyses.queue(connection, 1, 1, settings, 0)
                lost = _only(pool.map(claim, ledgers, [0, 0]))
                later = analyses.LEASE_US + 1
                mine = _only(pool.map(claim, ledgers, [later, later]))
                assert (lost.analysis_no, lost.attempt, mine.analysis_no, mine.attempt) == (
                    number,
                    1,
                    number,
                    2,
                )
                assert list(pool.map(finish, ledgers, [lost, mine])) == [False, True]
                with ledgers[1].read() as connection:
                    row = analyses.find(connection, 1, number)
                assert row is not None
                assert (row.state, row.result) == (State.DONE, {"attempt": 2})
    finally:
        for ledger in ledgers:
            ledger.close()


def _only(claims: Any) -> Claim:
    (claim,) = [claim for claim in claims if claim is not None]
    return claim

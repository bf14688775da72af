"""The closed loop against `rialto serve` as a process: at length, on PostgreSQL, and through crashes."""

from __future__ import annotations

import dataclasses
import json
import shlex
import subprocess
import threading
from collections.abc import Generator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from service.entry import main
from sim.closed_loop.drive import drive
from sim.closed_loop.settings import SCOPES
from sim.closed_loop.wire import Wire
from tests.crash.changes import FOLD_IN_THREAD
from tests.forked import Forkery, forkery
from tests.launched import serving
from tests.postgres import postgres_server as postgres_server
from tests.postgres import postgres_template as postgres_template
from tests.postgres import postgres_url as postgres_url
from tests.service.conftest import clean_environment, rialto, rialto_here
from tests.sim.driven import SMALL
from tests.sim.replay_service import ENTRY

EXTERNAL = ("--clock", "external")
FEW = dataclasses.replace(SMALL, customers=300, stop_after=5)
DROPPED = (
    FOLD_IN_THREAD
    + """
import dataclasses
import experiments.fold, service.ledger.balances
right = experiments.fold.fold_order
def wrong(order):
    return right(dataclasses.replace(order, refunds=order.refunds[:-1]))
experiments.fold.fold_order = service.ledger.balances.fold_order = wrong
"""
)
"""The fold forgets an order's last refund."""


@pytest.fixture(scope="module")
def forks(tmp_path_factory: pytest.TempPathFactory) -> Generator[Forkery]:
    with forkery(tmp_path_factory.mktemp("forks")) as made:
        yield made


def new_key(database: str, *arguments: str) -> str:
    """The secret key of a new store that may do everything."""
    made = rialto_here("init", "--database", database, "--json", "--scopes", SCOPES, *arguments)
    assert made.returncode == 0, made.stderr
    return json.loads(made.stdout)["secret_key"]


def drive_here(*arguments: str, url: str, key: str) -> tuple[int, str, str]:
    """Exit code and output of `rialto sim drive` in this process, address and key from the environment."""
    done = CliRunner().invoke(main, ["sim", "drive", *arguments], env={"RIALTO_URL": url, "RIALTO_KEY": key})
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.stdout, done.stderr


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_a_hundred_thousand_customers(tmp_path: Path) -> None:
    """All by the command line, as a person would, and `verify` behind it."""
    database = f"sqlite:///{tmp_path / 'shop.db'}"
    key = new_key(database, "--simulated", "--seed", "2")
    with serving(tmp_path, database, arguments=EXTERNAL) as running:
        size = ("--customers", "100000", "--days", "4", "--step", "1d", "--late", "0.1", "--seed", "2")
        done = subprocess.run(
            [*ENTRY, "sim", "drive", "bots_and_duplicates", *size, "--json"],
            capture_output=True,
            text=True,
            env={**clean_environment(), "RIALTO_URL": running.url, "RIALTO_KEY": key},
            timeout=1400,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        verified = rialto("verify", "--database", database, "--json", timeout_s=600)
    outcome = json.loads(done.stdout)
    assert outcome["holds"]
    assert outcome["is_foretold"]
    assert outcome["customers"] == 100_000
    assert outcome["restating"] > 1_000
    assert outcome["duplicates"] > 10_000
    assert json.loads(verified.stdout)["exact"], verified.stdout


def test_on_postgresql(postgres_url: str, forks: Forkery, tmp_path: Path) -> None:
    key = new_key(postgres_url, "--simulated", "--seed", str(FEW.seed))
    arguments = (*EXTERNAL, "--state-dir", str(tmp_path))
    with (
        forks.serving(postgres_url, arguments=arguments, changes=FOLD_IN_THREAD) as running,
        running.client(key, timeout_s=120) as client,
    ):
        outcome = drive(Wire(client), FEW)
    assert outcome.failure is None
    assert outcome.is_foretold


def test_nothing_acknowledged_is_lost_by_a_crash(forks: Forkery, tmp_path: Path) -> None:
    """The service is killed under whatever request is on its way, twice, and started again."""
    database = f"sqlite:///{tmp_path / 'shop.db'}"
    key = new_key(database, "--simulated")
    timers: list[threading.Timer] = []
    with ExitStack() as stack:
        how: dict[str, Any] = {"arguments": EXTERNAL, "changes": FOLD_IN_THREAD}
        running = [stack.enter_context(forks.serving(database, **how))]

        def restart() -> None:
            running[-1].process.kill()
            running[-1].process.wait()
            running.append(stack.enter_context(forks.serving(database, port=running[0].port, **how)))

        def crash(done: int, _of: int) -> None:
            if done in (1, 4):
                timers.append(threading.Timer(0.02, restart))
                timers[-1].start()

        client = stack.enter_context(running[0].client(key, timeout_s=60))
        outcome = drive(Wire(client, patience_s=120), FEW, crash)
        for timer in timers:
            timer.join()
    assert outcome.failure is None
    assert not outcome.is_foretold  # a store of a secret of its own
    assert len(running) == 3


def test_what_is_printed_shows_the_failure_again(forks: Forkery, tmp_path: Path) -> None:
    failures: list[dict[str, Any]] = []
    made = ["--simulated", "--seed", "5"]
    driven = ["late_refunds", "--customers", "600", "--days", "2", "--step", "1d", "--seed", "5"]
    driven += ["--check-every", "3"]
    for name in ("first", "again"):
        database = f"sqlite:///{tmp_path / name}.db"
        key = new_key(database, *made)
        with forks.serving(database, changes=DROPPED, arguments=EXTERNAL) as running:
            code, said, trouble = drive_here(*driven, "--json", url=running.url, key=key)
        assert code == 1, said + trouble
        failures.append(json.loads(said))
        _, init, serve, again = (shlex.split(line) for line in failures[0]["failure"]["replay"])
        assert serve[:2] + serve[-2:] == ["rialto", "serve", *EXTERNAL]
        assert (init[:3], again[:3]) == (["rialto", "init", "--database"], ["rialto", "sim", "drive"])
        made, driven = init[4:], again[3:]
    first, second = failures
    assert first["failure"]["invariant"] == "counters"
    assert first["failure"]["step"] >= 2
    assert driven[-2:] == ["--stop-after", str(first["failure"]["step"])]
    assert first["is_foretold"]
    assert second == first  # the digest of all that was asked, too


def test_a_service_that_cannot_be_driven_says_what_to_do(forks: Forkery, tmp_path: Path) -> None:
    database = f"sqlite:///{tmp_path / 'shop.db'}"
    live, dollars = new_key(database), new_key(database, "--simulated", "--currency", "USD")
    poor = new_key(database, "--simulated", "--scopes", "assign,events,read")
    with forks.serving(database, arguments=EXTERNAL, changes=FOLD_IN_THREAD) as running:
        for key, arguments, remedy in (
            (live, ("a_a",), "start the service with `rialto serve --clock external`"),
            (poor, ("a_a",), f"give a secret key with the scopes {SCOPES}"),
            (dollars, ("a_a",), "rialto init --currency"),
            (live, ("nowhere",), "no scenario and no file"),
            (live, ("a_a", "--step", "7h"), "a whole number of steps"),
        ):
            code, _, said = drive_here(*arguments, url=running.url, key=key)
            assert code == 2
            assert remedy in said.replace("\n", " ")
    code, _, said = drive_here("a_a", "--patience", "0", url=running.url, key=live)
    assert code == 2
    assert "got no answer" in said

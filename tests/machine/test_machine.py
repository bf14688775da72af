"""The service against a model written apart from it, through every kind of call, on both databases."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from service.ledger.database import Database
from tests.machine.live import Live
from tests.machine.machine import ShopMachine
from tests.service.conftest import new_stores

RUNS = settings(
    max_examples=30,
    stateful_step_count=40,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
NewLive = Callable[[], Live]


@pytest.fixture
def new_live(tmp_path: Path) -> NewLive:
    """Services, each on a copy of one prepared ledger."""
    prepared = tmp_path / "prepared.db"
    database = Database(f"sqlite:///{prepared}")
    database.migrate()
    keys, _ = new_stores(database, is_simulated=True)
    database.close()
    live = Live(f"sqlite:///{prepared}", keys)
    live.open()
    live.set_up()
    live.close()
    content = prepared.read_bytes()
    numbers = count()

    def new() -> Live:
        path = tmp_path / f"machine{next(numbers)}.db"
        path.write_bytes(content)
        return Live(f"sqlite:///{path}", keys)

    return new


def test_every_answer_and_every_number_is_foretold(new_live: NewLive) -> None:
    run_state_machine_as_test(lambda: ShopMachine(new_live), settings=RUNS)

"""Ledgers for the state machine, on both databases in every run."""

from __future__ import annotations

from collections.abc import Callable, Generator
from itertools import count
from pathlib import Path

import pytest

from service.ledger.database import Database, DatabaseKind
from tests.ledgers import Ledgers
from tests.ledgers import empty_ledger as empty_ledger
from tests.ledgers import ledgers as ledgers
from tests.machine.live import Live
from tests.postgres import postgres_server as postgres_server
from tests.postgres import postgres_template as postgres_template
from tests.service.conftest import new_stores


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run what lives a whole life on both databases, what only shows a bug on one."""
    if "ledgers" in metafunc.fixturenames:
        is_bug = "bug" in metafunc.fixturenames
        kinds = [DatabaseKind.SQLITE] if is_bug else list(DatabaseKind)
        metafunc.parametrize("ledgers", kinds, ids=[k.value for k in kinds], indirect=True, scope="session")


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine must not turn an answer that is foretold into one that comes too late."""
    monkeypatch.setattr("service.auth.LOOK_UP_S", 60.0)
    monkeypatch.setattr("service.context.FETCH_S", 60.0)


@pytest.fixture
def new_live(ledgers: Ledgers, tmp_path: Path) -> Generator[Callable[[], Live]]:
    """Services not yet started, each with a new store on a ledger of its own."""
    numbers = count()
    made: list[str] = []

    def new() -> Live:
        for url in made:  # the one before is closed
            ledgers.remove(url)
        made[:] = [ledgers.new(tmp_path, f"machine{next(numbers)}")]
        database = Database(made[0])
        keys, _ = new_stores(database, is_simulated=True)
        database.close()
        return Live(made[0], keys)

    yield new
    for url in made:
        ledgers.remove(url)

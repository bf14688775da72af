"""What is crashed: services forked from one process, and a PostgreSQL server that may be stopped."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import pytest

from tests.forked import Forkery, forkery
from tests.postgres import PostgresServer, running_server


@pytest.fixture
def forks(tmp_path: Path) -> Generator[Forkery]:
    """Starts services."""
    with forkery(tmp_path) as made:
        yield made


@pytest.fixture
def mortal_server() -> Generator[PostgresServer]:
    """A server of one test, which may stop it."""
    yield from running_server()

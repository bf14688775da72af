"""A service in this process over a store of a known seed, for closed loops."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

from litestar.testing import TestClient

from experiments.allocation.hashing import seeded_secret
from service.app import create_app
from service.keys import Scope
from service.ledger.database import Database
from service.settings import ClockKind, Settings
from service.stores import create_store
from sim.closed_loop.settings import DriveSettings
from sim.closed_loop.wire import Wire
from tests.ledgers import Ledgers

SMALL = DriveSettings(
    "bots_and_duplicates",
    seed=3,
    customers=1_500,
    days=2,
    step=timedelta(hours=12),
    late=0.1,
    duplicates=0.1,
    check_every=2,
    stop_after=9,
)
"""Two days of customers and five of what follows: some events come when their windows have closed."""


@contextmanager
def service_here(ledgers: Ledgers, folder: Path, name: str, seed: int = SMALL.seed) -> Iterator[Wire]:
    """A new ledger with one store, served in this process."""
    url = ledgers.new(folder, name)
    database = Database(url)
    with database.write() as connection:
        keys = create_store(
            connection,
            time_zone="UTC",
            currency="EUR",
            is_simulated=True,
            scopes=tuple(Scope),
            now_us=time.time_ns() // 1000,
            secret=seeded_secret(seed),
        )
    app = create_app(Settings(database_url=url, clock=ClockKind.EXTERNAL), database)
    try:
        with TestClient(app, raise_server_exceptions=False) as client:
            client.headers["Authorization"] = f"Bearer {keys.secret_key}"
            yield Wire(client)
    finally:
        database.close()
        ledgers.remove(url)

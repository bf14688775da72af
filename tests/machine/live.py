"""The real service of the state machine, on a ledger of its own, and what that ledger says."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from litestar.testing import TestClient

from service.app import create_app
from service.catalogue import load_store
from service.ledger.cells import candidate_sets, read_cells
from service.ledger.database import Database
from service.ledger.verify import verify
from service.settings import ClockKind, Settings
from service.stores import NewStore
from tests.machine.world import RULES, SETTINGS, START, documents
from tests.service.conftest import Shop
from tests.service.oracle import wire_time

Cells = dict[Any, dict[Any, int]]


@dataclass
class Live:
    """A service in this process; it can be stopped and started on the same ledger."""

    url: str
    keys: NewStore
    _client: TestClient[Any] | None = None

    def open(self) -> None:
        """Start the service."""
        database = Database(self.url)
        app = create_app(Settings(database_url=self.url, clock=ClockKind.EXTERNAL), database)
        self._client = TestClient(app, raise_server_exceptions=False)
        self._client.__enter__()
        self.shop = Shop(self._client, database, self.keys, self.keys)

    def close(self) -> None:
        """Stop it as a signal would."""
        if self._client is not None:
            self._client.__exit__(None, None, None)
            self._client = None

    def restart(self) -> None:
        """Stop and start."""
        self.close()
        self.open()

    def set_clock(self, now: int) -> None:
        """Move the time; the folder and the allocator take their steps before this returns."""
        answer = self.shop.post("/v1/clock", {"now": wire_time(now)})
        assert answer.status_code == 200, answer.text

    def ok(self, path: str, body: Any = None, *, key: str | None = None) -> Any:
        """The answer of a call that must succeed; a body makes it a POST."""
        method = "GET" if body is None else "POST"
        answer = self.shop.call(method, path, body, key=key)
        assert answer.status_code == 200, (path, body, answer.text)
        return answer.json()

    def lines(self, path: str) -> list[dict[str, Any]]:
        """A list of the ledger, as lines."""
        answer = self.shop.get(path, headers={"Accept": "application/x-ndjson"})
        assert answer.status_code == 200, answer.text
        return [json.loads(line) for line in answer.text.splitlines()]

    def set_up(self) -> None:
        """Settings, experiments and the clock of a new shop."""
        self.set_clock(START)
        settings = {
            "fx_rates": SETTINGS.rates,
            "cost_recovered_rate": float(SETTINGS.recovered_rate),
            "abandonment_window": f"{SETTINGS.abandon_after}s",
            "deadline_ms": 5_000,  # a busy machine must not turn an assignment into a fall-back
        }
        told = [self.shop.patch("/v1/store", settings, '"1"')]
        for one in documents():
            told.append(self.shop.post("/v1/experiments", one))
            told.append(self.shop.post(f"/v1/experiments/{one['key']}/start"))
        refused = [answer.text for answer in told if answer.is_error]
        assert not refused, refused

    def cells(self) -> dict[str, Cells]:
        """Non-empty cells by experiment, as the oracle writes them."""
        found: dict[str, Cells] = {}
        with self.shop.database.read() as connection:
            numbers = connection.exec_driver_sql("SELECT store_no, key FROM store").all()
            (store_no,) = [row.store_no for row in numbers if row.key == self.keys.store]
            store = load_store(connection, store_no)
            for key, live in store.experiments.items():
                members = candidate_sets(connection, live.experiment_no)
                found[key] = {}
                for cell in read_cells(connection, live):
                    sums: dict[Any, int] = dict(cell.moments.sums)
                    sums |= {tuple(name.split("*")): v for name, v in cell.moments.products.items()}
                    who = (cell.key.variant, members[cell.key.candidate_set])
                    place = (*who, cell.key.day.isoformat(), cell.key.segment)
                    assert place not in found[key], "fixed shares have one epoch"
                    found[key][place] = sums
        assert found.keys() == RULES.keys()
        return found

    def check_verified(self) -> None:
        """`verify` finds every sum exact, and nothing waiting."""
        report = verify(self.shop.database)
        assert report.is_exact, report.examples
        assert (report.pending_units, report.pending_orders) == (0, 0)

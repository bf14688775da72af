"""A store that ran on an earlier version goes on with this one: its sums, its answers, and the new policies.

`old_ledgers/` holds what 093b34b, the last version with schema 0003, left behind, once for each database:
the ledger as SQL (`sqlite3.Connection.iterdump`; `pg_dump --inserts --no-owner` without its SET lines), and
the answers it then gave, by the path asked for. It was the shop of `rialto demo --once --seed 4` with 12 days
of 41 to 44 visitors, `burn_in` 60 and throttle margins of 5 %: about 500 decisions and 1,850 events, shares
that moved, and a throttled variant.
"""

from __future__ import annotations

import json
import lzma
import sqlite3
from collections.abc import Generator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from litestar.testing import TestClient

from service.app import create_app
from service.ledger.database import Database, DatabaseKind
from service.settings import ClockKind, Settings
from tests.ledgers import Ledgers
from tests.service.conftest import document, rialto_here

OLD = Path(__file__).parent / "old_ledgers"
PATH = "/v1/experiments/checkout-offer"
END = datetime(2026, 3, 14, tzinfo=UTC)
"""Until then the old version served the shop."""
PROBABILITY = 1e-5
"""P(best) of ratios is computed more exactly since."""


def unpacked(kind: DatabaseKind, what: str) -> str:
    return lzma.decompress((OLD / f"{kind.value}-0003.{what}.xz").read_bytes()).decode()


@pytest.fixture
def old_ledger(tmp_path: Path, ledgers: Ledgers) -> Generator[str]:
    """The address of the old version's ledger."""
    url, script = ledgers.absent(tmp_path, "old"), unpacked(ledgers.kind, "sql")
    if ledgers.kind is DatabaseKind.SQLITE:
        with sqlite3.connect(tmp_path / "old.db") as connection:
            connection.executescript(script)
        connection.close()
    else:
        with psycopg.connect(url) as connection:
            connection.execute(script.encode())
    yield url
    ledgers.remove(url)


WORDS = {"detail", "sentence"}
"""What is for people, and may be said better."""


def differences(old: Any, new: Any, place: str = "") -> Iterator[str]:
    """Where what was answered is answered otherwise; what is new, or only said anew, does not count."""
    if isinstance(old, dict) and isinstance(new, dict):
        for name in old.keys() - WORDS:
            yield from differences(old[name], new.get(name, "(nothing)"), f"{place}/{name}")
    elif isinstance(old, list) and isinstance(new, list) and place.endswith("/checks"):
        by_name = [{check["name"]: check for check in checks} for checks in (old, new)]
        yield from differences(*by_name, place)
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for number, (one, other) in enumerate(zip(old, new, strict=True)):
            yield from differences(one, other, f"{place}/{number}")
    elif isinstance(old, float) and isinstance(new, int | float):
        tolerance = PROBABILITY if place.rpartition("/")[2].startswith("prob") else 1e-8 * abs(old)
        if abs(old - new) > tolerance:
            yield f"{place}: {old} is {new}"
    elif old != new:
        yield f"{place}: {old} is {new}"


class Served:
    """The store under the version of today."""

    def __init__(self, client: TestClient[Any], key: str) -> None:
        self._client, self._headers = client, {"Authorization": f"Bearer {key}"}

    def get(self, path: str) -> Any:
        answer = self._client.get(path, headers=self._headers)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def post(self, path: str, body: Any) -> Any:
        answer = self._client.post(path, json=body, headers=self._headers)
        assert answer.is_success, answer.text
        return answer.json()

    def patch(self, path: str, body: Any) -> None:
        etag = self._client.get(path, headers=self._headers).headers["etag"]
        answer = self._client.patch(path, json=body, headers={**self._headers, "If-Match": etag})
        assert answer.status_code == 200, answer.text

    def trade(self, day: int, touchpoint: str = "checkout") -> dict[str, Any]:
        """Forty visitors, of whom every other one buys; the last one's decision."""
        self.post("/v1/clock", {"now": (END + timedelta(days=day, hours=9)).isoformat()})
        made = [
            {
                "touchpoint": touchpoint,
                "unit_id": f"new-{day}-{n}",
                "context": {"device": ("mobile", "desktop")[n % 2]},
            }
            for n in range(40)
        ]
        decisions = self.post("/v1/assign/batch", {"requests": made})["decisions"]
        assert {decision["reason"] for decision in decisions} == {"assigned"}
        orders = [
            {"type": "order", "event_id": f"o-{day}-{n}", "order_id": f"o-{day}-{n}", "amount": 9000 + n}
            | {"unit_id": f"new-{day}-{n}", "cost": 5000, "currency": "EUR"}
            for n in range(0, 40, 2)
        ]
        assert self.post("/v1/events", {"events": orders})["accepted"] == len(orders)
        self.post("/v1/clock", {"now": (END + timedelta(days=day, hours=21)).isoformat()})
        return decisions[-1]


def assert_exact(url: str) -> None:
    done = rialto_here("verify", "--database", url)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_store_of_an_earlier_version_goes_on(old_ledger: str, ledgers: Ledgers, tmp_path: Path) -> None:
    refused = rialto_here("verify", "--database", old_ledger)
    assert refused.returncode != 0
    assert "rialto upgrade" in refused.stderr
    assert rialto_here("upgrade", "--database", old_ledger).returncode == 0
    assert_exact(old_ledger)
    known = json.loads(unpacked(ledgers.kind, "answers.json"))
    settings = Settings(database_url=old_ledger, clock=ClockKind.EXTERNAL, state_dir=str(tmp_path))
    with TestClient(create_app(settings, Database(old_ledger))) as client:
        served = Served(client, known["secret_key"])
        for path, answer in known["answers"].items():
            assert not list(differences(answer, served.get(path))), path
        served.patch("/v1/store", {"segments": [{"key": "phones", "conditions": {"device": "mobile"}}]})
        for day, kind in ((2, "top_two"), (4, "segment")):
            served.patch(PATH, {"policy": {"kind": kind}})
            decision = served.trade(day)
            assert 0 < served.get(f"/v1/decisions/{decision['decision_id']}/explain")["propensity"] < 1
        assert served.get(f"{PATH}/policy")["policy"]["kind"] == "segment"
        served.post(f"{PATH}/variants/socks/replace", {"variant": NEW, "discount": 0.5})
        assert served.get(f"{PATH}/policy")["newcomers"] == ["mittens"]
        served.post("/v1/experiments", BY_CONTEXT)
        served.post("/v1/experiments/by-context/start", None)
        served.trade(6, touchpoint="cart")
        served.post("/v1/clock", {"now": (END + timedelta(days=8)).isoformat()})
        by_context = served.get("/v1/experiments/by-context/policy")["contextual"]
        assert by_context["coefficients"]["socks"].keys() == {"1", "device=mobile", "device=desktop"}
        assert served.get(f"{PATH}/report")["units_assigned"] == known["units"] + 2 * 40
    assert_exact(old_ledger)


BY_CONTEXT = document(
    "by-context",
    touchpoint="cart",
    attribution_window="1h",
    policy={
        **{"kind": "contextual", "objective": "conversion_rate", "burn_in": 5, "control_share": 0.5},
        "features": [{"name": "device", "kind": "category", "values": ["mobile", "desktop"]}],
    },
)
NEW = {"key": "mittens", "offer": {"kind": "cross_sell", "sku": "MITT-1", "price": 1990, "cost": 690}}


def test_an_answer_that_changed_would_be_seen() -> None:
    old = {"value": 0.5, "prob_best": 0.5, "of": [1, None]}
    assert not list(differences(old, {"value": 0.5, "prob_best": 0.500009, "of": [1, None], "more": 1}))
    for changed in ({"value": 0.500001}, {"prob_best": 0.51}, {"of": [1]}, {"of": [1, 0]}):
        assert len(list(differences(old, old | changed))) == 1
    assert list(differences(old, {"value": 0.5, "of": [1, None]}))

"""Services that share a PostgreSQL ledger: one leads, and what one changes the others know."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest
from litestar.testing import TestClient
from sqlalchemy import select, text

from service.app import create_app
from service.context import Service
from service.ledger import schema
from service.ledger.database import Database
from service.ledger.notices import Follower
from service.settings import Settings
from service.stores import NewStore
from tests.processes import eventually
from tests.service.asking import ask, settings
from tests.service.conftest import Shop, be_patient, new_stores

Replicas = Sequence[Shop]
HEARD_S = 0.9
"""News come by notice, not with the next look at the revisions."""
FAIL_OVER_S = 3.0
"""A follower asks once a second; the rest is for a busy machine."""


@pytest.fixture
def stores(postgres_url: str) -> tuple[NewStore, NewStore]:
    database = Database(postgres_url)
    made = new_stores(database, is_simulated=False)
    be_patient(database)
    database.close()
    return made


@pytest.fixture
def replicas(postgres_url: str, stores: tuple[NewStore, NewStore], tmp_path: Path) -> Generator[Replicas]:
    """Two services on one ledger."""
    with ExitStack() as open_clients:
        shops: list[Shop] = []
        for number in range(2):
            database = Database(postgres_url)
            state = Settings(database_url=postgres_url, state_dir=str(tmp_path / str(number)))
            app = create_app(state, database)
            client = open_clients.enter_context(TestClient(app, raise_server_exceptions=False))
            shops.append(Shop(client, database, *stores))
        eventually(lambda: any(is_leader(shop) for shop in shops))
        eventually(lambda: connections(shops[0], "rialto follower") == 2)
        yield shops


def service_of(shop: Shop) -> Service:
    return shop.client.app.state.service


def is_leader(shop: Shop) -> bool:
    return service_of(shop).leader.is_leader


def connections(shop: Shop, name: str) -> int:
    mine = "FROM pg_stat_activity WHERE datname = current_database() AND application_name = :name"
    with shop.database.read() as connection:
        return connection.execute(text(f"SELECT count(*) {mine}"), {"name": name}).scalar_one()


def cut(shop: Shop, name: str) -> None:
    """End the connections of this name."""
    mine = "FROM pg_stat_activity WHERE datname = current_database() AND application_name = :name"
    with shop.database.read() as connection:
        connection.execute(text(f"SELECT pg_terminate_backend(pid) {mine}"), {"name": name})


def state(shop: Shop) -> str:
    return shop.get("/v1/experiments/checkout-addon").json()["state"]


def test_one_leads_and_the_other_takes_over_within_a_cadence(replicas: Replicas) -> None:
    assert sum(is_leader(shop) for shop in replicas) == 1
    leader, follower = sorted(replicas, key=is_leader, reverse=True)
    leader.client.__exit__(None, None, None)
    eventually(lambda: is_leader(follower), within_s=FAIL_OVER_S)
    assert not is_leader(leader)


def test_who_loses_the_connection_to_lead_by_stops_leading(replicas: Replicas) -> None:
    def locks() -> int:
        held = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND mode = 'ExclusiveLock'"
        here = "database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        with replicas[0].database.read() as connection:
            return connection.execute(text(f"{held} AND {here} AND objid = 3")).scalar_one()

    for _ in range(3):
        cut(replicas[0], "rialto leader")
        eventually(lambda: connections(replicas[0], "rialto leader") == 2)
        # The one whose connection was cut says that it leads until it finds out.
        eventually(lambda: sum(is_leader(shop) for shop in replicas) == locks() == 1)


def test_only_the_leader_folds_and_a_report_on_either_is_up_to_date(replicas: Replicas) -> None:
    leader, follower = sorted(replicas, key=is_leader, reverse=True)
    follower.running()
    ask(follower, "somebody")

    def is_folded() -> bool:
        with follower.database.read() as connection:
            return not connection.execute(select(schema.mark.c.mark_no)).all()

    eventually(is_folded)
    ask(leader, "somebody else")
    for shop in replicas:
        report = shop.get("/v1/experiments/checkout-addon/report?matured=false").json()
        assert report["units_assigned"] == 2


def test_what_one_changes_the_other_serves_at_once(replicas: Replicas) -> None:
    one, other = replicas
    one.running()
    eventually(lambda: other.get("/v1/experiments/checkout-addon").status_code == 200, HEARD_S)
    assert ask(other, "u")["reason"] == "assigned"
    assert one.post("/v1/experiments/checkout-addon/pause").status_code == 200
    eventually(lambda: state(other) == "paused", HEARD_S)
    assert ask(other, "u")["reason"] == "paused"
    settings(other, out_of_stock=["SOCK-3"])
    eventually(lambda: one.get("/v1/store").json()["out_of_stock"] == ["SOCK-3"], HEARD_S)


def test_a_key_revoked_on_one_is_refused_by_the_other(replicas: Replicas) -> None:
    one, other = replicas
    made = one.post("/v1/keys", {"kind": "sk", "scopes": ["read"]}).json()
    assert other.get("/v1/experiments", key=made["key"]).status_code == 200
    assert one.call("DELETE", f"/v1/keys/{made['id']}").status_code == 200
    eventually(lambda: other.get("/v1/experiments", key=made["key"]).status_code == 401, HEARD_S)


def test_a_notice_that_is_lost_costs_a_second(replicas: Replicas, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = replicas
    one.running()
    eventually(lambda: other.get("/v1/experiments/checkout-addon").status_code == 200)
    monkeypatch.setattr(Follower, "_hear", lambda *_: None)
    for shop in replicas:  # those who listen already have the old one
        cut(shop, "rialto follower")
    eventually(lambda: connections(one, "rialto follower") == 2)
    assert one.post("/v1/experiments/checkout-addon/pause").status_code == 200
    eventually(lambda: state(other) == "paused", within_s=3)


def test_news_of_units_reach_the_others_and_a_gap_forgets_all(replicas: Replicas) -> None:
    one, other = replicas
    heard: list[Sequence[int] | None] = []
    service_of(other).on_units.append(heard.append)
    one.running()
    ask(one, "visitor")
    linked = {"event_id": "i", "type": "identify", "unit_id": "customer", "anonymous_id": "visitor"}
    assert one.post("/v1/events", linked).json()["accepted"] == 1
    with one.database.read() as connection:
        table = schema.unit.c
        numbers = {row.raw_id: row.unit_no for row in connection.execute(select(table.raw_id, table.unit_no))}
    eventually(lambda: any(set(units or ()) == set(numbers.values()) for units in heard))
    heard.clear()
    assert one.call("DELETE", "/v1/units/visitor").status_code == 200
    eventually(lambda: any(set(units or ()) == set(numbers.values()) for units in heard))
    heard.clear()
    cut(one, "rialto follower")
    eventually(lambda: None in heard)

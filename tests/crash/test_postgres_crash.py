"""PostgreSQL ended as by a crash, under mixed load, and started again beside a service that never ends."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.crash.changes import FOLD_IN_THREAD, HASTY_POSTGRES, HELD_POSTGRES
from tests.crash.load import Acknowledged, Load, wait_for
from tests.crash.shop import check_nothing_is_doubled, check_verified, lost, new_shop
from tests.forked import Forkery
from tests.launched import Serving
from tests.postgres import PostgresServer
from tests.processes import eventually

CRASHES = 4
ENOUGH = 60
"""What is acknowledged at least before each crash and after each recovery."""
pytestmark = pytest.mark.timeout(280)


@contextmanager
def loaded(
    forks: Forkery, url: str, changes: str, name: str, *, is_control: bool = False
) -> Iterator[tuple[Serving, str, Acknowledged]]:
    """A service under load: the service, the key, and what it has acknowledged."""
    key = new_shop(forks, url, deadline_ms=1000)
    with (
        forks.serving(url, changes=changes + FOLD_IN_THREAD) as running,
        Load([running], key, name, survives=True, is_control=is_control).running() as acknowledged,
    ):
        yield running, key, acknowledged


def crash(server: PostgresServer, acknowledged: Acknowledged) -> None:
    """Let much be under way, then end the server as a crash does."""
    wait_for(acknowledged, acknowledged.count + ENOUGH)
    server.stop("immediate")


def test_nothing_acknowledged_is_lost_or_doubled_when_postgresql_crashes(
    forks: Forkery, mortal_server: PostgresServer
) -> None:
    url = mortal_server.new_database()
    with loaded(forks, url, HELD_POSTGRES, "crash") as (running, key, acknowledged):
        for turn in range(CRASHES):
            crash(mortal_server, acknowledged)
            if turn % 2:
                time.sleep(0.5)
            mortal_server.start()
        wait_for(acknowledged, acknowledged.count + ENOUGH)  # the same process goes on
    assert acknowledged.refused, "the crashes were noticed, or they prove nothing"
    with forks.serving(url) as running, running.client(key, timeout_s=60) as client:
        assert lost(client, acknowledged) == []
        check_nothing_is_doubled(client)
    check_verified(url)


def test_a_service_that_answers_before_it_commits_is_caught(
    forks: Forkery, mortal_server: PostgresServer
) -> None:
    url = mortal_server.new_database()
    with loaded(forks, url, HASTY_POSTGRES, "hasty", is_control=True) as (running, key, acknowledged):
        crash(mortal_server, acknowledged)
        running.process.kill()
    mortal_server.start()
    with forks.serving(url) as running, running.client(key) as client:
        assert lost(client, acknowledged) != []


def test_the_same_process_recovers(forks: Forkery, mortal_server: PostgresServer) -> None:
    """Known units keep their variant while the server is away; afterwards all is as if it had not been."""
    url = mortal_server.new_database()
    key = new_shop(forks, url, deadline_ms=1000)
    with forks.serving(url) as running, running.client(key) as client:
        known = client.post("/v1/assign", json={"touchpoint": "checkout", "unit_id": "known"}).json()
        mortal_server.stop("immediate")
        told = client.post("/v1/assign", json={"touchpoint": "checkout", "unit_id": "known"}).json()
        assert (told["reason"], told["variant"], told["decision_id"]) in [
            ("stale", known["variant"], known["decision_id"]),
            ("sticky", known["variant"], known["decision_id"]),
        ]
        other = client.post("/v1/assign", json={"touchpoint": "checkout", "unit_id": "other"}).json()
        assert (other["reason"], other["decision_id"]) == ("fallback", None)
        event = {"event_id": "e", "type": "custom", "unit_id": "known", "name": "n"}
        refused = client.post("/v1/events", json=event)
        assert (refused.status_code, "retry-after" in refused.headers) == (503, True)
        mortal_server.start()
        eventually(lambda: client.post("/v1/events", json=event).status_code == 200, within_s=30)
        made = client.post("/v1/assign", json={"touchpoint": "checkout", "unit_id": "other"}).json()
        assert made["reason"] == "assigned"
        eventually(lambda: client.get("/v1/store/summary").status_code == 200, within_s=30)
    check_verified(url)

"""Two services on one PostgreSQL: raced by the same units and events, the leader killed among them."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import httpx
import pytest

from tests.crash.changes import FOLD_IN_THREAD, HELD_POSTGRES, SLOW_TO_HEAR
from tests.crash.load import Load, ask, wait_for
from tests.crash.shop import check_nothing_is_doubled, check_verified, lost, new_shop
from tests.forked import Forkery, forkery
from tests.launched import Serving
from tests.postgres import PostgresServer, running_server
from tests.processes import eventually

LEADS = "this service leads now"
FAIL_OVER_S_MAX = 60.0
"""The default cadence of a policy."""
pytestmark = pytest.mark.timeout(280)


@pytest.fixture(scope="module")
def forks(tmp_path_factory: pytest.TempPathFactory) -> Generator[Forkery]:
    """Starts services."""
    with forkery(tmp_path_factory.mktemp("replicas")) as made:
        yield made


@pytest.fixture(scope="module")
def server() -> Generator[PostgresServer]:
    """A server of this module's."""
    yield from running_server()


class Pair:
    """Two services on one database, asked at the same instant."""

    def __init__(self, servings: Sequence[Serving], key: str) -> None:
        self.servings = list(servings)
        self.clients = [serving.client(key, timeout_s=60) for serving in servings]
        self.pool = ThreadPoolExecutor(2)

    def both(self, path: str, *bodies: Any) -> list[Any]:
        """The answers of both to the same body, or to one each."""
        start = threading.Barrier(2)

        def post(client: httpx.Client, body: Any) -> Any:
            start.wait()
            answer = client.post(path, json=body)
            assert answer.status_code == 200, answer.text
            return answer.json()

        sent = bodies if len(bodies) == 2 else bodies * 2
        return list(self.pool.map(post, self.clients, sent))

    def close(self) -> None:
        self.pool.shutdown()
        for client in self.clients:
            client.close()


@pytest.fixture(scope="module")
def url(server: PostgresServer) -> str:
    """The ledger of the pair."""
    return server.new_database()


@pytest.fixture(scope="module")
def key(forks: Forkery, url: str) -> str:
    return new_shop(forks, url)


@pytest.fixture(scope="module")
def pair(forks: Forkery, url: str, key: str) -> Generator[Pair]:
    """The second holds its commits open for 30 ms, and is slow to hear of them: time for news to overtake."""
    held = FOLD_IN_THREAD + HELD_POSTGRES + SLOW_TO_HEAR
    with forks.serving(url, changes=FOLD_IN_THREAD) as one, forks.serving(url, changes=held) as two:
        made = Pair([one, two], key)
        yield made
        made.close()


def same(answers: Sequence[dict[str, Any]]) -> bool:
    """Whether these decisions are one."""
    return len({(one["decision_id"], one["variant"], one["policy_version"]) for one in answers}) == 1


def test_a_new_unit_raced_on_both_has_one_variant(pair: Pair) -> None:
    for i in range(40):
        answers = pair.both("/v1/assign", ask(f"single {i}"))
        assert answers[0]["decision_id"] is not None
        assert same(answers), answers
        assert sorted(one["reason"] for one in answers) == ["assigned", "sticky"]
    for i in range(10):  # in opposite orders, which must not lock each other out
        requests = [ask(f"many {i} {n}") for n in range(30)]
        first, second = pair.both(
            "/v1/assign/batch", {"requests": requests}, {"requests": list(reversed(requests))}
        )
        for pairwise in zip(first["decisions"], reversed(second["decisions"]), strict=True):
            assert pairwise[0]["decision_id"] is not None
            assert same(pairwise), pairwise
    check_nothing_is_doubled(pair.clients[0])


def test_batches_of_one_service_that_are_under_way_at_once_agree(pair: Pair) -> None:
    """Its commits are held open, so the second batch is decided while the first is not yet to be seen."""
    client = pair.clients[1]
    bodies = [ask(f"crowd {n % 25}") for n in range(150)]
    links = [
        {"event_id": f"link {n} {side}", "type": "identify", "unit_id": f"member {n} {side}"}
        | {"anonymous_id": f"crowd {n}"}
        for n in range(25)
        for side in ("a", "b")
    ]
    with ThreadPoolExecutor(16) as pool:
        decided = [pool.submit(client.post, "/v1/assign", json=body) for body in bodies]
        linked = [pool.submit(client.post, "/v1/events", json=link) for link in links]
        answers = [future.result().json() for future in decided]
        statuses = [future.result().status_code for future in linked]
    for n in range(25):
        of_unit = answers[n::25]
        assert of_unit[0]["decision_id"] is not None
        assert same(of_unit), of_unit
        assert sorted(statuses[2 * n : 2 * n + 2]) == [200, 409], "the first link stands"
    again = [client.post("/v1/assign", json=ask(f"crowd {n}")).json() for n in range(25)]
    assert [one["decision_id"] for one in again] == [one["decision_id"] for one in answers[:25]]
    check_nothing_is_doubled(pair.clients[0])


def test_an_event_sent_to_both_counts_once(pair: Pair, url: str) -> None:
    for i in range(20):
        orders = [
            {
                **{"event_id": f"e {i} {n}", "type": "order", "unit_id": f"u {i} {n}"},
                **{"order_id": f"o {i} {n}", "amount": 100, "currency": "EUR"},
            }
            for n in range(10)
        ]
        answers = pair.both("/v1/events", {"events": orders}, {"events": list(reversed(orders))})
        assert sum(one["accepted"] for one in answers) == 10, answers
        assert sum(one["duplicates"] for one in answers) == 10, answers
        # The same order and refund under an event_id of each one's own: the contract's other keys.
        named = [{**orders[0], "order_id": f"twice {i}", "event_id": f"{side} {i}"} for side in ("a", "b")]
        answers = pair.both("/v1/events", *named)
        assert sorted((one["accepted"], one["duplicates"]) for one in answers) == [(0, 1), (1, 0)], answers
        back = [
            {
                "event_id": f"r{side} {i}",
                "type": "refund",
                "order_id": f"o {i} 0",
                "refund_id": "r",
                "amount": 1,
            }
            for side in ("a", "b")
        ]
        answers = pair.both("/v1/events", *back)
        assert sorted((one["accepted"], one["duplicates"]) for one in answers) == [(0, 1), (1, 0)], answers
    summary = pair.clients[1].get("/v1/store/summary").json()
    assert (summary["orders"], summary["revenue"], summary["refunded"]) == (220, 22_000, 20)
    check_nothing_is_doubled(pair.clients[0])
    check_verified(url)


def test_a_refund_and_its_order_recorded_by_two_find_each_other(pair: Pair, url: str) -> None:
    before = pair.clients[0].get("/v1/store/summary").json()
    for i in range(30):
        who = {"unit_id": f"buyer {i}"}
        pair.clients[0].post("/v1/assign", json={"touchpoint": "checkout", **who})
        order = {"event_id": f"o {i}", "type": "order", **who, "order_id": f"found {i}", "amount": 50}
        refund = {"event_id": f"r {i}", "type": "refund", "order_id": f"found {i}", "amount": 20}
        pair.both("/v1/events", {**order, "currency": "EUR"}, refund)
    after = pair.clients[0].get("/v1/store/summary").json()
    grown = [after[name] - before[name] for name in ("orders", "refunded", "orphan_refunds")]
    assert grown == [30, 600, 0]
    check_verified(url)


def test_a_unit_linked_while_it_is_asked_for_is_served_alike(pair: Pair) -> None:
    """The person's earliest assignment serves on both, whichever of them heard what first."""
    linked: list[str] = []
    for i in range(30):
        customer, visitor = f"customer {i}", f"visitor {i}"
        pair.clients[0].post("/v1/assign", json=ask(customer))
        link = {
            "event_id": f"i {i}",
            "type": "identify",
            "ids": {"customer": customer},
            "anonymous_id": visitor,
        }
        asked = pair.pool.submit(pair.clients[1].post, "/v1/assign", json=ask(visitor))
        time.sleep(i / 1000)  # from before it has looked to after it has committed
        assert pair.clients[0].post("/v1/events", json=link).json()["accepted"] == 1
        assert asked.result().json()["decision_id"] is not None
        linked.append(visitor)
    time.sleep(0.5)  # news travels in milliseconds

    def differing() -> list[str]:
        found = []
        for i, visitor in enumerate(linked):
            own = pair.clients[0].post("/v1/assign", json=ask(f"customer {i}")).json()
            answers = [own, *(client.post("/v1/assign", json=ask(visitor)).json() for client in pair.clients)]
            found += [] if same(answers) else [(visitor, answers)]
        return found

    assert differing() == []


def test_versions_agree(pair: Pair) -> None:
    """What one publishes the other serves by."""
    one, two = pair.clients
    path = "/v1/experiments/checkout-addon"
    for share in (0.3, 0.6):
        shares = {"kind": "fixed", "shares": {"none": share, "socks": 1 - share}}
        version = {"If-Match": one.get(path).headers["etag"]}
        assert one.patch(path, json={"policy": shares}, headers=version).status_code == 200
        number = one.post("/v1/assign", json=ask(f"before {share}")).json()["policy_version"]

        def served(number: int = number) -> bool:
            unit = f"after {time.monotonic_ns()}"
            return two.post("/v1/assign", json=ask(unit)).json()["policy_version"] == number

        eventually(served, within_s=5)
        assert two.get(f"{path}/policy").json() == one.get(f"{path}/policy").json()
    assert number >= 3


def test_an_erased_unit_is_forgotten_by_both(pair: Pair) -> None:
    before = [pair.both("/v1/assign", ask(f"u {i}"))[0]["decision_id"] for i in range(5)]
    for i in range(5):
        assert pair.clients[0].delete(f"/v1/units/u {i}").status_code == 200
    eventually(
        lambda: all(
            pair.clients[1].post("/v1/assign", json=ask(f"u {i}")).json()["decision_id"] != before[i]
            for i in range(5)
        )
    )


def leads(serving: Serving) -> bool:
    return LEADS in serving.log.read_text("utf-8")


def test_the_leader_is_killed_and_started_again_under_load(forks: Forkery, server: PostgresServer) -> None:
    url = server.new_database()
    key = new_shop(forks, url)
    with ExitStack() as stack:
        first, second = (stack.enter_context(forks.serving(url, changes=FOLD_IN_THREAD)) for _ in range(2))
        eventually(lambda: leads(first) or leads(second))
        leader, follower = (first, second) if leads(first) else (second, first)
        load = Load([first, second], key, "replicas", survives=True)
        with load.running() as acknowledged:
            wait_for(acknowledged, 100)
            leader.process.kill()
            leader.process.wait()
            killed_at = time.monotonic()
            eventually(lambda: leads(follower), within_s=FAIL_OVER_S_MAX)
            took_s = time.monotonic() - killed_at
            again = stack.enter_context(forks.serving(url, changes=FOLD_IN_THREAD, port=leader.port))
            wait_for(acknowledged, acknowledged.count + 100)
        assert took_s < FAIL_OVER_S_MAX
        for serving in (follower, again):
            with serving.client(key, timeout_s=60) as client:
                assert lost(client, acknowledged) == []
                check_nothing_is_doubled(client)
    check_verified(url)

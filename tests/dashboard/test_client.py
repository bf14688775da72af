"""The HTTP client against a real local server, and against transports that fail."""

import httpx
import pytest

from dashboard.client import Client, KeyRefused, NotFound, ServiceDown, ServiceTrouble
from tests.dashboard.fake_service import KEY, experiment, problem


def test_the_list_is_followed_over_its_pages(fake) -> None:
    fake.experiments = [experiment(f"e{number}") for number in range(7)]
    fake.page_size = 3
    with Client(fake.url, KEY) as client:
        assert [item["key"] for item in client.experiments()] == [f"e{number}" for number in range(7)]
    assert [query.get("cursor") for _, query in fake.seen] == [None, "3", "6"]


def test_report_sends_only_the_filters_that_are_set(fake) -> None:
    with Client(fake.url + "/", KEY) as client:
        assert client.report("checkout-addon")["units_assigned"] == 34800
        client.report("checkout-addon", segment="loyal", matured=False)
    assert [query for _, query in fake.seen] == [{}, {"segment": "loyal", "matured": "false"}]


def test_policy_asks_for_all_versions_only_when_told(fake) -> None:
    with Client(fake.url, KEY) as client:
        assert len(client.policy("checkout-addon", every_version=True)["versions"]) == 60
        client.policy("checkout-addon")
    assert [query for _, query in fake.seen] == [{"all": "true"}, {}]


def test_each_failure_has_its_own_error_and_the_services_sentence(fake) -> None:
    with (
        Client(fake.url, "sk_wrong") as client,
        pytest.raises(KeyRefused, match="unknown or revoked") as refused,
    ):
        client.experiments()
    assert refused.value.status == 401
    with Client(fake.url, KEY) as client:
        with pytest.raises(NotFound, match="there is no experiment nope"):
            client.report("nope")
        fake.raw["/v1/experiments"] = problem(503, "the ledger is busy")
        with pytest.raises(ServiceTrouble, match="503: the ledger is busy"):
            client.experiments()


@pytest.mark.parametrize("body", [b"<html>a proxy's page</html>", b"[1, 2]", b"\xff"])
def test_an_answer_that_is_no_rialto_json_is_trouble(fake, body) -> None:
    fake.raw["/v1/experiments"] = (200, body)
    with Client(fake.url, KEY) as client, pytest.raises(ServiceTrouble, match="is that a Rialto service"):
        client.experiments()


@pytest.mark.parametrize(
    "failure", [httpx.ConnectTimeout("slow"), httpx.ReadTimeout("slow"), httpx.ConnectError("refused")]
)
def test_no_answer_is_service_down(failure) -> None:
    def fail(request: httpx.Request) -> httpx.Response:
        raise failure

    with (
        Client("http://rialto.test", KEY, transport=httpx.MockTransport(fail)) as client,
        pytest.raises(ServiceDown),
    ):
        client.experiments()


@pytest.mark.parametrize("url", ["not a url", "http://", "127.0.0.1:8000", "http://127.0.0.1:99999"])
def test_an_address_that_is_none_is_service_down(url) -> None:
    with pytest.raises(ServiceDown), Client(url, KEY) as client:
        client.experiments()


def test_a_key_that_cannot_be_a_header_is_refused_calmly() -> None:
    with pytest.raises(ServiceDown, match="key"), Client("http://127.0.0.1:9", "sk_“quoted”"):
        pass


def test_every_call_has_a_time_out(fake) -> None:
    seen: list[dict[str, float]] = []

    def note(request: httpx.Request) -> httpx.Response:
        seen.append(request.extensions["timeout"])
        return httpx.Response(200, json={"items": []})

    with Client("http://rialto.test", KEY, transport=httpx.MockTransport(note)) as client:
        client.experiments()
        client.report("e")
        client.policy("e")
    assert len(seen) == 3
    assert all(value is not None and value <= 10 for timeout in seen for value in timeout.values())

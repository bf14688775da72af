"""Characters that one database would take and the other not: stored on both, or refused by both alike."""

from __future__ import annotations

import base64
import json
from urllib.parse import quote

import pytest

from tests.service.asking import ask
from tests.service.conftest import Shop, document

NUL = "a\x00b"
MONEY = {"amount": 1, "currency": "EUR"}
ODD = ["a\x00b", "\x01", "\x7f", "\ufffe", "\U0010ffff", "e\u0301", "\u202e"]


def ndjson(shop: Shop) -> list[dict[str, object]]:
    told = shop.get("/v1/ledger/events", headers={"Accept": "application/x-ndjson"})
    return [json.loads(line) for line in told.text.splitlines()]


@pytest.mark.parametrize("words", ODD)
def test_what_people_write_comes_back_as_it_went(shop: Shop, words: str) -> None:
    shop.running(hypothesis=words, name=words)
    shown = shop.get("/v1/experiments/checkout-addon").json()["document"]
    assert (shown["name"], shown["hypothesis"]) == (words, words)
    rating = {"event_id": "r", "type": "rating", "unit_id": "u", "score": 1, "scale": 5, "comment": words}
    custom = {"event_id": "c", "type": "custom", "unit_id": "u", "name": "n", "properties": {words: words}}
    told = shop.post("/v1/events", {"events": [rating, custom]})
    assert told.json() == {"accepted": 2, "duplicates": 0, "rejected": []}
    again = shop.post("/v1/events", {"events": [rating, custom]})
    assert again.json() == {"accepted": 0, "duplicates": 2, "rejected": []}
    comment, properties = (row["content"] for row in ndjson(shop))
    assert comment["comment"] == words  # type: ignore[index]
    assert properties["properties"] == {words: words}  # type: ignore[index]


def test_a_context_with_odd_words_is_kept(shop: Shop) -> None:
    shop.running()
    made = ask(shop, "u", context={"device": NUL, NUL: 1})
    told = shop.get(f"/v1/decisions/{made['decision_id']}/explain").json()
    assert told["context"] == {"device": NUL, NUL: 1}


def test_a_label_is_a_line_of_text(shop: Shop) -> None:
    for label in (NUL, "a\nb"):
        refused = shop.post("/v1/keys", {"kind": "pk", "label": label})
        assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (400, "/label")
    assert shop.post("/v1/keys", {"kind": "pk", "label": "Jürgen's é ☕"}).status_code == 201


@pytest.mark.parametrize("words", [NUL, "\x01", "é", "x" * 5000])
def test_a_path_with_odd_words_finds_nothing(shop: Shop, words: str) -> None:
    name = quote(words, safe="")
    calls = [
        ("GET", f"/v1/experiments/{name}"),
        ("PATCH", f"/v1/experiments/{name}"),
        ("POST", f"/v1/experiments/{name}/start"),
        ("GET", f"/v1/experiments/{name}/report"),
        ("GET", f"/v1/experiments/{name}/policy"),
        ("GET", f"/v1/decisions/{name}"),
        ("GET", f"/v1/decisions/{name}/explain"),
        ("DELETE", f"/v1/keys/{name}"),
    ]
    for method, path in calls:
        body = {} if method == "PATCH" else None
        answer = shop.call(method, path, body, headers={"If-Match": '"1"'})
        assert answer.status_code == 404, (method, path, answer.text)
    for method in ("GET", "DELETE"):
        answer = shop.call(method, f"/v1/units/{name}")
        assert answer.status_code in (400, 404), (method, answer.text)


def test_a_variant_by_odd_words_is_not_found(shop: Shop) -> None:
    shop.running()
    for call in ("variants/a%00b/retire", "variants/a%00b/resume"):
        assert shop.post(f"/v1/experiments/checkout-addon/{call}").status_code == 404
    told = shop.post("/v1/experiments/checkout-addon/promote", {"variant": NUL})
    assert told.status_code in (400, 404)


@pytest.mark.parametrize("place", [0, 2**31, 2**63 - 1])
def test_a_cursor_may_point_beyond_the_end(shop: Shop, place: int) -> None:
    for path, length in (("keys", 1), ("experiments", 1), ("ledger/events", 1), ("ledger/decisions", 3)):
        cursor = base64.urlsafe_b64encode(json.dumps([place] * length).encode()).rstrip(b"=").decode()
        assert shop.get(f"/v1/{path}?cursor={cursor}").status_code == 200, path


def test_ids_are_told_apart_by_their_bytes(shop: Shop) -> None:
    """Not by a language's rules: these pairs are equal, or sort otherwise, under some of them."""
    shop.running()
    ids = ["A", "a", "é", "e\u0301", "ß", "ss", "a ", "a", "Z", "ä"]
    orders = [
        {
            "event_id": f"o{i}",
            "type": "order",
            "unit_id": "u",
            "order_id": name,
            "amount": 1,
            "currency": "EUR",
        }
        for i, name in enumerate(ids)
    ]
    told = shop.post("/v1/events", {"events": orders}).json()
    # The second "a" is the same order with the same content.
    assert (told["accepted"], told["duplicates"], told["rejected"]) == (9, 1, [])
    assert shop.get("/v1/store/summary").json()["orders"] == 9
    made = {ask(shop, name)["decision_id"] for name in ids}
    assert len(made) == 9


def test_an_experiment_whose_words_are_odd_is_created_once(shop: Shop) -> None:
    body = document(name=NUL)
    assert shop.post("/v1/experiments", body).status_code == 201
    assert shop.post("/v1/experiments", body).status_code == 200

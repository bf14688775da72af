"""The two hot routes refuse what the typed decoding refuses, with the same problem document.

Valid bodies are spoilt by chance, in their values, names and bytes; the reference is `service.wire` with the
structs of the wire, as every other route uses it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from random import Random
from typing import Annotated, Any

import msgspec
import pytest
from msgspec import Meta

from service.api.asking import AssignRequest, ContextItem
from service.event_types import AnyEvent, CartItem
from service.problems import Problem, as_json, bad_field, bad_request
from service.wire import Wire, convert, decode, open_map_faults
from tests.service.conftest import Shop

TURNS = 600
ASK = {
    "touchpoint": "checkout",
    "ids": {"visitor": "v", "customer": "c"},
    "experiment": "checkout-addon",
    "context": {
        "cart": [{"sku": "A", "price": 1, "quantity": 2, "cost": 1, "category": "x"}, {"sku": "B"}],
        "item": {"sku": "A", "price": 5},
        "segment": "vip",
        "device": "phone",
    },
    "mode": "live",
}
SENT: list[dict[str, Any]] = [
    {
        **{"event_id": "o", "type": "order", "unit_id": "u", "order_id": "o", "amount": 900},
        **{"currency": "EUR", "cost": 300, "cart_id": "k", "fx_rate": 1.5},
        "items": [{"sku": "A", "price": 450, "quantity": 2, "cost": 150}],
    },
    {"event_id": "r", "type": "refund", "order_id": "o", "refund_id": "r", "amount": 1, "cost_recovered": 1},
    {"event_id": "a", "type": "order_adjusted", "order_id": "o", "amount_delta": -1, "cost_delta": 2},
    {"event_id": "k", "type": "cart", "ids": {"visitor": "v"}, "cart_id": "k", "items": [{"sku": "A"}]},
    {"event_id": "s", "type": "rating", "unit_id": "u", "score": 4, "scale": 5, "comment": "good"},
    {"event_id": "i", "type": "identify", "ids": {"customer": "c"}, "anonymous_id": "v"},
    {"event_id": "c", "type": "custom", "unit_id": "u", "name": "n", "value": 1.5, "properties": {"a": 1}},
    {"event_id": "d", "type": "decline", "decision_id": "d_x", "reason": "price"},
]
EVENTS = [{"occurred_at": "2026-01-01T00:00:00Z", **event} for event in SENT]
JUNK: dict[type, list[Any]] = {
    int: [-1, 0, 1.5, True, "1", 10**12 + 1, 10**30, -(2**63) - 1],
    float: [-1, 0, "1", 1e308, 10**30, True],
    str: ["", "a", "A b", "a\nb", "x" * 129, "x" * 4097, 1],
    list: [[1] * 201, [[]], {}, "", [{"sku": 1}], [{"sku": "A", "price": -1}], [None]],
    dict: [{str(i): i for i in range(65)}, {"a": {}}, [], "", {"visitor": ""}],
}
"""What spoils a value of a type."""
TIMES = [
    "2026-01-01T00:00:00",
    "2026-01-01 00:00:00",
    "2026-02-30T00:00:00Z",
    "now",
    "0001-01-01T00:00:00+14:00",
    1,
]
ANYTHING = [None, *TIMES, *(junk for kind in JUNK.values() for junk in kind)]
NAMES = ["unit_id", "ids", "type", "events", "requests", "colour", "", "a/b", "a.b", "[0]", "~", "amount"]
LATER = {
    *("experiment_not_found", "required", "import_scope_required", "not_forced", "unknown_variant"),
    *("not_a_scalar", "too_many", "too_long", "out_of_range", "unit_twice", "clock_ahead"),
    *("reserved_event_id", "unit_missing", "decision_not_found", "unknown_currency", "conflict"),
    *("unit_mismatch", "already_identified", "identity_chain", "currency_mismatch"),
}
"""What is found only after the types are right."""


class Batch(Wire, frozen=True):
    """A batch with its requests unread."""

    requests: Annotated[list[Any], Meta(max_length=1000)]


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place within a value."""
    members = (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    )
    return [path, *(place for key, member in members for place in places(member, (*path, key)))]


def spoilt(value: Any, chance: Random) -> Any:
    """A copy with one thing wrong, perhaps."""
    value = json.loads(json.dumps(value))
    all_places = places(value)[1:] or [("a",)]
    near = [place for place in all_places if len(place) == 1]
    *way, last = chance.choice(chance.choice([near, all_places]))
    holder = value
    for step in way:
        holder = holder[step]
    if not isinstance(holder, dict | list):
        return value
    match chance.choice(["replace", "replace", "remove", "add", "rename"]):
        case "replace":
            fitting = TIMES if last == "occurred_at" else JUNK.get(type(holder[last]), ANYTHING)
            fitting = chance.choice([fitting, ANYTHING])
            holder[last] = chance.choice(fitting)
        case "remove":
            holder.pop(last)
        case "add" if isinstance(holder, dict):
            holder[chance.choice(NAMES)] = chance.choice(ANYTHING)
        case "rename" if isinstance(holder, dict):
            holder[chance.choice(NAMES)] = holder.pop(last)
        case _:
            pass
    return value


def as_bytes(value: Any, chance: Random) -> bytes:
    """The value as JSON; one time in six its bytes are spoilt."""
    raw = json.dumps(value, ensure_ascii=chance.random() < 0.5).encode()
    if chance.random() < 5 / 6:
        return raw
    if chance.random() < 0.3:
        return re.sub(rb": \d+", chance.choice([b": NaN", b": -Infinity", b": 1e999", b": 01"]), raw, count=1)
    at = chance.randrange(len(raw))
    other = chance.choice([b"", b"\xff", b'"', b"}", b",", b"\\", b"\x00"])
    return chance.choice([raw[:at] + other, raw[:at] + other + raw[at + 1 :]])


def problem_of(run: Callable[[], Any]) -> dict[str, Any] | None:
    """The document of the problem it raises, or None."""
    try:
        run()
    except Problem as problem:
        return as_json(problem)
    return None


def bodies(valid: list[dict[str, Any]], chance: Random) -> list[Any]:
    """One to three bodies, each spoilt up to twice."""
    found: list[Any] = []
    for value in chance.choices(valid, k=chance.randint(1, 3)):
        body: Any = value
        for _ in range(chance.randint(0, 2)):
            body = spoilt(body, chance)
        found.append(body)
    return found


@pytest.fixture(scope="module")
def shop(module_open_shop: Callable[..., Shop]) -> Shop:
    made = module_open_shop()
    made.running()
    return made


def problem_of_context(context: dict[str, Any]) -> dict[str, Any] | None:
    """What is wrong with a context that is an object."""

    def read() -> None:
        fields = {name: value for name, value in context.items() if name not in ("cart", "item")}
        if faults := open_map_faults(fields, "/context"):
            raise bad_request(faults)
        cart = convert(context.get("cart", []), list[CartItem], prefix="/context/cart")
        if len(cart) > 200:
            raise bad_field("/context/cart", "too_many", f"keep at most 200 items, found {len(cart)}")
        convert(context.get("item", {}), ContextItem, prefix="/context/item")
        if not isinstance(fields.get("segment"), str | None):
            raise bad_field("/context/segment", "wrong_type", "a segment's key is text")

    return problem_of(read)


def problem_of_ask(raw: bytes | dict[str, Any]) -> dict[str, Any] | None:
    """What the types say of an ask; of its context only where nothing comes before it."""
    kind = AssignRequest
    if found := problem_of(lambda: decode(raw, kind) if isinstance(raw, bytes) else convert(raw, kind)):
        return found
    ask = msgspec.json.decode(raw) if isinstance(raw, bytes) else raw
    comes_first = ask.get("experiment") != "checkout-addon" or {*ask} & {
        "occurred_at",
        "variant",
        "propensity",
    }
    return None if comes_first or ask.get("mode") == "forced" else problem_of_context(ask.get("context", {}))


def check_one(answer: Any, expected: dict[str, Any] | None) -> None:
    if expected is not None:
        assert answer.headers["content-type"] == "application/problem+json"
        assert (answer.status_code, answer.json()) == (expected["status"], expected)
    elif answer.status_code != 200:
        check_later(answer.json())


def check_later(problem: dict[str, Any]) -> None:
    assert problem["status"] in (400, 403, 404, 409), problem
    of_context = any(error["pointer"].startswith("/context") for error in problem["errors"])
    assert of_context or problem["code"] in LATER, problem


def test_an_ask_is_refused_as_the_types_say(shop: Shop) -> None:
    for seed in range(TURNS):
        chance = Random(seed)
        raw = as_bytes(bodies([ASK], chance)[0], chance)
        check_one(shop.post("/v1/assign", raw), problem_of_ask(raw))


def test_an_event_is_refused_as_the_types_say(shop: Shop) -> None:
    for seed in range(TURNS):
        chance = Random(seed)
        raw = as_bytes(bodies(EVENTS, chance)[0], chance)
        body: Any = {}
        malformed = problem_of(lambda body=body, raw=raw: body.update(decode(raw, dict[str, Any])))
        if malformed is None and "events" in body and "type" not in body:
            continue  # a list, not an event
        expected = malformed or problem_of(lambda body=body: convert(body, AnyEvent))
        check_one(shop.post("/v1/events", raw), expected)


def test_a_batch_is_refused_as_the_types_say(shop: Shop) -> None:
    for seed in range(TURNS):
        chance = Random(seed)
        raw = as_bytes(spoilt({"requests": bodies([ASK], chance)}, chance), chance)
        expected = problem_of(lambda raw=raw: decode(raw, Batch))
        check_one(shop.post("/v1/assign/batch", raw), expected)


def test_in_a_list_each_is_refused_as_the_types_say(shop: Shop) -> None:
    for seed in range(TURNS):
        chance = Random(seed)
        events, asks = bodies(EVENTS, chance), bodies([ASK], chance)
        told = shop.post("/v1/events", {"events": events}).json()
        found = {one["index"]: one["problem"] for one in told["rejected"]}
        assert told["accepted"] + told["duplicates"] + len(found) == len(events)
        batch = shop.post("/v1/assign/batch", {"requests": asks}).json()["decisions"]
        answers = [*(found.get(i) for i in range(len(events))), *(one.get("problem") for one in batch)]
        refused = [problem_of(lambda event=event: convert(event, AnyEvent)) for event in events]
        refused += [problem_of_ask(ask) for ask in asks]
        for answer, expected in zip(answers, refused, strict=True):
            if expected is not None:
                assert answer == expected, seed
            elif answer is not None:
                check_later(answer)


def test_chance_reaches_most_kinds_of_fault() -> None:
    """Without them the tests above would prove little."""
    codes: set[str] = set()
    for seed in range(TURNS):
        chance = Random(seed)
        raw = as_bytes(bodies(EVENTS, chance)[0], chance)
        body: Any = {}
        found = problem_of(lambda body=body, raw=raw: body.update(decode(raw, dict[str, Any])))
        ask = problem_of_ask(as_bytes(bodies([ASK], chance)[0], chance))
        event = found or problem_of(lambda body=body: convert(body, AnyEvent))
        codes |= {problem["code"] for problem in (ask, event) if problem}
    assert codes >= {
        *("malformed_json", "not_a_number", "unknown_field", "required", "wrong_type", "not_one_of"),
        *("too_small", "too_large", "too_short", "too_long", "bad_format", "bad_time"),
    }

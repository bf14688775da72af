"""The state machine: calls of every kind in any order, each answer and in the end every number foretold."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.machine import world
from tests.machine.foretold import Ask, Foretold
from tests.machine.live import Live
from tests.machine.model import DUPLICATE, Model
from tests.machine.world import HOUR, TOUCHPOINTS
from tests.service.oracle import wire_time

any_one = st.integers(0, 10**6)
"""Which one of those there are."""


class ShopMachine(Foretold, RuleBasedStateMachine):
    """One shop, and its model beside it."""

    def __init__(self, new_live: Callable[[], Live]) -> None:
        super().__init__()
        self.model = Model()
        self.versions = {}
        self.numbers = 0
        self.live = new_live()

    @initialize()
    def start(self) -> None:
        self.live.open()
        self.live.set_up()

    def teardown(self) -> None:
        try:
            if sys.exception() is None:  # else the step that failed is what is told
                self.compare_everything()
        finally:
            self.live.close()

    # -- assign

    @rule(ask=world.asks, is_public=st.booleans(), seconds=st.integers(1, 600))
    def ask(self, ask: Ask, is_public: bool, seconds: int) -> None:
        self.move(seconds)
        keys, body, expected = self.expected(ask, self.model.now, is_public=is_public)
        key = self.live.keys.publishable_key if is_public else None
        answer = self.live.ok("/v1/assign", body, key=key)
        self.check_answer(keys, expected, answer, self.model.now, is_public=is_public)

    @rule(asks=st.lists(world.asks, min_size=1, max_size=4))
    def ask_for_many(self, asks: list[Ask]) -> None:
        """A batch, one second apart: which of two is the earlier must be said."""
        self.move(len(asks))
        requests = [self.body(ask) for ask in asks]
        times = [self.model.now - len(asks) + 1 + i for i in range(len(asks))]
        for body, at in zip(requests, times, strict=True):
            body["occurred_at"] = wire_time(at)
        answers = self.live.ok("/v1/assign/batch", {"requests": requests})["decisions"]
        for ask, answer, at in zip(asks, answers, times, strict=True):
            keys, _, expected = self.expected(ask, at, is_public=False)
            self.check_answer(keys, expected, answer, at, is_public=False)

    @precondition(lambda self: self.model.made)
    @rule(which=any_one, seconds=st.integers(1, 40 * HOUR))
    def ask_again(self, which: int, seconds: int) -> None:
        """A unit that was assigned comes back: by its own id it gets what it had, or what its person had."""
        made = self.pick(self.model.made, which)
        if made.unit in world.ALL_IDS:
            place = next(name for name, keys in TOUCHPOINTS.items() if made.experiment in keys)
            self.ask((place, False, {"unit_id": made.unit}, [], {"device": "phone"}), False, seconds)

    # -- events

    @precondition(lambda self: self.model.made)
    @rule(
        which=any_one,
        kind=st.sampled_from(["exposure", "exposure", "click", "accept", "decline", "message_opened"]),
        late=world.lateness,
    )
    def slot(self, which: int, kind: str, late: int | None) -> None:
        self.send(self.event(kind, self.decision(which), late))

    @rule(order=world.orders, who=world.who, which=any_one, is_credited=st.booleans(), late=world.lateness)
    def order(
        self, order: dict[str, Any], who: dict[str, Any], which: int, is_credited: bool, late: int | None
    ) -> None:
        named = self.decision(which) if is_credited and self.model.made else who
        self.send(self.event("order", {**order, **named}, late))

    @rule(order=world.orders, who=world.who, which=any_one)
    def order_of_a_decision_and_somebody(
        self, order: dict[str, Any], who: dict[str, Any], which: int
    ) -> None:
        """Both may stand in one event; where they disagree it is refused."""
        decision = self.decision(which) if self.model.made else {}
        self.send(self.event("order", {**order, **who, **decision}, None))

    @rule(refund=world.refunds, who=st.one_of(st.just({}), world.who), late=world.lateness)
    def refund(self, refund: dict[str, Any], who: dict[str, Any], late: int | None) -> None:
        self.send(self.event("refund", {**refund, **who}, late))

    @rule(order_id=st.sampled_from(world.ORDERS), late=world.lateness)
    def cancel(self, order_id: str, late: int | None) -> None:
        self.send(self.event("cancel", {"order_id": order_id}, late))

    @rule(change=world.adjustments, late=world.lateness)
    def adjust(self, change: dict[str, Any], late: int | None) -> None:
        self.send(self.event("order_adjusted", change, late))

    @rule(
        kind=st.sampled_from(["cart", "cart", "checkout_started", "abandonment"]),
        cart=world.cart_events,
        who=world.who,
        late=world.lateness,
    )
    def cart(self, kind: str, cart: dict[str, Any], who: dict[str, Any], late: int | None) -> None:
        self.send(self.event(kind, {**cart, **who}, late))

    @rule(
        said=st.one_of(
            st.tuples(st.just("custom"), world.customs), st.tuples(st.just("rating"), world.ratings)
        ),
        who=world.who,
        late=world.lateness,
    )
    def say(self, said: tuple[str, dict[str, Any]], who: dict[str, Any], late: int | None) -> None:
        self.send(self.event(said[0], {**said[1], **who}, late))

    @rule(customer=st.sampled_from(world.CUSTOMERS), visitor=st.sampled_from(world.ALL_IDS))
    def identify(self, customer: str, visitor: str) -> None:
        body = {"ids": {"customer": customer}, "anonymous_id": visitor}
        self.send(self.event("identify", body, None))

    @rule(
        visitor=st.sampled_from(world.VISITORS),
        customer=st.sampled_from(world.CUSTOMERS),
        is_first=st.booleans(),
    )
    def log_in(self, visitor: str, customer: str, is_first: bool) -> None:
        """A visitor and a customer come, each as such, then turn out to be one, and both come back."""
        both = [visitor, customer] if is_first else [customer, visitor]
        come: list[Ask] = [("cart", True, {"unit_id": unit}, [], {}) for unit in both]
        for ask in come:
            self.ask(ask, False, 60)
        self.identify(customer, visitor)
        for ask in come:
            self.ask(ask, False, 60)

    @precondition(lambda self: self.model.contents)
    @rule(which=any_one, is_new_id=st.booleans())
    def send_again(self, which: int, is_new_id: bool) -> None:
        """The same content under the same key, or an order or a refund under a new id of the event."""
        event_id = self.pick(list(self.model.contents), which)
        body = {"event_id": event_id, **self.model.contents[event_id]}
        if is_new_id and (body["type"] == "order" or "refund_id" in body):
            body["event_id"] = self.new_id()
        assert self.send(body) == [DUPLICATE]

    @precondition(lambda self: self.model.contents)
    @rule(which=any_one)
    def contradict(self, which: int) -> None:
        """Other content under a key: refused, the first stands."""
        event_id = self.pick(list(self.model.contents), which)
        body = {"event_id": event_id, **self.model.contents[event_id], "properties": {"other": True}}
        assert self.send(body) == [(409, "conflict")]

    @rule(
        many=st.lists(
            st.one_of(world.orders, world.refunds.map(lambda r: {**r, "is_refund": True})), max_size=6
        ),
        who=world.who,
        is_doubled=st.booleans(),
    )
    def send_a_list(self, many: list[dict[str, Any]], who: dict[str, Any], is_doubled: bool) -> None:
        bodies = []
        for body in many:
            is_refund = body.get("is_refund", False)
            content = {name: value for name, value in body.items() if name != "is_refund"}
            bodies.append(
                self.event("refund" if is_refund else "order", content | ({} if is_refund else who), 60)
            )
        self.send(*bodies, *(bodies[:2] if is_doubled else []))

    # -- the world

    @rule(seconds=st.sampled_from([60, HOUR, 6 * HOUR, 30 * HOUR]))
    def move(self, seconds: int) -> None:
        self.model.now += seconds
        self.live.set_clock(self.model.now)

    @rule()
    def restart(self) -> None:
        self.live.restart()

    @rule(unit=st.sampled_from(world.ALL_IDS))
    def erase(self, unit: str) -> None:
        gone = self.model.erase(unit)
        answer = self.live.shop.call("DELETE", f"/v1/units/{unit}")
        if gone:
            assert (answer.status_code, answer.json()) == (200, {"erased_units": len(gone)})
        else:
            assert (answer.status_code, answer.json().get("code")) == (404, "unit_not_found")

    @rule(unit=st.sampled_from(world.ALL_IDS))
    def journey(self, unit: str) -> None:
        answer = self.live.shop.get(f"/v1/units/{unit}")
        if unit not in self.model.seen:
            assert answer.status_code == 404
            return
        ids = self.model.one_with(unit)
        told = answer.json()
        assert set(told["unit_ids"]) == ids
        decisions = {s["assignment"]["decision_id"] for s in told["journey"] if s["kind"] == "assignment"}
        assert decisions == {one.decision_id for one in self.model.made if one.unit in ids}

    @rule()
    def sum_up(self) -> None:
        self.check_summary()

    @invariant()
    def an_assignment_stands(self) -> None:
        if self.model.made:
            made = self.pick(self.model.made, self.numbers)
            told = self.live.ok(f"/v1/decisions/{made.decision_id}")
            assert (told["experiment"], told["variant"]) == (made.experiment, made.variant)

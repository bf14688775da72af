"""The state machine: calls of every kind in any order, each answer and in the end every number foretold."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.machine import world
from tests.machine.live import Live
from tests.machine.model import ACCEPTED, DUPLICATE, Expected, Model, Verdict, offer_of
from tests.machine.world import HOUR, RULES, SETTINGS, TOUCHPOINTS
from tests.service import oracle
from tests.service.histories import NUMERATORS
from tests.service.oracle import Assigned, wire_time

Ask = tuple[str, bool, dict[str, Any], list[str], dict[str, Any]]
any_one = st.integers(0, 10**6)
"""Which one of those there are."""


class ShopMachine(RuleBasedStateMachine):
    """One shop, and its model beside it."""

    def __init__(self, new_live: Callable[[], Live]) -> None:
        super().__init__()
        self.model = Model()
        self.versions: dict[str, int] = {}  # the policy's, by decision_id
        self.numbers = 0
        self.live = new_live()

    @initialize()
    def start(self) -> None:
        self.live.open()

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
            assert (answer.status_code, answer.json()["code"]) == (404, "unit_not_found")

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
        told = self.live.ok("/v1/store/summary")
        wanted = oracle.summary(SETTINGS, self.model.events)
        assert {name: told[name] for name in wanted} == wanted

    @invariant()
    def an_assignment_stands(self) -> None:
        if self.model.made:
            made = self.pick(self.model.made, self.numbers)
            told = self.live.ok(f"/v1/decisions/{made.decision_id}")
            assert (told["experiment"], told["variant"]) == (made.experiment, made.variant)

    # -- the end

    def compare_everything(self) -> None:
        """Cells, reports, summary and lists equal the oracle's, and `verify` is exact."""
        self.live.set_clock(self.model.now)  # carts given up by now are noted when the clock is set
        self.sum_up()
        found = self.live.cells()
        for key, rules in RULES.items():
            expected = oracle.cells(SETTINGS, rules, self.model.made, self.model.events, self.model.now)
            assert found[key] == expected, key
            self.check_report(key, expected)
        self.live.check_verified()
        self.check_lists()

    def check_report(self, key: str, cells: dict[Any, dict[Any, int]]) -> None:
        report = self.live.ok(f"/v1/experiments/{key}/report?matured=false")
        for variant in report["variants"]:
            sums: dict[str, int] = {}
            for place, cell in cells.items():
                for feature, value in cell.items() if place[0] == variant["key"] else ():
                    sums[feature] = sums.get(feature, 0) + value
            counts = (sums.get("assigned", 0), sums.get("exposed", 0))
            assert (variant["assigned"], variant["exposed"]) == counts, key
            for metric, (top, bottom) in NUMERATORS.items():
                told = variant["metrics"][metric]
                if told.get("numerator") is None:
                    assert told.get("reason"), (key, metric, told)
                    continue
                numerator = sum(sign * sums.get(name, 0) for name, sign in top.items())
                assert (told["numerator"], told["denominator"]) == (numerator, sums.get(bottom, 0)), metric

    def check_lists(self) -> None:
        decisions = [self.told_decision(one) for one in self.live.lines("/v1/ledger/decisions")]
        assert sorted(decisions) == sorted(self.noted_decision(one) for one in self.model.made)
        events = [
            one for one in self.live.lines("/v1/ledger/events") if not one["event_id"].startswith("rialto:")
        ]
        assert [self.told_event(one) for one in events] == [
            self.noted_event(one) for one in self.model.events
        ]

    def told_decision(self, decision: dict[str, Any]) -> tuple[Any, ...]:
        names = ("decision_id", "experiment", "variant", "segment", "policy_version")
        return (*(decision[name] for name in names), self.known({decision["unit_id"]}), decision["at"][:19])

    def noted_decision(self, made: Assigned) -> tuple[Any, ...]:
        said = (
            made.decision_id,
            made.experiment,
            made.variant,
            made.segment,
            self.versions[made.decision_id],
        )
        return (*said, self.known({made.unit}), wire_time(made.at)[:19])

    def told_event(self, event: dict[str, Any]) -> tuple[Any, ...]:
        names = ("event_id", "type", "decision_id", "order_id", "refund_id")
        reached = self.known(event["unit_ids"])
        return (*(event[name] for name in names), event["occurred_at"][:19], reached)

    def noted_event(self, event: oracle.Happened) -> tuple[Any, ...]:
        body = event.body
        said = (
            body["event_id"],
            event.type,
            *(body.get(name) for name in ("decision_id", "order_id", "refund_id")),
        )
        reached = self.known({id_ for _, id_ in event.names} | {body.get("anonymous_id")})
        return (*said, wire_time(event.at)[:19], reached)

    def known(self, ids: Iterable[str | None]) -> list[str]:
        """Those that somebody may name: not of the erased, nor what calls without a unit are given."""
        return sorted({id_ for id_ in ids if id_ in self.model.seen} & set(world.ALL_IDS))

    # -- helpers

    def body(self, ask: Ask) -> dict[str, Any]:
        touchpoint, is_named, who, cart, context = ask
        place = {"experiment": TOUCHPOINTS[touchpoint][-1]} if is_named else {"touchpoint": touchpoint}
        lines = [{"sku": world.OFFERS[key]["sku"], "price": 100} for key in cart]
        return {**place, **who, "context": {**context, "cart": lines}}

    def expected(
        self, ask: Ask, at: int, *, is_public: bool
    ) -> tuple[Sequence[str], dict[str, Any], Expected]:
        touchpoint, is_named, who, cart, context = ask
        keys = TOUCHPOINTS[touchpoint][-1:] if is_named else TOUCHPOINTS[touchpoint]
        expected = self.model.expect(keys, who, context, cart, at=at, is_public=is_public)
        return keys, self.body(ask), expected

    def check_answer(
        self, keys: Sequence[str], expected: Expected, answer: dict[str, Any], at: int, *, is_public: bool
    ) -> None:
        """The answer is as foretold; a new assignment is noted."""
        told = (answer["reason"], answer["experiment"])
        assert told == (expected.reason, expected.experiment), (keys, answer)
        before = expected.before
        if before is None and not expected.candidates:
            nothing = (answer["decision_id"], answer["propensity"], answer["policy_version"])
            assert nothing == (None, None, None), answer
            assert answer["offer"] == {"kind": "none"}
            return
        if before is None:
            assert answer["variant"] in expected.candidates, answer
            assert answer["decision_id"] not in {one.decision_id for one in self.model.made}
            self.model.assigned(expected, at, answer["variant"], answer["decision_id"])
            before = self.model.made[-1]
            self.versions[before.decision_id] = answer["policy_version"]
        assert (answer["decision_id"], answer["variant"]) == (before.decision_id, before.variant)
        shown = None if expected.reason == "not_eligible_now" else before.variant
        assert answer["offer"] == offer_of(shown, is_public=is_public)
        assert answer["policy_version"] == self.versions[before.decision_id] >= 1
        if is_public:
            assert answer["propensity"] is None
        else:
            assert abs(answer["propensity"] - 1 / len(before.members)) < 1e-8, answer

    def send(self, *bodies: dict[str, Any]) -> list[Verdict]:
        """Send events, one alone as such, and hold the answer to the model's verdicts."""
        verdicts = [self.model.judge(body) for body in bodies]
        refused = {i: verdict for i, verdict in enumerate(verdicts) if isinstance(verdict, tuple)}
        if len(bodies) == 1:
            answer = self.live.shop.post("/v1/events", bodies[0])
            if refused:
                assert (answer.status_code, answer.json()["code"]) == refused[0], (bodies, answer.text)
                return verdicts
        else:
            answer = self.live.shop.post("/v1/events", {"events": list(bodies)})
        assert answer.status_code == 200, answer.text
        told = answer.json()
        problems = {one["index"]: one["problem"] for one in told["rejected"]}
        assert {i: (p["status"], p["code"]) for i, p in problems.items()} == refused, (bodies, told)
        counted = (verdicts.count(ACCEPTED), verdicts.count(DUPLICATE))
        assert (told["accepted"], told["duplicates"]) == counted, (bodies, told)
        return verdicts

    def event(self, kind: str, content: dict[str, Any], late: int | None) -> dict[str, Any]:
        body = {"event_id": self.new_id(), "type": kind, **content}
        return body if late is None else {**body, "occurred_at": wire_time(self.model.now - late)}

    def new_id(self) -> str:
        self.numbers += 1
        return f"e{self.numbers}"

    def decision(self, which: int) -> dict[str, Any]:
        made: Assigned = self.pick(self.model.made, which)
        return {"decision_id": made.decision_id}

    def pick(self, some: Sequence[Any], which: int) -> Any:
        return some[which % len(some)]

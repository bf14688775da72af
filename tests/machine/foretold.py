"""What the state machine foretells: each answer as it comes, and in the end every number."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from tests.machine import world
from tests.machine.live import Live
from tests.machine.model import ACCEPTED, DUPLICATE, Expected, Model, Verdict, offer_of
from tests.machine.world import RULES, SETTINGS, TOUCHPOINTS
from tests.service import oracle
from tests.service.histories import NUMERATORS
from tests.service.oracle import Assigned, wire_time

Ask = tuple[str, bool, dict[str, Any], list[str], dict[str, Any]]


class Foretold:
    """A shop and its model, and what must be the same of both."""

    model: Model
    live: Live
    versions: dict[str, int]  # the policy's, by decision_id
    numbers: int

    # -- the end

    def compare_everything(self) -> None:
        """Cells, reports, summary and lists equal the oracle's, and `verify` is exact."""
        self.live.set_clock(self.model.now)  # carts given up by now are noted when the clock is set
        self.check_summary()
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
        reached = self.known(self.named(event) or self.named_by_order(body.get("order_id")))
        return (*said, wire_time(event.at)[:19], reached)

    def named(self, event: oracle.Happened) -> set[str | None]:
        """Whom the event names, by itself or through its decision."""
        anonymous = {event.body["anonymous_id"]} if "anonymous_id" in event.body else set()
        return {id_ for _, id_ in event.names} | anonymous

    def named_by_order(self, order_id: str | None) -> set[str | None]:
        """Whom the orders of that id name: a refund that names nobody reaches them."""
        orders = [
            one for one in self.model.events if one.type == "order" and one.body["order_id"] == order_id
        ]
        return set().union(*map(self.named, orders))

    def known(self, ids: Iterable[str | None]) -> list[str]:
        """Those that somebody may name: not of the erased, nor what calls without a unit are given."""
        return sorted({id_ for id_ in ids if id_ in self.model.seen} & set(world.ALL_IDS))

    def check_summary(self) -> None:
        told = self.live.ok("/v1/store/summary")
        wanted = oracle.summary(SETTINGS, self.model.events)
        assert {name: told[name] for name in wanted} == wanted

    # -- as it comes

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
                assert (answer.status_code, answer.json().get("code")) == refused[0], (bodies, answer.text)
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

"""What the service must answer, and what it then holds, by the contract alone.

Plain lists and dictionaries; what they add up to is the oracle's. Nothing here is the service's or the
core's, so that the two can only agree by both being right.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from tests.machine.world import OFFERS, RULES, START, VARIANTS
from tests.service.oracle import PERSON, Assigned, Happened, Rules

KINDS = ("visitor", "customer", "session")
OF_ORDERS = ("refund", "cancel", "order_adjusted")
ACCEPTED, DUPLICATE = "accepted", "duplicate"
Verdict = str | tuple[int, str]
"""Accepted, a duplicate, or refused: the status alone, and the code."""


@dataclass(frozen=True)
class Expected:
    """The answer to an ask: an assignment made before, or one of the candidates now, or none of both."""

    reason: str
    experiment: str
    before: Assigned | None = None
    candidates: tuple[str, ...] = ()
    unit: str = ""
    segment: str = ""


@dataclass
class Model:
    """One shop as it must be."""

    now: int = START
    made: list[Assigned] = field(default_factory=list)
    events: list[Happened] = field(default_factory=list)
    contents: dict[str, dict[str, Any]] = field(default_factory=dict)  # event_id -> what it said
    orders: dict[str, dict[str, Any]] = field(default_factory=dict)
    refunds: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    person: dict[str, str] = field(default_factory=dict)  # id -> the customer it is one with
    seen: set[str] = field(default_factory=set)
    erased: int = 0
    calls: int = 0

    # -- assignments

    def expect(self, keys: Sequence[str], who: dict[str, Any], context: dict[str, Any], cart: Sequence[str],
               *, at: int, is_public: bool) -> Expected:  # fmt: skip
        """The answer to an ask at a touchpoint with these experiments."""
        refused: Expected | None = None
        for key in keys:
            found = self._expect_in(RULES[key], who, context, cart, at)
            if found.before is not None or found.candidates:
                return replace(found, segment="" if is_public else context.get("segment", ""))
            refused = refused or found
        assert refused is not None
        return refused

    def _expect_in(
        self, rules: Rules, who: dict[str, Any], context: dict[str, Any], cart: Sequence[str], at: int
    ) -> Expected:
        unit = who.get("unit_id", who.get("ids", {}).get(rules.kind))
        if unit is None and rules.kind == "request":
            self.calls += 1
            unit = f"call {self.calls}"
        if unit is None:
            return Expected("unit_id_missing", rules.key)
        before = self.serving(rules, unit, at)
        if before is not None:
            is_hidden = before.variant in cart
            return Expected("not_eligible_now" if is_hidden else "sticky", rules.key, before)
        if rules.key == "phones-first" and context.get("device") != "phone":
            return Expected("not_in_audience", rules.key)
        candidates = tuple(key for key in VARIANTS if key not in cart)
        if len(candidates) < 2:
            return Expected("no_eligible_variant", rules.key)
        return Expected("assigned", rules.key, None, candidates, unit)

    def serving(self, rules: Rules, unit: str, at: int) -> Assigned | None:
        """The assignment that serves a unit: the earliest of its person in the open period."""
        ids = self.one_with(unit) if rules.kind in PERSON else {unit}
        mine = sorted(
            (a for a in self.made if a.experiment == rules.key and a.unit in ids), key=lambda a: a.at
        )
        opened: Assigned | None = None
        for one in mine:
            if opened is None or (
                rules.reassign_after is not None and one.at - opened.at >= rules.reassign_after
            ):
                opened = one
        if opened is None or rules.reassign_after is None:
            return opened
        return None if at - opened.at >= rules.reassign_after else opened

    def assigned(self, expected: Expected, at: int, variant: str, decision_id: str) -> None:
        """Note an assignment that was answered."""
        kind = RULES[expected.experiment].kind
        made = Assigned(
            *(expected.experiment, kind, expected.unit, at),
            *(variant, expected.candidates, decision_id, expected.segment),
        )
        self.made.append(made)
        self.seen.add(expected.unit)

    def one_with(self, unit: str) -> set[str]:
        """The ids that are one person with this one."""
        root = self.person.get(unit)
        return {unit} if root is None else {id_ for id_, of in self.person.items() if of == root}

    # -- events

    def judge(self, body: dict[str, Any]) -> Verdict:
        """What becomes of an event; one that is accepted is noted."""
        verdict = self._verdict(body)
        if verdict == ACCEPTED:
            self._note(body)
        return verdict

    def _verdict(self, body: dict[str, Any]) -> Verdict:
        names, decision = self._names(body), self._decision(body)
        if not names and decision is None and body["type"] not in OF_ORDERS:
            return (400, "unit_missing")
        if body["type"] == "identify" and self._customer(body) is None:
            return (400, "unit_missing")
        repeated = self._repeated(body)
        if repeated is not None:
            return repeated
        if decision is not None and self._is_another(names, decision):
            return (400, "unit_mismatch")
        if body["type"] == "refund" and "currency" in body:
            order = self.orders.get(body["order_id"])
            if order is not None and order["currency"] != body["currency"]:
                return (400, "currency_mismatch")
        return self._link(body) if body["type"] == "identify" else ACCEPTED

    def _repeated(self, body: dict[str, Any]) -> Verdict | None:
        content = content_of(body)
        same: list[dict[str, Any] | None] = [self.contents.get(body["event_id"])]
        if body["type"] == "order":
            same.append(self.orders.get(body["order_id"]))
        if "refund_id" in body:
            same.append(self.refunds.get((body["order_id"], body["refund_id"])))
        found = next((before for before in same if before is not None), None)
        if found is None:
            return None
        return DUPLICATE if found == content else (409, "conflict")

    def _names(self, body: dict[str, Any]) -> frozenset[tuple[str, str]]:
        if "unit_id" in body:
            return frozenset((kind, body["unit_id"]) for kind in KINDS)
        return frozenset(body.get("ids", {}).items())

    def _decision(self, body: dict[str, Any]) -> Assigned | None:
        wanted = body.get("decision_id")
        return next((one for one in self.made if one.decision_id == wanted), None)

    def _is_another(self, names: Iterable[tuple[str, str]], decision: Assigned) -> bool:
        named = [id_ for kind, id_ in names if kind == decision.kind]
        if not named or decision.unit not in self.seen:  # nobody knows any more whom an erased one was
            return False
        return not self.one_with(decision.unit) & set(named)

    def _customer(self, body: dict[str, Any]) -> str | None:
        return body.get("unit_id", body.get("ids", {}).get("customer"))

    def _link(self, body: dict[str, Any]) -> Verdict:
        customer, anonymous = self._customer(body), body["anonymous_id"]
        assert customer is not None
        if self.person.get(anonymous) == customer:
            return ACCEPTED
        if self.person.get(customer, customer) != customer:
            return (409, "identity_chain")
        if anonymous not in self.person:
            return ACCEPTED
        is_customer = self.person[anonymous] == anonymous
        return (409, "identity_chain" if is_customer else "already_identified")

    def _note(self, body: dict[str, Any]) -> None:
        names, decision = self._names(body), self._decision(body)
        self.seen |= {id_ for _, id_ in names}
        if body["type"] == "identify":
            customer = self._customer(body)
            assert customer is not None
            self.person.setdefault(customer, customer)
            self.person.setdefault(body["anonymous_id"], customer)
            self.seen.add(body["anonymous_id"])
        if decision is not None:
            names |= {(decision.kind, decision.unit)}
        at = self.now
        if "occurred_at" in body:
            at = min(at, int(datetime.fromisoformat(body["occurred_at"]).timestamp()))
        content = content_of(body)
        self.contents[body["event_id"]] = content
        if body["type"] == "order":
            self.orders[body["order_id"]] = content
        if "refund_id" in body:
            self.refunds[body["order_id"], body["refund_id"]] = content
        self.events.append(Happened(body, at, names, decision))

    # -- people

    def erase(self, unit: str) -> set[str]:
        """Forget a person: what was theirs is nobody's anyone can name any more. The ids forgotten."""
        if unit not in self.seen:
            return set()
        self.erased += 1
        gone = {id_: f"erased {self.erased} {id_}" for id_ in self.one_with(unit)}
        self.made = [replace(one, unit=gone.get(one.unit, one.unit)) for one in self.made]
        by_decision = {one.decision_id: one for one in self.made}
        for i, event in enumerate(self.events):
            body = dict(event.body)
            if "anonymous_id" in body:
                body["anonymous_id"] = gone.get(body["anonymous_id"], body["anonymous_id"])
            names = frozenset((kind, gone.get(id_, id_)) for kind, id_ in event.names)
            decision = None if event.decision is None else by_decision[event.decision.decision_id]
            self.events[i] = Happened(body, event.at, names, decision)
        for id_ in gone:
            self.person.pop(id_, None)
        self.seen -= gone.keys()
        return set(gone)


def content_of(body: dict[str, Any]) -> dict[str, Any]:
    """What an event says, apart from its own id."""
    return {name: value for name, value in body.items() if name != "event_id"}


def offer_of(variant: str | None, *, is_public: bool) -> dict[str, Any]:
    """The offer as the wire writes it; None: no offer is shown."""
    offer = dict(OFFERS.get(variant or "none", {"kind": "none"}))
    if is_public:
        offer.pop("cost", None)
    return offer

"""What happens next in a history, drawn by a seed: calls of every kind, repeats, conflicts, restarts."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from tests.service.histories import ALL_IDS, HOUR, RULES, WHO, History
from tests.service.oracle import DAY, wire_time


class Chance:
    """Chooses the next step of a history."""

    def __init__(self, seed: int, history: History) -> None:
        self.random = random.Random(seed)
        self.history = history
        self.counter = 0
        self.steps: list[tuple[int, Callable[[], None]]] = [
            (6, self._assign),
            (12, self._events),
            (2, self._again),
            (2, self._conflict),
            (3, self._clock),
            (1, history.restart),
        ]

    def step(self) -> None:
        weights = [weight for weight, _ in self.steps]
        self.random.choices([act for _, act in self.steps], weights)[0]()

    def _who(self) -> dict[str, Any]:
        r = self.random
        if r.random() < 0.5:
            return {"unit_id": r.choice(ALL_IDS)}
        kinds = r.sample(list(WHO), r.randint(1, 3))
        return {"ids": {kind: r.choice(WHO[kind]) for kind in kinds}}

    def _assign(self) -> None:
        h, r = self.history, self.random
        h.clock(h.now + r.randint(1, 600))
        rules = r.choice(list(RULES.values()))
        who = self._who()
        if "ids" in who and rules.kind != "request":
            who["ids"][rules.kind] = r.choice(WHO[rules.kind])
        h.assign(rules, who, r.choice([[], [], [], ["socks"], ["cap"], ["socks", "cap"]]))

    def _clock(self) -> None:
        self.history.clock(self.history.now + self.random.choice([60, HOUR, 6 * HOUR, 30 * HOUR]))

    def _events(self) -> None:
        bodies = [self._event() for _ in range(self.random.choice([1, 1, 2, 5]))]
        if self.random.random() < 0.2:
            bodies.append(dict(self.random.choice(bodies)))
        self.history.send(bodies)

    def _again(self) -> None:
        h, r = self.history, self.random
        if not h.events:
            return
        body = dict(r.choice(h.events).body)
        if "occurred_at" in body and body["type"] == "order" and r.random() < 0.5:
            body["event_id"] = f"again {self.counter}"
        before = h.duplicates
        assert h.send([body]) == [False]
        assert h.duplicates == before + 1

    def _conflict(self) -> None:
        h, r = self.history, self.random
        orders = [e for e in h.events if e.type == "order"]
        if orders:
            body = dict(r.choice(orders).body)
            body["amount"] += 1
            answer = h.shop.post("/v1/events", body)
            assert (answer.status_code, answer.json()["code"]) == (409, "conflict")

    def _event(self) -> dict[str, Any]:
        h, r = self.history, self.random
        self.counter += 1
        kind = r.choices(list(self._kinds()), [weight for weight, _ in self._kinds().values()])[0]
        body: dict[str, Any] = {"event_id": f"e{self.counter}", "type": kind, **self._kinds()[kind][1]()}
        if r.random() < 0.8:
            late = r.choice([0, r.randint(0, 2 * HOUR), r.randint(0, 2 * DAY), -120])
            body["occurred_at"] = wire_time(h.now - late)
        return body

    def _kinds(self) -> dict[str, tuple[int, Callable[[], dict[str, Any]]]]:
        slot = 3 if self.history.made else 0
        return {
            "exposure": (2 * slot, self._slot),
            "click": (slot, self._slot),
            "accept": (slot, self._slot),
            "order": (6, self._order),
            "refund": (4, self._refund),
            "cancel": (1, lambda: {"order_id": self._order_id()}),
            "order_adjusted": (1, self._adjusted),
            "cart": (3, self._cart),
            "checkout_started": (1, self._cart),
            "abandonment": (1, self._cart),
            "rating": (1, lambda: {**self._who(), "score": self.random.randint(0, 5), "scale": 5}),
            "custom": (2, self._custom),
            "identify": (2, self._identify),
        }

    def _order_id(self) -> str:
        return f"o{self.random.randint(0, 11)}"

    def _slot(self) -> dict[str, Any]:
        return {"decision_id": self.random.choice(self.history.made).decision_id}

    def _someone(self) -> dict[str, Any]:
        return self._slot() if self.history.made and self.random.random() < 0.4 else self._who()

    def _order(self) -> dict[str, Any]:
        r = self.random
        order = {"order_id": self._order_id(), "amount": r.choice([0, 1, 999, r.randint(1, 20_000)])}
        order["currency"] = r.choice(["EUR", "EUR", "EUR", "USD", "SEK", "JPY"])
        if order["currency"] != "EUR" and r.random() < 0.3:
            order["fx_rate"] = 0.0925
        if r.random() < 0.8:
            order["cost"] = r.randint(0, 9_000)
        elif r.random() < 0.5:
            lines = [
                {"sku": "A", "price": 5, "quantity": 3, "cost": r.randint(0, 900)},
                {"sku": "B", "price": 5, "quantity": 1},
            ]
            order["items"] = lines[: r.choice([1, 2])]
        if r.random() < 0.3:
            order["cart_id"] = r.choice(["k0", "k1"])
        return {**self._someone(), **order}

    def _refund(self) -> dict[str, Any]:
        r = self.random
        refund: dict[str, Any] = {"order_id": self._order_id()}
        if r.random() < 0.5:
            refund["refund_id"] = f"r{r.randint(0, 2)}"
        if r.random() < 0.7:
            refund["amount"] = r.randint(0, 9_000)
        if r.random() < 0.4:
            refund["cost_recovered"] = r.randint(0, 3_000)
        if r.random() < 0.2:
            refund["currency"] = r.choice(["EUR", "USD"])
        return refund | (self._who() if r.random() < 0.2 else {})

    def _adjusted(self) -> dict[str, Any]:
        r = self.random
        change = {"amount_delta": r.randint(-3_000, 3_000), "cost_delta": r.randint(-500, 500)}
        kept = r.choice([("amount_delta",), ("cost_delta",), ("amount_delta", "cost_delta")])
        return {"order_id": self._order_id(), **{name: change[name] for name in kept}}

    def _cart(self) -> dict[str, Any]:
        return {**self._someone(), "cart_id": self.random.choice(["k0", "k1", "k2"])}

    def _custom(self) -> dict[str, Any]:
        r = self.random
        custom = {"name": r.choice(["signup", "page"])}
        return {**self._someone(), **custom} | ({"value": r.randint(-8, 80) / 8} if r.random() < 0.7 else {})

    def _identify(self) -> dict[str, Any]:
        customer, visitor = self.random.choice(WHO["customer"]), self.random.choice(WHO["visitor"])
        return {"ids": {"customer": customer}, "anonymous_id": visitor}

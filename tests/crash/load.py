"""Mixed load on a service that may end at any time, and everything it acknowledged."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.launched import Serving
from tests.processes import eventually

THREADS = 5
BODIES = 5
"""Units that one visit assigns."""
TROUBLE = frozenset({"fallback", "stale", "overloaded"})
"""Reasons of answers that record nothing."""


@dataclass
class Acknowledged:
    """Every answer that said that something was recorded."""

    assigned: dict[str, tuple[str, str]] = field(default_factory=dict)  # unit -> decision_id, variant
    events: dict[str, dict[str, Any]] = field(default_factory=dict)
    unexpected: list[str] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)

    @property
    def count(self) -> int:
        return len(self.assigned) + len(self.events)

    def add(self, other: Acknowledged) -> None:
        self.assigned |= other.assigned
        self.events |= other.events


class Load:
    """Shoppers who ask, are shown, buy, send back and log in, until stopped or until the service is gone."""

    def __init__(
        self,
        servings: Sequence[Serving],
        key: str,
        name: str,
        *,
        survives: bool = False,
        is_control: bool = False,
    ) -> None:
        self.acknowledged = Acknowledged()
        self._servings = servings
        self._key = key
        self._name = name
        self._survives = survives  # whether trouble of the service's is to be expected and sat out
        self._is_control = is_control  # a service that is known to answer wrongly
        self._stopped = threading.Event()

    @contextmanager
    def running(self) -> Iterator[Acknowledged]:
        """Run until the block ends."""
        threads = [threading.Thread(target=self._shop, args=(number,)) for number in range(THREADS)]
        for thread in threads:
            thread.start()
        try:
            yield self.acknowledged
        finally:
            self._stopped.set()
            for thread in threads:
                thread.join()
        assert self.acknowledged.unexpected == []

    def _shop(self, number: int) -> None:
        chance = random.Random(f"{self._name} {number}")
        serving = self._servings[number % len(self._servings)]
        with serving.client(self._key, timeout_s=30) as client:
            turn = 0
            while not self._stopped.is_set():
                turn += 1
                try:
                    self._visit(client, chance, f"{self._name}-{number}-{turn}")
                except httpx.TransportError:
                    if not self._survives:
                        return
                    time.sleep(0.02)
                except Exception as error:
                    self.acknowledged.unexpected.append(repr(error))
                    return

    def _visit(self, client: httpx.Client, chance: random.Random, name: str) -> None:
        """A few units are assigned; what became of them arrives in any order."""
        units = [f"{name}-{i}" for i in range(BODIES)]
        made = [client.post("/v1/assign", json=ask(units[0])).json()]
        answer = client.post("/v1/assign/batch", json={"requests": [ask(unit) for unit in units[1:]]})
        made += answer.json()["decisions"]
        events: list[dict[str, Any]] = []
        for unit, decision in zip(units, made, strict=True):
            if decision["decision_id"] is None or decision["reason"] in TROUBLE:
                self._note(decision["reason"])
                continue
            self.acknowledged.assigned[unit] = (decision["decision_id"], decision["variant"])
            events += story(unit, decision["decision_id"], chance)
        chance.shuffle(events)
        while events:
            taken = [events.pop() for _ in range(min(len(events), chance.choice([1, 1, 4])))]
            body: Any = taken[0] if len(taken) == 1 else {"events": taken}
            told = client.post("/v1/events", json=body)
            if told.status_code == 503 and "retry-after" in told.headers:
                self._note(told.json()["code"])
            elif told.status_code != 200 or told.json()["accepted"] != len(taken):
                if not self._is_control:
                    self.acknowledged.unexpected.append(told.text)
            else:
                self.acknowledged.events |= {event["event_id"]: event for event in taken}

    def _note(self, refusal: str) -> None:
        self.acknowledged.refused[refusal] += 1
        if not self._survives:
            self.acknowledged.unexpected.append(refusal)


def ask(unit: str) -> dict[str, Any]:
    """A request for an offer."""
    return {"touchpoint": "checkout", "unit_id": unit}


def story(unit: str, decision_id: str, chance: random.Random) -> list[dict[str, Any]]:
    """What becomes of a unit: seen, bought, in part sent back, known by name."""
    amount = chance.randint(100, 9000)
    order: dict[str, Any] = {"type": "order", "unit_id": unit, "order_id": f"o {unit}", "amount": amount}
    told: list[dict[str, Any]] = [
        {"type": "exposure", "decision_id": decision_id},
        {**order, "currency": "EUR", "cost": 40},
    ]
    if chance.random() < 0.5:
        refund = {
            "type": "refund",
            "order_id": f"o {unit}",
            "refund_id": "r",
            "amount": chance.randint(1, 99),
        }
        told.append(refund)
    if chance.random() < 0.3:
        told.append({"type": "identify", "ids": {"customer": f"c {unit}"}, "anonymous_id": unit})
    return [{"event_id": f"{event['type']} {unit}", **event} for event in told]


def wait_for(acknowledged: Acknowledged, count: int) -> None:
    """Until so much has been acknowledged."""
    eventually(lambda: acknowledged.count >= count or bool(acknowledged.unexpected), within_s=60)

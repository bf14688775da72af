"""Histories of a shop, lived through by the real service, and the facts they leave behind."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

from litestar.testing import TestClient

from service.app import create_app
from service.catalogue import load_store
from service.ledger.cells import candidate_sets, read_cells
from service.ledger.database import Database
from service.ledger.verify import verify
from service.settings import ClockKind, Settings
from service.stores import NewStore
from tests.service import oracle
from tests.service.conftest import Shop, document, new_stores
from tests.service.oracle import DAY, Assigned, Happened, Rules, wire_time

HOUR = 3600
START = int(datetime.fromisoformat("2026-03-26T09:00:00+01:00").timestamp())  # clocks change on the 29th
SETTINGS = oracle.Shop("Europe/Rome", {"USD": "0.9137", "JPY": "0.0061"}, "0.35", 5 * HOUR)
CUSTOM = [
    {"key": "signups", "kind": "proportion", "event": "signup", "window": "1d"},
    {"key": "depth", "kind": "mean", "event": "page"},
]
METRICS: dict[str, tuple[str, int | None]] = {"signups": ("signup", DAY), "depth": ("page", None)}
RULES = {
    "by-visitor": Rules("by-visitor", "visitor", 3 * DAY, metrics=METRICS),
    "by-customer": Rules("by-customer", "customer", 2 * DAY, anchor="exposure"),
    "by-session": Rules("by-session", "session", DAY, reassign_after=2 * DAY),
    "by-request": Rules("by-request", "request", 2 * DAY),
    "by-request-too": Rules("by-request-too", "request", 2 * DAY, metrics=METRICS),
}
WHO = {
    "visitor": ["v0", "v1", "v2", "both"],
    "customer": ["c0", "c1", "both"],
    "session": ["s0", "s1", "both"],
}
ALL_IDS = sorted({id_ for ids in WHO.values() for id_ in ids})
SKUS = {"socks": "SOCK-3", "cap": "CAP-1"}


def documents() -> list[dict[str, Any]]:
    variants = [
        *document()["variants"],
        {"key": "cap", "offer": {"kind": "cross_sell", "sku": "CAP-1", "price": 900, "cost": 200}},
    ]
    return [
        document(
            rules.key,
            unit=rules.kind,
            touchpoint=rules.key,
            variants=variants,
            anchor=rules.anchor,
            attribution_window=f"{rules.window}s",
            reassign_after="never" if rules.reassign_after is None else f"{rules.reassign_after}s",
            metrics=CUSTOM if rules.metrics else [],
        )
        for rules in RULES.values()
    ]


class History:
    """One shop's life: every call goes to the service, every accepted fact is remembered."""

    def __init__(self, path: Path, keys: NewStore, other: NewStore) -> None:
        self.path, self.keys, self.other = path, keys, other
        self.now = START
        self.made: list[Assigned] = []
        self.forced: dict[str, dict[str, Any]] = {}  # decision_id -> the same assignment as history
        self.by_decision: dict[str, Assigned] = {}
        self.events: list[Happened] = []
        self.asked = 0
        self.refused = 0
        self.duplicates = 0
        self._client: TestClient[Any] | None = None

    # -- the service

    def open(self) -> Shop:
        url = f"sqlite:///{self.path}"
        database = Database(url)
        app = create_app(Settings(database_url=url, clock=ClockKind.EXTERNAL), database)
        self._client = TestClient(app, raise_server_exceptions=False)
        self._client.__enter__()
        self.shop = Shop(self._client, database, self.keys, self.other)
        return self.shop

    def close(self) -> None:
        if self._client is not None:
            self._client.__exit__(None, None, None)
            self._client = None

    def restart(self) -> None:
        self.close()
        self.open()

    def set_up(self) -> None:
        self.open()
        self.clock(self.now)
        settings = {
            "fx_rates": SETTINGS.rates,
            "cost_recovered_rate": float(SETTINGS.recovered_rate),
            "abandonment_window": f"{SETTINGS.abandon_after}s",
        }
        assert self.shop.patch("/v1/store", settings, '"1"').status_code == 200
        for one in documents():
            assert self.shop.post("/v1/experiments", one).status_code == 201, one
            assert self.shop.post(f"/v1/experiments/{one['key']}/start").status_code == 200

    # -- steps

    def clock(self, to: int) -> None:
        self.now = to
        answer = self.shop.post("/v1/clock", {"now": wire_time(to)})
        assert answer.status_code == 200, answer.text

    def assign(self, rules: Rules, who: dict[str, Any], cart: list[str]) -> None:
        self.asked += 1
        context = {"cart": [{"sku": SKUS[key]} for key in cart]}
        body = {"touchpoint": rules.key, **who, "context": context}
        answer = self.shop.post("/v1/assign", body).json()
        decision_id = answer["decision_id"]
        if decision_id is None or decision_id in self.by_decision:
            return
        unit = who["unit_id"] if "unit_id" in who else who["ids"].get(rules.kind, f"call {self.asked}")
        members = tuple(key for key in ("none", "socks", "cap") if key not in cart)
        made = Assigned(rules.key, rules.kind, unit, self.now, answer["variant"], members, decision_id)
        self.made.append(made)
        self.by_decision[decision_id] = made
        self.forced[decision_id] = {
            **body,
            "experiment": rules.key,
            "mode": "forced",
            "occurred_at": wire_time(self.now),
            "variant": answer["variant"],
            "propensity": answer["propensity"],
        }

    def send(self, bodies: list[dict[str, Any]]) -> list[bool]:
        """Send events as a list; which were accepted."""
        answer = self.shop.post("/v1/events", {"events": bodies})
        assert answer.status_code == 200, answer.text
        outcome = answer.json()
        refused = {one["index"] for one in outcome["rejected"]}
        self.refused += len(refused)
        self.duplicates += outcome["duplicates"]
        assert outcome["accepted"] + outcome["duplicates"] + len(refused) == len(bodies)
        known = {e.body["event_id"] for e in self.events}
        orders = {e.body["order_id"] for e in self.events if e.type == "order"}
        refunds = {(e.body["order_id"], e.body["refund_id"]) for e in self.events if "refund_id" in e.body}
        accepted: list[bool] = []
        for index, body in enumerate(bodies):
            is_new = (
                index not in refused
                and body["event_id"] not in known
                and not (body["type"] == "order" and body["order_id"] in orders)
                and not ("refund_id" in body and (body["order_id"], body["refund_id"]) in refunds)
            )
            accepted.append(is_new)
            if is_new:
                known.add(body["event_id"])
                if body["type"] == "order":
                    orders.add(body["order_id"])
                if "refund_id" in body:
                    refunds.add((body["order_id"], body["refund_id"]))
                self.events.append(self._happened(body))
        assert sum(accepted) == outcome["accepted"], (bodies, outcome)
        return accepted

    def _happened(self, body: dict[str, Any]) -> Happened:
        decision = self.by_decision.get(body.get("decision_id", ""))
        names = {(kind, id_) for kind, id_ in body.get("ids", {}).items()}
        if "unit_id" in body:
            names |= {(kind, body["unit_id"]) for kind in ("visitor", "customer", "session")}
        if decision is not None:
            names.add((decision.kind, decision.unit))
        at = self.now
        if "occurred_at" in body:
            at = min(self.now, int(datetime.fromisoformat(body["occurred_at"]).timestamp()))
        return Happened(body, at, frozenset(names), decision)

    # -- what the ledger says

    def cells(self) -> dict[str, dict[Any, Any]]:
        """Non-empty cells by experiment, as the oracle writes them; histograms beside."""
        store_no = self._store_no()
        found: dict[str, dict[Any, Any]] = {}
        with self.shop.database.read() as connection:
            store = load_store(connection, store_no)
            for key, live in store.experiments.items():
                members = candidate_sets(connection, live.experiment_no)
                found[key] = {}
                for cell in read_cells(connection, live):
                    sums: dict[Any, int] = dict(cell.moments.sums)
                    sums |= {tuple(name.split("*")): v for name, v in cell.moments.products.items()}
                    who = (cell.key.variant, members[cell.key.candidate_set])
                    place = (*who, cell.key.day.isoformat(), cell.key.segment)
                    assert place not in found[key], "fixed shares have one epoch"
                    found[key][place] = sums
        return found

    def histograms(self) -> dict[Any, Any]:
        store_no = self._store_no()
        with self.shop.database.read() as connection:
            store = load_store(connection, store_no)
            return {
                (key, cell.key.variant, cell.candidates, cell.key.day): cell.histograms
                for key, live in store.experiments.items()
                for cell in read_cells(connection, live)
            }

    def expected(self) -> dict[str, dict[Any, Any]]:
        return {
            key: oracle.cells(SETTINGS, rules, self.made, self.events, self.now)
            for key, rules in RULES.items()
        }

    def _store_no(self) -> int:
        with self.shop.database.read() as connection:
            return connection.exec_driver_sql(
                "SELECT store_no FROM store WHERE key = ?", (self.keys.store,)
            ).scalar_one()

    def check(self) -> None:
        """Cells, summary and report equal the oracle's, and `verify` is exact."""
        self.clock(self.now)  # carts given up by now are noted when the clock is set
        told = self.shop.get("/v1/store/summary").json()
        wanted = oracle.summary(SETTINGS, self.events)
        assert {name: told[name] for name in wanted} == wanted
        found, expected = self.cells(), self.expected()
        for key in RULES:
            assert found[key] == expected[key], key
        report = verify(self.shop.database)
        assert report.is_exact, report.examples
        assert (report.pending_units, report.pending_orders) == (0, 0)
        for key in RULES:
            self._check_report(key, expected[key])

    def _check_report(self, key: str, cells: dict[Any, Any]) -> None:
        report = self.shop.get(f"/v1/experiments/{key}/report?matured=false").json()
        for variant in report["variants"]:
            sums: dict[str, int] = {}
            for place, cell in cells.items():
                if place[0] == variant["key"]:
                    for feature, value in cell.items():
                        sums[feature] = sums.get(feature, 0) + value
            assert (variant["assigned"], variant["exposed"]) == (
                sums.get("assigned", 0),
                sums.get("exposed", 0),
            )
            for metric, (top, bottom) in NUMERATORS.items():
                told = variant["metrics"][metric]
                if told.get("numerator") is None:
                    assert told.get("reason"), (key, metric, told)
                    continue
                numerator = sum(sign * sums.get(name, 0) for name, sign in top.items())
                assert (told["numerator"], told["denominator"]) == (numerator, sums.get(bottom, 0)), metric


NUMERATORS: dict[str, tuple[dict[str, int], str]] = {
    "aov": ({"revenue": 1}, "orders"),
    "revenue_per_unit": ({"revenue": 1, "refunded_value": -1}, "units"),
    "margin_per_unit": ({"margin": 1}, "units"),
    "conversion_rate": ({"converted": 1}, "units"),
    "refund_rate": ({"refunded_orders": 1}, "orders"),
    "cancel_rate": ({"cancelled_orders": 1}, "orders"),
    "cart_abandonment_rate": ({"abandoned": 1}, "carts"),
    "ltv_30d": ({"ltv_30d": 1}, "units"),
}


def new_history(path: Path, empty_ledger: bytes) -> History:
    """A shop with its experiments started, the clock at START."""
    path.write_bytes(empty_ledger)
    database = Database(f"sqlite:///{path}")
    keys, other = new_stores(database, is_simulated=True)
    database.close()
    history = History(path, keys, other)
    history.set_up()
    return history

"""What the service says of the experiment, against our own books: counts, figures, and single rows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from sim.closed_loop.asking import Made
from sim.closed_loop.books import HORIZONS, Books
from sim.closed_loop.errors import Broken, hold
from sim.closed_loop.wire import Json, Wire, encode

FIGURES: Mapping[str, tuple[str, str]] = {
    "conversion_rate": ("converted", "units"),
    "orders_per_unit": ("orders", "units"),
    "aov": ("revenue", "orders"),
    "aov_net": ("net", "orders"),
    "revenue_per_unit": ("net", "units"),
    "margin_per_unit": ("margin", "units"),
    "refund_rate": ("refunded_orders", "orders"),
    "refund_value_rate": ("refunded", "revenue"),
    "take_rate": ("took", "exposed"),
    "click_through_rate": ("clicked", "exposed"),
    "cart_abandonment_rate": ("abandoned", "carts"),
    "rating_mean": ("rating_points", "ratings"),
    "repeat_rate": ("repeats", "buyers"),
    **{name: (name, "units") for name, _ in HORIZONS},
}
"""Metric -> our counters above and below the line; `net` is revenue less what was refunded."""
OWN_EVENTS = "rialto:"
"""How the ids of events begin that the service appends itself."""


class Checks:
    """Looks at one experiment through the API."""

    def __init__(self, wire: Wire, experiment: str, books: Books) -> None:
        self._wire, self._key, self._books = wire, experiment, books

    def counts(self) -> None:
        """Units assigned, exposed and converted, by variant."""
        self._report("metric=conversion_rate&matured=false", ["conversion_rate"])

    def figures(self) -> None:
        """Every sum of the report by variant, and the store's summary."""
        self._report("matured=false", list(FIGURES))
        found = self._wire.get("/v1/store/summary")
        for name, total in self._books.totals().items():
            hold("counters", f"store: {name}", total, found[name])
        hold("counters", "store: over_refunded", 0, found["over_refunded"])

    def explained(self, made: Made) -> None:
        """A decision's explanation names its shares and candidates, and its race ends the same again."""
        found = self._wire.get(f"/v1/decisions/{made.decision_id}/explain")
        where = f"explanation of {made.decision_id}"
        for name, expected in (
            ("variant", made.variant),
            ("replayed_variant", made.variant),
            ("propensity", made.propensity),
            ("policy_version", made.version),
            ("segment", made.segment),
        ):
            hold("explanation", f"{where}: {name}", expected, found[name])
        hold("explanation", f"{where}: candidates", sorted(made.candidates), sorted(found["candidates"]))
        hold("explanation", f"{where}: share", made.propensity, found["shares"][made.variant])

    def journey(self, unit_id: str) -> None:
        """A unit has one assignment in the ledger, and all of its acknowledged events."""
        unit, who = self._books.units[unit_id], quote(unit_id)
        rows = self._wire.get(f"/v1/ledger/decisions?unit={who}&experiment={self._key}")["items"]
        expected = [] if unit.decision_id is None else [(unit.decision_id, unit.variant)]
        found = [(row["decision_id"], row["variant"]) for row in rows]
        hold("one variant", f"assignments of {unit_id}", expected, found)
        rows = self._wire.get(f"/v1/ledger/events?unit={who}&limit=1000")["items"]
        there = {row["event_id"] for row in rows if not row["event_id"].startswith(OWN_EVENTS)}
        known = self._books.events_of(unit_id)
        hold("acknowledged events", f"events of {unit_id} not in the ledger", [], sorted(known - there))
        hold("acknowledged events", f"events of {unit_id} beyond", [], sorted(there - known))

    def sent_again(self, events: Sequence[Mapping[str, Any]]) -> None:
        """Events that were acknowledged are known: sent again, each is a duplicate."""
        for size, answer in self._wire.post_many("/v1/events", "events", [encode(e) for e in events]):
            if (answer["duplicates"], answer["accepted"]) != (size, 0) and not self._wire.was_repeated:
                what = f"{size} events sent again, the first {events[0]['event_id']}"
                expected = f"{size} duplicates"
                raise Broken("acknowledged events", what, expected, answer)

    def _report(self, query: str, metrics: Sequence[str]) -> None:
        report = self._wire.get(f"/v1/experiments/{self._key}/report?{query}")
        ours = self._books.counts()
        for total, name in (("units_assigned", "assigned"), ("units_exposed", "exposed")):
            hold("counters", total, sum(count[name] for count in ours.values()), report[total])
        for variant in report["variants"]:
            _compare(variant, ours[variant["key"]], metrics)


def _compare(variant: Json, ours: dict[str, int], metrics: Sequence[str]) -> None:
    """Hold the report of a variant to our counters."""
    key = variant["key"]
    ours["net"] = ours["revenue"] - ours["refunded"]
    for name in ("assigned", "units", "exposed"):
        hold("counters", f"{key}: {name}", ours[name], variant[name])
    for metric in metrics:
        found = variant["metrics"][metric]
        for side, name in zip(("numerator", "denominator"), FIGURES[metric], strict=True):
            # Ratings are kept in binary fractions of their scale; all else is whole numbers.
            slack = 1e-6 if name == "rating_points" else 0.0
            if not math.isclose(found[side], ours[name], rel_tol=slack, abs_tol=slack):
                raise Broken("counters", f"{key}: {name} ({metric})", ours[name], found[side])

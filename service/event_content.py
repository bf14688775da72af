"""One event as it arrived: checked against the clock and the key, with its digest and stored body."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from fractions import Fraction
from hashlib import blake2b
from typing import Any

import msgspec

from experiments.fold import micros
from experiments.model import UnitKind
from experiments.money import is_currency
from experiments.orders import convert
from experiments.statistics import FIXED_POINT
from experiments.times import parse_duration
from service import event_types as wire
from service.catalogue import StoreState
from service.clock import is_in_calendar, to_micros
from service.decision_ids import DecisionRef, decode
from service.event_types import UNSET, AnyEvent, given
from service.keys import KeyKind, Principal, Scope
from service.ledger.units import ANY_KIND, KIND_BITS
from service.problems import bad_request, field_problem
from service.wire import open_map_faults

CLOCK_SKEW = timedelta(minutes=5)
DEDUPLICATION = timedelta(days=90)
PPM = 1_000_000
CONVERTED_MAX = 10**15
RESERVED_EVENT_ID = "rialto:"
"""How the ids of our own events begin; a caller's may not."""
COLUMNS = frozenset(
    ("event_id", "type", "occurred_at", "unit_id", "ids", "decision_id", "order_id", "refund_id")
)
"""Fields that have a column of their own, or (ids) live in the unit table."""


@dataclass(frozen=True, slots=True)
class Arrived:
    """A well-formed event of a caller who may send it."""

    struct: AnyEvent
    type: str
    occurred_at_us: int
    received_at_us: int
    is_clamped: bool
    digest: bytes
    reach: Mapping[str, int]  # raw id -> kinds it names
    decision: DecisionRef | None
    order_id: str | None
    refund_id: str | None
    content: dict[str, Any]  # as plain values


def arrive(store: StoreState, caller: Principal, struct: AnyEvent, now_us: int) -> Arrived:
    """Check what can be checked without the ledger. Raises `Problem`."""
    _may_send(caller, struct)
    if struct.event_id.startswith(RESERVED_EVENT_ID):
        remedy = f"choose an event_id that does not begin with {RESERVED_EVENT_ID}"
        raise field_problem(400, "reserved_event_id", "/event_id", remedy)
    decision = _decision(store, struct)
    reach = _reach(struct)
    if decision is None and not reach and not isinstance(struct, wire.OrderChange):
        raise field_problem(400, "unit_missing", "/unit_id", "say who: unit_id, ids or a decision_id")
    if isinstance(struct, wire.Identify) and not any(kinds & 2 for kinds in reach.values()):
        raise field_problem(
            400, "unit_missing", "/ids/customer", "name the customer: unit_id or ids.customer"
        )
    _money(struct)
    if isinstance(struct, wire.Order):
        _convertible(store, struct)
    _properties(struct)
    occurred_at_us, is_clamped = _time(caller, given(struct.occurred_at), now_us)
    content: dict[str, Any] = msgspec.to_builtins(struct)
    return Arrived(
        struct=struct,
        type=str(struct.__struct_config__.tag),
        occurred_at_us=occurred_at_us,
        received_at_us=now_us,
        is_clamped=is_clamped,
        digest=_digest(store, struct, content),
        reach=reach,
        decision=decision,
        order_id=getattr(struct, "order_id", None),
        refund_id=given(getattr(struct, "refund_id", UNSET)),
        content=content,
    )


def body_of(store: StoreState, event: Arrived) -> dict[str, Any]:
    """What is stored beside the columns: the content, and what was resolved when it was recorded.

    Costs, recovery rates, abandonment windows and exchange rates are fixed here, so that a later change
    of the store's settings never restates what was recorded under the old ones.
    """
    settings = store.settings
    body = {name: value for name, value in event.content.items() if name not in COLUMNS}
    struct = event.struct
    if isinstance(struct, wire.Order):
        body["cost"] = _cost(struct, settings.default_cost_rate)
        body["rates"] = _rates(store, struct)
    elif isinstance(struct, wire.Refund):
        body["recovered_rate_ppm"] = round(Fraction(str(settings.cost_recovered_rate)) * PPM)
    elif isinstance(struct, wire.Cart | wire.CheckoutStarted | wire.Abandonment):
        body["abandon_after_us"] = micros(parse_duration(settings.abandonment_window))
    elif isinstance(struct, wire.Rating):
        body["score_fixed"] = round(Fraction(struct.score) / Fraction(struct.scale) * FIXED_POINT)
    elif isinstance(struct, wire.Custom):
        value = given(struct.value)
        body["value_fixed"] = 0 if value is None else round(Fraction(value) * FIXED_POINT)
    elif isinstance(struct, wire.Identify):
        body.pop("anonymous_id")  # an id of a person: it lives in the unit table only
    return body


def _may_send(caller: Principal, struct: AnyEvent) -> None:
    if caller.kind is KeyKind.PUBLISHABLE and not isinstance(struct, wire.Kinds.BROWSER):
        raise field_problem(
            403, "secret_key_required", "/type", "send this type from your server with an sk_ key"
        )


def _decision(store: StoreState, struct: AnyEvent) -> DecisionRef | None:
    decision_id = given(struct.decision_id)
    if decision_id is None:
        return None
    ref = decode(store.secret, decision_id)
    if ref is None or store.by_no(ref.experiment_no) is None:
        raise field_problem(404, "decision_not_found", "/decision_id", "send a decision_id this store issued")
    return ref


def _reach(struct: AnyEvent) -> dict[str, int]:
    unit_id, ids = given(struct.unit_id), given(struct.ids)
    if unit_id is not None and ids is not None:
        raise field_problem(400, "unit_twice", "/ids", "send unit_id or ids, not both")
    if unit_id is not None:
        return {unit_id: ANY_KIND}
    reach: dict[str, int] = {}
    if ids is not None:
        for kind in (UnitKind.VISITOR, UnitKind.CUSTOMER, UnitKind.SESSION):
            raw_id = given(getattr(ids, kind.value))
            if raw_id is not None:
                reach[raw_id] = reach.get(raw_id, 0) | KIND_BITS[kind]
    return reach


def _money(struct: AnyEvent) -> None:
    currency = given(getattr(struct, "currency", UNSET))
    if currency is not None and not is_currency(currency):
        raise field_problem(400, "unknown_currency", "/currency", "use an ISO 4217 code, e.g. EUR")
    if isinstance(struct, wire.Rating) and struct.score > struct.scale:
        raise field_problem(400, "out_of_range", "/score", "a score is at most its scale")


def _convertible(store: StoreState, order: wire.Order) -> None:
    """No rate may make of an order more than the ledger's integers hold: its folding would never end."""
    for currency, rate in _rates(store, order).items():
        if convert(order.amount, rate, order.currency, currency) > CONVERTED_MAX:
            pointer = "/amount" if order.fx_rate is wire.UNSET else "/fx_rate"
            remedy = f"this is more than {CONVERTED_MAX} minor units of {currency}: check amount and rate"
            raise field_problem(400, "out_of_range", pointer, remedy)


def _properties(struct: AnyEvent) -> None:
    if struct.properties is UNSET:
        return
    faults = open_map_faults(struct.properties, "/properties")
    if faults:
        raise bad_request(faults)


def _time(caller: Principal, occurred_at: Any, now_us: int) -> tuple[int, bool]:
    if occurred_at is None:
        return now_us, False
    at_us = to_micros(occurred_at)
    if at_us > now_us + micros(CLOCK_SKEW):
        raise field_problem(
            400, "clock_ahead", "/occurred_at", "more than 5 minutes ahead of the server: set the clock"
        )
    if not is_in_calendar(at_us):
        raise field_problem(400, "out_of_range", "/occurred_at", "write a time of 1970 or later")
    if at_us < now_us - micros(DEDUPLICATION) and Scope.IMPORT not in caller.scopes:
        raise field_problem(
            403, "import_scope_required", "/occurred_at", "older than 90 days needs a key with scope import"
        )
    return min(at_us, now_us), at_us > now_us


def _digest(store: StoreState, struct: AnyEvent, content: Mapping[str, Any]) -> bytes:
    """Of the content as sent, without the event's own id: a time the server set is not content."""
    occurred_at = given(struct.occurred_at)
    said = {**content, "event_id": None, "occurred_at": occurred_at and to_micros(occurred_at)}
    # Keyed: an erased person's ids cannot be guessed back from it.
    return blake2b(_in_order(said), digest_size=16, key=store.secret).digest()


_in_order = msgspec.json.Encoder(order="sorted").encode


def _cost(order: wire.Order, default_rate: float | None) -> int | None:
    stated = given(order.cost)
    if stated is not None:
        return int(stated)
    items = given(order.items) or []
    if items and all(item.cost is not UNSET for item in items):
        return sum(int(item.cost) * item.quantity for item in items)
    if default_rate is None:
        return None
    return round(order.amount * Fraction(str(default_rate)))


def _rates(store: StoreState, order: wire.Order) -> dict[str, str]:
    """Units of other currencies that one unit of the order's currency is worth now.

    `fx_rate` and the store's `fx_rates` say how many units of the store's currency one unit of another
    is worth; an experiment in a third currency is reached through the store's.
    """
    home = store.settings.currency
    wanted = store.currencies - {order.currency}
    if not wanted:
        return {}
    rates, own = store.settings.fx_rates, given(order.fx_rate)
    to_home = "1" if order.currency == home else (repr(own) if own else rates.get(order.currency))
    if to_home is None:
        return {}
    found: dict[str, str] = {}
    for currency in sorted(wanted):
        if currency == home:
            found[currency] = to_home
        elif currency in rates:
            found[currency] = str(Decimal(to_home) / Decimal(rates[currency]))
    return found

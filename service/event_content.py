"""One event as it arrived: checked against the clock and the key, with its digest and stored body."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache
from hashlib import blake2b
from typing import Any, get_args

import msgspec
from msgspec.structs import replace

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
from service.ledger.event_keys import RESERVED_EVENT_ID
from service.ledger.units import ANY_KIND, KIND_BITS
from service.problems import bad_request, field_problem
from service.wire import open_map_faults

CLOCK_SKEW = timedelta(minutes=5)
CLOCK_SKEW_US = micros(CLOCK_SKEW)
DEDUPLICATION = timedelta(days=90)
DEDUPLICATION_US = micros(DEDUPLICATION)
PPM = 1_000_000
CONVERTED_MAX = 10**15
COLUMNS = frozenset(
    ("event_id", "occurred_at", "unit_id", "ids", "anonymous_id", "decision_id", "order_id", "refund_id")
)
"""Fields that have a column of their own, or (ids of people) live in the unit table only."""


class Arrived(msgspec.Struct, gc=False):
    """A well-formed event of a caller who may send it; nothing in it refers back to it."""

    struct: AnyEvent
    event_id: str
    occurred_at_us: int
    received_at_us: int
    is_clamped: bool
    digest: bytes
    reach: Mapping[str, int]  # raw id -> kinds it names
    decision: DecisionRef | None
    order_id: str | None
    refund_id: str | None

    @property
    def type(self) -> str:
        """What the event is called on the wire."""
        return KINDS[type(self.struct)].tag


def arrive(store: StoreState, caller: Principal, struct: AnyEvent, now_us: int) -> Arrived:
    """Check what can be checked without the ledger. Raises `Problem`."""
    kind = KINDS[type(struct)]
    if caller.kind is KeyKind.PUBLISHABLE and not kind.is_of_browsers:
        remedy = "send this type from your server with an sk_ key"
        raise field_problem(403, "secret_key_required", "/type", remedy)
    if struct.event_id.startswith(RESERVED_EVENT_ID):
        remedy = f"choose an event_id that does not begin with {RESERVED_EVENT_ID}"
        raise field_problem(400, "reserved_event_id", "/event_id", remedy)
    decision = None if struct.decision_id is UNSET else _decision(store, struct.decision_id)
    reach = _reach(struct)
    if decision is None and not reach and kind.needs_unit:
        raise field_problem(400, "unit_missing", "/unit_id", "say who: unit_id, ids or a decision_id")
    if kind.check is not None:
        kind.check(store, struct, reach)
    if struct.properties is not UNSET:
        _properties(struct.properties)
    occurred_at_us, is_clamped = now_us, False
    if struct.occurred_at is not UNSET:
        occurred_at_us, is_clamped = _time(caller, to_micros(struct.occurred_at), now_us)
    return Arrived(
        struct,
        struct.event_id,
        occurred_at_us,
        now_us,
        is_clamped,
        _digest(store, struct),
        reach,
        decision,
        getattr(struct, "order_id", None),
        given(getattr(struct, "refund_id", UNSET)),
    )


def body_of(store: StoreState, struct: AnyEvent) -> dict[str, Any]:
    """What is stored beside the columns: the content, and what was resolved when it was recorded.

    Costs, recovery rates, abandonment windows and exchange rates are fixed here, so that a later change
    of the store's settings never restates what was recorded under the old ones.
    """
    kind = KINDS[type(struct)]
    body = {name: value for name in kind.stored if (value := getattr(struct, name)) is not UNSET}
    if kind.resolve is not None:
        body.update(kind.resolve(store, struct))
    return body


def _decision(store: StoreState, decision_id: str) -> DecisionRef:
    ref = decode(store.secret, decision_id)
    if ref is None or store.by_no(ref.experiment_no) is None:
        raise field_problem(404, "decision_not_found", "/decision_id", "send a decision_id this store issued")
    return ref


def _reach(struct: AnyEvent) -> dict[str, int]:
    unit_id, ids = struct.unit_id, struct.ids
    if ids is UNSET:
        return {} if unit_id is UNSET else {unit_id: ANY_KIND}
    if unit_id is not UNSET:
        raise field_problem(400, "unit_twice", "/ids", "send unit_id or ids, not both")
    reach: dict[str, int] = {}
    for kind, raw_id in (
        (UnitKind.VISITOR, ids.visitor),
        (UnitKind.CUSTOMER, ids.customer),
        (UnitKind.SESSION, ids.session),
    ):
        if raw_id is not UNSET:
            reach[raw_id] = reach.get(raw_id, 0) | KIND_BITS[kind]
    return reach


def _check_identify(_store: StoreState, _struct: AnyEvent, reach: Mapping[str, int]) -> None:
    if not any(kinds & KIND_BITS[UnitKind.CUSTOMER] for kinds in reach.values()):
        remedy = "name the customer: unit_id or ids.customer"
        raise field_problem(400, "unit_missing", "/ids/customer", remedy)


def _check_currency(_store: StoreState, struct: wire.Order | wire.Refund, _reach: Mapping[str, int]) -> None:
    if struct.currency is not UNSET and not is_currency(struct.currency):
        raise field_problem(400, "unknown_currency", "/currency", "use an ISO 4217 code, e.g. EUR")


def _check_rating(_store: StoreState, rating: wire.Rating, _reach: Mapping[str, int]) -> None:
    if rating.score > rating.scale:
        raise field_problem(400, "out_of_range", "/score", "a score is at most its scale")


def _check_order(store: StoreState, order: wire.Order, reach: Mapping[str, int]) -> None:
    """No rate may make of an order more than the ledger's integers hold: its folding would never end."""
    _check_currency(store, order, reach)
    for currency, rate in _rates(store, order).items():
        if convert(order.amount, rate, order.currency, currency) > CONVERTED_MAX:
            pointer = "/amount" if order.fx_rate is wire.UNSET else "/fx_rate"
            remedy = f"this is more than {CONVERTED_MAX} minor units of {currency}: check amount and rate"
            raise field_problem(400, "out_of_range", pointer, remedy)


def _properties(properties: Mapping[str, Any]) -> None:
    faults = open_map_faults(properties, "/properties")
    if faults:
        raise bad_request(faults)


def _time(caller: Principal, at_us: int, now_us: int) -> tuple[int, bool]:
    if at_us > now_us + CLOCK_SKEW_US:
        raise field_problem(
            400, "clock_ahead", "/occurred_at", "more than 5 minutes ahead of the server: set the clock"
        )
    if not is_in_calendar(at_us):
        raise field_problem(400, "out_of_range", "/occurred_at", "write a time of 1970 or later")
    if at_us < now_us - DEDUPLICATION_US and Scope.IMPORT not in caller.scopes:
        raise field_problem(
            403, "import_scope_required", "/occurred_at", "older than 90 days needs a key with scope import"
        )
    return min(at_us, now_us), at_us > now_us


def _digest(store: StoreState, struct: AnyEvent) -> bytes:
    """Of the content as sent, without the event's own id: a time the server set is not content."""
    occurred_at_us = None if struct.occurred_at is UNSET else to_micros(struct.occurred_at)
    said = _in_order(replace(struct, event_id=None, occurred_at=occurred_at_us))
    # Keyed: an erased person's ids cannot be guessed back from it.
    return blake2b(said, digest_size=16, key=store.secret).digest()


_in_order = msgspec.json.Encoder(order="sorted").encode


def _resolve_order(store: StoreState, order: wire.Order) -> dict[str, Any]:
    return {"cost": _cost(order, store.settings.default_cost_rate), "rates": _rates(store, order)}


def _resolve_refund(store: StoreState, _refund: wire.Refund) -> dict[str, Any]:
    return {"recovered_rate_ppm": round(Fraction(str(store.settings.cost_recovered_rate)) * PPM)}


def _resolve_cart(store: StoreState, _struct: AnyEvent) -> dict[str, Any]:
    return {"abandon_after_us": _duration_us(store.settings.abandonment_window)}


@lru_cache(maxsize=256)
def _duration_us(text: str) -> int:
    return micros(parse_duration(text))


def _resolve_rating(_store: StoreState, rating: wire.Rating) -> dict[str, Any]:
    return {"score_fixed": round(Fraction(rating.score) / Fraction(rating.scale) * FIXED_POINT)}


def _resolve_custom(_store: StoreState, custom: wire.Custom) -> dict[str, Any]:
    return {"value_fixed": 0 if custom.value is UNSET else round(Fraction(custom.value) * FIXED_POINT)}


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


@dataclass(frozen=True, slots=True)
class Kind:
    """What is the same for all events of a type, worked out once: this is read for every event."""

    tag: str
    stored: tuple[str, ...]  # fields of the stored body
    is_of_browsers: bool  # a publishable key may send it
    needs_unit: bool
    check: Callable[[StoreState, Any, Mapping[str, int]], None] | None
    resolve: Callable[[StoreState, Any], dict[str, Any]] | None


def _kind(struct: type[AnyEvent]) -> Kind:
    return Kind(
        tag=str(struct.__struct_config__.tag),
        stored=tuple(name for name in struct.__struct_fields__ if name not in COLUMNS),
        is_of_browsers=issubclass(struct, wire.Kinds.BROWSER),
        needs_unit=not issubclass(struct, wire.OrderChange),
        check=_CHECKS.get(struct),
        resolve=_RESOLVERS.get(struct),
    )


_CHECKS: dict[type[AnyEvent], Any] = {
    wire.Order: _check_order,
    wire.Refund: _check_currency,
    wire.Rating: _check_rating,
    wire.Identify: _check_identify,
}
_RESOLVERS: dict[type[AnyEvent], Any] = {
    wire.Order: _resolve_order,
    wire.Refund: _resolve_refund,
    wire.Cart: _resolve_cart,
    wire.CheckoutStarted: _resolve_cart,
    wire.Abandonment: _resolve_cart,
    wire.Rating: _resolve_rating,
    wire.Custom: _resolve_custom,
}
KINDS: Mapping[type[AnyEvent], Kind] = {struct: _kind(struct) for struct in get_args(AnyEvent)}

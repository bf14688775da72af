"""What a storefront asks: the request of `POST /v1/assign`, checked, as a question to decide."""

from __future__ import annotations

import secrets
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta

from experiments.eligibility import RequestContext, conditions_hold
from experiments.errors import FieldError
from experiments.json_schema import child
from experiments.model import UnitKind
from service.assigning import Ask, Mode
from service.catalogue import LiveExperiment, StoreState
from service.clock import is_in_calendar, to_micros
from service.event_types import CartItem, Id, Ids, Instant, Maybe, Money, Text, given
from service.keys import KeyKind, Principal, Scope
from service.problems import bad_field, bad_request, field_problem, not_found
from service.wire import Key, Wire, convert, open_map_faults

CART_MAX = 200
_KINDS = tuple(UnitKind)
CLOCK_SKEW_US = 5 * 60 * 1_000_000

Context = Annotated[
    dict[str, Any],
    Meta(description="cart, item, segment, device, channel, country, and scalars of your own (64 keys)"),
]


class AssignRequest(Wire, frozen=True):
    """Who asks for an offer, where, in which context."""

    touchpoint: Key | Maybe = UNSET
    unit_id: Id | Maybe = UNSET
    ids: Ids | Maybe = UNSET
    experiment: Key | Maybe = UNSET
    context: Context | Maybe = UNSET
    occurred_at: Instant | Maybe = UNSET
    mode: Mode | Maybe = UNSET
    variant: Key | Maybe = UNSET
    propensity: Annotated[float, Meta(gt=0, le=1)] | Maybe = UNSET


class ContextItem(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """The item looked at."""

    sku: Id | Maybe = UNSET
    price: Money | Maybe = UNSET
    quantity: Annotated[int, Meta(ge=1, le=1_000_000)] | Maybe = UNSET
    cost: Money | Maybe = UNSET
    category: Text | Maybe = UNSET


_NO_ITEM = ContextItem()


class _Looked(msgspec.Struct, frozen=True):
    """What of a context has a shape of its own."""

    cart: list[CartItem] = msgspec.field(default_factory=list[CartItem])
    item: ContextItem = _NO_ITEM


_NO_CONTEXT = RequestContext(cart_value_minor=0)


def ask_of(store: StoreState, principal: Principal, wanted: AssignRequest, now_us: int) -> Ask:
    """The question a request puts. Raises Problem for what the caller got wrong."""
    experiments = _candidates(store, wanted)
    is_usual = wanted.mode is wanted.occurred_at is wanted.variant is wanted.propensity is UNSET
    mode = Mode.LIVE if is_usual else _import_mode(principal, wanted, experiments)
    context, stored = _NO_CONTEXT, {}
    if wanted.context is not UNSET and wanted.context:
        context, stored = _context(principal, wanted.context)
    return Ask(
        experiments=experiments,
        ids=_ids(wanted),
        context=context,
        segment=_segment(store, principal, context),
        stored_context=stored,
        at_us=now_us if is_usual else _at_us(now_us, given(wanted.occurred_at)),
        mode=mode,
        variant=None if is_usual else given(wanted.variant),
        propensity=None if is_usual else given(wanted.propensity),
    )


def _candidates(store: StoreState, wanted: AssignRequest) -> tuple[LiveExperiment, ...]:
    """The experiments that may take the unit, in order; one when the request names it."""
    if wanted.experiment is not UNSET:
        live = store.experiments.get(wanted.experiment)
        if live is None:
            raise not_found("experiment", wanted.experiment)
        return (live,)
    if wanted.touchpoint is UNSET:
        raise bad_field("/touchpoint", "required", "name the touchpoint, or an experiment")
    return store.running_at(wanted.touchpoint)


def _import_mode(
    principal: Principal, wanted: AssignRequest, experiments: tuple[LiveExperiment, ...]
) -> Mode:
    """The mode of a request that replays history, or looks without deciding."""
    mode = given(wanted.mode) or Mode.LIVE
    is_dated = wanted.occurred_at is not UNSET
    used = ["occurred_at"] * is_dated + ["mode"] * (mode is not Mode.LIVE)
    if used and Scope.IMPORT not in principal.scopes:
        raise field_problem(
            403, "import_scope_required", f"/{used[0]}", "replaying history needs a key with scope import"
        )
    forced = {"variant": given(wanted.variant), "propensity": given(wanted.propensity)}
    if mode is Mode.FORCED:
        missing = [name for name, value in forced.items() if value is None]
        if missing:
            raise bad_field(f"/{missing[0]}", "required", "mode forced carries variant and propensity")
        if len(experiments) != 1:
            raise bad_field("/experiment", "required", "mode forced names its experiment")
        known = [variant.key for variant in experiments[0].experiment.variants]
        if forced["variant"] not in known:
            raise bad_field("/variant", "unknown_variant", f"use one of {', '.join(known)}")
    elif any(value is not None for value in forced.values()):
        name = next(name for name, value in forced.items() if value is not None)
        raise bad_field(f"/{name}", "not_forced", "send this with mode forced only")
    return mode


def _ids(wanted: AssignRequest) -> dict[UnitKind, str]:
    unit_id, ids = wanted.unit_id, wanted.ids
    if ids is UNSET and unit_id is not UNSET:
        return dict.fromkeys(_KINDS, unit_id)
    if unit_id is not UNSET:
        raise bad_field("/ids", "unit_twice", "send unit_id or ids, not both")
    found: dict[UnitKind, str] = {UnitKind.REQUEST: f"request:{secrets.token_hex(16)}"}
    for kind in (UnitKind.VISITOR, UnitKind.CUSTOMER, UnitKind.SESSION):
        raw_id = None if ids is UNSET else given(getattr(ids, kind.value))
        if raw_id is not None:
            found[kind] = raw_id
    return found


def _context(principal: Principal, context: dict[str, Any]) -> tuple[RequestContext, dict[str, Any]]:
    """The context that eligibility reads, and what of it is kept."""
    fields = dict(context)
    shaped = {name: fields.pop(name) for name in _Looked.__struct_fields__ if name in fields}
    faults = open_map_faults(fields, "/context")
    if faults:
        raise bad_request(faults)
    looked = convert(shaped, _Looked, prefix="/context")
    cart, item = looked.cart, looked.item
    if len(cart) > CART_MAX:
        raise bad_field("/context/cart", "too_many", f"keep at most {CART_MAX} items, found {len(cart)}")
    if "segment" in fields and not isinstance(fields["segment"], str | None):
        fault = FieldError(child("/context", "segment"), "wrong_type", "a segment's key is text")
        raise bad_request([fault])
    if principal.kind is KeyKind.PUBLISHABLE:
        fields.pop("cost", None)
        fields.pop("segment", None)
    value, count = 0, 0
    is_priced = True
    for line in cart:
        quantity = 1 if line.quantity is UNSET else line.quantity
        count += quantity
        if line.price is UNSET:
            is_priced = False
        else:
            value += line.price * quantity
    skus = frozenset([line.sku for line in cart])
    cart_value = value if is_priced else None
    if item is _NO_ITEM:
        return RequestContext(skus, cart_value, count, None, None, None, fields), fields
    about = given(item.sku), given(item.price), given(item.category)
    return RequestContext(skus, cart_value, count, *about, fields), fields


def _segment(store: StoreState, principal: Principal, context: RequestContext) -> str:
    """The caller's segment (secret keys only), else the first of the store's that matches."""
    stated = context.fields.get("segment")
    if isinstance(stated, str) and principal.kind is KeyKind.SECRET:
        return stated
    for segment in store.settings.segments:
        if conditions_hold(segment.conditions, context, ""):
            return segment.key
    return ""


def _at_us(now_us: int, occurred_at: Any) -> int:
    if occurred_at is None:
        return now_us
    at_us = to_micros(occurred_at)
    if at_us > now_us + CLOCK_SKEW_US:
        raise bad_field(
            "/occurred_at", "clock_ahead", "more than 5 minutes ahead of the server: set the clock"
        )
    if not is_in_calendar(at_us):
        raise bad_field("/occurred_at", "out_of_range", "write a time of 1970 or later")
    return min(at_us, now_us)

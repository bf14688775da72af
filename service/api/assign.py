"""`POST /v1/assign`: which variant this unit gets, and what to show of it now.

Every well-formed request is answered with 200. Trouble on our side means the control's absence of an
offer and a reason code; the storefront never sees an error page.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

import msgspec
from litestar import Response
from msgspec import UNSET, Meta

from experiments.eligibility import RequestContext, conditions_hold
from experiments.errors import FieldError
from experiments.json_schema import child
from experiments.model import Offer, OfferKind, UnitKind
from service.api.routing import AnyRequest, call
from service.assigning import SHARE_TOTAL, Ask, Decision, Mode
from service.auth import principal_of, store_of
from service.catalogue import LiveExperiment, StoreState
from service.clock import is_in_calendar, to_micros
from service.context import Service, service_of
from service.decision_ids import encode
from service.event_types import CartItem, Id, Ids, Instant, Maybe, Money, Text, given
from service.hot.writer import Overloaded, WriterStopped
from service.keys import KeyKind, Principal, Scope
from service.problems import Problem, ProblemDocument, bad_field, bad_request, field_problem, not_found
from service.wire import Key, Wire, answer, body_of, convert, open_map_faults

BATCH_MAX = 1000
CART_MAX = 200
CLOCK_SKEW_US = 5 * 60 * 1_000_000
log = logging.getLogger(__name__)

Decide = Callable[[Service, StoreState, list[Ask]], Awaitable[list[Decision]]]

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


class OfferView(msgspec.Struct, frozen=True, omit_defaults=True):
    """What to show; `cost` for secret keys only."""

    kind: OfferKind
    sku: str | None = None
    price: int | None = None
    cost: int | None = None
    headline: str | None = None
    benefit: str | None = None
    payload: dict[str, Any] | None = None


class DecisionView(msgspec.Struct, frozen=True):
    """The answer to one request."""

    decision_id: str | None
    experiment: str | None
    variant: str | None
    offer: OfferView
    propensity: float | None
    policy_version: int | None
    reason: str


class BatchRequest(Wire, frozen=True):
    """Requests answered in order."""

    requests: Annotated[list[AssignRequest], Meta(max_length=BATCH_MAX)]


class _Batch(Wire, frozen=True):
    """The same with its requests unread: what is wrong with one must not fail the others."""

    requests: Annotated[list[Any], Meta(max_length=BATCH_MAX)]


class ProblemView(msgspec.Struct, frozen=True):
    """What stands in place of a decision that could not be made."""

    problem: ProblemDocument


class BatchAnswer(msgspec.Struct, frozen=True):
    """Decisions in the order of the requests."""

    decisions: list[DecisionView | ProblemView]


# Two structs without a tag are no union msgspec can describe, and a tag would stand on the wire.
BATCH_ANSWER: dict[str, Any] = {
    "type": "object",
    "description": "Decisions in the order of the requests.",
    "properties": {"decisions": {"type": "array", "items": {"anyOf": [DecisionView, ProblemView]}}},
    "required": ["decisions"],
}


@call(
    "POST",
    "/v1/assign",
    scope=Scope.ASSIGN,
    summary="Get or create a unit's assignment, and what to show now",
    body=Annotated[
        AssignRequest,
        Meta(extra_json_schema={"anyOf": [{"required": ["touchpoint"]}, {"required": ["experiment"]}]}),
    ],
    answer=DecisionView,
    publishable=True,
    problems=(404,),
)
async def assign(request: AnyRequest) -> Response[bytes]:
    """Answer one request."""
    return await answer_one(request, decide)


@call(
    "POST",
    "/v1/assign/batch",
    scope=Scope.ASSIGN,
    summary="The same for up to 1,000 requests",
    body=BatchRequest,
    answer=BATCH_ANSWER,
)
async def assign_batch(request: AnyRequest) -> Response[bytes]:
    """Answer many requests in order; one that cannot be made has a problem in its place."""
    return await answer_many(request, decide)


async def answer_one(request: AnyRequest, decide: Decide) -> Response[bytes]:
    """Read one request, have it decided, answer."""
    service, store, principal = service_of(request), store_of(request), principal_of(request)
    wanted = await body_of(request, AssignRequest)
    ask = _ask(service, store, principal, wanted)
    decisions = await decide(service, store, [ask])
    return answer(_view(store, principal, decisions[0]))


async def answer_many(request: AnyRequest, decide: Decide) -> Response[bytes]:
    """The same for a batch."""
    service, store, principal = service_of(request), store_of(request), principal_of(request)
    batch = await body_of(request, _Batch)
    asks: list[Ask | Problem] = []
    for raw in batch.requests:
        try:
            asks.append(_ask(service, store, principal, convert(raw, AssignRequest)))
        except Problem as problem:
            asks.append(problem)
    made = iter(await decide(service, store, [ask for ask in asks if isinstance(ask, Ask)]))
    views = [
        ProblemView(ask.document()) if isinstance(ask, Problem) else _view(store, principal, next(made))
        for ask in asks
    ]
    return answer(BatchAnswer(views))


async def fall_back(_service: Service, _store: StoreState, asks: list[Ask]) -> list[Decision]:
    """No offer for anybody, and nothing recorded: the ledger cannot be asked who has which variant."""
    return [Decision("fallback", ask.experiments[0] if ask.experiments else None) for ask in asks]


async def decide(service: Service, store: StoreState, asks: list[Ask]) -> list[Decision]:
    """Decisions, committed; when that cannot be had in time, what is known in memory or no offer."""
    if not asks:
        return []
    deadline_s = store.settings.deadline_ms / 1000 if len(asks) == 1 else None
    reason = "fallback"
    try:
        decisions = await service.writer.assign(store, asks, deadline_s)
        if decisions is not None:
            return decisions
    except (Overloaded, WriterStopped):
        reason = "overloaded"
    except Exception as error:
        log.error("an assignment failed, it is answered without the ledger: %s", error)
    return [without_ledger(service, store, ask, reason) for ask in asks]


def without_ledger(service: Service, store: StoreState, ask: Ask, reason: str) -> Decision:
    """The unit's variant as last committed when it is in memory, else no offer; nothing is recorded."""
    known = service.writer.sticky.stale(store, ask)
    decision = known or Decision(reason, ask.experiments[0] if ask.experiments else None)
    service.metrics.count_fallback(decision.reason)
    return decision


def _ask(service: Service, store: StoreState, principal: Principal, wanted: AssignRequest) -> Ask:
    key, touchpoint = given(wanted.experiment), given(wanted.touchpoint)
    if key is not None and key not in store.experiments:
        raise not_found("experiment", key)
    if key is None and touchpoint is None:
        raise bad_field("/touchpoint", "required", "name the touchpoint, or an experiment")
    experiments = [store.experiments[key]] if key is not None else store.running_at(str(touchpoint))
    mode = given(wanted.mode) or Mode.LIVE
    _check_import(principal, wanted, mode, experiments)
    context, stored = _context(principal, given(wanted.context) or {})
    return Ask(
        experiments=tuple(experiments),
        ids=_ids(wanted),
        context=context,
        segment=_segment(store, principal, wanted, context),
        stored_context=stored,
        at_us=_at_us(service.now_us(store), given(wanted.occurred_at)),
        mode=mode,
        variant=given(wanted.variant),
        propensity=given(wanted.propensity),
    )


def _check_import(
    principal: Principal, wanted: AssignRequest, mode: Mode, experiments: list[LiveExperiment]
) -> None:
    used = [
        name
        for name, is_used in (
            ("occurred_at", wanted.occurred_at is not UNSET),
            ("mode", mode is not Mode.LIVE),
        )
        if is_used
    ]
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


def _ids(wanted: AssignRequest) -> dict[UnitKind, str]:
    unit_id: str | None = given(wanted.unit_id)
    ids: Ids | None = given(wanted.ids)
    if unit_id is not None and ids is not None:
        raise bad_field("/ids", "unit_twice", "send unit_id or ids, not both")
    if unit_id is not None:
        return {kind: unit_id for kind in UnitKind}
    found: dict[UnitKind, str] = {UnitKind.REQUEST: f"request:{secrets.token_hex(16)}"}
    for kind in (UnitKind.VISITOR, UnitKind.CUSTOMER, UnitKind.SESSION):
        raw_id = None if ids is None else given(getattr(ids, kind.value))
        if raw_id is not None:
            found[kind] = raw_id
    return found


def _context(principal: Principal, context: dict[str, Any]) -> tuple[RequestContext, dict[str, Any]]:
    """The context that eligibility reads, and what of it is kept."""
    fields = {name: value for name, value in context.items() if name not in ("cart", "item")}
    faults = open_map_faults(fields, "/context")
    if faults:
        raise bad_request(faults)
    cart = convert(context.get("cart", []), list[CartItem], prefix="/context/cart")
    if len(cart) > CART_MAX:
        raise bad_field("/context/cart", "too_many", f"keep at most {CART_MAX} items, found {len(cart)}")
    item = convert(context.get("item", {}), ContextItem, prefix="/context/item")
    if "segment" in fields and not isinstance(fields["segment"], str | None):
        fault = FieldError(child("/context", "segment"), "wrong_type", "a segment's key is text")
        raise bad_request([fault])
    if principal.kind is KeyKind.PUBLISHABLE:
        fields = {name: value for name, value in fields.items() if name not in ("cost", "segment")}
    priced = [(given(line.price), given(line.quantity) or 1) for line in cart]
    value = sum(price * count for price, count in priced if price is not None)
    return RequestContext(
        cart_skus=frozenset(line.sku for line in cart),
        cart_value_minor=value if all(price is not None for price, _ in priced) else None,
        cart_items=sum(count for _, count in priced),
        item_sku=given(item.sku),
        item_price_minor=given(item.price),
        item_category=given(item.category),
        fields=fields,
    ), fields


def _segment(store: StoreState, principal: Principal, wanted: AssignRequest, context: RequestContext) -> str:
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


def _view(store: StoreState, principal: Principal, decision: Decision) -> DecisionView:
    live = decision.live
    is_public = principal.kind is KeyKind.PUBLISHABLE
    shares_shown = decision.share is not None and not is_public
    offer = None if live is None or decision.shown is None else live.experiment.variant(decision.shown).offer
    control = None if live is None else live.experiment.control.key
    return DecisionView(
        decision_id=None if decision.ref is None else encode(store.secret, decision.ref),
        experiment=None if live is None else live.key,
        variant=decision.variant or control,
        offer=offer_view(offer, is_public=is_public),
        propensity=decision.share / SHARE_TOTAL if shares_shown and decision.share is not None else None,
        policy_version=decision.policy_version,
        reason=decision.reason,
    )


def offer_view(offer: Offer | None, *, is_public: bool) -> OfferView:
    """An offer as the caller may see it."""
    if offer is None or offer.kind is OfferKind.NONE:
        return OfferView(OfferKind.NONE)
    return OfferView(
        kind=offer.kind,
        sku=offer.sku,
        price=offer.price_minor,
        cost=None if is_public else offer.cost_minor,
        headline=offer.headline,
        benefit=offer.benefit,
        payload=dict(offer.payload) or None,
    )


router = [assign, assign_batch]

"""What a storefront is answered: a decision as the caller may see it."""

from __future__ import annotations

from typing import Any

import msgspec

from experiments.model import Offer, OfferKind
from service.assigning import SHARE_TOTAL, Decision
from service.catalogue import StoreState
from service.decision_ids import encode
from service.keys import KeyKind, Principal


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


def view_of(store: StoreState, principal: Principal, decision: Decision) -> DecisionView:
    """The answer to one request."""
    live = decision.live
    is_public = principal.kind is KeyKind.PUBLISHABLE
    shares_shown = decision.share is not None and not is_public
    offer = None if live is None or decision.shown is None else live.offers[decision.shown]
    ref = decision.ref
    return DecisionView(
        decision_id=None if ref is None else encode(store.secret, ref),
        experiment=None if live is None else live.experiment.key,
        variant=decision.variant or (None if live is None else live.control_key),
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

"""The events of the wire: one closed struct each, told apart by `type`."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, ClassVar

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

NO_CONTROL = r"^[^\x00-\x1f\x7f-\x9f]*(?![\s\S])"  # a $ would let a line break end it
MONEY_MAX = 10**12
Id = Annotated[str, Meta(min_length=1, max_length=128, pattern=NO_CONTROL, description="The caller's id")]
Money = Annotated[int, Meta(ge=0, le=MONEY_MAX, description="Integer minor units")]
Delta = Annotated[int, Meta(ge=-MONEY_MAX, le=MONEY_MAX, description="Integer minor units, signed")]
Currency = Annotated[str, Meta(min_length=3, max_length=3, description="ISO 4217 code")]
Instant = Annotated[datetime, Meta(tz=True, description="RFC 3339 with offset")]
Text = Annotated[str, Meta(max_length=256)]
Count = Annotated[int, Meta(ge=1, le=1_000_000)]
Number = Annotated[float, Meta(ge=-1e12, le=1e12)]
OpenMap = Annotated[dict[str, Any], Meta(max_length=64, description="At most 64 scalar keys")]
Maybe = UnsetType


class Ids(Struct, forbid_unknown_fields=True, frozen=True):
    """Ids by kind."""

    visitor: Id | Maybe = UNSET
    customer: Id | Maybe = UNSET
    session: Id | Maybe = UNSET


class Item(Struct, forbid_unknown_fields=True, frozen=True):
    """A line of an order; price and cost are of one piece."""

    sku: Id
    price: Money
    quantity: Count
    cost: Money | Maybe = UNSET
    category: Text | Maybe = UNSET


class CartItem(Struct, forbid_unknown_fields=True, frozen=True):
    """A line of a cart."""

    sku: Id
    price: Money | Maybe = UNSET
    quantity: Count | Maybe = UNSET
    cost: Money | Maybe = UNSET
    category: Text | Maybe = UNSET


class Event(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True, tag_field="type"):
    """What every event carries."""

    event_id: Id
    occurred_at: Instant | Maybe = UNSET
    unit_id: Id | Maybe = UNSET
    ids: Ids | Maybe = UNSET
    decision_id: Id | Maybe = UNSET
    properties: OpenMap | Maybe = UNSET


class SlotEvent(Event, frozen=True):
    """What happened to the offer of a decision."""

    decision_id: Id  # pyright: ignore[reportGeneralTypeIssues] - by keyword only: no default goes before it


class Exposure(SlotEvent, tag="exposure", frozen=True):
    """The slot was drawn (for control: would have been drawn)."""


class Click(SlotEvent, tag="click", frozen=True):
    """The offer was clicked."""


class Accept(SlotEvent, tag="accept", frozen=True):
    """The offer was taken."""


class Decline(SlotEvent, tag="decline", frozen=True):
    """The offer was turned down."""

    reason: Text | Maybe = UNSET


class MessageOpened(SlotEvent, tag="message_opened", frozen=True):
    """The message that carries the offer was opened."""


class ProductView(Event, tag="product_view", frozen=True):
    """A product page was seen."""

    sku: Id


class Cart(Event, tag="cart", frozen=True):
    """A cart as it now is."""

    cart_id: Id
    items: Annotated[list[CartItem], Meta(max_length=200)] | Maybe = UNSET


class CheckoutStarted(Event, tag="checkout_started", frozen=True):
    """The checkout was entered."""

    cart_id: Id


class Abandonment(Event, tag="abandonment", frozen=True):
    """The shop says that the cart was given up."""

    cart_id: Id


class Order(Event, tag="order", frozen=True):
    """An order; `amount` = goods, after discounts, before tax and shipping."""

    order_id: Id
    amount: Money
    currency: Currency
    cost: Money | Maybe = UNSET
    discount: Money | Maybe = UNSET
    tax: Money | Maybe = UNSET
    shipping: Money | Maybe = UNSET
    items: Annotated[list[Item], Meta(max_length=200)] | Maybe = UNSET
    cart_id: Id | Maybe = UNSET
    fx_rate: Annotated[float, Meta(gt=0, le=1e9)] | Maybe = UNSET


class Refund(Event, tag="refund", frozen=True):
    """Money given back; amount absent = what all other refunds of the order leave."""

    order_id: Id
    refund_id: Id | Maybe = UNSET
    amount: Money | Maybe = UNSET
    currency: Currency | Maybe = UNSET
    cost_recovered: Money | Maybe = UNSET


class Cancel(Event, tag="cancel", frozen=True):
    """The rest of the order is refunded and its cost recovered."""

    order_id: Id


class OrderAdjusted(Event, tag="order_adjusted", frozen=True):
    """A correction of an order's amount or cost."""

    order_id: Id
    amount_delta: Delta | Maybe = UNSET
    cost_delta: Delta | Maybe = UNSET


class Rating(Event, tag="rating", frozen=True):
    """A score; `scale` = the highest one possible."""

    score: Annotated[float, Meta(ge=0, le=1e6)]
    scale: Annotated[float, Meta(gt=0, le=1e6)]
    comment: Annotated[str, Meta(max_length=2000)] | Maybe = UNSET


class Identify(Event, tag="identify", frozen=True):
    """The anonymous id (a visitor) is this customer."""

    anonymous_id: Id


class Custom(Event, tag="custom", frozen=True):
    """An event of the shop's own, for custom metrics."""

    name: Annotated[str, Meta(min_length=1, max_length=64, pattern=NO_CONTROL)]
    value: Number | Maybe = UNSET


AnyEvent = (
    Exposure
    | Click
    | Accept
    | Decline
    | MessageOpened
    | ProductView
    | Cart
    | CheckoutStarted
    | Abandonment
    | Order
    | Refund
    | Cancel
    | OrderAdjusted
    | Rating
    | Identify
    | Custom
)
OrderChange = Refund | Cancel | OrderAdjusted


class Kinds:
    """Who may send what."""

    BROWSER_SLOT: ClassVar = (Exposure, Click, Accept, Decline)
    BROWSER: ClassVar = (*BROWSER_SLOT, ProductView, Cart, CheckoutStarted)


def given(value: Any) -> Any:
    """The value, or None where the field was not sent."""
    return None if value is UNSET else value


DECODER: msgspec.json.Decoder[AnyEvent] = msgspec.json.Decoder(AnyEvent)

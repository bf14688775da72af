"""The shop of the state machine: its experiments, its people, and what may come from them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from hypothesis import strategies as st

from tests.service.conftest import document
from tests.service.oracle import DAY, Rules, Shop

HOUR = 3600
START = int(datetime.fromisoformat("2026-03-27T20:00:00+01:00").timestamp())  # clocks change on the 29th
SETTINGS = Shop("Europe/Rome", {"USD": "0.9137", "JPY": "0.0061"}, "0.35", 5 * HOUR)
CUSTOM = [
    {"key": "signups", "kind": "proportion", "event": "signup", "window": "1d"},
    {"key": "depth", "kind": "mean", "event": "page"},
]
RULES = {
    rules.key: rules
    for rules in (
        Rules(
            "by-visitor", "visitor", 3 * DAY, metrics={"signups": ("signup", DAY), "depth": ("page", None)}
        ),
        Rules("by-customer", "customer", 2 * DAY, anchor="exposure"),
        Rules("by-session", "session", DAY, reassign_after=2 * DAY),
        Rules("by-request", "request", 2 * DAY),
        Rules("phones-first", "visitor", 2 * DAY),
    )
}
TOUCHPOINTS = {
    "cart": ("phones-first", "by-visitor"),
    "email": ("by-customer",),
    "checkout": ("by-session",),
    "agent": ("by-request",),
}
"""Experiments in the order in which they are asked."""
OFFERS = {
    "socks": {"kind": "cross_sell", "sku": "SOCK-3", "price": 1290, "cost": 410},
    "cap": {"kind": "cross_sell", "sku": "CAP-1", "price": 900, "cost": 200},
}
VARIANTS = ("none", "socks", "cap")

VISITORS, CUSTOMERS, SESSIONS = ["v0", "v1", "v2", "both"], ["c0", "c1", "both"], ["s0", "both"]
IDS = {"visitor": VISITORS, "customer": CUSTOMERS, "session": SESSIONS}
ALL_IDS = sorted({*VISITORS, *CUSTOMERS, *SESSIONS})
ORDERS = [f"o{i}" for i in range(5)]


def documents() -> list[dict[str, Any]]:
    """The experiments as they are created."""
    variants = [{"key": "none", "is_control": True, "offer": {"kind": "none"}}]
    variants += [{"key": key, "offer": offer} for key, offer in OFFERS.items()]
    touchpoint_of = {key: name for name, keys in TOUCHPOINTS.items() for key in keys}
    return [
        document(
            rules.key,
            unit=rules.kind,
            touchpoint=touchpoint_of[rules.key],
            variants=variants,
            anchor=rules.anchor,
            attribution_window=f"{rules.window}s",
            reassign_after="never" if rules.reassign_after is None else f"{rules.reassign_after}s",
            metrics=CUSTOM if rules.metrics else [],
            **({"audience": {"device": "phone"}, "priority": 1} if rules.key == "phones-first" else {}),
        )
        for rules in RULES.values()
    ]


# -- what may come

who = st.one_of(
    st.sampled_from(ALL_IDS).map(lambda id_: {"unit_id": id_}),
    st.fixed_dictionaries(
        {}, optional={kind: st.sampled_from(ids) for kind, ids in IDS.items()}
    ).map(lambda ids: {"ids": ids}),
)  # fmt: skip
carts = st.sampled_from([[], [], [], ["socks"], ["cap"], ["socks", "cap"]])
contexts = st.fixed_dictionaries(
    {},
    optional={
        "device": st.sampled_from(["phone", "phone", "desktop"]),
        "segment": st.sampled_from(["vip", "new"]),
    },
)
asks = st.tuples(st.sampled_from(list(TOUCHPOINTS)), st.booleans(), who, carts, contexts)
"""Where, whether the last experiment there is named, who, what is in the cart, and the context."""

money = st.one_of(st.sampled_from([0, 1, 999]), st.integers(1, 20_000))
lateness = st.sampled_from([None, 0, 0, 60, HOUR, 7 * HOUR, DAY, 3 * DAY, -120])
"""Seconds before now at which an event says it happened; None: it does not say."""
items = st.lists(
    st.fixed_dictionaries(
        {"sku": st.just("A"), "price": st.just(5), "quantity": st.integers(1, 3)},
        optional={"cost": st.integers(0, 900)},
    ),
    max_size=2,
)
orders = st.fixed_dictionaries(
    {
        "order_id": st.sampled_from(ORDERS),
        "amount": money,
        "currency": st.sampled_from(["EUR", "EUR", "EUR", "USD", "JPY", "SEK"]),
    },
    optional={
        "cost": st.integers(0, 9_000),
        "cart_id": st.sampled_from(["k0", "k1"]),
        "fx_rate": st.just(0.0925),
        "items": items,
    },
)
refunds = st.fixed_dictionaries(
    {"order_id": st.sampled_from(ORDERS)},
    optional={
        "refund_id": st.sampled_from(["r0", "r1"]),
        "amount": money,
        "cost_recovered": st.integers(0, 3_000),
        "currency": st.sampled_from(["EUR", "USD"]),
    },
)
adjustments = st.fixed_dictionaries(
    {"order_id": st.sampled_from(ORDERS)},
    optional={"amount_delta": st.integers(-3_000, 3_000), "cost_delta": st.integers(-500, 500)},
)
customs = st.fixed_dictionaries(
    {"name": st.sampled_from(["signup", "page"])},
    optional={"value": st.integers(-8, 80).map(lambda n: n / 8)},
)
ratings = st.fixed_dictionaries({"score": st.integers(0, 5), "scale": st.just(5)})
cart_events = st.fixed_dictionaries({"cart_id": st.sampled_from(["k0", "k1", "k2"])})

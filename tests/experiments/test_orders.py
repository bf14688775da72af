"""Orders restated: sums a person can do in the head, and every order of arrival."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.facts import Adjustment, OrderFact, Refund
from experiments.orders import convert, fold_order


def order(amount: int = 1000, cost: int | None = 400, *changes: Refund | Adjustment) -> OrderFact:
    return OrderFact(
        "o",
        0,
        "EUR",
        amount,
        cost,
        refunds=tuple(c for c in changes if isinstance(c, Refund)),
        adjustments=tuple(c for c in changes if isinstance(c, Adjustment)),
    )


def refund(
    amount: int | None, recovered: int | None = None, rate: int = 0, currency: str | None = None
) -> Refund:
    return Refund(amount, recovered, rate, 0, currency=currency)


CANCEL = Refund(None, None, 1_000_000, 0, is_cancel=True)

# name: (order, refunded, over_refunded, recovered, margin)
HAND: dict[str, tuple[OrderFact, int, int, int, int | None]] = {
    "untouched: 1000 - 400": (order(), 0, 0, 0, 600),
    "part: 1000 - 400 - 300": (order(1000, 400, refund(300)), 300, 0, 0, 300),
    "two parts make the whole": (order(1000, 400, refund(300), refund(700)), 1000, 0, 0, -400),
    "too much: min(1300, 1000)": (order(1000, 400, refund(900), refund(400)), 1000, 300, 0, -400),
    "amount absent: all": (order(1000, 400, refund(None)), 1000, 0, 0, -400),
    "amount absent: what 300 leave": (order(1000, 400, refund(300), refund(None)), 1000, 0, 0, -400),
    "amount absent twice": (order(1000, 400, refund(None), refund(None)), 1000, 0, 0, -400),
    "amount absent after too much": (order(1000, 400, refund(1100), refund(None)), 1000, 100, 0, -400),
    "cancel: all, its cost back": (order(1000, 400, CANCEL), 1000, 0, 400, 0),
    "cancel of the remaining 70 %: 280 back": (order(1000, 400, refund(300), CANCEL), 1000, 0, 280, -120),
    "cancel twice": (order(1000, 400, CANCEL, CANCEL), 1000, 0, 400, 0),
    "cancel after everything was refunded": (order(1000, 400, refund(1000), CANCEL), 1000, 0, 0, -400),
    "recovered as stated": (order(1000, 400, refund(300, 90)), 300, 0, 90, 390),
    "recovered nothing, though the rate is 1": (order(1000, 400, refund(300, 0, 10**6)), 300, 0, 0, 300),
    "recovered by rate: half of 30 % of 400": (order(1000, 400, refund(300, rate=500_000)), 300, 0, 60, 360),
    "recovered by rate of too much: half of 400": (
        *(order(1000, 400, refund(900, rate=500_000), refund(900, rate=500_000)), 1000, 800),
        *(200, -200),
    ),
    "recovered never more than the cost": (order(1000, 400, refund(1000, 999)), 1000, 0, 400, 0),
    "recovered 90 and the remainder's 280": (order(1000, 400, refund(300, 90), CANCEL), 1000, 0, 370, -30),
    "a refund of nothing": (order(1000, 400, refund(0)), 0, 0, 0, 600),
    "given away, nothing of nothing refunded: no cost comes back": (
        *(order(0, 400, refund(0, rate=10**6)), 0, 0),
        *(0, -400),
    ),
    "given away and cancelled: all of its cost comes back": (order(0, 400, CANCEL), 0, 0, 400, 0),
    "cost unknown": (order(1000, None, refund(300)), 300, 0, 0, None),
    "cost known late": (order(1000, None, Adjustment(0, 250)), 0, 0, 0, 750),
    "adjusted: 1000 - 200, 400 + 50": (order(1000, 400, Adjustment(-200, 50)), 0, 0, 0, 350),
    "adjusted below what was refunded": (
        order(1000, 400, Adjustment(-800, None), refund(500)),
        200,
        300,
        0,
        -400,
    ),
    "adjusted below nothing is nothing": (order(1000, 400, Adjustment(-5000, None)), 0, 0, 0, -400),
    "worth nothing, cancelled": (order(0, 400, CANCEL), 0, 0, 400, 0),
    "worth nothing, refunded": (order(0, 0, refund(5)), 0, 5, 0, 0),
    "in another currency: never counted": (order(1000, 400, refund(300, 99, currency="USD")), 0, 0, 0, 600),
    "in its own currency": (order(1000, 400, refund(300, currency="EUR")), 300, 0, 0, 300),
}


@pytest.mark.parametrize("name", HAND)
def test_by_hand(name: str) -> None:
    fact, refunded, over, recovered, margin = HAND[name]
    balance = fold_order(fact)
    assert (balance.refunded_minor, balance.over_refunded_minor) == (refunded, over)
    assert (balance.recovered_minor, balance.margin_minor) == (recovered, margin)


def test_the_flags() -> None:
    assert not fold_order(order()).is_refunded
    assert fold_order(order(1000, 400, refund(0))).is_refunded
    cancelled = fold_order(order(1000, 400, CANCEL))
    assert (cancelled.is_refunded, cancelled.is_cancelled) == (True, True)
    foreign = fold_order(order(1000, 400, refund(5, currency="USD"), refund(1)))
    assert (foreign.refused_refunds, foreign.refunded_minor) == (1, 1)
    assert not fold_order(order(1000, 400, refund(5, currency="USD"))).is_refunded


@pytest.mark.parametrize(
    ("amount", "rate", "source", "target", "wanted"),
    [
        (1000, "1", "EUR", "EUR", 1000),
        (1000, "160", "EUR", "JPY", 1600),  # 10.00 EUR are 1,600 yen, which have no decimals
        (1600, "0.00625", "JPY", "EUR", 1000),
        (1000, "0.33", "EUR", "KWD", 3300),  # 3.300 dinars, which have three
        (3300, "3.0303", "KWD", "EUR", 1000),
        (5, "0.5", "EUR", "USD", 2),  # half to even: 2.5
        (7, "0.5", "EUR", "USD", 4),  # 3.5
        (-5, "0.5", "EUR", "USD", -2),
        (10**15, "1.000000000000001", "EUR", "USD", 10**15 + 1),  # no float could
        (0, "7", "EUR", "JPY", 0),
    ],
)
def test_conversion(amount: int, rate: str, source: str, target: str, wanted: int) -> None:
    assert convert(amount, rate, source, target) == wanted


amounts = st.integers(0, 3000)
refunds = st.builds(
    Refund,
    st.none() | amounts,
    st.none() | st.integers(0, 600),
    st.sampled_from([0, 350_000, 1_000_000]),
    st.integers(0, 9),
    st.booleans(),
    st.sampled_from([None, "EUR", "USD"]),
)
adjustments = st.builds(Adjustment, st.integers(-1500, 1500), st.none() | st.integers(-200, 200))


@given(
    amounts,
    st.none() | st.integers(0, 900),
    st.lists(refunds, max_size=5),
    st.lists(adjustments, max_size=3),
    st.randoms(use_true_random=False),
)
def test_the_order_of_arrival_changes_nothing(
    amount: int, cost: int | None, given_back: list[Refund], adjusted: list[Adjustment], chance: random.Random
) -> None:
    first = fold_order(order(amount, cost, *given_back, *adjusted))
    chance.shuffle(given_back)
    chance.shuffle(adjusted)
    assert fold_order(order(amount, cost, *given_back, *adjusted)) == first
    assert 0 <= first.refunded_minor <= first.amount_minor
    assert first.recovered_minor <= max(first.cost_minor or 0, 0)

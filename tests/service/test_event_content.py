"""What is recorded of an event. Its digest stays what it was: else what is sent again would be a conflict."""

from __future__ import annotations

import pytest

from service.catalogue import StoreSettings, StoreState
from service.event_content import arrive
from service.event_types import DECODER
from service.keys import KeyKind, Principal, Scope

STORE = StoreState(1, "shop", b"k" * 32, False, None, 1, StoreSettings(), {})
CALLER = Principal("key", 1, KeyKind.SECRET, frozenset(Scope), b"")
NOW_US = 1_790_000_000_000_000


@pytest.mark.parametrize(
    ("body", "digest"),
    [
        (
            '{"type":"order","event_id":"e","occurred_at":"2026-03-01T12:00:00.25+01:00","order_id":"o",'
            '"ids":{"visitor":"v","customer":"c"},"amount":8900,"currency":"EUR",'
            '"items":[{"sku":"b","price":1,"quantity":2,"category":"x"}],"fx_rate":1.25,'
            '"properties":{"z":1,"a":null,"è":"\\u00e8"}}',
            "7971216984eb712af524674c495e5af5",
        ),
        (
            '{"type":"identify","event_id":"e","unit_id":"c","anonymous_id":"v"}',
            "1aa0d30adc1bf2ec0f8be8c93480e6e9",
        ),
        (
            '{"type":"rating","event_id":"e","unit_id":"c","score":4,"scale":5.0,"comment":"à"}',
            "5a72c5c168517a5ee237b6ac994cf449",
        ),
        (
            '{"type":"custom","event_id":"e","unit_id":"c","name":"n","value":1e-7}',
            "0dae71d0e49733c5de9dde8291844ff4",
        ),
    ],
)
def test_the_digest_is_the_one_of_the_first_release(body: str, digest: str) -> None:
    """The values were written down before the digest was made straight from the struct."""
    assert arrive(STORE, CALLER, DECODER.decode(body), NOW_US).digest.hex() == digest


def test_the_digest_leaves_out_the_events_own_id_and_nothing_else() -> None:
    def digest(body: str) -> bytes:
        return arrive(STORE, CALLER, DECODER.decode(body), NOW_US).digest

    view = '{"type":"product_view","event_id":"e","unit_id":"u","sku":"s"}'
    assert digest(view.replace('"e"', '"f"')) == digest(view)
    for said, other in (("product_view", "custom"), ('"u"', '"v"'), ('"s"', '"t"')):
        changed = view.replace(said, other).replace('"sku"', '"name"' if other == "custom" else '"sku"')
        assert digest(changed) != digest(view)

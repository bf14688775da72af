from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.metric_keys import METRIC_DIRECTIONS, METRIC_KEYS, OFFER_ONLY_METRICS, metric_kind
from experiments.model import Direction
from experiments.money import exponent, is_currency
from experiments.times import format_duration, format_instant, parse_duration, parse_instant

# ISO 4217:2015, table A.1 with amendments: what has no decimals, three, or four.
NO_DECIMALS = ["BIF", "CLP", "DJF", "GNF", "ISK", "JPY", "KMF", "KRW", "PYG", "RWF", "UGX", "UYI", "VND"]
NO_DECIMALS += ["VUV", "XAF", "XOF", "XPF"]


@pytest.mark.parametrize("code", NO_DECIMALS)
def test_currencies_without_decimals(code: str):
    assert exponent(code) == 0


@pytest.mark.parametrize(
    ("code", "places"),
    [("EUR", 2), ("RON", 2), ("GBP", 2), ("MGA", 2), ("BHD", 3), ("TND", 3), ("CLF", 4), ("UYW", 4)],
)
def test_currencies_with_decimals(code: str, places: int):
    assert is_currency(code)
    assert exponent(code) == places


@pytest.mark.parametrize("code", ["XXX", "XTS", "XAU", "XDR", "DEM", "HRK", "eur", "EU", "", "EURO"])
def test_what_is_no_currency(code: str):
    assert not is_currency(code)
    with pytest.raises(KeyError):
        exponent(code)


def test_metric_keys_are_those_of_the_wire():
    assert len(METRIC_KEYS) == len(set(METRIC_KEYS)) == 18
    down = {key for key, way in METRIC_DIRECTIONS.items() if way is Direction.DOWN}
    assert down == {"cart_abandonment_rate", "refund_rate", "refund_value_rate", "cancel_rate"}
    assert set(METRIC_KEYS) >= OFFER_ONLY_METRICS


@pytest.mark.parametrize(
    ("key", "kind"),
    [
        ("take_rate", "proportion"),
        ("margin_per_unit", "mean"),
        ("orders_per_unit", "mean"),
        ("refund_rate", "ratio"),
    ],
)
def test_metric_kinds(key: str, kind: str):
    assert metric_kind(key) == kind


def test_an_unknown_metric_has_no_kind():
    with pytest.raises(KeyError):
        metric_kind("nps")


@given(st.integers(0, 3650 * 86_400))
def test_durations_survive_writing_and_reading(seconds: int):
    duration = timedelta(seconds=seconds)
    assert parse_duration(format_duration(duration)) == duration


@pytest.mark.parametrize(
    ("text", "written"), [("60s", "1m"), ("61s", "61s"), ("48h", "2d"), ("007d", "7d"), ("90m", "90m")]
)
def test_durations_are_written_in_the_largest_unit(text: str, written: str):
    assert format_duration(parse_duration(text)) == written


@pytest.mark.parametrize("text", ["", "7", "d", "7D", "-7d", "7.5d", "7d\n", "٧d", "7w", "1234567890s"])
def test_what_is_no_duration(text: str):
    with pytest.raises(ValueError):
        parse_duration(text)


def test_a_duration_of_fractions_of_a_second_cannot_be_written():
    with pytest.raises(ValueError):
        format_duration(timedelta(milliseconds=1500))


@given(st.datetimes(datetime(2, 1, 1), datetime(9998, 1, 1)), st.integers(-1439, 1439))
def test_instants_survive_writing_and_reading(local: datetime, offset: int):
    instant = local.replace(tzinfo=UTC) - timedelta(minutes=offset)
    sign, (hours, minutes) = "-" if offset < 0 else "+", divmod(abs(offset), 60)
    assert parse_instant(f"{local.isoformat()}{sign}{hours:02}:{minutes:02}") == instant
    assert parse_instant(format_instant(instant)) == instant


@pytest.mark.parametrize(
    "text",
    [
        "2026-02-30T00:00:00Z",
        "2026-01-01",
        "2026-01-01T00:00:00",
        "20260101T000000Z",
        "2026-01-01T25:00:00Z",
        "2026-01-01T00:00:60Z",
        "0001-01-01T00:00:00+01:00",
        "2026-01-01T00:00:00Z\n",
        "now",
    ],
)
def test_what_is_no_instant(text: str):
    with pytest.raises(ValueError):
        parse_instant(text)

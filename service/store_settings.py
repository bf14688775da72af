"""A store's settings as the wire writes them: checked, and into what the store row keeps."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from experiments.eligibility import mapping_of, parse_conditions
from experiments.errors import FieldError, InvalidDocument
from experiments.json_schema import child
from experiments.money import is_currency
from experiments.times import parse_duration
from service.catalogue import StoreSettings
from service.problems import bad_request
from service.wire import CallerId, Key, Wire, convert, merge_patch, refuse_unknown

Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Holdout = Annotated[float, msgspec.Meta(ge=0, lt=1)]
Deadline = Annotated[int, msgspec.Meta(ge=10, le=5000)]

_ORIGIN = re.compile(r"https?://(\[[0-9a-f:.]+\]|[a-z0-9.-]+)(:[0-9]{1,5})?")
_RATE_LIMITS = (Decimal("1e-9"), Decimal("1e9"))
_RATE_DIGITS = 18
_RATE_TEXT = re.compile(r"[0-9]+(\.[0-9]+)?")


class SegmentDocument(Wire, frozen=True):
    """A named group of shoppers; the first of the list whose conditions hold counts."""

    key: Key
    conditions: dict[str, Any]


class StoreDocument(Wire, frozen=True):
    """The store's settings."""

    time_zone: str = "UTC"
    currency: str = "EUR"
    holdout: Holdout = 0.0
    default_cost_rate: Share | None = None
    cost_recovered_rate: Share = 0.0
    abandonment_window: str = "24h"
    fx_rates: Annotated[dict[str, int | float | str], msgspec.Meta(max_length=400)] = msgspec.field(
        default_factory=dict
    )
    segments: Annotated[list[SegmentDocument], msgspec.Meta(max_length=100)] = msgspec.field(
        default_factory=list
    )
    out_of_stock: Annotated[list[CallerId], msgspec.Meta(max_length=10_000)] = msgspec.field(
        default_factory=list
    )
    origins: Annotated[list[str], msgspec.Meta(max_length=100)] = msgspec.field(default_factory=list)
    deadline_ms: Deadline = 150


_CLOSED = {
    "additionalProperties": False,
    "properties": {name: {} for name in StoreDocument.__struct_fields__},
}


def document_of(settings: StoreSettings) -> StoreDocument:
    """The settings as the wire writes them."""
    return StoreDocument(
        time_zone=settings.time_zone,
        currency=settings.currency,
        holdout=settings.holdout,
        default_cost_rate=settings.default_cost_rate,
        cost_recovered_rate=settings.cost_recovered_rate,
        abandonment_window=settings.abandonment_window,
        fx_rates=dict(settings.fx_rates),
        segments=[
            SegmentDocument(key=segment.key, conditions=mapping_of(segment.conditions))
            for segment in settings.segments
        ],
        out_of_stock=sorted(settings.out_of_stock),
        origins=list(settings.origins),
        deadline_ms=settings.deadline_ms,
    )


def patched(settings: StoreSettings, patch: Mapping[str, Any]) -> dict[str, Any]:
    """The settings column after a JSON merge patch. Raises Problem 400 naming every field at fault."""
    refuse_unknown(patch, _CLOSED)
    merged = merge_patch(msgspec.to_builtins(document_of(settings)), patch)
    document = convert(merged, StoreDocument)
    faults = list(_faults(document))
    if faults:
        raise bad_request(faults)
    stored = msgspec.to_builtins(document)
    stored["fx_rates"] = {code: _rate_text(rate) for code, rate in document.fx_rates.items()}
    stored["out_of_stock"] = sorted(set(document.out_of_stock))
    stored["origins"] = list(dict.fromkeys(document.origins))
    return stored


def time_zone_fault(name: str, pointer: str) -> FieldError | None:
    """What is wrong with a time zone's name."""
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return FieldError(pointer, "unknown_time_zone", "use an IANA name such as Europe/Rome or UTC")
    return None


def currency_fault(code: str, pointer: str) -> FieldError | None:
    """What is wrong with a currency's code."""
    if is_currency(code):
        return None
    return FieldError(pointer, "unknown_currency", "use an ISO 4217 code in capitals, such as EUR")


def _faults(document: StoreDocument) -> Iterator[FieldError]:
    if fault := time_zone_fault(document.time_zone, "/time_zone"):
        yield fault
    if fault := currency_fault(document.currency, "/currency"):
        yield fault
    yield from _window_faults(document.abandonment_window)
    for code, rate in document.fx_rates.items():
        yield from _rate_faults(document.currency, code, rate)
    yield from _segment_faults(document.segments)
    for index, origin in enumerate(document.origins):
        if not _ORIGIN.fullmatch(origin) or len(origin) > 256:
            remedy = "write scheme://host[:port] in small letters, without a path: https://shop.example"
            yield FieldError(f"/origins/{index}", "bad_origin", remedy)


def _window_faults(text: str) -> Iterator[FieldError]:
    try:
        window = parse_duration(text)
    except (ValueError, OverflowError):
        yield FieldError("/abandonment_window", "bad_format", "write a duration such as 90s, 15m, 24h or 7d")
        return
    if not 60 <= window.total_seconds() <= 3650 * 86400:
        yield FieldError("/abandonment_window", "out_of_range", "choose between 60s and 3650d")


def _rate_faults(currency: str, code: str, rate: int | float | str) -> Iterator[FieldError]:
    pointer = child("/fx_rates", code)
    if fault := currency_fault(code, pointer):
        yield fault
        return
    if code == currency:
        yield FieldError(pointer, "own_currency", f"{code} is the store's own currency: leave it out")
    least, most = _RATE_LIMITS
    value = _decimal(rate)
    if value is None or not least <= value <= most or len(value.as_tuple().digits) > _RATE_DIGITS:
        remedy = f"give a positive decimal number of at most {_RATE_DIGITS} digits, such as 0.8547"
        yield FieldError(pointer, "bad_rate", remedy)


def _segment_faults(segments: list[SegmentDocument]) -> Iterator[FieldError]:
    seen: set[str] = set()
    for index, segment in enumerate(segments):
        at = f"/segments/{index}"
        if segment.key in seen:
            yield FieldError(f"{at}/key", "given_twice", "give every segment a key of its own")
        seen.add(segment.key)
        if "segment" in segment.conditions:
            remedy = "a segment cannot depend on a segment: use fields of the request"
            yield FieldError(f"{at}/conditions/segment", "circular", remedy)
        try:
            parse_conditions(segment.conditions, f"{at}/conditions")
        except InvalidDocument as error:
            yield from error.errors


def _decimal(rate: int | float | str) -> Decimal | None:
    if isinstance(rate, str) and not _RATE_TEXT.fullmatch(rate):
        return None  # Decimal would read 1_0, ' 1 ' and the digits of every script
    try:
        value = Decimal(str(rate))
    except InvalidOperation:
        return None
    return value if value.is_finite() else None


def _rate_text(rate: int | float | str) -> str:
    value = _decimal(rate)
    assert value is not None, "checked before"
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text

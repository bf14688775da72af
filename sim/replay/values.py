"""Cells of a file as values: exact decimals, money in minor units, identifiers."""

from decimal import ROUND_HALF_EVEN, Decimal, InvalidOperation

from experiments.money import exponent
from sim.replay.errors import BadFile

LONGEST_ID = 128


def decimal_or_none(text: str) -> Decimal | None:
    """The finite decimal the text writes, or None."""
    try:
        number = Decimal(text.strip())
    except InvalidOperation:
        return None
    return number if number.is_finite() else None


def parse_decimal(text: str, column: str, row: int) -> Decimal:
    """The number in a cell; an empty one, text, NaN and infinity are errors of the file."""
    number = decimal_or_none(text)
    if number is None:
        raise BadFile(f"column {column!r} holds {text!r} where a number is needed", row)
    return number


def parse_count(text: str, column: str, row: int) -> int:
    """The whole number in a cell."""
    number = parse_decimal(text, column, row)
    if number != number.to_integral_value():
        raise BadFile(f"column {column!r} holds {text!r} where a whole number is needed", row)
    return int(number)


def to_minor(amount: Decimal, currency: str) -> int:
    """An amount in minor units; a fraction of one is rounded half to even.

    >>> to_minor(Decimal("12.905"), "EUR"), to_minor(Decimal("12.5"), "JPY")
    (1290, 12)
    """
    return int(amount.scaleb(exponent(currency)).to_integral_value(ROUND_HALF_EVEN))


def parse_id(text: str, what: str, row: int) -> str:
    """An identifier as the wire takes it: 1 to 128 characters, none of them a control character."""
    if not text:
        raise BadFile(f"{what} is empty", row)
    if len(text) > LONGEST_ID:
        raise BadFile(f"{what} is longer than {LONGEST_ID} characters", row)
    if any(ord(character) < 32 or 127 <= ord(character) < 160 for character in text):
        raise BadFile(f"{what} holds a control character", row)
    return text

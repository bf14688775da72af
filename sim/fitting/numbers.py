"""Numbers as shops' files write them: decimal commas, and marks between thousands."""

import re
from decimal import Decimal

from sim.replay.errors import BadFile
from sim.replay.values import decimal_or_none

DECIMALS = (".", ",")
_BETWEEN = {".": "[,' \u2019\u00a0\u202f]", ",": "[.' \u2019\u00a0\u202f]"}
_GROUPED = {mark: re.compile(rf"-?\d{{1,3}}({_BETWEEN[mark]}\d{{3}})+(\{mark}\d+)?") for mark in DECIMALS}


def parse_number(text: str, column: str, row: int, decimal: str | None) -> Decimal:
    """The number in a cell; BadFile says what would read it.

    `decimal` is the mark before fractions. Thousands may be marked where it is given, and in threes alone:
    a `91.02` under a decimal comma is no 9102.

    >>> parse_number("1.234,56", "total", 1, ","), parse_number("12.90", "total", 1, None)
    (Decimal('1234.56'), Decimal('12.90'))
    """
    plain = text.strip()
    if decimal is not None and _GROUPED[decimal].fullmatch(plain):
        plain = re.sub(_BETWEEN[decimal], "", plain)
    if decimal == ",":
        plain = "" if "." in plain else plain.replace(",", ".")
    number = decimal_or_none(plain)
    if number is None:
        fault = f"column {column!r} holds {text!r} where a number is needed"
        raise BadFile(f"{fault}; {_remedy(text, column, decimal)}", row)
    return number


def _remedy(text: str, column: str, decimal: str | None) -> str:
    if not text.strip():
        return f'`when: {column} != ""` leaves such rows out'
    if "," in text and decimal is None:
        return 'in the mapping `file: {decimal: ","}` reads 1.234,56, `file: {decimal: "."}` reads 1,234.56'
    if decimal == "," and "." in text:
        return "the mapping says that fractions stand behind a comma"
    return "write it without currency or unit"

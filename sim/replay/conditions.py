"""Field tests of a mapping: `visit == 1`, `InvoiceNo not startswith C and Quantity > 0`.

A test is `column operator literal`; several are joined by ` and `. A bare number compares as a number
(a cell that is none is an error of the file), anything else, and whatever stands in quotes, as text.
There is no other syntax, so a mapping from a stranger can run nothing.
"""

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal

from sim.replay.errors import BadFile
from sim.replay.values import decimal_or_none

Literal = Decimal | str


@dataclass(frozen=True, slots=True)
class FieldTest:
    """One test of one column."""

    column: str
    symbol: str
    literal: Literal


@dataclass(frozen=True, slots=True)
class Condition:
    """Tests that must all hold; no tests hold always."""

    tests: tuple[FieldTest, ...] = ()

    @property
    def columns(self) -> frozenset[str]:
        """The columns it reads."""
        return frozenset(test.column for test in self.tests)

    def holds(self, values: Mapping[str, str], row: int) -> bool:
        """Whether every test holds for the row."""
        return all(_passes(test, values[test.column], row) for test in self.tests)


def parse_condition(text: str) -> Condition:
    """Read a condition; ValueError says what is wrong with it.

    >>> parse_condition("visit == 1").tests[0].literal
    Decimal('1')
    """
    return Condition(tuple(_parse_test(part) for part in re.split(r"\s+and\s+", text.strip())))


_ORDER: dict[str, Callable[[Decimal, Decimal], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
}
_SHAPE = re.compile(
    r"^(?P<column>.+?)\s*(?P<symbol>==|!=|<=|>=|<|>|\s(?:not\s+)?startswith\s)\s*(?P<literal>.*)$"
)


def _parse_test(text: str) -> FieldTest:
    match = _SHAPE.match(text.strip())
    if match is None:
        raise ValueError(
            f"{text!r} is no test; write column, then one of == != < <= > >= startswith, "
            "'not startswith', then a number or text"
        )
    symbol = " ".join(match["symbol"].split())
    literal = _literal(match["literal"].strip())
    if symbol in _ORDER and isinstance(literal, str):
        raise ValueError(f"{text!r} compares with {symbol}, which needs a number on its right")
    if symbol.endswith("startswith"):
        literal = match["literal"].strip().strip("'\"")
        if not literal:
            raise ValueError(f"{text!r} needs the text to start with")
    return FieldTest(match["column"].strip(), symbol, literal)


def _literal(text: str) -> Literal:
    if len(text) >= 2 and text[0] == text[-1] and text[0] in "'\"":
        return text[1:-1]
    number = decimal_or_none(text)
    return text if number is None else number


def _passes(test: FieldTest, cell: str, row: int) -> bool:
    if isinstance(test.literal, Decimal):
        number = decimal_or_none(cell)
        if number is None:
            raise BadFile(f"column {test.column!r} holds {cell!r} where a number is needed", row)
        if test.symbol in _ORDER:
            return _ORDER[test.symbol](number, test.literal)
        return (number == test.literal) == (test.symbol == "==")
    if test.symbol.endswith("startswith"):
        return cell.startswith(test.literal) != test.symbol.startswith("not")
    return (cell == test.literal) == (test.symbol == "==")

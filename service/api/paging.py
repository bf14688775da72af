"""Lists in pages: `limit`, and a cursor that only we read."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Sequence
from typing import Annotated, Any, TypeVar

import msgspec

from service.problems import Problem, bad_field
from service.wire import Wire

Row = TypeVar("Row")

LIMIT_MAX = 1000
Limit = Annotated[int, msgspec.Meta(ge=1, le=LIMIT_MAX)]
Cursor = Annotated[str, msgspec.Meta(max_length=200)]


class Page(Wire, frozen=True):
    """Which part of a list."""

    limit: Limit = 100
    cursor: Cursor | None = None


def row_after(page: Page) -> int:
    """The row number the page begins after; 0 at the start."""
    return 0 if page.cursor is None else place_of(page.cursor, 1)[0]


def place_of(cursor: str, length: int) -> list[int]:
    """The row numbers in a cursor. Raises Problem 400 when we did not make it."""
    try:
        raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        place = msgspec.json.decode(raw, type=list[int])
    except (ValueError, binascii.Error) as error:
        raise _bad_cursor() from error
    if len(place) != length or not all(0 <= number < 2**63 for number in place):
        raise _bad_cursor()
    return place


def cursor_of(place: Sequence[int]) -> str:
    """A cursor that stands for these row numbers."""
    return base64.urlsafe_b64encode(msgspec.json.encode(list(place))).rstrip(b"=").decode()


def cut(rows: Sequence[Row], page: Page, number: Callable[[Row], Any]) -> tuple[Sequence[Row], str | None]:
    """The page's rows (one more was asked for) and the next cursor, if there is more."""
    if len(rows) <= page.limit:
        return rows, None
    kept = rows[: page.limit]
    place = number(kept[-1])
    return kept, cursor_of(place if isinstance(place, tuple | list) else [place])


def _bad_cursor() -> Problem:
    return bad_field("?cursor", "bad_cursor", "send the next_cursor of the page before, as it was given")

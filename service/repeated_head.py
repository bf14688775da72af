"""The head of a request that a client sends again, told by its bytes.

Whoever keeps a connection open asks with the same lines each time, but for the length of the body. What they
mean has been found out once: to find it out again is a tenth of what a decision costs.
"""

from __future__ import annotations

import re

from service.api.hot import HotCall
from service.auth import Presented

_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]+)(?=[ \t]*\r\n)", re.IGNORECASE)
_DIGITS_MAX = 8


class RepeatedHead:
    """All bytes of a head around the digits of its content-length, and what they mean."""

    __slots__ = ("_after", "_before", "call", "presented")

    def __init__(self, before: bytes, after: bytes, call: HotCall, presented: Presented) -> None:
        self._before = before
        self._after = after
        self.call = call
        self.presented = presented

    @classmethod
    def of(cls, data: bytes, call: HotCall, presented: Presented) -> RepeatedHead | None:
        """The head of a request, if it came whole and by itself and a body's length is all that can vary."""
        end = data.find(b"\r\n\r\n") + 4
        lengths = list(_LENGTH.finditer(data, 0, end))
        if len(lengths) != 1:
            return None
        first, last = lengths[0].span(1)
        head = cls(data[:first], data[last:end], call, presented)
        return None if head.body(data) is None else head

    def body(self, data: bytes) -> bytes | None:
        """The body, if the bytes are one whole request with this head and nothing else."""
        if not data.startswith(self._before):
            return None
        first = len(self._before)
        last = data.find(self._after[:1], first, first + _DIGITS_MAX + 1)
        digits = data[first:last]
        if last < 0 or not digits.isdigit() or not data.startswith(self._after, last):
            return None
        start = last + len(self._after)
        return data[start:] if len(data) - start == int(digits) else None

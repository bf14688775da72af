"""A request in the writer's queue, and whoever waits for what comes of it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Generator, Sequence
from typing import Any

from service.assigning import Ask, Decision
from service.catalogue import StoreState
from service.event_content import Arrived
from service.recording import Outcome

log = logging.getLogger(__name__)


class Waiting:
    """What a request asks or reports; done once, with what came of it, with an error, or out of time.

    Not a future: who waits for one is told a turn of the loop later, which costs as much as a decision's row.
    It can be awaited all the same.
    """

    __slots__ = (
        "asks",
        "decisions",
        "error",
        "events",
        "expires_at",
        "is_done",
        "is_late",
        "outcomes",
        "size",
        "store",
        "tell",
    )

    def __init__(
        self,
        store: StoreState,
        asks: Sequence[Ask] = (),
        events: Sequence[Arrived] = (),
        expires_at: float = float("inf"),  # on the monotonic clock
    ) -> None:
        self.store = store
        self.asks = asks
        self.events = events
        self.expires_at = expires_at
        self.size = len(asks) + len(events)  # how many assignments and events it is about
        self.decisions: Sequence[Decision] = ()
        self.outcomes: Sequence[Outcome] = ()
        self.is_done = False
        self.is_late = False  # the deadline has passed before it was decided
        self.error: Exception | None = None
        self.tell: Callable[[Waiting], None] | None = None
        """Called when it is done."""

    def end(self, error: Exception | None = None, *, is_late: bool = False) -> None:
        """Be done, and tell who waits."""
        self.is_done, self.error, self.is_late = True, error, is_late
        if self.tell is not None:
            try:
                self.tell(self)
            except Exception:
                log.exception("an answer could not be given")  # and nobody else is to suffer for it

    def made(self) -> Sequence[Decision] | None:
        """The decisions; None when they came too late. Raises what went wrong."""
        if self.error is not None:
            raise self.error
        return None if self.is_late else self.decisions

    def recorded(self) -> Sequence[Outcome]:
        """The outcomes of its events. Raises what went wrong."""
        if self.error is not None:
            raise self.error
        return self.outcomes

    def __await__(self) -> Generator[Any, None, Waiting]:
        if not self.is_done:
            future = asyncio.get_running_loop().create_future()
            self.tell = lambda _: None if future.done() else future.set_result(None)
            yield from future
        return self

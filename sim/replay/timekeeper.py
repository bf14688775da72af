"""Simulated time: moves the store's clock along the file's, where the store lets us."""

from datetime import UTC, datetime

from sim.replay.client import Service
from sim.replay.errors import Refused, ReplayError

BACKWARDS = "clock_backwards"
NOT_OURS = "clock_not_external"


class Timekeeper:
    """The store's clock. A store on the machine's time has none to set, and needs none for the past."""

    def __init__(self, service: Service, *, is_required: bool) -> None:
        self._service = service
        self._is_required = is_required
        self.is_simulated = True
        self.steps = 0

    def move(self, to: datetime) -> None:
        """Let simulated time reach `to`; a clock already beyond it stays, unless time is ours alone."""
        if not self.is_simulated:
            return
        try:
            self.steps += int(self._service.set_clock(to).get("steps", 0))
        except Refused as refusal:
            if refusal.code == BACKWARDS:
                self._already_later(to)
            elif refusal.code == NOT_OURS:
                self._not_ours(refusal)
            else:
                raise

    def allow_until(self, last: datetime) -> None:
        """Check that the machine's clock, when it is the one that counts, is past the file's."""
        if not self.is_simulated and last > datetime.now(UTC):
            raise ReplayError(
                f"the file's times run to {last.isoformat()}, ahead of the service's clock: use a store made "
                "with 'rialto init --simulated' under 'rialto serve --clock external'"
            )

    def _already_later(self, to: datetime) -> None:
        if self._is_required:
            raise ReplayError(
                f"the store's clock is already past {to.isoformat()}: go on from this replay's --checkpoint, "
                "or use a fresh store"
            )

    def _not_ours(self, refusal: Refused) -> None:
        if self._is_required:
            raise ReplayError(
                "a rejection replay needs time of its own: a store made with 'rialto init --simulated' "
                f"under 'rialto serve --clock external' ({refusal})"
            ) from refusal
        self.is_simulated = False

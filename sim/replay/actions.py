"""What a replay sends: assignments and events. Both know the row they come from."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from experiments.times import format_instant


@dataclass(frozen=True, slots=True)
class Assign:
    """A unit enters the experiment with a variant."""

    at: datetime
    row: int
    unit: str
    variant: str
    propensity: float
    context: dict[str, Any] = field(default_factory=dict)

    def forced(self, touchpoint: str, experiment: str) -> dict[str, Any]:
        """The request that records it as history."""
        request: dict[str, Any] = {
            "touchpoint": touchpoint,
            "experiment": experiment,
            "unit_id": self.unit,
            "mode": "forced",
            "variant": self.variant,
            "propensity": self.propensity,
            "occurred_at": format_instant(self.at),
        }
        if self.context:
            request["context"] = self.context
        return request

    def preview(self, touchpoint: str, experiment: str) -> dict[str, Any]:
        """The request that asks what the service would choose, and writes nothing."""
        request: dict[str, Any] = {
            "touchpoint": touchpoint,
            "experiment": experiment,
            "unit_id": self.unit,
            "mode": "preview",
        }
        if self.context:
            request["context"] = self.context
        return request


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened; `is_bound` events name the decision of their unit."""

    at: datetime
    row: int
    unit: str
    body: dict[str, Any]
    is_bound: bool = False


Action = Assign | Event

"""What is read of some units to fold them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from experiments.facts import CartFact, CustomFact, OrderFact, RatingFact, SlotFact

Fact = SlotFact | OrderFact | CartFact | RatingFact | CustomFact


class Assigned(NamedTuple):
    """A unit's assignment."""

    unit_no: int
    experiment_no: int
    period: int
    at_us: int
    variant_no: int
    segment: str
    set_no: int
    epoch: int
    share: int


Enrolled = tuple[int, int, int]  # unit_no, experiment_no, period


class Total(NamedTuple):
    """What one enrolment contributes: a row of `unit_total`, but for the number of its cell."""

    unit_no: int
    experiment_no: int
    period: int
    cell: int  # index in the slice
    caps_version: int
    vector: str
    bins: str


class Reached(NamedTuple):
    """A fact as it reaches a unit."""

    event_no: int
    kinds: int  # bits
    experiment_no: int | None  # of the decision it names
    decision_unit_no: int | None
    decision_period: int | None
    fact: Fact


@dataclass(slots=True)
class UnitRows:
    """Rows of a slice of units, read in bulk."""

    groups: list[tuple[int, ...]]  # units that are one, each once
    linked: set[int]  # units that are a person's, by `identify`
    assignments: dict[int, list[Assigned]] = field(default_factory=dict)  # by unit_no
    reached: dict[int, list[Reached]] = field(default_factory=dict)  # by unit_no
    features: dict[Enrolled, tuple[int, ...]] = field(default_factory=dict[Enrolled, tuple[int, ...]])

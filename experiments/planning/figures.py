"""What a plan says: values only; units are of all variants, days count from the start."""

from dataclasses import dataclass
from enum import StrEnum

from experiments.planning.guarding import GuardrailPlan


class Found(StrEnum):
    """What an effect is called once it is seen: better or worse, by the metric's direction."""

    BETTER = "better"
    WORSE = "worse"


@dataclass(frozen=True, slots=True)
class Days:
    """Days from the start: until the last unit is enrolled, until the decision, until figures stay."""

    enrolling: float
    decision: float
    final: float


@dataclass(frozen=True, slots=True)
class Looking:
    """Looking every day and stopping at the first verdict; days are until then, None beyond the plan.

    `power` is the chance of the right verdict by the last look, `prob_wrong` that of the opposite one.
    """

    looks: int
    power: float
    prob_wrong: float
    false_alarms: float
    units_expected: float
    days_half: float | None
    days_most: float | None


@dataclass(frozen=True, slots=True)
class Anytime:
    """What deciding by the confidence sequence takes; `factor` is over the units of one look."""

    units: float
    factor: float
    days: float


@dataclass(frozen=True, slots=True)
class EffectPlan:
    """The plan for one effect; None where there is no size (an effect of 0) or no money is known.

    With a `length_days` the sizes are those of that length, and `power` is what comes of it.
    """

    effect: float
    found: Found
    power: float
    units: float | None = None
    units_control: float | None = None
    units_treatment: float | None = None
    days: Days | None = None
    units_enrolled: float | None = None  # by the decision
    regret: float | None = None  # of the objective; none for a ratio
    regret_minor: float | None = None  # of margin, in minor units
    at_risk_minor: float | None = None  # the same, were the effect as large for bad
    looking: Looking | None = None
    anytime: Anytime | None = None
    is_rough: bool = False  # too few events in an arm for the Normal law


@dataclass(frozen=True, slots=True)
class Plan:
    """All of it; units are of all variants."""

    effects: tuple[EffectPlan, ...]
    detectable: float | None  # the least effect for good with the power asked, at `length_days`
    balance: float  # units needed at this split over those at the best one
    best_control_share: float
    false_alarms: float  # P(some treatment is called better) where none does anything, at one look
    units_no_difference: float | None
    days_no_difference: float | None
    guardrails: tuple[GuardrailPlan, ...]

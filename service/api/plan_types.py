"""A plan as the wire has it: what is assumed of a shop, what a test in it will take; each field described.

The answer is written from `experiments.planning.plan`, whose values have the same names.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import msgspec
from msgspec import UNSET, Meta

from experiments.model import Direction
from experiments.planning.figures import Found
from service.event_types import MONEY_MAX, Currency, Maybe
from service.wire import Key, Wire

EFFECTS_MAX = 20
GUARDRAILS_MAX = 10
_DURATION = r"^[0-9]{1,6}[smhd](?![\s\S])"

Rate = Annotated[float, Meta(ge=1e-6, lt=1)]
Share = Annotated[float, Meta(ge=0.001, le=0.999)]
Probability = Annotated[float, Meta(ge=0.5, le=0.999)]
Margin = Annotated[float, Meta(gt=0, le=1e9)]
Duration = Annotated[str, Meta(pattern=_DURATION)]


class MeasuredKind(StrEnum):
    """How a metric that is given by itself is formed."""

    PROPORTION = "proportion"
    MEAN = "mean"
    RATIO = "ratio"


class ShopFigures(Wire, frozen=True):
    """Who buys, for how much, and what is left of it; every metric of money follows."""

    conversion_rate: Annotated[Rate, Meta(description="Units that buy, of all; one order each.")]
    order_value: (
        Annotated[int, Meta(ge=1, le=MONEY_MAX, description="Mean of an order, minor units.")] | Maybe
    ) = UNSET
    order_value_cv: Annotated[
        float, Meta(ge=0, le=100, description="Standard deviation of an order's value over its mean.")
    ] = 1.0
    margin_rate: (
        Annotated[float, Meta(ge=1e-6, le=1, description="Margin over value, of orders that are kept.")]
        | Maybe
    ) = UNSET
    refund_rate: Annotated[
        float, Meta(ge=0, lt=1, description="Orders refunded in full, of all; their goods come back.")
    ] = 0.0


class MeasuredMetric(Wire, frozen=True):
    """The objective by itself, as measured: its mean and how far units differ."""

    kind: Annotated[MeasuredKind, Meta(description="How it is formed.")]
    mean: Annotated[float, Meta(ge=1e-6, le=1e12, description="The control's; of a proportion below 1.")]
    sd: (
        Annotated[
            float,
            Meta(ge=0, le=1e15, description="Of a unit's total; of a ratio: of one of its denominator."),
        ]
        | Maybe
    ) = UNSET
    per_unit: Annotated[
        float, Meta(ge=1e-6, le=1e6, description="Of a ratio: how many of its denominator a unit brings.")
    ] = 1.0
    direction: Annotated[Direction, Meta(description="Which way is good.")] = Direction.UP
    is_margin: Annotated[
        bool, Meta(description="Whether it is margin per unit in minor units, so that regret is money.")
    ] = False


class PlannedGuardrail(Wire, frozen=True):
    """Margins by which a metric may be worse than the control, as in the experiment document."""

    metric: Annotated[Key, Meta(description="The key of the metric.")]
    throttle: Annotated[Margin, Meta(description="Beyond it the variant is held at its floor.")]
    kill: Annotated[Margin, Meta(description="Beyond it the variant is taken out.")]


class PlanRequest(Wire, frozen=True):
    """What is assumed, and what is asked: `shop` or `measured`, and the effects to plan for."""

    visitors_per_day: Annotated[
        float, Meta(ge=0.001, le=1e9, description="Units that would be enrolled a day, of all variants.")
    ]
    effects: Annotated[
        list[Annotated[float, Meta(ge=-0.99, le=20)]],
        Meta(
            min_length=1,
            max_length=EFFECTS_MAX,
            description="Changes of the objective to plan for, as parts of the control's: 0.05 is 5 % more.",
        ),
    ]
    shop: Annotated[ShopFigures, Meta(description="What the metrics are made of.")] | Maybe = UNSET
    measured: Annotated[MeasuredMetric, Meta(description="Or the objective alone.")] | Maybe = UNSET
    experiment: (
        Annotated[Key, Meta(description="Take objective, shares, windows, guardrails and verdict from it.")]
        | Maybe
    ) = UNSET
    objective: (
        Annotated[
            Key, Meta(description="The metric; by default the experiment's, without one `conversion_rate`.")
        ]
        | Maybe
    ) = UNSET
    variants: Annotated[int, Meta(ge=2, le=100, description="With the control; 2 by default.")] | Maybe = (
        UNSET
    )
    control_share: Annotated[Share, Meta(description="Of the traffic; an even share by default.")] | Maybe = (
        UNSET
    )
    power: Annotated[Probability, Meta(description="How surely the effect is to be found.")] = 0.8
    days: (
        Annotated[
            float,
            Meta(ge=0.01, le=1e5, description="How long units are enrolled; without it the size is found."),
        ]
        | Maybe
    ) = UNSET
    tail: Annotated[float, Meta(ge=1e-6, le=0.5, description="The verdict's; 0.025 by default.")] | Maybe = (
        UNSET
    )
    rope: (
        Annotated[
            float,
            Meta(ge=0.0001, lt=1, description="The relative change that does not matter; 0.01 by default."),
        ]
        | Maybe
    ) = UNSET
    attribution_window: (
        Annotated[Duration, Meta(description="After it a unit counts, as `<int>(s|m|h|d)`; 7d by default.")]
        | Maybe
    ) = UNSET
    refund_window: (
        Annotated[Duration, Meta(description="After it figures stay, as `<int>(s|m|h|d)`; 30d by default.")]
        | Maybe
    ) = UNSET
    guardrails: (
        Annotated[list[PlannedGuardrail], Meta(max_length=GUARDRAILS_MAX, description="Margins.")] | Maybe
    ) = UNSET
    currency: Currency | Maybe = UNSET


class _View(msgspec.Struct, frozen=True, kw_only=True):
    pass


Units = Annotated[float | None, Meta(description="Units of all variants; null where there is no such size.")]


class DaysView(_View, frozen=True, kw_only=True):
    """Days from the start."""

    enrolling: Annotated[float, Meta(description="Until the last unit is enrolled.")]
    decision: Annotated[float, Meta(description="Until its attribution window has closed.")]
    final: Annotated[float, Meta(description="Until no refund can change the figures.")]


class LookingView(_View, frozen=True, kw_only=True):
    """Looking every day (30 times at most) and stopping at the first verdict for better or worse."""

    looks: Annotated[int, Meta(description="How often.")]
    power: Annotated[float, Meta(description="P(the right verdict by the last look).")]
    prob_wrong: Annotated[float, Meta(description="P(the opposite one).")]
    false_alarms: Annotated[float, Meta(description="P(any of the two for a variant without effect).")]
    units_expected: Annotated[float, Meta(description="Mean number of units by the end.")]
    days_half: Annotated[
        float | None, Meta(description="Days by which half of such tests end; null if later.")
    ]
    days_most: Annotated[float | None, Meta(description="Days by which nine in ten end; null if later.")]


class AnytimeView(_View, frozen=True, kw_only=True):
    """Deciding by the confidence sequence, which may be looked at always."""

    units: Annotated[float, Meta(description="Units of all variants until it leaves 0 out with the power.")]
    factor: Annotated[float, Meta(description="Over the units of one look.")]
    days: Annotated[float, Meta(description="Days until then.")]


class EffectView(_View, frozen=True, kw_only=True):
    """The plan for one effect."""

    effect: Annotated[float, Meta(description="Change of the objective as part of the control's.")]
    found: Annotated[Found, Meta(description="What it is called once it is seen.")]
    power: Annotated[float, Meta(description="P(it is found at one look at the end).")]
    units: Units
    units_control: Units
    units_treatment: Units
    days: Annotated[DaysView | None, Meta(description="Null where there is no size.")]
    units_enrolled: Annotated[
        float | None, Meta(description="By the decision, with those whose window is still open.")
    ]
    regret: Annotated[
        float | None,
        Meta(description="What the test forgoes of the objective's total; null for a ratio."),
    ]
    regret_minor: Annotated[
        float | None,
        Meta(description="What it forgoes of margin, in minor units."),
    ]
    at_risk_minor: Annotated[
        float | None, Meta(description="What those who have it lose, were the effect as large for bad.")
    ]
    looking: Annotated[LookingView | None, Meta(description="Null where there is no size.")]
    anytime: Annotated[AnytimeView | None, Meta(description="Null where no size is large enough.")]
    is_rough: Annotated[bool, Meta(description="Whether an arm has fewer than 100 orders (or units).")]


class ActingView(_View, frozen=True, kw_only=True):
    """When a guardrail acts, in units of all variants."""

    units_expected: Annotated[float, Meta(description="On average.")]
    units_half: Annotated[float, Meta(description="By then in half of the runs.")]
    units_most: Annotated[float, Meta(description="By then in nine of ten.")]


Acting = Annotated[ActingView | None, Meta(description="Null where it never does.")]


class GuardrailView(_View, frozen=True, kw_only=True):
    """What a guardrail takes: to act on harm, and to be seen held."""

    metric: Annotated[str, Meta(description="The key of the metric.")]
    change: Annotated[float, Meta(description="The harm planned for: twice the kill margin.")]
    units_held: Annotated[
        float | None, Meta(description="Units until no change is seen to be within the throttle.")
    ]
    prob_held: Annotated[float | None, Meta(description="P(that) at the size of the largest effect plan.")]
    throttle: Acting
    kill: Acting
    kill_at_floor: Acting
    exposed_until_kill: Annotated[float | None, Meta(description="Units that had the harmful variant.")]
    loss_until_kill_minor: Annotated[
        float | None, Meta(description="Margin they lost, minor units; null where it is unknown.")
    ]


class PlanView(_View, frozen=True, kw_only=True):
    """A plan: at which size and when a verdict can be given, and what that may cost."""

    objective: Annotated[str, Meta(description="The metric planned for.")]
    currency: Annotated[str, Meta(description="ISO 4217 code of the minor units.")]
    power: Annotated[float, Meta(description="The power asked.")]
    is_of_first_shares: Annotated[
        bool,
        Meta(
            description="Whether the experiment's policy moves its shares: this is of those it begins with."
        ),
    ]
    control_share: Annotated[float, Meta(description="The control's share of the traffic.")]
    treatment_share: Annotated[float, Meta(description="That of the treatment that has the effect.")]
    effects: Annotated[list[EffectView], Meta(description="In the order asked.")]
    detectable: Annotated[
        float | None, Meta(description="The least effect for good found with the power in `days`.")
    ]
    balance: Annotated[float, Meta(description="Units at this split over those at the best one.")]
    best_control_share: Annotated[float, Meta(description="The control's share that needs fewest units.")]
    false_alarms: Annotated[
        float, Meta(description="P(some treatment is called better) where none does anything.")
    ]
    units_no_difference: Annotated[
        float | None, Meta(description="Units until `no_difference` is found with the power.")
    ]
    days_no_difference: Annotated[float | None, Meta(description="Days until then.")]
    guardrails: Annotated[list[GuardrailView], Meta(description="In order, as far as planned.")]
    not_planned: Annotated[list[str], Meta(description="Guardrails of whose metric nothing was assumed.")]

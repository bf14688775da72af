"""How soon a guardrail acts on what does harm, and how many units it takes to see that nothing does.

The rules of `analysis/guardrails.py`, with the change m in the metric's bad direction (relative to the
control; by difference where the metric may be 0 or negative, so for margin):

    held        P(beyond throttle) <= 1 - held           at one look, where nothing has changed
    throttle    P(beyond throttle) > ENTER               looked at again and again
    kill        P(beyond kill) > KILL, KILL_UNITS matured units of both arms

"Beyond m" is theta_t - (1 + m) theta_c beyond 0 in the bad direction. Expected units are those of a path
looked at `LOOKS` times, each time with the same factor more units, from the first moment it may act until it
has acted with a chance of all but one in a thousand. A service looks every minute and so acts a little
sooner. Shares stay as they are: `kill` is of a variant that keeps its share, `kill_at_floor` of one that has
had only its floor from the start; one that is throttled on the way lies between. The second rule of a kill
(`FLOOR_UNITS` at the floor) is not counted, and brings the latter forward.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from experiments.analysis.guardrails import ENTER, KILL, KILL_UNITS
from experiments.model import Guardrail, VerdictSettings
from experiments.planning.baselines import Baseline
from experiments.planning.contrasts import Split, drift, power_of, quantile, units_for
from experiments.planning.looking import Looks, by_factor, quantile_of

LOOKS = 24
SURELY = 0.999
_MOST_FALL = 0.99
ABSOLUTE = frozenset({"margin_per_unit"})
"""Planned metrics whose margins are differences, not parts of the control's figure."""
HARM = 2.0
"""Times its kill margin: the change that is planned for where none is named."""
_FIRST = 10.0
"""Units of each arm from which a variant may be throttled."""


@dataclass(frozen=True, slots=True)
class Acting:
    """When a guardrail acts on a variant that does harm; units are of all variants.

    `units_expected` is the mean, `units_half` and `units_most` are when it has acted in 50 and 90 % of runs.
    """

    units_expected: float
    units_half: float
    units_most: float


@dataclass(frozen=True, slots=True)
class GuardrailPlan:
    """What a guardrail takes; None where it never comes to that.

    `change` is the harm planned for, relative (a difference for margin); `units_held` are the units until
    a variant that changes nothing is seen to be within the throttle, with the power asked.
    """

    metric: str
    change: float
    units_held: float | None
    prob_held: float | None
    throttle: Acting | None
    kill: Acting | None
    kill_at_floor: Acting | None
    exposed_until_kill: float | None
    loss_until_kill_minor: float | None


def guardrail_plan(
    baseline: Baseline,
    guardrail: Guardrail,
    split: Split,
    settings: VerdictSettings,
    *,
    power: float,
    units: float | None = None,
    change: float | None = None,
    floor: float | None = None,
) -> GuardrailPlan | None:
    """Plan one guardrail; None where nothing is assumed of its metric.

    `units` are those of the whole test, for `prob_held`; `floor` the least share of a variant; `change` is
    `HARM` times the kill margin by default.
    """
    control = baseline.quantity(guardrail.metric)
    if control is None:
        return None
    bad = -baseline.sign(guardrail.metric)
    is_absolute = guardrail.metric in ABSOLUTE
    harm = HARM * guardrail.kill if change is None else change
    part = harm / control.mean if is_absolute else min(harm, _MOST_FALL) if bad < 0 else harm
    harmed = baseline.changed(guardrail.metric, bad * part)
    treatment = harmed.quantity(guardrail.metric)
    assert treatment is not None  # a change leaves a metric known

    def beyond(margin: float, sign: int, among: Split = split, *, is_harmed: bool = True) -> float:
        return drift(
            treatment if is_harmed else control,
            control,
            among,
            factor=1.0 if is_absolute else 1.0 + bad * margin,
            shift=bad * margin if is_absolute else 0.0,
            sign=sign,
        )

    held, limit = beyond(guardrail.throttle, -bad, is_harmed=False), quantile(settings.held)
    throttle = _acting(beyond(guardrail.throttle, bad), ENTER, _FIRST, split)
    kill = _acting(beyond(guardrail.kill, bad), KILL, KILL_UNITS, split)
    at_floor = None
    if floor:
        starved = Split(split.control, floor)
        at_floor = _acting(beyond(guardrail.kill, bad, starved), KILL, KILL_UNITS, starved)
    exposed = None if kill is None else kill.units_expected * split.treatment
    return GuardrailPlan(
        metric=guardrail.metric,
        change=harm,
        units_held=units_for(held, limit, power),
        prob_held=None if units is None else power_of(held, units, limit),
        throttle=throttle,
        kill=kill,
        kill_at_floor=at_floor,
        exposed_until_kill=exposed,
        loss_until_kill_minor=_loss(baseline, harmed, exposed),
    )


def guardrail_plans(
    baseline: Baseline,
    guardrails: Sequence[Guardrail],
    split: Split,
    settings: VerdictSettings,
    *,
    power: float,
    units: float | None = None,
    floor: float | None = None,
) -> tuple[GuardrailPlan, ...]:
    """All that can be planned, in order."""
    found = (
        guardrail_plan(baseline, rail, split, settings, power=power, units=units, floor=floor)
        for rail in guardrails
    )
    return tuple(plan for plan in found if plan is not None)


def _acting(d: float, prob: float, first: float, split: Split) -> Acting | None:
    """First passage beyond P = prob, from `first` units of each arm on; None where it never comes to that."""
    limit, least = quantile(prob), first / min(split.control, split.treatment)
    surely = units_for(d, limit, SURELY)
    if surely is None:
        return None
    if surely <= least:
        return Acting(least, least, least)
    at = by_factor(least, surely, LOOKS)
    crossed, _ = Looks(at, limit).crossing(d)
    late = max(0.0, 1.0 - float(crossed.sum()))
    expected = float(crossed @ at) + late * surely
    half, most = (quantile_of(crossed, at, q) or surely for q in (0.5, 0.9))
    return Acting(expected, half, most)


def _loss(baseline: Baseline, harmed: Baseline, exposed: float | None) -> float | None:
    """Margin lost by units that had the harmful variant."""
    before, after = baseline.margin(), harmed.margin()
    if before is None or after is None or exposed is None:
        return None
    return exposed * (before - after)

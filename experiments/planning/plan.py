"""A whole plan in closed form: visitors and days until a decision, power, regret, money at risk.

A plan is about one treatment whose objective changes by `effect` while any others are as the control.
Shares stay as they are at the start: an adaptive policy moves them, and what that does to power and regret
is simulated (`rialto sim plan`), not here.

Days. A unit counts once its attribution window has closed, and its figures are final a refund window later:

    enrolling = N / visitors a day,  decision = enrolling + attribution window,  final = + refund window

Regret is what the units enrolled until the decision bring less than if all had had the better one of
treatment and control: those who wait for their window to close are enrolled and count too. With an effect
for good it is (1 - s_t) units x effect; for bad s_t units x effect. The latter, for an effect of that size
for bad whatever was asked, is the money at risk: what the test costs should the treatment do harm.

Looking. Whoever looks every day (`MAX_LOOKS` times at most, evenly) and stops at the first verdict for better
or worse ends sooner, and is wrong more often: `false_alarms` is the chance that a variant without effect is
ever called better or worse meanwhile. A confidence sequence has no such price but a larger size: `anytime`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from math import ceil, isclose, sqrt

from experiments.model import Guardrail, MetricKind, VerdictSettings
from experiments.planning.anytime import units_asymptotic, units_of_rates
from experiments.planning.baselines import Baseline, Quantity
from experiments.planning.contrasts import Split, drift, power_of, units_for
from experiments.planning.deciding import correlation_of, prob_any, sure_limit, units_for_no_difference
from experiments.planning.figures import Anytime, Days, EffectPlan, Found, Looking, Plan
from experiments.planning.guarding import guardrail_plans
from experiments.planning.looking import Looks, evenly, quantile_of
from experiments.posteriors.roots import root_between

MAX_LOOKS = 30
FEW_EVENTS = 100.0
"""Orders (or what else a figure rests on) of the smaller arm below which a size is rough."""
_DAY = timedelta(days=1)
_LEAST_UNITS, _STEEPEST = 2.0, 1e9
_WORST = -0.99
_LARGEST = 20.0
"""No change by more than twenty times is looked for."""


@dataclass(frozen=True, slots=True)
class Question:
    """What is planned; `split` are the shares of the control and of the treatment that has the effect.

    `length_days` is how long units are enrolled, where that is given and not found; `floor` the least share
    that a throttled variant keeps.
    """

    objective: str
    baseline: Baseline
    visitors_per_day: float
    split: Split
    treatments: int = 1
    power: float = 0.8
    verdict: VerdictSettings = field(default_factory=VerdictSettings)
    attribution_window: timedelta = timedelta(days=7)
    refund_window: timedelta = timedelta(days=30)
    guardrails: tuple[Guardrail, ...] = ()
    length_days: float | None = None
    floor: float | None = None

    @property
    def limit(self) -> float:
        """The statistic beyond which a lift is sure."""
        return sure_limit(self.verdict, self.treatments)

    @property
    def control(self) -> Quantity:
        """The objective of the control; ValueError where the baseline does not say it."""
        found = self.baseline.quantity(self.objective)
        if found is None:
            raise ValueError(f"nothing is assumed of {self.objective}")
        return found


def plan(question: Question, effects: Sequence[float]) -> Plan:
    """The plan for every effect asked, each a part of the control's objective (-0.05: 5 % less).

    >>> from experiments.planning.baselines import Shop
    >>> from experiments.planning.contrasts import even_split
    >>> asked = Question("conversion_rate", Shop(0.05), 2_000, even_split(2))
    >>> found = plan(asked, [0.1]).effects[0]
    >>> round(found.units), round(found.days.decision, 1)
    (62461, 38.2)
    """
    control, split = question.control, question.split
    planned = tuple(_effect_plan(question, effect) for effect in effects)
    units_same = units_for_no_difference(control, control, split, question.verdict, question.power)
    sizes = [one.units for one in planned if one.units is not None]
    best = 1.0 / (1.0 + sqrt(question.treatments))
    best_split = Split(best, (1.0 - best) / question.treatments)
    return Plan(
        effects=planned,
        detectable=_detectable(question),
        balance=_inverse(split) / _inverse(best_split),
        best_control_share=best,
        false_alarms=prob_any(
            [0.0] * question.treatments, question.limit, correlation_of(control, control, split)
        ),
        units_no_difference=units_same,
        days_no_difference=None if units_same is None else _days(question, units_same).decision,
        guardrails=guardrail_plans(
            question.baseline,
            question.guardrails,
            split,
            question.verdict,
            power=question.power,
            units=max(sizes, default=None),
            floor=question.floor,
        ),
    )


def _effect_plan(question: Question, effect: float) -> EffectPlan:
    treatment, d = _changed(question, effect)
    found = Found.BETTER if d >= 0.0 else Found.WORSE
    size = units_for(abs(d), question.limit, question.power)
    if size is not None:
        size = max(size, _LEAST_UNITS / min(question.split.control, question.split.treatment))
    units = size if question.length_days is None else question.length_days * question.visitors_per_day
    power = power_of(abs(d), units, question.limit) if units else question.verdict.tail / question.treatments
    if units is None:
        return EffectPlan(effect, found, power)
    days = _days(question, units)
    enrolled = units + question.visitors_per_day * (days.decision - days.enrolling)
    lacking = enrolled * (1.0 - question.split.treatment if d >= 0.0 else question.split.treatment)
    is_ratio = question.baseline.kind_of(question.objective) is MetricKind.RATIO
    before, after = question.baseline.margin(), _margin_after(question, effect)
    anytime = _anytime(question, treatment, d)
    return EffectPlan(
        effect=effect,
        found=found,
        power=power,
        units=units,
        units_control=units * question.split.control,
        units_treatment=units * question.split.treatment,
        days=days,
        units_enrolled=enrolled,
        regret=None if is_ratio else lacking * abs(treatment.mean - question.control.mean),
        regret_minor=None if before is None or after is None else lacking * abs(after - before),
        at_risk_minor=_at_risk(question, effect, enrolled),
        looking=_looking(question, abs(d), units, days),
        anytime=None
        if anytime is None or size is None
        else Anytime(anytime, anytime / size, _days(question, anytime).decision),
        is_rough=_events(question, units) < FEW_EVENTS,
    )


def _changed(question: Question, effect: float) -> tuple[Quantity, float]:
    """The treatment's objective, and the drift of its lift in the good direction."""
    treatment = question.baseline.changed(question.objective, effect).quantity(question.objective)
    wanted = question.control.mean * (1.0 + effect)
    if treatment is None or not isclose(treatment.mean, wanted, rel_tol=1e-9, abs_tol=1e-300):
        raise ValueError(
            f"{question.objective} cannot change by {effect:+.4g} of {question.control.mean:.4g}"
        )
    sign = question.baseline.sign(question.objective)
    d = drift(treatment, question.control, question.split, sign=sign)
    return treatment, max(-_STEEPEST, min(d, _STEEPEST))  # units that are all alike have no error


def _margin_after(question: Question, effect: float) -> float | None:
    return question.baseline.changed(question.objective, effect).margin()


def _at_risk(question: Question, effect: float, enrolled: float) -> float | None:
    """Margin lost by those who have the treatment, were it as much worse as the effect is large."""
    bad = -question.baseline.sign(question.objective) * abs(effect)
    before, after = question.baseline.margin(), _margin_after(question, max(bad, _WORST))
    return None if before is None or after is None else enrolled * question.split.treatment * (before - after)


def _looking(question: Question, d: float, units: float, days: Days) -> Looking:
    looks = min(MAX_LOOKS, max(1, ceil(days.enrolling)))
    at = evenly(units, looks)
    watched = Looks(at, question.limit, -question.limit)
    right, wrong = watched.crossing(d)
    alarms = watched.crossing(0.0)
    ended = right + wrong
    open_still = max(0.0, 1.0 - float(ended.sum()))
    when = [days.enrolling * one / units + days.decision - days.enrolling for one in at]
    return Looking(
        looks=looks,
        power=float(right.sum()),
        prob_wrong=float(wrong.sum()),
        false_alarms=float(alarms[0].sum() + alarms[1].sum()),
        units_expected=float(ended @ at) + open_still * units,
        days_half=quantile_of(ended, when, 0.5),
        days_most=quantile_of(ended, when, 0.9),
    )


def _anytime(question: Question, treatment: Quantity, d: float) -> float | None:
    if question.baseline.kind_of(question.objective) is MetricKind.PROPORTION:
        return units_of_rates(treatment, question.control, question.split, question.power)
    return units_asymptotic(abs(d), question.split, question.power)


def _detectable(question: Question) -> float | None:
    """The least effect for good that is found with the power asked; None without a length."""
    if question.length_days is None:
        return None
    units = question.length_days * question.visitors_per_day
    sign = question.baseline.sign(question.objective)
    kind = question.baseline.kind_of(question.objective)
    most = _LARGEST if sign > 0 else 1.0 - 1e-9
    if sign > 0 and (kind is MetricKind.PROPORTION or question.objective == "orders_per_unit"):
        most = min(most, (1.0 - 1e-9) / question.control.mean - 1.0)

    def lacking(effect: float) -> float:
        return question.power - power_of(_changed(question, sign * effect)[1], units, question.limit)

    if lacking(most) > 0.0:
        return None
    return sign * root_between(lacking, 0.0, most, within=1e-9)


def _days(question: Question, units: float) -> Days:
    enrolling = units / question.visitors_per_day
    decision = enrolling + question.attribution_window / _DAY
    return Days(enrolling, decision, decision + question.refund_window / _DAY)


def _events(question: Question, units: float) -> float:
    smaller = min(question.split.control, question.split.treatment)
    return units * smaller * question.baseline.events(question.objective)


def _inverse(split: Split) -> float:
    """What the variance of a lift is in proportion to, arms being alike."""
    return 1.0 / split.control + 1.0 / split.treatment

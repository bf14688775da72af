"""`POST /v1/plan`: what a test will take, find and cost, before a customer is risked. Closed form only."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import msgspec
from litestar import Response
from msgspec import UNSET

from experiments.errors import FieldError
from experiments.model import Guardrail, MetricKind, PolicyKind
from experiments.planning.baselines import PLANNED, Baseline, Measured, Shop
from experiments.planning.contrasts import even_split
from experiments.planning.design import question_of
from experiments.planning.plan import Question, plan
from experiments.times import parse_duration
from service.api.plan_types import MeasuredKind, MeasuredMetric, PlannedGuardrail, PlanRequest, PlanView
from service.api.routing import AnyRequest, call
from service.auth import store_of
from service.catalogue import StoreState
from service.event_types import given
from service.keys import Scope
from service.problems import bad_field, bad_request, not_found
from service.store_settings import currency_fault
from service.wire import answer, body_of

_LEAST_EFFECT = 1e-4
_WINDOWS = ("attribution_window", "refund_window")


@call(
    "POST",
    "/v1/plan",
    scope=Scope.READ,
    summary="Plan a test: visitors and days until a decision, power, regret, money at risk",
    body=PlanRequest,
    answer=PlanView,
    problems=(404,),
)
async def plan_test(request: AnyRequest) -> Response[bytes]:
    """Answer a plan in closed form; nothing is recorded."""
    wanted = await body_of(request, PlanRequest)
    store = store_of(request)
    question = _question(wanted, store)
    _check_effects(question, wanted.effects)
    found = await asyncio.to_thread(plan, question, wanted.effects)
    planned = {one.metric for one in found.guardrails}
    rest: dict[str, Any] = {
        "objective": question.objective,
        "currency": _currency(wanted, store),
        "power": question.power,
        "is_of_first_shares": _moves_shares(wanted, store),
        "control_share": question.split.control,
        "treatment_share": question.split.treatment,
        "not_planned": [rail.metric for rail in question.guardrails if rail.metric not in planned],
    }
    values = {name: getattr(found, name) for name in type(found).__dataclass_fields__}
    return answer(msgspec.convert({**values, **rest}, PlanView, from_attributes=True))


def _moves_shares(wanted: PlanRequest, store: StoreState) -> bool:
    if wanted.experiment is UNSET:
        return False
    return store.experiments[wanted.experiment].experiment.policy.kind is not PolicyKind.FIXED


def _question(wanted: PlanRequest, store: StoreState) -> Question:
    """The question with what the experiment says, and over it what the request does."""
    experiment = None
    if wanted.experiment is not UNSET:
        live = store.experiments.get(wanted.experiment)
        if live is None:
            raise not_found("experiment", wanted.experiment)
        experiment = live.experiment
    objective = given(wanted.objective) or (experiment.policy.objective if experiment else "conversion_rate")
    baseline = _baseline(wanted, objective)
    if experiment is None:
        question = Question(objective, baseline, wanted.visitors_per_day, even_split(2))
    else:
        question = question_of(experiment, baseline, wanted.visitors_per_day)
    variants = given(wanted.variants) or question.treatments + 1
    if wanted.variants is not UNSET or wanted.control_share is not UNSET:
        question = replace(
            question, split=even_split(variants, given(wanted.control_share)), treatments=variants - 1
        )
    thresholds = _sent(wanted, "tail", "rope")
    windows = {name: parse_duration(text) for name, text in _sent(wanted, *_WINDOWS).items()}
    if wanted.guardrails is not UNSET:
        question = replace(question, guardrails=_guardrails(wanted.guardrails))
    return replace(
        question,
        objective=objective,
        power=wanted.power,
        length_days=given(wanted.days),
        verdict=replace(question.verdict, **thresholds),
        **windows,
    )


def _sent(wanted: PlanRequest, *names: str) -> dict[str, Any]:
    """The fields that were sent."""
    return {name: getattr(wanted, name) for name in names if getattr(wanted, name) is not UNSET}


def _baseline(wanted: PlanRequest, objective: str) -> Baseline:
    """What is assumed of a unit. Raises Problem where it does not say what the objective is."""
    if (wanted.shop is UNSET) == (wanted.measured is UNSET):
        raise bad_field("/shop", "required", "send either shop or measured")
    if wanted.measured is not UNSET:
        return _measured(wanted.measured, objective)
    assert wanted.shop is not UNSET
    if objective not in PLANNED:
        remedy = (
            f"a shop's figures say nothing of {objective}: send measured, or use one of {', '.join(PLANNED)}"
        )
        raise bad_field("/objective", "not_planned", remedy)
    figures = wanted.shop
    shop = Shop(
        figures.conversion_rate,
        given(figures.order_value),
        figures.order_value_cv,
        given(figures.margin_rate),
        figures.refund_rate,
    )
    if shop.quantity(objective) is None:
        lacking = "refund_rate"
        if objective != "refund_rate":
            lacking = "order_value" if shop.order_value is None else "margin_rate"
        raise bad_field(f"/shop/{lacking}", "required", f"{objective} cannot be planned without it")
    return shop


def _measured(metric: MeasuredMetric, objective: str) -> Measured:
    kind = MetricKind(metric.kind.value)
    if metric.kind is MeasuredKind.PROPORTION:
        if metric.mean >= 1:
            raise bad_field("/measured/mean", "out_of_range", "a proportion lies below 1")
    elif metric.sd is UNSET:
        raise bad_field("/measured/sd", "required", f"a {metric.kind} needs its standard deviation")
    return Measured(
        objective,
        kind,
        metric.mean,
        given(metric.sd) or 0.0,
        metric.per_unit,
        metric.direction,
        metric.is_margin and kind is MetricKind.MEAN,
    )


def _guardrails(wanted: Sequence[PlannedGuardrail]) -> tuple[Guardrail, ...]:
    faults = [
        FieldError(f"/guardrails/{index}/kill", "out_of_order", "kill lies beyond throttle")
        for index, rail in enumerate(wanted)
        if rail.kill <= rail.throttle
    ]
    if faults:
        raise bad_request(faults)
    return tuple(Guardrail(rail.metric, rail.throttle, rail.throttle, rail.kill) for rail in wanted)


def _check_effects(question: Question, effects: Sequence[float]) -> None:
    """Refuse an effect that cannot be, or is so small that no size can be told."""
    for index, effect in enumerate(effects):
        if 0.0 < abs(effect) < _LEAST_EFFECT:
            raise bad_field(f"/effects/{index}", "out_of_range", f"plan for 0 or at least {_LEAST_EFFECT}")
        rate = question.control.mean * (1.0 + effect)
        is_rate = question.objective in ("conversion_rate", "orders_per_unit", "refund_rate")
        if rate > 1.0 and (is_rate or question.baseline.kind_of(question.objective) is MetricKind.PROPORTION):
            remedy = f"a rate of {question.control.mean:.4g} cannot grow by {effect:.4g} of itself"
            raise bad_field(f"/effects/{index}", "out_of_range", remedy)


def _currency(wanted: PlanRequest, store: StoreState) -> str:
    if wanted.currency is not UNSET:
        fault = currency_fault(wanted.currency, "/currency")
        if fault is not None:
            raise bad_request([fault])
        return wanted.currency
    if wanted.experiment is not UNSET:
        return store.experiments[wanted.experiment].experiment.currency
    return store.settings.currency


router = [plan_test]
"""The one call."""

"""The rules of a document's warm start and stop rule that span fields; see `document_rules`."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from experiments.errors import FieldError
from experiments.json_schema import INVALID, child
from experiments.model import DelayHandling, Discounting, MetricKind, PolicyKind, StopAction, TotalsModel

_Document = Mapping[str, Any]
_Faults = Iterator[FieldError]

SHARES_TOLERANCE = 1e-6
"""How far written shares may be from summing to 1."""

_POINTER = "/policy/warm_start"
_NO_DELAY_MODEL = frozenset(
    {
        "cart_abandonment_rate",
        "cancel_rate",
        "margin_rate",
        "rating_mean",
        "repeat_rate",
        "ltv_30d",
        "ltv_90d",
        "ltv_180d",
    }
)
"""Metrics whose outcomes are not followed by age; they are read from units whose window is over."""
_HURDLE_METRICS = ("margin_per_unit", "revenue_per_unit")
"""Means whose unit totals have histograms, from which sizes are read."""
_EVIDENCE = ("value_remaining_below", "loss_below", "prob_best_above")


def stop_rule_faults(rule: _Document) -> _Faults:
    """A promotion needs evidence."""
    promotes = rule.get("action") == StopAction.PROMOTE
    if promotes and all(rule.get(name, INVALID) is None for name in _EVIDENCE):
        remedy = f"promote needs one of {', '.join(_EVIDENCE)}; a date or futility alone only recommends"
        yield FieldError("/stop_rule/action", "needs_evidence", remedy)


def warm_start_faults(policy: _Document, kind: str | None, variants: set[str] | None) -> _Faults:
    """Faults of `policy.warm_start`; `kind` is its objective's, `variants` the keys of the document."""
    warm: _Document | None = policy.get("warm_start")
    if warm is None:
        return
    if policy.get("kind") in (PolicyKind.FIXED, PolicyKind.CONTEXTUAL):
        remedy = (
            f"a policy of kind {policy['kind']} has no prior of its variants; remove it or change the kind"
        )
        yield FieldError(_POINTER, "not_for_this_policy", remedy)
    if kind == MetricKind.RATIO:
        remedy = "a ratio has no prior: its read-out is by the delta method; remove it"
        yield FieldError(_POINTER, "not_for_this_metric", remedy)
    shares, sources = warm.get("shares", INVALID), warm.get("variants", INVALID)
    if shares is None and sources == {}:
        remedy = "say what is known: shares with units, or variants of past experiments"
        yield FieldError(_POINTER, "empty", remedy)
    yield from _expert(warm, shares, kind)
    named = {name: member for name, member in (("shares", shares), ("variants", sources)) if member}
    for name, member in named.items():
        for key in sorted(member.keys() - variants) if variants is not None and member is not INVALID else ():
            remedy = "is not a variant of this experiment"
            yield FieldError(child(f"{_POINTER}/{name}", key), "unknown_variant", remedy)
    if shares is not None and INVALID not in (shares, sources):
        for key in sorted(shares.keys() & sources.keys()):
            remedy = "stands in shares too; a variant begins with one or the other"
            yield FieldError(child(f"{_POINTER}/variants", key), "duplicate", remedy)


def learning_faults(policy: _Document) -> _Faults:
    """Faults of `policy.discount`, `delay` and `model`: how results are read, for shares that follow them."""
    delay, model = policy.get("delay"), policy.get("model")
    kind, objective = policy.get("kind"), policy.get("objective")
    chosen = [
        name
        for name, value, default in (
            ("delay", delay, DelayHandling.MATURED),
            ("model", model, TotalsModel.STUDENT_T),
        )
        if value not in (None, default)
    ]
    if kind in (PolicyKind.FIXED, "contextual"):
        for name in chosen:
            remedy = f"says how thompson, top_two and segment read results; remove it for a {kind} policy"
            yield FieldError(f"/policy/{name}", "not_for_this_policy", remedy)
    if policy.get("discount") == Discounting.AFTER_DRIFT and policy.get("discount_half_life") is None:
        remedy = "says when to discount; write discount_half_life, 14d say, or remove it"
        yield FieldError("/policy/discount", "without_half_life", remedy)
    if delay == DelayHandling.MODEL and objective in _NO_DELAY_MODEL:
        remedy = f"the ages of {objective}'s outcomes are not kept; use matured, or another objective"
        yield FieldError("/policy/delay", "not_for_this_metric", remedy)
    if model == TotalsModel.HURDLE and objective is not None and objective not in _HURDLE_METRICS:
        remedy = f"hurdle is for {' and '.join(_HURDLE_METRICS)}; use student_t for {objective}"
        yield FieldError("/policy/model", "not_for_this_metric", remedy)
    if model == TotalsModel.HURDLE and (policy.get("prior") or policy.get("warm_start")):
        remedy = "a hurdle begins with all variants' sizes: remove prior and warm_start, or use student_t"
        yield FieldError("/policy/model", "not_with_prior", remedy)
    if len(chosen) == 2:
        remedy = "a hurdle reads the sizes of complete totals; use delay: matured, or model: student_t"
        yield FieldError("/policy/model", "needs_matured", remedy)


def _expert(warm: _Document, shares: Any, kind: str | None) -> _Faults:
    if shares is INVALID:
        return
    for name in ("units", "rate"):
        if shares is None and warm.get(name) is not None:
            remedy = "belongs to shares; remove it, or write the shares it is about"
            yield FieldError(f"{_POINTER}/{name}", "without_shares", remedy)
    if shares is None:
        return
    if warm.get("units", INVALID) is None:
        remedy = "is required with shares: how many units of each variant they are worth"
        yield FieldError(f"{_POINTER}/units", "required", remedy)
    rate = warm.get("rate", INVALID)
    if kind == MetricKind.PROPORTION and rate is None:
        remedy = "is required: the rate expected of the control, e.g. 0.03"
        yield FieldError(f"{_POINTER}/rate", "required", remedy)
    if isinstance(rate, int | float) and isinstance(warm.get("units"), int | float):
        needed = math.ceil(3 / min(rate, 1 - rate) - 1e-9)
        if warm["units"] < needed:
            remedy = f"at a rate of {rate:g} at least {needed}: three expected successes and failures"
            yield FieldError(f"{_POINTER}/units", "too_few", remedy)
    if kind == MetricKind.MEAN and rate is not None and rate is not INVALID:
        remedy = "is for proportions; a mean takes its level from the data; remove it"
        yield FieldError(f"{_POINTER}/rate", "not_for_this_metric", remedy)
    if INVALID in shares.values():
        return
    total = math.fsum(shares.values())
    if len(shares) < 2 or abs(total - 1) > SHARES_TOLERANCE:
        remedy = f"shares of at least two variants, summing to 1; found {len(shares)} summing to {total:.6g}"
        yield FieldError(f"{_POINTER}/shares", "shares_sum", remedy)

"""The rules of the experiment document that span fields.

Each takes the document as `json_schema.check` cleaned it (faulty members are absent, faulty elements
and members of open maps `INVALID`) and yields faults; a rule whose fields are absent has nothing to say.
"""

import math
from collections.abc import Iterator, Mapping
from datetime import timedelta
from itertools import pairwise
from typing import Any

from experiments.document_feature_rules import feature_faults
from experiments.document_policy_rules import (
    SHARES_TOLERANCE,
    learning_faults,
    stop_rule_faults,
    warm_start_faults,
)
from experiments.document_reading import reading_faults
from experiments.document_safety import safety_faults
from experiments.eligibility import condition_faults
from experiments.errors import FieldError
from experiments.json_schema import INVALID, child
from experiments.metric_keys import METRIC_KEYS, OFFER_ONLY_METRICS, metric_kind, read_as
from experiments.model import DelayHandling, MetricKind, PolicyKind
from experiments.money import is_currency
from experiments.times import parse_duration, parse_instant

_Document = Mapping[str, Any]
_Faults = Iterator[FieldError]

LONGEST = timedelta(days=3650)
NPS_EVENT = "rating"
_BETA = frozenset({"alpha", "beta"})
_NORMAL = frozenset({"mean", "kappa", "nu", "scale"})


def rule_faults(document: _Document) -> list[FieldError]:
    """Find every fault of a cleaned document that takes more than one field, or the calendar, to see."""
    rules = (_currency, _times, _audience, _variants, _offers, _shares, _control_share, _metrics)
    more = (_priors, _objective, _guardrails, _winsorise, safety_faults)
    return [fault for rule in (*rules, *more) for fault in rule(document)]


def _currency(document: _Document) -> _Faults:
    code = document.get("currency", "EUR")
    if code is None:
        yield FieldError("/currency", "required", "is required; use an ISO 4217 code, e.g. EUR")
    elif not is_currency(code):
        yield FieldError("/currency", "unknown_currency", f"{code} is no ISO 4217 currency; use e.g. EUR")


def _times(document: _Document) -> _Faults:
    policy = document.get("policy", {})
    written = {f"/{name}": document.get(name) for name in ("attribution_window", "refund_window")}
    if document.get("reassign_after") != "never":
        written["/reassign_after"] = document.get("reassign_after")
    written |= {f"/policy/{name}": policy.get(name) for name in ("cadence", "discount_half_life")}
    written |= {f"{pointer}/window": metric.get("window") for pointer, metric in _each(document, "metrics")}
    lengths = {pointer: parse_duration(text) for pointer, text in written.items() if text is not None}
    for pointer, length in lengths.items():
        if not timedelta(0) < length <= LONGEST:
            yield FieldError(pointer, "out_of_range", "must be longer than 0 and at most 3650d")
    window, again = lengths.get("/attribution_window"), lengths.get("/reassign_after")
    if window is not None and again is not None and again < window:
        remedy = "must be never or at least the attribution_window, or enrolments of a unit would overlap"
        yield FieldError("/reassign_after", "too_short", remedy)
    try:
        parse_instant(document.get("stop_rule", {}).get("at") or "2000-01-01T00:00:00Z")
    except ValueError:
        yield FieldError("/stop_rule/at", "bad_format", "is no date of the calendar; check day and hour")


def _audience(document: _Document) -> _Faults:
    yield from condition_faults(document.get("audience", {}), "/audience")


def _variants(document: _Document) -> _Faults:
    yield from _duplicates(document, "variants", "key", "every variant needs a key of its own")
    items = document.get("variants", [])
    if INVALID in items or any("is_control" not in variant for variant in items):
        return
    controls = sum(variant["is_control"] for variant in items)
    if items and controls != 1:
        remedy = f"exactly one variant must have is_control: true, found {controls}"
        yield FieldError("/variants", "one_control", remedy)


def _offers(document: _Document) -> _Faults:
    for pointer, variant in _each(document, "variants"):
        offer = variant.get("offer", {})
        if offer.get("kind") == "none":
            for name in ("sku", "price", "cost"):
                if offer.get(name) is not None:
                    remedy = "an offer of kind none has nothing to sell; remove it or set another kind"
                    yield FieldError(f"{pointer}/offer/{name}", "not_for_none", remedy)
        elif "kind" in offer and "sku" in offer and offer["sku"] is None:
            remedy = f"is required: an offer of kind {offer['kind']} names what it sells"
            yield FieldError(f"{pointer}/offer/sku", "required", remedy)


def _shares(document: _Document) -> _Faults:
    policy = document.get("policy", {})
    shares: Mapping[str, Any] | None = policy.get("shares")
    if shares is None or "kind" not in policy:
        return
    if policy["kind"] != PolicyKind.FIXED:
        remedy = f"only a policy of kind fixed has shares; {policy['kind']} sets them itself"
        yield FieldError("/policy/shares", "not_for_this_policy", remedy)
        return
    keys = _keys(document, "variants")
    if keys is not None:
        for key in sorted(keys - shares.keys()):
            yield FieldError(child("/policy/shares", key), "required", "every variant needs a share")
        for key in sorted(shares.keys() - keys):
            remedy = "is not a variant of this experiment"
            yield FieldError(child("/policy/shares", key), "unknown_variant", remedy)
    if INVALID in shares.values():
        return
    total = math.fsum(shares.values())
    if abs(total - 1) > SHARES_TOLERANCE:
        yield FieldError("/policy/shares", "shares_sum", f"shares must sum to 1, found {total:.6g}")


def _control_share(document: _Document) -> _Faults:
    policy = document.get("policy", {})
    control, floor = policy.get("control_share"), policy.get("floor")
    if control is None or floor is None:
        return
    if control < floor:
        remedy = f"must be at least the floor ({floor}): control is a live variant too"
        yield FieldError("/policy/control_share", "below_floor", remedy)
    others = len(document.get("variants", [])) - 1
    total = floor * others + control
    if others > 0 and total >= 1:
        remedy = (
            f"floor x {others} treatments + control_share = {total:.6g} leaves nothing to allocate;"
            f" lower floor below {(1 - control) / others:.4g}, or control_share"
        )
        yield FieldError("/policy/floor", "no_room", remedy)


def _metrics(document: _Document) -> _Faults:
    yield from _duplicates(document, "metrics", "key", "every metric needs a key of its own")
    for pointer, metric in _each(document, "metrics"):
        if metric.get("key") in METRIC_KEYS:
            remedy = f"{metric['key']} is a built-in metric; choose another key"
            yield FieldError(f"{pointer}/key", "built_in", remedy)
        if metric.get("kind") == MetricKind.NPS and metric.get("event", NPS_EVENT) != NPS_EVENT:
            remedy = f"an nps is over events of type rating; write event: {NPS_EVENT}"
            yield FieldError(f"{pointer}/event", "not_for_this_metric", remedy)


def _priors(document: _Document) -> _Faults:
    kinds = {metric.get("key"): _kind(metric) for _, metric in _each(document, "metrics")}
    policy = document.get("policy", {})
    objective = policy.get("objective")
    kind = metric_kind(objective).value if objective in METRIC_KEYS else kinds.get(objective)
    yield from _prior("/policy/prior", policy.get("prior"), kind)
    yield from warm_start_faults(policy, kind, _keys(document, "variants"))
    yield from feature_faults(policy, kind, len(document.get("variants", [])))
    yield from learning_faults(policy)
    yield from stop_rule_faults(document.get("stop_rule", {}))
    yield from reading_faults(document, kinds)
    for pointer, metric in _each(document, "metrics"):
        yield from _prior(f"{pointer}/prior", metric.get("prior"), _kind(metric))
        if metric.get("key", INVALID) == objective and metric.get("kind") == MetricKind.NPS:
            yield from _no_ages(policy)


def _kind(metric: _Document) -> str | None:
    """How a custom metric's posterior is formed; None while its kind is unreadable."""
    return None if "kind" not in metric else read_as(MetricKind(metric["kind"])).value


def _no_ages(policy: _Document) -> _Faults:
    if policy.get("delay") == DelayHandling.MODEL:
        remedy = "the ages of ratings are not kept; use matured, or another objective"
        yield FieldError("/policy/delay", "not_for_this_metric", remedy)


def _prior(pointer: str, prior: _Document | None, kind: str | None) -> _Faults:
    if prior is None or kind is None or len(prior) < len(_BETA | _NORMAL):
        return  # the last: one of its numbers is faulty, which is said already
    given = frozenset(name for name, value in prior.items() if value is not None)
    if kind == MetricKind.RATIO:
        remedy = "a ratio has no prior: its read-out is by the delta method; remove it"
        yield FieldError(pointer, "not_for_this_metric", remedy)
        return
    wanted = _BETA if kind == MetricKind.PROPORTION else _NORMAL
    if given != wanted:
        remedy = f"the prior of a {kind} has exactly {', '.join(sorted(wanted))}"
        yield FieldError(pointer, "prior_shape", remedy)


def _objective(document: _Document) -> _Faults:
    objective = document.get("policy", {}).get("objective")
    if objective is None:
        return
    yield from _known_metric(document, "/policy/objective", objective)
    if objective in OFFER_ONLY_METRICS:
        kinds = [variant.get("offer", {}).get("kind") for _, variant in _each(document, "variants")]
        if "none" in kinds:
            remedy = (
                f"{objective} does not exist for a variant without offer; use margin_per_unit,"
                " or give every variant an offer"
            )
            yield FieldError("/policy/objective", "needs_offers", remedy)


def _guardrails(document: _Document) -> _Faults:
    yield from _duplicates(document, "guardrails", "metric", "a metric has one guardrail; merge the two")
    for pointer, guardrail in _each(document, "guardrails"):
        if "metric" in guardrail:
            yield from _known_metric(document, f"{pointer}/metric", guardrail["metric"])
        for lower, upper in pairwise(("warn", "throttle", "kill")):
            if lower in guardrail and upper in guardrail and guardrail[upper] < guardrail[lower]:
                remedy = f"must be at least {lower} ({guardrail[lower]}): warn <= throttle <= kill"
                yield FieldError(f"{pointer}/{upper}", "margins_order", remedy)


def _winsorise(document: _Document) -> _Faults:
    caps: _Document = document.get("winsorise") or {}
    if "lower" in caps and "upper" in caps and caps["lower"] >= caps["upper"]:
        remedy = f"must be greater than lower ({caps['lower']}); write winsorise: null for no caps"
        yield FieldError("/winsorise/upper", "caps_order", remedy)


def _known_metric(document: _Document, pointer: str, key: str) -> _Faults:
    custom = _keys(document, "metrics")
    if key not in METRIC_KEYS and custom is not None and key not in custom:
        known = ", ".join((*METRIC_KEYS, *sorted(custom)))
        yield FieldError(pointer, "unknown_metric", f"{key} is not a metric here; use one of {known}")


def _each(document: _Document, name: str) -> Iterator[tuple[str, _Document]]:
    for index, item in enumerate(document.get(name, [])):
        if item is not INVALID:
            yield f"/{name}/{index}", item


def _keys(document: _Document, name: str) -> set[str] | None:
    """Keys of all elements; None when one is unreadable, since it may be the one missed."""
    items = document.get(name)
    if items is None or any(item is INVALID or "key" not in item for item in items):
        return None
    return {item["key"] for item in items}


def _duplicates(document: _Document, name: str, member: str, remedy: str) -> _Faults:
    seen: set[str] = set()
    for pointer, item in _each(document, name):
        value = item.get(member)
        if value is not None and value in seen:
            yield FieldError(f"{pointer}/{member}", "duplicate", f"{value} is there already; {remedy}")
        elif value is not None:
            seen.add(value)

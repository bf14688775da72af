"""The part of the document that says how results are read: the verdict's thresholds, the report's priors."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from experiments.document_policy_schema import PRIOR, WARM_VARIANT
from experiments.errors import FieldError
from experiments.json_schema import INVALID, child
from experiments.metric_keys import METRIC_KEYS, metric_kind
from experiments.model import MetricKind, Prior, VerdictSettings, WarmSource
from experiments.schema_parts import KEY, Json, closed

_Document = Mapping[str, Any]
_Faults = Iterator[FieldError]

_BETA = frozenset({"alpha", "beta"})
_NORMAL = frozenset({"mean", "kappa", "nu", "scale"})
_PAST = frozenset({"experiment", "variant", "discount"})


def _probability(description: str, default: float) -> Json:
    return {
        "type": "number",
        "minimum": 0.5,
        "exclusiveMaximum": 1,
        "default": default,
        "description": description,
        "x-remedy": "write a probability from 0.5 to below 1, e.g. 0.95",
    }


_DEFAULTS = VerdictSettings()

VERDICT = closed(
    {
        "tail": {
            "type": "number",
            "exclusiveMinimum": 0,
            "maximum": 0.5,
            "default": _DEFAULTS.tail,
            "description": "A lift is up from P(lift > 0) of 1 - tail / treatments on.",
            "x-remedy": "write a probability above 0 and at most 0.5, e.g. 0.025",
        },
        "breach": _probability("A guardrail is broken from this P(beyond throttle) on.", _DEFAULTS.breach),
        "held": _probability("A guardrail is held from this P(within throttle) on.", _DEFAULTS.held),
        "rope": {
            "type": "number",
            "exclusiveMinimum": 0,
            "exclusiveMaximum": 1,
            "default": _DEFAULTS.rope,
            "description": "The relative change, up or down, that does not matter.",
            "x-remedy": "write a fraction, e.g. 0.01 for 1 %",
        },
        "equivalent": _probability(
            "No difference from this P(lift within the rope) on.", _DEFAULTS.equivalent
        ),
        "promising": _probability("Promising from this P(lift > 0) on.", _DEFAULTS.promising),
    },
    "Thresholds of the verdict.",
    default={},
)

PRIORS: Json = {
    "type": "object",
    "description": (
        "Priors of the report by metric, of every variant alike, in place of the default: an expert's (alpha"
        " and beta of a proportion; mean, kappa, nu and scale of a mean), or what a variant of a past"
        " experiment found (experiment, variant, discount). The shares keep their own."
    ),
    "propertyNames": KEY,
    "maxProperties": 64,
    "additionalProperties": {
        **closed(
            PRIOR["properties"]
            | {
                name: {**schema, "type": [schema["type"], "null"], "default": None}
                for name, schema in WARM_VARIANT["properties"].items()
            },
            "An expert's prior, or a past experiment.",
        ),
        "x-remedy": "write {alpha, beta}, {mean, kappa, nu, scale} or {experiment, variant, discount}",
    },
    "default": {},
}


def verdict_of(item: _Document) -> VerdictSettings:
    """The thresholds of a cleaned document."""
    return VerdictSettings(**{name: float(value) for name, value in item.items()})


def priors_of(item: _Document) -> dict[str, Prior | WarmSource]:
    """The priors of a cleaned document, by metric."""
    return {key: _prior_of(prior) for key, prior in item.items()}


def reading_document(
    verdict: VerdictSettings, priors: Mapping[str, Prior | WarmSource]
) -> dict[str, dict[str, Any]]:
    """Both as the document has them; younger than documents in store, they are written where chosen."""
    found: dict[str, dict[str, Any]] = {}
    if verdict != VerdictSettings():
        found["verdict"] = asdict(verdict)
    if priors:
        found["priors"] = {
            key: {name: value for name, value in asdict(prior).items() if value is not None}
            for key, prior in priors.items()
        }
    return found


def reading_faults(document: _Document, kinds: Mapping[Any, str | None]) -> _Faults:
    """Faults of the thresholds and the priors; `kinds` says how each custom metric is read."""
    thresholds: _Document = document.get("verdict", {})
    tail, promising = thresholds.get("tail"), thresholds.get("promising")
    if tail is not None and promising is not None and promising > 1 - tail:
        remedy = f"must be at most 1 - tail ({1 - tail:g}): what is promising is less sure than what is up"
        yield FieldError("/verdict/promising", "thresholds_order", remedy)
    twice = _stated_elsewhere(document)
    for key, prior in document.get("priors", {}).items():
        pointer = child("/priors", key)
        if key not in METRIC_KEYS and key not in kinds:
            known = ", ".join((*METRIC_KEYS, *sorted(kinds)))
            yield FieldError(pointer, "unknown_metric", f"{key} is not a metric here; use one of {known}")
        elif key in twice:
            yield FieldError(pointer, "twice", f"{twice[key]} states it already; keep one of the two")
        elif prior is not INVALID and len(prior) == len(_BETA | _NORMAL | _PAST):
            kind = metric_kind(key).value if key in METRIC_KEYS else kinds[key]
            yield from _shape(pointer, prior, kind)


def _stated_elsewhere(document: _Document) -> dict[str, str]:
    policy = document.get("policy", {})
    found = {policy["objective"]: "/policy/prior"} if policy.get("prior") and "objective" in policy else {}
    for place, metric in enumerate(document.get("metrics", [])):
        if metric is not INVALID and metric.get("prior"):
            found[metric.get("key", "")] = f"/metrics/{place}/prior"
    return found


def _shape(pointer: str, prior: _Document, kind: str | None) -> _Faults:
    given = frozenset(name for name, value in prior.items() if value is not None)
    wanted = _BETA if kind == MetricKind.PROPORTION else _NORMAL
    if kind == MetricKind.RATIO:
        remedy = "a ratio has no prior: its read-out is by the delta method; remove it"
        yield FieldError(pointer, "not_for_this_metric", remedy)
    elif given & _PAST:
        if not given >= {"experiment", "variant"} or given - _PAST:
            remedy = "results of a past experiment are exactly experiment, variant and discount"
            yield FieldError(pointer, "prior_shape", remedy)
    elif given != wanted:
        remedy = f"the prior of a {kind} has exactly {', '.join(sorted(wanted))}"
        yield FieldError(pointer, "prior_shape", remedy)


def _prior_of(item: _Document) -> Prior | WarmSource:
    if item["experiment"] is not None:
        discount = 1.0 if item["discount"] is None else float(item["discount"])
        return WarmSource(item["experiment"], item["variant"], discount)
    return Prior(**{name: None if item[name] is None else float(item[name]) for name in (*_BETA, *_NORMAL)})

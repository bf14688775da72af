"""The JSON Schema of the experiment document: one for the API, for `apply` and for the OpenAPI page.

Closed objects, every number bounded, no references (it is embedded as it stands). Defaults live here;
`document.py` reads them from here, and a test holds them equal to those of the domain types.
"""

from copy import deepcopy
from typing import Any

from experiments.model import Anchor, Direction, MetricKind, OfferKind, PolicyKind, UnitKind
from experiments.times import DURATION_PATTERN, INSTANT_PATTERN

KEY_PATTERN = "^[a-z0-9][a-z0-9._-]{0,63}$"
ID_PATTERN = "^[^\\u0000-\\u001f\\u007f-\\u009f]*$"
MONEY_LIMIT = 10**12  # squares of it, summed over 10^14 units, fit the ledger's two 64-bit limbs
NUMBER_LIMIT = 2**63 - 1  # of a number we only carry: what JSON libraries and databases keep exactly
SCALARS = ["string", "number", "boolean", "null"]

_Json = dict[str, Any]


def experiment_schema() -> _Json:
    """Return a fresh copy of the document's JSON Schema (draft 2020-12)."""
    return deepcopy(_EXPERIMENT)


def audience_schema() -> _Json:
    """Return a fresh copy of the schema of audience conditions, which segments share."""
    return deepcopy(_AUDIENCE)


def _described(schema: _Json, description: str, **more: Any) -> _Json:
    return {**schema, "description": description, **more}


def _closed(properties: _Json, description: str, *, required: tuple[str, ...] = (), **more: Any) -> _Json:
    schema: _Json = {
        "type": "object",
        "description": description,
        "properties": properties,
        "additionalProperties": False,
        **more,
    }
    return {**schema, "required": list(required)} if required else schema


def _nullable(schema: _Json) -> _Json:
    return {**schema, "type": [schema["type"], "null"]}


def _choice(values: Any, description: str, **more: Any) -> _Json:
    return {
        "type": "string",
        "enum": [value.value for value in values],
        "description": description,
        **more,
    }


def _text(most: int, description: str, **more: Any) -> _Json:
    return {"type": "string", "maxLength": most, "description": description, **more}


_KEY: _Json = {
    "type": "string",
    "pattern": KEY_PATTERN,
    "x-remedy": "use 1 to 64 of a-z, 0-9, '.', '_' and '-', beginning with a letter or a digit",
}
_ID: _Json = {
    "type": "string",
    "minLength": 1,
    "maxLength": 128,
    "pattern": ID_PATTERN,
    "x-remedy": "use 1 to 128 characters, no control characters",
}
_MONEY: _Json = {
    "type": "integer",
    "minimum": 0,
    "maximum": MONEY_LIMIT,
    "x-remedy": "use minor units, e.g. 1290 for 12.90",
}
_DURATION: _Json = {
    "type": "string",
    "pattern": DURATION_PATTERN,
    "x-remedy": "write a whole number and its unit (s, m, h or d), e.g. 15m, 24h or 7d",
}
_REASSIGN: _Json = {
    "type": "string",
    "pattern": "^(never|[0-9]{1,9}[smhd])$",
    "x-remedy": "write never, or a whole number and its unit (s, m, h or d), e.g. 30d",
}
_INSTANT: _Json = {
    "type": "string",
    "pattern": INSTANT_PATTERN,
    "x-remedy": "write a time with its offset, e.g. 2026-03-01T12:00:00Z",
}
_FRACTION: _Json = {
    "type": "number",
    "minimum": 0,
    "maximum": 1,
    "x-remedy": "write a fraction, e.g. 0.05 for 5 %",
}
_MARGIN: _Json = {
    "type": "number",
    "exclusiveMinimum": 0,
    "maximum": 1000,
    "x-remedy": "write the margin as a fraction, e.g. 0.05 for 5 % worse than control",
}
_COUNT: _Json = {"type": "integer", "minimum": 0, "maximum": 10**9, "x-remedy": "write a whole number"}
_POSITIVE: _Json = {"type": "number", "exclusiveMinimum": 0, "maximum": 1e15}
_REAL: _Json = {"type": "number", "minimum": -1e15, "maximum": 1e15}

_CONDITION_SCALARS: _Json = {
    "type": ["string", "number", "boolean"],
    "maxLength": 256,
    "minimum": -NUMBER_LIMIT,
    "maximum": NUMBER_LIMIT,
}
_ANY_OF: _Json = {"type": "array", "items": _CONDITION_SCALARS, "minItems": 1, "maxItems": 1000}
_ORDERED: _Json = {
    "type": ["string", "number"],
    "maxLength": 256,
    "minimum": -NUMBER_LIMIT,
    "maximum": NUMBER_LIMIT,
}
_OPERATORS: _Json = {
    "eq": _described(_CONDITION_SCALARS, "The field equals the value."),
    "ne": _described(_CONDITION_SCALARS, "The field is absent or differs from the value."),
    "in": _described(_ANY_OF, "The field equals one of the values."),
    "not_in": _described(_ANY_OF, "The field is absent or equals none of the values."),
    "gt": _described(_ORDERED, "The field is greater than the value."),
    "gte": _described(_ORDERED, "The field is at least the value."),
    "lt": _described(_ORDERED, "The field is less than the value."),
    "lte": _described(_ORDERED, "The field is at most the value."),
    "exists": {"type": "boolean", "description": "The field is present (true) or absent (false)."},
}
_AUDIENCE: _Json = {
    "type": "object",
    "description": (
        "Conditions on the request, all of which must hold: a field's name with a scalar (equals), a list"
        " (equals one of) or operators. Fields: those of the context, segment, cart_value, cart_items,"
        " item.price, item.sku, item.category. A missing field fails all but ne, not_in, exists: false."
    ),
    "propertyNames": _ID,
    "maxProperties": 64,
    "additionalProperties": {
        "type": ["string", "number", "boolean", "array", "object"],
        "maxLength": 256,
        "minimum": -NUMBER_LIMIT,
        "maximum": NUMBER_LIMIT,
        "items": _CONDITION_SCALARS,
        "minItems": 1,
        "maxItems": 1000,
        "properties": _OPERATORS,
        "minProperties": 1,
        "additionalProperties": False,
        "x-remedy": "write a value, a list of values, or operators such as {gte: 5000} or {exists: false}",
    },
    "default": {},
}

_OFFER = _closed(
    {
        "kind": _choice(OfferKind, "What the offer is; none shows nothing."),
        "sku": _described(_nullable(_ID), "The item offered; required unless kind is none.", default=None),
        "price": _described(
            _nullable(_MONEY), "Price asked, in minor units of the experiment's currency.", default=None
        ),
        "cost": _described(
            _nullable(_MONEY), "Cost of goods, in minor units; never sent to a browser.", default=None
        ),
        "headline": _nullable(_text(200, "What the shopper reads first.", default=None)),
        "benefit": _nullable(_text(500, "One sentence: what it is good for.", default=None)),
        "payload": {
            "type": "object",
            "description": "What the storefront needs to draw and sell the offer: scalars only.",
            "propertyNames": _ID,
            "maxProperties": 64,
            "additionalProperties": {
                "type": SCALARS,
                "maxLength": 4096,
                "minimum": -NUMBER_LIMIT,
                "maximum": NUMBER_LIMIT,
                "x-remedy": "payload values are text, numbers, true, false or null",
            },
            "default": {},
        },
    },
    "What this variant shows.",
    required=("kind",),
)

_VARIANT = _closed(
    {
        "key": _described(_KEY, "Name of the variant, unique in the experiment."),
        "is_control": {
            "type": "boolean",
            "default": False,
            "description": "Whether others are compared with this variant; exactly one is.",
        },
        "offer": _OFFER,
    },
    "One alternative.",
    required=("key", "offer"),
)

_PRIOR: _Json = {
    **_closed(
        {
            "alpha": _described(_nullable(_POSITIVE), "Beta: successes, of a proportion.", default=None),
            "beta": _described(_nullable(_POSITIVE), "Beta: failures, of a proportion.", default=None),
            "mean": _described(
                _nullable(_REAL), "Normal-inverse-gamma: the mean, in the metric's unit.", default=None
            ),
            "kappa": _described(
                _nullable(_POSITIVE), "Normal-inverse-gamma: units the mean is worth.", default=None
            ),
            "nu": _described(
                _nullable(_POSITIVE), "Normal-inverse-gamma: units the scale is worth.", default=None
            ),
            "scale": _described(
                _nullable(_POSITIVE), "Normal-inverse-gamma: a variance, unit squared.", default=None
            ),
        },
        "In place of the default prior: alpha and beta for a proportion, the other four for a mean.",
        default=None,
    ),
    "type": ["object", "null"],
}

_POLICY = _closed(
    {
        "kind": _choice(
            PolicyKind, "How shares are set: as written, or by P(best).", default=PolicyKind.FIXED.value
        ),
        "objective": _described(_KEY, "The metric to raise: built-in or custom.", default="margin_per_unit"),
        "control_share": _described(
            _FRACTION, "Share the control has at least.", exclusiveMinimum=0, exclusiveMaximum=1, default=0.1
        ),
        "floor": _described(_FRACTION, "Share every live variant has at least.", default=0.02),
        "cadence": _described(_DURATION, "How often shares may be recomputed.", default="60s"),
        "burn_in": _described(_COUNT, "Units every variant gets before shares follow the data.", default=200),
        "discount_half_life": _described(
            _nullable(_DURATION), "Age at which a cohort counts half; null counts all alike.", default=None
        ),
        "shares": {
            "type": ["object", "null"],
            "description": "Fixed shares by variant key, summing to 1; null is equal shares.",
            "propertyNames": _KEY,
            "maxProperties": 128,
            "additionalProperties": _FRACTION,
            "default": None,
        },
        "prior": _PRIOR,
    },
    "How units are shared out among the variants.",
    default={},
)

_GUARDRAIL = _closed(
    {
        "metric": _described(_KEY, "The metric that must not get worse: built-in or custom."),
        "warn": _described(_MARGIN, "Worse by this much than control: shown."),
        "throttle": _described(_MARGIN, "Worse by this much: the variant is held at its floor."),
        "kill": _described(_MARGIN, "Worse by this much: the variant is taken out."),
    },
    "Margins relative to control in the bad direction; absolute for ratings and what can be <= 0.",
    required=("metric", "warn", "throttle", "kill"),
)

_METRIC = _closed(
    {
        "key": _described(_KEY, "Name of the metric, none of the built-in ones."),
        "kind": _choice(
            MetricKind, "proportion = units with the event / units; mean = value per unit; ratio = per event."
        ),
        "event": _described(_ID, "The name of the custom event it counts."),
        "window": _described(
            _nullable(_DURATION), "Horizon from the anchor; null is the attribution window.", default=None
        ),
        "direction": _choice(Direction, "Which way is good.", default=Direction.UP.value),
        "prior": _PRIOR,
    },
    "A metric over events of type custom.",
    required=("key", "kind", "event"),
)

_WINSORISE: _Json = {
    **_closed(
        {
            "lower": _described(_FRACTION, "Lower quantile.", default=0.001),
            "upper": _described(_FRACTION, "Upper quantile.", default=0.999),
        },
        "Quantiles of the non-zero unit totals beyond which a total is capped; null never caps.",
        default={},
    ),
    "type": ["object", "null"],
}

_STOP_RULE = _closed(
    {
        "value_remaining_below": _described(
            _nullable(_MONEY), "Money still to be won per week, minor units.", default=None
        ),
        "loss_below": _described(
            {"type": ["number", "null"], "minimum": 0, "maximum": 1e15},
            "Expected loss of the leader, in the objective's unit.",
            default=None,
        ),
        "at": _described(_nullable(_INSTANT), "A date.", default=None),
    },
    "When to recommend stopping; whichever comes first.",
    default={},
)

_EXPERIMENT: _Json = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "Experiment",
    **_closed(
        {
            "key": _described(_KEY, "Name of the experiment; never reused."),
            "name": _text(200, "What people call it.", default=""),
            "hypothesis": _text(2000, "What is expected to happen, and why.", default=""),
            "touchpoint": _described(_KEY, "Where it is shown, e.g. checkout."),
            "unit": _choice(UnitKind, "Who is randomised.", default=UnitKind.VISITOR.value),
            "currency": {
                "type": ["string", "null"],
                "pattern": "^[A-Z]{3}$",
                "default": None,
                "description": "ISO 4217 code of its money; the store's currency when null.",
                "x-remedy": "use an ISO 4217 code in capitals, e.g. EUR",
            },
            "anchor": _choice(Anchor, "The instant the windows run from.", default=Anchor.ASSIGNMENT.value),
            "attribution_window": _described(
                _DURATION, "How long after its anchor a unit's outcomes count.", default="7d"
            ),
            "refund_window": _described(
                _DURATION, "How long after that until figures are final.", default="30d"
            ),
            "reassign_after": _described(
                _REASSIGN, "When a unit is enrolled anew: never, or after this long.", default="never"
            ),
            "audience": _AUDIENCE,
            "policy": _POLICY,
            "variants": {
                "type": "array",
                "items": _VARIANT,
                "minItems": 2,
                "maxItems": 128,
                "description": "The alternatives, control among them; their order never changes.",
            },
            "guardrails": {
                "type": "array",
                "items": _GUARDRAIL,
                "maxItems": 32,
                "default": [],
                "description": "Metrics that no variant may harm.",
            },
            "metrics": {
                "type": "array",
                "items": _METRIC,
                "maxItems": 32,
                "default": [],
                "description": "Custom metrics.",
            },
            "winsorise": _WINSORISE,
            "priority": {
                "type": "integer",
                "minimum": -1000,
                "maximum": 1000,
                "default": 0,
                "description": "Where several experiments fit a request, the highest goes first.",
            },
            "layer": _described(
                _nullable(_KEY), "Experiments of one layer exclude each other.", default=None
            ),
            "stop_rule": _STOP_RULE,
            "salt": _described(
                _nullable(_ID), "Seed of the split; the experiment's key when null.", default=None
            ),
        },
        "An experiment: what is offered to whom, how traffic is shared, and what must not suffer.",
        required=("key", "touchpoint", "variants"),
    ),
}

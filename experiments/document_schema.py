"""The JSON Schema of the experiment document: one for the API, for `apply` and for the OpenAPI page.

Closed objects, every number bounded, no references (it is embedded as it stands). Defaults live here;
`document.py` reads them from here, and a test holds them equal to those of the domain types.
"""

from copy import deepcopy

from experiments.document_policy_schema import POLICY, PRIOR, STOP_RULE
from experiments.document_reading import PRIORS, VERDICT
from experiments.model import Anchor, Direction, MetricKind, OfferKind, UnitKind
from experiments.schema_parts import (
    DURATION,
    FRACTION,
    ID,
    KEY,
    MARGIN,
    MONEY,
    NUMBER_LIMIT,
    REASSIGN,
    SCALARS,
    Json,
    choice,
    closed,
    described,
    nullable,
    text,
)


def experiment_schema() -> Json:
    """Return a fresh copy of the document's JSON Schema (draft 2020-12)."""
    return deepcopy(_EXPERIMENT)


def audience_schema() -> Json:
    """Return a fresh copy of the schema of audience conditions, which segments share."""
    return deepcopy(_AUDIENCE)


_CONDITION_SCALARS: Json = {
    "type": ["string", "number", "boolean"],
    "maxLength": 256,
    "minimum": -NUMBER_LIMIT,
    "maximum": NUMBER_LIMIT,
}
_ANY_OF: Json = {"type": "array", "items": _CONDITION_SCALARS, "minItems": 1, "maxItems": 1000}
_ORDERED: Json = {
    "type": ["string", "number"],
    "maxLength": 256,
    "minimum": -NUMBER_LIMIT,
    "maximum": NUMBER_LIMIT,
}
_OPERATORS: Json = {
    "eq": described(_CONDITION_SCALARS, "The field equals the value."),
    "ne": described(_CONDITION_SCALARS, "The field is absent or differs from the value."),
    "in": described(_ANY_OF, "The field equals one of the values."),
    "not_in": described(_ANY_OF, "The field is absent or equals none of the values."),
    "gt": described(_ORDERED, "The field is greater than the value."),
    "gte": described(_ORDERED, "The field is at least the value."),
    "lt": described(_ORDERED, "The field is less than the value."),
    "lte": described(_ORDERED, "The field is at most the value."),
    "exists": {"type": "boolean", "description": "The field is present (true) or absent (false)."},
}
_AUDIENCE: Json = {
    "type": "object",
    "description": (
        "Conditions on the request, all of which must hold: a field's name with a scalar (equals), a list"
        " (equals one of) or operators. Fields: those of the context, segment, cart_value, cart_items,"
        " item.price, item.sku, item.category. A missing field fails all but ne, not_in, exists: false."
    ),
    "propertyNames": ID,
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

_OFFER = closed(
    {
        "kind": choice(OfferKind, "What the offer is; none shows nothing."),
        "sku": described(nullable(ID), "The item offered; required unless kind is none.", default=None),
        "price": described(
            nullable(MONEY), "Price asked, in minor units of the experiment's currency.", default=None
        ),
        "cost": described(
            nullable(MONEY), "Cost of goods, in minor units; never sent to a browser.", default=None
        ),
        "category": described(
            nullable(ID),
            "Category of the goods: how late refunds come is learned per category, and for all where absent.",
            default=None,
        ),
        "headline": nullable(text(200, "What the shopper reads first.", default=None)),
        "benefit": nullable(text(500, "One sentence: what it is good for.", default=None)),
        "payload": {
            "type": "object",
            "description": "What the storefront needs to draw and sell the offer: scalars only.",
            "propertyNames": ID,
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

_VARIANT = closed(
    {
        "key": described(KEY, "Name of the variant, unique in the experiment."),
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

_GUARDRAIL = closed(
    {
        "metric": described(KEY, "The metric that must not get worse: built-in or custom."),
        "warn": described(MARGIN, "Worse by this much than control: shown."),
        "throttle": described(MARGIN, "Worse by this much: the variant is held at its floor."),
        "kill": described(MARGIN, "Worse by this much: the variant is taken out."),
    },
    "Margins relative to control in the bad direction; absolute for ratings and what can be <= 0.",
    required=("metric", "warn", "throttle", "kill"),
)

_METRIC = closed(
    {
        "key": described(KEY, "Name of the metric, none of the built-in ones."),
        "kind": choice(
            MetricKind,
            "proportion = units with the event / units; mean = value per unit; ratio = value per event;"
            " count = events per unit; nps = 100 x (promoters - detractors) / ratings.",
        ),
        "event": described(ID, "The name of the custom event it counts; of an nps: rating."),
        "window": described(
            nullable(DURATION), "Horizon from the anchor; null is the attribution window.", default=None
        ),
        "direction": choice(Direction, "Which way is good.", default=Direction.UP.value),
        "prior": PRIOR,
    },
    "A metric over events of type custom.",
    required=("key", "kind", "event"),
)

_WINSORISE: Json = {
    **closed(
        {
            "lower": described(FRACTION, "Lower quantile.", default=0.001),
            "upper": described(FRACTION, "Upper quantile.", default=0.999),
        },
        "Quantiles of the non-zero unit totals beyond which a total is capped; null never caps.",
        default={},
    ),
    "type": ["object", "null"],
}

_EXPERIMENT: Json = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "Experiment",
    **closed(
        {
            "key": described(KEY, "Name of the experiment; never reused."),
            "name": text(200, "What people call it.", default=""),
            "hypothesis": text(2000, "What is expected to happen, and why.", default=""),
            "touchpoint": described(KEY, "Where it is shown, e.g. checkout."),
            "unit": choice(UnitKind, "Who is randomised.", default=UnitKind.VISITOR.value),
            "currency": {
                "type": ["string", "null"],
                "pattern": "^[A-Z]{3}$",
                "default": None,
                "description": "ISO 4217 code of its money; the store's currency when null.",
                "x-remedy": "use an ISO 4217 code in capitals, e.g. EUR",
            },
            "anchor": choice(Anchor, "The instant the windows run from.", default=Anchor.ASSIGNMENT.value),
            "attribution_window": described(
                DURATION, "How long after its anchor a unit's outcomes count.", default="7d"
            ),
            "refund_window": described(
                DURATION, "How long after that until figures are final.", default="30d"
            ),
            "reassign_after": described(
                REASSIGN, "When a unit is enrolled anew: never, or after this long.", default="never"
            ),
            "audience": _AUDIENCE,
            "policy": POLICY,
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
            "layer": described(nullable(KEY), "Experiments of one layer exclude each other.", default=None),
            "stop_rule": STOP_RULE,
            "verdict": VERDICT,
            "priors": PRIORS,
            "salt": described(
                nullable(ID), "Seed of the split; the experiment's key when null.", default=None
            ),
        },
        "An experiment: what is offered to whom, how traffic is shared, and what must not suffer.",
        required=("key", "touchpoint", "variants"),
    ),
}

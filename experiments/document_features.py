"""The features of a contextual policy in the experiment document: schema, read and written back."""

from collections.abc import Mapping
from typing import Any

from experiments.model import Feature, FeatureKind, PolicyKind, PolicySettings
from experiments.schema_parts import ID, NUMBER_LIMIT, POSITIVE, REAL, Json, choice, closed, described

_Document = Mapping[str, Any]

_FEATURE = closed(
    {
        "name": described(ID, "A field of the context, segment, cart_value, cart_items or item.price ..."),
        "kind": choice(FeatureKind, "A number on a scale, or one of some values."),
        "center": described(
            {**REAL, "type": ["number", "null"]},
            "Of a number: the value that counts as 0, as does a missing one; 0 when null.",
            default=None,
        ),
        "scale": described(
            {**POSITIVE, "type": ["number", "null"], "minimum": 1e-9},
            "Of a number: how much counts as 1; it is cut at 8 times that.",
            default=None,
        ),
        "values": {
            "type": ["array", "null"],
            "items": {
                "type": ["string", "number", "boolean"],
                "maxLength": 256,
                "minimum": -NUMBER_LIMIT,
                "maximum": NUMBER_LIMIT,
            },
            "minItems": 1,
            "maxItems": 64,
            "description": "Of a category: the values told apart; any other, or none, is one more.",
            "default": None,
            "x-remedy": "list the values the policy is to tell apart, e.g. [mobile, desktop]",
        },
    },
    "A field of the context that a contextual policy learns from.",
    required=("name", "kind"),
)

FEATURES: Json = {
    "type": "array",
    "items": _FEATURE,
    "maxItems": 16,
    "default": [],
    "description": "What of the context is recorded at enrolment, for a contextual policy now or later.",
}
DRAWS: Json = {
    "type": "integer",
    "minimum": 100,
    "maximum": 10_000,
    "default": 1000,
    "description": "How many draws of its posterior a contextual policy publishes.",
    "x-remedy": "write a whole number from 100 to 10000; 1000 know a share to about 0.016",
}


def features_of(items: list[_Document]) -> tuple[Feature, ...]:
    """The features of a sound document."""
    return tuple(
        Feature(
            name=item["name"],
            kind=FeatureKind(item["kind"]),
            center=float(item["center"] or 0),
            scale=float(item["scale"] or 1),
            values=tuple(item["values"] or ()),
        )
        for item in items
    )


def features_document(policy: PolicySettings) -> dict[str, Any]:
    """Features and draws as written back, where they say something."""
    found: dict[str, Any] = {}
    if policy.features:
        found["features"] = [_written(feature) for feature in policy.features]
    if policy.kind is PolicyKind.CONTEXTUAL or policy.draws != PolicySettings().draws:
        found["draws"] = policy.draws
    return found


def _written(feature: Feature) -> dict[str, Any]:
    head = {"name": feature.name, "kind": feature.kind.value}
    if feature.kind is FeatureKind.NUMBER:
        return {**head, "center": feature.center, "scale": feature.scale}
    return {**head, "values": list(feature.values)}

"""The document's ramp and circuit breakers: schema, rules, read and written back."""

from collections.abc import Iterator, Mapping
from datetime import timedelta
from itertools import pairwise
from typing import Any

from experiments.errors import FieldError
from experiments.json_schema import INVALID
from experiments.model import BreakerAction, Breakers, Ramp
from experiments.schema_parts import COUNT, DURATION, Json, choice, closed, described
from experiments.times import format_duration, parse_duration

_STEP: Json = {
    "type": "number",
    "exclusiveMinimum": 0,
    "maximum": 1,
    "description": "A cap on the variant's share.",
    "x-remedy": "write a share above 0 and at most 1, e.g. 0.05",
}

RAMP: Json = {
    **closed(
        {
            "steps": {
                "type": "array",
                "items": _STEP,
                "minItems": 1,
                "maxItems": 16,
                "default": [0.01, 0.05, 0.25, 0.5],
                "description": "Caps on a new variant's share, one after the other; after the last, none.",
            },
            "every": described(DURATION, "How long a step lasts at least.", default="1d"),
            "units": described(COUNT, "Units the variant gets in a step at least.", default=500),
            "from_start": {
                "type": "boolean",
                "default": False,
                "description": "Also for the variants that the experiment starts with.",
            },
        },
        "How a variant added later grows while its guardrails hold; null caps nothing.",
        default=None,
    ),
    "type": ["object", "null"],
}


def _threshold(description: str, default: float) -> Json:
    return {
        "type": ["number", "null"],
        "exclusiveMinimum": 0,
        "exclusiveMaximum": 1,
        "default": default,
        "description": description,
        "x-remedy": f"write a fraction between 0 and 1, e.g. {default}, or null for no such breaker",
    }


BREAKERS: Json = closed(
    {
        "outcomes_below": _threshold(
            "Outcomes of the last hours, as a part of what their units brought before; null is off.", 0.1
        ),
        "exposure_gap": _threshold(
            "Difference between two variants' exposed shares of their units; null is off.", 0.2
        ),
        "fallback_above": _threshold("Part of the answers given without the ledger; null is off.", 0.2),
        "action": choice(
            BreakerAction,
            "What a tripped breaker does: hold the shares, or pause the experiment.",
            default=BreakerAction.HOLD.value,
        ),
    },
    "When the data itself cannot be trusted.",
    default={},
)


def safety_faults(document: Mapping[str, Any]) -> Iterator[FieldError]:
    """Steps of a ramp must rise, and last."""
    ramp: Mapping[str, Any] = document.get("policy", {}).get("ramp") or {}
    steps = ramp.get("steps", [])
    if INVALID not in steps and any(b <= a for a, b in pairwise(steps)):
        remedy = "each step must be above the one before it, e.g. [0.01, 0.05, 0.25, 0.5]"
        yield FieldError("/policy/ramp/steps", "steps_order", remedy)
    if "every" in ramp and not timedelta(0) < parse_duration(ramp["every"]) <= timedelta(days=3650):
        yield FieldError("/policy/ramp/every", "out_of_range", "must be longer than 0 and at most 3650d")


def ramp_of(item: Mapping[str, Any] | None) -> Ramp | None:
    """The ramp of a cleaned document."""
    if item is None:
        return None
    steps = tuple(float(step) for step in item["steps"])
    return Ramp(steps, parse_duration(item["every"]), item["units"], item["from_start"])


def breakers_of(item: Mapping[str, Any]) -> Breakers:
    """The breakers of a cleaned document."""
    limits = (item[name] for name in ("outcomes_below", "exposure_gap", "fallback_above"))
    return Breakers(
        *(None if limit is None else float(limit) for limit in limits), action=BreakerAction(item["action"])
    )


def safety_document(ramp: Ramp | None, breakers: Breakers) -> dict[str, Any]:
    """Both in canonical form; what is at its default is left out, as documents of old have it."""
    written: dict[str, Any] = {}
    if ramp is not None:
        written["ramp"] = {
            "steps": list(ramp.steps),
            "every": format_duration(ramp.every),
            "units": ramp.units,
            "from_start": ramp.from_start,
        }
    if breakers != Breakers():
        written["breakers"] = {
            "outcomes_below": breakers.outcomes_below,
            "exposure_gap": breakers.exposure_gap,
            "fallback_above": breakers.fallback_above,
            "action": breakers.action.value,
        }
    return written

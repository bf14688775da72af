"""The alarms of a policy: what a person should know of it today, in one list."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from service.clock import to_wire

_SIGNS = {
    "entropy": "the shares' entropy is {entropy:.2f} of what it could be",
    "min_propensity": "a variant has {min_propensity:.2%} of the traffic only{where}",
    "effective_sample_size": "units of a variant are worth less than a {least} of their number",
}


def alarms_of(body: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The alarms raised in a version's body: {name, state, since, detail}; versions of old have none."""
    found: list[dict[str, Any]] = []
    stop = body.get("stop")
    if stop is not None and stop["state"] in ("reached", "promoted"):
        found.append(_alarm("stop_rule", stop["state"], stop["since_us"], stop["detail"]))
    explored = body.get("exploration")
    if explored is not None and explored["collapsed"]:
        told = explored | {"where": _where(explored), "least": "twentieth" if _where(explored) else "tenth"}
        signs = "; ".join(_SIGNS[sign].format(**told) for sign in explored["collapsed"])
        detail = f"exploration has collapsed: {signs}. Raise policy.floor, or see which cap holds the others"
        found.append(_alarm("exploration_collapsed", "alarm", explored["since_us"], detail))
    for one in body.get("breakers") or ():
        if one["state"] == "tripped":
            detail = f"{one['detail']}; shares do not follow such data"
            found.append(_alarm(f"breaker_{one['breaker']}", "tripped", one["since_us"], detail))
    return found


def _where(explored: Mapping[str, Any]) -> str:
    """Where the least share is; versions of old say nothing of segments and contexts."""
    if explored.get("contexts"):
        return " in some context"
    return " in some segment" if explored.get("segments") else ""


def _alarm(name: str, state: str, since_us: int, detail: str) -> dict[str, Any]:
    return {"name": name, "state": state, "since": to_wire(since_us), "detail": detail}

"""What a policy says of its guardrails' part in the shares: ramps, circuit breakers, joint draws."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from service.clock import to_wire


def safety_of(body: Mapping[str, Any]) -> dict[str, Any]:
    """Ramps, breakers and draws of a version's body; versions of old have none.

    Of the draws what came of them, and which segments were drawn by themselves (what harms does so in every
    one); the posteriors behind them, from which they can be drawn again, stay in the ledger.
    """
    return {
        "ramps": [
            {
                "variant": ramp["variant"],
                "step": ramp["step"] + 1,
                "cap": ramp["cap"],
                "since": to_wire(ramp["since_us"]),
            }
            for ramp in body.get("ramps") or ()
            if ramp["step"] is not None
        ],
        "breakers": [
            {
                "breaker": breaker["breaker"],
                "state": breaker["state"],
                "since": to_wire(breaker["since_us"]),
                "found": breaker["found"],
                "limit": breaker["limit"],
                "detail": breaker["detail"],
            }
            for breaker in body.get("breakers") or ()
        ],
        "draws": [_drawn(one) for one in body.get("draws") or ()],
    }


def struck_out(body: Mapping[str, Any], candidates: Collection[str]) -> dict[str, float] | None:
    """In which part of the draws each candidate was beyond a throttle margin; None where none were drawn."""
    for one in body.get("draws") or ():
        if set(one["candidates"]) == set(candidates):
            return dict(one["prob_struck_out"])
    return None


def states_of(body: Mapping[str, Any], candidates: Collection[str]) -> dict[str, dict[str, str]]:
    """The state of every guardrail of the candidates, by variant and metric."""
    found: dict[str, dict[str, str]] = {}
    for entry in body["guardrails"]:
        if entry["variant"] in candidates:
            found.setdefault(entry["variant"], {})[entry["metric"]] = entry["state"]
    return found


def _drawn(one: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "candidates": one["candidates"],
        "seed": one["seed"],
        "draws": one["draws"],
        "guardrails": [limit["metric"] for limit in one["limits"]],
        "prob_struck_out": one["prob_struck_out"],
        "segments": sorted(one.get("segments") or ()),
    }

"""What a policy version says beside its shares, and when a new one is worth publishing.

A version is worth publishing when some share moved by 0.005 or more, a guardrail or a circuit breaker changed
state, a ramp took a step, there is news of the stop rule or of drift, or a day passed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from experiments.allocation.drift import DriftState
from experiments.allocation.published import Cause, PolicyVersion, moved
from experiments.analysis.guardrails import GuardrailState
from experiments.fold import DAY_US

HOUR_US = DAY_US // 24
MOVED_BY = 0.005


@dataclass(frozen=True, slots=True)
class Body:
    """What a version's row holds besides the version itself."""

    held: Mapping[str, str] | None
    burn_in: bool
    guardrails: Sequence[Mapping[str, Any]]
    promoted: str | None
    drift: Mapping[str, Any] | None = None  # None where shares do not follow results
    draws: Sequence[Mapping[str, Any]] = field(default_factory=list[Mapping[str, Any]])
    ramps: Sequence[Mapping[str, Any]] = field(default_factory=list[Mapping[str, Any]])
    breakers: Sequence[Mapping[str, Any]] = field(default_factory=list[Mapping[str, Any]])
    newcomers: Sequence[str] = ()
    warm_start: Mapping[str, Any] | None = None  # by variant: the prior it begins with, and whence
    stop: Mapping[str, Any] | None = None
    exploration: Mapping[str, Any] | None = None

    def to_json(self, version: PolicyVersion) -> dict[str, Any]:
        """The row's body."""
        return {
            "version": version.to_json(),
            "held": self.held,
            "burn_in": self.burn_in,
            "guardrails": list(self.guardrails),
            "promoted": self.promoted,
            "drift": self.drift,
            "draws": list(self.draws),
            "ramps": list(self.ramps),
            "breakers": list(self.breakers),
            "newcomers": list(self.newcomers),
            "warm_start": self.warm_start,
            "stop": self.stop,
            "exploration": self.exploration,
        }


def worth_publishing(
    last: PolicyVersion, version: PolicyVersion, before: Mapping[str, Any], body: Body, *, may_move: bool
) -> PolicyVersion | None:
    """The version to publish, with its cause; None when nothing is worth one. New draws at most hourly."""
    old, new = _states(before["guardrails"]), _states(body.guardrails)
    is_exempt = _acting(old) != _acting(new)
    may_draw = may_move and may_draw_anew(last, version.published_at_us)
    allowed = version if is_exempt or may_draw else version.unmoved(last)
    if old != new:
        return replace(allowed, cause=Cause.GUARDRAIL)
    if tripped(before.get("breakers") or ()) != tripped(body.breakers):
        return replace(allowed, cause=Cause.BREAKER)
    if may_move and _steps(before.get("ramps") or ()) != _steps(body.ramps):
        return replace(allowed, cause=Cause.RAMP)
    has_news = body.held != before["held"] or _drifts(body.drift) != _drifts(before.get("drift"))
    if _reached(before.get("stop")) != _reached(body.stop):
        return replace(allowed, cause=Cause.STOP_RULE)
    if moved(last, allowed, by=MOVED_BY) or has_news:
        return allowed
    if version.published_at_us - last.published_at_us >= DAY_US:
        return replace(allowed, cause=Cause.DAILY)
    return None


def may_draw_anew(last: PolicyVersion, now_us: int) -> bool:
    """Whether the last version's draws, if it has any, are an hour old."""
    return last.contextual is None or now_us - last.published_at_us >= HOUR_US


def may_move(*, started_us: int, epoch_began_us: int, now_us: int) -> bool:
    """At most 24 moves a day once the first day is over: an hour from one to the next."""
    return now_us - started_us < DAY_US or now_us - epoch_began_us >= HOUR_US


def _drifts(entry: Mapping[str, Any] | None) -> bool:
    return entry is not None and entry["state"] == DriftState.DRIFTING


def _states(entries: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str], str]:
    known = {(e["metric"], e["variant"]): e["state"] for e in entries}
    # Becoming computable is no change anybody acts on.
    return {place: state for place, state in known.items() if state not in _QUIET}


def _reached(stop: Mapping[str, Any] | None) -> tuple[list[str], str | None]:
    """What people act on of a stop rule: figures that are known at last change nothing."""
    return ([], None) if stop is None else (stop["reached"], stop["promote"])


def tripped(entries: Sequence[Mapping[str, Any]]) -> set[str]:
    """The breakers that are tripped."""
    return {entry["breaker"] for entry in entries if entry["state"] == "tripped"}


def _steps(entries: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """The steps of variants that ramp; who does not may come and go."""
    return {entry["variant"]: entry["step"] for entry in entries if entry["step"] is not None}


def _acting(states: Mapping[tuple[str, str], str]) -> dict[tuple[str, str], str]:
    """The states that change shares: a warning does not."""
    return {place: state for place, state in states.items() if state != GuardrailState.WARN.value}


_QUIET = (GuardrailState.UNKNOWN.value, GuardrailState.OK.value)

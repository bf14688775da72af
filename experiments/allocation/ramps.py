"""Ramps: a new variant's share is capped step by step, 1 -> 5 -> 25 -> 50 %, while its guardrails hold.

A variant added to a running experiment begins at the first step (with `from_start` those it starts with,
too); without `policy.ramp` nothing is capped. It goes one step on when the step has lasted `every`, the
variant got `units` units in it, and none of its guardrails is at warn or worse; after the last step there
is no cap. A throttle or a kill sends it back to the first step, also after its last one: who was harmful
once grows slowly again. A variant that never ramped is not begun with by a throttle.

A guardrail that cannot be computed yet holds nothing up, since there may be nothing to compute for as long
as the window is open: let `every` be at least the attribution window where it should have been seen.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from experiments.analysis.guardrails import GuardrailState, worst_state
from experiments.fold import micros
from experiments.model import Experiment, Ramp
from experiments.statistics import Cell


@dataclass(frozen=True, slots=True)
class Growth:
    """Where a variant is: `step` counts from 0, None where it never ramps; `units` it had as that began."""

    variant: str
    step: int | None
    since_us: int
    units: int

    def to_json(self, settings: Ramp | None) -> dict[str, Any]:
        """Plain values for the version's row, with the cap they mean."""
        values = {"variant": self.variant, "step": self.step, "since_us": self.since_us, "units": self.units}
        return values | {"cap": cap_of(self, settings)}


def growth_of(plain: Mapping[str, Any]) -> Growth:
    """What `to_json` wrote."""
    return Growth(plain["variant"], plain["step"], plain["since_us"], plain["units"])


def cap_of(growth: Growth, settings: Ramp | None) -> float | None:
    """The cap of the variant's step; None where there is none.

    >>> cap_of(Growth("socks", 1, 0, 0), Ramp(steps=(0.01, 0.05)))
    0.05
    """
    if settings is None or growth.step is None or growth.step >= len(settings.steps):
        return None
    return settings.steps[growth.step]


def grown(
    experiment: Experiment,
    cells: Sequence[Cell],
    active: Collection[str],
    before: Sequence[Growth] | None,
    guardrails: Sequence[Mapping[str, Any]],
    *,
    now_us: int,
    is_start: bool = False,
) -> list[Growth]:
    """The next state of every treatment, in the document's order.

    `before` are those of the last version (None: it is older than ramps, and nothing in it ramps),
    `guardrails` the entries of this one.
    """
    assigned: dict[str, int] = {}
    for cell in cells:
        key = cell.key.variant
        assigned[key] = assigned.get(key, 0) + cell.moments.sum("assigned")
    known = {growth.variant: growth for growth in before or ()}
    found: list[Growth] = []
    for variant in experiment.variants:
        if variant.is_control:
            continue
        here = Growth(variant.key, None, now_us, assigned.get(variant.key, 0))
        growth = known.get(variant.key)
        if growth is None:
            found.append(replace(here, step=_first_step(experiment.policy.ramp, before, is_start=is_start)))
        elif variant.key not in active or growth.step is None or experiment.policy.ramp is None:
            found.append(growth)
        else:
            states = {e["metric"]: e["state"] for e in guardrails if e["variant"] == variant.key}
            found.append(_next(growth, here, experiment.policy.ramp, states))
    return found


def caps_of(
    states: Sequence[Growth], settings: Ramp | None, throttled: Mapping[str, float]
) -> dict[str, float]:
    """The caps of the guardrails and those of the ramps together: the lower of the two."""
    caps = dict(throttled)
    for growth in states:
        cap = cap_of(growth, settings)
        if cap is not None:
            caps[growth.variant] = min(cap, caps.get(growth.variant, 1.0))
    return caps


def _first_step(settings: Ramp | None, before: Sequence[Growth] | None, *, is_start: bool) -> int | None:
    if settings is None or (before is None and not is_start):
        return None
    return None if is_start and not settings.from_start else 0


def _next(growth: Growth, here: Growth, settings: Ramp, states: Mapping[str, str]) -> Growth:
    worst = worst_state({metric: GuardrailState(state) for metric, state in states.items()})
    if worst in (GuardrailState.THROTTLE, GuardrailState.KILL):
        return growth if growth.step == 0 else replace(here, step=0)
    step = growth.step
    if step is None or step >= len(settings.steps) or worst is GuardrailState.WARN:
        return growth
    lasted = here.since_us - growth.since_us >= micros(settings.every)
    if lasted and here.units - growth.units >= settings.units:
        return replace(here, step=step + 1)
    return growth

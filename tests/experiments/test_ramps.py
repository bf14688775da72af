"""Ramps by hand: one step at a time, held by a warning, back to the first after a throttle."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from experiments.allocation.caps import WHOLE, renormalised
from experiments.allocation.ramps import Growth, cap_of, caps_of, grown, growth_of
from experiments.model import PolicyKind, PolicySettings, Ramp
from tests.experiments.cells import cell_of, experiment_of

RAMP = Ramp(steps=(0.01, 0.05, 0.25), every=timedelta(days=1), units=100)
DAY_US = 86_400_000_000
KEYS = ("none", "socks", "cap")
SOCKS_NEVER = Growth("socks", None, 0, 0)


def experiment(ramp: Ramp | None = RAMP) -> Any:
    return experiment_of("socks", "cap", settings=PolicySettings(PolicyKind.THOMPSON, ramp=ramp))


def step(
    before: Any, *, days: float, units: int = 0, state: str = "ok", ramp: Ramp | None = RAMP, **more: Any
) -> dict[str, Growth]:
    cells = [cell_of("cap", n=units, candidates=KEYS)] if units else []
    entries = [
        {"metric": "m", "variant": "cap", "state": state},
        {"metric": "m", "variant": "socks", "state": "kill"},
    ]
    found = grown(
        experiment(ramp),
        cells,
        more.pop("active", KEYS),
        before,
        entries,
        now_us=round(days * DAY_US),
        **more,
    )
    assert [growth.variant for growth in found] == ["socks", "cap"]
    return {growth.variant: growth for growth in found}


def test_those_it_starts_with_never_ramp_unless_it_is_said():
    assert {g.step for g in step(None, days=0, is_start=True).values()} == {None}
    first = step(None, days=0, is_start=True, ramp=replace(RAMP, from_start=True))
    assert {g.step for g in first.values()} == {0}
    assert {g.step for g in step(None, days=0, is_start=True, ramp=None).values()} == {None}


def test_of_a_version_older_than_ramps_nobody_ramps():
    assert {g.step for g in step(None, days=9).values()} == {None}


def test_a_variant_added_later_takes_every_step_when_its_time_and_units_are_there():
    added = step([SOCKS_NEVER], days=1, units=7)["cap"]
    assert added == Growth("cap", 0, DAY_US, 7)
    early = step([SOCKS_NEVER, added], days=1.9, units=500)["cap"]
    few = step([SOCKS_NEVER, added], days=2, units=106)["cap"]
    assert early == few == added
    second = step([SOCKS_NEVER, added], days=2, units=107)["cap"]
    assert second == Growth("cap", 1, 2 * DAY_US, 107)
    third = step([SOCKS_NEVER, second], days=3, units=300)["cap"]
    last = step([SOCKS_NEVER, third], days=4, units=600)["cap"]
    assert (third.step, last.step) == (2, 3)
    assert [cap_of(g, RAMP) for g in (added, second, third, last)] == [0.01, 0.05, 0.25, None]
    assert step([SOCKS_NEVER, last], days=9, units=900)["cap"] == last


def test_a_warning_holds_a_throttle_sends_back_and_what_is_unknown_does_neither():
    at_second = [SOCKS_NEVER, Growth("cap", 1, 0, 0)]
    assert step(at_second, days=2, units=200, state="unknown")["cap"].step == 2
    assert step(at_second, days=2, units=200, state="warn")["cap"] == at_second[1]
    for state in ("throttle", "kill"):
        assert step(at_second, days=2, units=200, state=state)["cap"] == Growth("cap", 0, 2 * DAY_US, 200)
    at_end = [SOCKS_NEVER, Growth("cap", 3, 0, 0)]
    assert step(at_end, days=2, units=200, state="throttle")["cap"].step == 0
    back = [SOCKS_NEVER, Growth("cap", 0, DAY_US, 50)]
    assert step(back, days=2, units=200, state="throttle")["cap"] == back[1]  # its first day goes on


def test_who_never_ramped_is_not_begun_with_and_who_is_not_shown_stands_still():
    assert step([SOCKS_NEVER, Growth("cap", 0, 0, 0)], days=9, units=500)["socks"] == SOCKS_NEVER
    killed = [SOCKS_NEVER, Growth("cap", 1, 0, 0)]
    assert step(killed, days=9, units=500, active=("none", "socks"))["cap"] == killed[1]
    assert step(killed, days=9, units=500, ramp=None)["cap"] == killed[1]
    assert cap_of(killed[1], None) is None


def test_a_shorter_ramp_lets_go_of_who_is_past_its_end():
    assert cap_of(Growth("cap", 2, 0, 0), Ramp(steps=(0.1, 0.2))) is None


def test_who_never_ramped_or_is_past_the_end_has_the_guardrails_cap_alone():
    states = [SOCKS_NEVER, Growth("cap", 3, 0, 0)]
    assert caps_of(states, RAMP, {}) == {}
    assert caps_of(states, RAMP, {"cap": 0.02}) == {"cap": 0.02}


def test_the_lower_cap_counts():
    states = [Growth("socks", 0, 0, 0), Growth("cap", 2, 0, 0)]
    assert caps_of(states, RAMP, {"cap": 0.02}) == {"socks": 0.01, "cap": 0.02}
    assert caps_of(states, RAMP, {"socks": 0.02}) == {"socks": 0.01, "cap": 0.25}


def test_a_ramp_is_kept_as_json():
    growth = Growth("cap", 1, 5, 6)
    plain = json.loads(json.dumps(growth.to_json(RAMP)))
    assert plain["cap"] == 0.05
    assert growth_of(plain) == growth


@pytest.mark.parametrize("candidates", [("none", "cap"), KEYS])
def test_a_ramps_cap_is_absolute_whatever_the_subset(candidates: tuple[str, ...]):
    """Renormalised to {none, cap}, 0.04 of 0.14 would be 0.29: the cap keeps it at 0.05."""
    shares = {"none": round(0.1 * WHOLE), "socks": round(0.86 * WHOLE)}
    shares["cap"] = WHOLE - sum(shares.values())
    caps = caps_of([Growth("cap", 1, 0, 0)], RAMP, {})
    found = renormalised(shares, candidates, control="none", capped=caps)
    assert found["cap"] <= 0.05 * WHOLE
    assert sum(found.values()) == WHOLE

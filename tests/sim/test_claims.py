"""The claims of the named scenarios: in short here, in full by `make scenarios`."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner

from experiments.model import PolicyKind
from sim.claims.checks import CHECKS, findings
from sim.claims.command import claims_command
from sim.claims.finding import above, mostly, seldom
from sim.claims.page import page_of
from sim.runner.executors import Serial
from sim.runner.run import run
from sim.runner.settings import RunSettings
from sim.worlds.scenario import Scenario
from sim.worlds.scenarios import NAMES, scenario

DOCS = Path(__file__).parents[2] / "docs"
SEED, REPLICATIONS = 11, 2
LONG = {"cold_start_100_arms": 14, "whole_year": 91}
"""Of these a single run, and a look at the verdict after so many days."""


def test_every_scenario_has_a_check() -> None:
    assert set(CHECKS) == set(NAMES)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_claim_holds(name: str) -> None:
    """With so few runs half of them must do what most of them would, and none what few would."""
    replications = 1 if name in LONG else REPLICATIONS
    settings = RunSettings(scenario(name), SEED, replications, look_every=timedelta(days=LONG.get(name, 7)))
    found = findings(run(settings, Serial()))
    for part in found:
        assert part.held, part
        assert part.found >= 0.5 or part.limit.startswith("at most"), part
        assert part.found == 0.0 or not part.limit.startswith("at most"), part


def harmless(found: Scenario) -> Scenario:
    """The upsell without pressure and regret."""
    effects = tuple(
        replace(e, reaction=replace(e.reaction, pressure=0.0, regret=0.0)) if e.variant == "pro-shoe" else e
        for e in found.world.effects
    )
    return replace(found, world=replace(found.world, effects=effects))


def by_revenue(found: Scenario) -> Scenario:
    policy = replace(found.experiment.policy, objective="revenue_per_unit")
    return replace(found, experiment=replace(found.experiment, policy=policy, guardrails=()))


def pooled(found: Scenario) -> Scenario:
    policy = replace(found.experiment.policy, kind=PolicyKind.THOMPSON)
    return replace(found, experiment=replace(found.experiment, policy=policy))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "without"), [("toxic_upsell", harmless), ("revenue_trap", by_revenue), ("segment_flip", pooled)]
)
def test_a_claim_can_be_refuted(name: str, without) -> None:  # type: ignore[no-untyped-def]
    """Take away what the claim rests on, and it is not held."""
    found = findings(run(RunSettings(without(scenario(name)), SEED, 3), Serial()))
    assert not all(part.held for part in found), found


def test_parts_allow_for_chance_and_no_more() -> None:
    assert mostly("x", [True] * 27 + [False] * 3, 0.9).held
    assert mostly("x", [True] * 24 + [False] * 6, 0.9).held
    assert not mostly("x", [True] * 20 + [False] * 10, 0.9).held
    assert seldom("x", [False] * 58 + [True] * 2, 0.01).held
    assert not seldom("x", [False] * 54 + [True] * 6, 0.01).held
    assert not seldom("x", [False] * 59 + [True], 0.0).held
    assert above("x", [1.0, 1.1, 0.9, 1.0]).held
    assert not above("x", [1.0, -1.1, 0.9, 1.0]).held


def test_the_page_of_claims_is_what_was_found() -> None:
    """Every scenario with the text it has now and the figures of the JSON, and every part is held."""
    page, found = (
        (DOCS / "scenarios.md").read_text(encoding="utf-8"),
        json.loads((DOCS / "scenarios.json").read_text()),
    )
    assert list(found["scenarios"]) == sorted(NAMES)
    for name, one in found["scenarios"].items():
        assert f"## {name}: {scenario(name).title}" in page
        assert scenario(name).claim in page
        assert f"{one['replications']} runs of {one['days']} days, seed {one['seed']}" in page
        assert one["replications"] >= (10 if name in LONG else 30)
        for part in one["findings"]:
            assert part["held"]
            assert f"| {part['said']} | {part['found']:,.3g} | {part['limit']} | held |" in page


def test_the_command_refuses_a_name_it_does_not_know() -> None:
    found = CliRunner().invoke(claims_command, ["nowhere"])
    assert found.exit_code == 2
    assert "healthy" in found.output
    assert page_of([]).startswith("# The named scenarios")

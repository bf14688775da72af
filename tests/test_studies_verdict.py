"""Short versions of the studies of verdicts and of intervals, each beside a planted bug that must fail it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from experiments.model import VerdictSettings
from sim.calibration import intervals as coverage_study
from sim.calibration import verdicts as verdict_study
from sim.calibration.checkout import experiment
from sim.calibration.intervals import DESIGNS, Row, coverage
from sim.calibration.part import State, band
from sim.calibration.verdicts import WORLDS, verdicts
from sim.calibration.verdicts import Row as VerdictRow

RUNS = 30
FEW = 200


@pytest.mark.parametrize("name", ["toxic", "healthy"])
def test_what_is_planted_is_found(name: str) -> None:
    world = WORLDS[name]
    assert verdicts(name, runs=RUNS, seed=7).share >= world.at_least
    blind = experiment(list(world.treatments), guardrails=())
    unguarded = verdicts(name, blind, runs=RUNS, seed=7)
    # Without guardrails nothing is toxic, and the healthy offer stays healthy.
    assert (unguarded.share >= world.at_least) == (name == "healthy")


def test_where_nothing_happens_nothing_is_found() -> None:
    """At most 5 % in truth: of 40 runs at most 6 (P of more is 0.003); a threshold too bold has more."""
    name = "no effect, 2 treatments"
    assert verdicts(name, runs=40, seed=8).share <= 6 / 40
    document = experiment(list(WORLDS[name].treatments))
    bold = replace(document, verdict=VerdictSettings(tail=0.5, promising=0.5))
    assert verdicts(name, bold, runs=40, seed=8).share > 6 / 40


@pytest.mark.parametrize("name", ["margin, 97 % zeros", "segments, shares of their own"])
def test_intervals_hold_the_truth(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    low, high = band(FEW)
    rows = coverage(name, DESIGNS[name], runs=FEW, seed=3)
    assert all(low <= row.lift <= high for row in rows)
    if DESIGNS[name].by == "segment":
        monkeypatch.setattr(coverage_study, "by_segment", list)  # the bug: the arms' own mixes are compared
        assert all(row.lift < low for row in coverage(name, DESIGNS[name], runs=FEW, seed=3))


def test_what_is_promised_is_told_and_judged() -> None:
    found = {name: [VerdictRow(name, {"healthy": 1_900, "promising": 100})] for name in WORLDS}
    table = verdict_study.text(found)
    assert "| healthy | `healthy` at least 90% | 95.0% | 0 | 0 | 1900 | 0 | 100 | 0 |" in table
    states = [promise.state for promise in verdict_study.promises(found)]
    assert states == [State.MISSED, State.HELD, *[State.MISSED] * 4]
    rows = {
        name: [Row(name, "aov", 1_000, 2_000, None if design.by == "set" else 0.95, 0.93, design.is_gated)]
        for name, design in DESIGNS.items()
    }
    table = coverage_study.text(rows)
    assert "| a proportion * | aov | 1,000 | 0.950 | 0.930 |" in table
    assert "| candidate sets * | aov | 1,000 | – | 0.930 |" in table
    promised = coverage_study.promises(rows)
    assert [promise.found for promise in promised[-2:]] == ["0.930 to 0.950", "0.930"]
    assert {promise.state for promise in promised} == {State.MISSED}
    assert len(promised) == sum(design.is_gated for design in DESIGNS.values())

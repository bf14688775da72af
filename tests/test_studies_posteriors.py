"""The study of each posterior in short: truths lie where they should, and a fault of one is seen."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sim.calibration import posteriors as study
from sim.calibration.levels import Row, World, measured
from sim.calibration.part import State
from sim.calibration.posteriors import PART, WORLDS, is_seen, promises, text

RUNS = {
    "hurdle, 60 units": 1_000,
    "hurdle, 200 units": 1_000,
    "logistic": 500,
    "ratios": 300,
    "discounted rate, a random walk": 250,
    "discounted rate, a trend": 250,
    "discounted margin, a random walk": 200,
    "late orders, 10 % buy": 80,
    "refunds to come, margin": 60,
}


@pytest.mark.parametrize("name", RUNS)
def test_truths_lie_where_they_should_and_a_fault_of_one_is_seen(name: str) -> None:
    rows = measured(name, WORLDS[name], runs=RUNS[name], seed=5)
    told = promises({name: rows})
    assert {promise.state for promise in told} == {State.HELD}, told
    assert told[-1].what == f"a planted off-by-one is seen: {name}"


def row(**more: object) -> Row:
    plain = Row(
        "late orders, 10 % buy", "the offer", 2_000, 0.95, 0.95, 20.0, 0.95, 20.0, is_generative=False
    )
    return replace(plain, **more)  # type: ignore[arg-type]


def test_what_counts_as_seen() -> None:
    """2,000 runs: 0.9345 to 0.9645 are 95 %; levels tell only where they are uniform without the fault."""
    assert not is_seen(row())
    assert is_seen(row(planted_coverage=0.93))
    assert is_seen(row(planted_chi_square=50.0))
    assert not is_seen(row(planted_chi_square=50.0, chi_square=50.0))
    assert not is_seen(row(planted_chi_square=50.0, runs=99))
    assert not is_seen(row(planted_coverage=0.93, is_generative=True))


def test_promises_are_judged_and_what_is_not_promised_is_told() -> None:
    """Coverage 0.93 of 2,000 is missed, chi-square 50 too; a row without one due is published."""
    late, hurdle = "late orders, 10 % buy", "hurdle, 60 units"
    rows = {
        hurdle: [
            row(world=hurdle, chi_square=50.0, planted_chi_square=90.0, is_generative=True),
            row(world=hurdle, quantity="other", expected=None, chi_square=99.0, is_generative=True),
        ],
        late: [row(coverage=0.93)],
    }
    told = promises(rows)
    assert [promise.state for promise in told] == [State.MISSED, State.UNSURE, State.MISSED, State.UNSURE]
    assert told[0].found == "chi-square at most 50.0"
    few = promises({hurdle: [row(world=hurdle, runs=50, is_generative=True)]})
    assert few[0].state is State.UNSURE
    table = text(rows).splitlines()
    assert "| hurdle, 60 units | other | 2,000 | – | 0.950 | 99.0 | 0.950 | 20.0 |" in table
    assert "| late orders, 10 % buy | the offer | 2,000 | 0.950 | 0.930 | 20.0 | 0.950 | 20.0 |" in table
    assert "- every cohort taken for one day younger: late orders, 10 % buy" in table
    assert study.chart(rows).count("<polygon") >= 3


def test_levels_are_counted_as_they_are() -> None:
    """Levels alternate between 0.01 and 0.5: half of the intervals hold; all in two of 20 bins."""
    left = [0.01, 0.5] * 4

    def simulate(rng: np.random.Generator, is_planted: bool) -> dict[str, float]:
        return {"it": 0.5 if is_planted else left.pop()}

    (found,) = measured("made up", World(simulate, "none", {"it": 0.95}), runs=8, seed=1)
    assert (found.coverage, found.planted_coverage) == (0.5, 1.0)
    assert found.chi_square == pytest.approx(2 * (4 - 0.4) ** 2 / 0.4 + 18 * 0.4)
    assert set(PART.worlds) == set(WORLDS)

"""Short versions of the studies of verdicts and of intervals, each beside a planted bug that must fail it."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.studies.blocks import marks, write_block
from experiments.model import VerdictSettings
from sim.calibration import intervals as coverage_study
from sim.calibration import verdicts as verdict_study
from sim.calibration.checkout import experiment
from sim.calibration.intervals import DESIGNS, Row, coverage, limits
from sim.calibration.verdicts import WORLDS, counts_of, share_of

RUNS = 30
FEW = 200


@pytest.mark.parametrize("name", ["toxic", "healthy"])
def test_what_is_planted_is_found(name: str) -> None:
    world = WORLDS[name]
    assert share_of(world, counts_of(world, runs=RUNS, seed=7)) >= world.at_least
    blind = experiment(list(world.treatments), guardrails=())
    unguarded = counts_of(world, blind, runs=RUNS, seed=7)
    # Without guardrails nothing is toxic, and the healthy offer stays healthy.
    assert (share_of(world, unguarded) >= world.at_least) == (name == "healthy")


def test_where_nothing_happens_nothing_is_found() -> None:
    """At most 5 % in truth: of 40 runs at most 6 (P of more is 0.003); a threshold too bold has more."""
    world = WORLDS["no effect, 2 treatments"]
    counts = counts_of(world, runs=40, seed=8)
    assert share_of(world, counts) <= 6 / 40
    bold = replace(experiment(list(world.treatments)), verdict=VerdictSettings(tail=0.5, promising=0.5))
    assert share_of(world, counts_of(world, bold, runs=40, seed=8)) > 6 / 40


@pytest.mark.parametrize("name", ["margin, 97 % zeros", "segments, shares of their own"])
def test_intervals_hold_the_truth(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    low, high = limits(FEW)
    rows = coverage(name, DESIGNS[name], runs=FEW, seed=3)
    assert all(low <= row.lift <= high for row in rows)
    if DESIGNS[name].by == "segment":
        monkeypatch.setattr(coverage_study, "by_segment", list)  # the bug: the arms' own mixes are compared
        assert all(row.lift < low for row in coverage(name, DESIGNS[name], runs=FEW, seed=3))


def test_the_studies_write_their_parts_of_the_page(tmp_path: Path) -> None:
    page = tmp_path / "calibration.md"
    both = "".join("{}\nstale\n{}\n".format(*marks(name)) for name in ("verdicts", "intervals"))
    page.write_text(f"before\n{both}after\n", "utf-8")
    found = {name: Counter({"healthy": 1, "promising": 1}) for name in WORLDS}
    write_block(page, "verdicts", verdict_study.written(found, 2, 1))
    rows = [Row(name, "aov", 1_000, 2, 0.5, 0.5, design.is_gated) for name, design in DESIGNS.items()]
    write_block(page, "intervals", coverage_study.written(rows, 2, 1))
    text = page.read_text("utf-8")
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "stale" not in text
    assert "| healthy | healthy at least 90% | 50.0% | 0 | 0 | 1 | 0 | 1 | 0 |" in text
    assert "| a proportion * | aov | 1,000 | 0.500 | 0.500 |" in text
    assert "| candidate sets * | aov | 1,000 | – | 0.500 |" in text


def test_the_committed_page_has_the_studies_results() -> None:
    text = verdict_study.PAGE.read_text("utf-8")
    for name, world in WORLDS.items():
        (row,) = [line.split("|") for line in text.splitlines() if line.startswith(f"| {name} |")]
        assert world.at_least <= float(row[3].strip().rstrip("%")) / 100 <= world.at_most
    low, high = limits(2_000)
    gated = [line.split("|")[1:-1] for line in text.splitlines() if line.startswith("| ") and " * |" in line]
    figures = [float(cell) for row in gated for cell in row[3:] if cell.strip() != "–"]
    assert len(figures) > 20
    assert all(low <= figure <= high for figure in figures)

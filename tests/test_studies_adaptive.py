"""The study of adaptive data in short: AIPW holds the lift, and forgotten weights would be seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from scipy import stats

from benchmarks.studies.blocks import marks
from experiments.analysis.metrics import metric_definitions
from experiments.statistics import Cell
from sim.calibration import adaptive as study

RUNS, EPOCHS, PER_EPOCH = 80, 30, 500
LOW, HIGH = stats.binom(RUNS, 0.95).ppf([0.0005, 0.9995]) / RUNS


def rows(world: str) -> dict[str, study.Row]:
    found = study.cover(world, study.worlds(EPOCHS)[world], runs=RUNS, seed=4, per_epoch=PER_EPOCH)
    return {row.method: row for row in found}


def test_where_nothing_drifts_the_corrected_intervals_hold_what_they_say() -> None:
    found = rows("nothing differs")
    assert LOW <= found["stratified"].coverage <= HIGH
    assert LOW <= found["AIPW"].coverage <= HIGH


@pytest.mark.parametrize("world", ["rates rise from 5 to 15 %", "by context"])
def test_aipw_holds_where_the_naive_lift_does_not(world: str) -> None:
    found = rows(world)
    assert LOW <= found["AIPW"].coverage <= HIGH
    assert found["naive"].coverage < 0.5
    assert not found["naive"].is_right


def test_forgotten_weights_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted: every unit counts alike, whatever its propensity was."""

    def forgotten(
        cells: Sequence[Cell], served: Sequence[Mapping[str, float]], *, has_contexts: bool
    ) -> study.Ways:
        even = [dict.fromkeys(study.KEYS, 1 / 3) for _ in range(EPOCHS)]
        table = study.tabulate(cells, metric_definitions(study.EXPERIMENT)["conversion_rate"])
        inverse = study.by_shares(table, {(7, epoch): shares for epoch, shares in enumerate(even)})
        return {"AIPW": lambda key: study.pair_by_aipw(table, inverse, key, study.CONTROL)}

    monkeypatch.setattr(study, "ways", forgotten)
    for world in ("rates rise from 5 to 15 %", "by context"):
        assert rows(world)["AIPW"].coverage < LOW


def test_the_study_writes_its_part_of_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    worlds = {
        name: world for name, world in study.worlds(4).items() if name in ("nothing differs", "by context")
    }
    monkeypatch.setattr(study, "worlds", lambda: worlds)
    first, last = marks(study.BLOCK)
    page = tmp_path / "calibration.md"
    page.write_text(f"before\n{first}\nold\n{last}\nafter\n", "utf-8")
    study.adaptive(runs=4, seed=1, page=page)
    text = page.read_text("utf-8")
    assert text.startswith(
        f"before\n{first}\nWritten by `make studies`, seed 1: 4 runs of each world, by context 1."
    )
    assert text.endswith(f"{last}\nafter\n")
    assert len([line for line in text.splitlines() if line.startswith(("| nothing", "| by context"))]) == 6
    committed = study.PAGE.read_text("utf-8")
    assert [committed.count(mark) for mark in (first, last)] == [1, 1]

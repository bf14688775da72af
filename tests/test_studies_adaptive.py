"""The study of adaptive data in short: AIPW holds the lift, and forgotten weights would be seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest
from scipy import stats

from experiments.analysis.metrics import metric_definitions
from experiments.statistics import Cell
from sim.calibration import adaptive as study
from sim.calibration.part import State

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


def test_promises_are_of_what_corrects_and_the_naive_lift_must_fail() -> None:
    def row(world: str, method: str, coverage: float) -> study.Row:
        return study.Row(world, method, 2_000, coverage, 0.0, 1.0, 0.02)

    found = {
        world: [row(world, "stratified", 0.90), row(world, "AIPW", 0.95), row(world, "naive", 0.94)]
        for world in ("nothing differs", study.RISING, study.BY_CONTEXT)
    }
    states = {promise.what: promise.state for promise in study.promises(found)}
    assert [state for what, state in states.items() if "stratified" in what] == [State.MISSED] * 2
    assert [state for what, state in states.items() if "AIPW" in what] == [State.HELD] * 3
    assert [state for what, state in states.items() if "naive" in what] == [State.MISSED]
    assert study.text(found).count("*off* |") == 3

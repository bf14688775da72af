"""The simulator's cells, kept up to date in arrays, are those that folding every unit's events gives."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from experiments.ages import age_bin
from experiments.facts import Enrolment
from experiments.fold import DAY_US, FoldRules, fold_unit, micros
from experiments.histogram import bin_of
from experiments.model import Anchor, DelayHandling, Experiment, PolicyKind, PolicySettings, Winsorise
from experiments.statistics import Cell, CellKey
from sim.runner.binning import age_bins, bins_of
from sim.runner.ledger import Batch, Group, SimulatedLedger
from sim.worlds.customers import Customers, draw_customers
from sim.worlds.outcomes import Outcomes, outcomes
from tests.sim.test_worlds_events import facts_of, timeline_of
from tests.sim.worlds import WORLD

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
KEYS = tuple(effect.variant for effect in WORLD.effects)
BOTH = frozenset(KEYS)
MIDNIGHT = datetime.combine(WORLD.start, datetime.min.time(), tzinfo=UTC)
N = 400
POLICY = PolicySettings(PolicyKind.THOMPSON, delay=DelayHandling.MODEL)
PLAIN = Experiment("k", "checkout", WORLD.currency, (), winsorise=None)
DELAYS = replace(PLAIN, policy=POLICY)
EXPOSED = replace(DELAYS, anchor=Anchor.EXPOSURE)


def day_of(day: int) -> tuple[Customers, Outcomes, np.ndarray]:
    rng = np.random.default_rng([3, day])
    drawn = draw_customers(WORLD, day, N, rng=rng)
    arm = rng.integers(0, len(KEYS), N)
    return drawn, outcomes(WORLD, drawn, arm), arm


def folded(experiment: Experiment, days: int, now: datetime, caps: dict[str, tuple[int, int]]) -> list[Cell]:
    """Cells by `fold_unit`, one customer after the other, from the events that have happened by now."""
    rules = FoldRules(experiment, "UTC", caps)
    cells: dict[CellKey, Cell] = {}
    for day in range(days):
        customers, happened, arm = day_of(day)
        for i in range(N):
            at = MIDNIGHT + timedelta(days=day, microseconds=int(customers.arrival_us[i]))
            if at > now:
                continue
            shifted = shift(timeline_of(WORLD, customers, happened, i), at)
            facts = facts_of(WORLD, [event for when, event in shifted if when <= now])
            enrolment = Enrolment(1, 0, micros(at - EPOCH), KEYS[arm[i]], "", 7, day)
            (found,) = fold_unit(rules, replace(facts, enrolments=[enrolment]))
            cell = cells.setdefault(found.key, Cell(found.key, BOTH))
            cell.add_unit(found.vector, found.bins)
    return list(cells.values())


def shift(timeline: list, at: datetime) -> list:
    """`timeline_of` begins at a fixed instant; these begin when the customer arrived."""
    from tests.sim.test_worlds_events import AT

    moved = []
    for when, event in timeline:
        happened = datetime.fromisoformat(event["occurred_at"]) - AT + at
        moved.append((when - AT + at, {**event, "occurred_at": happened.isoformat()}))
    return moved


def simulated(
    experiment: Experiment, days: int, looks: list[datetime], *, fixes: bool = False
) -> SimulatedLedger:
    ledger = SimulatedLedger(experiment)
    for day in range(days):
        customers, happened, arm = day_of(day)
        order = np.argsort(customers.arrival_us, kind="stable")
        assert len(order) == N
        midnight_us = micros(MIDNIGHT - EPOCH) + day * DAY_US
        batch = Batch(WORLD.start + timedelta(days=day), day, midnight_us, customers, happened, arm)
        ledger.enter(batch, [Group(key, "", 7, BOTH) for key in KEYS])
    for now in looks:
        ledger.advance(micros(now - EPOCH))
        if fixes:
            ledger.fix_caps(now)
    return ledger


@pytest.mark.parametrize("experiment", [PLAIN, DELAYS, EXPOSED], ids=["plain", "delays", "exposure"])
@pytest.mark.parametrize(
    "after", [timedelta(hours=7), timedelta(days=1), timedelta(days=4), timedelta(days=200)]
)
def test_cells_are_those_of_the_fold_however_often_they_were_looked_at(
    experiment: Experiment, after: timedelta
) -> None:
    now = MIDNIGHT + after
    looks = [MIDNIGHT + after * part for part in (0.1, 0.35, 0.36, 0.9)]
    ledger = simulated(experiment, 2, [*looks, now])
    expected = {cell.key: cell for cell in folded(experiment, 2, now, {}) if cell.moments}
    found = {cell.key: cell for cell in ledger.cells if cell.moments}
    assert found.keys() == expected.keys()
    for key, cell in expected.items():
        assert found[key].moments == cell.moments
        assert found[key].histograms == cell.histograms


def test_caps_are_fixed_once_and_fold_everybody_again() -> None:
    experiment = replace(PLAIN, winsorise=Winsorise(0.05, 0.9), attribution_window=timedelta(hours=6))
    days = 30
    now = MIDNIGHT + timedelta(days=days + 1)
    ledger = simulated(experiment, days, [now, now + timedelta(hours=1)], fixes=True)
    caps = dict(ledger.caps)
    assert caps.keys() >= {"revenue", "margin"}
    expected = {cell.key: cell for cell in folded(experiment, days, now + timedelta(hours=1), caps)}
    for cell in ledger.cells:
        assert cell.moments == expected[cell.key].moments
    assert any(cell.moments.sum("margin_capped") != cell.moments.sum("margin") for cell in ledger.cells), (
        "a cap that cuts nothing proves nothing"
    )


def test_binnings_are_those_of_the_core() -> None:
    rng = np.random.default_rng(4)
    totals = np.concatenate([np.arange(-300, 300), rng.integers(-(10**12), 10**12, 500)])
    assert bins_of(totals).tolist() == [bin_of(int(total)) for total in totals]
    for horizon_us in (13_824, DAY_US, 37 * DAY_US + 1):
        edges = [horizon_us * j**3 // 24**3 + shift for j in range(25) for shift in (0, 1)]
        ages = np.array([age for age in edges if age <= horizon_us])
        assert age_bins(ages, horizon_us).tolist() == [age_bin(int(age), horizon_us) for age in ages]

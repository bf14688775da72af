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
from experiments.model import (
    Anchor,
    DelayHandling,
    Experiment,
    Guardrail,
    PolicyKind,
    PolicySettings,
    Winsorise,
)
from experiments.statistics import Cell, CellKey
from sim.runner import ledger as ledger_module
from sim.runner import replication
from sim.runner.batch import Batch
from sim.runner.binning import age_bins, bins_of
from sim.runner.kept import kept_for
from sim.runner.ledger import Group, SimulatedLedger
from sim.runner.moments import EVERYTHING, Kept
from sim.runner.outcome import Replication
from sim.runner.replication import replicate
from sim.runner.settings import RunSettings
from sim.worlds.customers import Customers, draw_customers
from sim.worlds.outcomes import Outcomes, outcomes
from sim.worlds.scenarios import scenario
from sim.worlds.sending import as_sent
from sim.worlds.world import World
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


def equal(one: Replication, other: Replication) -> bool:
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in Replication.__slots__)


def day_of(day: int) -> tuple[Customers, Outcomes, np.ndarray]:
    rng = np.random.default_rng([3, day])
    drawn = draw_customers(WORLD, day, N, rng=rng)
    arm = rng.integers(0, len(KEYS), N)
    return drawn, outcomes(WORLD, drawn, arm), arm


def folded(
    experiment: Experiment, days: int, now: datetime, caps: dict[str, tuple[int, int]], world: World = WORLD
) -> list[Cell]:
    """Cells by `fold_unit`, one customer after the other, from the events that have happened by now."""
    rules = FoldRules(experiment, "UTC", caps)
    cells: dict[CellKey, Cell] = {}
    for day in range(days):
        customers, happened, arm = day_of(day)
        for i in range(N):
            at = MIDNIGHT + timedelta(days=day, microseconds=int(customers.arrival_us[i]))
            if at > now:
                continue
            shifted = shift(timeline_of(world, customers, happened, i), at)
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
    experiment: Experiment, days: int, looks: list[datetime], *, fixes: bool = False, world: World = WORLD
) -> SimulatedLedger:
    ledger = SimulatedLedger(experiment)
    for day in range(days):
        customers, happened, arm = day_of(day)
        order = np.argsort(customers.arrival_us, kind="stable")
        assert len(order) == N
        midnight_us = micros(MIDNIGHT - EPOCH) + day * DAY_US
        date, sent = WORLD.start + timedelta(days=day), as_sent(world, customers, happened)
        batch = Batch(date, day, midnight_us, customers, happened, sent, arm)
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


@pytest.mark.parametrize("experiment", [DELAYS, EXPOSED], ids=["delays", "exposure"])
@pytest.mark.parametrize("after", [timedelta(hours=20), timedelta(days=2), timedelta(days=9)])
def test_what_is_late_counts_once_it_has_come(experiment: Experiment, after: timedelta) -> None:
    """Half of the events come up to three days late, some carts after word that they were left."""
    world = replace(WORLD, noise=replace(WORLD.noise, late=0.5, late_h_max=72, duplicates=0.1))
    now = MIDNIGHT + after
    looks = [MIDNIGHT + after * part for part in (0.3, 0.6, 1)]
    found = {cell.key: cell for cell in simulated(experiment, 2, looks, world=world).cells if cell.moments}
    expected = {cell.key: cell for cell in folded(experiment, 2, now, {}, world) if cell.moments}
    assert found.keys() == expected.keys()
    for key, cell in expected.items():
        assert found[key].moments == cell.moments
        assert found[key].histograms == cell.histograms
    at_once = {cell.key: cell for cell in simulated(experiment, 2, looks).cells}
    assert any(at_once[key].moments != cell.moments for key, cell in expected.items())


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


@pytest.mark.parametrize(("name", "days"), [("whole_year", 35), ("toxic_upsell", 16), ("late_refunds", 24)])
def test_what_a_run_keeps_is_all_that_it_reads(name: str, days: int, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = scenario(name)
    effects = tuple(replace(one, arrives=min(one.arrives, 14)) for one in whole.world.effects)
    found = replace(whole, world=replace(whole.world, effects=effects), days=days)
    settings = RunSettings(found, seed=2, customers=days * 400, look_every=timedelta(days=12))
    kept = kept_for(found.experiment)
    one = replicate(settings, 0)

    def again(other: Kept) -> Replication:
        def keep(_: Experiment) -> Kept:
            return other

        monkeypatch.setattr(replication, "kept_for", keep)
        return replicate(settings, 0)

    assert equal(one, again(EVERYTHING))
    lacking = tuple(name for name in kept.features if name != "margin_capped")
    pairs = tuple(pair for pair in kept.pairs if "margin_capped" not in pair)
    assert not equal(one, again(Kept(lacking, pairs))), "a run that reads nothing proves nothing"


def test_months_are_kept_where_something_reads_them() -> None:
    repeats = Guardrail("repeat_rate", warn=0.02, throttle=0.05, kill=0.10)
    window_us, happened = micros(PLAIN.attribution_window), day_of(0)[1]
    kept = SimulatedLedger(PLAIN, kept_for(PLAIN)).relevant(happened).repeat_us
    assert 0 < kept.max() < window_us + int(happened.exposed_us.max())
    assert np.count_nonzero(kept >= 0) == np.count_nonzero(
        (happened.repeat_us >= 0) & (happened.repeat_us < window_us + np.maximum(happened.exposed_us, 0))
    )
    watched = replace(PLAIN, guardrails=(repeats,))
    months = SimulatedLedger(watched, kept_for(watched)).relevant(happened).repeat_us
    assert np.array_equal(months, happened.repeat_us)


def test_portions_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = [MIDNIGHT + timedelta(days=day) for day in (1, 9, 40)]
    whole = simulated(DELAYS, 3, looks)
    monkeypatch.setattr(ledger_module, "ROWS_MAX", 100)
    parts = simulated(DELAYS, 3, looks)
    assert [cell.key for cell in parts.cells] == [cell.key for cell in whole.cells]
    assert [cell.moments for cell in parts.cells] == [cell.moments for cell in whole.cells]
    assert [cell.histograms for cell in parts.cells] == [cell.histograms for cell in whole.cells]


def test_binnings_are_those_of_the_core() -> None:
    rng = np.random.default_rng(4)
    totals = np.concatenate([np.arange(-300, 300), rng.integers(-(10**12), 10**12, 500)])
    assert bins_of(totals).tolist() == [bin_of(int(total)) for total in totals]
    for horizon_us in (13_824, DAY_US, 37 * DAY_US + 1):
        edges = [horizon_us * j**3 // 24**3 + shift for j in range(25) for shift in (0, 1)]
        ages = np.array([age for age in edges if age <= horizon_us])
        assert age_bins(ages, horizon_us).tolist() == [age_bin(int(age), horizon_us) for age in ages]

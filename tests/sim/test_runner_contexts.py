"""The policy `contextual` in the simulator: the cells it learns from, and what it earns."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest

from experiments.allocation.features import Columns
from experiments.eligibility import RequestContext
from experiments.facts import Enrolment
from experiments.fold import DAY_US, FoldRules, fold_unit, micros
from experiments.model import Feature, FeatureKind, PolicyKind
from experiments.statistics import Cell, CellKey
from sim.runner.batch import Batch
from sim.runner.contexts import Contexts
from sim.runner.errors import NotSimulated
from sim.runner.kept import kept_for
from sim.runner.ledger import Group, SimulatedLedger
from sim.runner.outcome import Replication
from sim.runner.replication import replicate
from sim.runner.run import refuse
from sim.runner.settings import RunSettings
from sim.worlds.scenario import Scenario
from sim.worlds.scenarios import scenario
from tests.sim.test_runner_ledger import BOTH, EPOCH, KEYS, MIDNIGHT, PLAIN, POLICY, N, day_of, shift
from tests.sim.test_worlds_events import facts_of, timeline_of
from tests.sim.worlds import WORLD

SEGMENTS = tuple(one.key for one in WORLD.segments)
CUSTOMERS = 42 * 800
FEATURE = Feature("segment", FeatureKind.CATEGORY, values=SEGMENTS[:-1])  # the last is "any other"
CONTEXTUAL = replace(PLAIN, policy=replace(POLICY, kind=PolicyKind.CONTEXTUAL, features=(FEATURE,)))
SHARES = [
    [
        (1 << 32) * weight // (sum(range(len(KEYS) + 1)) + len(KEYS) * place)
        for weight in range(1, len(KEYS) + 1)
    ]
    for place in range(len(SEGMENTS))
]
"""A share for each segment and variant, all different."""


def learning(kind: PolicyKind) -> Scenario:
    """The world of `segment_flip` under a policy."""
    found = scenario("segment_flip")
    values = tuple(one.key for one in found.world.segments)
    features = (
        (Feature("segment", FeatureKind.CATEGORY, values=values),) if kind is PolicyKind.CONTEXTUAL else ()
    )
    policy = replace(found.experiment.policy, kind=kind, features=features)
    return replace(found, experiment=replace(found.experiment, policy=policy))


def regret(found: Replication) -> float:
    """The part of what could be had that was given away in the last three weeks."""
    return float(found.regret_minor[-21:].sum() / found.oracle_minor[-21:].sum())


def test_cells_are_those_of_the_fold_with_contexts_and_propensities() -> None:
    kept = kept_for(CONTEXTUAL)
    ledger = SimulatedLedger(CONTEXTUAL, kept)
    names, columns = Contexts(CONTEXTUAL, WORLD).names, Columns((FEATURE,))
    groups = [
        Group(key, "", 7, BOTH, names[place], SHARES[place][arm])
        for place in range(len(SEGMENTS))
        for arm, key in enumerate(KEYS)
    ]
    now = MIDNIGHT + timedelta(days=6)
    rules, expected = FoldRules(CONTEXTUAL, "UTC"), dict[CellKey, Cell]()
    for day in range(2):
        customers, happened, arm = day_of(day)
        midnight_us = micros(MIDNIGHT - EPOCH) + day * DAY_US
        group = customers.segment * len(KEYS) + arm
        ledger.enter(
            Batch(WORLD.start + timedelta(days=day), day, midnight_us, customers, happened, happened, group),
            groups,
        )
        for i in range(N):
            at = MIDNIGHT + timedelta(days=day, microseconds=int(customers.arrival_us[i]))
            events = [
                event for when, event in shift(timeline_of(WORLD, customers, happened, i), at) if when <= now
            ]
            segment = int(customers.segment[i])
            encoded, share = columns.encoded(RequestContext(), SEGMENTS[segment]), SHARES[segment][arm[i]]
            enrolment = Enrolment(1, 0, micros(at - EPOCH), KEYS[arm[i]], "", 7, day, encoded, share)
            (found,) = fold_unit(rules, replace(facts_of(WORLD, events), enrolments=[enrolment]))
            expected.setdefault(found.key, Cell(found.key, BOTH)).add_unit(found.vector, found.bins)
    for look in (MIDNIGHT + timedelta(hours=30), now):
        ledger.advance(micros(look - EPOCH))
    assert {cell.key for cell in ledger.cells} == expected.keys()
    for cell in ledger.cells:
        theirs = expected[cell.key].moments
        assert all(cell.moments.sum(name) == theirs.sum(name) for name in kept.features)
        assert all(cell.moments.product(*pair) == theirs.product(*pair) for pair in kept.pairs)
        assert cell.histograms == expected[cell.key].histograms
    assert any(cell.moments.product("margin_capped/p", "margin_capped/p") > 1 << 64 for cell in ledger.cells)


def test_it_wins_over_thompson_where_segments_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    """Claim: an offer good for some, bad for others: less than half of the regret of `thompson`."""
    plain, contextual = (
        regret(replicate(RunSettings(learning(kind), seed=7, customers=CUSTOMERS), 0))
        for kind in (PolicyKind.THOMPSON, PolicyKind.CONTEXTUAL)
    )
    assert contextual < 0.5 * plain
    # Planted: everybody decided for as if of the first segment
    rows = property(lambda self: [self._columns.row(self._encoded[0])] * len(self._encoded))
    monkeypatch.setattr(Contexts, "rows", rows)
    blind = regret(replicate(RunSettings(learning(PolicyKind.CONTEXTUAL), seed=7, customers=CUSTOMERS), 0))
    assert blind > 0.75 * plain


def test_its_sample_ratio_is_in_order() -> None:
    found = replicate(RunSettings(learning(PolicyKind.CONTEXTUAL), seed=3, customers=42 * 500), 0)
    assert [look.srm for look in found.looks][-1] == "ok"
    assert {look.srm for look in found.looks} <= {"ok", "info"}
    arms = found.by_segment[-14:].sum(axis=0)
    assert np.ptp(arms[1] / arms.sum(axis=0)) > 0.2, "who got the kit does not depend on the segment"


def test_a_context_that_is_not_the_segment_is_refused_by_name() -> None:
    found = learning(PolicyKind.CONTEXTUAL)
    policy = replace(
        found.experiment.policy, features=(Feature("device", FeatureKind.CATEGORY, values=("m",)),)
    )
    with pytest.raises(NotSimulated, match="device"):
        refuse(RunSettings(replace(found, experiment=replace(found.experiment, policy=policy))))

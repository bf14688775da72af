"""The sampled evaluation: equal in law to published shares, and refused where it cannot be."""

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest

from experiments.allocation.sampled import BetaTable
from experiments.model import Breakers, DelayHandling, Experiment, PolicyKind, PolicySettings
from sim.runner import sampled
from sim.runner.errors import NotSimulated
from sim.runner.executors import Processes, Serial
from sim.runner.run import Run, run
from sim.runner.settings import Evaluation, RunSettings
from sim.worlds.scenario import Scenario
from sim.worlds.scenarios import scenario
from tests.statistical import STANDARD_ERRORS

TOXIC = scenario("toxic_upsell")
RUNS = 16


def plain(kind: PolicyKind, objective: str = "margin_per_unit") -> Scenario:
    """Without what only shares can do: guardrails, breakers, caps."""
    policy = PolicySettings(
        kind,
        objective,
        control_share=0.15,
        floor=0.02,
        cadence=timedelta(days=1),
        burn_in=100,
        breakers=Breakers(None, None, None),
    )
    experiment = replace(
        TOXIC.experiment,
        policy=policy,
        guardrails=(),
        winsorise=None,
        attribution_window=timedelta(days=1),
    )
    return replace(TOXIC, experiment=experiment, days=9)


def both(kind: PolicyKind, objective: str, replications: int) -> tuple[Run, Run]:
    settings = RunSettings(
        plain(kind, objective),
        seed=5,
        replications=replications,
        customers=3200,
        look_every=timedelta(days=99),
    )
    by_shares = run(settings, Serial())
    return by_shares, run(replace(settings, evaluation=Evaluation.SAMPLED), Serial())


def last_shares(found: Run) -> np.ndarray:
    """Share of each arm among the customers of the last four days, (runs, arms)."""
    counts = np.array([one.assigned[-4:].sum(axis=0) for one in found.replications], dtype=float)
    return counts / counts.sum(axis=1, keepdims=True)


def errors_apart(one: np.ndarray, other: np.ndarray) -> float:
    """The largest difference of means, in standard errors of paired runs."""
    gap = one - other
    return float(np.max(np.abs(gap.mean(axis=0)) / (gap.std(axis=0, ddof=1) / np.sqrt(len(gap)))))


@pytest.mark.parametrize(
    ("kind", "objective"),
    [
        (PolicyKind.THOMPSON, "margin_per_unit"),
        (PolicyKind.THOMPSON, "cart_abandonment_rate"),
        (PolicyKind.TOP_TWO, "conversion_rate"),
    ],
)
def test_it_is_equal_in_law_to_published_shares(kind: PolicyKind, objective: str) -> None:
    if objective == "cart_abandonment_rate":  # a ratio of counts: only shares
        with pytest.raises(NotSimulated, match="cart_abandonment_rate"):
            both(kind, objective, 2)
        return
    shares, drawn = both(kind, objective, RUNS)
    assert [one.customers.sum() for one in shares.replications] == [
        one.customers.sum() for one in drawn.replications
    ]
    assert errors_apart(last_shares(shares), last_shares(drawn)) < STANDARD_ERRORS
    regret = [np.array([[one.regret_minor.sum()] for one in each.replications]) for each in (shares, drawn)]
    assert errors_apart(*regret) < STANDARD_ERRORS


def test_a_planted_bug_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The posteriors of the arms in another order."""
    shares, _ = both(PolicyKind.THOMPSON, "conversion_rate", RUNS)
    true_table = sampled.beta_table

    def swapped(units: np.ndarray, successes: np.ndarray) -> BetaTable:
        return true_table(np.roll(units, 1, axis=1), np.roll(successes, 1, axis=1))

    monkeypatch.setattr(sampled, "beta_table", swapped)
    _, drawn = both(PolicyKind.THOMPSON, "conversion_rate", RUNS)
    assert errors_apart(last_shares(shares), last_shares(drawn)) > STANDARD_ERRORS


def test_chunks_are_the_same_wherever_they_run() -> None:
    settings = RunSettings(
        plain(PolicyKind.THOMPSON), seed=2, replications=27, customers=300, evaluation=Evaluation.SAMPLED
    )
    here, there = run(settings, Serial()), run(settings, Processes(2))
    assert len(here.replications) == 27
    for one, other in zip(here.replications, there.replications, strict=True):
        assert np.array_equal(one.by_segment, other.by_segment)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"kind": PolicyKind.SEGMENT}, "policy segment"),
        ({"delay": DelayHandling.MODEL}, "delay model"),
        ({"discount_half_life": timedelta(days=3)}, "discounting"),
        ({"objective": "aov"}, "objective aov"),
    ],
)
def test_what_needs_shares_is_refused(change: dict[str, object], told: str) -> None:
    found = plain(PolicyKind.THOMPSON)
    experiment: Experiment = replace(found.experiment, policy=replace(found.experiment.policy, **change))
    settings = RunSettings(replace(found, experiment=experiment), evaluation=Evaluation.SAMPLED)
    with pytest.raises(NotSimulated, match=told):
        run(settings, Serial())

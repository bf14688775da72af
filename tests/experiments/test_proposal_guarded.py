"""Guardrails inside the allocation: what harm does to shares, whatever the objective says."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest

from experiments.allocation.caps import to_integer
from experiments.allocation.guarding import Guarded
from experiments.allocation.proposal import Proposal, holding, propose, replayed
from experiments.allocation.published import Cause, PolicyVersion, SetShares
from experiments.model import Guardrail, PolicyKind, PolicySettings
from experiments.posteriors.compare import prob_best
from experiments.posteriors.normal import StudentT
from experiments.statistics import Cell
from tests.experiments.cells import cell_of, experiment_of

ALL = ("none", "socks", "cap")
NOW = datetime(2026, 4, 1, tzinfo=UTC)
WHOLE = 1 << 32
SETTINGS = PolicySettings(
    kind=PolicyKind.THOMPSON, objective="margin_per_unit", control_share=0.1, floor=0.02, burn_in=100
)
RAILS = (Guardrail("conversion_rate", 0.01, 0.02, 0.04),)
KINDS = (PolicyKind.THOMPSON, PolicyKind.TOP_TWO)


def cells(*, n: int = 20_000, margin: dict[str, int], **rates: float) -> list[Cell]:
    """One cell per variant: the first n x rate units buy, for that margin and every tenth for twice it."""
    made: list[Cell] = []
    for key in ALL:
        bought = (np.arange(n) < round(n * rates.get(key, 0.6))).astype(np.int64)
        worth = bought * margin[key] * (1 + (np.arange(n) % 10 == 0))
        made.append(cell_of(key, n=n, candidates=ALL, epoch=1, converted=bought, orders=bought, margin=worth))
    return made


def proposed(given: list[Cell], kind: PolicyKind, last: PolicyVersion | None = None, **more: Any) -> Proposal:
    policy = replace(SETTINGS, kind=kind)
    experiment = experiment_of("socks", "cap", settings=policy, guardrails=more.pop("rails", RAILS))
    return propose(
        experiment,
        given,
        frozenset(ALL),
        [ALL],
        guarded=Guarded(),
        promoted=None,
        last=last,
        time_zone="UTC",
        now=NOW,
        **more,
    )


def shares(found: Proposal) -> dict[str, float]:
    return {key: share / WHOLE for key, share in found.sets[ALL].shares.items()}


@pytest.mark.parametrize("kind", KINDS)
def test_surely_best_and_surely_toxic_gets_no_more_than_its_floor(kind: PolicyKind):
    """Twice the margin at 30 % fewer orders. P(best and harmless), renormalised, would give it 0.88."""
    given = cells(margin={"none": 1000, "socks": 4000, "cap": 1100}, socks=0.42)
    found = shares(proposed(given, kind))
    assert found["socks"] == pytest.approx(0.02, abs=1e-9)
    assert found["cap"] > 0.4
    unguarded = shares(proposed(given, kind, rails=()))
    assert unguarded["socks"] > 0.4  # it is the guardrail that did it


@pytest.mark.parametrize("kind", KINDS)
def test_with_every_variant_harmful_the_traffic_ends_at_the_control(kind: PolicyKind):
    given = cells(margin={"none": 1000, "socks": 4000, "cap": 3000}, socks=0.42, cap=0.45)
    found = shares(proposed(given, kind))
    assert found == pytest.approx({"none": 0.96, "socks": 0.02, "cap": 0.02}, abs=1e-9)


def test_a_harmless_leader_keeps_top_twos_half_and_its_challenger_is_who_would_win_without_it():
    """cap wins every draw; without it the control does, since socks is struck out of every one."""
    given = cells(margin={"none": 1000, "socks": 4000, "cap": 3000}, socks=0.42)
    found = shares(proposed(given, PolicyKind.TOP_TWO))
    free = 1 - 0.1 - 2 * 0.02
    assert found == pytest.approx({"none": 0.1 + free / 2, "socks": 0.02, "cap": 0.02 + free / 2}, abs=1e-9)


def test_where_nothing_is_harmed_the_draws_agree_with_quadrature():
    """Conversion far above control's: nobody is struck out, P(best) is that of the margins alone."""
    given = cells(margin={"none": 1000, "socks": 705, "cap": 702}, none=0.3, n=2000)
    found = proposed(given, PolicyKind.THOMPSON)
    plain = proposed(given, PolicyKind.THOMPSON, rails=())
    best, truth = found.sets[ALL].prob_best, plain.sets[ALL].prob_best
    assert best is not None
    assert truth is not None
    assert 0.2 < truth["cap"] < 0.8
    assert best == pytest.approx(dict(truth), abs=2.5e-3)
    assert not plain.draws
    goals = [StudentT(**arm["goal"]) for arm in found.draws[0]["arms"]]
    assert list(truth.values()) == pytest.approx(list(prob_best(goals)), abs=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_a_version_keeps_what_it_takes_to_draw_it_again(kind: PolicyKind):
    given = cells(margin={"none": 1000, "socks": 1010, "cap": 1000}, socks=0.59, n=3000)
    found = proposed(given, kind)
    (kept,) = json.loads(json.dumps(found.draws))
    assert replayed(kept) == found.sets[ALL].prob_best
    assert 0.1 < kept["prob_struck_out"]["socks"] < 0.9
    assert proposed(given, kind).sets == found.sets  # the same version, the same draws
    last = PolicyVersion(7, 1, 0, Cause.STARTED, "none", found.sets)
    assert proposed(given, kind, last).draws[0]["seed"] != kept["seed"]


def test_correlation_counts():
    """A variant whose margin comes with its orders: struck out in the draws it would have won.

    Independent draws would leave it more: the same margins, correlation set to 0, win clearly more often.
    """
    given = cells(margin={"none": 1000, "socks": 1010, "cap": 500}, socks=0.59, n=3000)
    (kept,) = proposed(given, PolicyKind.THOMPSON).draws
    assert kept["arms"][1]["correlation"][0][1] > 0.8
    loose = json.loads(json.dumps(kept))
    for arm in loose["arms"]:
        arm["correlation"] = [[1.0, 0.0], [0.0, 1.0]]
    assert abs(replayed(loose)["socks"] - replayed(kept)["socks"]) > 0.02


def test_holding_keeps_the_last_shares_under_the_caps_of_now_by_segment_too():
    def split(**parts: float) -> SetShares:
        return SetShares(to_integer(parts))

    two = ("none", "socks")
    last = PolicyVersion(
        3,
        1,
        0,
        Cause.SHARES_MOVED,
        "none",
        {two: split(none=0.5, socks=0.5)},
        segments={"new": {two: split(none=0.25, socks=0.75)}},
    )
    fresh: dict[tuple[str, ...], SetShares] = {
        two: split(none=0.1, socks=0.9),
        ALL: split(none=0.5, socks=0.25, cap=0.25),
    }
    proposal = Proposal(fresh, burn_in=False, held=None)
    kept = holding(proposal, Guarded(), last, "breaker", "why")
    assert kept.held == {"reason": "breaker", "detail": "why"}
    assert kept.sets == {two: last.sets[two], ALL: fresh[ALL]}  # cap had no share to keep
    assert kept.segments == {}
    by_segment = replace(proposal, segments={"new": {two: fresh[two]}})
    capped = holding(by_segment, Guarded(capped={"socks": 0.25}), last, "breaker", "why")
    assert capped.sets[two] == split(none=0.75, socks=0.25)
    assert capped.segments == {"new": {two: split(none=0.75, socks=0.25)}}

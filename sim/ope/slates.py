"""A log of slates of two offers: its places read, its candidate weighed, its four estimates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from experiments.off_policy.estimators import Estimate, Parts, Reason, of_parts
from experiments.off_policy.overlap import Overlap, overlap
from experiments.off_policy.slate import SlateEstimator, Slates, log_weights, slate_value
from experiments.off_policy.terms import FloatArray, Terms
from sim.ope.loading import table_of
from sim.ope.logged import numbers_of, sum_of, units_of
from sim.ope.mapping import LogMapping, Place, SlateMapping
from sim.ope.policies import Candidate
from sim.ope.table import Table, Wanted
from sim.replay.errors import BadFile, BadMapping


@dataclass(frozen=True, slots=True)
class SlateOutcome:
    """What came of it; overlap is of the joint weights."""

    candidate: Candidate
    rows: int
    logged: Estimate
    estimates: Sequence[Estimate]
    overlap: Overlap


def run_slates(path: Path, mapping: LogMapping, candidate: Candidate) -> SlateOutcome:
    """Evaluate a candidate policy on a log of slates: `columns` of shares by place, uniform or logged."""
    slate = mapping.slate
    assert slate is not None
    table = table_of(path, mapping, _wanted(mapping, slate, candidate))
    units = units_of(table, mapping.unit)
    slates = _slates(table, mapping, slate, candidate)
    joint = slates.first * slates.second
    one = np.ones((1, 1))
    propensities = _propensities(table, slate.first) * _propensities(table, slate.second)
    rows = Terms(
        actions=np.zeros(len(joint), dtype=np.int64),
        propensities=np.ones(len(joint)) if candidate.is_logged else propensities,
        rewards=slates.total,
        weights=joint,
        fitted=None,
        expected=None,
        units=units,
        wanted=one,
        taken=one,
    )
    seen = overlap(rows, labels=table.rows)
    found = [
        Estimate(name, None, reason=Reason.REFUSED) if seen.refused else slate_value(name, slates)
        for name in SlateEstimator
    ]
    logged = of_parts("logged", Parts(slates.total), units)
    return SlateOutcome(candidate, len(joint), logged, tuple(found), seen)


def _wanted(mapping: LogMapping, slate: SlateMapping, candidate: Candidate) -> Wanted:
    places = (slate.first, slate.second)
    rewards = [formula for formula in (mapping.reward, *(p.reward for p in places)) if formula is not None]
    numbers = {column for formula in rewards for column in formula.columns}
    numbers |= {column for place in places for column in place.propensity.columns}
    if candidate.kind == "columns":
        lacking = [
            f"slate/{name}/share" for name, p in zip(("first", "second"), places, strict=True) if not p.share
        ]
        if lacking:
            raise BadMapping([f"{', '.join(lacking)}: name the column of the candidate's share"])
        numbers |= {place.share for place in places if place.share}
    if slate.second.alone is not None:
        numbers |= set(slate.second.alone if candidate.kind == "columns" else slate.second.alone[:1])
    blank = {column for formula in rewards if formula.is_blank_zero for column in formula.columns}
    texts = {slate.first.action, slate.second.action, *([mapping.unit] if mapping.unit else [])}
    return Wanted(numbers=numbers, texts=texts, blank=blank)


def _propensities(table: Table, place: Place) -> FloatArray:
    return numbers_of(table, place.propensity.column, place.propensity.constant)


def _slates(table: Table, mapping: LogMapping, slate: SlateMapping, candidate: Candidate) -> Slates:
    first, second, alone = _weights(table, mapping, slate, candidate)
    by_place = None
    if slate.first.reward is not None and slate.second.reward is not None:
        by_place = sum_of(table, slate.first.reward.terms), sum_of(table, slate.second.reward.terms)
    total = np.zeros(0) if by_place is None else by_place[0] + by_place[1]
    if mapping.reward is not None:
        total = sum_of(table, mapping.reward.terms)
    units = units_of(table, mapping.unit)
    return Slates(first, second, alone, total, by_place, slate.is_factored, units)


def _weights(
    table: Table, mapping: LogMapping, slate: SlateMapping, candidate: Candidate
) -> tuple[FloatArray, FloatArray, FloatArray | None]:
    """Weights of the first place, of the second given the first, and of the second whatever stood first."""
    one = np.ones(len(table.rows))
    if candidate.is_logged:
        return one, one, one
    first, second = _propensities(table, slate.first), _propensities(table, slate.second)
    if candidate.kind == "columns":
        shares = [table.numbers[place.share] for place in (slate.first, slate.second) if place.share]
        _check_shares(table, shares)
        weights = log_weights(shares[0], first), log_weights(shares[1], second)
        if slate.is_factored:
            return *weights, weights[1]
        if slate.second.alone is None:
            return *weights, None
        propensity, share = (table.numbers[column] for column in slate.second.alone)
        return *weights, log_weights(share, propensity)
    labels = set(mapping.actions) or {
        label for place in (slate.first, slate.second) for label in table.texts[place.action].labels
    }
    k = len(labels)  # evenly over what the log may show; without repeating where it never repeats
    if slate.is_factored:
        weights = log_weights(one / k, first), log_weights(one / k, second)
        return *weights, weights[1]
    if k < 2:
        raise BadFile("the log shows one action only: a slate needs two")
    alone = slate.second.alone
    unconditional = None if alone is None else log_weights(one / k, table.numbers[alone[0]])
    return log_weights(one / k, first), log_weights(one / (k - 1), second), unconditional


def _check_shares(table: Table, shares: Sequence[FloatArray]) -> None:
    for of_place in shares:
        wrong = np.flatnonzero(~((of_place >= 0.0) & (of_place <= 1.0)))
        if len(wrong):
            row = int(wrong[0])
            raise BadFile(f"a share of {of_place[row]:g}; shares are from 0 to 1", int(table.rows[row]))

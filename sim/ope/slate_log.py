"""A log of slates as two logs of decisions, one for each place, so that any policy can be asked about either.

Drawn `independently`, a place has the actions that were seen in it (or the mapping's), whatever stands beside
it. Drawn `given_first`, the second place has a candidate set of its own for each first action: everything but
that, or it too where the log has shown it twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from experiments.off_policy.terms import FloatArray, IntArray
from sim.ope.loading import context_columns, table_of
from sim.ope.logged import Logged, labels_of, numbers_of, sum_of, times_of, units_of
from sim.ope.mapping import ContextKind, LogMapping, Place, SlateMapping
from sim.ope.table import Table, Wanted
from sim.replay.errors import BadFile, BadMapping


@dataclass(frozen=True, slots=True, eq=False)
class SlateLog:
    """Both places, what each earned (None: only the slate's total is known), and the file's columns."""

    table: Table
    first: Logged
    second: Logged
    total: FloatArray
    by_place: tuple[FloatArray, FloatArray] | None


def slate_log(path: Path, mapping: LogMapping, slate: SlateMapping, *, is_columns: bool) -> SlateLog:
    """The slates of a file; with `is_columns` the candidate's shares are among the columns."""
    if path.is_dir():
        raise BadFile(f"{path} is a directory; slates are read from CSV or Parquet")
    table = table_of(path, mapping, _wanted(mapping, slate, is_columns=is_columns))
    by_place = None
    if slate.first.reward is not None and slate.second.reward is not None:
        by_place = sum_of(table, slate.first.reward.terms), sum_of(table, slate.second.reward.terms)
    total = np.zeros(0) if by_place is None else by_place[0] + by_place[1]
    if mapping.reward is not None:
        total = sum_of(table, mapping.reward.terms)
    taken = [table.texts[place.action] for place in (slate.first, slate.second)]
    labels = labels_of(mapping, taken[0].labels, taken[1].labels, {})
    place_of = {label: number for number, label in enumerate(labels)}
    actions = [np.array([place_of[one] for one in of.labels], dtype=np.int64)[of.codes] for of in taken]
    sets = _seen(actions[0], len(labels)), _seen(actions[1], len(labels))
    codes = np.zeros(len(total), dtype=np.int64), np.zeros(len(total), dtype=np.int64)
    if not slate.is_factored:
        everything = np.ones((1, len(labels)), dtype=np.bool_)
        sets, codes = (everything, _after(actions[0], actions[1], len(labels))), (codes[0], actions[0])
    elif mapping.actions:
        sets = np.ones_like(sets[0]), np.ones_like(sets[1])
    earned = (total, total) if by_place is None else by_place
    first, second = (
        _logged(table, mapping, place, labels, actions[k], earned[k], codes[k], sets[k])
        for k, place in enumerate((slate.first, slate.second))
    )
    return SlateLog(table, first, second, total, by_place)


def _logged(
    table: Table,
    mapping: LogMapping,
    place: Place,
    labels: tuple[str, ...],
    actions: IntArray,
    rewards: FloatArray,
    sets: IntArray,
    allowed: NDArray[np.bool_],
) -> Logged:
    contexts = context_columns(mapping)
    return Logged(
        rows=table.rows,
        labels=labels,
        actions=actions,
        propensities=numbers_of(table, place.propensity.column, place.propensity.constant),
        rewards=rewards,
        units=units_of(table, mapping.unit),
        times=times_of(table, mapping),
        sets=sets,
        allowed=allowed,
        segments=None if mapping.segment is None else table.texts[mapping.segment],
        numbers={name: table.numbers[name] for name in contexts[ContextKind.NUMBER]},
        categories={name: table.texts[name] for name in contexts[ContextKind.CATEGORY]},
    )


def _seen(actions: IntArray, k: int) -> NDArray[np.bool_]:
    """The actions of a place that was drawn by itself, as its only candidate set."""
    return (np.bincount(actions, minlength=k) > 0)[np.newaxis]


def _after(first: IntArray, second: IntArray, k: int) -> NDArray[np.bool_]:
    """What may stand second after each first action, (K, K)."""
    if k < 2:
        raise BadFile("the log shows one action only: a slate needs two")
    allowed = ~np.eye(k, dtype=np.bool_)
    twice = np.unique(first[first == second])
    allowed[twice, twice] = True
    return allowed


def _wanted(mapping: LogMapping, slate: SlateMapping, *, is_columns: bool) -> Wanted:
    places = (slate.first, slate.second)
    rewards = [formula for formula in (mapping.reward, *(p.reward for p in places)) if formula is not None]
    contexts = context_columns(mapping)
    numbers = {column for formula in rewards for column in formula.columns}
    numbers |= {column for place in places for column in place.propensity.columns}
    numbers |= set(contexts[ContextKind.NUMBER])
    if is_columns:
        lacking = [
            f"slate/{name}/share" for name, p in zip(("first", "second"), places, strict=True) if not p.share
        ]
        if lacking:
            raise BadMapping([f"{', '.join(lacking)}: name the column of the candidate's share"])
        numbers |= {place.share for place in places if place.share}
    if slate.second.alone is not None:
        numbers |= set(slate.second.alone if is_columns else slate.second.alone[:1])
    texts = {slate.first.action, slate.second.action, mapping.unit, mapping.segment}
    texts |= {
        mapping.decision,
        mapping.time.column if mapping.time else None,
        *contexts[ContextKind.CATEGORY],
    }
    return Wanted(
        numbers=numbers,
        texts={name for name in texts if name is not None},
        blank={column for formula in rewards if formula.is_blank_zero for column in formula.columns},
        missing=contexts[ContextKind.NUMBER],
    )

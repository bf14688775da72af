"""A log as arrays of numbers: what every part of an evaluation reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from experiments.off_policy.terms import FloatArray, IntArray, Log
from sim.ope.mapping import ContextKind, LogMapping
from sim.ope.table import Table, Texts
from sim.replay.errors import BadFile
from sim.replay.source import parse_time


@dataclass(frozen=True, slots=True, eq=False)
class Logged:
    """Decisions by row: file row numbers, action codes into `labels`, propensities, rewards and the rest.

    `sets` are codes into `allowed`, (n_sets, K); None where every action could have been taken. `numbers`
    and `categories` are the context; `shares` (n, K) those of a candidate that is columns of the file,
    `taken_shares` (n,) its share of what was done where no more is known.
    """

    rows: IntArray
    labels: tuple[str, ...]
    actions: IntArray
    propensities: FloatArray
    rewards: FloatArray
    units: IntArray | None = None
    places: Texts | None = None
    times: FloatArray | None = None
    sets: IntArray | None = None
    allowed: NDArray[np.bool_] | None = None
    segments: Texts | None = None
    numbers: Mapping[str, FloatArray] = field(default_factory=dict[str, FloatArray])
    categories: Mapping[str, Texts] = field(default_factory=dict[str, Texts])
    shares: FloatArray | None = None
    taken_shares: FloatArray | None = None

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def is_binary(self) -> bool:
        """Whether every reward is 0 or 1."""
        return bool(np.isin(self.rewards, (0.0, 1.0)).all())

    def log(self, rows: IntArray) -> Log:
        """Some rows, as the estimators take them; units keep their numbers."""
        return Log(
            self.actions[rows],
            self.propensities[rows],
            self.rewards[rows],
            len(self.labels),
            units=None if self.units is None else self.units[rows],
            places=None if self.places is None else self.places.codes[rows],
            allowed=self.mask(rows) if self.allowed is not None else None,
        )

    def mask(self, rows: IntArray) -> NDArray[np.bool_]:
        """Which actions each of these rows could have had, (n_rows, K)."""
        if self.allowed is None or self.sets is None:
            return np.ones((len(rows), len(self.labels)), dtype=np.bool_)
        return self.allowed[self.sets[rows]]

    def set_of(self, code: int) -> tuple[int, ...]:
        """The actions of one candidate set."""
        if self.allowed is None:
            return tuple(range(len(self.labels)))
        return tuple(int(k) for k in np.flatnonzero(self.allowed[code]))


def logged(table: Table, mapping: LogMapping, shares: Mapping[str, str] | None) -> Logged:
    """The decisions in a table; `shares` names the column of each action's share, if a candidate has some."""
    assert mapping.action is not None
    assert mapping.propensity is not None
    assert mapping.reward is not None
    taken = table.texts[mapping.action]
    offered = None if mapping.candidates is None else table.texts[mapping.candidates.column]
    separator = "|" if mapping.candidates is None else mapping.candidates.separator
    lists = [] if offered is None else [_split(label, separator) for label in offered.labels]
    labels = labels_of(mapping, taken.labels, [one for listed in lists for one in listed], shares or {})
    place = {label: number for number, label in enumerate(labels)}
    actions = np.array([place[label] for label in taken.labels], dtype=np.int64)[taken.codes]
    allowed = None
    if offered is not None:
        allowed = np.zeros((len(lists), len(labels)), dtype=np.bool_)
        for number, listed in enumerate(lists):
            allowed[number, [place[one] for one in listed]] = True
        _check_allowed(table, taken, actions, offered.codes, allowed)
    return Logged(
        rows=table.rows,
        labels=labels,
        actions=actions,
        propensities=numbers_of(table, mapping.propensity.column, mapping.propensity.constant),
        rewards=sum_of(table, mapping.reward.terms),
        units=units_of(table, mapping.unit),
        places=None if mapping.position is None else table.texts[mapping.position],
        times=times_of(table, mapping),
        sets=None if offered is None else offered.codes,
        allowed=allowed,
        segments=None if mapping.segment is None else table.texts[mapping.segment],
        numbers={name: table.numbers[name] for name in _of(mapping, ContextKind.NUMBER)},
        categories={name: table.texts[name] for name in _of(mapping, ContextKind.CATEGORY)},
        shares=None if shares is None else _shares(table, labels, shares),
    )


def numbers_of(table: Table, column: str | None, constant: float | None) -> FloatArray:
    """A column, or one number for every row."""
    if column is not None:
        return table.numbers[column]
    return np.full(len(table.rows), constant, dtype=np.float64)


def units_of(table: Table, column: str | None) -> IntArray | None:
    """Who each row is about, numbered without gaps; a row that names nobody is a unit of its own."""
    if column is None:
        return None
    texts = table.texts[column]
    codes = texts.codes
    if "" in texts.labels:
        nobody = np.flatnonzero(codes == texts.labels.index(""))
        codes = codes.copy()
        codes[nobody] = len(texts.labels) + np.arange(len(nobody))
    return np.unique(codes, return_inverse=True)[1].ravel().astype(np.int64)


def sum_of(table: Table, terms: Sequence[tuple[int, str]]) -> FloatArray:
    """Columns added up with their signs."""
    total = np.zeros(len(table.rows))
    for sign, column in terms:
        total += sign * table.numbers[column]
    return total


def _of(mapping: LogMapping, kind: ContextKind) -> list[str]:
    return [name for name, found in mapping.context.items() if found is kind]


def labels_of(
    mapping: LogMapping, taken: Sequence[str], listed: Sequence[str], shares: Mapping[str, str]
) -> tuple[str, ...]:
    """Every action: those of the mapping in its order, else all that are named, whole numbers by size."""
    found = {*taken, *listed, *shares}
    if mapping.actions:
        unknown = sorted(found - set(mapping.actions))
        if unknown:
            raise BadFile(f"{', '.join(map(repr, unknown))} is none of the mapping's actions")
        return mapping.actions
    if all(label.isascii() and label.isdigit() for label in found):
        return tuple(sorted(found, key=int))
    return tuple(sorted(found))


def _split(text: str, separator: str) -> list[str]:
    return [part.strip() for part in text.split(separator) if part.strip()]


def _check_allowed(
    table: Table, taken: Texts, actions: IntArray, sets: IntArray, allowed: NDArray[np.bool_]
) -> None:
    wrong = np.flatnonzero(~allowed[sets, actions])
    if len(wrong):
        label = taken.labels[int(taken.codes[wrong[0]])]
        raise BadFile(f"{label!r} was taken but is not in the row's candidates", int(table.rows[wrong[0]]))


def times_of(table: Table, mapping: LogMapping) -> FloatArray | None:
    """Seconds since 1970 of each row."""
    time = mapping.time
    if time is None:
        return None
    texts = table.texts[time.column]
    first = np.full(len(texts.labels), -1, dtype=np.int64)
    first[texts.codes[::-1]] = table.rows[::-1]  # the row that is named where a time can be none
    seconds = [
        parse_time(label, time, int(row)).timestamp() for label, row in zip(texts.labels, first, strict=True)
    ]
    return np.array(seconds)[texts.codes]


def _shares(table: Table, labels: Sequence[str], columns: Mapping[str, str]) -> FloatArray:
    none = np.zeros(len(table.rows))
    return np.column_stack([table.numbers[columns[k]] if k in columns else none for k in labels])

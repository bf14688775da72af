"""Candidate policies: what a name or an entry of the mapping stands for, and the shares it gives each row.

`uniform`, `logged`, `columns` and `fixed` know their shares beforehand. The others are the service's own
(`experiments.allocation.proposal`) and learn from a part of the log, then give shares to the rest of it:
`cross_fitted` from all folds but the row's own, `earlier` from the first half in time, of which no row is
evaluated.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

import numpy as np

from experiments.allocation.thompson import fixed_shares
from experiments.off_policy.terms import FloatArray, IntArray
from sim.ope.learning import Learnt, learnt_policy
from sim.ope.logged import Logged
from sim.ope.mapping import LogMapping, PolicyEntry
from sim.replay.errors import BadMapping
from sim.replay.node import Node

Shares = Callable[[IntArray], FloatArray]
"""The shares of some rows, (n_rows, K) or one row for all."""


class Training(StrEnum):
    """On which rows a policy that learns is trained."""

    NONE = "none"
    CROSS_FITTED = "cross_fitted"
    EARLIER = "earlier"


class Maker(Protocol):
    """Makes the shares from the rows the policy may learn from."""

    def __call__(self, data: Logged, train: IntArray) -> Shares:
        """The shares of any rows of the log."""
        ...


@dataclass(frozen=True, slots=True)
class Candidate:
    """A policy to evaluate. `columns` are those of its shares by action, `taken` that of what was done alone.

    `is_logged`: the log's own.
    """

    name: str
    kind: str
    training: Training
    make: Maker
    columns: Mapping[str, str] = field(default_factory=dict[str, str])
    taken: str | None = None
    is_logged: bool = False


def candidate_of(name: str, mapping: LogMapping) -> Candidate:
    """The policy of this name: an entry of the mapping, or uniform or logged; else BadMapping."""
    entry = mapping.policies.get(name)
    built_in = ("uniform", "logged") if mapping.slate is None else ("uniform", "logged", "columns")
    if entry is None and name in built_in:
        entry = PolicyEntry(name, {}, name)
    if entry is None:
        known = ", ".join([*mapping.policies, *built_in])
        raise BadMapping([f"policies: there is no {name!r}, only {known}; describe it under policies"])
    problems: list[str] = []
    found = _made(name, entry, Node(entry.settings, entry.path, problems), mapping)
    if problems:
        raise BadMapping(problems)
    return found


def _made(name: str, entry: PolicyEntry, node: Node, mapping: LogMapping) -> Candidate:
    if entry.kind == "uniform":
        node.only(())
        return Candidate(name, entry.kind, Training.NONE, _uniform)
    if entry.kind == "logged":
        node.only(())
        return Candidate(name, entry.kind, Training.NONE, _uniform, is_logged=True)
    if entry.kind == "columns":
        node.only({"columns", "taken"} if mapping.slate is None else ())
        if mapping.slate is not None:  # its places name the columns themselves
            return Candidate(name, entry.kind, Training.NONE, _of_columns)
        if node.raw("taken") is not None:
            if node.raw("columns") is not None:
                node.fault("taken", "give columns (of every action) or taken (of what was done), not both")
            return Candidate(name, entry.kind, Training.NONE, _uniform, taken=node.text("taken"))
        columns = {str(key): str(value) for key, value in _map(node, "columns").items()}
        return Candidate(name, entry.kind, Training.NONE, _of_columns, columns)
    if entry.kind == "fixed":
        node.only({"shares"})
        shares = _map(node, "shares")
        if not all(_is_share(share) for share in shares.values()) or not sum(shares.values()):
            node.fault("shares", "shares are numbers from 0, not all of them 0")
        return Candidate(
            name, entry.kind, Training.NONE, _fixed({str(k): v for k, v in shares.items()}, entry)
        )
    return _learning(name, entry, node, mapping)


def _learning(name: str, entry: PolicyEntry, node: Node, mapping: LogMapping) -> Candidate:
    training = node.choice("train", Training, Training.CROSS_FITTED)
    if training is Training.NONE:
        node.fault("train", "say cross_fitted or earlier")
    if training is Training.EARLIER and mapping.time is None and mapping.export is None:
        node.fault("train", "earlier needs the mapping's time")
    if entry.kind == "segment" and mapping.segment is None and mapping.export is None:
        node.fault("kind", "a policy by segment needs the mapping's segment, a column")
    learnt = learnt_policy(entry.kind, node, entry.path, mapping)

    def make(data: Logged, train: IntArray) -> Shares:
        return _of_learnt(learnt, data, train)

    return Candidate(name, entry.kind, training, make)


def _map(node: Node, key: str) -> Mapping[Any, Any]:
    value = node.raw(key)
    if isinstance(value, dict) and value:
        return value
    node.fault(key, f"a map of action to {'column' if key == 'columns' else 'share'} is needed")
    return {}


def _is_share(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < float("inf")


def _uniform(data: Logged, train: IntArray) -> Shares:
    """Every action a row could have had alike."""
    del train
    if data.allowed is None:
        one = np.full((1, len(data.labels)), 1.0 / len(data.labels))
        return lambda rows: one

    def shares(rows: IntArray) -> FloatArray:
        mask = data.mask(rows).astype(np.float64)
        return mask / mask.sum(axis=1, keepdims=True)

    return shares


def _of_columns(data: Logged, train: IntArray) -> Shares:
    del train
    shares = data.shares
    assert shares is not None
    return lambda rows: shares[rows]


def _fixed(shares: Mapping[str, float], entry: PolicyEntry) -> Maker:
    def make(data: Logged, train: IntArray) -> Shares:
        del train
        unknown = sorted(set(shares) - set(data.labels))
        if unknown:
            those = ", ".join(map(repr, unknown))
            raise BadMapping([f"{entry.path}/shares: {those} is no action of the log"])

        def of_set(keys: Sequence[str]) -> Mapping[str, float]:
            if not any(shares.get(key) for key in keys):
                raise BadMapping([f"{entry.path}/shares: none for a row of {', '.join(keys)}"])
            return fixed_shares(keys, control=keys[0], shares=shares)

        return by_set(data, of_set)

    return make


def by_set(data: Logged, of_set: Callable[[Sequence[str]], Mapping[str, float]]) -> Shares:
    """Shares that depend on the candidate set alone, each found once."""
    n_sets = 1 if data.allowed is None else len(data.allowed)
    table = np.zeros((n_sets, len(data.labels)))
    for code in range(n_sets):
        members = data.set_of(code)
        found = of_set([data.labels[k] for k in members])
        table[code, list(members)] = [found[data.labels[k]] for k in members]
    sets = data.sets
    return (lambda rows: table) if sets is None else (lambda rows: table[sets[rows]])


def _of_learnt(learnt: Learnt, data: Logged, train: IntArray) -> Shares:
    published = learnt.published(data, train)
    if published.is_by_row:
        return published.by_row
    return by_set(data, published.of_set)

"""Policies that learn: the service's own allocator, fed with rows of a log in place of its ledger.

Rows become the cells that the ledger would hold (a row is a unit, its reward a conversion where all are 0 or
1, else its margin), and `experiments.allocation.proposal.propose` says what the next policy version would be.
Rewards enter as whole numbers, to a millionth of the largest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from math import isfinite
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments.allocation.caps import WHOLE
from experiments.allocation.features import Columns, Encoded, column_name
from experiments.allocation.guarding import Guarded
from experiments.allocation.proposal import Proposal, propose
from experiments.document import parse_document
from experiments.eligibility import RequestContext
from experiments.errors import InvalidDocument
from experiments.model import Experiment, PolicyKind
from experiments.off_policy.terms import FloatArray, IntArray
from experiments.statistics import Cell, CellKey, Moments, product_name
from sim.ope.logged import Logged
from sim.ope.mapping import LogMapping
from sim.replay.errors import BadMapping
from sim.replay.node import Node

SETTINGS = ("control", "control_share", "floor", "burn_in", "prior", "features", "draws", "train")
DAY, NOW = date(2000, 1, 1), datetime(2020, 1, 1, tzinfo=UTC)
"""Every row is long matured: a log holds what came of it."""
POINT = 1 << 20
"""The whole number that stands for the largest reward: its square and those of 8 million more fit 64 bits."""
SLICE = 1 << 22


@dataclass(frozen=True, slots=True)
class Published:
    """What was learnt: a proposal, with its experiment and the log's labels of the variants."""

    experiment: Experiment
    proposal: Proposal
    data: Logged

    @property
    def is_by_row(self) -> bool:
        """Whether shares depend on more than the candidate set."""
        return bool(self.proposal.segments) or self.proposal.contextual is not None

    def of_set(self, labels: Sequence[str]) -> Mapping[str, float]:
        """Shares of one candidate set."""
        return self._labelled(self._keys(labels), "", None)

    def by_row(self, rows: IntArray) -> FloatArray:
        """Shares of each row by its candidate set and its segment or context, each combination found once."""
        data, k = self.data, len(self.data.labels)
        columns = Columns(self.experiment.policy.features)
        contexts = encoded(data, columns, rows)
        segments = np.zeros(len(rows), np.int64) if data.segments is None else data.segments.codes[rows]
        sets = np.zeros(len(rows), np.int64) if data.sets is None else data.sets[rows]
        combined = np.column_stack([sets, segments, contexts])
        kinds, which = np.unique(combined, axis=0, return_inverse=True)
        table = np.zeros((len(kinds), k))
        for place, kind in enumerate(kinds.tolist()):
            members = data.set_of(kind[0])
            segment = "" if data.segments is None else data.segments.labels[kind[1]]
            labels = [data.labels[member] for member in members]
            found = self._labelled(self._keys(labels), segment, columns.row(kind[2:]))
            table[place, list(members)] = [found[label] for label in labels]
        return table[which.ravel()]

    def _keys(self, labels: Sequence[str]) -> tuple[str, ...]:
        return tuple(_key(self.data.labels.index(label)) for label in labels)

    def _labelled(
        self, keys: tuple[str, ...], segment: str, row: Sequence[int] | None
    ) -> Mapping[str, float]:
        if len(keys) == 1:
            return {self._label(keys[0]): 1.0}
        contextual = self.proposal.contextual
        if contextual is not None and row is not None:
            shares: Mapping[str, int] = contextual.shares_for(keys, row)
        else:
            sets = self.proposal.segments.get(segment, {})
            shares = sets.get(keys, self.proposal.sets[keys]).shares
        return {self._label(key): share / WHOLE for key, share in shares.items()}

    def _label(self, key: str) -> str:
        return self.data.labels[int(key[1:])]


@dataclass(frozen=True, slots=True)
class Learnt:
    """A policy that learns, as the mapping describes it; `control` is the label of the control."""

    kind: PolicyKind
    control: str
    settings: Mapping[str, Any]
    path: str

    def published(self, data: Logged, train: IntArray) -> Published:
        """The version it would publish after some rows of a log."""
        if self.control not in data.labels:
            raise BadMapping([f"{self.path}/control: {self.control!r} is no action of the log"])
        experiment = self._experiment(data)
        sets = [data.set_of(code) for code in range(1 if data.allowed is None else len(data.allowed))]
        control = data.labels.index(self.control)
        if any(control not in members for members in sets if len(members) > 1):
            remedy = "is not in every row's candidates; a policy needs a control that may always be shown"
            raise BadMapping([f"{self.path}/control: {self.control!r} {remedy}"])
        columns = Columns(experiment.policy.features)
        proposal = propose(
            experiment,
            cells_of(data, train, columns),
            frozenset(variant.key for variant in experiment.variants),
            [tuple(map(_key, members)) for members in sets if len(members) > 1],
            guarded=Guarded(),
            promoted=None,
            last=None,
            time_zone="UTC",
            now=NOW,
        )
        return Published(experiment, proposal, data)

    def _experiment(self, data: Logged) -> Experiment:
        return _parsed(self, data.labels, is_binary=data.is_binary)


def learnt_policy(kind: str, node: Node, path: str, mapping: LogMapping) -> Learnt:
    """A policy that learns, from an entry of the mapping; its settings are checked as a document's are."""
    node.only(SETTINGS)
    settings = {key: node.raw(key) for key in SETTINGS[1:-1] if node.raw(key) is not None}
    control = node.raw("control")
    if control is None:
        node.fault("control", "is required: the action that stands for no offer")
    found = Learnt(PolicyKind(kind), str(control), settings, path)
    if isinstance(settings.get("features"), list):
        settings["features"] = [_feature(feature, node, mapping) for feature in settings["features"]]
    try:
        _parsed(
            found, (found.control, f"not {found.control}"), is_binary=not _is_of_means(settings.get("prior"))
        )
    except BadMapping as error:
        node.problems.extend(error.problems)
    return found


def _is_of_means(prior: object) -> bool:
    return isinstance(prior, dict) and not prior.keys() <= {"alpha", "beta"}


def _feature(feature: object, node: Node, mapping: LogMapping) -> object:
    """A feature whose values are texts, as the cells of a file are."""
    if not isinstance(feature, dict):
        return feature
    name = feature.get("name")
    kind = mapping.context.get(str(name))
    if name != "segment" and (kind is None or kind.value != feature.get("kind")):
        node.fault("features", f"{name!r} must stand under the mapping's context, of the same kind")
    values = feature.get("values")
    return feature | ({"values": [str(value) for value in values]} if isinstance(values, list) else {})


def _parsed(policy: Learnt, labels: Sequence[str], *, is_binary: bool) -> Experiment:
    """An experiment of these actions under this policy; BadMapping with what its document would be told."""
    variants = [
        {"key": _key(k), "is_control": True, "offer": {"kind": "none"}}
        if label == policy.control
        else {"key": _key(k), "is_control": False, "offer": {"kind": "cross_sell", "sku": _key(k)}}
        for k, label in enumerate(labels)
    ]
    objective = "conversion_rate" if is_binary else "margin_per_unit"
    document = {
        "key": "candidate",
        "touchpoint": "log",
        "currency": "EUR",
        "variants": variants,
        "policy": {**policy.settings, "kind": policy.kind.value, "objective": objective},
    }
    try:
        return parse_document(document)
    except InvalidDocument as error:
        raise BadMapping(
            [
                f"{policy.path}{fault.pointer.removeprefix('/policy')}: {fault.remedy}"
                for fault in error.errors
            ]
        ) from error


def encoded(data: Logged, columns: Columns, rows: IntArray) -> IntArray:
    """The context of some rows as the service would have recorded it, (n_rows, n_features)."""
    if not columns.features:
        return np.zeros((len(rows), 0), dtype=np.int64)
    known: dict[tuple[object, ...], Encoded] = {}
    found: list[Encoded] = []
    held = [_values(data, feature.name, rows) for feature in columns.features]
    for values in zip(*held, strict=True):
        if values not in known:
            fields = dict(zip((feature.name for feature in columns.features), values, strict=True))
            segment = fields.pop("segment", None)
            known[values] = columns.encoded(RequestContext(fields=fields), segment)  # pyright: ignore[reportArgumentType] - texts and numbers
        found.append(known[values])
    return np.array(found, dtype=np.int64).reshape(len(rows), len(columns.features))


def _values(data: Logged, name: str, rows: IntArray) -> list[object]:
    if name in data.numbers:
        return [value if isfinite(value) else None for value in data.numbers[name][rows].tolist()]
    texts = data.segments if name == "segment" else data.categories[name]
    if texts is None:
        raise BadMapping(["features: 'segment' needs the mapping's segment, a column"])
    return [texts.labels[code] for code in texts.codes[rows].tolist()]


def cells_of(data: Logged, rows: IntArray, columns: Columns) -> list[Cell]:
    """The cells that a ledger would hold after these rows: by variant, segment and candidate set."""
    segments = np.zeros(len(data), np.int64) if data.segments is None else data.segments.codes
    sets = np.zeros(len(data), np.int64) if data.sets is None else data.sets
    found: list[Cell] = []
    triples = np.column_stack([data.actions[rows], segments[rows], sets[rows]])
    kinds, which = np.unique(triples, axis=0, return_inverse=True)
    scale = 0.0 if data.is_binary else POINT / (float(np.abs(data.rewards).max()) or 1.0)
    for place, (action, segment, code) in enumerate(kinds.tolist()):
        own = rows[which.ravel() == place]
        moments = Moments()
        for start in range(0, len(own), SLICE):
            moments.add(_moments(data, own[start : start + SLICE], columns, scale))
        label = "" if data.segments is None else data.segments.labels[segment]
        members = frozenset(map(_key, data.set_of(code)))
        found.append(Cell(CellKey(_key(action), label, code, DAY, 0), members, moments))
    return found


def _moments(data: Logged, rows: IntArray, columns: Columns, scale: float) -> Moments:
    """Sums and products of the rows of one variant; scale 0 stands for conversions."""
    one = np.ones(len(rows), dtype=np.int64)
    if scale:
        reward = np.rint(scale * data.rewards[rows]).astype(np.int64)
        vectors = {"assigned": one, "units": one, "margin": reward, "margin_capped": reward}
    else:
        vectors = {"assigned": one, "units": one, "converted": data.rewards[rows].astype(np.int64)}
    if not columns.features:
        return _summed(vectors)
    contexts, which = np.unique(encoded(data, columns, rows), axis=0, return_inverse=True)
    which = which.ravel()
    if columns.is_grouped:
        total = Moments()
        for place, context in enumerate(contexts.tolist()):
            own = which == place
            name = next(iter(columns.vector_of(context)))
            total.add(_summed({key: values[own] for key, values in vectors.items()} | {name: one[own]}))
        return total
    table = np.array([columns.row(context) for context in contexts.tolist()], dtype=np.int64)
    return _summed(vectors | {column_name(k): table[which, k] for k in range(1, columns.width)})


def _summed(vectors: Mapping[str, NDArray[np.int64]]) -> Moments:
    names = list(vectors)
    matrix = np.column_stack([vectors[name] for name in names])
    products = matrix.T @ matrix
    totals = zip(names, matrix.sum(axis=0).tolist(), strict=True)
    moments = Moments({name: total for name, total in totals if total})
    for a, name in enumerate(names):
        for b in range(a, len(names)):
            if product := int(products[a, b]):
                moments.products[product_name(name, names[b])] = product
    return moments


def _key(action: int) -> str:
    return f"v{action}"

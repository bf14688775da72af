"""The rules of a document's features that span fields; see `document_rules`."""

import json
from collections.abc import Iterator, Mapping
from math import prod
from typing import Any

from experiments.allocation.features import GROUPED_MAX
from experiments.eligibility import condition_faults
from experiments.errors import FieldError
from experiments.json_schema import INVALID
from experiments.model import FeatureKind, MetricKind, PolicyKind

_Document = Mapping[str, Any]
_Faults = Iterator[FieldError]

_OF_SOME_UNITS = frozenset({"take_rate", "click_through_rate", "repeat_rate"})
"""Proportions of exposed units, or of buyers: sums over columns are kept of all units alone."""

COEFFICIENTS_MAX = 1024
"""Variants times columns: beyond that no traffic could tell the coefficients."""
PUBLISHED_MAX = 1_000_000
"""Draws times coefficients of one version: 4 MB."""


def feature_faults(policy: _Document, kind: str | None, variants: int) -> _Faults:
    """Faults of features and draws; `kind` is the objective's, `variants` how many there are."""
    items: list[Any] = policy.get("features", [])
    sound = [(f"/policy/features/{place}", item) for place, item in enumerate(items) if item is not INVALID]
    for pointer, item in sound:
        yield from _feature(pointer, item)
    names = [item.get("name") for _, item in sound]
    for place, (pointer, item) in enumerate(sound):
        if item.get("name") is not None and item["name"] in names[:place]:
            remedy = f"{item['name']} is a feature already; merge the two"
            yield FieldError(f"{pointer}/name", "duplicate", remedy)
    if policy.get("kind") != PolicyKind.CONTEXTUAL:
        return
    if not items:
        remedy = "a contextual policy learns from at least one feature; name a field of the context"
        yield FieldError("/policy/features", "required", remedy)
    if kind == MetricKind.RATIO:
        remedy = "a contextual policy raises a mean or a proportion; use e.g. margin_per_unit"
        yield FieldError("/policy/objective", "not_for_this_policy", remedy)
    yield from _combined(policy, sound)
    columns = 1 + sum(len(item.get("values") or (0,)) for _, item in sound)
    if variants * columns > COEFFICIENTS_MAX:
        remedy = f"{variants} variants x {columns} columns are more than {COEFFICIENTS_MAX}; tell fewer apart"
        yield FieldError("/policy/features", "too_many", remedy)
    elif policy.get("draws", 0) * variants * columns > PUBLISHED_MAX:
        most = PUBLISHED_MAX // (variants * columns)
        yield FieldError("/policy/draws", "too_many", f"with these features at most {most}")


def _combined(policy: _Document, features: list[tuple[str, Any]]) -> _Faults:
    """What a contextual policy does not go with."""
    for name, plain in (("warm_start", None), ("delay", "matured"), ("model", "student_t")):
        if policy.get(name, plain) != plain:
            remedy = "a contextual policy learns from matured units with priors of its own; remove it"
            yield FieldError(f"/policy/{name}", "not_for_this_policy", remedy)
    contexts = prod(1 + len(item.get("values") or ()) for _, item in features)
    is_counted = contexts <= GROUPED_MAX and all(item.get("values") for _, item in features)
    if policy.get("objective") in _OF_SOME_UNITS and not is_counted:
        remedy = f"is of some units only: categories alone, at most {GROUPED_MAX} contexts, found others"
        yield FieldError("/policy/objective", "needs_categories", remedy)


def _feature(pointer: str, item: _Document) -> _Faults:
    for fault in condition_faults({item.get("name", ""): None}, pointer):
        yield FieldError(f"{pointer}/name", fault.code, fault.remedy)
    wanted = {FeatureKind.NUMBER: ("scale",), FeatureKind.CATEGORY: ("values",)}
    others = {FeatureKind.NUMBER: ("values",), FeatureKind.CATEGORY: ("center", "scale")}
    if "kind" not in item:
        return
    kind = FeatureKind(item["kind"])
    for name in wanted[kind]:
        if item.get(name, INVALID) is None:
            yield FieldError(f"{pointer}/{name}", "required", f"a {kind.value} needs its {name}")
    for name in others[kind]:
        if item.get(name) is not None:
            remedy = f"a {kind.value} has no {name}; remove it, or choose the other kind"
            yield FieldError(f"{pointer}/{name}", "not_for_this_kind", remedy)
    values = item.get("values") or []
    if INVALID not in values and len({json.dumps(value) for value in values}) < len(values):
        yield FieldError(f"{pointer}/values", "duplicate", "a value stands here twice; remove one")

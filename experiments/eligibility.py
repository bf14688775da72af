"""Which variants a request may be assigned, which may be shown, and the rule that forbids the others.

Two questions, kept apart: the *candidates* are fixed at assignment and enter the analysis; what is
*showable* is asked again at each call, and its answer never changes the assignment.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from operator import attrgetter
from types import MappingProxyType
from typing import Any, NamedTuple, cast

from experiments.document_schema import audience_schema
from experiments.errors import FieldError, InvalidDocument
from experiments.json_schema import check, child
from experiments.model import Condition, ConditionOp, OfferKind, Variant, VariantState

Scalar = str | int | float | bool | None


class RequestContext(NamedTuple):
    """What a request says of the cart, the item looked at and everything else (`fields`).

    A tuple by name: one is made for every request, and a frozen dataclass takes three times as long to make.
    """

    cart_skus: frozenset[str] = frozenset()
    cart_value_minor: int | None = None
    cart_items: int = 0
    item_sku: str | None = None
    item_price_minor: int | None = None
    item_category: str | None = None
    fields: Mapping[str, Scalar] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Eligibility:
    """The candidate set, in the experiment's order, and for every other variant the rule it broke."""

    candidates: tuple[str, ...]
    rejected: Mapping[str, str]

    @property
    def enrols(self) -> bool:
        """Whether there is a choice: a unit that could only get the control is not enrolled."""
        return len(self.candidates) > 1


def eligible(
    variants: tuple[Variant, ...],
    states: Mapping[str, VariantState],
    context: RequestContext,
    out_of_stock: frozenset[str],
) -> Eligibility:
    """Form the candidate set of a request; a variant without a state is active.

    The control is always a candidate, an offer or not: dropping it would leave nothing to compare with.
    """
    candidates: list[str] = []
    rejected: dict[str, str] = {}
    forbidden = context.cart_skus | out_of_stock | {context.item_sku}
    for variant in variants:
        state = states.get(variant.key, VariantState.ACTIVE)
        # Nearly all variants of nearly all requests are as free as this; the rule is asked for the others.
        is_free = variant.is_control or (state is VariantState.ACTIVE and variant.offer.sku not in forbidden)
        rule = None if is_free else showable(variant, state, context, out_of_stock)
        if rule is None:
            candidates.append(variant.key)
        else:
            rejected[variant.key] = rule
    return Eligibility(tuple(candidates), rejected)


def showable(
    variant: Variant, state: VariantState, context: RequestContext, out_of_stock: frozenset[str]
) -> str | None:
    """Name the rule that forbids showing the variant now, or None when it may be shown.

    In this order: `retired`, `killed`, `in_cart` (the cart holds the sku, or it is the item itself),
    `out_of_stock`. A control without an offer can always be shown: it shows nothing.
    """
    if variant.is_control and variant.offer.kind is OfferKind.NONE:
        return None
    if state is not VariantState.ACTIVE:
        return state.value
    sku = variant.offer.sku
    if sku is None:
        return None
    if sku in context.cart_skus or sku == context.item_sku:
        return "in_cart"
    return "out_of_stock" if sku in out_of_stock else None


def parse_conditions(mapping: Mapping[str, Any], pointer: str) -> tuple[Condition, ...]:
    """Read conditions as people write them; InvalidDocument names what is wrong below `pointer`.

    >>> parse_conditions({"device": "mobile"}, "/audience")[0].op.value
    'eq'
    """
    faults: list[FieldError] = []
    cleaned = check(audience_schema(), mapping, pointer, faults)
    if isinstance(cleaned, dict):
        faults.extend(condition_faults(cleaned, pointer))
    if faults:
        raise InvalidDocument(tuple(faults))
    return conditions_of(cleaned)


def condition_faults(mapping: Mapping[str, Any], pointer: str) -> list[FieldError]:
    """Find the fields of the item or cart that no request has: such a condition would never hold."""
    known = {"item.price", "item.sku", "item.category", "cart_value", "cart_items"}
    remedy = f"is not a known field; of item and cart there are {', '.join(sorted(known))}"
    return [
        FieldError(child(pointer, name), "unknown_field", remedy)
        for name in mapping
        if name in ("item", "cart") or (name.startswith(("item.", "cart.")) and name not in known)
    ]


def conditions_of(mapping: Mapping[str, Any]) -> tuple[Condition, ...]:
    """Turn a sound mapping into conditions in one canonical order, so that equal meaning is equality."""
    found: list[Condition] = []
    for name, test in mapping.items():
        if isinstance(test, Mapping):
            tests = cast(Mapping[str, Any], test)
        else:
            tests = {"in" if isinstance(test, list) else "eq": test}
        found.extend(_condition(name, ConditionOp(op), value, tests) for op, value in tests.items())
    return tuple(sorted(found, key=lambda condition: (condition.field, condition.op.value)))


def mapping_of(conditions: tuple[Condition, ...]) -> dict[str, Any]:
    """Write conditions as people do: the shortest mapping that means the same."""
    by_field: dict[str, dict[str, Any]] = {}
    for condition in conditions:
        value = list(condition.value) if isinstance(condition.value, tuple) else condition.value
        by_field.setdefault(condition.field, {})[condition.op.value] = value
    return {name: _shortest(tests) for name, tests in by_field.items()}


def conditions_hold(conditions: tuple[Condition, ...], context: RequestContext, segment: str | None) -> bool:
    """Whether all conditions hold for the request; a comparison of unlike types does not hold.

    A missing field (or a null) fails every test but `ne`, `not_in` and `exists: false`.
    """
    for condition in conditions:
        test, found = _TESTS[condition.op], value_of(condition.field, context, segment)
        if not test(found, condition.value):
            return False
    return True


def value_of(name: str, context: RequestContext, segment: str | None) -> Scalar:
    """What a request says of a field that conditions and features may name; None when nothing."""
    if name == "segment":
        return segment
    read = _READ.get(name)
    return context.fields.get(name) if read is None else read(context)


_READ: Mapping[str, Callable[[RequestContext], Scalar]] = {
    "cart_value": attrgetter("cart_value_minor"),
    "cart_items": attrgetter("cart_items"),
    "item.price": attrgetter("item_price_minor"),
    "item.sku": attrgetter("item_sku"),
    "item.category": attrgetter("item_category"),
}
"""What of a request's context is not one of the caller's own fields."""


_FAMILIES: Mapping[type, type] = {bool: bool, int: float, float: float, str: str}  # JSON's true is not 1


def _family(value: object) -> type | None:
    return _FAMILIES.get(type(value))


def is_same(a: Scalar, b: Scalar) -> bool:
    """Whether two values are equal and of one JSON type; a missing one equals nothing."""
    return a == b and a is not None and (type(a) is type(b) or _family(a) is _family(b))


def _comparable(a: Any, b: Any) -> bool:
    return _family(a) is _family(b) and _family(a) in (float, str)


_TESTS: Mapping[ConditionOp, Callable[[Any, Any], bool]] = {
    ConditionOp.EXISTS: lambda found, wanted: (found is not None) == wanted,
    ConditionOp.EQ: is_same,
    ConditionOp.NE: lambda found, wanted: not is_same(found, wanted),
    ConditionOp.IN: lambda found, wanted: any(is_same(found, one) for one in wanted),
    ConditionOp.NOT_IN: lambda found, wanted: not any(is_same(found, one) for one in wanted),
    ConditionOp.GT: lambda found, wanted: _comparable(found, wanted) and found > wanted,
    ConditionOp.GTE: lambda found, wanted: _comparable(found, wanted) and found >= wanted,
    ConditionOp.LT: lambda found, wanted: _comparable(found, wanted) and found < wanted,
    ConditionOp.LTE: lambda found, wanted: _comparable(found, wanted) and found <= wanted,
}

_ONE_OF = {ConditionOp.IN: ConditionOp.EQ, ConditionOp.NOT_IN: ConditionOp.NE}


def _condition(name: str, op: ConditionOp, value: Any, siblings: Mapping[str, Any]) -> Condition:
    if op not in _ONE_OF:
        return Condition(name, op, _plain(value))
    distinct = {(str(_family(one)), _plain(one)): _plain(one) for one in value}
    values = tuple(distinct[key] for key in sorted(distinct))
    if len(values) == 1 and _ONE_OF[op].value not in siblings:  # a test is never written twice
        return Condition(name, _ONE_OF[op], values[0])
    return Condition(name, op, values)


def _plain(value: Any) -> Any:
    # 5.0 and 5 mean the same in JSON and must be written alike.
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _shortest(tests: dict[str, Any]) -> Any:
    if len(tests) == 1:
        for short in (ConditionOp.EQ.value, ConditionOp.IN.value):
            if short in tests:
                return tests[short]
    return tests

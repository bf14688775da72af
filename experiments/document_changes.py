"""What may no longer change in an experiment: data already gathered was gathered under it."""

from typing import Any

from experiments.errors import FieldError, FrozenField
from experiments.model import Experiment

_FROZEN = ("unit", "currency", "anchor", "attribution_window", "refund_window", "reassign_after", "salt")
_FROZEN_OFFER = {"kind": "kind", "sku": "sku", "price_minor": "price", "cost_minor": "cost"}


def check_change(before: Experiment, after: Experiment, *, started: bool) -> None:
    """Raise FrozenField naming every frozen field that differs; the key is frozen from the beginning."""
    faults = _frozen(before, after, "", ("key",), "an experiment keeps its key; create another one")
    if started:
        remedy = "is frozen once the experiment has started; create another experiment"
        faults += _frozen(before, after, "", _FROZEN, remedy)
        faults += _frozen(before.policy, after.policy, "/policy", ("features",), remedy)
        faults += _variant_changes(before, after)
    if faults:
        raise FrozenField(tuple(faults))


def _frozen(before: Any, after: Any, pointer: str, names: tuple[str, ...], remedy: str) -> list[FieldError]:
    changed = [name for name in names if getattr(before, name) != getattr(after, name)]
    return [FieldError(f"{pointer}/{_FROZEN_OFFER.get(name, name)}", "frozen", remedy) for name in changed]


def _variant_changes(before: Experiment, after: Experiment) -> list[FieldError]:
    faults: list[FieldError] = []
    old = [variant.key for variant in before.variants]
    new = [variant.key for variant in after.variants]
    if new[: len(old)] != old:
        gone = [key for key in old if key not in new]
        what = f"{', '.join(gone)} removed" if gone else "their order changed"
        remedy = f"variants keep their place once started ({what}); retire a variant, add new ones at the end"
        faults.append(FieldError("/variants", "frozen", remedy))
    places = {key: place for place, key in enumerate(new)}
    remedy = "is frozen once the experiment has started; retire this variant and add a new one"
    for variant in before.variants:
        if variant.key not in places:
            continue
        pointer = f"/variants/{places[variant.key]}"
        now = after.variants[places[variant.key]]
        faults += _frozen(variant, now, pointer, ("is_control",), remedy)
        faults += _frozen(variant.offer, now.offer, f"{pointer}/offer", tuple(_FROZEN_OFFER), remedy)
    return faults

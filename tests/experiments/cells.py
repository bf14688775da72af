"""Build rollup cells from arrays of unit totals, for the tests of the read-out."""

from collections.abc import Mapping, Sequence
from datetime import date

import numpy as np

from experiments.model import Experiment, Offer, OfferKind, PolicyKind, PolicySettings, Variant
from experiments.statistics import Cell, CellKey, Moments, product_name

DAY = date(2026, 3, 2)
ONE_SET = 0b11111111


def moments_of(features: Mapping[str, np.ndarray]) -> Moments:
    """Moments of many units at once: the same as adding them one by one (tested against it)."""
    names = sorted(features)
    columns = {name: np.asarray(features[name]).astype(object) for name in names}
    moments = Moments()
    for index, name in enumerate(names):
        if total := int(columns[name].sum()):
            moments.sums[name] = total
        for other in names[index:]:
            if product := int((columns[name] * columns[other]).sum()):
                moments.products[product_name(name, other)] = product
    return moments


def cell_of(
    variant: str,
    *,
    n: int,
    candidates: Sequence[str],
    candidate_set: int = ONE_SET,
    day: date = DAY,
    epoch: int = 0,
    segment: str = "",
    **features: np.ndarray | Sequence[int],
) -> Cell:
    """A cell of n units; features not given are 0, `assigned`, `units` are 1, capped copies follow."""
    arrays = {name: np.asarray(values) for name, values in features.items()}
    zeros = np.zeros(n, dtype=np.int64)
    ones = np.ones(n, dtype=np.int64)
    revenue, refunded = arrays.get("revenue", zeros), arrays.get("refunded_value", zeros)
    base = {
        "assigned": ones,
        "units": ones,
        "revenue_capped": revenue,
        "net_revenue_capped": revenue - refunded,
        "refunded_value_capped": refunded,
        "margin_capped": arrays.get("margin", zeros),
    }
    moments = moments_of(base | arrays) if n else Moments()
    key = CellKey(variant, segment, candidate_set, day, epoch)
    return Cell(key, frozenset(candidates), moments)


def experiment_of(
    *treatments: str,
    policy: PolicyKind = PolicyKind.FIXED,
    objective: str = "margin_per_unit",
    **more: object,
) -> Experiment:
    """An experiment with control `none` and the given treatments."""
    offers = (
        Variant(key, Offer(OfferKind.CROSS_SELL, sku=f"SKU-{key}", price_minor=1290)) for key in treatments
    )
    settings = more.pop("settings", PolicySettings(kind=policy, objective=objective))
    return Experiment(
        key="checkout",
        touchpoint="checkout",
        currency="EUR",
        variants=(Variant("none", Offer(OfferKind.NONE), is_control=True), *offers),
        policy=settings,  # type: ignore[arg-type]
        **more,  # type: ignore[arg-type]
    )

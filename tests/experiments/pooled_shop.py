"""Cells of a simulated shop for the tests of the pooled model: segments, order values, refunds, costs."""

from datetime import date

import numpy as np

from experiments.histogram import bin_of
from experiments.statistics import Cell, CellKey

VARIANTS = ("none", "socks", "cap")
ALL = frozenset(VARIANTS)


def cell(
    variant: str,
    segment: str,
    units: int,
    rng: np.random.Generator,
    *,
    rate: float = 0.2,
    size: float = 5000.0,
    sigma: float = 0.6,
    refunds: float = 0.1,
    cost: float = 0.6,
    recovered: float = 0.5,
    candidate_set: int = 1,
    epoch: int = 0,
) -> Cell:
    """Units of one cell: log-normal order values, whole refunds that bring `recovered` of the cost back."""
    found = Cell(CellKey(variant, segment, candidate_set, date(2026, 3, 1), epoch), ALL)
    buyers = int(rng.binomial(units, rate))
    vectors: list[tuple[dict[str, int], dict[str, int]]] = []
    for value in np.round(size * np.exp(sigma * rng.standard_normal(buyers))).astype(int).tolist():
        is_back = rng.random() < refunds
        margin = round(value * (1 - cost)) - (round(value * (1 - recovered * cost)) if is_back else 0)
        vector = {"units": 1, "converted": 1, "orders": 1, "revenue": value, "margin": margin}
        back = {"refunded_orders": 1, "refunded_value": value} if is_back else {}
        bins = {"revenue": bin_of(value)} | ({"refunded_value": bin_of(value)} if is_back else {})
        vectors.append((vector | back, bins))
    if vectors:
        found.add_units(vectors, [1] * len(vectors))
    if units > buyers:
        found.add_units([({"units": 1}, {})], [units - buyers])
    return found


def shop(units: int, *, segments: int = 3, seed: int = 1, variants: tuple[str, ...] = VARIANTS) -> list[Cell]:
    """A shop in which segments differ, socks sell better and caps come back more often."""
    rng = np.random.default_rng(seed)
    base = np.exp(0.3 * rng.standard_normal(segments))
    lift = {"none": 1.0, "socks": 1.15, "cap": 1.05}
    back = {"none": 0.08, "socks": 0.08, "cap": 0.2}
    each = units // (segments * len(variants))
    return [
        cell(v, f"s{g}", each, rng, rate=0.2 * float(base[g]) * lift[v], refunds=back[v])
        for g in range(segments)
        for v in variants
    ]

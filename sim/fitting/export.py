"""A shop's log from the Parquet that `rialto export` writes: enrolments are the visits.

The ledger's HTTP API lists events page by page for one unit or order; a whole shop's history is what the
export is for (docs/archive.md), and raw ids never leave the ledger with it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from sim.exports.reading import opened
from sim.fitting.gathering import Gathered, Order
from sim.fitting.log import Tells
from sim.fitting.mapping import FitMapping, UnitKind

ENROLLED = """
SELECT person, variant, coalesce(segment, ''), at_us FROM enrolments ORDER BY at_us, unit_no, period
"""
ORDERS = """
SELECT t.person, o.order_id, o.occurred_at_us, o.amount, o.cost
FROM touched t JOIN adjusted_orders o ON o.event_no = t.event_no
ORDER BY o.occurred_at_us, o.order_id, t.person
"""
ANSWERS = """
SELECT coalesce(p.person_no, e.decision_unit_no), e.type
FROM events e LEFT JOIN persons p ON p.unit_no = e.decision_unit_no
WHERE e.experiment = $experiment AND e.type IN ('exposure', 'accept')
"""
REFUNDS = """
SELECT order_id, occurred_at_us, amount_minor, cost_recovered_minor FROM refunds
ORDER BY occurred_at_us, event_no
"""


def read_export(path: Path, mapping: FitMapping) -> Gathered:
    """Everything of one experiment; BadFile says what the export lacks."""
    wanted, experiment = mapping.export, mapping.experiment
    assert wanted is not None
    assert experiment is not None
    with opened(
        path,
        experiment=wanted.experiment,
        store=wanted.store,
        is_customer=wanted.unit is UnitKind.CUSTOMER,
    ) as export:
        asked = {"enrolled": ENROLLED, "orders": ORDERS, "refunds": REFUNDS}
        rows = {name: export.execute(text).fetchall() for name, text in asked.items()}
        rows["answers"] = export.execute(ANSWERS, {"experiment": wanted.experiment}).fetchall()
    control = experiment.control.key
    others = [one.key for one in experiment.variants if one.key != control]
    found = Gathered(_tells(rows), ZoneInfo(mapping.zone), control, (control, *others))
    for person, variant, segment, at_us in rows["enrolled"]:
        found.visit(str(person), at_us / 1e6, segment, variant)
    for person, order_id, at_us, amount, cost in rows["orders"]:
        if order_id not in found.orders:
            order = Order(str(person), at_us / 1e6, _number(amount), _number(cost))
            found.orders[order_id] = order
            found.saw(order.at_s)
    for person, kind in rows["answers"]:
        (found.seen if kind == "exposure" else found.took).add(str(person))
    for order_id, at_us, amount, recovered in rows["refunds"]:
        found.refund(order_id, at_us / 1e6, None if amount is None else float(amount), _number(recovered))
    return found


def _number(value: Any) -> float:
    return float("nan") if value is None else float(value)


def _tells(rows: dict[str, list[tuple[Any, ...]]]) -> Tells:
    kinds = {kind for _, kind in rows["answers"]}
    return Tells(
        visits=True,
        days=True,
        hours=True,
        amounts=True,
        costs=all(cost is not None for *_, cost in rows["orders"]),
        refunds=True,
        refund_times=True,
        recovered=any(back is not None for *_, back in rows["refunds"]),
        exposures="exposure" in kinds,
        takes="accept" in kinds,
        goods=False,
        returns=True,
    )

"""A shop's log from the Parquet that `rialto export` writes: enrolments are the visits.

The ledger's HTTP API lists events page by page for one unit or order; a whole shop's history is what the
export is for (docs/archive.md), and raw ids never leave the ledger with it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from sim.fitting.gathering import Gathered, Order
from sim.fitting.log import Tells
from sim.fitting.mapping import Export, FitMapping, UnitKind
from sim.ope.errors import MissingLibrary
from sim.replay.errors import BadFile

ENROLLED = """
SELECT coalesce(p.person_no, a.unit_no) AS person, a.variant, coalesce(a.segment, '') AS segment, a.at_us
FROM assignments a LEFT JOIN persons p ON p.unit_no = a.unit_no
WHERE a.experiment = $experiment AND ($store IS NULL OR a.store = $store)
ORDER BY a.at_us, a.unit_no, a.period
"""
REACHED = """
WITH one AS (SELECT event_no, unnest(unit_nos) AS unit_no, unnest(unit_kinds) AS kinds FROM events
  WHERE type = 'order' AND ($store IS NULL OR store = $store))
SELECT DISTINCT coalesce(p.person_no, one.unit_no) AS person, e.order_id, e.occurred_at_us, e.amount_minor,
  e.cost_minor
FROM one LEFT JOIN persons p ON p.unit_no = one.unit_no JOIN events e ON e.event_no = one.event_no
WHERE (one.kinds & CASE WHEN p.person_no IS NULL THEN $kind ELSE 3 END) <> 0
ORDER BY e.occurred_at_us, e.order_id
"""
ANSWERS = """
SELECT coalesce(p.person_no, e.decision_unit_no) AS person, e.type
FROM events e LEFT JOIN persons p ON p.unit_no = e.decision_unit_no
WHERE e.experiment = $experiment AND e.type IN ('exposure', 'accept') AND ($store IS NULL OR e.store = $store)
"""
REFUNDS = """
SELECT order_id, occurred_at_us, amount_minor, cost_recovered_minor FROM events
WHERE type IN ('refund', 'cancel') AND ($store IS NULL OR store = $store) ORDER BY occurred_at_us, event_no
"""


def read_export(path: Path, mapping: FitMapping) -> Gathered:
    """Everything of one experiment; BadFile says what the export lacks."""
    wanted, experiment = mapping.export, mapping.experiment
    assert wanted is not None
    assert experiment is not None
    for part in ("assignments", "events"):
        if not any((path / part).rglob("*.parquet")):
            raise BadFile(f"{path} holds no {part}/**/*.parquet: is it what `rialto export --out` wrote?")
    rows = _queried(path, wanted)
    if not rows["enrolled"]:
        raise BadFile(f"{path} holds no enrolment of experiment {wanted.experiment!r}")
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


def _queried(path: Path, wanted: Export) -> dict[str, list[tuple[Any, ...]]]:
    try:
        import duckdb
    except ImportError:
        raise MissingLibrary("an export is read by DuckDB: pip install 'rialto[archive]'") from None
    persons = any((path / "persons").rglob("*.parquet"))
    with duckdb.connect() as connection:
        for name in ("assignments", "events", *(("persons",) if persons else ())):
            files = str(path / name / "**" / "*.parquet").replace("'", "''")
            connection.execute(
                f"CREATE VIEW {name} AS SELECT * FROM "
                f"read_parquet('{files}', hive_partitioning = true, hive_types_autocast = false)"
            )
        if not persons:
            connection.execute(
                "CREATE VIEW persons AS SELECT 0::BIGINT AS unit_no, 0::BIGINT AS person_no WHERE false"
            )
        named = {
            "experiment": wanted.experiment,
            "store": wanted.store,
            "kind": 2 if wanted.unit is UnitKind.CUSTOMER else 1,
        }
        asked = {"enrolled": ENROLLED, "orders": REACHED, "answers": ANSWERS, "refunds": REFUNDS}
        return {
            name: connection.execute(
                text, {key: value for key, value in named.items() if f"${key}" in text}
            ).fetchall()
            for name, text in asked.items()
        }

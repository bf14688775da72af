"""Enrolments of an experiment and what each earned, from the Parquet that `rialto export` writes.

One row is one enrolled person (or unit that is nobody else's): the earliest enrolment, its variant,
propensity, candidate set and segment, and conversion, net revenue or margin within the window, by the
definitions of docs/metrics.md (the SQL is that of docs/archive.md, without its sums). Raw ids and contexts
never leave a ledger, so there is no context here but the segment.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from sim.exports.reading import opened
from sim.ope.logged import Logged
from sim.ope.mapping import ExportMapping, ExportMetric, UnitKind
from sim.ope.table import Texts
from sim.replay.errors import BadFile

SQL = Path(__file__).with_name("export.sql")
EARNED = {
    ExportMetric.CONVERSION: "converted",
    ExportMetric.REVENUE: "net_revenue",
    ExportMetric.MARGIN: "margin",
}


def read_export(path: Path, wanted: ExportMapping, actions: Sequence[str]) -> Logged:
    """The enrolments of one experiment; BadFile says what the export lacks."""
    with opened(
        path,
        experiment=wanted.experiment,
        store=wanted.store,
        is_customer=wanted.unit is UnitKind.CUSTOMER,
    ) as export:
        asked = {"window_us": round(wanted.window.total_seconds() * 1e6)}
        rows = export.execute(SQL.read_text("utf-8"), asked).fetchnumpy()
    count = len(rows["variant"])
    if wanted.metric is ExportMetric.MARGIN and rows["cost_unknown"].any():
        lacking = int(rows["cost_unknown"].sum())
        raise BadFile(
            f"{lacking} orders have no known cost, so no margin; set default_cost_rate or take revenue"
        )
    lists = [tuple(one) for one in rows["candidates"]]
    sets = {members: number for number, members in enumerate(dict.fromkeys(lists))}
    named = dict.fromkeys(
        [*actions, *(one for members in sets for one in members), *rows["variant"].tolist()]
    )
    labels = tuple(named)
    place = {label: number for number, label in enumerate(labels)}
    allowed = np.zeros((len(sets), len(labels)), dtype=np.bool_)
    for members, number in sets.items():
        allowed[number, [place[one] for one in members]] = True
    segments, codes = np.unique(rows["segment"].astype(str), return_inverse=True)
    return Logged(
        rows=np.arange(1, count + 1),
        labels=labels,
        actions=np.array([place[one] for one in rows["variant"].tolist()], dtype=np.int64),
        propensities=rows["propensity"].astype(np.float64),
        rewards=rows[EARNED[wanted.metric]].astype(np.float64),
        times=rows["at_us"].astype(np.float64) / 1e6,
        sets=np.array([sets[one] for one in lists], dtype=np.int64),
        allowed=allowed,
        segments=Texts(codes.astype(np.int64), tuple(segments.tolist())),
    )

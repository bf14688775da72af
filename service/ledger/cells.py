"""The cells of an experiment, and the shares of their epochs, read for analysis and allocation."""

from __future__ import annotations

from sqlalchemy import Connection, func, select

from experiments.allocation.published import PolicyVersion
from experiments.statistics import Cell
from service.catalogue import LiveExperiment
from service.ledger import schema
from service.ledger.folds import cell_of


def read_cells(connection: Connection, live: LiveExperiment, *, from_epoch: int | None = None) -> list[Cell]:
    """Every non-empty cell from an epoch on; by default since the audience last changed."""
    first = live.report_from_epoch if from_epoch is None else from_epoch
    members = candidate_sets(connection, live.experiment_no)
    table = schema.cell
    rows = connection.execute(
        select(table).where(table.c.experiment_no == live.experiment_no, table.c.epoch >= first)
    )
    cells = [cell_of(row, live, frozenset(members[row.set_no])) for row in rows]
    return [cell for cell in cells if cell.moments]


def candidate_sets(connection: Connection, experiment_no: int) -> dict[int, tuple[str, ...]]:
    """The candidate sets seen, by number."""
    table = schema.candidate_set
    rows = connection.execute(select(table).where(table.c.experiment_no == experiment_no))
    return {row.set_no: tuple(row.members) for row in rows}


def first_versions(connection: Connection, experiment_no: int) -> dict[int, PolicyVersion]:
    """The first version of every epoch: the units of an epoch had the shares of that version."""
    table = schema.policy_version.c
    firsts = select(func.min(table.number)).where(table.experiment_no == experiment_no).group_by(table.epoch)
    rows = connection.execute(
        select(table.body)
        .where(table.experiment_no == experiment_no, table.number.in_(firsts))
        .order_by(table.number)
    ).scalars()
    versions = (PolicyVersion.from_json(body["version"]) for body in rows)
    return {version.epoch: version for version in versions}

"""The past experiments that an experiment begins from."""

from __future__ import annotations

from collections.abc import Sequence, Set

from sqlalchemy import Connection, select

from experiments.allocation.warm_start import PastExperiment
from experiments.statistics import Cell
from service.catalogue import LiveExperiment, load_store
from service.ledger import schema
from service.ledger.cells import read_cells


def past_of(connection: Connection, live: LiveExperiment, cells: Sequence[Cell]) -> dict[str, PastExperiment]:
    """The experiments that the experiment's warm start names."""
    warm = live.experiment.policy.warm_start
    named = set() if warm is None else {one.experiment for one in warm.variants.values()}
    return past_experiments(connection, live, cells, named)


def past_experiments(
    connection: Connection, live: LiveExperiment, cells: Sequence[Cell], named: Set[str]
) -> dict[str, PastExperiment]:
    """The experiments of those keys that the store has; `cells` are the experiment's own."""
    past: dict[str, PastExperiment] = {}
    if named:
        table = schema.experiment.c
        own = select(table.store_no).where(table.experiment_no == live.experiment_no)
        store = load_store(connection, connection.execute(own).scalar_one())
        for key in sorted(named & store.experiments.keys()):
            there = store.experiments[key]
            theirs = cells if there.experiment_no == live.experiment_no else read_cells(connection, there)
            past[key] = PastExperiment(there.experiment, theirs, there.time_zone)
    return past

"""Figures read when somebody looks: of this process, and of the ledger.

The ledger's own figures (what waits to be folded, the versions published) are the same whichever worker is
asked, so they are read for the answer and carry no label `worker`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.metadata import version
from typing import Any

from sqlalchemy import Connection, func, select

from experiments.model import Lifecycle
from service.catalogue import StoreState
from service.clock import Clock
from service.context import Service
from service.exposition import Family, Labels
from service.jobs.allocator import stepped_name
from service.ledger import marks, schema
from service.metrics import LABELLED_MAX, show_process
from service.release import commit

PUBLISH_S = 1.0
_EXPERIMENT = ("store", "experiment")
_OPEN = (Lifecycle.RUNNING.value, Lifecycle.PAUSED.value)


def register(service: Service) -> None:
    """Let the service's metrics show its parts."""
    metrics = service.metrics
    show_process(metrics)
    release = {(version("rialto"), commit()): 1.0}
    about = "The version that runs, and its commit."
    metrics.gauge("rialto_build_info", about, lambda: release, labels=("version", "commit"))
    metrics.gauge("rialto_writer_queue", "Writes that wait for their commit.", lambda: service.writer.waiting)
    leads = service.leader
    metrics.gauge("rialto_is_leader", "Whether this process folds and allocates.", lambda: leads.is_leader)
    sticky = service.writer.sticky
    metrics.gauge("rialto_sticky_entries", "Assignments kept in memory.", lambda: len(sticky))
    metrics.counter("rialto_sticky_hits_total", "Units answered from memory.", lambda: sticky.hits)
    metrics.counter("rialto_sticky_misses_total", "Units not in memory.", lambda: sticky.misses)
    seen: dict[int, StoreState] = {}

    def served() -> Mapping[tuple[str, ...], float]:
        seen.update({store.store_no: store for store in service.catalogue.held()})
        return dict(_served(seen.values()))

    metrics.gauge("rialto_policy_version", "The policy version served.", served, labels=_EXPERIMENT)


async def publishing(service: Service) -> None:
    """Put gauges where fellow workers find them, if there are any, until cancelled."""
    while service.settings.metrics_dir is not None:
        service.metrics.publish()
        await asyncio.sleep(PUBLISH_S)


def ledger_families(connection: Connection, clock: Clock) -> list[Family]:
    """How far behind the folder and the allocator are, and the newest version of each open experiment."""
    count, oldest_us = marks.waiting(connection)
    lag_s = 0.0 if oldest_us is None else max(time.time() - oldest_us / 1e6, 0.0)
    versions: dict[Labels, list[float]] = {}
    ages: dict[Labels, list[float]] = {}
    rows = connection.execute(select(schema.progress.c.name, schema.progress.c.value))
    stepped = {name: at_us for name, at_us in rows}
    for row in _open_experiments(connection):
        labels: Labels = (("store", row.store), ("experiment", row.experiment))
        versions[labels] = [float(row.number)]
        stepped_us = stepped.get(stepped_name(row.experiment_no))
        if stepped_us is not None:
            ages[labels] = [max(clock.now_us(row.simulated_now_us) - stepped_us, 0) / 1e6]
    return [
        Family("rialto_marks_waiting", "Changes not yet folded.", "gauge", {(): [float(count)]}),
        Family("rialto_folder_lag_seconds", "Age of the oldest of them.", "gauge", {(): [lag_s]}),
        Family("rialto_policy_version_published", "The newest policy version.", "gauge", versions),
        Family("rialto_allocator_age_seconds", "Since the last allocation step.", "gauge", ages),
    ]


def _open_experiments(connection: Connection) -> Sequence[Any]:
    """Running and paused experiments with their newest version, the latest first, not too many."""
    store, experiment, policy = schema.store.c, schema.experiment.c, schema.policy_version.c
    newest = select(func.max(policy.number)).where(policy.experiment_no == experiment.experiment_no)
    return connection.execute(
        select(
            store.key.label("store"),
            store.simulated_now_us,
            experiment.experiment_no,
            experiment.key.label("experiment"),
            newest.scalar_subquery().label("number"),
        )
        .join_from(schema.experiment, schema.store, store.store_no == experiment.store_no)
        .where(experiment.state.in_(_OPEN))
        .order_by(experiment.experiment_no.desc())
        .limit(LABELLED_MAX)
    ).all()


def _served(stores: Iterable[StoreState]) -> Iterator[tuple[tuple[str, ...], float]]:
    for store in stores:
        for live in store.experiments.values():
            if live.state.value in _OPEN and live.policy is not None:
                yield (store.key, live.key), float(live.policy.number)

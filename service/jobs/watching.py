"""What a version says beside its shares: what variants began with, and the stop rule."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from typing import Any

from sqlalchemy import Connection, select

from experiments.allocation.guarding import Guarded
from experiments.allocation.stopping import StopDecision, decide, has_rule, in_words, read_figures
from experiments.allocation.warm_start import PastExperiment, WarmPriors, warm_priors
from experiments.model import VariantState
from experiments.statistics import Cell
from service.catalogue import LiveExperiment, load_store
from service.clock import to_datetime
from service.jobs.exploring import sampled_contexts
from service.jobs.versions import may_draw_anew
from service.ledger import schema
from service.ledger.cells import read_cells


def warm_of(connection: Connection, live: LiveExperiment, cells: Sequence[Cell], now_us: int) -> WarmPriors:
    """The priors of the experiment's warm start, those of past experiments as they are known now."""
    warm = live.experiment.policy.warm_start
    if warm is None:
        return WarmPriors()
    past = past_experiments(connection, live, cells, {one.experiment for one in warm.variants.values()})
    return warm_priors(live.experiment, cells, past, time_zone=live.time_zone, now=to_datetime(now_us))


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


def stop_of(
    connection: Connection,
    live: LiveExperiment,
    cells: Sequence[Cell],
    before: Mapping[str, Any],
    guarded: Guarded,
    warm: WarmPriors,
    *,
    is_burn_in: bool,
    promoted: str | None,
    may_promote: bool,
    now_us: int,
) -> StopDecision | None:
    """The stop rule's state now; it waits while variants burn in, and a promotion for draws to change."""
    assert live.policy is not None
    experiment = live.experiment
    if not has_rule(experiment.stop_rule):
        return None
    now = to_datetime(now_us)
    active = [key for key, state in live.variant_states.items() if state is VariantState.ACTIVE]
    figures = (
        "burn_in"
        if is_burn_in
        else read_figures(
            experiment,
            cells,
            active,
            priors=warm.priors,
            time_zone=live.time_zone,
            now=now,
            contexts=sampled_contexts(connection, live),
        )
    )
    return decide(
        experiment,
        figures,
        before.get("stop"),
        guarded.entries,
        promoted=promoted,
        now=now,
        may_promote=may_promote and may_draw_anew(live.policy, now_us),
    )


def stop_to_json(
    live: LiveExperiment, stop: StopDecision | None, before: Mapping[str, Any], now_us: int
) -> dict[str, Any] | None:
    """The stop rule's state as a version keeps it: with its sentence, and since when it is so."""
    if stop is None:
        return None
    plain, last = stop.to_json(), before.get("stop") or {}
    since_us = last["since_us"] if last.get("state") == plain["state"] else now_us
    return plain | {"detail": in_words(plain, live.experiment), "since_us": since_us}

"""A store and its experiment made ready to be driven, or what is wrong with them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from experiments.document import parse_document, to_document
from experiments.model import Anchor, Experiment, UnitKind
from experiments.times import format_instant, parse_duration
from sim.closed_loop.books import Rules
from sim.closed_loop.errors import NotDriven, Refused
from sim.closed_loop.settings import SCOPES, DriveSettings, beginning
from sim.closed_loop.wire import Json, Wire
from sim.worlds.scenario import Scenario

_BUILD = re.compile(r'^rialto_build_info\{version="([^"]*)",commit="([^"]*)"', re.MULTILINE)
_US = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Stage:
    """What is driven: the experiment as the store has it, what counts in it, and the service's code."""

    experiment: Experiment
    rules: Rules
    version: str
    commit: str


def set_up(wire: Wire, settings: DriveSettings, scenario: Scenario) -> Stage:
    """Set the clock to the beginning, and create the experiment and start it, or find the one named."""
    try:
        wire.post("/v1/clock", {"now": format_instant(beginning(scenario))})
        store = wire.get("/v1/store")
    except Refused as error:
        raise NotDriven(str(error), _remedy(error)) from error
    _check_store(store, scenario)
    experiment = _existing(wire, settings.experiment) if settings.experiment else _created(wire, scenario)
    _check_experiment(experiment, scenario)
    rules = Rules(
        experiment.attribution_window // _US,
        parse_duration(store["abandonment_window"]) // _US,
        experiment.anchor is Anchor.EXPOSURE,
    )
    version, commit = release_of(wire)
    return Stage(experiment, rules, version, commit)


def variant_documents(scenario: Scenario) -> dict[str, Json]:
    """Every variant of the scenario as the wire has it, by its key."""
    return {variant["key"]: variant for variant in to_document(scenario.experiment)["variants"]}


def release_of(wire: Wire) -> tuple[str, str]:
    """Version and commit of the service, as `/metrics` tells them."""
    found = _BUILD.search(wire.text("/metrics"))
    return (found[1], found[2]) if found else ("unknown", "unknown")


def _remedy(error: Refused) -> str:
    if error.code == "clock_backwards":
        return "the store has lived already: drive a new one (rialto init --simulated)"
    if error.code == "clock_not_external":
        return (
            "start the service with `rialto serve --clock external`, on a store of `rialto init --simulated`"
        )
    return f"give a secret key with the scopes {SCOPES} (rialto init --scopes)"


def _check_store(store: Json, scenario: Scenario) -> None:
    if store["currency"] != scenario.world.currency:
        what = f"the store's currency is {store['currency']}"
        raise NotDriven(what, f"the world's is {scenario.world.currency} (rialto init --currency)")
    if store["holdout"]:
        raise NotDriven("the store has a holdout", "drive a store without one: who is held out is its secret")
    if store["out_of_stock"]:
        raise NotDriven("the store has goods that are out of stock", "drive a store without any")


def _created(wire: Wire, scenario: Scenario) -> Experiment:
    here = tuple(v for v in scenario.experiment.variants if v.key not in scenario.arrives)
    experiment = replace(scenario.experiment, variants=here)
    known: Any = None
    try:
        known = wire.get(f"/v1/experiments/{experiment.key}")
    except Refused as error:
        if error.status != 404:
            raise
    if known is not None:
        remedy = f"drive a new store, or this one with --experiment {experiment.key} if it has no units yet"
        raise NotDriven(f"the store has an experiment {experiment.key}", remedy)
    wire.post("/v1/experiments", to_document(experiment))
    wire.post(f"/v1/experiments/{experiment.key}/start")
    return scenario.experiment


def _existing(wire: Wire, key: str) -> Experiment:
    found = wire.get(f"/v1/experiments/{key}")
    if found["state"] != "running":
        raise NotDriven(f"experiment {key} is {found['state']}", "start it")
    if wire.get(f"/v1/experiments/{key}/report?metric=conversion_rate&matured=false")["units_assigned"]:
        raise NotDriven(f"experiment {key} has units already", "drive one that has none: all are counted")
    return parse_document(found["document"])


def _check_experiment(experiment: Experiment, scenario: Scenario) -> None:
    for what in _undrivable(experiment):
        raise NotDriven(f"experiment {experiment.key} has {what}", "the closed loop does not foretell it")
    sold = {v.key: (v.offer.kind, v.offer.sku) for v in experiment.variants}
    wanted = {v.key: (v.offer.kind, v.offer.sku) for v in scenario.experiment.variants}
    if sold != wanted or experiment.touchpoint != scenario.world.touchpoint:
        remedy = f"its touchpoint is {scenario.world.touchpoint}, its variants are {', '.join(wanted)}"
        raise NotDriven(f"experiment {experiment.key} is not that of the world", remedy)


def _undrivable(experiment: Experiment) -> Iterator[str]:
    if experiment.unit is not UnitKind.VISITOR:
        yield f"unit {experiment.unit}"
    if experiment.reassign_after is not None:
        yield "reassign_after"
    if experiment.audience:
        yield "an audience"
    if experiment.layer is not None:
        yield "a layer"

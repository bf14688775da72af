"""Closed loops of one's own experiments: by context, by `--experiment`, and those that cannot be driven."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from experiments.document import to_document
from service import assigning
from service.api import decisions
from sim.closed_loop.drive import Outcome, drive
from sim.closed_loop.errors import DriveError, NotDriven
from sim.closed_loop.wire import Wire
from sim.worlds.document import to_document as world_document
from sim.worlds.scenarios import scenario
from tests.ledgers import Ledgers, SqliteLedgers
from tests.ledgers import empty_ledger as empty_ledger
from tests.sim.driven import SMALL, service_here

SCENARIO = scenario("bots_and_duplicates")
BY_CONTEXT = {
    "kind": "contextual",
    "objective": "margin_per_unit",
    "control_share": 0.15,
    "floor": 0.02,
    "cadence": "6h",
    "burn_in": 50,
    "draws": 200,
    "features": [
        {"name": "segment", "kind": "category", "values": [one.key for one in SCENARIO.world.segments]},
        {"name": "cart_value", "kind": "number", "center": 9000, "scale": 9000},
    ],
}


@pytest.fixture
def files(empty_ledger: bytes, monkeypatch: pytest.MonkeyPatch) -> Ledgers:
    monkeypatch.setattr("service.auth.LOOK_UP_S", 60.0)
    monkeypatch.setattr("service.context.FETCH_S", 60.0)
    return SqliteLedgers(empty_ledger)


@pytest.fixture
def wire(files: Ledgers, tmp_path: Path) -> Iterator[Wire]:
    with service_here(files, tmp_path, "own") as found:
        yield found


def own(**changes: Any) -> dict[str, Any]:
    """The scenario's experiment under another name."""
    return {**to_document(SCENARIO.experiment), "key": "ours", "salt": "ours", **changes}


def by_context(folder: Path) -> str:
    """A scenario file whose policy is contextual."""
    document = {
        **{"title": "By context", "claim": "Every promise is held by context too.", "days": 2},
        "world": world_document(SCENARIO.world),
        "experiment": own(policy=BY_CONTEXT, attribution_window="6h"),
    }
    path = folder / "by_context.yaml"
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    return str(path)


def driven_by_context(wire: Wire, folder: Path, **changes: Any) -> Outcome:
    """Windows of six hours, so that the model has learnt from the first day when the second comes."""
    settings = dataclasses.replace(SMALL, scenario=by_context(folder), step=timedelta(hours=6), stop_after=8)
    return drive(wire, dataclasses.replace(settings, **changes))


def test_every_promise_holds_by_context(wire: Wire, tmp_path: Path) -> None:
    outcome = driven_by_context(wire, tmp_path)
    assert outcome.failure is None
    assert outcome.customers > 1_400
    versions = wire.get("/v1/experiments/ours/policy?all=true")["versions"]
    assert sum(one["contextual"] is not None for one in versions) > 2  # customers were served by context


def test_propensities_by_context_that_are_not_the_shares_are_found(
    files: Ledgers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The planted defect: one offer is drawn with the share of two and logged with its own; `explain` agrees.

    The store is of another seed than the drive, so that no race gives it away.
    """
    right = assigning.race

    def wrong(salt: str, unit: bytes, shares: Any) -> Any:
        first, *_, last = sorted(shares)
        # while burning in, the offers' shares are equal: those are left alone
        moved = shares[last] if len(set(shares.values())) == len(shares) else 0
        return right(salt, unit, {**shares, first: shares[first] + moved, last: shares[last] - moved})

    monkeypatch.setattr(assigning, "race", wrong)
    monkeypatch.setattr(decisions, "race", wrong)
    with service_here(files, tmp_path, "other", seed=SMALL.seed + 1) as wire:
        outcome = driven_by_context(wire, tmp_path, customers=2_500, duplicates=0.0, check_every=99)
    assert outcome.failure is not None
    assert outcome.failure.invariant == "sample ratio"
    assert "by context" in outcome.failure.what


def test_an_experiment_that_runs_already_is_driven(wire: Wire) -> None:
    """Shares by segment, guardrails, anchored by exposure: as its document says, not as the scenario's."""
    document = own(
        anchor="exposure",
        attribution_window="2d",
        policy={"kind": "segment", "objective": "margin_per_unit", "control_share": 0.3, "floor": 0.05},
        guardrails=[{"metric": "refund_rate", "warn": 0.1, "throttle": 0.3, "kill": 0.6}],
    )
    wire.post("/v1/experiments", document)
    with pytest.raises(NotDriven, match="experiment ours is draft: start it"):
        drive(wire, dataclasses.replace(SMALL, experiment="ours"))
    wire.post("/v1/experiments/ours/start")
    settings = dataclasses.replace(SMALL, experiment="ours", stop_after=5)
    outcome = drive(wire, settings)
    assert outcome.failure is None
    assert outcome.customers > 1_400
    assert "--experiment ours" in settings.command()
    with pytest.raises(NotDriven, match="drive a new one"):
        drive(wire, settings)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"unit": "request"}, "unit request"),
        ({"unit": "customer"}, "unit customer"),
        ({"reassign_after": "30d"}, "reassign_after"),
        ({"audience": {"country": "IT"}}, "an audience"),
        ({"layer": "checkout"}, "a layer"),
        ({"touchpoint": "cart"}, "its touchpoint is"),
        ({"variants": to_document(SCENARIO.experiment)["variants"][:2]}, "its variants are"),
    ],
)
def test_what_cannot_be_driven_is_named(wire: Wire, changes: dict[str, Any], said: str) -> None:
    wire.post("/v1/experiments", own(**changes))
    wire.post("/v1/experiments/ours/start")
    with pytest.raises(NotDriven, match=said):
        drive(wire, dataclasses.replace(SMALL, experiment="ours"))


def test_an_experiment_that_is_not_there_is_named(wire: Wire) -> None:
    with pytest.raises(DriveError, match="ours"):
        drive(wire, dataclasses.replace(SMALL, experiment="ours"))

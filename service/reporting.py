"""Report, policy and summary as the wire has them, from what the folder keeps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

from sqlalchemy import Connection, func, select

from experiments.allocation.contextual import ContextualDraws
from experiments.allocation.contextual_reading import CI_PROB, Span, VariantThere, places
from experiments.allocation.published import PolicyVersion, Sets, SetShares
from experiments.analysis.guardrails import GuardrailState
from experiments.analysis.read_out import read_out
from experiments.analysis.report import to_wire as report_to_wire
from experiments.analysis.served import EpochShares, epoch_shares
from experiments.document import to_document
from experiments.model import PolicyKind, VariantState, WarmSource
from experiments.statistics import Cell
from service.alarms import alarms_of
from service.assigning import SHARE_TOTAL
from service.catalogue import LiveExperiment
from service.clock import to_datetime, to_wire
from service.jobs.past import past_experiments
from service.ledger import schema
from service.ledger.cells import candidate_sets, first_versions, read_cells
from service.ledger.late import late_events_of
from service.safety import safety_of


def report(
    connection: Connection,
    live: LiveExperiment,
    now_us: int,
    *,
    metric: str | None,
    segment: str | None,
    from_day: date | None,
    to_day: date | None,
    matured: bool | None,
) -> dict[str, Any]:
    """The report of an experiment as of `now_us`, up to which everything has been folded."""
    body = _last_body(connection, live)
    states = {
        (entry["metric"], entry["variant"]): GuardrailState(entry["state"])
        for entry in (body or {}).get("guardrails", [])
    }
    cells = read_cells(connection, live, from_epoch=None if from_day is None else 0)
    found = read_out(
        live.experiment,
        cells,
        time_zone=live.time_zone,
        now=to_datetime(now_us),
        matured=matured,
        segment=segment,
        from_day=from_day,
        to_day=to_day,
        metric=metric,
        share_of=_current_shares(connection, live),
        states=states,
        epoch_shares=_epoch_shares(connection, live, cells),
        stop=(body or {}).get("stop"),
        # Counted of the whole experiment: of a part of it their share would say nothing.
        late=late_events_of(connection, live) if (segment, from_day, to_day) == (None, None, None) else None,
        past=past_experiments(connection, live, cells, _named(live)),
        seed=0 if live.policy is None else live.policy.number,
    )
    document = report_to_wire(found)
    document["generated_at"] = to_wire(now_us)
    document["folded_through"] = to_wire(now_us)
    document["policy_version"] = None if live.policy is None else live.policy.number
    document["state"] = live.state.value
    document["segments"] = sorted({cell.key.segment for cell in cells} - {""})
    return document


def _epoch_shares(connection: Connection, live: LiveExperiment, cells: Sequence[Cell]) -> EpochShares:
    """What the units of the cells were assigned with; by context there are no shares of an epoch."""
    if live.experiment.policy.kind is PolicyKind.CONTEXTUAL:
        return {}
    return epoch_shares(first_versions(connection, live.experiment_no), cells)


def _named(live: LiveExperiment) -> set[str]:
    """The experiments whose results are priors of this report."""
    return {source.experiment for source in live.experiment.priors.values() if isinstance(source, WarmSource)}


def policy(connection: Connection, live: LiveExperiment, *, everything: bool) -> dict[str, Any]:
    """Current shares with their grounds; with `everything` all versions, oldest first."""
    sizes = _set_sizes(connection, live)
    body = _last_body(connection, live)
    version = live.policy
    document: dict[str, Any] = {
        "experiment": live.key,
        "policy_version": None,
        "epoch": None,
        "published_at": None,
        "cause": None,
        "policy": to_document(live.experiment)["policy"],
        "burn_in": False,
        "held": None,
        "promoted": None,
        "sets": [],
        "guardrails": [],
        "ramps": [],
        "breakers": [],
        "draws": [],
        "drift": None,
        "newcomers": [],
        "warm_start": None,
        "stop": None,
        "exploration": None,
        "alarms": [],
    }
    if version is not None and body is not None:
        document |= _version(version, body, sizes)
        if version.contextual is not None:
            document["contextual"]["where"] = _where(version.contextual, live, version)
        document["guardrails"] = body["guardrails"]
        document |= safety_of(body)
        gone = {key for key, state in live.variant_states.items() if state is VariantState.RETIRED}
        document["ramps"] = [ramp for ramp in document["ramps"] if ramp["variant"] not in gone]
        document["drift"] = body.get("drift")  # versions of old have none
        document["newcomers"] = body.get("newcomers") or []
        document["warm_start"] = body.get("warm_start")
        document |= {name: _dated(body.get(name)) for name in ("stop", "exploration")}
        document["alarms"] = alarms_of(body)
    if everything:
        table = schema.policy_version
        rows = connection.execute(
            select(table.c.body).where(table.c.experiment_no == live.experiment_no).order_by(table.c.number)
        ).scalars()
        document["versions"] = [_version(PolicyVersion.from_json(b["version"]), b, sizes) for b in rows]
    return document


def _version(
    version: PolicyVersion, body: Mapping[str, Any], sizes: Mapping[frozenset[str], int]
) -> dict[str, Any]:
    return {
        "policy_version": version.number,
        "epoch": version.epoch,
        "published_at": to_wire(version.published_at_us),
        "cause": version.cause.value,
        "burn_in": body["burn_in"],
        "held": body["held"],
        "promoted": body["promoted"],
        "sets": _sets(version.sets, sizes),
        "segments": {segment: _sets(found, sizes) for segment, found in version.segments.items()},
        "contextual": _drawn(version.contextual),
    }


def _dated(kept: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """What a version keeps, with its time as the wire has times."""
    if kept is None:
        return None
    plain = {name: value for name, value in kept.items() if name != "since_us"}
    return plain | {"since": to_wire(kept["since_us"])}


def _sets(found: Sets, sizes: Mapping[frozenset[str], int]) -> list[dict[str, Any]]:
    """Candidate sets, the one that most units saw first."""
    order = sorted(found.items(), key=lambda kv: (-sizes.get(frozenset(kv[0]), 0), -len(kv[0]), kv[0]))
    return [_set(keys, shares) for keys, shares in order]


def _where(drawn: ContextualDraws, live: LiveExperiment, version: PolicyVersion) -> list[dict[str, Any]]:
    """What each value of each feature comes to, as the report has its figures; none of versions of old."""
    active = [variant.key for variant in live.experiment.variants if variant.key not in version.killed]
    return [
        {
            "feature": place.feature,
            "value": place.value,
            "units_share": place.part,
            "variants": {key: _there(found) for key, found in place.variants.items()},
        }
        for place in places(drawn, live.experiment.policy.features, active, version.capped)
    ]


def _there(found: VariantThere) -> dict[str, Any]:
    lift = None if found.lift_abs is None else _span(found.lift_abs)
    shares = {"prob_best": found.prob_best, "share": found.share}
    return {**_span(found.metric), "ci_prob": CI_PROB, "lift_abs": lift, **shares}


def _span(found: Span) -> dict[str, float]:
    return {"value": found.value, "ci_low": found.ci_low, "ci_high": found.ci_high}


def _drawn(drawn: ContextualDraws | None) -> dict[str, Any] | None:
    """What the shares by context rest on: coefficients less what all variants have in common."""
    if drawn is None:
        return None
    draws = drawn.coefficients()
    mean, sd = draws.mean(axis=0), draws.std(axis=0)
    return {
        "model": drawn.model,
        "draws": drawn.count,
        "coefficients": {
            key: {
                name: {"mean": float(mean[k, place]), "sd": float(sd[k, place])}
                for place, name in enumerate(drawn.columns)
            }
            for k, key in enumerate(drawn.keys)
        },
    }


def _set(keys: tuple[str, ...], found: SetShares) -> dict[str, Any]:
    return {
        "candidates": list(keys),
        "shares": {key: share / SHARE_TOTAL for key, share in found.shares.items()},
        "prob_best": None if found.prob_best is None else dict(found.prob_best),
        "posteriors": {
            key: {"mean": summary.mean, "sd": summary.sd, "n": summary.n, "method": summary.method}
            for key, summary in found.posteriors.items()
        },
    }


def _set_sizes(connection: Connection, live: LiveExperiment) -> dict[frozenset[str], int]:
    """Units enrolled by candidate set."""
    table = schema.assignment.c
    counts = connection.execute(
        select(table.set_no, func.count())
        .where(table.experiment_no == live.experiment_no)
        .group_by(table.set_no)
    ).all()
    members = candidate_sets(connection, live.experiment_no)
    return {frozenset(members[set_no]): units for set_no, units in counts}


def _current_shares(connection: Connection, live: LiveExperiment) -> dict[str, float]:
    if live.policy is None:
        return {}
    sizes = _set_sizes(connection, live)
    first = _sets(live.policy.sets, sizes)[0]["shares"]
    return {variant.key: first.get(variant.key, 0.0) for variant in live.experiment.variants}


def _last_body(connection: Connection, live: LiveExperiment) -> Mapping[str, Any] | None:
    if live.policy is None:
        return None
    table = schema.policy_version.c
    return connection.execute(
        select(table.body).where(
            table.experiment_no == live.experiment_no, table.number == live.policy.number
        )
    ).scalar_one()

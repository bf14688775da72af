"""A decision on the record: what was assigned and shown, and why."""

from __future__ import annotations

from typing import Any

import msgspec
from litestar import Response
from sqlalchemy import Connection, select

from experiments.allocation.hashing import race
from experiments.allocation.health import entropy_of
from experiments.allocation.published import PolicyVersion
from service.api.routing import AnyRequest, call
from service.assigning import SHARE_TOTAL
from service.auth import store_of
from service.catalogue import LiveExperiment, StoreState
from service.clock import to_wire
from service.context import service_of
from service.decision_ids import DecisionRef, decode
from service.keys import Scope
from service.ledger import schema
from service.ledger.shown import steps_of
from service.ledger.units import hashes_of
from service.problems import not_found
from service.safety import states_of, struck_out
from service.wire import answer


class Shown(msgspec.Struct, frozen=True):
    """What was shown from an instant on: the offer, or nothing and why."""

    at: str
    what: str


class DecisionRecord(msgspec.Struct, frozen=True):
    """An assignment and what was shown of it when."""

    decision_id: str
    experiment: str
    variant: str
    assigned_at: str
    propensity: float
    policy_version: int
    epoch: int
    period: int
    segment: str
    forced: bool
    candidates: list[str]
    shown: list[Shown]


class Explanation(msgspec.Struct, frozen=True):
    """Why this variant: everything the decision was made from."""

    decision_id: str
    experiment: str
    variant: str
    assigned_at: str
    forced: bool
    candidates: list[str]
    rejected: dict[str, str]
    policy_version: int
    shares: dict[str, float]
    propensity: float
    scores: dict[str, float] | None
    replayed_variant: str | None
    prob_best: dict[str, float] | None
    posteriors: dict[str, Any]
    context: dict[str, Any]
    segment: str
    features: dict[str, Any] | None = None
    model: str | None = None
    draws: int | None = None
    reason: str | None = None
    prob_struck_out: dict[str, float] | None = None
    capped: dict[str, float] = {}
    guardrails: dict[str, dict[str, str]] = {}  # by variant: the state of each metric then
    cause: str | None = None  # why the version was published
    newcomers: list[str] = []  # candidates that still burned in
    warm_start: dict[str, Any] = {}  # by candidate: the prior it began with, and whence
    entropy: float | None = None  # of these shares over the most it could be: 1 is even, 0 one variant
    promoted: str | None = None  # who had all but the control's share
    stop: str | None = None  # what the stop rule said


@call(
    "GET",
    "/v1/decisions/{decision_id:str}",
    scope=Scope.READ,
    summary="An assignment, and what was shown of it when",
    answer=DecisionRecord,
    problems=(404,),
)
async def read(request: AnyRequest, decision_id: str) -> Response[bytes]:
    """Answer the record of a decision."""
    return await _answer(request, decision_id, _record)


@call(
    "GET",
    "/v1/decisions/{decision_id:str}/explain",
    scope=Scope.READ,
    summary="Why this variant: candidates, shares, the race and the posteriors behind them",
    answer=Explanation,
    problems=(404,),
)
async def explain(request: AnyRequest, decision_id: str) -> Response[bytes]:
    """Answer why, by running the decision again."""
    return await _answer(request, decision_id, _explain)


async def _answer(request: AnyRequest, decision_id: str, view: Any) -> Response[bytes]:
    service, store = service_of(request), store_of(request)
    ref = decode(store.secret, decision_id)
    live = None if ref is None else store.by_no(ref.experiment_no)
    if ref is None or live is None:
        raise not_found("decision", decision_id)
    found = await service.read(lambda c: _view(c, store, live, ref, decision_id, view))
    if found is None:
        raise not_found("decision", decision_id)
    return answer(found)


def _view(
    connection: Connection,
    store: StoreState,
    live: LiveExperiment,
    ref: DecisionRef,
    decision_id: str,
    view: Any,
) -> Any:
    table = schema.assignment.c
    row = connection.execute(
        select(schema.assignment).where(
            table.experiment_no == ref.experiment_no,
            table.unit_no == ref.unit_no,
            table.period == ref.period,
        )
    ).first()
    if row is None:
        return None
    sets = schema.candidate_set.c
    candidates = connection.execute(
        select(sets.members).where(sets.experiment_no == ref.experiment_no, sets.set_no == row.set_no)
    ).scalar_one()
    return view(connection, store, live, row, candidates, decision_id)


def _record(
    connection: Connection,
    _store: StoreState,
    live: LiveExperiment,
    row: Any,
    candidates: list[str],
    decision_id: str,
) -> DecisionRecord:
    steps = steps_of(connection, [row])
    return DecisionRecord(
        decision_id=decision_id,
        experiment=live.key,
        variant=live.variant_key(row.variant_no),
        assigned_at=to_wire(row.at_us),
        propensity=row.share / SHARE_TOTAL,
        policy_version=row.policy_version,
        epoch=row.epoch,
        period=row.period,
        segment=row.segment,
        forced=row.is_forced,
        candidates=candidates,
        shown=[Shown(to_wire(step.at_us), step.what) for step in steps],
    )


def _explain(
    connection: Connection,
    store: StoreState,
    live: LiveExperiment,
    row: Any,
    candidates: list[str],
    decision_id: str,
) -> Explanation:
    context = connection.execute(
        select(schema.decision_context).where(
            schema.decision_context.c.experiment_no == row.experiment_no,
            schema.decision_context.c.unit_no == row.unit_no,
            schema.decision_context.c.period == row.period,
        )
    ).first()
    table = schema.policy_version.c
    body = connection.execute(
        select(table.body).where(table.experiment_no == row.experiment_no, table.number == row.policy_version)
    ).scalar_one()
    version = PolicyVersion.from_json(body["version"])
    codes = _features(connection, live, row)
    columns = None if live.columns is None or codes is None else live.columns.row(codes)
    shares = version.shares_for(candidates, segment=row.segment, row=columns)
    published = version.published(candidates, row.segment)
    drawn = version.contextual if columns is not None else None
    best = None if published is None else published.prob_best
    if drawn is not None and columns is not None:
        best = {key: won / drawn.count for key, won in drawn.wins(candidates, columns).items()}
    unit = hashes_of(connection, store, [row.unit_no]).get(row.unit_no)
    result = None if unit is None else race(live.experiment.salt, unit, shares)
    return Explanation(
        decision_id=decision_id,
        experiment=live.key,
        variant=live.variant_key(row.variant_no),
        assigned_at=to_wire(row.at_us),
        forced=row.is_forced,
        candidates=candidates,
        rejected={} if context is None else context.rejected,
        policy_version=row.policy_version,
        shares={key: share / SHARE_TOTAL for key, share in shares.items()},
        propensity=row.share / SHARE_TOTAL,
        scores=None if result is None else dict(result.scores),
        replayed_variant=None if result is None else result.winner,
        prob_best=None if best is None else dict(best),
        posteriors={}
        if published is None
        else {
            key: {"mean": found.mean, "sd": found.sd, "n": found.n, "method": found.method}
            for key, found in published.posteriors.items()
        },
        context={} if context is None else context.context,
        segment=row.segment,
        features=None if live.columns is None or codes is None else dict(live.columns.told(codes)),
        model=None if drawn is None else drawn.model,
        draws=None if drawn is None else drawn.count,
        reason="erased: the person's hash is gone, the race cannot be run again" if unit is None else None,
        prob_struck_out=struck_out(body, candidates),
        capped={key: cap for key, cap in version.capped.items() if key in candidates},
        guardrails=states_of(body, candidates),
        cause=version.cause.value,
        newcomers=[key for key in body.get("newcomers") or () if key in candidates],
        warm_start={k: told for k, told in (body.get("warm_start") or {}).items() if k in candidates},
        entropy=entropy_of(shares) if len(shares) > 1 else None,
        promoted=body["promoted"],
        stop=(body.get("stop") or {}).get("detail"),
    )


def _features(connection: Connection, live: LiveExperiment, row: Any) -> tuple[int, ...] | None:
    """The features of the enrolment's context, as they were encoded."""
    if live.columns is None:
        return None
    table = schema.enrolment_features.c
    place = table.unit_no == row.unit_no, table.experiment_no == row.experiment_no, table.period == row.period
    codes = connection.execute(select(table.codes).where(*place)).scalar()
    return None if codes is None else tuple(codes)


router = [read, explain]

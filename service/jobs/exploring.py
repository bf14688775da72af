"""How much is still explored, of a version about to be published; and whose contexts stand for all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from sqlalchemy import Connection, Float, cast, func, select

from experiments.allocation.caps import WHOLE
from experiments.allocation.features import Encoded
from experiments.allocation.health import (
    WINDOW_DAYS,
    Logged,
    Part,
    Worth,
    exploration,
    logged_worths,
    mean_entropy,
    worths,
)
from experiments.allocation.mixes import SAMPLED, mix_of
from experiments.allocation.published import PolicyVersion
from experiments.fold import DAY_US
from experiments.model import PolicyKind
from experiments.statistics import Cell
from service.catalogue import LiveExperiment
from service.ledger import schema
from service.ledger.cells import candidate_sets, first_versions


def exploration_of(
    connection: Connection,
    live: LiveExperiment,
    version: PolicyVersion,
    cells: Sequence[Cell],
    before: Mapping[str, Any] | None,
    promoted: str | None,
    *,
    recounts: bool = False,
) -> dict[str, Any]:
    """The health of exploration of a version about to be published.

    Under a contextual policy what units are worth is counted assignment by assignment (1 s a million on a
    laptop): with `recounts`, where no decision waits for it; else it is as of the last version.
    """
    last = (before or {}).get("exploration") or {}
    contexts = None
    if live.experiment.policy.kind is PolicyKind.CONTEXTUAL:
        parts = _by_context(connection, live, version, cells)
        contexts = None if version.contextual is None else len(parts)
        past = _entropies(connection, live, version)
        worth = _logged(connection, live) if recounts else _told(last)
    else:
        parts = _by_segment(version, cells)
        past, worth = _epochs(connection, live, cells)
    found = exploration(
        parts,
        past,
        worth,
        now_us=version.published_at_us,
        before=last.get("collapsed", ()),
        is_chosen=promoted is not None or live.experiment.policy.kind is PolicyKind.FIXED,
        on_ramp={key for key, cap in version.capped.items() if cap < live.experiment.policy.floor},
        contexts=contexts,
    )
    plain = found.to_json()
    goes_on = bool(last.get("collapsed")) == bool(plain["collapsed"])
    return plain | {
        "since_us": last.get("since_us", version.published_at_us) if goes_on else version.published_at_us
    }


def sampled_contexts(connection: Connection, live: LiveExperiment) -> list[Encoded]:
    """Encoded contexts of at most `SAMPLED` units, spread evenly over all; none where every unit is counted.

    The first unit at or after each of so many evenly spaced numbers: units are numbered as they come.
    """
    is_contextual = live.experiment.policy.kind is PolicyKind.CONTEXTUAL
    if not is_contextual or live.columns is None or live.columns.is_grouped:
        return []
    table = schema.enrolment_features.c
    mine = select(table.unit_no, table.codes).where(table.experiment_no == live.experiment_no)
    first = connection.execute(mine.order_by(table.unit_no).limit(1)).first()
    last = connection.execute(mine.order_by(table.unit_no.desc()).limit(1)).first()
    if first is None or last is None:
        return []
    found, reached = [tuple[int, ...](first.codes)], first.unit_no
    for place in range(1, SAMPLED):
        at = first.unit_no + (last.unit_no - first.unit_no) * place // (SAMPLED - 1)
        if at > reached:
            seek = mine.where(table.unit_no >= at).order_by(table.unit_no, table.period).limit(1)
            row = connection.execute(seek).one()
            found.append(tuple(row.codes))
            reached = row.unit_no
    return found


def _by_context(
    connection: Connection, live: LiveExperiment, version: PolicyVersion, cells: Sequence[Cell]
) -> list[Part]:
    """The shares in every context that units have, as far as is known; those of all where there is none."""
    widest = _widest(version)
    if version.contextual is None or live.columns is None:
        return [Part(1.0, widest)]
    mix = mix_of(live.columns, cells, sampled_contexts(connection, live))
    keys = tuple(widest)
    return [
        Part(part, _real(version.shares_for(keys, row=row)))
        for row, part in zip(mix.rows, mix.parts, strict=True)
    ] or [Part(1.0, widest)]


def _by_segment(version: PolicyVersion, cells: Sequence[Cell]) -> list[Part]:
    """The shares of each segment that has its own, and those of all others together."""
    widest = _widest(version)
    units: Counter[str] = Counter()
    for cell in cells:
        units[cell.key.segment] += cell.moments.sum("assigned")
    keys = tuple(widest)
    parts = [
        Part(float(units[segment]), _real(version.shares_for(keys, segment=segment)), segment)
        for segment in sorted(version.segments)
        if units[segment]
    ]
    others = units.total() - sum(part.part for part in parts)
    return parts if parts and not others else [*parts, Part(others or 1.0, widest)]


def _epochs(
    connection: Connection, live: LiveExperiment, cells: Sequence[Cell]
) -> tuple[list[tuple[int, float]], dict[str, Worth]]:
    """Each epoch's time and entropy (over the segments' units of now), and what units are worth."""
    epochs = first_versions(connection, live.experiment_no)

    @cache
    def shares_in(epoch: int, candidates: frozenset[str], segment: str) -> Mapping[str, int]:
        there = epochs.get(epoch)
        return {} if there is None else there.shares_for(sorted(candidates), segment=segment)

    def propensity(cell: Cell) -> float:
        key = cell.key
        return shares_in(key.epoch, cell.candidates, key.segment).get(key.variant, 0) / WHOLE

    past = [
        (old.published_at_us, mean_entropy(_by_segment(old, cells)))
        for old in epochs.values()
        if len(_widest(old)) >= 2
    ]
    return past, worths(cells, propensity)


def _entropies(
    connection: Connection, live: LiveExperiment, version: PolicyVersion
) -> list[tuple[int, float]]:
    """Time and entropy of the versions of the window and a day before, as they were found then.

    Versions are published daily at least. Their draws are not read again: they are large.
    """
    table = schema.policy_version.c
    entropy = table.body[("exploration", "entropy")].as_float()
    since_us = version.published_at_us - int((WINDOW_DAYS + 2) * DAY_US)
    rows = connection.execute(
        select(table.published_at_us, entropy)
        .where(table.experiment_no == live.experiment_no, table.published_at_us >= since_us)
        .order_by(table.number)
    )
    return [(at_us, float(value)) for at_us, value in rows if value is not None]


def _logged(connection: Connection, live: LiveExperiment) -> dict[str, Worth]:
    """What units are worth, from the propensity logged with each assignment: one pass over all of them."""
    members = candidate_sets(connection, live.experiment_no)
    table = schema.assignment.c
    inverse = cast(WHOLE, Float) / cast(table.share, Float)
    rows = connection.execute(
        select(table.variant_no, table.set_no, func.count(), func.sum(inverse), func.sum(inverse * inverse))
        .where(table.experiment_no == live.experiment_no)
        .group_by(table.variant_no, table.set_no)
        .order_by(table.variant_no, table.set_no)
    )
    return logged_worths(
        Logged(live.variant_key(variant_no), len(members[set_no]), units, float(inverse), float(squared))
        for variant_no, set_no, units, inverse, squared in rows
    )


def _told(last: Mapping[str, Any]) -> dict[str, Worth]:
    """What the last version said of it."""
    return {key: Worth(one["units"], one["ess"]) for key, one in last.get("variants", {}).items()}


def _widest(version: PolicyVersion) -> dict[str, float]:
    """Shares of the candidate set with most variants: all that were live then."""
    widest = max(version.sets, key=len)
    return _real(version.sets[widest].shares)


def _real(shares: Mapping[str, int]) -> dict[str, float]:
    return {key: share / WHOLE for key, share in shares.items()}

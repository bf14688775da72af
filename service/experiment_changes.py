"""Changes of experiments. Each function runs inside the writer, on rows as they are there and then."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select, update

from experiments.allocation.published import Cause
from experiments.analysis.metrics import metric_definitions
from experiments.document import check_change, experiment_schema, parse_document, to_document
from experiments.errors import FieldError, InvalidDocument
from experiments.json_schema import child
from experiments.model import Experiment, Lifecycle, VariantState, WarmSource
from service.catalogue import StoreState
from service.jobs.allocator import publish_first, republish
from service.ledger import schema
from service.ledger.folds import mark_all
from service.ledger.statements import comparable
from service.problems import conflict, not_found
from service.wire import merge_patch, refuse_unknown, stale

TRANSITIONS: Mapping[str, tuple[tuple[Lifecycle, ...], Lifecycle]] = {
    "start": ((Lifecycle.DRAFT,), Lifecycle.RUNNING),
    "pause": ((Lifecycle.RUNNING,), Lifecycle.PAUSED),
    "resume": ((Lifecycle.PAUSED,), Lifecycle.RUNNING),
    "stop": ((Lifecycle.RUNNING, Lifecycle.PAUSED), Lifecycle.STOPPED),
    "archive": ((Lifecycle.DRAFT, Lifecycle.STOPPED), Lifecycle.ARCHIVED),
}
_SERVED = (Lifecycle.RUNNING, Lifecycle.PAUSED)


@dataclass(frozen=True, slots=True)
class Change:
    """Where and when a change happens."""

    connection: Connection
    store: StoreState
    now_us: int


def create(change: Change, experiment: Experiment) -> bool:
    """Insert a draft; False when the very same experiment is there already."""
    table = schema.experiment
    row = change.connection.execute(
        select(table).where(table.c.store_no == change.store.store_no, table.c.key == experiment.key)
    ).first()
    if row is not None:
        if parse_document(row.document) == experiment:
            return False
        detail = f"{experiment.key} exists with another document: PATCH it, or choose another key"
        raise conflict("exists", detail)
    check_sources(change, experiment)
    values = {
        "store_no": change.store.store_no,
        "key": experiment.key,
        "state": Lifecycle.DRAFT.value,
        "version": 1,
        "document": to_document(experiment),
        "time_zone": change.store.settings.time_zone,
        "caps": {},
        "report_from_epoch": 0,
        "created_at_us": change.now_us,
        "started_at_us": None,
        "stopped_at_us": None,
    }
    made = change.connection.execute(insert(table).values(values).returning(table.c.experiment_no))
    _set_variants(change, made.scalar_one(), experiment)
    return True


def patch(change: Change, key: str, version: int, document_patch: Mapping[str, Any]) -> None:
    """Apply a JSON merge patch to the document of that version."""
    row = _row(change, key)
    if row.version != version:
        raise stale(f'"{version}"')
    refuse_unknown(document_patch, experiment_schema())
    document = merge_patch(row.document, document_patch)
    if "winsorise" in document_patch and document_patch["winsorise"] is None:
        # null removes, but of a field whose default is not null it can only mean null.
        document["winsorise"] = None
    _replace(change, row, document, Cause.EDITED)


def add_variant(change: Change, key: str, variant: Mapping[str, Any]) -> None:
    """Append a variant to the document; a started experiment shows it from now on."""
    row = _row(change, key)
    _refuse_over(row)
    before = row.document["variants"]
    with _pointing_into(f"/variants/{len(before)}", ""):
        _replace(change, row, {**row.document, "variants": [*before, dict(variant)]}, Cause.ADDED)


def replace_variant(
    change: Change, key: str, old: str, variant: Mapping[str, Any], discount: float | None
) -> None:
    """Retire a variant and add another in its place, in one version.

    With a discount the new one begins with what the old one's units told, each counting so much. Written
    shares pass over to it.
    """
    row = _row(change, key)
    _refuse_over(row)
    if _variant(parse_document(row.document), old).is_control:
        raise conflict("control_stays", "the control cannot be replaced: create another experiment")
    document = deepcopy(dict(row.document))
    new = str(variant.get("key", ""))
    policy = document["policy"]
    if policy.get("shares"):
        policy["shares"] = policy["shares"] | {new: policy["shares"][old], old: 0.0}
    if discount is not None:
        warm = policy.get("warm_start") or {}
        source = {"experiment": key, "variant": old, "discount": discount}
        policy["warm_start"] = warm | {"variants": warm.get("variants", {}) | {new: source}}
    before = document["variants"]
    table = schema.variant
    change.connection.execute(
        update(table)
        .where(table.c.experiment_no == row.experiment_no, table.c.key == old)
        .values(state=VariantState.RETIRED.value, changed_at_us=change.now_us)
    )
    with _pointing_into(f"/variants/{len(before)}", "/variant"):
        _replace(change, row, document | {"variants": [*before, dict(variant)]}, Cause.REPLACED)
    change.connection.execute(
        update(table)
        .where(table.c.experiment_no == row.experiment_no, table.c.key == new)
        .values(replaces=old)
    )


def transition(change: Change, key: str, action: str) -> None:
    """Take the experiment along its life. Raises 409 when that is not its next step."""
    row = _row(change, key)
    allowed_from, to = TRANSITIONS[action]
    state = Lifecycle(row.state)
    if state not in allowed_from:
        possible = [name for name, (before, _) in TRANSITIONS.items() if state in before]
        allowed = ", ".join(possible) or "nothing more"
        raise conflict("illegal_transition", f"{key} is {state}: it cannot {action}; possible: {allowed}")
    values: dict[str, Any] = {"state": to.value}
    if action == "start":
        # Cohort days are those of the store's time zone now; they never move afterwards.
        values |= {"started_at_us": change.now_us, "time_zone": change.store.settings.time_zone}
    elif action == "stop":
        values["stopped_at_us"] = change.now_us
    _write(change, row, values)
    if action == "start":
        publish_first(change.connection, change.store.store_no, row.experiment_no, change.now_us)


def set_variant_state(change: Change, key: str, variant_key: str, action: str) -> None:
    """Retire a variant, or resume one that was retired or killed."""
    row = _row(change, key)
    _refuse_over(row)
    experiment = parse_document(row.document)
    variant = _variant(experiment, variant_key)
    if variant.is_control:
        raise conflict("control_stays", "the control cannot be retired: stop the experiment instead")
    to = VariantState.RETIRED if action == "retire" else VariantState.ACTIVE
    table = schema.variant
    here = (table.c.experiment_no == row.experiment_no) & (table.c.key == variant_key)
    if change.connection.execute(select(table.c.state).where(here)).scalar_one() == to:
        return
    change.connection.execute(update(table).where(here).values(state=to.value, changed_at_us=change.now_us))
    _write(change, row, {})
    _republish(change, row, Cause.RETIRED if action == "retire" else Cause.RESUMED)


def promote(change: Change, key: str, variant_key: str) -> None:
    """Give a variant everything but the control's share."""
    row = _row(change, key)
    variant = _variant(parse_document(row.document), variant_key)
    if Lifecycle(row.state) not in _SERVED:
        raise conflict("not_started", f"{key} is {row.state}: only a running or paused one can promote")
    if variant.is_control:
        raise conflict("control_stays", "the control has its share already: retire the variants, or stop")
    table = schema.variant
    state = change.connection.execute(
        select(table.c.state).where(table.c.experiment_no == row.experiment_no, table.c.key == variant_key)
    ).scalar_one()
    if state != VariantState.ACTIVE:
        raise conflict("variant_not_active", f"{variant_key} is {state}: resume it first")
    _write(change, row, {})
    _republish(change, row, Cause.PROMOTED, promoted=variant_key)


def _replace(change: Change, row: Any, document: Mapping[str, Any], cause: Cause) -> None:
    before = parse_document(row.document)
    after = parse_document(document, currency_default=change.store.settings.currency)
    started = row.started_at_us is not None
    check_change(before, after, started=started)
    if after == before:
        return
    check_sources(change, after)
    if cause is Cause.EDITED and len(after.variants) > len(before.variants):
        cause = Cause.ADDED
    if after.variants != before.variants:
        _refuse_over(row)
    _write(change, row, {"document": to_document(after)})
    _set_variants(change, row.experiment_no, after, is_started=started)
    if after.metrics != before.metrics or after.policy.delay is not before.policy.delay:
        # What they need is read from the first day: everyone's events are folded again for it.
        mark_all(change.connection, change.store.store_no, row.experiment_no)
    if Lifecycle(row.state) in _SERVED and _moves_traffic(before, after):
        _republish(change, row, cause)
        if after.audience != before.audience:
            _report_from_now(change, row.experiment_no)


@contextmanager
def _pointing_into(place: str, sent: str) -> Generator[None]:
    """The caller sent a variant, not the document: faults of it point into what was sent."""
    try:
        yield
    except InvalidDocument as error:
        faults = (
            FieldError(sent + e.pointer.removeprefix(place), e.code, e.remedy)
            if e.pointer.startswith(place)
            else e
            for e in error.errors
        )
        raise InvalidDocument(tuple(faults)) from error


def _moves_traffic(before: Experiment, after: Experiment) -> bool:
    return (before.audience, before.policy, before.variants, before.guardrails, before.layer) != (
        after.audience,
        after.policy,
        after.variants,
        after.guardrails,
        after.layer,
    )


def _report_from_now(change: Change, experiment_no: int) -> None:
    """Another audience is another population: the report begins with the epoch just published."""
    policy, table = schema.policy_version, schema.experiment
    epoch = change.connection.execute(
        select(func.max(policy.c.epoch)).where(policy.c.experiment_no == experiment_no)
    ).scalar_one()
    change.connection.execute(
        update(table).where(table.c.experiment_no == experiment_no).values(report_from_epoch=epoch)
    )


def _set_variants(
    change: Change, experiment_no: int, experiment: Experiment, *, is_started: bool = False
) -> None:
    """Rows for the document's variants; those that are there keep their state."""
    table = schema.variant
    rows = change.connection.execute(select(table).where(table.c.experiment_no == experiment_no)).all()
    there = {(row.variant_no, row.key) for row in rows}
    wanted = list(enumerate(variant.key for variant in experiment.variants))
    if there == set(wanted):
        return
    if not there <= set(wanted):  # only a draft's can go: nothing refers to them yet
        change.connection.execute(delete(table).where(table.c.experiment_no == experiment_no))
        there = set()
    new = [
        {
            "experiment_no": experiment_no,
            "variant_no": number,
            "key": key,
            "state": VariantState.ACTIVE.value,
            "changed_at_us": change.now_us,
            "added_at_us": change.now_us if is_started else None,
        }
        for number, key in wanted
        if (number, key) not in there
    ]
    if new:
        change.connection.execute(insert(table), new)


def _row(change: Change, key: str) -> Any:
    table = schema.experiment
    row = change.connection.execute(
        select(table).where(table.c.store_no == change.store.store_no, table.c.key == comparable(key))
    ).first()
    if row is None:
        raise not_found("experiment", key)
    return row


def _variant(experiment: Experiment, key: str) -> Any:
    try:
        return experiment.variant(key)
    except KeyError as error:
        raise not_found("variant", key) from error


def check_sources(change: Change, experiment: Experiment) -> None:
    """Refuse a warm start or prior from what the store does not have, or what cannot be compared with it."""
    warm = experiment.policy.warm_start
    objective = experiment.policy.objective
    faults: list[FieldError] = []
    for key, source in {} if warm is None else warm.variants.items():
        faults += _source_faults(
            change, experiment, child("/policy/warm_start/variants", key), source, objective, key
        )
    for key, source in experiment.priors.items():
        if isinstance(source, WarmSource):
            faults += _source_faults(change, experiment, child("/priors", key), source, key, None)
    if faults:
        raise InvalidDocument(tuple(faults))


def _source_faults(
    change: Change, experiment: Experiment, pointer: str, source: WarmSource, metric_key: str, own: str | None
) -> list[FieldError]:
    """What keeps the metric's results there from counting here; `own` is the variant that begins with them.

    A prior of the report is about other units than the report's own: it comes from another experiment.
    """
    there = experiment if source.experiment == experiment.key else _known(change, source.experiment)
    if there is None or (own is None and there is experiment):
        remedy = f"there is no {'other ' * (own is None)}experiment {source.experiment} in this store"
        return [FieldError(f"{pointer}/experiment", "unknown_experiment", remedy)]
    faults: list[FieldError] = []
    others = {variant.key for variant in there.variants} - ({own} if there is experiment else set())
    if source.variant not in others:
        remedy = f"is no other variant of {source.experiment}"
        faults.append(FieldError(f"{pointer}/variant", "unknown_variant", remedy))
    metric = metric_definitions(experiment)[metric_key]
    theirs = metric_definitions(there).get(metric_key)
    if theirs is None or theirs.kind is not metric.kind:
        remedy = f"{source.experiment} has no metric {metric_key} of that kind to learn from"
        faults.append(FieldError(f"{pointer}/experiment", "unknown_metric", remedy))
    if metric.unconverted is not None and there.currency != experiment.currency:
        remedy = f"{source.experiment} counts in {there.currency}; money does not carry over"
        faults.append(FieldError(f"{pointer}/experiment", "other_currency", remedy))
    return faults


def _known(change: Change, key: str) -> Experiment | None:
    table = schema.experiment.c
    document = change.connection.execute(
        select(table.document).where(table.store_no == change.store.store_no, table.key == comparable(key))
    ).scalar_one_or_none()
    return None if document is None else parse_document(document)


def _refuse_over(row: Any) -> None:
    if Lifecycle(row.state) in (Lifecycle.STOPPED, Lifecycle.ARCHIVED):
        raise conflict("experiment_over", f"{row.key} is {row.state}: its variants no longer change")


def _write(change: Change, row: Any, values: Mapping[str, Any]) -> None:
    table = schema.experiment
    change.connection.execute(
        update(table)
        .where(table.c.experiment_no == row.experiment_no)
        .values(version=row.version + 1, **values)
    )


def _republish(change: Change, row: Any, cause: Cause, *, promoted: str | None = None) -> None:
    if Lifecycle(row.state) in _SERVED:
        republish(
            change.connection,
            change.store.store_no,
            row.experiment_no,
            change.now_us,
            cause,
            promote=promoted,
        )

"""The last policy set: what serving needs of every store, in a file, for when the ledger cannot be reached.

It holds settings, experiments, policy versions and digests of keys; never a store's secret, a key itself
or anything of a shopper. So what is read back can say what may be shown, and can sign nothing.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import Connection, make_url, select

from experiments.allocation.published import PolicyVersion
from experiments.document import parse_document, to_document
from experiments.errors import BrokenInvariant, InvalidDocument
from experiments.model import Lifecycle, VariantState
from service.catalogue import LiveExperiment, StoreState, load_store, settings_of
from service.keys import KeyKind, Principal, Scope
from service.ledger import schema
from service.settings import Settings
from service.store_settings import document_of

log = logging.getLogger(__name__)

FORMAT = "rialto policy set"
VERSION = 1
STATE_FOLDER = "rialto-state"
"""Under the working directory: for a ledger that is no file, when no folder is given."""


@dataclass(frozen=True, slots=True)
class PolicySet:
    """Every store as last seen, and who may ask."""

    stores: Mapping[int, StoreState]
    keys: Mapping[bytes, Principal]  # by digest
    revoked: frozenset[bytes]


def path_for(settings: Settings) -> Path:
    """Where the policy set of this ledger is kept."""
    url = make_url(settings.database_url)
    name = url.database or ""
    if url.get_backend_name() == "sqlite":
        if settings.state_dir is None:
            return Path(f"{name}.policies.json")
        name = str(Path(name).absolute())
    # Without user and password: who connects does not make it another ledger.
    where = json.dumps([url.host or url.query.get("host"), url.port or url.query.get("port"), name])
    digest = hashlib.sha256(where.encode()).hexdigest()[:16]
    return Path(settings.state_dir or STATE_FOLDER) / f"policies-{digest}.json"


def revisions(connection: Connection) -> dict[int, int]:
    """What each store has come to: it moves when anything that serving reads changes."""
    table = schema.store.c
    return {row.store_no: row.revision for row in connection.execute(select(table.store_no, table.revision))}


def read(connection: Connection) -> PolicySet:
    """The policy set of a ledger, as of the connection's snapshot."""
    key = schema.api_key
    rows = connection.execute(select(key)).all()
    return PolicySet(
        stores={store_no: load_store(connection, store_no) for store_no in revisions(connection)},
        keys={
            row.sha256: Principal(
                public_id=row.public_id,
                store_no=row.store_no,
                kind=KeyKind(row.kind),
                scopes=frozenset(Scope(scope) for scope in row.scopes),
                sha256=row.sha256,
            )
            for row in rows
            if row.revoked_at_us is None
        },
        revoked=frozenset(row.sha256 for row in rows if row.revoked_at_us is not None),
    )


def save(path: Path, policies: PolicySet) -> None:
    """Write the file at once or not at all; only its owner may read it. Raises OSError."""
    body = msgspec.json.encode(_saved(policies))
    envelope = _Envelope(FORMAT, VERSION, hashlib.sha256(body).hexdigest(), msgspec.Raw(body))
    path.parent.mkdir(parents=True, exist_ok=True)
    # mkstemp gives mode 0600, and a name of its own to each of several processes.
    number, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(number, "wb") as file:
            file.write(msgspec.json.encode(envelope))
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def load(path: Path) -> PolicySet | None:
    """What was saved; None, with a line in the log, when there is nothing that can be trusted."""
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        log.warning("the last policy set %s cannot be read: %s", path, error.strerror or error)
        return None
    try:
        envelope = msgspec.json.decode(raw, type=_Envelope)
        if envelope.format != FORMAT or envelope.version != VERSION:
            raise ValueError(f"it is {envelope.format} {envelope.version}, not {FORMAT} {VERSION}")
        if hashlib.sha256(envelope.body).hexdigest() != envelope.sha256:
            raise ValueError("its checksum is wrong")
        return _policies(msgspec.json.decode(envelope.body, type=_Saved))
    except (ValueError, KeyError, TypeError, InvalidDocument, BrokenInvariant) as error:
        log.warning("the last policy set %s is ignored: %s", path, error)
        return None


class _Envelope(msgspec.Struct, frozen=True):
    format: str
    version: int
    sha256: str
    body: msgspec.Raw


class _SavedKey(msgspec.Struct, frozen=True):
    sha256: bytes
    public_id: str
    store_no: int
    kind: KeyKind
    scopes: list[Scope]


class _SavedExperiment(msgspec.Struct, frozen=True):
    experiment_no: int
    document: dict[str, Any]
    state: Lifecycle
    version: int
    time_zone: str
    variants: dict[str, VariantState]
    policy: dict[str, Any] | None
    caps: dict[str, Any]
    report_from_epoch: int
    created_at_us: int
    started_at_us: int | None


class _SavedStore(msgspec.Struct, frozen=True):
    store_no: int
    key: str
    is_simulated: bool
    simulated_now_us: int | None
    version: int
    settings: dict[str, Any]
    experiments: list[_SavedExperiment]


class _Saved(msgspec.Struct, frozen=True):
    stores: list[_SavedStore]
    keys: list[_SavedKey]
    revoked: list[bytes]


def _saved(policies: PolicySet) -> _Saved:
    return _Saved(
        stores=[_saved_store(state) for state in policies.stores.values()],
        keys=[
            _SavedKey(digest, who.public_id, who.store_no, who.kind, sorted(who.scopes))
            for digest, who in policies.keys.items()
        ],
        revoked=sorted(policies.revoked),
    )


def _saved_store(store: StoreState) -> _SavedStore:
    return _SavedStore(
        store_no=store.store_no,
        key=store.key,
        is_simulated=store.is_simulated,
        simulated_now_us=store.simulated_now_us,
        version=store.version,
        settings=msgspec.to_builtins(document_of(store.settings)),
        experiments=[
            _SavedExperiment(
                experiment_no=live.experiment_no,
                document=to_document(live.experiment),
                state=live.state,
                version=live.version,
                time_zone=live.time_zone,
                variants=dict(live.variant_states),
                policy=None if live.policy is None else live.policy.to_json(),
                caps=dict(live.caps),
                report_from_epoch=live.report_from_epoch,
                created_at_us=live.created_at_us,
                started_at_us=live.started_at_us,
            )
            for live in store.experiments.values()
        ],
    )


def _policies(saved: _Saved) -> PolicySet:
    return PolicySet(
        stores={store.store_no: _store(store) for store in saved.stores},
        keys={
            key.sha256: Principal(key.public_id, key.store_no, key.kind, frozenset(key.scopes), key.sha256)
            for key in saved.keys
        },
        revoked=frozenset(saved.revoked),
    )


def _store(saved: _SavedStore) -> StoreState:
    lives = [_live(experiment) for experiment in saved.experiments]
    return StoreState(
        store_no=saved.store_no,
        key=saved.key,
        secret=b"",  # never in the file: nothing can be signed or recognised without the ledger
        is_simulated=saved.is_simulated,
        simulated_now_us=saved.simulated_now_us,
        version=saved.version,
        settings=settings_of(saved.settings),
        experiments={live.key: live for live in lives},
    )


def _live(saved: _SavedExperiment) -> LiveExperiment:
    return LiveExperiment(
        experiment_no=saved.experiment_no,
        experiment=parse_document(saved.document),
        state=saved.state,
        version=saved.version,
        time_zone=saved.time_zone,
        variant_states=saved.variants,
        policy=None if saved.policy is None else PolicyVersion.from_json(saved.policy),
        caps=saved.caps,
        report_from_epoch=saved.report_from_epoch,
        created_at_us=saved.created_at_us,
        started_at_us=saved.started_at_us,
    )

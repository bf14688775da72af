"""What every request needs to know of a store, in memory: settings, experiments, policies.

A `StoreState` is a frozen snapshot of committed rows. Whoever changes a store commits first and then
drops its snapshot; the next reader loads it anew. So a request sees one consistent store throughout.
What another replica changed is loaded beside the old snapshot, which serves until then.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, select

from experiments.allocation.features import Columns, Encoded
from experiments.allocation.published import PolicyVersion
from experiments.document import parse_document
from experiments.eligibility import Eligibility, RequestContext, eligible, parse_conditions
from experiments.model import Condition, Experiment, Lifecycle, Offer, VariantState
from service.compiling import compile_beside
from service.ledger import schema
from service.ledger.database import Database

SHARES_KEPT = 4096
"""Candidate sets (and contexts) of an experiment whose shares are kept in memory; and carts, for the sets."""

Ruling = tuple[frozenset[str], str | None, frozenset[str]]
"""What rules variants out: of the cart, the item looked at, what is out of stock."""
Asked = tuple[tuple[str, ...], str | None, Encoded | None]
"""Candidates, the segment and the context, as far as shares depend on them."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A named group of shoppers; in a store's list the first that matches counts."""

    key: str
    conditions: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class StoreSettings:
    """A store's settings as wire.md names them; durations in microseconds, rates as decimal text."""

    time_zone: str = "UTC"
    currency: str = "EUR"
    holdout: float = 0.0
    default_cost_rate: float | None = None
    cost_recovered_rate: float = 0.0
    abandonment_window: str = "24h"
    fx_rates: Mapping[str, str] = field(default_factory=dict)
    segments: tuple[Segment, ...] = ()
    out_of_stock: frozenset[str] = frozenset()
    origins: tuple[str, ...] = ()
    deadline_ms: int = 150


@dataclass(frozen=True, slots=True)
class LiveExperiment:
    """An experiment with everything a decision needs."""

    experiment_no: int
    experiment: Experiment
    state: Lifecycle
    version: int
    time_zone: str
    variant_states: Mapping[str, VariantState]
    policy: PolicyVersion | None
    caps: Mapping[str, Any]
    report_from_epoch: int
    created_at_us: int
    started_at_us: int | None
    added: Mapping[str, int] = field(default_factory=dict[str, int])
    """When each variant that came later was added, in microseconds."""
    replaces: Mapping[str, str] = field(default_factory=dict[str, str])
    numbers: Mapping[str, int] = field(init=False)  # of the variants
    offers: Mapping[str, Offer] = field(init=False)  # by variant
    control_key: str = field(init=False)
    columns: Columns | None = field(init=False)  # of its features
    offered: frozenset[str] = field(init=False)  # what its variants sell
    _eligible: dict[Ruling, Eligibility] = field(
        init=False, repr=False, compare=False, default_factory=dict[Ruling, Eligibility]
    )
    _shares: dict[Asked, Mapping[str, int]] = field(
        init=False, repr=False, compare=False, default_factory=dict[Asked, Mapping[str, int]]
    )

    def __post_init__(self) -> None:
        numbers = {variant.key: number for number, variant in enumerate(self.experiment.variants)}
        object.__setattr__(self, "numbers", numbers)
        object.__setattr__(self, "offers", {v.key: v.offer for v in self.experiment.variants})
        object.__setattr__(self, "control_key", self.experiment.control.key)
        skus = frozenset(v.offer.sku for v in self.experiment.variants if v.offer.sku is not None)
        object.__setattr__(self, "offered", skus)
        features = self.experiment.policy.features
        object.__setattr__(self, "columns", Columns(features) if features else None)

    @property
    def key(self) -> str:
        """The experiment's key."""
        return self.experiment.key

    def variant_no(self, key: str) -> int:
        """The variant's number: its place in the document, for ever."""
        return self.numbers[key]

    def eligible_for(self, context: RequestContext, out_of_stock: frozenset[str]) -> Eligibility:
        """The candidates of a request now, worked out once for what of our offers its cart and item hold."""
        offered = self.offered
        item = context.item_sku if context.item_sku in offered else None
        ruling = context.cart_skus & offered, item, out_of_stock
        found = self._eligible.get(ruling)
        if found is None:
            if len(self._eligible) >= SHARES_KEPT:
                self._eligible.clear()
            found = eligible(self.experiment.variants, self.variant_states, context, out_of_stock)
            self._eligible[ruling] = found
        return found

    def shares_for(
        self, candidates: tuple[str, ...], segment: str = "", features: Encoded | None = None
    ) -> Mapping[str, int]:
        """The shares of the policy that is served, worked out once for each candidate set.

        And for each segment or context, where the policy tells them apart.
        """
        policy = self.policy
        assert policy is not None
        asked = (
            candidates,
            segment if segment in policy.segments else None,
            None if policy.contextual is None else features,
        )
        found = self._shares.get(asked)
        if found is None:
            if len(self._shares) >= SHARES_KEPT:
                self._shares.clear()
            row = None if self.columns is None or asked[2] is None else self.columns.row(asked[2])
            found = self._shares[asked] = policy.shares_for(candidates, segment=asked[1], row=row)
        return found

    def variant_key(self, variant_no: int) -> str:
        """The key of a variant's number."""
        return self.experiment.variants[variant_no].key


@dataclass(frozen=True, slots=True)
class StoreState:
    """A store as committed."""

    store_no: int
    key: str
    secret: bytes
    is_simulated: bool
    simulated_now_us: int | None
    version: int
    settings: StoreSettings
    experiments: Mapping[str, LiveExperiment]
    _currencies: frozenset[str] | None = field(init=False, repr=False, compare=False, default=None)
    _touchpoints: Mapping[str, tuple[LiveExperiment, ...]] | None = field(
        init=False, repr=False, compare=False, default=None
    )
    _numbered: Mapping[int, LiveExperiment] | None = field(
        init=False, repr=False, compare=False, default=None
    )
    revision: int = 0  # moves with every change of what stands here; 0: not from the ledger

    @property
    def currencies(self) -> frozenset[str]:
        """The store's currency, and its experiments'."""
        if self._currencies is None:
            found = {live.experiment.currency for live in self.experiments.values()}
            object.__setattr__(self, "_currencies", frozenset({self.settings.currency, *found}))
        assert self._currencies is not None
        return self._currencies

    def by_no(self, experiment_no: int) -> LiveExperiment | None:
        """The experiment of that number, when it is this store's."""
        if self._numbered is None:
            found = {live.experiment_no: live for live in self.experiments.values()}
            object.__setattr__(self, "_numbered", found)
        assert self._numbered is not None
        return self._numbered.get(experiment_no)

    def numbered(self, experiment_no: int) -> LiveExperiment:
        """The experiment of that number, which a row of this store names."""
        found = self.by_no(experiment_no)
        assert found is not None, f"experiment {experiment_no} is not of store {self.store_no}"
        return found

    def running_at(self, touchpoint: str) -> tuple[LiveExperiment, ...]:
        """Running or paused experiments of a touchpoint, highest priority first, then by key."""
        if self._touchpoints is None:
            names = {live.experiment.touchpoint for live in self.experiments.values()}
            object.__setattr__(self, "_touchpoints", {name: self._open_at(name) for name in names})
        assert self._touchpoints is not None
        return self._touchpoints.get(touchpoint, ())

    def _open_at(self, touchpoint: str) -> tuple[LiveExperiment, ...]:
        open_states = (Lifecycle.RUNNING, Lifecycle.PAUSED)
        here = [
            e
            for e in self.experiments.values()
            if e.experiment.touchpoint == touchpoint and e.state in open_states
        ]
        return tuple(sorted(here, key=lambda e: (-e.experiment.priority, e.state is Lifecycle.PAUSED, e.key)))


class Catalogue:
    """Snapshots of stores, loaded when asked for."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._stores: dict[int, StoreState] = {}
        self._drops: Counter[int] = Counter()

    def known(self, store_no: int) -> StoreState | None:
        """The store's snapshot, if it is in memory."""
        return self._stores.get(store_no)

    def store(self, store_no: int) -> StoreState:
        """The store's snapshot; blocks when it must be read."""
        return self._stores.get(store_no) or self._load(store_no)

    async def fetch(self, store_no: int) -> StoreState:
        """The store's snapshot; read in a thread when it must be."""
        return self._stores.get(store_no) or await asyncio.to_thread(self._load, store_no)

    async def refresh(self, store_no: int) -> None:
        """Replace a snapshot by what is committed now, in a thread; one not in memory is left alone."""
        if store_no in self._stores:
            await asyncio.to_thread(self._load, store_no)

    def drop(self, store_no: int) -> None:
        """Forget a snapshot after a committed change."""
        self._drops[store_no] += 1
        self._stores.pop(store_no, None)

    def held(self) -> list[StoreState]:
        """The snapshots that are served at this moment."""
        return list(self._stores.values())

    def all_store_nos(self) -> list[int]:
        """Every store of the ledger."""
        with self._database.read() as connection:
            return list(connection.execute(select(schema.store.c.store_no)).scalars())

    def _load(self, store_no: int) -> StoreState:
        drops = self._drops[store_no]
        with self._database.read() as connection:
            state = load_store(connection, store_no)
        if any(live.policy and live.policy.contextual for live in state.experiments.values()):
            compile_beside()
        # What was dropped, or replaced by something newer, while this was read is not kept.
        held = self._stores.get(store_no)
        if drops == self._drops[store_no] and (held is None or held.revision <= state.revision):
            self._stores[store_no] = state
        return state


def load_store(connection: Connection, store_no: int) -> StoreState:
    """Read a store with its experiments; also used inside the writer, where snapshots may be old."""
    store = connection.execute(select(schema.store).where(schema.store.c.store_no == store_no)).one()
    rows = connection.execute(select(schema.experiment).where(schema.experiment.c.store_no == store_no)).all()
    experiments = {row.key: _load_experiment(connection, row) for row in rows}
    return StoreState(
        store_no=store.store_no,
        key=store.key,
        secret=store.secret,
        is_simulated=store.is_simulated,
        simulated_now_us=store.simulated_now_us,
        version=store.version,
        revision=store.revision,
        settings=settings_of(store.settings),
        experiments=experiments,
    )


def settings_of(stored: Mapping[str, Any]) -> StoreSettings:
    """The settings column as a value."""
    values = dict(stored)
    if "segments" in values:
        values["segments"] = tuple(
            Segment(s["key"], parse_conditions(s["conditions"], f"/segments/{i}/conditions"))
            for i, s in enumerate(values["segments"])
        )
    if "out_of_stock" in values:
        values["out_of_stock"] = frozenset(values["out_of_stock"])
    if "origins" in values:
        values["origins"] = tuple(values["origins"])
    return StoreSettings(**values)


def _load_experiment(connection: Connection, row: Any) -> LiveExperiment:
    variants = connection.execute(
        select(schema.variant).where(schema.variant.c.experiment_no == row.experiment_no)
    ).all()
    policy = connection.execute(
        select(schema.policy_version)
        .where(schema.policy_version.c.experiment_no == row.experiment_no)
        .order_by(schema.policy_version.c.number.desc())
        .limit(1)
    ).first()
    return LiveExperiment(
        experiment_no=row.experiment_no,
        experiment=parse_document(row.document),
        state=Lifecycle(row.state),
        version=row.version,
        time_zone=row.time_zone,
        variant_states={v.key: VariantState(v.state) for v in variants},
        policy=None if policy is None else PolicyVersion.from_json(policy.body["version"]),
        caps=row.caps,
        report_from_epoch=row.report_from_epoch,
        created_at_us=row.created_at_us,
        started_at_us=row.started_at_us,
        added={v.key: v.added_at_us for v in variants if v.added_at_us is not None},
        replaces={v.key: v.replaces for v in variants if v.replaces is not None},
    )

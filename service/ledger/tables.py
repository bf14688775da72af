"""The schema, once: migrations, reads and the writer's statements all come from these tables.

Assignments, events and links are append-only. `unit` alone holds what identifies a person; every other
row carries `unit_no`. The tables of `derived_tables` are folds of these and can be thrown away and rebuilt.
Times are microseconds since 1970 UTC, money is integer minor units, JSON columns are documents nobody
queries into.
"""

# pyright: reportAssignmentType=false
# (SQLModel types __tablename__ as a declared_attr and documents assigning it a string.)

from typing import Any

from sqlalchemy import JSON, BigInteger, Column, Index, Integer, LargeBinary, text
from sqlmodel import Field, SQLModel

RowNo = BigInteger().with_variant(Integer, "sqlite")  # SQLite counts rows itself only in INTEGER


def row_no() -> Any:
    """The primary key of rows that the database counts."""
    return Field(default=None, sa_column=Column(RowNo, primary_key=True, autoincrement=True))


def big(*, primary_key: bool = False, nullable: bool = False) -> Any:
    """A column of 64-bit integers."""
    return Field(
        default=None,
        sa_column=Column(BigInteger, primary_key=primary_key, nullable=nullable, autoincrement=False),
    )


def json() -> Any:
    """A column of documents."""
    return Field(default=None, sa_column=Column(JSON, nullable=False))


def bytes_of(length: int) -> Any:
    """A column of at most so many bytes."""
    return Field(default=None, sa_column=Column(LargeBinary(length), nullable=False))


LATE_US = 86_400_000_000
LATE = f"received_at_us - occurred_at_us > {LATE_US}"
"""Of an event: recorded more than a day after it occurred, as its index and the queries that use it say."""


class StoreRow(SQLModel, table=True):
    """A shop: its keys, experiments, units and events are its own."""

    __tablename__ = "store"
    store_no: int = Field(default=None, primary_key=True)
    key: str = Field(unique=True)
    secret: bytes = bytes_of(32)  # hashes unit ids and signs decision ids
    is_simulated: bool = False
    simulated_now_us: int | None = big(nullable=True)
    version: int = 1
    revision: int = 1  # moves whenever anything that serving reads of the store changes
    settings: dict[str, Any] = json()
    created_at_us: int = big()


class KeyRow(SQLModel, table=True):
    """An API key; only its SHA-256 is kept."""

    __tablename__ = "api_key"
    key_no: int = Field(default=None, primary_key=True)
    store_no: int = Field(index=True)
    public_id: str = Field(unique=True)
    kind: str
    hint: str  # the last characters, so that people can tell keys apart
    sha256: bytes = Field(sa_column=Column(LargeBinary(32), nullable=False, unique=True))
    scopes: list[str] = json()
    label: str = ""
    created_at_us: int = big()
    revoked_at_us: int | None = big(nullable=True)


class ExperimentRow(SQLModel, table=True):
    """An experiment: its document, where it is in its life, and what was frozen with it."""

    __tablename__ = "experiment"
    __table_args__ = (Index("experiment_key", "store_no", "key", unique=True),)
    experiment_no: int = Field(default=None, primary_key=True)
    store_no: int
    key: str
    state: str
    version: int = 1
    document: dict[str, Any] = json()
    time_zone: str = "UTC"  # of the store when it started: cohort days never move
    caps: dict[str, Any] = json()  # {} until fixed, then {"version", "caps": {total: [low, high]}}
    report_from_epoch: int = 0  # the audience changed here
    created_at_us: int = big()
    started_at_us: int | None = big(nullable=True)
    stopped_at_us: int | None = big(nullable=True)


class VariantRow(SQLModel, table=True):
    """A variant's number and whether it may be shown."""

    __tablename__ = "variant"
    __table_args__ = (Index("variant_key", "experiment_no", "key", unique=True),)
    experiment_no: int = Field(primary_key=True)
    variant_no: int = Field(primary_key=True)
    key: str
    state: str = "active"
    changed_at_us: int = big()
    added_at_us: int | None = big(nullable=True)  # since the experiment started; None: from the start
    replaces: str | None = None  # the variant whose place it took


class PolicyRow(SQLModel, table=True):
    """A published policy version, kept for ever with its posteriors."""

    __tablename__ = "policy_version"
    experiment_no: int = Field(primary_key=True)
    number: int = Field(primary_key=True)
    epoch: int
    published_at_us: int = big()
    body: dict[str, Any] = json()


class GuardrailChangeRow(SQLModel, table=True):
    """A change of state of a guardrail or a circuit breaker, with the numbers behind it; never edited."""

    __tablename__ = "guardrail_change"
    __table_args__ = (Index("guardrail_change_experiment", "experiment_no", "change_no"),)
    change_no: int = row_no()
    experiment_no: int
    policy_version: int  # the first in which it stands
    at_us: int = big()
    kind: str  # guardrail | breaker
    subject: str  # the metric, or the breaker
    variant: str | None = None  # a breaker is about the whole experiment
    before: str
    after: str
    cause: str  # of the version: `resumed` and `edited` are a person's
    numbers: dict[str, Any] = json()


class OperationsMarkRow(SQLModel, table=True):
    """What an experiment had come to in an hour, for its circuit breakers; kept for eight days."""

    __tablename__ = "operations_mark"
    experiment_no: int = Field(primary_key=True)
    hour: int = Field(primary_key=True)
    at_us: int = big()  # the last look in the hour
    outcome: str
    totals: dict[str, list[int]] = json()  # by variant: assigned, exposed, outcomes
    answers: int = big()  # of the store until then, as are the fallbacks among them
    fallbacks: int = big()


class AnswerCountRow(SQLModel, table=True):
    """Assign requests of a store answered ever; every service adds what it has counted since it last did."""

    __tablename__ = "answer_count"
    store_no: int = Field(primary_key=True)
    answers: int = big()
    fallbacks: int = big()  # without the ledger


class AnalysisRow(SQLModel, table=True):
    """A fit of the pooled model that was asked for: queued, under way, or ended with what came of it."""

    __tablename__ = "analysis"
    __table_args__ = (
        Index("analysis_experiment", "experiment_no", "analysis_no"),
        Index("analysis_state", "state", "analysis_no"),
    )
    analysis_no: int = row_no()
    store_no: int
    experiment_no: int
    state: str  # queued | running | done | refused | failed | cancelled
    settings: dict[str, Any] = json()
    created_at_us: int = big()  # these are the machine's times, in simulated stores too
    started_at_us: int | None = big(nullable=True)
    ended_at_us: int | None = big(nullable=True)
    attempt: int = 0  # how often it was begun; who runs it writes only while this is still his
    lease_until_us: int | None = big(nullable=True)  # then whoever ran it is gone
    result: dict[str, Any] = json()  # {} until it has ended


class CandidateSetRow(SQLModel, table=True):
    """A set of variants that could have been assigned together."""

    __tablename__ = "candidate_set"
    experiment_no: int = Field(primary_key=True)
    set_no: int = Field(primary_key=True)
    members: list[str] = json()  # variant keys in the document's order


class UnitRow(SQLModel, table=True):
    """The only place of a person's id, in order of arrival; erasing a person deletes the row."""

    __tablename__ = "unit"
    __table_args__ = ({"sqlite_autoincrement": True},)  # an erased unit's number is never given to another
    unit_no: int = row_no()
    store_no: int
    raw_id: str


class UnitKeyRow(SQLModel, table=True):
    """The number of a unit by its keyed hash.

    On SQLite only units up to the mark `units_settled` of `progress` stand here: a random key dirties a page
    of its own, so new ones are kept in memory and merged in key order, many to a page (`hot/key_index.py`).
    """

    __tablename__ = "unit_key"
    __table_args__ = ({"sqlite_with_rowid": False},)
    store_no: int = Field(primary_key=True)
    hash16: bytes = Field(default=None, sa_column=Column(LargeBinary(16), primary_key=True))
    unit_no: int = big()


class ProgressRow(SQLModel, table=True):
    """How far something has come that goes on in steps."""

    __tablename__ = "progress"
    name: str = Field(primary_key=True)
    value: int = big()


class PersonRow(SQLModel, table=True):
    """Which person (the unit_no of the customer) a unit belongs to, from `identify`."""

    __tablename__ = "person"
    unit_no: int = big(primary_key=True)
    person_no: int = Field(default=None, sa_column=Column(BigInteger, nullable=False, index=True))


class AssignmentRow(SQLModel, table=True):
    """The unit's variant, once."""

    __tablename__ = "assignment"
    # By unit first: numbers of new units grow, so that their assignments are appended.
    __table_args__ = ({"sqlite_with_rowid": False},)
    unit_no: int = big(primary_key=True)
    experiment_no: int = Field(primary_key=True)
    period: int = Field(primary_key=True)
    variant_no: int
    share: int = big()  # over 2^32: the propensity actually used
    set_no: int
    policy_version: int
    epoch: int
    segment: str = ""
    is_forced: bool = False
    at_us: int = big()


class DecisionContextRow(SQLModel, table=True):
    """What explains a decision: variants rejected by which rule, and the context (erasable)."""

    __tablename__ = "decision_context"
    __table_args__ = ({"sqlite_with_rowid": False},)
    unit_no: int = big(primary_key=True)
    experiment_no: int = Field(primary_key=True)
    period: int = Field(primary_key=True)
    rejected: dict[str, str] = json()
    context: dict[str, Any] = json()


class EnrolmentFeaturesRow(SQLModel, table=True):
    """The declared features of a unit's context as they were at its enrolment, one integer each.

    Kept when a person is erased: sums must not change, and without an id they are nobody's.
    """

    __tablename__ = "enrolment_features"
    __table_args__ = ({"sqlite_with_rowid": False},)
    unit_no: int = big(primary_key=True)
    experiment_no: int = Field(primary_key=True)
    period: int = Field(primary_key=True)
    codes: list[int] = json()


class ShownRow(SQLModel, table=True):
    """What an assigned unit was shown, whenever that changed; without a row it is the variant's offer."""

    __tablename__ = "shown"
    __table_args__ = (Index("shown_decision", "unit_no", "experiment_no", "period"),)
    shown_no: int = row_no()
    unit_no: int = big()
    experiment_no: int
    period: int
    at_us: int = big()
    reason: str
    is_first: bool = False  # this was shown at the enrolment itself


class EventRow(SQLModel, table=True):
    """An event as it was accepted, with what was resolved then; never edited."""

    __tablename__ = "event"
    __table_args__ = (
        Index("event_key", "store_no", "event_id", unique=True).ddl_if(dialect="postgresql"),
        Index(
            "event_order",
            "store_no",
            "order_id",
            sqlite_where=text("order_id IS NOT NULL"),
            postgresql_where=text("order_id IS NOT NULL"),
        ),
        Index(
            "order_key",
            "store_no",
            "order_id",
            unique=True,
            sqlite_where=text("type = 'order'"),
            postgresql_where=text("type = 'order'"),
        ),
        Index(
            "refund_key",
            "store_no",
            "order_id",
            "refund_id",
            unique=True,
            sqlite_where=text("refund_id IS NOT NULL"),
            postgresql_where=text("refund_id IS NOT NULL"),
        ),
        Index(
            "event_late",
            "store_no",
            "event_no",
            sqlite_where=text(LATE),
            postgresql_where=text(LATE),
        ),
    )
    event_no: int = row_no()
    store_no: int
    event_id: str
    type: str
    occurred_at_us: int = big()
    received_at_us: int = big()
    is_clamped: bool = False
    digest: bytes = bytes_of(16)  # of the content as sent: same key and digest = duplicate
    order_id: str | None = None
    refund_id: str | None = None
    experiment_no: int | None = None  # the decision it names
    decision_unit_no: int | None = big(nullable=True)
    decision_period: int | None = None
    body: dict[str, Any] = json()


class EventByKeyRow(SQLModel, table=True):
    """The number of an event by the keyed hash of its id, on SQLite (`ledger/event_keys.py`).

    Up to the mark `events_settled` of `progress`, and beyond it what a merge has come to that is under way;
    on PostgreSQL there are none.
    """

    __tablename__ = "event_by_key"
    __table_args__ = ({"sqlite_with_rowid": False},)
    hash16: bytes = Field(default=None, sa_column=Column(LargeBinary(16), primary_key=True))
    event_no: int = big()


class EventUnitRow(SQLModel, table=True):
    """Which units an event reaches, and as which kinds (bits: visitor, customer, session, request).

    By event first on SQLite, so that it is appended to, and by unit with an index by event on PostgreSQL.
    """

    __tablename__ = "event_unit"
    __table_args__ = ({"sqlite_with_rowid": False},)
    event_no: int = big(primary_key=True)
    unit_no: int = big(primary_key=True)
    kinds: int


class UnitEventRow(SQLModel, table=True):
    """The same by unit, on SQLite: up to the mark `links_settled` of `progress` (`ledger/links.py`).

    Beyond it stand those of a merge that is under way; on PostgreSQL there are none.
    """

    __tablename__ = "unit_event"
    __table_args__ = ({"sqlite_with_rowid": False},)
    unit_no: int = big(primary_key=True)
    event_no: int = big(primary_key=True)
    kinds: int

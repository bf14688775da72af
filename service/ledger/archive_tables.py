"""The tables of the archive: raw events that lie in Parquet files, and what is kept of each here."""

# pyright: reportAssignmentType=false
# (SQLModel types __tablename__ as a declared_attr and documents assigning it a string.)

from sqlalchemy import Index
from sqlmodel import Field, SQLModel

from service.ledger.tables import big, bytes_of


class ArchiveRow(SQLModel, table=True):
    """Where the ledger's archive lies; no row as long as nothing was archived."""

    __tablename__ = "archive"
    archive_no: int = Field(default=None, primary_key=True)
    root: str  # a directory; paths of files are below it


class ArchiveFileRow(SQLModel, table=True):
    """A sealed file of the archive: events of one day, and what proves that it is whole."""

    __tablename__ = "archive_file"
    file_no: int = Field(default=None, primary_key=True)
    store_no: int
    path: str = Field(unique=True)
    day: str  # of the events, in the store's time zone when they were archived
    rows: int
    checksum: bytes = bytes_of(32)  # of the rows' content
    file_bytes: int = big()
    file_hash: bytes = bytes_of(32)  # of the file as it lies on disk
    sealed_at_us: int = big()


class ArchivedEventRow(SQLModel, table=True):
    """What stays of an archived event: its keys, so that it is still a duplicate, and its file."""

    __tablename__ = "archived_event"
    __table_args__ = (
        Index("archived_event_key", "store_no", "event_id", unique=True).ddl_if(dialect="postgresql"),
        Index("archived_event_file", "file_no"),
    )
    event_no: int = big(primary_key=True)
    store_no: int
    event_id: str
    digest: bytes = bytes_of(16)
    occurred_at_us: int = big()
    experiment_no: int | None = None
    file_no: int


class ArchivedLateRow(SQLModel, table=True):
    """Of an archived event that was recorded more than a day after it occurred: what reports count it by."""

    __tablename__ = "archived_late"
    __table_args__ = ({"sqlite_with_rowid": False},)
    store_no: int = Field(primary_key=True)
    event_no: int = big(primary_key=True)
    type: str
    occurred_at_us: int = big()
    received_at_us: int = big()


class ArchivedOrderRow(SQLModel, table=True):
    """Which archived events are an order (it has a currency) or a change of one (it has none)."""

    __tablename__ = "archived_order"
    __table_args__ = ({"sqlite_with_rowid": False},)
    store_no: int = Field(primary_key=True)
    order_id: str = Field(primary_key=True)
    event_no: int = big(primary_key=True)
    digest: bytes = bytes_of(16)
    refund_id: str | None = None
    currency: str | None = None

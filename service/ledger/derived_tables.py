"""Derived tables: every one is a fold of the rows in `tables`, and can be thrown away and rebuilt."""

# pyright: reportAssignmentType=false
# (SQLModel types __tablename__ as a declared_attr and documents assigning it a string.)

from sqlalchemy import BigInteger, Column, Index
from sqlmodel import Field, SQLModel

from service.ledger.tables import big, json, row_no


class MarkRow(SQLModel, table=True):
    """A unit, an order, or both, with rows not yet folded: appended with them, taken away when folded.

    A log, not a set: a second mark of a unit is a second row, so that a mark made while the unit is being
    folded is never taken away with the one before it.
    """

    __tablename__ = "mark"
    __table_args__ = ({"sqlite_autoincrement": True},)  # a number is never given twice
    mark_no: int = row_no()
    store_no: int
    unit_no: int | None = big(nullable=True)
    order_id: str | None = None
    at_us: int = big()  # the machine's time, for the folder's lag
    event_no: int | None = big(nullable=True)  # what has come; else all of the unit is to be read anew


class OrderBalanceRow(SQLModel, table=True):
    """An order restated in the store's currency, or refunds that wait for their order."""

    __tablename__ = "order_balance"
    __table_args__ = (Index("order_balance_time", "store_no", "at_us"),)
    store_no: int = Field(primary_key=True)
    order_id: str = Field(primary_key=True)
    at_us: int = big()
    is_order: bool
    is_converted: bool
    amount_minor: int = big()
    refunded_minor: int = big()
    over_refunded_minor: int = big()
    is_refunded: bool
    is_cancelled: bool
    orphan_refunds: int
    orphan_refunded_minor: int = big()


class UnitTotalRow(SQLModel, table=True):
    """What one enrolment contributes, so that it can be taken out of its cell again."""

    __tablename__ = "unit_total"
    __table_args__ = ({"sqlite_with_rowid": False},)
    unit_no: int = big(primary_key=True)
    experiment_no: int = Field(primary_key=True)
    period: int = Field(primary_key=True)
    cell_no: int
    caps_version: int = 0
    vector: dict[str, int] = json()
    bins: dict[str, int] = json()


class CellRow(SQLModel, table=True):
    """A rollup cell: exact sums, cross-products and histograms of its units."""

    __tablename__ = "cell"
    __table_args__ = (
        Index("cell_key", "experiment_no", "variant_no", "segment", "set_no", "day", "epoch", unique=True),
    )
    cell_no: int = Field(default=None, primary_key=True)
    experiment_no: int
    variant_no: int
    segment: str
    set_no: int
    day: str
    epoch: int
    sums: dict[str, int] = json()
    products: dict[str, int] = json()
    histograms: dict[str, dict[str, int]] = json()


class CartTimerRow(SQLModel, table=True):
    """The next instant at which a cart of this unit counts as abandoned."""

    __tablename__ = "cart_timer"
    unit_no: int = big(primary_key=True)
    store_no: int
    due_at_us: int = Field(default=None, sa_column=Column(BigInteger, nullable=False, index=True))

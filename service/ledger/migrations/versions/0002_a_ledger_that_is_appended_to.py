"""a ledger that is appended to: marks as a log, assignments by unit, unit keys apart, changes of what is shown"""

import time

import sqlalchemy as sa
import sqlmodel
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

BY_UNIT = "unit_no, experiment_no, period"


def upgrade() -> None:
    _assignments()
    _contexts()
    _totals()
    _shown()
    _unit_keys()
    _marks()
    op.add_column("store", sa.Column("revision", sa.Integer(), nullable=False, server_default="1"))


def _assignments() -> None:
    op.create_table(
        "assignment_by_unit",
        sa.Column("unit_no", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("experiment_no", sa.Integer(), nullable=False),
        sa.Column("period", sa.Integer(), nullable=False),
        sa.Column("variant_no", sa.Integer(), nullable=False),
        sa.Column("share", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("set_no", sa.Integer(), nullable=False),
        sa.Column("policy_version", sa.Integer(), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("segment", sqlmodel.sql.sqltypes.AutoString(), nullable=False),
        sa.Column("is_forced", sa.Boolean(), nullable=False),
        sa.Column("at_us", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("unit_no", "experiment_no", "period", name="assignment_by_unit_pkey"),
        sqlite_with_rowid=False,
    )
    columns = f"{BY_UNIT}, variant_no, share, set_no, policy_version, epoch, segment, is_forced, at_us"
    _copy("assignment", "assignment_by_unit", columns)


def _contexts() -> None:
    op.create_table(
        "context_by_unit",
        sa.Column("unit_no", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("experiment_no", sa.Integer(), nullable=False),
        sa.Column("period", sa.Integer(), nullable=False),
        sa.Column("rejected", sa.JSON(), nullable=False),
        sa.Column("context", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("unit_no", "experiment_no", "period", name="context_by_unit_pkey"),
        sqlite_with_rowid=False,
    )
    _copy("decision_context", "context_by_unit", f"{BY_UNIT}, rejected, context")


def _totals() -> None:
    op.create_table(
        "total_by_unit",
        sa.Column("unit_no", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("experiment_no", sa.Integer(), nullable=False),
        sa.Column("period", sa.Integer(), nullable=False),
        sa.Column("cell_no", sa.Integer(), nullable=False),
        sa.Column("caps_version", sa.Integer(), nullable=False),
        sa.Column("vector", sa.JSON(), nullable=False),
        sa.Column("bins", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("unit_no", "experiment_no", "period", name="total_by_unit_pkey"),
        sqlite_with_rowid=False,
    )
    _copy("unit_total", "total_by_unit", f"{BY_UNIT}, cell_no, caps_version, vector, bins")


def _copy(old: str, new: str, columns: str) -> None:
    op.execute(f"INSERT INTO {new} ({columns}) SELECT {columns} FROM {old} ORDER BY {BY_UNIT}")
    op.drop_table(old)
    op.rename_table(new, old)


def _shown() -> None:
    op.add_column("shown", sa.Column("is_first", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.drop_index("shown_decision", "shown")
    op.create_index("shown_decision", "shown", ["unit_no", "experiment_no", "period"])
    first = "SELECT min(shown_no) FROM shown GROUP BY unit_no, experiment_no, period"
    op.execute(f"DELETE FROM shown WHERE reason = 'offer' AND shown_no IN ({first})")
    # What is left and was shown at the instant of the assignment was so from the start.
    op.execute(
        f"UPDATE shown SET is_first = true WHERE shown_no IN ({first}) AND reason <> 'offer' AND EXISTS ("
        "SELECT 1 FROM assignment a WHERE a.unit_no = shown.unit_no AND a.experiment_no = shown.experiment_no"
        " AND a.period = shown.period AND a.at_us = shown.at_us)"
    )


def _unit_keys() -> None:
    op.create_table(
        "unit_key",
        sa.Column("store_no", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("hash16", sa.LargeBinary(length=16), nullable=False),
        sa.Column("unit_no", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("store_no", "hash16"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "progress",
        sa.Column("name", sqlmodel.sql.sqltypes.AutoString(), nullable=False),
        sa.Column("value", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.execute(
        "INSERT INTO unit_key (store_no, hash16, unit_no) "
        "SELECT store_no, hash16, unit_no FROM unit ORDER BY store_no, hash16"
    )
    op.execute("INSERT INTO progress (name, value) SELECT 'units_settled', coalesce(max(unit_no), 0) FROM unit")
    op.drop_index("unit_hash", "unit")
    op.drop_column("unit", "hash16")


def _marks() -> None:
    number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.create_table(
        "mark",
        sa.Column("mark_no", number, autoincrement=True, nullable=False),
        sa.Column("store_no", sa.Integer(), nullable=False),
        sa.Column("unit_no", sa.BigInteger(), autoincrement=False, nullable=True),
        sa.Column("order_id", sqlmodel.sql.sqltypes.AutoString(), nullable=True),
        sa.Column("at_us", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("mark_no"),
        sqlite_autoincrement=True,
    )
    op.drop_index("event_time", "event")
    now_us = time.time_ns() // 1000
    op.execute(f"INSERT INTO mark (store_no, unit_no, at_us) SELECT store_no, unit_no, {now_us} FROM dirty_unit")
    op.execute(
        f"INSERT INTO mark (store_no, order_id, at_us) SELECT store_no, order_id, {now_us} FROM dirty_order"
    )
    op.drop_table("dirty_unit")
    op.drop_table("dirty_order")

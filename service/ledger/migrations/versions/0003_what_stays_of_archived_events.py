"""what stays here of events that lie in the archive's files"""

import sqlalchemy as sa
import sqlmodel
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

TEXT = sqlmodel.sql.sqltypes.AutoString


def upgrade() -> None:
    op.create_table(
        "archive",
        sa.Column("archive_no", sa.Integer(), nullable=False),
        sa.Column("root", TEXT(), nullable=False),
        sa.PrimaryKeyConstraint("archive_no"),
    )
    op.create_table(
        "archive_file",
        sa.Column("file_no", sa.Integer(), nullable=False),
        sa.Column("store_no", sa.Integer(), nullable=False),
        sa.Column("path", TEXT(), nullable=False),
        sa.Column("day", TEXT(), nullable=False),
        sa.Column("rows", sa.Integer(), nullable=False),
        sa.Column("checksum", sa.LargeBinary(length=32), nullable=False),
        sa.Column("file_bytes", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("file_hash", sa.LargeBinary(length=32), nullable=False),
        sa.Column("sealed_at_us", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("file_no"),
        sa.UniqueConstraint("path"),
    )
    op.create_table(
        "archived_event",
        sa.Column("event_no", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("store_no", sa.Integer(), nullable=False),
        sa.Column("event_id", TEXT(), nullable=False),
        sa.Column("digest", sa.LargeBinary(length=16), nullable=False),
        sa.Column("occurred_at_us", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("experiment_no", sa.Integer(), nullable=True),
        sa.Column("file_no", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("event_no"),
    )
    op.create_index("archived_event_key", "archived_event", ["store_no", "event_id"], unique=True)
    op.create_index("archived_event_file", "archived_event", ["file_no"])
    op.create_table(
        "archived_order",
        sa.Column("store_no", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("order_id", TEXT(), nullable=False),
        sa.Column("event_no", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("digest", sa.LargeBinary(length=16), nullable=False),
        sa.Column("refund_id", TEXT(), nullable=True),
        sa.Column("currency", TEXT(), nullable=True),
        sa.PrimaryKeyConstraint("store_no", "order_id", "event_no"),
        sqlite_with_rowid=False,
    )

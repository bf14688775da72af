"""late events are counted in the archive too; of files sealed before, `rialto retain` notes them"""

import sqlalchemy as sa
import sqlmodel
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

TEXT = sqlmodel.sql.sqltypes.AutoString


def upgrade() -> None:
    op.create_table(
        "archived_late",
        sa.Column("store_no", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("event_no", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("type", TEXT(), nullable=False),
        sa.Column("occurred_at_us", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("received_at_us", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("store_no", "event_no"),
        sqlite_with_rowid=False,
    )
    # The files lie elsewhere, and an upgrade must not need them.
    op.get_bind().execute(
        sa.text(
            "INSERT INTO progress (name, value)"
            " SELECT 'late_unnoted', max(file_no) FROM archive_file HAVING max(file_no) IS NOT NULL"
        )
    )

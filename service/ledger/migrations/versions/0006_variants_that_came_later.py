"""when a variant was added to a running experiment, and whose place it took"""

import sqlalchemy as sa
import sqlmodel
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("variant") as table:
        table.add_column(sa.Column("added_at_us", sa.BigInteger(), autoincrement=False, nullable=True))
        table.add_column(sa.Column("replaces", sqlmodel.sql.sqltypes.AutoString(), nullable=True))

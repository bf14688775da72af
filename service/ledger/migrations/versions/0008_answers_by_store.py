"""how many assign requests of a store were answered without the ledger, by all services together"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "answer_count",
        sa.Column("store_no", sa.Integer(), nullable=False),
        sa.Column("answers", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("fallbacks", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("store_no"),
    )
    # What they noted so far was one process's, of all stores: nothing to compare the new counts with.
    op.execute("UPDATE operations_mark SET answers = 0, fallbacks = 0")

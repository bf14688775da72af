"""fits of the pooled model that were asked for, and what came of them"""

import sqlalchemy as sa
import sqlmodel
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

TEXT = sqlmodel.sql.sqltypes.AutoString


def upgrade() -> None:
    op.create_table(
        "analysis",
        sa.Column(
            "analysis_no",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("store_no", sa.Integer(), nullable=False),
        sa.Column("experiment_no", sa.Integer(), nullable=False),
        sa.Column("state", TEXT(), nullable=False),
        sa.Column("settings", sa.JSON(), nullable=False),
        sa.Column("created_at_us", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("started_at_us", sa.BigInteger(), autoincrement=False, nullable=True),
        sa.Column("ended_at_us", sa.BigInteger(), autoincrement=False, nullable=True),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("lease_until_us", sa.BigInteger(), autoincrement=False, nullable=True),
        sa.Column("result", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("analysis_no"),
    )
    op.create_index("analysis_experiment", "analysis", ["experiment_no", "analysis_no"])
    op.create_index("analysis_state", "analysis", ["state", "analysis_no"])

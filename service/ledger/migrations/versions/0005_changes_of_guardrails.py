"""changes of guardrails and breakers on the record, and what breakers compare with"""

import sqlalchemy as sa
import sqlmodel
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

TEXT = sqlmodel.sql.sqltypes.AutoString


def upgrade() -> None:
    op.create_table(
        "guardrail_change",
        sa.Column(
            "change_no",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("experiment_no", sa.Integer(), nullable=False),
        sa.Column("policy_version", sa.Integer(), nullable=False),
        sa.Column("at_us", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("kind", TEXT(), nullable=False),
        sa.Column("subject", TEXT(), nullable=False),
        sa.Column("variant", TEXT(), nullable=True),
        sa.Column("before", TEXT(), nullable=False),
        sa.Column("after", TEXT(), nullable=False),
        sa.Column("cause", TEXT(), nullable=False),
        sa.Column("numbers", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("change_no"),
    )
    op.create_index("guardrail_change_experiment", "guardrail_change", ["experiment_no", "change_no"])
    op.create_table(
        "operations_mark",
        sa.Column("experiment_no", sa.Integer(), nullable=False),
        sa.Column("hour", sa.Integer(), nullable=False),
        sa.Column("at_us", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("outcome", TEXT(), nullable=False),
        sa.Column("totals", sa.JSON(), nullable=False),
        sa.Column("answers", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("fallbacks", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("experiment_no", "hour"),
    )

"""a mark says which event it stands for, so that whoever keeps units reads only what has come"""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("mark", sa.Column("event_no", sa.BigInteger(), nullable=True))

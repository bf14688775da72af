"""events of orders alone in the index by order, on PostgreSQL as on SQLite"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    if op.get_bind().dialect.name != "postgresql":
        return  # it has been so from the start
    op.drop_index("event_order", "event")
    op.create_index(
        "event_order", "event", ["store_no", "order_id"], postgresql_where=sa.text("order_id IS NOT NULL")
    )

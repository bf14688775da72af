"""units with orders are folded again, for the ages of their refunds; events recorded late are found fast"""

import time

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

LATE = sa.text("received_at_us - occurred_at_us > 86400000000")


def upgrade() -> None:
    op.get_bind().execute(
        sa.text(
            "INSERT INTO mark (store_no, unit_no, at_us)"
            " SELECT DISTINCT experiment.store_no, unit_total.unit_no, CAST(:at_us AS BIGINT)"
            " FROM unit_total JOIN experiment ON experiment.experiment_no = unit_total.experiment_no"
            " WHERE CAST(unit_total.vector AS TEXT) LIKE '%\"orders\"%'"
            " OR CAST(unit_total.vector AS TEXT) LIKE '%\"pre_margin\"%'"
        ),
        {"at_us": time.time_ns() // 1000},
    )
    op.create_index("event_late", "event", ["store_no", "event_no"], sqlite_where=LATE, postgresql_where=LATE)

"""links are appended by event; by unit they are merged in key order, on SQLite"""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

COLUMNS = "event_no, unit_no, kinds"


def upgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        _create("unit_event", "unit_no", "event_no")  # it stays empty: there is an index
        return
    op.drop_index("event_unit_event", "event_unit")
    op.rename_table("event_unit", "unit_event")
    _create("event_unit", "event_no", "unit_no")
    op.execute(f"INSERT INTO event_unit ({COLUMNS}) SELECT {COLUMNS} FROM unit_event ORDER BY event_no, unit_no")
    op.execute("INSERT INTO progress (name, value) SELECT 'links_settled', coalesce(max(event_no), 0) FROM event_unit")


def _create(table: str, *key: str) -> None:
    op.create_table(
        table,
        *(sa.Column(name, sa.BigInteger(), autoincrement=False, nullable=False) for name in key),
        sa.Column("kinds", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint(*key),
        sqlite_with_rowid=False,
    )

"""events are found by the keyed hashes of their ids, merged in key order, on SQLite"""

from hashlib import blake2b

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

CALLERS = "substr(event_id, 1, 7) <> 'rialto:'"


def upgrade() -> None:
    op.create_table(
        "event_by_key",
        sa.Column("hash16", sa.LargeBinary(length=16), nullable=False),
        sa.Column("event_no", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("hash16"),
        sqlite_with_rowid=False,
    )
    connection = op.get_bind()
    if connection.dialect.name == "postgresql":
        return  # it stays empty: there is a unique index
    stores = connection.execute(sa.text("SELECT store_no, secret FROM store"))
    secrets = {store_no: secret for store_no, secret in stores}

    def event_key(store_no: int, event_id: str) -> bytes:
        return blake2b(event_id.encode(), digest_size=16, key=secrets[store_no], person=b"event").digest()

    connection.connection.driver_connection.create_function("event_key", 2, event_key, deterministic=True)
    events = " UNION ALL ".join(
        f"SELECT event_key(store_no, event_id), event_no FROM {table} WHERE {CALLERS}"
        for table in ("event", "archived_event")
    )
    op.execute(f"INSERT INTO event_by_key (hash16, event_no) {events} ORDER BY 1")
    op.execute(
        "INSERT INTO progress (name, value) SELECT 'events_settled', coalesce(max(event_no), 0) FROM "
        "(SELECT max(event_no) AS event_no FROM event UNION ALL SELECT max(event_no) FROM archived_event)"
    )
    op.drop_index("event_key", "event")
    op.drop_index("archived_event_key", "archived_event")

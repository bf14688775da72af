"""units of experiments by context are folded again, for their sums over the propensity"""

import json
import time
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    connection = op.get_bind()
    rows = connection.execute(sa.text("SELECT experiment_no, store_no, document FROM experiment")).all()
    at_us = time.time_ns() // 1000
    for experiment_no, store_no, found in rows:
        document: dict[str, Any] = json.loads(found) if isinstance(found, str) else found
        if not document.get("policy", {}).get("features"):
            continue
        connection.execute(
            sa.text(
                "INSERT INTO mark (store_no, unit_no, at_us)"
                " SELECT DISTINCT CAST(:store_no AS INTEGER), unit_no, CAST(:at_us AS BIGINT)"
                " FROM unit_total WHERE experiment_no = :experiment_no"
            ),
            {"store_no": store_no, "at_us": at_us, "experiment_no": experiment_no},
        )

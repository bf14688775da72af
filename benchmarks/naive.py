"""What a first version would do, for contrast: a SQLModel session and a commit for every request."""

from hashlib import blake2b
from typing import Any

from sqlalchemy import Engine, MetaData, event
from sqlmodel import Field, Session, SQLModel, create_engine

VARIANTS = 10


class NaiveAssignment(SQLModel, table=True):
    """The unit's variant, once."""

    metadata = MetaData()  # apart from the product's tables
    experiment: int = Field(primary_key=True)
    unit_id: str = Field(primary_key=True)
    variant: int


def naive_engine(path: str) -> Engine:
    """A SQLite file with the product's own pragmas."""
    engine = create_engine(f"sqlite:///{path}", connect_args={"check_same_thread": False})

    @event.listens_for(engine, "connect")
    def _pragmas(connection: Any, _record: Any) -> None:
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=10000"):
            connection.execute(f"PRAGMA {pragma}")

    NaiveAssignment.metadata.create_all(engine)
    return engine


def assign_naively(engine: Engine, unit_id: str) -> int:
    """Get or create the unit's assignment; committed when this returns."""
    with Session(engine) as session:
        row = session.get(NaiveAssignment, (1, unit_id))
        if row is None:
            pick = int.from_bytes(blake2b(unit_id.encode(), digest_size=8).digest(), "big") % VARIANTS
            row = NaiveAssignment(experiment=1, unit_id=unit_id, variant=pick)
            session.add(row)
            session.commit()
        return row.variant

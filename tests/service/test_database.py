"""The engines of a ledger: what closing them leaves behind."""

import threading
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from service.ledger.database import Database


def test_closing_waits_for_a_read_in_another_thread(tmp_path: Path) -> None:
    """The last connection to close removes the log beside the file; one left open would keep it there."""
    path = tmp_path / "rialto.db"
    database = Database(f"sqlite:///{path}")
    database.migrate()
    entered, leave = threading.Event(), threading.Event()

    def read() -> None:
        with database.read() as connection:
            connection.execute(text("SELECT * FROM mark")).all()
            entered.set()
            leave.wait(5)

    reading, closing = threading.Thread(target=read), threading.Thread(target=database.close)
    reading.start()
    assert entered.wait(5)
    closing.start()
    closing.join(0.1)
    assert closing.is_alive()
    leave.set()
    for thread in (reading, closing):
        thread.join(5)
        assert not thread.is_alive()
    assert not path.with_name("rialto.db-wal").exists()


def test_a_file_that_is_away_is_not_made_anew(tmp_path: Path) -> None:
    """A connection of whatever process must not put an empty ledger where the real one was."""
    path = tmp_path / "rialto.db"
    database = Database(f"sqlite:///{path}")
    database.migrate()
    database.close()
    path.rename(tmp_path / "away.db")
    with pytest.raises(OperationalError), database.read() as connection:
        connection.execute(text("SELECT 1"))
    assert not path.exists()
    database.close()

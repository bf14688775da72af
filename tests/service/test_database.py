"""The engines of a ledger: what closing them leaves behind."""

import threading
from pathlib import Path

from sqlalchemy import text

from service.ledger.database import Database


def test_closing_waits_for_a_read_in_another_thread(tmp_path: Path) -> None:
    """The last connection to close removes the log beside the file; one left open would keep it there."""
    path = tmp_path / "rialto.db"
    database = Database(f"sqlite:///{path}")
    with database.write() as connection:
        connection.execute(text("CREATE TABLE mark (what TEXT)"))
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

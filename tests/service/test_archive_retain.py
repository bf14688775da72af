"""`rialto retain`: nothing is deleted before it is proved, whatever happens on the way; refusals say why."""

from __future__ import annotations

import importlib
import json
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from alembic.migration import MigrationContext
from alembic.operations import Operations

from experiments.analysis.checks_outcomes import LateEvents
from service.archive import commands, retention
from service.archive.late import note_earlier_files, unnoted_through
from service.archive.parquet import read_records
from service.archive.slices import stores_of
from service.commands import verify
from service.ledger.database import Database
from service.ledger.late import late_events_of
from tests.service.archives import aged_history, refused, rows, run, url_of
from tests.service.conftest import ROOT, clean_environment
from tests.service.histories import History
from tests.service.oracle import DAY, wire_time

pytest.importorskip("duckdb", reason="the archive needs DuckDB: pip install 'rialto[archive]'")


@pytest.fixture(scope="module")
def aged(tmp_path_factory: pytest.TempPathFactory, empty_ledger: bytes) -> History:
    """A stopped ledger whose events are a hundred days old."""
    history, _ = aged_history(tmp_path_factory.mktemp("aged"), empty_ledger, seed=1, steps=40)
    return history


@pytest.fixture
def history(aged: History, tmp_path: Path) -> History:
    path = tmp_path / "copy.db"
    shutil.copy(aged.path, path)
    copy = History(path, aged.keys, aged.other)
    copy.now, copy.made, copy.events = aged.now, aged.made, aged.events
    copy.by_decision, copy.asked = aged.by_decision, aged.asked
    return copy


def retained(history: History, out: Path) -> dict[str, int]:
    done = run(commands.retain, "--database", url_of(history), "--out", out, "--older-than", "90d", "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def exact(history: History, *more: object) -> bool:
    return run(verify, "--database", url_of(history), *more).stdout.startswith("exact:")


def hot(history: History) -> list[int]:
    return [number for (number,) in rows(history.path, "SELECT event_no FROM event ORDER BY 1")]


def test_younger_events_than_90_days_are_refused_saying_why(history: History, tmp_path: Path) -> None:
    line = refused(
        commands.retain, "--database", url_of(history), "--out", tmp_path / "a", "--older-than", "89d"
    )
    assert "--older-than is at least 90d: so long an event may be sent again" in line
    assert not (tmp_path / "a").exists()


def test_what_is_not_old_enough_stays(history: History, tmp_path: Path) -> None:
    before = hot(history)
    times = [at for (at,) in rows(history.path, "SELECT occurred_at_us FROM event ORDER BY 1")]
    age = (history.now - times[len(times) // 2] // 1_000_000) // DAY
    arguments = ("--database", url_of(history), "--out", tmp_path / "a", "--older-than", f"{age}d")
    done = run(commands.retain, *arguments)
    assert done.returncode == 0, done.stderr
    kept = dict(rows(history.path, "SELECT event_no, occurred_at_us FROM event"))
    gone = dict(rows(history.path, "SELECT event_no, occurred_at_us FROM archived_event"))
    assert sorted([*kept, *gone]) == before
    assert gone
    assert len(kept) > 1
    newest = kept.pop(max(before))
    assert max(gone.values()) < min(kept.values())
    assert newest
    assert exact(history)
    assert exact(history, "--full")


def test_a_service_that_runs_keeps_the_ledger_to_itself(history: History, tmp_path: Path) -> None:
    history.open()
    history.shop.database.lock_for_serving()
    before = hot(history)
    try:
        line = refused(
            commands.retain, "--database", url_of(history), "--out", tmp_path / "a", "--older-than", "90d"
        )
    finally:
        history.close()
    assert "another `rialto serve` is writing" in line
    assert hot(history) == before


def test_a_file_that_is_not_what_the_ledger_holds_deletes_nothing(
    history: History, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A planted fault: the rows change between being read for the file and being proved."""
    honest = retention.checksum_of

    def meanwhile(path: Path, columns: dict[str, str]) -> object:
        found = honest(path, columns)
        with Database(url_of(history)).write() as connection:
            connection.exec_driver_sql("UPDATE event SET occurred_at_us = occurred_at_us + 1")
        return found

    before = hot(history)
    monkeypatch.setattr(retention, "checksum_of", meanwhile)
    line = refused(
        commands.retain, "--database", url_of(history), "--out", tmp_path / "a", "--older-than", "90d"
    )
    assert "is not what the ledger holds" in line
    assert hot(history) == before
    assert rows(history.path, "SELECT count(*) FROM archived_event") == [(0,)]
    assert not list((tmp_path / "a").rglob("*.parquet"))


KILLED = """
import os, signal, sys
from service.archive import commands, places, retention, slices
from service.entry import main
calls = 0
def die(*_):
    global calls
    calls += 1
    if calls == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return honest(*_)
owner = {"retention._note": retention, "places.name": places, "places.sync": places}[sys.argv[1]]
attribute = sys.argv[1].split(".")[1]
honest = getattr(owner, attribute)
setattr(owner, attribute, die)
commands.retain(sys.argv[2:])
"""


@pytest.mark.parametrize("where", ["places.sync", "retention._note", "places.name"])
def test_killed_anywhere_it_loses_and_doubles_nothing(where: str, history: History, tmp_path: Path) -> None:
    """After the second file is written, in its transaction, and after its commit; then run again."""
    before, out = hot(history), tmp_path / "archive"
    arguments = ("--database", url_of(history), "--out", str(out), "--older-than", "90d")
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, where, *arguments],
        cwd=ROOT,
        env=clean_environment(),
        capture_output=True,
        timeout=60,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    archived = [n for (n,) in rows(history.path, "SELECT event_no FROM archived_event")]
    assert sorted([*hot(history), *archived]) == before
    assert len(rows(history.path, "SELECT path FROM archive_file")) == (2 if where == "places.name" else 1)
    assert exact(history, "--full")
    history.open()
    history.check()
    history.close()
    assert retained(history, out)["events"] == len(before) - 1 - len(archived)
    assert exact(history, "--full")
    sealed = {path for (path,) in rows(history.path, "SELECT path FROM archive_file")}
    assert {str(path.relative_to(out)) for path in out.rglob("*.parquet")} == sealed
    assert json.loads((out / "manifest.json").read_bytes())["files"].keys() == sealed
    assert not list(out.rglob("*.pending"))


def test_a_missing_or_changed_file_is_an_error_and_never_a_sum(history: History, tmp_path: Path) -> None:
    out, order = tmp_path / "archive", "only here"
    bought = {"type": "order", "unit_id": "v0", "order_id": order, "amount": 100, "currency": "EUR"}
    history.open()
    history.send([{"event_id": "1st", **bought, "occurred_at": wire_time(history.now - 99 * DAY)}])
    history.send([{"event_id": "2nd", "type": "product_view", "unit_id": "v0", "sku": "newest"}])
    history.close()
    retained(history, out)
    ((path,),) = rows(
        history.path,
        "SELECT path FROM archived_order JOIN archived_event USING (event_no)"
        " JOIN archive_file USING (file_no) WHERE order_id = 'only here'",
    )
    whole = (out / path).read_bytes()
    history.open()
    try:
        (out / path).unlink()
        history.send([{"event_id": "late", "type": "refund", "order_id": order, "amount": 1}])
        answer = history.shop.get("/v1/store/summary")
        assert (answer.status_code, answer.json()["code"]) == (503, "archive_unavailable")
        (out / path).write_bytes(whole[:-9] + bytes(9))
        assert history.shop.get("/v1/store/summary").status_code == 503
        lines = [refused(verify, "--database", url_of(history), "--full")]
        (out / path).unlink()
        lines.append(refused(verify, "--database", url_of(history), "--full"))
        assert [f"{path} of the archive" in line for line in lines] == [True, True]
        assert "is not as it was sealed: restore it" in lines[0]
        assert "cannot be read" in lines[1]
        (out / path).write_bytes(whole)
        history.check()
        assert exact(history, "--full")
    finally:
        history.close()


def test_an_archive_may_move_and_is_no_other_ledgers(history: History, aged: History, tmp_path: Path) -> None:
    out, moved = tmp_path / "archive", tmp_path / "moved"
    retained(history, out)
    arguments = ("--database", url_of(history), "--older-than", "90d", "--out")
    moved.mkdir()
    assert f"lies in {out}: give --out {out}, or copy all of it" in refused(
        commands.retain, *arguments, moved
    )
    shutil.copytree(out, moved, dirs_exist_ok=True)
    assert exact(history, "--full", "--archive", moved)
    shutil.rmtree(out)
    assert run(commands.retain, *arguments, moved).returncode == 0
    assert exact(history, "--full")
    other = tmp_path / "other.db"
    shutil.copy(aged.path, other)
    line = refused(commands.retain, "--database", f"sqlite:///{other}", "--older-than", "90d", "--out", moved)
    assert "is the archive of another ledger" in line


def test_a_seal_tells_of_keys_and_rows_that_changed(history: History, tmp_path: Path) -> None:
    retained(history, tmp_path / "archive")
    assert "from the last seal on" in run(verify, "--database", url_of(history)).stdout
    with Database(url_of(history)).write() as connection:
        connection.exec_driver_sql(
            "UPDATE archived_event SET digest = zeroblob(16) WHERE event_no ="
            " (SELECT min(event_no) FROM archived_event)"
        )
    assert exact(history)
    told = run(verify, "--database", url_of(history), "--full").stdout
    assert "the keys kept of" in told
    with Database(url_of(history)).write() as connection:
        connection.exec_driver_sql(
            "DELETE FROM archived_event WHERE event_no = (SELECT max(event_no) FROM archived_event)"
        )
    told = run(verify, "--database", url_of(history)).stdout
    assert "events are sealed in" in told
    assert "is gone" in told


@pytest.fixture
def tardy(history: History) -> History:
    """Two events of three came a day and a half or twenty days late."""
    with sqlite3.connect(history.path) as connection:
        connection.execute(
            "UPDATE event SET received_at_us = occurred_at_us + 86400000000 *"
            " CASE event_no % 3 WHEN 0 THEN 0 WHEN 1 THEN 1.5 ELSE 20 END"
        )
    connection.close()
    return history


def late(history: History) -> list[LateEvents]:
    """What came late, as the report of each experiment counts it."""
    database = Database(url_of(history))
    try:
        lives = [live for store in stores_of(database) for live in store.experiments.values()]
        with database.read() as connection:
            return [late_events_of(connection, live) for live in lives]
    finally:
        database.close()


def test_late_events_are_counted_in_the_archive_as_they_were_hot(tardy: History, tmp_path: Path) -> None:
    before = late(tardy)
    assert sum(one.after_close for one in before) > 5
    assert sum(one.late - one.after_close for one in before) > 1
    retained(tardy, tmp_path / "a")
    assert rows(tardy.path, "SELECT count(*) FROM archived_late")[0][0] >= max(one.late for one in before)
    assert late(tardy) == before
    assert exact(tardy, "--full")
    with sqlite3.connect(tardy.path) as connection:
        connection.execute(
            "DELETE FROM archived_late WHERE event_no = (SELECT max(event_no) FROM archived_late)"
        )
    connection.close()
    assert "the late events kept of" in run(verify, "--database", url_of(tardy), "--full").stdout


def test_files_of_an_earlier_version_are_noted_by_the_next_retain(tardy: History, tmp_path: Path) -> None:
    """Left as that version left them, and upgraded; a kill after one file is made up for by the next run."""
    before = late(tardy)
    files = retained(tardy, tmp_path / "a")["files"]
    database = Database(url_of(tardy))
    with database.write() as connection:
        connection.exec_driver_sql("DROP TABLE archived_late")
        migration = importlib.import_module(
            "service.ledger.migrations.versions.0012_archived_events_that_came_late"
        )
        with Operations.context(MigrationContext.configure(connection)):
            migration.upgrade()
        assert unnoted_through(connection) == files > 1
    assert late(tardy) != before
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("service.archive.late.read_records", killed_at_second(read_records))
        with pytest.raises(KeyboardInterrupt):
            note_earlier_files(database, tmp_path / "a")
    with database.read() as connection:
        assert unnoted_through(connection) == files - 1
    database.close()
    retained(tardy, tmp_path / "a")
    assert late(tardy) == before
    assert rows(tardy.path, "SELECT count(*) FROM progress WHERE name = 'late_unnoted'") == [(0,)]


def killed_at_second(honest: Callable[..., Any]) -> Callable[..., Any]:
    calls: list[int] = []

    def read(*arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return honest(*arguments)

    return read

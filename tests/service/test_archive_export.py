"""`rialto export`: closed days, each once, the same again when run again; and what it refuses."""

from __future__ import annotations

import json
import subprocess
import sys
from hashlib import blake2b
from pathlib import Path
from typing import Any

import msgspec
import pytest

from service.archive import commands
from service.archive.places import Partition
from tests.service.archives import aged_history, archive_events, refused, rows, run, url_of
from tests.service.histories import RULES, History, new_history
from tests.service.oracle import DAY, wire_time

duckdb = pytest.importorskip("duckdb", reason="the archive needs DuckDB: pip install 'rialto[archive]'")


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory, empty_ledger: bytes) -> History:
    """A stopped ledger whose events are a hundred days old."""
    history, _ = aged_history(tmp_path_factory.mktemp("aged"), empty_ledger, seed=2, steps=50)
    return history


def exported(url: str, out: Path, *more: object) -> dict[str, int]:
    done = run(commands.export, "--database", url, "--out", out, "--json", *more)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def manifest(out: Path) -> dict[str, Any]:
    return json.loads((out / "manifest.json").read_bytes())


def read(out: Path, dataset: str, columns: str = "*") -> list[tuple[Any, ...]]:
    """What any reader of Hive partitions sees."""
    sql = f"SELECT {columns} FROM read_parquet(?, hive_partitioning = true) ORDER BY ALL"
    return duckdb.execute(sql, [f"{out / dataset}/**/*.parquet"]).fetchall()


def test_every_row_is_there_once_and_a_second_run_writes_nothing(history: History, tmp_path: Path) -> None:
    first = exported(url_of(history), tmp_path)
    assert first["written"] > 5
    numbers = [n for (n,) in rows(history.path, "SELECT event_no FROM event ORDER BY 1")]
    assert [n for (n,) in read(tmp_path, "events", "event_no")] == numbers
    assigned = rows(history.path, "SELECT unit_no, experiment_no, period, share FROM assignment")
    assert read(tmp_path, "assignments", "unit_no, experiment_no, period, share") == sorted(assigned)
    persons = rows(history.path, "SELECT unit_no, person_no FROM person ORDER BY 1")
    assert persons
    assert read(tmp_path, "persons", "unit_no, person_no") == persons
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.parquet")}
    assert exported(url_of(history), tmp_path) == {
        "rows": first["rows"],
        "written": 0,
        "unchanged": first["written"],
    }
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.parquet")} == stamps
    assert not [path for path in tmp_path.rglob("*") if "pending" in path.name or "staging" in path.name]


def test_the_manifest_counts_and_its_checksum_can_be_computed_by_anyone(
    history: History, tmp_path: Path
) -> None:
    exported(url_of(history), tmp_path)
    told = manifest(tmp_path)
    assert (told["kind"], told["schema_version"]) == ("export", 1)
    assert told["stores"][history.keys.store]["time_zone"] == "Europe/Rome"
    files = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.parquet")}
    assert told["files"].keys() == files
    for path, entry in told["files"].items():
        content = duckdb.execute(
            "SELECT * FROM read_parquet(?, hive_partitioning = false)", [str(tmp_path / path)]
        ).fetchall()
        lines = b"".join(msgspec.json.encode(row) + b"\n" for row in content)
        assert entry["rows"] == len(content)
        assert entry["checksum"] == blake2b(lines, digest_size=32).hexdigest()
        for name, value in entry["partition"].items():
            assert f"{name}={value}" in path


def test_an_event_lies_with_the_decision_it_names_on_its_own_day(history: History, tmp_path: Path) -> None:
    exported(url_of(history), tmp_path)
    keys = dict(rows(history.path, "SELECT experiment_no, key FROM experiment"))
    seen = read(tmp_path, "events", "experiment_no, experiment, day::VARCHAR, occurred_at_us")
    assert {experiment for _, experiment, _, _ in seen} > {"__none__", "by-visitor"}
    for number, experiment, day, at_us in seen:
        assert experiment == keys.get(number, "__none__")
        local = duckdb.execute(
            "SELECT (make_timestamptz(?) AT TIME ZONE 'Europe/Rome')::DATE::VARCHAR", [at_us]
        ).fetchall()
        assert local == [(day,)]


def test_only_closed_days_and_those_asked_for(tmp_path: Path, empty_ledger: bytes) -> None:
    history = new_history(tmp_path / "a.db", empty_ledger)
    view = {"type": "product_view", "unit_id": "u", "sku": "X"}
    history.assign(RULES["by-visitor"], {"unit_id": "u"}, [])
    for day in range(4):
        history.clock(history.now + DAY)
        history.send([{"event_id": f"e{day}", **view}])
    out = tmp_path / "out"
    days = lambda: [day for (day,) in read(out, "events", "day::VARCHAR")]  # noqa: E731
    exported(url_of(history), out, "--from", "2026-03-28", "--to", "2026-03-28")
    assert days() == ["2026-03-28"]
    exported(url_of(history), out)
    assert days() == ["2026-03-27", "2026-03-28", "2026-03-29"], "the 30th is not over"
    late = {"event_id": "late", **view, "occurred_at": wire_time(history.now - 2 * DAY)}
    history.send([late])
    again = exported(url_of(history), out)
    assert (again["written"], again["rows"]) == (1, 5), "the day that got a late event is written anew"
    assert days() == ["2026-03-27", "2026-03-28", "2026-03-28", "2026-03-29"]
    narrow = tmp_path / "narrow"
    exported(url_of(history), narrow, "--experiment", "by-visitor")
    assert not (narrow / "events").exists()
    assert len(read(narrow, "assignments")) == 1
    history.shop.patch("/v1/store", {"time_zone": "Asia/Tokyo"}, '"2"')
    history.close()
    line = refused(commands.export, "--database", url_of(history), "--out", out)
    assert "has its days in Europe/Rome" in line


def test_an_export_holds_what_was_archived_too(tmp_path: Path, empty_ledger: bytes) -> None:
    history, _ = aged_history(tmp_path, empty_ledger, seed=4, steps=40)
    before, after, archive = (tmp_path / name for name in ("before", "after", "archive"))
    exported(url_of(history), before)
    assert archive_events(url_of(history), archive).events > 10
    exported(url_of(history), after)
    assert manifest(after)["files"] == manifest(before)["files"]
    told = refused(commands.export, "--database", url_of(history), "--out", archive)
    assert "is the ledger's archive: export into another directory" in told
    taken = refused(commands.retain, "--database", url_of(history), "--out", after, "--older-than", "90d")
    assert "give --out" in taken


def test_what_cannot_be_exported_is_one_line(history: History, tmp_path: Path) -> None:
    base = ("--database", url_of(history), "--out")
    assert "there is none of that key" in refused(commands.export, *base, tmp_path, "--experiment", "x")
    backwards = run(commands.export, *base, tmp_path, "--from", "2026-03-02", "--to", "2026-03-01")
    assert (backwards.returncode, "the first day is after the last" in backwards.stderr) == (2, True)
    assert run(commands.export, *base, tmp_path, "--from", "March").returncode == 2
    file = tmp_path / "file"
    file.write_text("")
    assert refused(commands.export, *base, file / "below").startswith("error: --out")
    absent = f"sqlite:///{tmp_path / 'absent.db'}"
    assert "rialto init" in refused(commands.export, "--database", absent, "--out", tmp_path / "o")


def test_a_value_never_leads_out_of_its_folder() -> None:
    folder = Partition("events", "../../etc", "..", "2026-01-01").folder()
    assert ".." not in folder.parts
    assert folder.parts == ("events", "store=..%2F..%2Fetc", "experiment=%2E%2E", "day=2026-01-01")


def test_without_the_extra_the_remedy_is_named(history: History, tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['duckdb'] = None; from service.archive.commands import query; "
        f"query(['SELECT 1', '--database', {url_of(history)!r}])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr == (
        "error: Parquet needs the extra for it: pip install 'rialto[archive]' where this runs\n"
    )

"""`rialto query`: ledger and archive as one, in three formats, and no way to change or read anything else."""

from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from experiments.allocation.hashing import unit_hash
from service.archive import commands
from tests.service.archives import aged_history, archive_events, asked, refused, rows, run, url_of
from tests.service.histories import History

pytest.importorskip("duckdb", reason="the archive needs DuckDB: pip install 'rialto[archive]'")


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory, empty_ledger: bytes) -> tuple[History, Any]:
    """A stopped ledger, half of it archived, and what its tables held before."""
    folder = tmp_path_factory.mktemp("query")
    history, chance = aged_history(folder, empty_ledger, seed=5, steps=50)
    archive_events(url_of(history), folder / "archive")
    history.open()
    for _ in range(25):
        chance.step()
    history.check()
    summary = history.shop.get("/v1/store/summary").json()
    history.close()
    return history, summary


def test_events_are_those_of_ledger_and_archive(ledger: tuple[History, Any]) -> None:
    history, _ = ledger
    told = asked(url_of(history), "SELECT event_no, event_id, is_archived FROM events ORDER BY event_no")
    hot = rows(history.path, "SELECT event_no, event_id, 0 FROM event")
    archived = rows(history.path, "SELECT event_no, event_id, 1 FROM archived_event")
    assert hot
    assert archived
    assert [(r["event_no"], r["event_id"], r["is_archived"]) for r in told] == sorted([*hot, *archived])
    types = asked(
        url_of(history), "SELECT type, count(*) AS n FROM events WHERE type <> 'abandonment' GROUP BY 1"
    )
    sent: dict[str, int] = {}
    for event in history.events:
        sent[event.type] = sent.get(event.type, 0) + 1
    sent.pop("abandonment", None)  # of those the service notes some itself
    assert {r["type"]: r["n"] for r in types} == sent


def test_money_is_the_summarys(ledger: tuple[History, Any]) -> None:
    history, summary = ledger
    (told,) = asked(
        url_of(history),
        "SELECT count(*) AS orders, sum(amount_minor) AS revenue, sum(refunded_minor) AS refunded"
        " FROM orders WHERE is_order AND is_converted",
    )
    assert told == {name: summary[name] for name in ("orders", "revenue", "refunded")}


def test_assignments_and_units_join_and_no_raw_id_is_told(ledger: tuple[History, Any]) -> None:
    history, _ = ledger
    told = asked(
        url_of(history),
        "SELECT a.experiment, a.variant, a.propensity, a.candidates, u.unit_hash"
        " FROM assignments a JOIN units_hashed u USING (store, unit_no)",
    )
    assert len(told) == len(history.made)
    secret, key = rows(history.path, "SELECT secret, key FROM store ORDER BY store_no LIMIT 1")[0]
    assert key == history.keys.store
    for made in history.made:
        if made.kind != "request":
            assert any(
                (one["experiment"], one["variant"], one["unit_hash"])
                == (made.experiment, made.variant, unit_hash(secret, made.unit).hex())
                for one in told
            ), made
    assert all(one["propensity"] == pytest.approx(1 / len(one["candidates"])) for one in told)
    everything = json.dumps(asked(url_of(history), "SELECT * FROM units_hashed"))
    assert not any(f'"{raw_id}"' in everything for (raw_id,) in rows(history.path, "SELECT raw_id FROM unit"))


def test_the_three_formats_say_the_same(ledger: tuple[History, Any]) -> None:
    history, _ = ledger
    sql = "SELECT 'a,\"b' AS text, 12::BIGINT AS n, NULL AS nothing, 1.5 AS half, DATE '2026-03-01' AS day"
    done = {
        kind: run(commands.query, sql, "--database", url_of(history), "--format", kind).stdout
        for kind in ("table", "csv", "json")
    }
    assert list(csv.reader(io.StringIO(done["csv"]))) == [
        ["text", "n", "nothing", "half", "day"],
        ['a,"b', "12", "", "1.5", "2026-03-01"],
    ]
    assert json.loads(done["json"]) == [
        {"text": 'a,"b', "n": 12, "nothing": None, "half": "1.5", "day": "2026-03-01"}
    ]
    head, rule, line = done["table"].splitlines()
    assert head.split() == ["text", "n", "nothing", "half", "day"]
    assert set(rule) == {"-", " "}
    assert line.split() == ['a,"b', "12", "-", "1.5", "2026-03-01"]
    nothing = run(
        commands.query, "SELECT 1 AS one WHERE false", "--database", url_of(history), "--format", "json"
    )
    assert nothing.stdout == "[]\n"


@pytest.mark.parametrize(
    ("sql", "told"),
    [
        ("DELETE FROM events", "runs one SELECT and nothing else"),
        ("CREATE TABLE t AS SELECT 1", "runs one SELECT and nothing else"),
        ("SELECT 1; SELECT 2", "runs one SELECT and nothing else"),
        ("COPY (SELECT 1) TO 'here.csv'", "runs one SELECT and nothing else"),
        ("ATTACH 'x.db'", "runs one SELECT and nothing else"),
        ("SET enable_external_access = true", "runs one SELECT and nothing else"),
        ("", "runs one SELECT and nothing else"),
        ("SELECT * FROM read_text('{file}')", "the query cannot be run: Permission Error"),
        ("SELECT * FROM '{file}'", "the query cannot be run: "),
        ("SELECT * FROM nowhere", "nowhere"),
        ("SELEC 1", "the query cannot be run: Parser Error"),
        ("SELECT 1/0 + 'x'", "the query cannot be run"),
    ],
)
def test_a_query_can_only_read_the_tables(
    sql: str, told: str, ledger: tuple[History, Any], tmp_path: Path
) -> None:
    file = tmp_path / "secret.csv"
    file.write_text("secret\n")
    line = refused(commands.query, sql.format(file=file), "--database", url_of(ledger[0]))
    assert told in line
    assert [path.name for path in tmp_path.iterdir()] == ["secret.csv"]


def test_a_copy_of_the_archive_will_do_and_a_torn_one_not(
    ledger: tuple[History, Any], tmp_path: Path
) -> None:
    history, _ = ledger
    (root,) = rows(history.path, "SELECT root FROM archive")[0]
    copy = tmp_path / "copy"
    shutil.copytree(root, copy)
    sql = "SELECT count(*) AS n, sum(amount_minor) AS total FROM events"
    whole = asked(url_of(history), sql)
    assert asked(url_of(history), sql, "--archive", copy) == whole
    torn = next(copy.rglob("*.parquet"))
    torn.write_bytes(torn.read_bytes()[:-1])
    line = refused(commands.query, sql, "--database", url_of(history), "--archive", copy)
    assert "is not as it was sealed" in line
    assert asked(url_of(history), "SELECT count(*) AS n FROM orders", "--archive", copy)

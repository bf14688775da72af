"""Logs as arrays: the same from CSV, gzip and Parquet, and every way a file can be broken names its row."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sim.ope.loading import load
from sim.ope.logged import Logged
from sim.ope.mapping_reader import parse_mapping
from sim.replay.errors import BadFile, BadMapping
from tests.sim.ope_log import LABELS, LOGGING, MAPPING, rows, write_csv

SHARES = {label: f"share_{label}" for label in LABELS}


def mapped(**changes: Any) -> Any:
    return parse_mapping({key: value for key, value in (MAPPING | changes).items() if value is not None})


def read(path: Path, **changes: Any) -> Logged:
    return load(path, mapped(**changes), None)


def told(path: Path, **changes: Any) -> str:
    with pytest.raises(BadFile) as caught:
        read(path, **changes)
    return str(caught.value)


def edited(path: Path, number: int, **cells: Any) -> Path:
    found = rows(60)
    found[number - 1] |= cells
    return write_csv(path, found)


def test_every_column_is_what_the_file_says(tmp_path: Path) -> None:
    made = rows(60)
    log = load(write_csv(tmp_path / "log.csv", made), mapped(candidates="offered"), SHARES)
    assert [log.labels[k] for k in log.actions] == [row["offer"] for row in made]
    assert log.labels == ("bundle", "none", "socks")
    assert log.propensities.tolist() == [row["p"] for row in made]
    assert log.rewards.tolist() == [row["taken"] for row in made]
    assert log.is_binary
    assert log.numbers["spent"].tolist() == [row["spent"] for row in made]
    assert log.categories["country"].labels == ("it", "ro")
    assert log.units is not None
    assert log.units.tolist() == [number % 30 for number in range(60)]
    assert log.times is not None
    assert datetime.fromtimestamp(log.times[1], UTC).isoformat() == made[1]["at"]
    assert log.shares is not None
    assert log.shares[5].tolist() == [made[5]["share_bundle"], made[5]["share_none"], made[5]["share_socks"]]
    assert log.rows.tolist() == list(range(1, 61))
    assert log.set_of(0) == (0, 1, 2)


def test_gzip_and_parquet_hold_the_same(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow", reason="needs pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet", reason="needs pyarrow")
    made = rows(200)
    plain = read(write_csv(tmp_path / "log.csv", made))
    columns = {name: [row[name] for row in made] for name in made[0] if name != "refund"}
    columns["taken"] = [bool(taken) for taken in columns["taken"]]
    parquet.write_table(pyarrow.table(columns), tmp_path / "log.parquet", row_group_size=64)
    for other in (read(write_csv(tmp_path / "log.csv.gz", made)), read(tmp_path / "log.parquet")):
        for name in ("actions", "propensities", "rewards", "units", "times", "rows"):
            assert np.array_equal(getattr(other, name), getattr(plain, name)), name
        assert np.array_equal(other.numbers["spent"], plain.numbers["spent"])
    assert "no column 'absent'" in told(tmp_path / "log.parquet", reward="absent")
    (tmp_path / "cut.parquet").write_bytes((tmp_path / "log.parquet").read_bytes()[:-100])
    assert "broken Parquet" in told(tmp_path / "cut.parquet")


def test_a_null_of_parquet_is_an_empty_cell(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow", reason="needs pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet", reason="needs pyarrow")
    table = pyarrow.table({"offer": ["a", "b"], "p": [0.5, 0.5], "refund": [None, 2.0]})
    parquet.write_table(table, tmp_path / "x.parquet")
    bare = {"action": "offer", "propensity": "p", "reward": {"formula": "refund", "empty": 0}}
    assert load(tmp_path / "x.parquet", parse_mapping(bare), None).rewards.tolist() == [0.0, 2.0]
    with pytest.raises(BadFile, match="row 1: column 'refund' holds ''"):
        load(tmp_path / "x.parquet", parse_mapping(bare | {"reward": "refund"}), None)


def test_money_is_added_up_with_its_signs(tmp_path: Path) -> None:
    made = rows(120)
    path = write_csv(tmp_path / "log.csv", made)
    log = read(path, reward={"formula": "amount - cost - refund", "empty": 0})
    expected = [row["amount"] - row["cost"] - float(row["refund"] or 0) for row in made]
    assert log.rewards == pytest.approx(expected)
    assert not log.is_binary
    assert "column 'refund' holds ''" in told(path, reward="amount - cost - refund")


def test_where_keeps_rows_and_their_numbers(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "log.csv", rows(60))
    log = read(path, where="country == ro")
    assert log.rows.tolist() == list(range(2, 61, 2))
    assert "holds no row" in told(path, where="country == fr")


def test_actions_may_be_listed_and_whole_numbers_go_by_size(tmp_path: Path) -> None:
    made = [{**row, "offer": str(number % 12)} for number, row in enumerate(rows(60))]
    path = write_csv(tmp_path / "log.csv", made)
    assert read(path).labels == tuple(map(str, range(12)))
    listed = [*map(str, range(13))]
    assert read(path, actions=listed).labels == tuple(listed)
    assert "'11' is none of the mapping's actions" in told(path, actions=listed[:11])


def test_candidates_are_those_of_each_row(tmp_path: Path) -> None:
    made = rows(60)
    for row in made[::2]:
        row["offered"] = f" {row['offer']} | none" if row["offer"] != "none" else "none|socks"
    log = read(write_csv(tmp_path / "log.csv", made), candidates={"column": "offered", "separator": "|"})
    mask = log.mask(np.arange(60))
    for number, row in enumerate(made):
        names = {part.strip() for part in row["offered"].split("|")}
        assert {label for label, is_in in zip(log.labels, mask[number], strict=True) if is_in} == names
    path = edited(tmp_path / "bad.csv", 7, offered="nobody")
    assert "row 7" in told(path, candidates="offered")
    assert "is not in the row's candidates" in told(path, candidates="offered")


@pytest.mark.parametrize(
    ("cells", "problem"),
    [
        ({"p": "much"}, "row 4: column 'p' holds 'much' where a number is needed"),
        ({"p": ""}, "row 4: column 'p' holds '' where a number is needed"),
        ({"taken": "inf"}, "row 4: column 'taken' holds 'inf' where a number is needed"),
        ({"taken": "nan"}, "row 4: column 'taken' holds 'nan' where a number is needed"),
        ({"at": "yesterday"}, "row 4: column 'at' holds 'yesterday', which is no time of format 'iso'"),
    ],
)
def test_a_cell_that_cannot_be_read_names_row_and_column(
    tmp_path: Path, cells: dict[str, Any], problem: str
) -> None:
    assert problem in told(edited(tmp_path / "log.csv", 4, **cells))


def test_a_number_of_the_context_may_be_missing(tmp_path: Path) -> None:
    log = read(edited(tmp_path / "log.csv", 4, spent=""))
    assert np.isnan(log.numbers["spent"][3])
    assert np.isfinite(np.delete(log.numbers["spent"], 3)).all()


def test_rows_that_name_nobody_are_units_of_their_own(tmp_path: Path) -> None:
    made = rows(60)
    for number in (3, 10, 41):
        made[number]["shopper"] = ""
    units = read(write_csv(tmp_path / "log.csv", made)).units
    assert units is not None
    assert sorted(set(units.tolist())) == list(range(units.max() + 1))
    sizes = np.bincount(units)
    assert (sizes[units[[3, 10, 41]]] == 1).all()
    assert units[0] == units[30]


def test_files_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "empty.csv").write_text("")
    assert "empty" in told(tmp_path / "empty.csv")
    assert "cannot be read" in told(tmp_path / "absent.csv")
    assert "is a directory" in told(tmp_path)
    export = {"export": {"experiment": "x"}}
    with pytest.raises(BadFile, match="no directory"):
        load(tmp_path / "empty.csv", parse_mapping(export), None)
    with pytest.raises(BadMapping, match="no columns of shares"):
        load(tmp_path, parse_mapping(export), SHARES)
    with pytest.raises(BadFile, match="holds no assignments"):
        load(tmp_path, parse_mapping(export), None)


def test_the_log_is_drawn_as_it_says() -> None:
    """The generator's own check: shares of actions by country within 5 binomial errors."""
    made = rows(6000)
    for country, name in enumerate(("it", "ro")):
        taken = [LABELS.index(row["offer"]) for row in made if row["country"] == name]
        shares = np.bincount(taken, minlength=3) / len(taken)
        error = np.sqrt(LOGGING[country] * (1 - LOGGING[country]) / len(taken))
        assert (np.abs(shares - LOGGING[country]) < 5 * error).all()

"""Reading files: times, zones, spreading; every broken file is one line that names the row."""

import gzip
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from sim.replay.errors import BadFile
from sim.replay.mapping import ReplayMapping
from sim.replay.mapping_reader import parse_mapping
from sim.replay.plan import forced_actions
from sim.replay.source import Row, read_rows

GOOD = b"when,who,amount\n2024-03-01 10:00:00,a,1.50\n2024-02-01 10:00:00,b,2\n"


def purchases(**changes: Any) -> ReplayMapping:
    document: dict[str, Any] = {
        "mode": "events",
        "currency": "EUR",
        "time": {"column": "when", "zone": "Europe/Rome"},
        "unit": "who",
        "events": [{"type": "order", "amount": "amount"}],
    }
    changed = {name: value for name, value in {**document, **changes}.items() if value is not None}
    return parse_mapping(changed, default_name="purchases")


def rows_in(tmp_path: Path, content: bytes, name: str = "file.csv", **changes: Any) -> list[Row]:
    path = tmp_path / name
    path.write_bytes(content)
    rows = read_rows(path, purchases(**changes))
    forced_actions(rows, purchases(**changes))
    return rows


def test_rows_come_in_order_of_time_in_utc(tmp_path: Path) -> None:
    rows = rows_in(tmp_path, GOOD)
    assert [row.number for row in rows] == [2, 1]
    assert rows[1].at == datetime(2024, 3, 1, 9, tzinfo=UTC)


def test_gzip_is_seen_by_its_content(tmp_path: Path) -> None:
    assert rows_in(tmp_path, gzip.compress(GOOD)) == rows_in(tmp_path, GOOD, "file.csv")


def test_a_byte_order_mark_blank_lines_and_another_delimiter_are_read(tmp_path: Path) -> None:
    content = b"\xef\xbb\xbf" + GOOD.replace(b",", b";").replace(b"\n", b"\r\n\r\n")
    rows = rows_in(tmp_path, content, file={"delimiter": ";"})
    assert [row.values["who"] for row in rows] == ["b", "a"]


@pytest.mark.parametrize(
    ("text", "format_", "expected"),
    [
        ("2024-03-01T10:00:00+05:00", "iso", datetime(2024, 3, 1, 5, tzinfo=UTC)),
        ("1709287200", "unix", datetime(2024, 3, 1, 10, tzinfo=UTC)),
        ("01/03/24", "%d/%m/%y", datetime(2024, 2, 29, 23, tzinfo=UTC)),
        ("2024-07-01 12:00", "iso", datetime(2024, 7, 1, 10, tzinfo=UTC)),
    ],
)
def test_time_formats(tmp_path: Path, text: str, format_: str, expected: datetime) -> None:
    content = f"when,who,amount\n{text},a,1\n".encode()
    time = {"column": "when", "format": format_, "zone": "Europe/Rome"}
    assert rows_in(tmp_path, content, time=time)[0].at == expected


def test_a_file_without_a_clock_is_spread_evenly_in_a_drawn_order(tmp_path: Path) -> None:
    content = b"who,amount\n" + b"".join(b"u%d,1\n" % n for n in range(100))
    clock = {"start": "2024-01-01T00:00:00Z", "days": 10, "shuffle_seed": 3}
    rows = rows_in(tmp_path, content, time=None, clock=clock)
    assert [row.at - rows[0].at for row in rows] == [timedelta(hours=2.4) * n for n in range(100)]
    assert sorted(row.number for row in rows) == list(range(1, 101))
    assert [row.number for row in rows] != list(range(1, 101))
    assert rows == rows_in(tmp_path, content, time=None, clock=clock)
    assert rows != rows_in(tmp_path, content, time=None, clock={**clock, "shuffle_seed": 4})
    in_order = rows_in(tmp_path, content, time=None, clock={"start": "2024-01-01T00:00:00Z", "days": 10})
    assert [row.number for row in in_order] == list(range(1, 101))


def test_where_leaves_rows_out_and_keeps_their_numbers(tmp_path: Path) -> None:
    assert [row.number for row in rows_in(tmp_path, GOOD, where="who == b")] == [2]


@pytest.mark.parametrize(
    ("content", "name", "message"),
    [
        (b"", "f.csv", "the file is empty"),
        (b"when,who\n", "f.csv", "no column 'amount'; the header has when, who"),
        (b"when,who,amount\n", "f.csv", "holds no row"),
        (GOOD + b"2024-01-01,c\n", "f.csv", "row 3: has 2 cells"),
        (GOOD + b"2024-01-01,c,ten\n", "f.csv", "row 3: column 'amount' holds 'ten'"),
        (GOOD + b"2024-01-01,c,NaN\n", "f.csv", "row 3: column 'amount' holds 'NaN'"),
        (GOOD + b"2024-01-01,c,-1\n", "f.csv", "row 3: column 'amount' holds '-1'; money cannot be negative"),
        (GOOD + b"2024-01-01,c,\n", "f.csv", "row 3: column 'amount' holds ''"),
        (GOOD + b"2024-13-01,c,1\n", "f.csv", "row 3: column 'when' holds '2024-13-01'"),
        (GOOD + b"2024-01-01,,1\n", "f.csv", "row 3: no unit"),
        (GOOD + b"2024-01-01,%s,1\n" % (b"x" * 129), "f.csv", "row 3: the unit's id is longer"),
        (GOOD + b"2024-01-01,a\x07b,1\n", "f.csv", "row 3: the unit's id holds a control"),
        (GOOD + b'2024-01-01,"a"b,1\n', "f.csv", "row 3: is not CSV"),
        (GOOD + b"2024-01-01,\xff,1\n", "f.csv", "is not utf-8"),
        (GOOD, "f.csv.gz", "is a broken gzip file"),
        (gzip.compress(GOOD + b"2024-01-01,c,1\n" * 5000)[:-20], "f.csv.gz", "is a broken gzip file"),
        (gzip.compress(GOOD, mtime=0)[:12] + b"\x00" * 40, "f.csv.gz", "is a broken gzip file"),
    ],
)
def test_a_broken_file_is_one_line_with_the_row(
    tmp_path: Path, content: bytes, name: str, message: str
) -> None:
    with pytest.raises(BadFile) as caught:
        rows_in(tmp_path, content, name)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(BadFile, match="cannot be read"):
        read_rows(tmp_path / "nothing.csv", purchases())

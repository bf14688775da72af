"""The rows of a CSV file, plain or gzipped, each with its number, its time and the columns in use."""

import csv
import gzip
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import IO
from zoneinfo import ZoneInfo

import numpy as np

from sim.replay.errors import BadFile
from sim.replay.mapping import ColumnTime, ReplayMapping, SpreadTime
from sim.replay.values import parse_decimal

GZIP_MAGIC = b"\x1f\x8b"


@dataclass(frozen=True, slots=True)
class Row:
    """One row; `number` 1 is the first after the header, `values` holds only the columns in use."""

    number: int
    at: datetime
    values: Mapping[str, str]


def read_rows(path: Path, mapping: ReplayMapping, limit: int | None = None) -> list[Row]:
    """The rows that `where` keeps of the first `limit` rows, in order of time (ties: file order)."""
    time = mapping.time
    if isinstance(time, SpreadTime):
        return _spread(list(_kept(path, mapping, limit)), time)
    rows = [
        Row(n, parse_time(values[time.column], time, n), values) for n, values in _kept(path, mapping, limit)
    ]
    if not rows:
        raise BadFile(f"{path.name} holds no row to replay")
    return sorted(rows, key=lambda row: row.at)


def _kept(path: Path, mapping: ReplayMapping, limit: int | None) -> Iterator[tuple[int, dict[str, str]]]:
    for number, values in islice(cells(path, mapping.columns, mapping.delimiter, mapping.encoding), limit):
        if mapping.where.holds(values, number):
            yield number, values


def cells(
    path: Path, columns: Iterable[str], delimiter: str, encoding: str
) -> Iterator[tuple[int, dict[str, str]]]:
    """Row number and cells of every row; every way a file can be broken ends in one BadFile."""
    number = 0
    try:
        with _opened(path, encoding) as lines:
            reader = csv.reader(lines, delimiter=delimiter, strict=True)
            header = next(reader, [])
            places = places_of(header, columns)
            for record in reader:
                if not record:
                    continue
                number += 1
                if any(record[len(header) :]):  # or a cell may be its neighbour's
                    said = f"has {len(record)} cells, more than the header's {len(header)}"
                    raise BadFile(f"{said}: text with {delimiter!r} in it needs quotes", number)
                try:
                    yield number, {name: record[place] for name, place in places}
                except IndexError:
                    raise BadFile(f"has {len(record)} cells, fewer than the header", number) from None
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise BadFile(f"{path.name} is a broken gzip file after row {number}: {error}") from error
    except UnicodeDecodeError as error:
        raise BadFile(f"{path.name} is not {encoding} after row {number}: {error.reason}") from error
    except csv.Error as error:
        raise BadFile(f"is not CSV: {error}", number + 1) from error
    except (OSError, LookupError) as error:
        raise BadFile(f"{path} cannot be read: {error}") from error


def _opened(path: Path, encoding: str) -> IO[str]:
    with path.open("rb") as file:
        is_gzip = file.read(2) == GZIP_MAGIC
    if path.suffix == ".gz" and not is_gzip:
        raise BadFile(f"{path.name} is a broken gzip file: it does not begin like one")
    text_encoding = "utf-8-sig" if encoding.lower().replace("_", "-") in ("utf-8", "utf8") else encoding
    if is_gzip:
        return gzip.open(path, "rt", encoding=text_encoding, newline="")
    return path.open(encoding=text_encoding, newline="")


def places_of(header: list[str], columns: Iterable[str]) -> list[tuple[str, int]]:
    """Where each column stands; BadFile names those that are missing."""
    wanted = sorted(set(columns))
    if not header:
        raise BadFile("the file is empty; a header row is needed")
    missing = [name for name in wanted if name not in header]
    if missing:
        raise BadFile(f"no column {', '.join(map(repr, missing))}; the header has {', '.join(header)}", 0)
    twice = [name for name in wanted if header.count(name) > 1]
    if twice:
        raise BadFile(f"the header has {', '.join(map(repr, twice))} more than once; rename all but one", 0)
    return [(name, header.index(name)) for name in wanted]


def _spread(cells: list[tuple[int, dict[str, str]]], time: SpreadTime) -> list[Row]:
    """Rows evenly over `days`, to the millisecond, in an order drawn by the seed."""
    if not cells:
        raise BadFile("the file holds no row to replay")
    order = np.arange(len(cells))
    if time.shuffle_seed is not None:
        order = np.random.default_rng(time.shuffle_seed).permutation(len(cells))
    span_ms = int(time.days * 86_400_000)
    return [
        Row(number, time.start + timedelta(milliseconds=span_ms * place // len(cells)), values)
        for place, (number, values) in enumerate(cells[int(index)] for index in order)
    ]


def parse_time(text: str, time: ColumnTime, row: int) -> datetime:
    """A cell as an instant in UTC."""
    try:
        if time.format in ("unix", "unix_ms"):
            seconds = float(parse_decimal(text, time.column, row)) / (1 if time.format == "unix" else 1000)
            return datetime.fromtimestamp(seconds, UTC)
        found = datetime.fromisoformat(text) if time.format == "iso" else datetime.strptime(text, time.format)
        return _in_zone(found, time.zone)
    except (ValueError, OverflowError, OSError):
        raise BadFile(
            f"column {time.column!r} holds {text!r}, which is no time of format {time.format!r}", row
        ) from None


def _in_zone(found: datetime, zone: ZoneInfo) -> datetime:
    """In UTC; a time without an offset is read in the zone (a repeated hour is its first pass)."""
    return (found if found.tzinfo else found.replace(tzinfo=zone)).astimezone(UTC)

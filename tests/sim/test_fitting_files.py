"""Files that no program of ours wrote: each is read to a world, or refused by what would help."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from sim.fitting.fit import Fit, fit
from sim.fitting.log import ShopLog
from sim.fitting.mapping_reader import parse_mapping
from sim.fitting.reading import read_log
from sim.replay.errors import BadFile
from sim.worlds.document import from_document, to_document
from tests.sim.fitting_logs import EXPERIMENT

SHOP: dict[str, Any] = {
    "currency": "EUR",
    "time": {"column": "when"},
    "unit": "who",
    "rows": [
        {"kind": "order", "when": "kind == sale", "order": "nr", "amount": "total"},
        {"kind": "refund", "when": "kind == back", "order": "nr", "amount": "total"},
    ],
}
VISITS: dict[str, Any] = {
    "currency": "EUR",
    "time": {"column": "when"},
    "unit": "who",
    "variant": {"column": "variant"},
    "experiment": EXPERIMENT,
    "rows": [
        {"kind": "visit", "when": "kind == visit"},
        {"kind": "order", "when": "kind == sale", "order": "nr", "amount": "total"},
    ],
}
HEAD = "nr,when,who,total,kind"


def read(folder: Path, lines: Iterable[str], mapping: dict[str, Any], *, encoding: str = "utf-8") -> ShopLog:
    path = folder / "shop.csv"
    path.write_bytes("\n".join(lines).encode(encoding))
    return read_log(path, parse_mapping(mapping, name="shop"))


def fitted(log: ShopLog, mapping: dict[str, Any]) -> Fit:
    """The fit, whose world is one that can be written and read, as its draws are."""
    found = fit(log, parse_mapping(mapping, name="shop"))
    for world in (found.world, found.drawn(3)):
        assert from_document(to_document(world)) == world
    return found


def test_a_german_file(tmp_path: Path) -> None:
    """Semicolons, decimal commas with points between thousands, day first, an old encoding, summer time."""
    mapping = SHOP | {
        "file": {"delimiter": ";", "encoding": "cp1252", "decimal": ","},
        "time": {"column": "Datum", "format": "%d.%m.%Y %H:%M"},
        "zone": "Europe/Berlin",
        "unit": "Käufer",
        "rows": [{"kind": "order", "order": "Bestellung", "amount": "Betrag"}],
    }
    lines = ["Bestellung;Datum;Käufer;Betrag", "1;29.03.2026 01:59;ä;1.234,56", "2;29.03.2026 03:00;ö;12,9"]
    log = read(tmp_path, lines, mapping, encoding="cp1252")
    assert log.amount.tolist() == [123_456, 1_290]
    assert log.arrival_s[1] - log.arrival_s[0] == 60  # the clock went forward in between
    assert fitted(log, mapping).world.customers_per_day > 0


@pytest.mark.parametrize(
    ("cell", "time"),
    [
        ("03/09/2026 02:05 PM", {"format": "%m/%d/%Y %I:%M %p"}),
        ("2026-03-09T18:05:00Z", {}),
        ("2026-03-09T19:05:00+01:00", {"format": "iso"}),
        ("1773079500", {"format": "unix"}),
        ("1773079500000", {"format": "unix_ms"}),
    ],
)
def test_one_instant_written_in_five_ways(tmp_path: Path, cell: str, time: dict[str, str]) -> None:
    mapping = SHOP | {"time": {"column": "when", **time}, "zone": "America/New_York"}
    log = read(tmp_path, [HEAD, f"1,{cell},a,5,sale"], mapping)
    assert datetime.fromtimestamp(float(log.arrival_s[0]), UTC) == datetime(2026, 3, 9, 18, 5, tzinfo=UTC)
    assert log.second[0] == (14 * 60 + 5) * 60
    assert log.zone == ZoneInfo("America/New_York")


def test_refunds_in_part_below_zero_and_before_their_order(tmp_path: Path) -> None:
    """Of 20.00: -5.00 and 3.00 come back; of 10.00 more than it cost; the third is dated before its order."""
    lines = [
        *(HEAD, "1,2026-03-09T10:00:00,a,20.00,sale", "1,2026-03-11T10:00:00,a,-5.00,back"),
        *("1,2026-03-12T10:00:00,a,3.00,back", "2,2026-03-09T11:00:00,b,10.00,sale"),
        *("2,2026-03-10T11:00:00,b,99.00,back", "3,2026-03-08T11:00:00,c,1.00,back"),
        *("3,2026-03-09T12:00:00,c,4.00,sale", "9,2026-03-09T12:00:00,c,4.00,back"),
    ]
    log = read(tmp_path, lines, SHOP)
    assert log.refunded.tolist() == [800, 1_000, 100]
    assert log.notes == ("1 refunds of orders that are not in the log, left out",)
    found = fitted(log, SHOP).found.estimates
    parts = {name: one.value for name, one in found.items() if name.startswith("refunded_part")}
    assert parts == pytest.approx({"refunded_part[0.325]": 2 / 3, "refunded_part[1]": 1 / 3})


def test_orders_of_several_lines_and_goods_that_come_back(tmp_path: Path) -> None:
    """Two of three shirts come back, counted above 0 by one shop and below by another."""
    line = {"order": "nr", "sku": "sku", "quantity": "pieces", "price": "each"}
    rows = [
        {"kind": "order", "when": "kind == sale", **line},
        {"kind": "refund", "when": "kind == back", **line},
    ]
    for pieces in ("2", "-2"):
        lines = [
            *("nr,when,who,sku,pieces,each,kind", "1,2026-03-09 10:00,a,SHIRT,3,10.00,sale"),
            *("1,2026-03-09 10:00,a,SOCK,1,4.50,sale", f"R,2026-03-12 10:00,a,SHIRT,{pieces},10.00,back"),
        ]
        log = read(tmp_path, lines, SHOP | {"rows": rows})
        assert (log.amount.tolist(), log.refunded.tolist()) == ([3_450], [2_000])
        assert dict(
            zip(log.skus, (log.item_amount[log.item_sku == i].sum() for i in (0, 1)), strict=True)
        ) == {
            "SHIRT": 3_000,
            "SOCK": 450,
        }


def visits(variant: str = "none", n: int = 90) -> list[str]:
    start = datetime(2026, 3, 2, 10)
    found = ["nr,when,who,total,kind,variant"]
    for i in range(n):
        at = start + timedelta(hours=5 * i)
        found.append(f",{at.isoformat()},w{i},,visit,{variant}")
        if i % 3 == 0:
            found.append(f"o{i},{(at + timedelta(hours=1)).isoformat()},w{i},{20 + i % 7},sale,{variant}")
    return found


def test_one_variant_alone_no_costs_no_refunds(tmp_path: Path) -> None:
    found = fitted(read(tmp_path, visits(), VISITS), VISITS).found.estimates
    low, high = found["conversion[all]"].low, found["conversion[all]"].high
    assert low is not None
    assert high is not None
    assert low < 1 / 3 < high
    assumed = {name for name, one in found.items() if one.source == "assumed"}
    assert {"cost_rate", "refund[all]", "appeal[socks]", "pressure[socks]", "regret[socks]"} <= assumed


def test_no_refund_seen_is_not_none_ever(tmp_path: Path) -> None:
    """Of n orders none came back: Jeffreys' upper limit is 2.5 / n, not nothing."""
    mapping = SHOP | {"unit": {"row": "r"}}
    lines = [HEAD, *(f"{i},2026-03-{1 + i % 28:02d}T12:00:00,a,{10 + i % 5},sale" for i in range(100))]
    high = fitted(read(tmp_path, lines, mapping), mapping).found.estimates["refund[all]"].high
    assert high == pytest.approx(0.0248, rel=0.25)


@pytest.mark.parametrize("orders", [1, 2, 3])
def test_a_handful_of_orders(tmp_path: Path, orders: int) -> None:
    lines = [HEAD, *(f"{i},2026-03-0{i + 1}T12:00:00,w{i},10.00,sale" for i in range(orders))]
    assert fitted(read(tmp_path, lines, SHOP), SHOP).world.customers_per_day > 0


def test_who_is_left_out_is_told(tmp_path: Path) -> None:
    lines = [*visits(), "x,2026-03-05T11:00:00,stranger,20,sale,none", ",2026-03-05T11:00:00,w,,visit,hats"]
    log = read(tmp_path, lines, VISITS)
    assert set(log.notes) == {
        "1 orders of customers without a visit, left out",
        "1 customers of a variant that the experiment has not, left out",
    }


@pytest.mark.parametrize(
    ("lines", "mapping", "said"),
    [
        ([HEAD, "1,2026-03-09,a,,sale"], SHOP, r"row 1: column 'total' holds ''.*`when: total != \"\"`"),
        ([HEAD, '1,2026-03-09,a,"12,90",sale'], SHOP, r"column 'total' holds '12,90'.*decimal: \",\""),
        ([HEAD, "1,2026-03-09,a,€ 12.90,sale"], SHOP, "column 'total'.*without currency"),
        ([HEAD, "1,2026-03-09,a,-3,sale"], SHOP, "column 'total' holds '-3'.*refunds.*`when: total < 0`"),
        ([HEAD, "1,,a,3,sale"], SHOP, "column 'when' holds ''"),
        ([HEAD, "1,09.03.2026,a,3,sale"], SHOP, "column 'when' holds '09.03.2026'.*format 'iso'"),
        ([HEAD, "1,2026-03-09,,3,sale"], SHOP, r"column who is empty.*unit: \[who, ...\]"),
        ([HEAD, "1,2026-03-09,a,3,gift"], SHOP, "none of its 1 rows meets a rule of kind order"),
        ([HEAD], SHOP, "holds no row"),
        ([], SHOP, "a header row is needed"),
        (["nr,when,total,kind", "1,2026-03-09,3,sale"], SHOP, "no column 'who'"),
        (visits("Control"), VISITS, r"the log has Control.*keys"),
        (visits("socks"), VISITS, "nobody in the log got the control 'none'.*leave `variant` out"),
        (visits(), VISITS | {"arrivals": {"from": "2027-01-01"}}, "nobody came on the days of `arrivals`"),
    ],
)
def test_what_cannot_be_read_names_the_column_and_what_helps(
    tmp_path: Path, lines: list[str], mapping: dict[str, Any], said: str
) -> None:
    with pytest.raises(BadFile, match=said):
        read(tmp_path, lines, mapping)


def test_the_remedy_for_empty_cells_helps(tmp_path: Path) -> None:
    rows = [{"kind": "order", "when": 'kind == sale and total != ""', "order": "nr", "amount": "total"}]
    log = read(tmp_path, [HEAD, "1,2026-03-09,a,,sale", "2,2026-03-09,b,5,sale"], SHOP | {"rows": rows})
    assert log.amount.tolist() == [500]


def test_parquet_is_read_as_csv_is(tmp_path: Path) -> None:
    """The same rows, as text and as columns of numbers and times with nulls."""
    arrow = pytest.importorskip("pyarrow", reason="it is in the extra `archive`")
    from pyarrow import parquet

    at = [datetime(2026, 3, 9, hour, tzinfo=UTC) for hour in (10, 11, 12)]
    rows = {
        "nr": ["1", "2", "1"],
        "when": at,
        "who": ["a", "b", None],
        "total": [20.0, 12.5, 20.0],
        "kind": ["sale", "sale", "back"],
    }
    path = tmp_path / "shop.parquet"
    parquet.write_table(arrow.table(rows), path)
    mapping = SHOP | {"unit": ["who", "nr"]}
    of_parquet = read_log(path, parse_mapping(mapping, name="shop"))
    lines = [f"{n},{w.isoformat()},{u or ''},{t},{k}" for n, w, u, t, k in zip(*rows.values(), strict=True)]
    of_csv = read(tmp_path, [HEAD, *lines], mapping)
    for name in ("arrival_s", "order_s", "amount", "refund_s", "refunded"):
        assert np.array_equal(getattr(of_parquet, name), getattr(of_csv, name), equal_nan=True)
    assert of_csv.refunded.tolist() == [2_000, 0]


def test_repeats_are_told_by_periods_that_fit(tmp_path: Path) -> None:
    """Customers who order every eight days for seven weeks: 28 days would hold several orders of each."""
    rng = np.random.default_rng(3)
    lines, number = [HEAD], 0
    for who in range(60):
        at = datetime(2026, 3, 2) + timedelta(days=float(rng.uniform(0, 14)))
        while at < datetime(2026, 4, 20):
            lines.append(f"{number},{at.isoformat()},w{who},{rng.integers(10, 60)},sale")
            number, at = number + 1, at + timedelta(days=float(rng.uniform(7, 9)))
    repeats = fitted(read(tmp_path, lines, SHOP), SHOP).world.repeats
    assert repeats.every_days == 7
    assert repeats.times >= 4

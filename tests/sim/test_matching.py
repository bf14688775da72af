"""Matching cancellations to orders: by hand, by two independent paths, and on the real file."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.replay.actions import Event
from sim.replay.file_summary import FileSummary, file_summary, summary_of_events
from sim.replay.invoices import invoice_actions
from sim.replay.mapping import ReplayMapping
from sim.replay.mapping_reader import read_mapping
from sim.replay.matching import Invoice, Line, match_cancellations
from sim.replay.source import Row, read_rows

ROOT = Path(__file__).parents[2]
RETAIL = ROOT / "sim" / "mappings" / "online_retail.yaml"
DATA = ROOT.parent / "shared" / "data" / "online_retail_2010-12_to_2011-05.csv.gz"
NOON = datetime(2011, 1, 1, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def mapping() -> ReplayMapping:
    return read_mapping(RETAIL)


def invoice(number: str, minute: int, *lines: tuple[str, int, str], unit: str = "u") -> Invoice:
    made = [Line(item, quantity, Decimal(price)) for item, quantity, price in lines]
    return Invoice(number, unit, NOON + timedelta(minutes=minute), minute, number.startswith("C"), made)


def matched(*invoices: Invoice) -> list[tuple[str, str | None, Decimal]]:
    matches = match_cancellations(invoices)
    return [(m.cancellation.number, m.order.number if m.order else None, m.amount) for m in matches]


def test_the_latest_earlier_order_with_quantity_left_is_taken_first() -> None:
    found = matched(
        invoice("1", 0, ("tea", 5, "2.00")),
        invoice("2", 1, ("tea", 3, "2.00")),
        invoice("3", 9, ("tea", 9, "2.00")),
        invoice("C1", 5, ("tea", 2, "2.00")),
        invoice("C2", 6, ("tea", 4, "2.50")),
    )
    assert found == [("C1", "2", Decimal("4.00")), ("C2", "2", Decimal("2.50")), ("C2", "1", Decimal("7.50"))]


def test_what_finds_no_order_is_an_orphan_of_its_own() -> None:
    found = matched(
        invoice("1", 0, ("tea", 1, "2.00")),
        invoice("2", 0, ("tea", 9, "2.00"), unit="another"),
        invoice("C1", 5, ("tea", 3, "2.00"), ("cup", 1, "4.00")),
    )
    assert found == [("C1", "1", Decimal("2.00")), ("C1", None, Decimal("8.00"))]


def test_within_a_minute_the_files_order_counts() -> None:
    order, cancellation = invoice("1", 0, ("tea", 1, "2.00")), invoice("C1", 0, ("tea", 1, "2.00"))
    order.row, cancellation.row = 1, 2
    assert matched(order, cancellation) == [("C1", "1", Decimal("2.00"))]
    order.row, cancellation.row = 2, 1
    assert matched(order, cancellation) == [("C1", None, Decimal("2.00"))]


def rows_of(lines: Sequence[tuple[str, str, str, int, int, str]]) -> list[Row]:
    """Rows from (invoice, customer, item, quantity, minute, price)."""
    return [
        Row(
            number,
            NOON + timedelta(minutes=minute),
            {
                "InvoiceNo": name,
                "CustomerID": customer,
                "StockCode": item,
                "Quantity": str(quantity),
                "UnitPrice": price,
                "InvoiceDate": "",
            },
        )
        for number, (name, customer, item, quantity, minute, price) in enumerate(lines, 1)
    ]


def events_of(rows: Sequence[Row], mapping: ReplayMapping) -> list[Event]:
    return [action for action in invoice_actions(rows, mapping) if isinstance(action, Event)]


def test_a_cancel_is_sent_when_the_last_refund_makes_the_whole_amount(mapping: ReplayMapping) -> None:
    rows = rows_of(
        [
            ("1", "7", "tea", 3, 0, "2.00"),
            ("2", "7", "cup", 1, 1, "9.00"),
            ("C1", "7", "tea", -1, 2, "2.00"),
            ("C2", "7", "tea", -2, 3, "2.00"),
            ("C3", "7", "cup", -1, 4, "9.50"),
        ]
    )
    sent = {e.body["event_id"]: (e.body["type"], e.body.get("amount")) for e in events_of(rows, mapping)}
    assert sent["online-retail:C1:1:refund"] == ("refund", 200)
    assert sent["online-retail:C2:1:cancel"] == ("cancel", None)
    assert sent["online-retail:C3:2:refund"] == ("refund", 950)
    assert file_summary(rows, mapping) == FileSummary(
        orders=2,
        revenue=1500,
        refunded=1500,
        over_refunded=50,
        refunded_orders=2,
        orphan_refunds=0,
        orphan_refunded=0,
    )


def test_each_unit_is_enrolled_once_at_its_first_order(mapping: ReplayMapping) -> None:
    rows = rows_of(
        [
            ("C0", "8", "tea", -1, 0, "1"),
            ("1", "7", "tea", 1, 1, "1"),
            ("2", "7", "tea", 1, 2, "1"),
            ("3", "", "tea", 1, 3, "1"),
        ]
    )
    enrolled = [(a.unit, a.at) for a in invoice_actions(rows, mapping) if not isinstance(a, Event)]
    assert enrolled == [("7", rows[1].at), ("InvoiceNo:3", rows[3].at)]


LINES = st.lists(
    st.tuples(
        st.sampled_from(["1", "2", "3", "4", "C5", "C6", "C7"]),
        st.sampled_from(["tea", "cup"]),
        st.integers(0, 4),
        st.decimals("0", "9", places=2),
    ),
    max_size=25,
)


@settings(deadline=None)
@given(LINES, st.dictionaries(st.sampled_from(["1", "2", "3", "4", "C5", "C6", "C7"]), st.integers(0, 3)))
def test_two_independent_paths_agree_on_any_file(
    lines: list[tuple[str, str, int, Decimal]], minutes: dict[str, int]
) -> None:
    mapping = read_mapping(RETAIL)
    rows = rows_of(
        [
            (
                number,
                ("7", "8", "")[len(number + item) % 3] if number in ("3", "C7") else "7",
                item,
                -quantity if number.startswith("C") else quantity,
                minutes.get(number, 0),
                str(price),
            )
            for number, item, quantity, price in sorted(lines, key=lambda line: minutes.get(line[0], 0))
            if not (number in ("3", "C7") and item == "cup")
        ]
    )
    summary = file_summary(rows, mapping)
    assert summary_of_events(events_of(rows, mapping)) == summary
    cancelled = sum(
        -int(r.values["Quantity"]) * Decimal(r.values["UnitPrice"]) * 100
        for r in rows
        if r.values["InvoiceNo"].startswith("C")
    )
    assert summary.refunded + summary.over_refunded + summary.orphan_refunded == cancelled


@pytest.mark.skipif(not DATA.exists(), reason="the retail file is not beside this repository")
def test_the_real_file_gives_its_published_counts_on_both_paths(mapping: ReplayMapping) -> None:
    rows = read_rows(DATA, mapping)
    summary = file_summary(rows, mapping)
    assert len(rows) == 209_029
    assert summary.orders == 10_783 - 1_677
    assert summary.revenue == 406_472_659  # 4,064,726.59 GBP
    assert summary.refunded + summary.over_refunded + summary.orphan_refunded == 35_789_895
    assert summary_of_events(events_of(rows, mapping)) == summary

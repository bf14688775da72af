"""What a file's rows become: ids from the file alone, money by Decimal, and the published rates."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from sim.replay.actions import Assign, Event
from sim.replay.errors import BadFile
from sim.replay.mapping import ReplayMapping
from sim.replay.mapping_reader import parse_mapping, read_mapping
from sim.replay.plan import forced_actions, logged_rows, row_events
from sim.replay.source import Row, read_rows
from sim.replay.tally import VariantNumbers, tally, wilson
from sim.replay.units import split_variant

ROOT = Path(__file__).parents[2]
HILLSTROM = ROOT / "sim" / "mappings" / "hillstrom.yaml"
DATA = ROOT.parent / "shared" / "data" / "hillstrom_email.csv.gz"
NOON = datetime(2024, 1, 1, 12, tzinfo=UTC)


def mapping_of(**changes: Any) -> ReplayMapping:
    document: dict[str, Any] = {
        "mode": "forced",
        "clock": {"start": "2024-01-01T00:00:00Z", "days": 1},
        "unit": "who",
        "variant": {"column": "mail", "keys": {"A": "none", "B": "mail"}},
        "propensity": "p",
        "events": [
            {"type": "exposure"},
            {"type": "click", "when": "clicked == 1", "after": "5m"},
            {"type": "order", "amount": "amount", "cost": "cost", "when": "amount > 0", "after": "1h"},
            {"type": "custom", "name": "score", "value": "cost", "when": "clicked == 1"},
        ],
        "experiment": {
            "key": "mail",
            "touchpoint": "email",
            "unit": "customer",
            "currency": "EUR",
            "attribution_window": "1d",
            "refund_window": "1d",
            "policy": {"kind": "fixed"},
            "variants": [
                {"key": "none", "is_control": True, "offer": {"kind": "none"}},
                {"key": "mail", "offer": {"kind": "upsell", "sku": "M"}},
            ],
            "metrics": [{"key": "score", "kind": "mean", "event": "score"}],
        },
    }
    return parse_mapping({**document, **changes}, default_name="mail")


def row(number: int, minute: int = 0, **cells: str) -> Row:
    values = {"who": f"u{number}", "mail": "B", "p": "0.25", "clicked": "0", "amount": "0", "cost": ""}
    return Row(number, NOON + timedelta(minutes=minute), {**values, **cells})


def test_a_row_becomes_an_assignment_and_the_events_it_meets() -> None:
    actions = forced_actions([row(3, clicked="1", amount="12.345", cost="4")], mapping_of())
    assign, *events = actions
    assert isinstance(assign, Assign)
    assert (assign.unit, assign.variant, assign.propensity) == ("u3", "mail", 0.25)
    assert [e.body for e in events if isinstance(e, Event)] == [
        {
            "event_id": "mail:3:0-exposure",
            "type": "exposure",
            "unit_id": "u3",
            "occurred_at": "2024-01-01T12:00:00Z",
        },
        {
            "event_id": "mail:3:3-custom",
            "type": "custom",
            "unit_id": "u3",
            "occurred_at": "2024-01-01T12:00:00Z",
            "name": "score",
            "value": 4.0,
        },
        {
            "event_id": "mail:3:1-click",
            "type": "click",
            "unit_id": "u3",
            "occurred_at": "2024-01-01T12:05:00Z",
        },
        {
            "event_id": "mail:3:2-order",
            "type": "order",
            "unit_id": "u3",
            "occurred_at": "2024-01-01T13:00:00Z",
            "amount": 1234,  # 12.345 lies between 12.34 and 12.35: half to even
            "cost": 400,
            "order_id": "mail:3",
            "currency": "EUR",
        },
    ]


def test_an_empty_optional_cell_is_left_out() -> None:
    bodies = [event.body for event in row_events(row(1, amount="5"), "u1", mapping_of())]
    assert "cost" not in bodies[-1]


def test_a_unit_is_assigned_once_and_has_one_variant() -> None:
    actions = forced_actions([row(1, who="x"), row(2, 1, who="x")], mapping_of())
    assert sum(isinstance(action, Assign) for action in actions) == 1
    with pytest.raises(BadFile, match="row 2: unit 'x' has variant 'none' here and 'mail' in row 1"):
        forced_actions([row(1, who="x"), row(2, 1, who="x", mail="A")], mapping_of())
    with pytest.raises(BadFile, match="row 2: unit 'x' was already in row 1"):
        logged_rows([row(1, who="x"), row(2, 1, who="x")], mapping_of())


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ({"mail": "C"}, "row 1: column 'mail' holds 'C'"),
        ({"p": "0"}, "a propensity lies in"),
        ({"p": "x"}, "'p'"),
    ],
)
def test_a_wrong_variant_or_propensity_names_the_row(cells: dict[str, str], message: str) -> None:
    with pytest.raises(BadFile, match=message):
        forced_actions([row(1, **cells)], mapping_of())


def test_context_columns_have_types() -> None:
    context = {
        "device": "device",
        "age": {"column": "age", "type": "integer"},
        "new": {"column": "new", "type": "boolean"},
    }
    cells = {"device": "phone", "age": "41", "new": "TRUE"}
    assign = forced_actions([row(1, **cells)], mapping_of(context=context))[0]
    assert isinstance(assign, Assign)
    assert assign.context == {"device": "phone", "age": 41, "new": True}
    with pytest.raises(BadFile, match="neither true nor false"):
        forced_actions([row(1, **{**cells, "new": "perhaps"})], mapping_of(context=context))


def test_a_split_follows_its_shares_and_nothing_but_the_unit() -> None:
    chosen = [split_variant(f"unit-{n}", {"a": 0.2, "b": 0.8}) for n in range(10_000)]
    assert abs(chosen.count("a") - 2000) < 5 * (10_000 * 0.2 * 0.8) ** 0.5
    assert chosen == [split_variant(f"unit-{n}", {"a": 0.2, "b": 0.8}) for n in range(10_000)]


def numbers(rows: list[Row], mapping: ReplayMapping) -> dict[str, VariantNumbers]:
    actions = forced_actions(rows, mapping)
    assert mapping.experiment is not None
    return tally(
        [a for a in actions if isinstance(a, Assign)],
        [a for a in actions if isinstance(a, Event)],
        mapping.experiment,
    )


def test_the_tally_by_hand() -> None:
    """Variant mail: 2 units, one clicked with score 4 and bought for 10.00 twice (the second too late)."""
    rows = [
        row(1, who="x", clicked="1", amount="10", cost="4"),
        row(2, 60 * 24, who="x", amount="10"),
        row(3, who="y"),
    ]
    metrics = numbers(rows, mapping_of())["mail"].metrics
    assert {key: (f.numerator, f.denominator) for key, f in metrics.items()} == {
        "score": (4.0, 2),
        "conversion_rate": (1, 2),
        "revenue_per_unit": (1000, 2),
        "aov": (1000, 1),
        "click_through_rate": (1, 2),
    }


def test_wilson_by_the_published_value() -> None:
    """Newcombe (1998), Statistics in Medicine 17, table I: 81 of 263 gives (0.2553, 0.3662)."""
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)


@pytest.mark.skipif(not DATA.exists(), reason="the e-mail file is not beside this repository")
def test_the_real_file_gives_its_published_rates() -> None:
    mapping = read_mapping(HILLSTROM)
    found = numbers(read_rows(DATA, mapping), mapping)
    assert {key: one.units for key, one in found.items()} == {
        "none": 21_306,
        "mens": 21_307,
        "womens": 21_387,
    }

    def column(metric: str, digits: int, scale: float = 1.0) -> list[float]:
        values = [one.metrics[metric].value for one in found.values()]
        return [round(scale * value, digits) for value in values if value is not None]

    assert column("visit_rate", 3, 100) == [10.617, 18.276, 15.140]
    assert column("conversion_rate", 4, 100) == [0.5726, 1.2531, 0.8837]
    assert column("revenue_per_unit", 4, 0.01) == [0.6528, 1.4226, 1.0772]
    assert column("aov", 2, 0.01) == [114.00, 113.53, 121.89]
    none = found["none"].metrics["revenue_per_unit"]
    assert none.low is not None
    assert none.value is not None
    sd = (none.value - none.low) / 1.959964 * 21_306**0.5
    assert sd == pytest.approx(1158.8, rel=1e-3)  # the published standard deviation, 11.588 USD

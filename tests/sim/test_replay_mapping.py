"""Mappings: the shipped ones are valid, and a bad one is told everything that is wrong with it."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from sim.replay.conditions import parse_condition
from sim.replay.errors import BadFile, BadMapping
from sim.replay.mapping import Mode
from sim.replay.mapping_reader import parse_mapping, read_mapping

MAPPINGS = Path(__file__).parents[2] / "sim" / "mappings"


def hillstrom(**changes: Any) -> dict[str, Any]:
    document = yaml.safe_load((MAPPINGS / "hillstrom.yaml").read_text(encoding="utf-8"))
    return {name: value for name, value in {**document, **changes}.items() if value is not None}


def faults(document: object) -> tuple[str, ...]:
    with pytest.raises(BadMapping) as caught:
        parse_mapping(document, default_name="test")
    return caught.value.problems


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        ("hillstrom", Mode.FORCED),
        ("hillstrom_thompson", Mode.REJECTION),
        ("online_retail", Mode.EVENTS),
    ],
)
def test_the_shipped_mappings_are_valid(name: str, mode: Mode) -> None:
    mapping = read_mapping(MAPPINGS / f"{name}.yaml")
    assert mapping.mode is mode
    assert mapping.experiment is not None
    # A cohort day has matured when it and the window are over: the clock must go on that long.
    assert (
        mode is not Mode.REJECTION
        or mapping.settle >= timedelta(days=1) + mapping.experiment.attribution_window
    )


def test_a_fraction_is_a_propensity() -> None:
    mapping = parse_mapping(hillstrom(propensity="1/4"), default_name="test")
    assert mapping.propensity is not None
    assert mapping.propensity.constant == 0.25


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"colour": "red"}, "colour: unknown"),
        ({"mode": "thompson"}, "mode: 'thompson' is none of"),
        ({"clock": None}, "time: say where"),
        ({"time": {"column": "t"}}, "clock: give time"),
        ({"clock": {"start": "yesterday", "days": 3}}, "clock/start: 'yesterday'"),
        ({"clock": {"start": "2024-01-01", "days": 0}}, "clock/days: a number above 0"),
        ({"clock": {"start": "2024-01-01", "days": 1, "shuffle_seed": "x"}}, "clock/shuffle_seed: a whole"),
        ({"step": "1 day"}, "step: '1 day' is not a duration"),
        ({"step": "0s"}, "step: must be longer"),
        ({"unit": None}, "unit: a column"),
        ({"unit": {"row": "a", "column": "b"}}, "unit: a column"),
        ({"propensity": 1.5}, "propensity: a number in (0, 1]"),
        ({"propensity": None}, "propensity: say with which"),
        ({"variant": {"column": "segment", "keys": {"A": "nobody"}}}, "variant: 'nobody' is no variant"),
        ({"variant": {"split": {"none": 0.5, "mens": 0.4}}}, "variant/split: the shares must add up"),
        ({"events": [{"type": "sale"}]}, "events/0/type: 'sale' is none of"),
        ({"events": [{"type": "order"}]}, "events/0/amount: a column"),
        ({"events": [{"type": "custom", "name": "v", "when": "visit"}]}, "events/0/when: 'visit' is no test"),
        ({"events": [{"type": "custom", "name": "v", "when": "a < b"}]}, "events/0/when: 'a < b' compares"),
        ({"events": []}, "events: nothing to send"),
        ({"events": "visit"}, "events: a list of maps"),
        ({"context": {"age": {"column": "age", "type": "years"}}}, "context/age/type: 'years' is none of"),
        ({"experiment": None}, "mode: forced needs an experiment"),
        ({"currency": "EUR"}, "currency: differs from the experiment's"),
        ({"currency": "XXX"}, "currency: an ISO 4217 code"),
        (
            {"cancellations": {"number": "n", "item": "i", "quantity": "q", "price": "p"}},
            "cancellations: need",
        ),
        ({"mode": "rejection", "propensity": 0.5}, "propensity: mode rejection needs a log drawn evenly"),
        ({"mode": "events"}, "variant: mode events knows no logged variant"),
    ],
)
def test_a_fault_is_named_with_its_place(changes: dict[str, Any], where: str) -> None:
    document = hillstrom(**changes)
    if changes.get("experiment", ...) is None:
        document = {**document, "mode": "forced", "currency": "USD"}
    assert any(fault.startswith(where) for fault in faults(document)), faults(document)


def test_the_experiments_own_faults_are_named_too() -> None:
    document = hillstrom()
    document["experiment"]["variants"][0]["is_control"] = False
    assert any(fault.startswith("experiment/variants") for fault in faults(document))


def test_all_faults_come_at_once() -> None:
    assert len(faults(hillstrom(colour="red", step="soon", unit=None))) == 3


@pytest.mark.parametrize("document", [None, [], "hello", 3])
def test_a_document_that_is_no_map_is_refused(document: object) -> None:
    assert "not a map" in faults(document)[0]


def test_a_file_that_is_not_yaml_is_one_readable_line(tmp_path: Path) -> None:
    path = tmp_path / "map.yaml"
    path.write_text("a: [1\nb: }", encoding="utf-8")
    with pytest.raises(BadMapping, match="is not YAML") as caught:
        read_mapping(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "values", "holds"),
    [
        ("visit == 1", {"visit": "1.0"}, True),
        ("visit == 1", {"visit": "0"}, False),
        ("visit != 1", {"visit": "0"}, True),
        ("visit == '1'", {"visit": "1.0"}, False),
        ("spend > 0 and spend <= 10.5", {"spend": "10.50"}, True),
        ("spend > 0 and spend < 10.5", {"spend": "10.50"}, False),
        ("No startswith C", {"No": "C1"}, True),
        ("No not startswith C", {"No": "C1"}, False),
        ("No not startswith C", {"No": "1"}, True),
        ("channel == Phone and newbie >= 1", {"channel": "Phone", "newbie": "1"}, True),
        ("item code == 'a and-b'", {"item code": "a and-b"}, True),
        ("note ==", {"note": ""}, True),
        ("No startswith 5", {"No": "536365"}, True),
    ],
)
def test_field_tests(text: str, values: dict[str, str], holds: bool) -> None:
    assert parse_condition(text).holds(values, 1) is holds


def test_text_where_a_number_is_tested_names_the_row() -> None:
    with pytest.raises(BadFile, match=r"row 7: column 'visit' holds 'maybe'"):
        parse_condition("visit == 1").holds({"visit": "maybe"}, 7)

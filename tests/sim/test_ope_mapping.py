"""Mappings of logs: the shipped one is valid, and a bad one is told everything that is wrong with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sim.ope.mapping import Formula, Number
from sim.ope.mapping_reader import parse_mapping, read_mapping
from sim.ope.policies import candidate_of
from sim.replay.errors import BadMapping
from tests.sim.ope_log import MAPPING

SHIPPED = Path(__file__).parents[2] / "sim" / "mappings" / "open_bandit.yaml"
ROWS = {"action": "a", "propensity": "p", "reward": "r"}
PLACE = {"action": "a", "propensity": "p", "reward": "r"}
SLATE = {"drawn": "independently", "first": PLACE, "second": PLACE}


def faults(document: object) -> str:
    with pytest.raises(BadMapping) as caught:
        parse_mapping(document)
    return "\n".join(caught.value.problems)


def policy_faults(**entry: Any) -> str:
    with pytest.raises(BadMapping) as caught:
        candidate_of("it", parse_mapping(MAPPING | {"policies": {"it": entry}}))
    return "\n".join(caught.value.problems)


def test_the_shipped_mapping_is_valid() -> None:
    assert read_mapping(SHIPPED).position == "position"


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ("taken", Formula(((1, "taken"),))),
        ("amount - cost - refund", Formula(((1, "amount"), (-1, "cost"), (-1, "refund")))),
        ("user-item + x", Formula(((1, "user-item"), (1, "x")))),
        (
            {"formula": "amount - cost", "empty": 0},
            Formula(((1, "amount"), (-1, "cost")), is_blank_zero=True),
        ),
        ({"formula": "amount"}, Formula(((1, "amount"),))),
    ],
)
def test_a_reward_is_columns_with_signs(given: object, found: Formula) -> None:
    assert parse_mapping({**ROWS, "reward": given}).reward == found


@pytest.mark.parametrize(
    ("given", "found"), [("p", Number("p")), (0.25, Number(constant=0.25)), ("1/4", Number(constant=0.25))]
)
def test_a_propensity_is_a_column_or_a_number(given: object, found: Number) -> None:
    assert parse_mapping({**ROWS, "propensity": given}).propensity == found


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"nonsense": 1}, "nonsense: unknown"),
        ({"action": None}, "exactly one of action, slate and export"),
        ({"slate": SLATE}, "exactly one of action, slate and export"),
        ({"propensity": None}, "propensity: is required"),
        ({"reward": None}, "reward: is required"),
        ({"propensity": 0}, "propensity: a column, a number in (0, 1]"),
        ({"propensity": 1.5}, "propensity: a column, a number in (0, 1]"),
        ({"propensity": "3/2"}, "propensity: a column, a number in (0, 1]"),
        ({"reward": 3}, "reward: a column, or columns joined"),
        ({"reward": {"formula": "a", "empty": 1}}, "reward/empty: 0 is all"),
        ({"unit": 7}, "unit: text is needed"),
        ({"time": {"column": "at", "zone": "Mars"}}, "time/zone: 'Mars' is no time zone"),
        ({"candidates": 3}, "candidates: a map is needed"),
        ({"candidates": {"separator": ","}}, "candidates/column: text is needed"),
        ({"actions": []}, "actions: a list of different actions"),
        ({"actions": ["a", "a"]}, "actions: a list of different actions"),
        ({"context": {"x": "colour"}}, "context/x: 'colour' is none of"),
        ({"where": "x ~ 3"}, "where:"),
        ({"policies": {"x": {"kind": "magic"}}}, "policies/x/kind: 'magic' is none of uniform"),
        ({"policies": {"x": 3}}, "policies/x: a map is needed"),
        ({"export": {"experiment": "x"}, "action": None}, "propensity: goes with action"),
        ({"export": {"experiment": "x"}, "action": None, "unit": "u"}, "unit: goes with a file of rows"),
    ],
)
def test_faults_name_the_field_and_the_remedy(changes: dict[str, Any], told: str) -> None:
    document = {key: value for key, value in (ROWS | changes).items() if value is not None}
    assert told in faults(document)


def test_all_faults_are_told_at_once() -> None:
    assert len(faults({"action": "a", "propensity": 2, "reward": 3, "nonsense": 1}).splitlines()) == 3


def test_what_is_no_map_is_refused(tmp_path: Path) -> None:
    assert "not a map" in faults([1])
    broken = tmp_path / "broken.yaml"
    broken.write_text("a: [", "utf-8")
    for path, told in ((broken, "is not YAML"), (tmp_path / "absent.yaml", "cannot be read")):
        with pytest.raises(BadMapping, match=told):
            read_mapping(path)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"drawn": "somehow"}, "slate/drawn: say independently, or given_first"),
        ({"first": {"action": "a", "propensity": "p"}}, "reward: a slate earns either one reward"),
        ({"second": {"action": "a", "reward": "r"}}, "slate/second/propensity: is required"),
        ({"drawn": "given_first", "second": {**PLACE, "share_alone": "s"}}, "comes with propensity_alone"),
        ({"second": {**PLACE, "share_alone": "s"}}, "slate/second/share_alone: unknown"),
    ],
)
def test_faults_of_a_slate(changes: dict[str, Any], told: str) -> None:
    assert told in faults({"slate": SLATE | changes})


def test_a_slate_earns_by_place_or_as_a_whole() -> None:
    bare = {"action": "a", "propensity": "1/3"}
    whole = parse_mapping({"reward": "r", "slate": {"drawn": "independently", "first": bare, "second": bare}})
    assert whole.slate is not None
    assert whole.slate.first.reward is None
    both = {"reward": "r", "slate": SLATE}
    assert "either one reward" in faults(both)


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        ({"kind": "uniform", "floor": 0.1}, "policies/it/floor: unknown"),
        ({"kind": "logged", "floor": 0.1}, "policies/it/floor: unknown"),
        ({"kind": "columns"}, "policies/it/columns: a map of action to column"),
        ({"kind": "fixed"}, "policies/it/shares: a map of action to share"),
        ({"kind": "fixed", "shares": {"none": -1}}, "policies/it/shares: shares are numbers from 0"),
        ({"kind": "fixed", "shares": {"none": 0}}, "policies/it/shares: shares are numbers from 0"),
        ({"kind": "thompson"}, "policies/it/control: is required"),
        ({"kind": "thompson", "control": "none", "floor": 2}, "policies/it/floor"),
        ({"kind": "thompson", "control": "none", "train": "none"}, "policies/it/train: say cross_fitted"),
        ({"kind": "thompson", "control": "none", "train": "later"}, "policies/it/train: 'later' is none of"),
        ({"kind": "contextual", "control": "none"}, "policies/it/features: a contextual policy learns"),
        (
            {
                "kind": "contextual",
                "control": "none",
                "features": [{"name": "spent", "kind": "category", "values": ["x"]}],
            },
            "policies/it: 'spent' must stand under the mapping's context, of the same kind",
        ),
    ],
)
def test_faults_of_a_policy(entry: dict[str, Any], told: str) -> None:
    assert told.replace("it: 'spent'", "it/features: 'spent'") in policy_faults(**entry)


def test_policies_that_the_mapping_cannot_serve() -> None:
    bare = {key: value for key, value in MAPPING.items() if key not in ("segment", "time")}
    for name, told in (("local", "needs the mapping's segment"), ("early", "needs the mapping's time")):
        with pytest.raises(BadMapping, match=told):
            candidate_of(name, parse_mapping(bare))
    with pytest.raises(BadMapping, match="there is no 'nobody', only mine"):
        candidate_of("nobody", parse_mapping(MAPPING))
    slate = parse_mapping({"slate": SLATE, "policies": MAPPING["policies"]})
    with pytest.raises(BadMapping, match="columns: unknown"):  # places name the columns of their shares
        candidate_of("theirs", slate)
    with pytest.raises(BadMapping, match=r"there is no 'nobody', only mine.*, uniform, logged, columns"):
        candidate_of("nobody", slate)

"""Slates of two offers by `rialto sim ope`: every policy against the same shares as columns, or as rows."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from tests.sim.ope_log import LABELS, write_csv
from tests.sim.test_ope_command import as_json, asked, estimates

FIRST, SECOND = np.array([0.5, 0.3, 0.2]), np.array([0.2, 0.4, 0.4])
POLICIES: dict[str, Any] = {
    "mine": {"kind": "fixed", "shares": {"none": 1, "bundle": 3}},
    "broad": {"kind": "fixed", "shares": {"none": 1, "socks": 1, "bundle": 2}},
    "bandit": {"kind": "thompson", "control": "none", "control_share": 0.1, "floor": 0.05, "burn_in": 10},
    "early": {"kind": "thompson", "control": "none", "burn_in": 10, "train": "earlier"},
}


def slates(tmp_path: Path, drawn: str, **changes: Any) -> tuple[Path, Path]:
    """Two places of three offers; what the second earns is halved by a bundle before it."""
    rng = np.random.default_rng(9)
    made: list[dict[str, Any]] = []
    for number in range(4000):
        left = int(rng.choice(3, p=FIRST))
        chances = SECOND.copy()
        if drawn == "given_first":
            chances[left] = 0
            chances /= chances.sum()
        right = int(rng.choice(3, p=chances))
        took = rng.random(2) < (0.2 + 0.2 * left, (0.6 - 0.2 * right) * (0.5 if left == 2 else 1))
        made.append(
            {
                "left": LABELS[left],
                "right": LABELS[right],
                "p_left": FIRST[left],
                "p_right": chances[right],
                "s_left": (0.2, 0.2, 0.6)[left],
                "s_right": chances[right],
                "m_left": int(took[0]),
                "m_right": int(took[1]),
                "total": int(took.sum()),
                "shopper": f"s{number // 2}",
            }
        )
    place = {"action": "{0}", "propensity": "p_{0}", "share": "s_{0}", "reward": "m_{0}"}
    document: dict[str, Any] = {
        "unit": "shopper",
        "policies": POLICIES,
        "slate": {
            "drawn": drawn,
            "first": {key: value.format("left") for key, value in place.items()},
            "second": {key: value.format("right") for key, value in place.items()},
        },
    } | changes
    path = tmp_path / "slates.yaml"
    path.write_text(yaml.safe_dump(document), "utf-8")
    return write_csv(tmp_path / "slates.csv", made), path


def test_slates_have_their_own_estimates(tmp_path: Path) -> None:
    """The candidate shows bundles first: its value is 0.2, 0.4, 0.6 first and the rest as it follows."""
    log, mapping = slates(tmp_path, "independently")
    found = as_json(log, mapping, "--policy", "columns")
    second = SECOND @ np.array([0.6, 0.4, 0.2])
    truth = 0.2 * (0.2 + second) + 0.2 * (0.4 + second) + 0.6 * (0.6 + second / 2)
    named = estimates(found)
    assert list(named) == ["joint", "interaction", "independent", "pseudoinverse"]
    for name in (
        "joint",
        "interaction",
        "pseudoinverse",
    ):  # here the sum is additive in the pair's first place
        assert abs(named[name]["value"] - truth) < 4 * named[name]["standard_error"]
    assert abs(named["independent"]["value"] - truth) > 4 * named["independent"]["standard_error"]
    done = asked(log, mapping, "--policy", "columns")
    assert done.exit_code == 0
    assert "Value per slate of columns" in done.stdout


def test_slates_without_repetition(tmp_path: Path) -> None:
    log, mapping = slates(tmp_path, "given_first")
    named = estimates(as_json(log, mapping, "--policy", "uniform"))
    assert named["pseudoinverse"]["reason"] == "not_factored"
    assert named["independent"]["reason"] == "no_propensity_alone"
    assert named["joint"]["value"] is not None
    logged = as_json(log, mapping, "--policy", "logged")
    assert estimates(logged)["joint"]["value"] == pytest.approx(logged["logged"]["value"])


def test_slates_that_earn_as_a_whole(tmp_path: Path) -> None:
    place = {"action": "left", "propensity": "p_left"}
    whole = {"drawn": "independently", "first": place, "second": {"action": "right", "propensity": "p_right"}}
    log, mapping = slates(tmp_path, "independently", slate=whole, reward="total")
    named = estimates(as_json(log, mapping, "--policy", "uniform"))
    assert named["interaction"]["reason"] == "no_reward_by_place"
    assert named["joint"]["value"] is not None
    done = asked(log, mapping, "--policy", "columns")
    assert (done.exit_code, "name the column of the candidate's share" in done.stderr) == (2, True)
    assert "has no slates" not in done.stderr


def test_slates_with_what_the_second_place_is_alone(tmp_path: Path) -> None:
    log, mapping = slates(tmp_path, "given_first")
    document = yaml.safe_load(mapping.read_text("utf-8"))
    document["slate"]["second"] |= {"propensity_alone": "p_right", "share_alone": "s_right"}
    mapping.write_text(yaml.safe_dump(document), "utf-8")
    for policy in ("columns", "uniform"):
        assert estimates(as_json(log, mapping, "--policy", policy))["independent"]["value"] is not None


def test_slates_that_are_broken(tmp_path: Path) -> None:
    log, mapping = slates(tmp_path, "independently")
    text = log.read_text("utf-8").splitlines()
    cells = text[5].split(",")
    cells[4] = "1.5"
    log.write_text("\n".join([*text[:5], ",".join(cells), *text[6:]]), "utf-8")
    done = asked(log, mapping, "--policy", "columns")
    assert (done.exit_code, "row 5: a share of 1.5" in done.stderr) == (1, True)
    alone = [
        {"left": "a", "right": "a", "p_left": 1, "p_right": 1, "m_left": 1, "m_right": 0, "shopper": "x"}
    ]
    _, given_first = slates(tmp_path, "given_first")
    done = asked(write_csv(tmp_path / "one.csv", alone), given_first, "--policy", "uniform")
    assert "a slate needs two" in done.stderr


# ---- any policy


def with_columns(log: Path, shares: Callable[[str, str], dict[str, float]]) -> Path:
    """The log with columns made from what stood first and second."""
    with log.open(encoding="utf-8", newline="") as file:
        made = [row | shares(row["left"], row["right"]) for row in csv.DictReader(file)]
    return write_csv(log.with_name("more.csv"), made)


def values(found: dict[str, Any]) -> dict[str, Any]:
    return {name: (one["value"], one["standard_error"]) for name, one in estimates(found).items()}


@pytest.mark.parametrize(
    ("policy", "shares"), [("uniform", (1, 1, 1)), ("mine", (1, 0, 3)), ("broad", (1, 1, 2))]
)
@pytest.mark.parametrize("drawn", ["independently", "given_first"])
def test_a_policy_is_what_columns_of_its_shares_are(
    tmp_path: Path, policy: str, shares: tuple[int, ...], drawn: str
) -> None:
    """Independently: the product of both places; given the first: what is left of the shares after it."""
    share = {label: part / sum(shares) for label, part in zip(LABELS, shares, strict=True)}
    log, mapping = slates(tmp_path, drawn)

    def after(first: str, second: str) -> float:
        left = sum(part for label, part in share.items() if label != first)
        return 0.0 if second == first else share[second] / left

    def columns(left: str, right: str) -> dict[str, float]:
        if drawn == "independently":
            return {"s_left": share[left], "s_right": share[right]}
        alone = sum(share[first] * after(first, right) for first in LABELS)
        drawn_alone = sum(
            FIRST[k] * SECOND[LABELS.index(right)] / (1 - SECOND[k]) for k in range(3) if LABELS[k] != right
        )
        return {
            "s_left": share[left],
            "s_right": after(left, right),
            "alone": drawn_alone,
            "our_alone": alone,
        }

    more = with_columns(log, columns)
    if drawn == "given_first":
        document = yaml.safe_load(mapping.read_text("utf-8"))
        document["slate"]["second"] |= {"propensity_alone": "alone", "share_alone": "our_alone"}
        mapping.write_text(yaml.safe_dump(document), "utf-8")
    by_hand = values(as_json(more, mapping, "--policy", "columns"))
    found = values(as_json(more, mapping, "--policy", policy))
    lacking = {"independently": set[str](), "given_first": {"pseudoinverse"}}[drawn]
    for name, one in by_hand.items():
        assert (one[0] is None) == (name in lacking)
        assert found[name] == (one if one[0] is None else pytest.approx(one, rel=1e-10)), name


@pytest.mark.parametrize("policy", ["bandit", "early"])
def test_a_policy_that_learns_has_one_of_its_own_in_each_place(tmp_path: Path, policy: str) -> None:
    """Where places are independent, their values are those of two logs of one place each."""
    log, mapping = slates(tmp_path, "independently")
    timed = with_columns(log, lambda _left, _right: {})
    lines = timed.read_text("utf-8").splitlines()
    stamped = [f"{line},2026-03-01T{n // 200:02d}:{n % 60:02d}:00Z" for n, line in enumerate(lines[1:])]
    timed.write_text("\n".join([f"{lines[0]},at", *stamped]), "utf-8")
    document = yaml.safe_load(mapping.read_text("utf-8")) | {"time": {"column": "at"}}
    mapping.write_text(yaml.safe_dump(document), "utf-8")
    found = as_json(timed, mapping, "--policy", policy)
    assert "learnt from" in found["trained"]
    assert found["seed"] == 0
    total = 0.0
    for place in ("left", "right"):
        one = {"action": place, "propensity": f"p_{place}", "reward": f"m_{place}", "unit": "shopper"}
        alone = tmp_path / f"{place}.yaml"
        alone.write_text(yaml.safe_dump(one | {"policies": POLICIES, "time": {"column": "at"}}), "utf-8")
        of_place = as_json(timed, alone, "--policy", policy, "--estimators", "ips")
        total += estimates(of_place)["ips"]["value"]
        assert of_place["rows"] == found["rows"]
    assert estimates(found)["independent"]["value"] == pytest.approx(total, rel=1e-12)
    assert estimates(found)["joint"]["value"] > found["logged"]["value"] + 0.05  # it has learnt something


def test_what_may_stand_twice_is_what_has_stood_twice(tmp_path: Path) -> None:
    """No offer twice, but nothing may follow nothing: uniform is a third after none, a half after others."""
    made = [
        {"left": left, "right": right, "p_left": 1 / 3, "p_right": 1 / 3 if left == "none" else 1 / 2,
         "s_left": 1 / 3, "s_right": 1 / 3 if left == "none" else 1 / 2, "m_left": n % 2, "m_right": n % 3,
         "shopper": n}
        for n, (left, right) in enumerate(
            [("none", "none"), ("none", "socks"), ("none", "bundle"), ("socks", "none"), ("socks", "bundle"),
             ("bundle", "none"), ("bundle", "socks")] * 20
        )
    ]  # fmt: skip
    _, mapping = slates(tmp_path, "given_first")
    log = write_csv(tmp_path / "twice.csv", made)
    assert values(as_json(log, mapping, "--policy", "uniform")) == values(
        as_json(log, mapping, "--policy", "columns")
    )
    assert (
        as_json(log, mapping, "--policy", "bandit")["overlap"]["units"] == 140
    )  # its control may follow all


def test_bootstrap_intervals_of_slates(tmp_path: Path) -> None:
    log, mapping = slates(tmp_path, "independently")
    normal = estimates(as_json(log, mapping, "--policy", "uniform"))
    drawn = estimates(as_json(log, mapping, "--policy", "uniform", "--bootstrap", "1000"))
    for name, one in normal.items():
        assert drawn[name]["value"] == one["value"]
        width = drawn[name]["ci_high"] - drawn[name]["ci_low"]
        assert width == pytest.approx(2 * 1.96 * one["standard_error"], rel=0.15)
        assert width != one["ci_high"] - one["ci_low"]


def test_slates_refuse_by_name_what_they_cannot_tell(tmp_path: Path) -> None:
    log, mapping = slates(tmp_path, "given_first")
    done = asked(log, mapping, "--policy", "uniform", "--learner", "ridge", "--clip", "3")
    assert (done.exit_code, "--learner, --clip: slates have four estimators" in done.stderr) == (2, True)
    done = asked(log, mapping, "--policy", "bandit")
    assert (done.exit_code, "control: 'none' is not in every row's candidates" in done.stderr) == (2, True)
    document = yaml.safe_load(mapping.read_text("utf-8"))
    document["policies"]["only"] = {"kind": "fixed", "shares": {"bundle": 1}}
    mapping.write_text(yaml.safe_dump(document), "utf-8")
    done = asked(log, mapping, "--policy", "only")
    assert (done.exit_code, "policies/only/shares: none for a row of none, socks" in done.stderr) == (2, True)
    log, mapping = slates(tmp_path, "independently", actions=[*LABELS, "hat"])
    document = yaml.safe_load(mapping.read_text("utf-8"))
    document["policies"]["hats"] = {"kind": "fixed", "shares": {"hat": 1, "socks": 1}}
    mapping.write_text(yaml.safe_dump(document), "utf-8")
    found = as_json(log, mapping, "--policy", "hats", code=1)
    assert found["overlap"]["findings"][0]["code"] == "action_unseen"
    assert found["overlap"]["findings"][0]["actions"] == ["hat"]
    assert (
        as_json(tmp_path / "slates.csv", mapping, "--policy", "logged")["estimates"][0]["value"] is not None
    )
    assert "is a directory" in asked(tmp_path, mapping, "--policy", "uniform").stderr

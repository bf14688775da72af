"""Candidate policies: shares of the service's own allocator, learnt from other rows than they are used on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiments.allocation.thompson import shares as thompson_shares
from experiments.allocation.thompson import top_two
from experiments.posteriors.beta import Beta
from experiments.posteriors.compare import prob_best
from experiments.posteriors.normal import StudentT
from sim.ope.loading import load
from sim.ope.logged import Logged
from sim.ope.mapping_reader import parse_mapping
from sim.ope.policies import candidate_of
from sim.replay.errors import BadMapping
from tests.sim.ope_log import LABELS, MAPPING, rows, write_csv


def given(path: Path, made: list[dict[str, Any]] | None = None, **changes: Any) -> tuple[Logged, Any]:
    mapping = parse_mapping(MAPPING | changes)
    columns = {label: f"share_{label}" for label in LABELS}
    return load(write_csv(path / "log.csv", rows() if made is None else made), mapping, columns), mapping


def shares_of(name: str, data: Logged, mapping: Any, train: Any = None, asked: Any = None) -> np.ndarray:
    every = np.arange(len(data))
    made = candidate_of(name, mapping).make(data, every if train is None else train)
    wanted = every if asked is None else asked
    return np.broadcast_to(made(wanted), (len(wanted), len(data.labels)))


def by_label(data: Logged, row: np.ndarray) -> dict[str, float]:
    return dict(zip(data.labels, row.tolist(), strict=True))


def test_uniform_and_fixed_share_among_the_candidates(tmp_path: Path) -> None:
    made = rows(60)
    for row in made[1::2]:
        row["offered"] = "none|" + ("bundle" if row["offer"] == "none" else row["offer"])
    data, mapping = given(tmp_path, made, candidates="offered")
    assert shares_of("uniform", data, mapping)[0].tolist() == pytest.approx([1 / 3] * 3)
    mask = data.mask(np.arange(60))
    assert np.array_equal(shares_of("uniform", data, mapping)[1], mask[1] / mask[1].sum())
    fixed = shares_of("mine", data, mapping)
    assert by_label(data, fixed[0]) == pytest.approx({"none": 0.25, "socks": 0.75, "bundle": 0})
    assert fixed.sum(axis=1) == pytest.approx(1)
    assert (fixed[~mask] == 0).all()
    without = given(tmp_path, made[:1])
    assert shares_of("uniform", *without)[0].tolist() == [1 / 3] * 3  # columns name the other two


def test_fixed_shares_of_no_candidate_are_refused(tmp_path: Path) -> None:
    data, mapping = given(
        tmp_path,
        [{**row, "offered": "bundle", "offer": "bundle"} for row in rows(10)],
        candidates="offered",
    )
    with pytest.raises(BadMapping, match="none for a row of bundle"):
        shares_of("mine", data, mapping)
    other = parse_mapping(MAPPING | {"policies": {"mine": {"kind": "fixed", "shares": {"nobody": 1}}}})
    with pytest.raises(BadMapping, match="'nobody' is no action of the log"):
        shares_of("mine", data, other)


def test_columns_are_the_columns(tmp_path: Path) -> None:
    data, mapping = given(tmp_path)
    assert np.array_equal(shares_of("theirs", data, mapping), data.shares)


@pytest.mark.parametrize("name", ["bandit", "pair"])
def test_a_bandit_has_the_shares_of_its_posteriors(tmp_path: Path, name: str) -> None:
    """Beta(1 + takes, 1 + no takes) of each offer, P(best) by quadrature, control share and floor."""
    data, mapping = given(tmp_path)
    posteriors = []
    for k in range(3):
        takes = float(data.rewards[data.actions == k].sum())
        posteriors.append(Beta(1 + takes, 1 + float((data.actions == k).sum()) - takes))
    best = dict(zip(data.labels, map(float, prob_best(posteriors)), strict=True))
    weights = best if name == "bandit" else top_two(best)
    expected = thompson_shares(weights, control="none", control_share=0.1, floor=0.05)
    found = shares_of(name, data, mapping)
    assert by_label(data, found[7]) == pytest.approx(expected, abs=1e-8)


def test_rewards_of_money_are_means(tmp_path: Path) -> None:
    """Student-t on the rewards with a prior worth one row at the pooled mean."""
    data, mapping = given(tmp_path, reward={"formula": "amount - cost - refund", "empty": 0})
    pooled_mean, n = data.rewards.mean(), len(data)
    arms = [data.rewards[data.actions == k] for k in range(3)]
    pooled = sum(((arm - arm.mean()) ** 2).sum() for arm in arms) / (n - 3)
    posteriors = []
    for arm in arms:
        kappa = 1 + len(arm)
        mean = (pooled_mean + arm.sum()) / kappa
        spread = ((arm - arm.mean()) ** 2).sum() + len(arm) / kappa * (arm.mean() - pooled_mean) ** 2
        posteriors.append(StudentT(mean, np.sqrt((pooled + spread) / (1 + len(arm)) / kappa), 1 + len(arm)))
    best = dict(zip(data.labels, map(float, prob_best(posteriors)), strict=True))
    expected = thompson_shares(best, control="none", control_share=0.1, floor=0.05)
    assert by_label(data, shares_of("bandit", data, mapping)[0]) == pytest.approx(expected, abs=0.01)


def test_until_it_is_burnt_in_a_bandit_shares_equally(tmp_path: Path) -> None:
    data, mapping = given(tmp_path)
    found = by_label(data, shares_of("bandit", data, mapping, train=np.arange(12))[0])
    assert found == pytest.approx({"none": 0.1, "socks": 0.45, "bundle": 0.45})


def test_each_candidate_set_has_shares_of_its_own(tmp_path: Path) -> None:
    made = rows()
    for row in made[::3]:
        row["offered"] = "none|socks" if row["offer"] != "bundle" else "none|bundle"
    for row in made[1::50]:
        row |= {"offered": "none", "offer": "none"}
    data, mapping = given(tmp_path, made, candidates="offered")
    for name in ("bandit", "pair", "local", "smart"):
        found = shares_of(name, data, mapping)
        assert found.sum(axis=1) == pytest.approx(1)
        assert (found[~data.mask(np.arange(len(data)))] == 0).all()
        assert found[1, data.labels.index("none")] == 1.0


def test_a_policy_by_segment_or_context_tells_countries_apart(tmp_path: Path) -> None:
    """Socks do well in Italy, bundles in Romania."""
    data, mapping = given(tmp_path, rows(3000))
    pooled = shares_of("bandit", data, mapping)
    assert len(np.unique(pooled, axis=0)) == 1
    for name in ("local", "smart"):
        found = shares_of(name, data, mapping)
        italy, romania = by_label(data, found[0]), by_label(data, found[1])
        assert italy["socks"] > 0.8
        assert romania["bundle"] > 0.8
        assert len(np.unique(found, axis=0)) == 2


def test_a_number_of_the_context_counts(tmp_path: Path) -> None:
    made = rows(2000)
    for row in made:
        row["taken"] = int((row["spent"] > 50) == (row["offer"] == "bundle"))
    made[0]["spent"] = ""
    data, mapping = given(tmp_path, made)
    found = shares_of("steep", data, mapping)
    bundle, spent = found[:, data.labels.index("bundle")], data.numbers["spent"]
    assert bundle[spent > 70].min() > 0.8
    assert bundle[spent < 30].max() < 0.2


def test_shares_come_from_the_rows_of_training_alone(tmp_path: Path) -> None:
    """The planted leak: outcomes of the rows asked for are turned round, and nothing may change."""
    data, mapping = given(tmp_path)
    train, asked = np.arange(0, 600, 2), np.arange(1, 600, 2)
    turned = data.rewards.copy()
    turned[asked] = 1 - turned[asked]
    other = replace(data, rewards=turned)
    for name in ("bandit", "pair", "local", "smart", "steep"):
        kept = shares_of(name, data, mapping, train, asked)
        assert np.array_equal(kept, shares_of(name, other, mapping, train, asked))
        leaked = shares_of(name, other, mapping, np.arange(600), asked)
        assert not np.allclose(leaked, shares_of(name, data, mapping, np.arange(600), asked))


def test_a_control_that_may_not_always_be_shown_is_refused(tmp_path: Path) -> None:
    made = [{**row, "offer": "socks", "offered": "socks|bundle"} for row in rows(30)]
    data, mapping = given(tmp_path, made, candidates="offered")
    with pytest.raises(BadMapping, match="is not in every row's candidates"):
        shares_of("bandit", data, mapping)
    entry = {"kind": "thompson", "control": "nobody"}
    with pytest.raises(BadMapping, match="'nobody' is no action of the log"):
        shares_of("x", data, parse_mapping(MAPPING | {"policies": {"x": entry}}))


def test_a_prior_of_the_wrong_kind_is_told_by_its_place(tmp_path: Path) -> None:
    entry = {"kind": "thompson", "control": "none", "prior": {"mean": 1, "kappa": 2, "nu": 2, "scale": 4}}
    changes = {"policies": {"x": entry}}
    data, mapping = given(tmp_path, **changes)
    with pytest.raises(BadMapping, match="policies/x/prior"):
        shares_of("x", data, mapping)
    money = {"reward": {"formula": "amount - cost", "empty": 0}}
    assert shares_of("x", *given(tmp_path, **changes, **money)).sum(axis=1) == pytest.approx(1)

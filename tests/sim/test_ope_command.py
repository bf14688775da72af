"""`rialto sim ope` as a user runs it: what it prints, what it refuses, and its exit codes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from experiments.off_policy.estimators import Estimator, Reason
from sim.ope.command import ope
from sim.ope.show import NOTES, REASONS
from sim.sim_command import sim
from tests.experiments.off_policy_loops import by_loops
from tests.sim.ope_log import LABELS, rows, write_csv, write_mapping


def asked(log: Path, mapping: Path, *arguments: str) -> Result:
    done = CliRunner().invoke(ope, [str(log), "--mapping", str(mapping), *arguments])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done


def as_json(log: Path, mapping: Path, *arguments: str, code: int = 0) -> dict[str, Any]:
    done = asked(log, mapping, *arguments, "--json")
    assert done.exit_code == code, done.output
    return json.loads(done.stdout)


def estimates(found: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {one["estimator"]: one for one in found["estimates"]}


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return write_csv(tmp_path / "log.csv.gz", rows())


@pytest.fixture
def mapping(tmp_path: Path) -> Path:
    return write_mapping(tmp_path / "mapping.yaml")


def test_values_are_those_of_plain_loops(log: Path, mapping: Path) -> None:
    made = rows()
    shares = [[row[f"share_{label}"] for label in LABELS] for row in made]
    looped = by_loops(
        [LABELS.index(row["offer"]) for row in made],
        [row["p"] for row in made],
        [row["taken"] for row in made],
        shares,
        None,
        clip=2.5,
    )
    names = "ips,clipped_ips,snips"
    found = as_json(log, mapping, "--policy", "theirs", "--estimators", names, "--clip", "2.5")
    assert {name: one["value"] for name, one in estimates(found).items()} == pytest.approx(looped, rel=1e-10)
    assert estimates(found)["clipped_ips"]["setting"] == 2.5
    assert found["logged"]["value"] == pytest.approx(np.mean([row["taken"] for row in made]))
    assert found["overlap"]["units"] == 300


def test_the_share_of_what_was_done_serves_where_no_more_is_known(tmp_path: Path, log: Path) -> None:
    made = [row | {"ours": row[f"share_{row['offer']}"]} for row in rows()]
    path = write_csv(tmp_path / "taken.csv", made)
    policies = {
        "taken": {"kind": "columns", "taken": "ours"},
        "all": {"kind": "columns", "columns": {label: f"share_{label}" for label in LABELS}},
    }
    mapping = write_mapping(tmp_path / "m.yaml", policies=policies)
    weighed = ("--estimators", "ips,snips,dr")
    known, whole = (
        estimates(as_json(path, mapping, "--policy", name, *weighed)) for name in ("taken", "all")
    )
    for name in ("ips", "snips"):
        assert known[name]["value"] == pytest.approx(whole[name]["value"], rel=1e-12)
        assert known[name]["standard_error"] == pytest.approx(whole[name]["standard_error"], rel=1e-12)
    assert known["dr"]["reason"] == "no_model"
    assert "needs the shares" in asked(path, mapping, "--policy", "taken").stdout
    made[3]["ours"] = 1.5
    done = asked(write_csv(path, made), mapping, "--policy", "taken")
    assert (done.exit_code, "row 4: the shares of the candidate: a share of 1.5" in done.stderr) == (1, True)
    both = write_mapping(tmp_path / "b.yaml", policies={"x": policies["taken"] | policies["all"]})
    assert "policies/x/taken: give columns" in asked(log, both, "--policy", "x").stderr


@pytest.mark.parametrize("policy", ["uniform", "theirs", "bandit", "smart"])
def test_every_policy_has_all_estimates(log: Path, mapping: Path, policy: str) -> None:
    found = as_json(log, mapping, "--policy", policy)
    assert list(estimates(found)) == list(map(str, Estimator))
    assert all(one["value"] is not None for one in found["estimates"])
    assert found["rows"] == 600
    learns = policy in ("bandit", "smart")
    assert ("the policy learnt from the other 4 of 5 folds of units" in found["trained"]) == learns


def test_a_policy_trained_on_earlier_rows_is_tried_on_later_units(
    tmp_path: Path, log: Path, mapping: Path
) -> None:
    """Every shopper is there twice, the second time in the later half: nobody is left, and that is said."""
    done = asked(log, mapping, "--policy", "early")
    assert done.exit_code == 1
    assert "take train: cross_fitted" in done.stderr
    alone = write_mapping(tmp_path / "alone.yaml", unit=None)
    found = as_json(log, alone, "--policy", "early", "--estimators", "ips")
    assert "the policy learnt from the earlier" in found["trained"]
    assert 280 < found["rows"] < 320


def test_the_logs_own_policy_earns_what_it_earned(log: Path, mapping: Path) -> None:
    found = as_json(log, mapping, "--policy", "logged")
    for name in ("replay", "ips", "snips", "dr", "sndr"):
        assert estimates(found)[name]["value"] == pytest.approx(found["logged"]["value"], rel=1e-12)


def test_seeds_give_the_same_again(log: Path, mapping: Path) -> None:
    same = [as_json(log, mapping, "--policy", "uniform", "--seed", "5") for _ in range(2)]
    assert same[0] == same[1]
    assert as_json(log, mapping, "--policy", "uniform", "--seed", "6") != same[0]


def test_bootstrap_intervals_replace_the_normal_ones(log: Path, mapping: Path) -> None:
    plain = estimates(as_json(log, mapping, "--policy", "mine", "--estimators", "snips"))["snips"]
    arguments = ("--policy", "mine", "--estimators", "snips", "--bootstrap", "500")
    drawn = estimates(as_json(log, mapping, *arguments))["snips"]
    assert drawn["value"] == plain["value"]
    assert drawn["ci_low"] != plain["ci_low"]
    assert drawn["ci_low"] == pytest.approx(plain["ci_low"], abs=0.5 * plain["standard_error"])


def test_a_table_says_what_was_found(log: Path, mapping: Path) -> None:
    done = asked(log, mapping, "--policy", "mine", "--bootstrap", "100", "--shrink", "4", "--switch", "1")
    assert done.exit_code == 0
    for said in (
        "Value per decision of mine (fixed), 600 rows",
        "the log's own policy",
        "the model above weight 1",
        "lambda 4",
        "The policy knows its shares beforehand; the model (mean) is cross-fitted in 5 folds of units.",
        "100 bootstrap draws",
        "600 rows of 300 units are worth",
        "Overlap is good",
    ):
        assert said in done.stdout
    assert set(REASONS) == set(Reason)
    assert set(NOTES) <= {str(name) for name in Estimator}


def test_a_propensity_of_a_millionth_is_named_with_its_row(tmp_path: Path, mapping: Path) -> None:
    made = rows()
    made[41] |= {"p": 1e-6, "offer": "socks", "taken": 1}
    path = write_csv(tmp_path / "log.csv", made)
    found = as_json(path, mapping, "--policy", "uniform", code=1)
    tiny = next(f for f in found["overlap"]["findings"] if f["code"] == "propensity_tiny")
    assert tiny["rows"] == [42]
    assert "row 42: propensity 1e-06, weight 3.333e+05, adds 555.6 to the value of ips" in tiny["text"]
    assert found["overlap"]["is_refused"]
    assert estimates(found)["ips"] | {"value": None, "reason": "refused"} == estimates(found)["ips"]
    assert estimates(found)["dm"]["value"] is not None
    done = asked(path, mapping, "--policy", "uniform")
    assert done.exit_code == 1
    assert "Refused: this log cannot say" in done.stdout


def test_an_impossible_propensity_is_refused_by_its_row(tmp_path: Path, mapping: Path) -> None:
    made = rows()
    made[9]["p"] = 0
    done = asked(write_csv(tmp_path / "log.csv", made), mapping, "--policy", "uniform")
    assert done.exit_code == 1
    assert "0 in row 10" in done.stdout
    assert "their weights cannot be told" in done.stdout


def test_actions_the_log_never_took_are_named(tmp_path: Path, log: Path) -> None:
    mapping = write_mapping(tmp_path / "m.yaml", actions=[*LABELS, "gift", "card"], policies={})
    found = as_json(log, mapping, "--policy", "uniform", code=1)
    assert found["overlap"]["findings"][0]["actions"] == ["gift", "card"]
    done = asked(log, mapping, "--policy", "uniform")
    assert "(`snips`: as the others): gift, card" in " ".join(done.stdout.split())


def test_shares_that_sum_to_something_else_name_their_row(tmp_path: Path, mapping: Path) -> None:
    made = rows()
    made[16]["share_none"] += 0.1
    done = asked(write_csv(tmp_path / "log.csv", made), mapping, "--policy", "theirs")
    assert done.exit_code == 1
    assert "row 17: the shares of the candidate: the shares sum to 1.1" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (("--policy", "nobody"), 2, "there is no 'nobody'"),
        (("--policy", "uniform", "--estimators", "magic"), 2, "choose from replay, ips"),
        (("--policy", "uniform", "--folds", "400"), 1, "take fewer --folds"),
        (("--policy", "uniform", "--clip", "0"), 2, "0"),
    ],
)
def test_what_cannot_be_asked_is_told(
    log: Path, mapping: Path, arguments: tuple[str, ...], code: int, told: str
) -> None:
    done = asked(log, mapping, *arguments)
    assert done.exit_code == code
    assert told in done.stderr
    assert "Traceback" not in done.stderr


def test_a_learner_that_does_not_fit_is_told(tmp_path: Path, log: Path) -> None:
    pytest.importorskip("sklearn", reason="needs scikit-learn")
    mapping = write_mapping(tmp_path / "m.yaml", reward={"formula": "amount - cost", "empty": 0})
    done = asked(log, mapping, "--policy", "uniform", "--learner", "logistic")
    assert (done.exit_code, "needs rewards of 0 and 1" in done.stderr) == (2, True)


def test_no_model_is_fitted_that_nobody_asked_for(
    log: Path, mapping: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a model was fitted")

    monkeypatch.setattr("sim.ope.dealing.fitted", refuse)
    assert as_json(log, mapping, "--policy", "mine", "--estimators", "ips,snips")["rows"] == 600


def test_it_is_a_subcommand_of_sim() -> None:
    done = CliRunner().invoke(sim, ["ope", "--help"])
    assert done.exit_code == 0
    assert "Estimate from LOG what a policy would have earned" in done.stdout


def test_a_long_log_is_taken_in_slices(log: Path, mapping: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = as_json(log, mapping, "--policy", "smart")
    monkeypatch.setattr("sim.ope.dealing.ENTRIES", 120)
    sliced = as_json(log, mapping, "--policy", "smart")
    for name, one in estimates(sliced).items():
        assert one["value"] == pytest.approx(estimates(whole)[name]["value"], rel=1e-12)

"""Logs that are broken, odd or say too little: a right answer, or a message with row, name and remedy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.sim.test_ope_command import as_json, asked, estimates

HEADER = "id,offer,p,r,share_x,share_y"
GOOD = [f"{n},{'xy'[n % 2]},0.5,{(n // 2) % 2},0.5,0.5" for n in range(40)]
MAPPING: dict[str, Any] = {
    "action": "offer",
    "propensity": "p",
    "reward": "r",
    "policies": {
        "half": {"kind": "fixed", "shares": {"x": 1, "y": 1}},
        "theirs": {"kind": "columns", "columns": {"x": "share_x", "y": "share_y"}},
        "new": {"kind": "fixed", "shares": {"z": 1}},
        "lost": {"kind": "thompson", "control": "nobody"},
    },
}


def files(tmp_path: Path, *first: str, header: str = HEADER, **changes: Any) -> tuple[Path, Path]:
    """The good rows after these."""
    log, mapping = tmp_path / "log.csv", tmp_path / "m.yaml"
    log.write_text("\n".join([header, *first, *GOOD]) + "\n", "utf-8")
    mapping.write_text(yaml.safe_dump(MAPPING | changes), "utf-8")
    return log, mapping


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ("a,x,,1,.5,.5", "row 1: column 'p' holds '' where a number is needed"),
        ("a,x,nan,1,.5,.5", "row 1: column 'p' holds 'nan' where"),
        ("a,x,50%,1,.5,.5", "row 1: column 'p' holds '50%' where"),
        ('a,x,"0,5",1,.5,.5', "row 1: column 'p' holds '0,5' where"),
        ("a,x,0_1,1,.5,.5", "row 1: column 'p' holds '0_1' where"),
        ("a,x,.5,,.5,.5", "row 1: column 'r' holds '' where"),
        ("a,x,.5,inf,.5,.5", "row 1: column 'r' holds 'inf' where"),
        ("a,x,.5,1e308,.5,.5", "too large a number to be squared"),
        ("a,x,.5", "row 1: has 3 cells, fewer than the header"),
        ("a,x, the first,.5,1,.5,.5", "more than the header's 6: text with ',' in it needs quotes"),
        ("7,x,.5,1,.5,.5", "row 9: column 'id' holds '7' again, as row 1: keep one row of each decision"),
        ("a,x,.5,1,.5,.6", "row 1: the shares of the candidate: the shares sum to 1.1, not to 1"),
        ("a,x,.5,1,-.5,1.5", "row 1: the shares of the candidate: a share of -0.5; shares are 0 or more"),
    ],
)
def test_a_broken_row_is_named_with_what_is_wrong(tmp_path: Path, row: str, told: str) -> None:
    log, mapping = files(tmp_path, row, decision="id")
    done = asked(log, mapping, "--policy", "theirs")
    assert (done.exit_code, told in done.stderr) == (1, True), done.stderr


@pytest.mark.parametrize(
    ("p", "told"),
    [
        ("0", "propensities are no probability above 0 (0 in row 1)"),
        ("-0.1", "(-0.1 in row 1)"),
        ("1.2", "(1.2 in row 1)"),
        ("1e-320", "in row 1): what was done there has no weight"),
        ("0.000001", "row 1: propensity 1e-06, weight 5e+05"),
    ],
)
def test_a_propensity_that_is_none_or_next_to_nothing_is_refused_by_its_row(
    tmp_path: Path, p: str, told: str
) -> None:
    log, mapping = files(tmp_path, f"a,x,{p},1,.5,.5")
    done = asked(log, mapping, "--policy", "half")
    assert (done.exit_code, told in " ".join(done.output.split())) == (1, True), done.output
    named = estimates(as_json(log, mapping, "--policy", "half", code=1))
    assert {name for name, one in named.items() if one["value"] is not None} == {"dm"}


def test_headers_that_are_odd(tmp_path: Path) -> None:
    log, mapping = files(tmp_path, header="id,offer,p,r,r,share_y")
    assert "the header has 'r' more than once" in asked(log, mapping, "--policy", "half").stderr
    log, mapping = files(tmp_path, header="id,offer,q,r,share_x,share_y")
    assert "no column 'p'; the header has id, offer, q" in asked(log, mapping, "--policy", "half").stderr
    log, mapping = files(tmp_path, header=HEADER.replace("share_y", "what it, perhaps, was"))
    assert "more than the header" not in asked(log, mapping, "--policy", "half").stderr  # 8 columns, 6 cells


def test_text_with_commas_and_blanks_is_one_action(tmp_path: Path) -> None:
    log, mapping = files(tmp_path, '"a","x, the first",0.5,1,.5,.5', "b, x ,0.5,1,.5,.5")
    found = as_json(log, mapping, "--policy", "uniform", code=1)
    assert found["actions"] == ["x", "x, the first", "y"]
    text = found["overlap"]["findings"][0]["text"]  # three actions at 0.5 each are none
    assert "the weights' mean is 0.6667, in every row alike, not 1" in text


def test_actions_that_the_log_never_took(tmp_path: Path) -> None:
    log, mapping = files(tmp_path)
    done = asked(log, mapping, "--policy", "new")
    assert (done.exit_code, "policies/new/shares: 'z' is no action of the log" in done.stderr) == (2, True)
    done = asked(log, mapping, "--policy", "lost")
    assert (done.exit_code, "policies/lost/control: 'nobody' is no action" in done.stderr) == (2, True)
    log, mapping = files(tmp_path, actions=["x", "y", "z"])
    found = as_json(log, mapping, "--policy", "new", code=1)
    assert {one["code"] for one in found["overlap"]["findings"]} == {"action_unseen", "no_overlap"}
    assert found["overlap"]["mean_weight"] == 0.0  # all weights are zero


def test_one_row_says_nothing_and_how_much_is_needed(tmp_path: Path) -> None:
    log, mapping = files(tmp_path)
    log.write_text(f"{HEADER}\n{GOOD[0]}\n", "utf-8")
    assert "a log of one unit has only --estimators" in asked(log, mapping, "--policy", "uniform").stderr
    found = as_json(log, mapping, "--policy", "uniform", "--estimators", "ips,snips", code=1)
    assert found["overlap"]["findings"][0]["code"] == "few_effective"
    log.write_text(f"{HEADER}\n", "utf-8")
    assert "holds no row to evaluate" in asked(log, mapping, "--policy", "uniform").stderr

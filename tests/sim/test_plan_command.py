"""`rialto sim plan`: tables and sentences, JSON, plots, what is refused; and the example of its page."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from sim.planner.plan_command import plan
from tests.markdown import blocks

ROOT = Path(__file__).parents[2]
SMALL = ("--baseline", "0.1", "--visitors-per-day", "2000")
MONEY = ("--order-value", "8000", "--margin-rate", "0.4")
DOCUMENT = """
key: checkout-addon
touchpoint: checkout
currency: RON
attribution_window: 1d
policy: {kind: thompson, objective: margin_per_unit, control_share: 0.2, floor: 0.02}
variants:
  - {key: none, is_control: true, offer: {kind: none}}
  - {key: socks, offer: {kind: cross_sell, sku: SOCK-3, price: 1290, cost: 410}}
guardrails:
  - {metric: conversion_rate, warn: 0.01, throttle: 0.02, kill: 0.04}
  - {metric: rating_mean, warn: 1, throttle: 2, kill: 4}
"""


def run(*options: str) -> Result:
    return CliRunner().invoke(plan, [*SMALL, *options], env={"COLUMNS": "120"})


def told(*options: str) -> dict[str, Any]:
    found = run("--json", *options)
    assert found.exit_code == 0, found.output
    return json.loads(found.stdout)


def test_every_combination_is_a_row() -> None:
    found = told(
        "--effect", "0.1,0.2", "--control-share", "0.3,0.5", "--policy", "fixed", "--replications", "0"
    )
    assert [(row["effect"], row["control_share"]) for row in found["rows"]] == [
        (0.1, 0.3),
        (0.1, 0.5),
        (0.2, 0.3),
        (0.2, 0.5),
    ]
    uneven, even = (row["plan"]["units"] for row in found["rows"][:2])
    assert uneven > 1.1 * even
    assert {row["simulated"] for row in found["rows"]} == {None}
    assert found["designs"][1]["balance"] == pytest.approx(1.0)


def test_what_is_simulated_stands_beside_and_the_seed_decides_it() -> None:
    options = ("--effect", "0.3", "--policy", "fixed", "--policy", "thompson", "--replications", "4")
    first, again = (told(*options, "--seed", "7") for _ in range(2))
    assert first == again
    assert [row["policy"] for row in first["rows"]] == ["fixed", "thompson"]
    assert all(row["simulated"]["replications"] == 4 for row in first["rows"])
    assert told(*options, "--seed", "8") != first
    once = told("--effect", "0.3", "--replications", "4", "--look", "end")
    assert once["rows"][0]["simulated"]["days_half"] == once["rows"][0]["simulated"]["days"] + 7


def test_a_document_is_planned_with_its_money_guardrails_and_words(tmp_path: Path) -> None:
    file = tmp_path / "experiment.yaml"
    file.write_text(DOCUMENT)
    length = ("--days", "8", "--replications", "2")
    shown = run("--experiment", str(file), "--effect", "0.1,0", *MONEY, *length)
    assert shown.exit_code == 0, shown.output
    text = re.sub(r"\s+", " ", shown.stdout)
    assert "margin_per_unit, 2,000 visitors a day" in text
    assert "RON" in text
    assert "conversion_rate, worse by 8%: killed after" in text
    assert "at its floor" in text
    assert "Nothing is assumed of rating_mean" in text
    assert "Simulated under thompson, 2 tests of up to 8 days" in text
    assert "The least effect found" in text
    assert "A control share of 50% would need" in text
    other = told("--experiment", str(file), "--objective", "conversion_rate", "--replications", "0")
    assert (other["objective"], other["currency"]) == ("conversion_rate", "RON")


def test_small_tests_and_no_effect_are_put_into_words() -> None:
    assert "rough" in run("--effect", "9", "--replications", "0").stdout
    assert "No size finds" in run("--effect", "0", "--replications", "0").stdout


def test_a_guardrail_of_money_is_told_in_money(tmp_path: Path) -> None:
    file = tmp_path / "experiment.yaml"
    rail = "\n  - {metric: margin_per_unit, warn: 10, throttle: 20, kill: 100}"
    file.write_text(DOCUMENT.replace("\n  - {metric: rating_mean, warn: 1, throttle: 2, kill: 4}", rail))
    shown = run("--experiment", str(file), *MONEY, "--replications", "0")
    assert shown.exit_code == 0, shown.output
    assert "margin_per_unit, worse by 2 RON: killed after" in re.sub(r"\s+", " ", shown.stdout)


@pytest.mark.parametrize("suffix", ["svg", "png", "html"])
def test_plots(tmp_path: Path, suffix: str) -> None:
    target = tmp_path / f"plan.{suffix}"
    found = run("--effect", "0.2,-0.2,0", "--replications", "2", "--days", "5", "--plot", str(target))
    assert found.exit_code == 0, found.output
    content = target.read_bytes()
    if suffix == "png":
        assert content.startswith(b"\x89PNG")
        return
    text = content.decode()
    assert ("<html" in text.lower() or "<!doctype html>" in text) == (suffix == "html")
    assert "+20%" in text
    assert "http-equiv" not in text
    again = tmp_path / f"again.{suffix}"
    run("--effect", "0.2,-0.2,0", "--replications", "2", "--days", "5", "--plot", str(again))
    assert again.read_bytes() == content


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (("--effect", "0.1,x"), "write numbers with commas"),
        (("--effect", "-2"), "is not between"),
        (("--effect", "0.00001"), "--effect 1e-05"),
        (("--effect", "12"), "a rate cannot grow beyond 1"),
        (("--objective", "aov"), "--order-value"),
        (("--objective", "refund_rate"), "--refund-rate"),
        (("--plot", "plan.pdf"), ".svg, .png, .html"),
        (("--plot", "no/such/folder/plan.svg"), "there is no folder no/such/folder"),
        (("--policy", "thompson", "--control-share", "0.001"), "--control-share 0.001"),
        (("--policy", "contextual"), "contextual"),
    ],
)
def test_refusals_name_the_option(options: tuple[str, ...], named: str) -> None:
    refused = run(*options)
    assert refused.exit_code == 2
    assert named in re.sub(r"[\s│]+", " ", refused.output)


def test_a_plot_that_cannot_be_drawn_or_written_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "plan.svg").mkdir()
    assert run("--plot", str(tmp_path / "plan.svg"), "--replications", "0").exit_code == 2
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    refused = run("--plot", str(tmp_path / "other.svg"))
    assert (refused.exit_code, "rialto[sim]" in refused.output) == (2, True)


def test_too_many_rows_are_refused() -> None:
    effects = ",".join(str(k / 1000) for k in range(1, 102))
    refused = run("--effect", effects, "--control-share", "0.4,0.5")
    assert (refused.exit_code, "at most 200 rows" in refused.output) == (2, True)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("a: [", "not YAML"),
        ("a: 1\n---\nb: 2", "one experiment document"),
        ("key: x", "not a valid experiment"),
        (DOCUMENT.replace("margin_per_unit", "repeat_rate"), "repeat_rate cannot be planned"),
        (DOCUMENT, "--order-value"),
    ],
)
def test_documents_that_cannot_be_planned_are_refused(tmp_path: Path, text: str, named: str) -> None:
    file = tmp_path / "experiment.yaml"
    file.write_text(text)
    refused = run("--experiment", str(file))
    assert refused.exit_code == 2
    assert named in refused.output
    both = run("--experiment", str(file), "--variants", "3")
    assert "--variants" in both.output


def test_a_policy_that_is_not_simulated_has_its_closed_form(tmp_path: Path) -> None:
    file = tmp_path / "experiment.yaml"
    file.write_text(DOCUMENT.replace("kind: thompson", "kind: segment"))
    found = told("--experiment", str(file), *MONEY, "--effect", "0.1")
    assert found["rows"][0]["simulated"] is None
    assert found["rows"][0]["plan"]["units"] > 0
    assert found["rows"][0]["is_of_first_shares"]
    shown = " ".join(run("--experiment", str(file), *MONEY, "--effect", "0.1").output.split())
    assert "segment with the shares it begins with, as if they stood. A plan has no segments" in shown


def test_what_the_closed_form_does_not_know_of_a_policy_is_said() -> None:
    for replications, told_so in (("0", "--replications lives through"), ("2", "is in the second")):
        asked = ("--effect", "0.5", "--policy", "thompson", "--days", "7", "--replications", replications)
        assert told_so in " ".join(run(*asked).output.split())
    fixed = run("--effect", "0.5", "--replications", "0").output
    assert "shares it begins with" not in fixed


def test_the_example_of_the_page_is_what_is_printed() -> None:
    commands, shown = _page()
    printed = CliRunner().invoke(plan, commands[0], env={"COLUMNS": "100"}).stdout
    assert [line.rstrip() for line in printed.strip("\n").split("\n")] == shown[0].strip("\n").split("\n")


def test_the_simulated_example_of_the_page_is_found_again() -> None:
    """Fewer tests of two of its rows: each within four standard errors of what the page says."""
    commands, shown = _page()
    runs = 12
    found = CliRunner().invoke(
        plan, [*commands[1], "--effect", "0.1", "--replications", str(runs), "--seed", "3", "--json"]
    )
    for row in json.loads(found.stdout)["rows"][:2]:
        told = re.search(rf"\+10% +\d+% +{row['policy']} +(\d+)% ± +\d+%", shown[1])
        assert told is not None
        right = int(told[1]) / 100
        error = (right * (1 - right) * (1 / runs + 1 / 200)) ** 0.5
        assert abs(row["simulated"]["power"] - right) < 4 * error


def _page() -> tuple[list[list[str]], list[str]]:
    """The options of the commands on the page, and what it shows of each."""
    page = blocks(ROOT / "docs" / "planning.md")
    commands = [shlex.split(block.text)[3:] for block in page if block.language == "bash"]
    return commands, [block.text for block in page if block.language == "text"]

"""`rialto calibrate` as a user runs it: what it writes, what it refuses, and how it stops and goes on."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from click.testing import CliRunner, Result

from sim.calibrate_command import calibrate
from sim.calibration import cuped, mismatch, ranked
from sim.calibration.part import Part, State, Step, at_least, at_most, band
from sim.calibration.parts import PARTS
from sim.calibration.provenance import commit, fingerprint, rialto_version
from sim.calibration.report import Places, promises, text, write
from sim.calibration.results import Made, Measured, Results, load
from sim.calibration.running import run

DOCS = Path(__file__).parents[2] / "docs"
SVG = "{http://www.w3.org/2000/svg}svg"


def rialto(*arguments: str, folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "service.entry", "calibrate", *arguments],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def asked(*arguments: str) -> Result:
    return CliRunner().invoke(calibrate, arguments)


def test_the_report_is_what_the_functions_find(tmp_path: Path) -> None:
    process = rialto("cuped", "mismatch", "--runs", "3", "--seed", "7", "--json", folder=tmp_path)
    printed, said = process.communicate(timeout=240)
    assert process.returncode == 0, said
    page = (tmp_path / "calibration" / "calibration.md").read_text("utf-8")
    figures = json.loads(printed)
    assert figures == json.loads((tmp_path / "calibration" / "calibration.json").read_text("utf-8"))

    world = "fixed, 0.25 / 0.75, `a` loses"
    row = mismatch.mismatch(world, mismatch.WORLDS[world], runs=3, seed=7)
    kept = figures["mismatch"][world]
    assert kept["rows"] == [
        {"world": world, "runs": 3, "counted": 3, "alarms": row.alarms, "pearson": row.pearson}
        | {"pearson_mean": row.pearson_mean}
    ]
    assert kept["made"] == {"runs": 3, "seed": 7, "version": rialto_version(), "commit": commit()} | {
        "code": fingerprint()
    }
    assert f"| {world} | 3 | 3 | {row.alarms:.3f} | {row.pearson:.3f} | {row.pearson_mean:.2f} |" in page
    saved = cuped.cuped(0.8, runs=3, seed=7)
    assert f"| 0.8 | {saved.coverage:.3f} | 0.36 | {saved.left:.2f} | {saved.said:.2f} |" in page

    made = f"| 3 (in full 2,000) | 7 | {rialto_version()} | {commit()} |"
    assert f"| Exposures that get lost | `mismatch` {made}" in page
    assert "- Is the verdict right?: all of it" in page, "what is not measured is said"
    charts = re.findall(r"!\[.+?\]\((\S+\.svg)\)", page)
    assert charts == ["calibration-cuped.svg", "calibration-mismatch.svg"]
    for chart in charts:
        assert ElementTree.parse(tmp_path / "calibration" / chart).getroot().tag == SVG
    assert "mismatch, Thompson, no effect: begun; " in said
    assert re.search(r"\d+% of all, about \d+ (s|min) left", said)


def test_an_interrupted_report_has_what_is_done_and_says_what_is_missing(tmp_path: Path) -> None:
    """Ctrl-C comes while the verdicts are counted, of which a minute is to go."""
    process = rialto("cuped", "verdicts", "--runs", "300", "--output", "found/page.md", folder=tmp_path)
    figures, until = tmp_path / "found" / "page.json", time.monotonic() + 240
    while not figures.exists() or '"rho 0.8"' not in figures.read_text("utf-8"):
        assert process.poll() is None
        assert time.monotonic() < until
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=240)
    assert process.returncode == 130, said
    assert "the same command goes on from here" in said
    page = (tmp_path / "found" / "page.md").read_text("utf-8")
    assert "## Variance saved by CUPED" in page
    missing = next(line for line in page.splitlines() if line.startswith("- Is the verdict right?"))
    assert "no effect, 5 treatments" in missing or missing.endswith("all of it")
    assert (tmp_path / "found" / "page-cuped.svg").exists()


@pytest.mark.parametrize(
    ("arguments", "remedy"),
    [
        (["peekin"], "'peeking'"),
        (["--runs", "0"], "x>=1"),
        (["--runs", "many"], "not a valid integer"),
        (["--seed", "-1"], "x>=0"),
    ],
)
def test_what_cannot_be_is_refused(arguments: Sequence[str], remedy: str) -> None:
    result = asked(*arguments)
    assert result.exit_code == 2
    assert remedy in result.output


def test_what_cannot_be_written_is_refused_before_anything_is_measured(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = asked("cuped", "--output", str(tmp_path / "file" / "folder"))
    assert result.exit_code == 2
    assert "Name another --output" in result.output
    (tmp_path / "notes.md").write_text("mine")
    result = asked("cuped", "--output", str(tmp_path / "notes.md"))
    assert result.exit_code == 2
    assert "notes.md is no report" in result.output
    assert (tmp_path / "notes.md").read_text() == "mine"
    (tmp_path / "calibration.json").write_text('{"cuped": {"rho 0.8": {"rows": [{"rho": "?"}]}}}')
    result = asked("cuped", "--output", str(tmp_path))
    assert result.exit_code == 2
    assert "holds no results of this version" in result.output
    assert "move the file away" in result.output


def test_without_pymc_the_rest_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sim.calibrate_command.importlib.util.find_spec", lambda name: None)
    refused = asked("sbc", "--output", str(tmp_path))
    assert refused.exit_code == 2
    assert "pip install 'rialto[analysis]'" in refused.output
    monkeypatch.setattr("sim.calibrate_command.PARTS", {"cuped": cuped.PART, "sbc": ranked.PART})
    rest = asked("--runs", "2", "--output", str(tmp_path))
    assert rest.exit_code == 0, rest.output
    assert "without sbc, which needs PyMC: pip install 'rialto[analysis]'" in rest.output
    assert "- The pooled model: all of it" in (tmp_path / "calibration.md").read_text("utf-8")


def counting(found: list[str], share: float = 0.01) -> Part:
    """The study of lost exposures, without the work; it writes down which worlds it was asked for."""

    def measure(world: str, runs: int, seed: int, step: Step) -> Sequence[mismatch.Row]:
        found.append(world)
        for _ in range(runs):
            step()
        return [mismatch.Row(world, runs, runs, share, 0.0, 1.0)]

    worlds = {"fixed, 0.50 / 0.25 / 0.25": 1.0, "Thompson, no effect": 2.0}
    part = mismatch.PART
    return Part("mismatch", "Lost", 100, worlds, part.row, measure, part.text, part.promises, part.chart)


def all_of(part: Part, made: Made, results: Results, told: list[str]) -> Results:
    for grown in run([part], 50, made, results, told.append, every_s=0.0):
        results = grown
    return results


def test_what_stands_from_the_same_code_is_not_measured_again() -> None:
    known = Made(50, 1, "0.1.0", "1234567", "aaa")
    asked_for: list[str] = []
    part, told = counting(asked_for), list[str]()
    first = all_of(part, known, Results({}), told)
    assert asked_for == list(part.worlds)
    assert "mismatch, Thompson, no effect: run 50; 100% of all, about 0 s left" in told
    assert any(line.startswith("mismatch, Thompson, no effect: begun; 33% of all") for line in told)
    all_of(part, known, first, told)
    assert len(asked_for) == 2, "the same code, seed and runs: nothing to do"
    assert told[-1] == "mismatch, Thompson, no effect: stands already"
    all_of(part, replace(known, version="0.2.0", commit="unknown"), first, told)
    assert len(asked_for) == 2, "nor where the files are the same under another name"
    for other in (replace(known, seed=2), replace(known, code="bbb")):
        all_of(part, other, first, told)
    assert len(asked_for) == 2 + 4


def test_a_broken_promise_ends_with_1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sim.calibrate_command.PARTS", {"mismatch": counting([], share=0.3)})
    result = asked("--output", str(tmp_path))
    assert result.exit_code == 1
    assert result.output.count("not held: split of exposures: at most 1 % false alarms") == 2
    page = (tmp_path / "calibration.md").read_text("utf-8")
    assert "Of 2 lines: 2 not held." in page
    assert page.count("| 30.0% | **not held** |") == 2


def test_fewer_runs_than_a_promise_is_judged_by_are_said(tmp_path: Path) -> None:
    part = counting([], share=0.0)
    found = all_of(part, Made(50, 1, "0.1.0", "1234567", "aaa"), Results({}), [])
    assert [promise.state for promise in promises(found, {"mismatch": part})] == [State.SO_FAR] * 2
    page = text(found, {"mismatch": part}, Places.of(tmp_path))
    assert "Of 2 lines: 2 held so far." in page
    assert "| Lost | `mismatch` | 50 (in full 100) | 1 | 0.1.0 | 1234567 |" in page


def test_a_world_with_all_its_runs_is_judged_by_itself() -> None:
    part = counting([], share=0.0)
    found = all_of(part, Made(50, 1, "0.1.0", "1234567", "aaa"), Results({}), [])
    world = "Thompson, no effect"
    whole = replace(found.parts["mismatch"][world], made=Made(100, 1, "0.1.0", "1234567", "aaa"))
    states = [one.state for one in promises(found.with_world(part, world, whole), {"mismatch": part})]
    assert states == [State.SO_FAR, State.HELD]


def test_a_report_that_grew_says_which_world_is_of_which_code(tmp_path: Path) -> None:
    part = counting([])
    found = all_of(part, Made(50, 1, "0.1.0", "1234567", "aaa"), Results({}), [])
    newer = Measured(
        Made(100, 1, "0.1.0", "7654321", "bbb"),
        1.0,
        (mismatch.Row("Thompson, no effect", 100, 100, 0.0, 0.0, 1.0),),
    )
    page = text(found.with_world(part, "Thompson, no effect", newer), {"mismatch": part}, Places.of(tmp_path))
    assert "| Lost: fixed, 0.50 / 0.25 / 0.25 | `mismatch` | 50 (in full 100) | 1 | 0.1.0 | 1234567 |" in page
    assert "| Lost: Thompson, no effect | `mismatch` | 100 | 1 | 0.1.0 | 7654321 |" in page


def test_limits_are_those_of_chance() -> None:
    """6 of 100 where 5 % is promised: no proof; 15 of 100 have a probability of 0.00014."""
    assert at_most(0.05, 0.05, 100) is State.HELD
    assert at_most(0.06, 0.05, 100) is State.UNSURE
    assert at_most(0.15, 0.05, 100) is State.MISSED
    assert at_least(0.94, 0.95, 100) is State.UNSURE
    assert at_least(0.85, 0.95, 100) is State.MISSED
    rng = np.random.default_rng(1)
    low, high = band(2_000)
    shares = rng.binomial(2_000, 0.95, 20_000) / 2_000
    assert np.mean((shares < low) | (shares > high)) == pytest.approx(0.002, abs=5 * (0.002 / 20_000) ** 0.5)


def test_ranks_that_are_not_uniform_break_the_promise_and_unseen_faults_are_told() -> None:
    rows = {
        "binomial": [ranked.Row("binomial", "all cells", 1_000, 300, 20.6, 739.5)],
        "gamma": [ranked.Row("gamma", "all cells", 1_000, 300, 60.0, 12.0)],
        "log_normal": [ranked.Row("log_normal", "all cells", 60, 18, 16.9, 198.0)],
    }
    states = [promise.state for promise in ranked.promises(rows)]
    assert states == [State.HELD, State.HELD, State.MISSED, State.UNSURE, State.UNSURE, State.HELD]
    assert "| log_normal | all cells | 60 | 16.9 | 18 | 198.0 |" in ranked.text(rows)


def test_fits_are_counted_as_they_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """In place of a posterior its prior, which gives uniform ranks whatever the data: no fault is seen."""
    pytest.importorskip("pymc", reason="it is in the extra `analysis`")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of PyMC and ArviZ, about their own future
        from sim.calibration import sbc

    class Blind:
        def __init__(self, stage: sbc.Stage, settings: object) -> None:
            self.stage, self.parameters = stage, None

        def sample(self, stage: sbc.Stage, seed: int) -> Blind:
            self.parameters = sbc.prior_draws(self.stage, sbc.RANKED, np.random.default_rng(10**6 + seed))
            return self

    monkeypatch.setattr(sbc, "Sampler", Blind)
    monkeypatch.setattr(sbc, "thinned", lambda draws: draws.parameters)
    steps: list[None] = []
    rows = ranked.PART.measure("log_normal", 200, 3, lambda: steps.append(None))
    assert len(steps) == 260
    assert [(row.kind, row.fits, row.planted_fits) for row in rows] == [("log_normal", 200, 60)] * 4
    assert max(max(row.right, row.planted) for row in rows) < ranked.LIMIT


def test_every_commit_is_named_or_unknown(tmp_path: Path) -> None:
    assert commit(tmp_path) == "unknown", "no checkout, and installed from no repository"
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-C", str(tmp_path)]
    (tmp_path / "file").write_text("one")
    for arguments in (["init", "-q"], ["add", "file"], ["commit", "-qm", "one"], ["tag", "v1"]):
        subprocess.run([*git, *arguments], check=True)
    said = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True)
    assert commit(tmp_path) == said.stdout[:7]
    (tmp_path / "file").write_text("two")
    assert commit(tmp_path) == said.stdout[:7] + "+", "files differ from it"


def test_the_fingerprint_is_of_what_figures_hang_on(tmp_path: Path) -> None:
    """Not of other files, and not of where they lie."""
    for root in (tmp_path / "here", tmp_path / "there"):
        for folder in ("experiments", "sim/calibration", "service"):
            (root / folder).mkdir(parents=True)
            (root / folder / "one.py").write_text("1")
    here, there = tmp_path / "here", tmp_path / "there"
    assert fingerprint(here) == fingerprint(there)
    (there / "service" / "one.py").write_text("2")
    assert fingerprint(here) == fingerprint(there)
    (there / "sim" / "calibration" / "one.py").write_text("2")
    assert fingerprint(here) != fingerprint(there)


def test_the_published_page_is_the_report_of_its_figures(tmp_path: Path) -> None:
    results = load(DOCS / "calibration.json", PARTS)
    places = Places(tmp_path / "calibration.md")
    write(results, PARTS, places)
    assert places.page.read_text("utf-8") == (DOCS / "calibration.md").read_text("utf-8")
    for part in filter(results.rows, PARTS.values()):
        chart = places.chart(part).name
        assert (tmp_path / chart).read_text("utf-8") == (DOCS / chart).read_text("utf-8"), chart


def test_what_is_published_breaks_no_promise() -> None:
    found = promises(load(DOCS / "calibration.json", PARTS), PARTS)
    assert len(found) > 40
    assert [promise for promise in found if promise.state is State.MISSED] == []

"""The studies run, and write the part of a page that is theirs."""

from __future__ import annotations

import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from benchmarks.studies import __main__ as command
from benchmarks.studies import policies as study
from sim.calibration.chart import line_chart, ticks
from sim.calibration.tracks import Axis, Dot, bar_chart, dot_chart

SVG = "{http://www.w3.org/2000/svg}"


@pytest.mark.parametrize(
    ("greatest", "last", "count"), [(123.0, 140, 8), (10_000.0, 10_000, 6), (1.0, 1, 6), (0.07, 0.07, 8)]
)
def test_ticks_are_round_and_reach_the_greatest(greatest: float, last: float, count: int) -> None:
    found = ticks(greatest)
    assert found[0] == 0
    assert found[-1] == pytest.approx(last)
    assert len(found) == count


def test_a_chart_puts_points_where_they_belong() -> None:
    """Axes to 10 and 100 over 632 x 312 pixels from (64, 368): (5, 50) lies in the middle."""
    text = line_chart("Title", "across", "up", {"one": [(0, 0), (5, 50), (10, 100)], "two": [(0, 10)]})
    drawn = ElementTree.fromstring(text)
    first, second = (line.get("points") for line in drawn.iter(f"{SVG}polyline"))
    assert first == "64.0,368.0 380.0,212.0 696.0,56.0"
    assert second == "64.0,336.8"
    assert {"Title", "across", "up", "one", "two", "100"} <= {node.text for node in drawn.iter(f"{SVG}text")}


def test_shares_stand_beside_their_bands() -> None:
    """From 90 to 100 % over 432 pixels from 24: 95 % in the middle, 91 % a tenth in."""
    dots = [Dot("within", 0.95, (0.94, 0.96)), Dot("beyond < 94", 0.91, (0.94, 1.0), False, other=1.0)]
    drawn = ElementTree.fromstring(dot_chart("Title", dots, ("lift", "alone")))
    good, bad, legend = drawn.iter(f"{SVG}circle")
    assert [good.get("cx"), bad.get("cx")] == ["240.0", "67.2"]
    assert good.get("stroke") == good.get("fill") == legend.get("fill") != bad.get("stroke")
    assert bad.get("fill") == "#ffffff", "hollow: nothing is promised of it"
    assert [band.get("width") for band in drawn.iter(f"{SVG}rect")][1:] == ["86.4", "259.2"]
    diamond = next(drawn.iter(f"{SVG}polygon")).get("points", "")
    assert diamond.split()[1].startswith("456.0,")
    texts = {node.text for node in drawn.iter(f"{SVG}text")}
    assert {"within", "beyond < 94", "90%", "100%", "lift", "alone"} <= texts


def test_a_scale_of_logarithms_has_equal_steps_for_equal_factors() -> None:
    axis = Axis([1.0, 10.0, 100.0], is_log=True)
    assert [axis.place(value) for value in (0.1, 1.0, 10.0, 100.0, 1e9)] == [24.0, 24.0, 240.0, 456.0, 456.0]


def test_bars_are_as_long_as_their_parts() -> None:
    text = bar_chart("Title", {"a world": {"good": 3, "bad": 1}, "none": {}}, ["bad", "good"])
    drawn = ElementTree.fromstring(text)
    bars = [bar for bar in drawn.iter(f"{SVG}rect") if bar.find(f"{SVG}title") is not None]
    assert [(bar.get("x"), bar.get("width")) for bar in bars] == [("24.0", "108.0"), ("132.0", "324.0")]
    assert [bar.findtext(f"{SVG}title") for bar in bars] == ["bad: 1", "good: 3"]


def test_the_study_of_policies_writes_its_part_of_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(study, "HORIZON", 1_000)
    page = tmp_path / "policies.md"
    page.write_text(f"before\n{study.MARKS[0]}\nold\n{study.MARKS[1]}\nafter\n", "utf-8")
    study.policies(runs=20, seed=1, draws=study.AT_ONCE, page=page)
    text = page.read_text("utf-8")
    assert text.startswith(f"before\n{study.MARKS[0]}\nTen arms")
    assert text.endswith(f"{study.MARKS[1]}\nafter\n")
    assert "old" not in text
    rows = [line.split("|")[1:-1] for line in text.splitlines() if line.startswith("| `")]
    assert len(rows) == 6
    assert [cells[3].strip() == "–" for cells in rows] == [True, *[False] * 5]
    assert all(15 < float(cells[1]) < 50 for cells in rows)
    assert ElementTree.parse(tmp_path / study.CHART).getroot().tag == f"{SVG}svg"


def test_the_committed_page_has_both_marks_once() -> None:
    text = study.PAGE.read_text("utf-8")
    assert [text.count(mark) for mark in study.MARKS] == [1, 1]
    assert text.index(study.MARKS[0]) < text.index(study.MARKS[1])


def test_make_studies_writes_the_page_of_calibration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the name of a part, with the command's own code; and it refuses what is no study."""
    monkeypatch.setattr(command, "PAGE", tmp_path / "calibration.md")
    monkeypatch.setattr(sys, "argv", ["studies", "cuped", "--runs", "2"])
    command.main()
    assert "| Variance saved by CUPED | `cuped` | 2 (in full 1,000) | 2026 |" in command.PAGE.read_text(
        "utf-8"
    )
    monkeypatch.setattr(sys, "argv", ["studies", "peekin"])
    with pytest.raises(SystemExit):
        command.main()

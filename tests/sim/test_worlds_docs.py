"""docs/worlds.md: its example is run, its file is read, and it names every field and every scenario."""

import contextlib
import io
import re
from dataclasses import fields
from pathlib import Path

import pytest

from sim.runner.finding import read_scenario
from sim.worlds.document import to_document
from sim.worlds.scenarios import NAMES
from sim.worlds.truth import true_lifts, truth
from sim.worlds.world import (
    Basket,
    Delays,
    Effect,
    Noise,
    Product,
    Reaction,
    Repeats,
    Season,
    Segment,
    Session,
    Shock,
    Stage,
    World,
)
from tests.markdown import blocks

PAGE = Path(__file__).parents[2] / "docs" / "worlds.md"
PARTS = (
    Basket,
    Delays,
    Effect,
    Noise,
    Product,
    Reaction,
    Repeats,
    Season,
    Segment,
    Session,
    Shock,
    Stage,
    World,
)


def test_the_example_prints_what_the_page_shows() -> None:
    code, shown = blocks(PAGE)[:2]
    assert code.language == "python"
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        exec(compile(code.text, str(PAGE), "exec"), {})  # our own documentation
    assert said.getvalue() == shown.text


def test_the_file_of_the_page_is_a_scenario(tmp_path: Path) -> None:
    (file,) = [block.text for block in blocks(PAGE) if block.language == "yaml"]
    path = tmp_path / "coffee.yaml"
    path.write_text(file, "utf-8")
    found = read_scenario(path)
    assert found.key == "coffee"
    values = truth(found.world, window=found.experiment.attribution_window)
    lift = true_lifts(values, "none")["descaler"].relative
    assert lift is not None
    assert "adds 6 %" in found.ground_truth
    assert lift == pytest.approx(0.06, abs=0.005)
    assert set(to_document(found.world)) == {one.name for one in fields(World)}


def test_every_field_and_scenario_is_named() -> None:
    text = PAGE.read_text("utf-8")
    tables = text[text.index("### Every field") :]
    named = set(re.findall(r"\w+", " ".join(re.findall(r"`([^`]+)`", tables))))
    missing = {one.name for part in PARTS for one in fields(part)} - named
    assert not missing
    rows = re.findall(r"^\| `(\w+)` \|", text[: text.index("## The model")], re.MULTILINE)
    assert tuple(rows) == NAMES

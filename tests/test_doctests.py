"""The examples in docstrings outside `experiments` are true, and so is the Python in docs/off-policy.md."""

from __future__ import annotations

import doctest
from importlib import import_module
from pathlib import Path

import pytest

from experiments.off_policy import gathering
from tests.markdown import blocks

ROOT = Path(__file__).parents[1]
MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for package in ("sim", "service", "dashboard", "benchmarks")
    for path in (ROOT / package).rglob("*.py")
    if ">>> " in path.read_text("utf-8")
)


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_a_module_are_true(name: str) -> None:
    found = doctest.testmod(import_module(name))
    assert found.attempted > 0
    assert found.failed == 0


def test_examples_are_found() -> None:
    assert {name.split(".")[0] for name in MODULES} >= {"sim", "dashboard", "benchmarks"}
    assert len(MODULES) > 30


def test_an_evaluation_from_python_gives_what_the_page_says(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gathering.Compiled, "sweep", None)  # the block compiles; others go on without
    (block,) = [one for one in blocks(ROOT / "docs" / "off-policy.md") if one.language == "python"]
    exec(compile(block.text, "docs/off-policy.md", "exec"), {})
    assert capsys.readouterr().out == "0.5\n"
    assert block.text.rstrip().endswith("# 0.5")

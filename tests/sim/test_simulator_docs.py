"""docs/simulator.md: its commands print what it shows, and its tables have every column of the files."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from sim.runner.command import run_command
from tests.markdown import blocks

parquet = pytest.importorskip("pyarrow.parquet", reason="it is in the extra `sim`")

DOCUMENT = Path(__file__).parents[2] / "docs" / "simulator.md"
FILES = ("days.parquet", "replications.parquet", "looks.parquet", "run.json")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where all commands were run, one after the other; what each printed lies in `N.txt`."""
    place = tmp_path_factory.mktemp("shown")
    for number, block in enumerate(_commands()):
        (place / f"{number}.txt").write_text(run_in(place, block), "utf-8")
    return place


@pytest.mark.slow
def test_every_command_prints_what_is_shown(folder: Path) -> None:
    shown = [block.text for block in blocks(DOCUMENT) if block.language == "text"]
    assert len(shown) == len(_commands()) == 2
    for number, text in enumerate(shown):
        assert (folder / f"{number}.txt").read_text("utf-8") == text


@pytest.mark.slow
def test_every_column_of_the_files_has_its_meaning(folder: Path) -> None:
    run = folder / "one"
    assert sorted(path.name for path in run.iterdir()) == sorted(FILES)
    for name in FILES:
        file = run / name
        columns = (
            json.loads(file.read_text("utf-8")) if name == "run.json" else parquet.read_schema(file).names
        )
        assert sorted(columns) == sorted(_told(name)), name
    assert "<!doctype html>" in (folder / "one.html").read_text("utf-8")


def test_every_option_of_the_command_is_told() -> None:
    options = {option for one in run_command.params for option in one.opts if option.startswith("--")}
    assert options - set(re.findall(r"`(--[a-z-]+)`", DOCUMENT.read_text("utf-8"))) == set()


def run_in(place: Path, command: str) -> str:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("RIALTO_", "COLUMNS"))}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command],
        cwd=place,
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _commands() -> list[str]:
    return [block.text for block in blocks(DOCUMENT) if block.language == "bash"]


def _told(name: str) -> list[str]:
    """The names in the first column of the table headed by a file's name."""
    (rows,) = re.findall(rf"^\| `{re.escape(name)}` \|.*\n\|---\|---\|\n((?:\|.*\n)+)", _text(), re.MULTILINE)
    return [name for row in rows.splitlines() for name in re.findall(r"`(\w+)`", row.split("|")[1])]


def _text() -> str:
    return DOCUMENT.read_text("utf-8")


def _keep() -> None:
    """Put into the document what its first command prints: `python -m tests.sim.test_simulator_docs DIR`."""
    shown = [block.text for block in blocks(DOCUMENT) if block.language == "text"]
    DOCUMENT.write_text(_text().replace(shown[0], run_in(Path(sys.argv[1]), _commands()[0])), "utf-8")


if __name__ == "__main__":
    _keep()

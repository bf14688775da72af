"""Every block of the README and of docs/api.md is run, or held against what it names."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from experiments.document import parse_document
from tests.markdown import Block, blocks
from tests.processes import free_port

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
API = ROOT / "docs" / "api.md"
MARK = "=== block {} ==="
CONTROL = {"variant": "none", "offer": {"kind": "none"}, "propensity": 0.1}
"""What one visitor in ten gets in place of what the README shows; the new store's secret decides who."""


def test_make_targets_of_the_first_screen_exist() -> None:
    first = [block.text.strip() for block in blocks(README) if block.text.startswith("make ")]
    assert first == ["make demo", "make test"]
    for command in first:
        # -n prints what it would run; --old-file keeps an unfinished set-up out of the answer
        result = subprocess.run(
            [*shlex.split(command), "-n", "--old-file=.venv/.ready"], cwd=ROOT, capture_output=True, text=True
        )
        assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("file", [README, API], ids=["README", "api"])
def test_commands_do_what_is_shown(file: Path, tmp_path: Path) -> None:
    commands = [b for b in blocks(file) if not b.text.startswith("make ") and b.language in _RUN]
    assert len(commands) > 5
    outputs = _run(commands, tmp_path)
    for index, block in enumerate(commands):
        if block.language == "json":
            shown, printed = json.loads(block.text), json.loads(outputs[index - 1])
            if (shown.get("variant"), printed.get("variant")) == ("socks", "none"):
                shown |= CONTROL
            _assert_same_shape(shown, printed, f"block {index}")


def test_experiment_shown_is_a_valid_document() -> None:
    shown = [yaml.safe_load(block.text) for block in blocks(README) if block.language == "yaml"]
    assert [parse_document({"currency": "EUR", **document}).key for document in shown] == ["checkout-addon"]


def test_snippet_for_the_storefront_calls_what_the_script_has() -> None:
    (snippet,) = [block.text for block in blocks(README) if block.language == "html"]
    script = (ROOT / "service" / "static" / "rialto.js").read_text("utf-8")
    called = set(re.findall(r"Rialto\.(\w+)\(", snippet))
    exported = set(re.findall(r"\w+", script.rpartition("root.Rialto =")[2].partition("}")[0]))
    assert called == {"init", "offer"}
    assert called <= exported


def test_every_link_and_picture_of_the_documents_leads_somewhere() -> None:
    for file in [README, *ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("benchmarks/*.md")]:
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", file.read_text("utf-8")):
            if "://" not in target:
                assert (file.parent / target).exists(), f"{file.relative_to(ROOT)} links {target}"


def test_map_names_the_folders_and_documents_there_are() -> None:
    (the_map,) = [block.text for block in blocks(README) if block.language == "text"]
    assert all((ROOT / name).is_dir() for name in re.findall(r"^(\w+)/", the_map, re.MULTILINE))
    assert all((ROOT / "docs" / name).is_file() for name in re.findall(r"[\w-]+\.md", the_map))


def test_house_map_of_contributing_names_places_there_are() -> None:
    """In a cell of several, a name without its folder stands beside the one before it."""
    text = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    cells = [line.split("|")[2] for line in text.splitlines() if line.startswith("| ") and "`" in line]
    assert len(cells) > 15
    for cell in cells:
        folder = ROOT
        for name in re.findall(r"`([\w./*]+)`", cell):
            folder = (ROOT / name).parent if "/" in name else folder
            assert list(folder.glob(Path(name).name)), f"CONTRIBUTING.md names {name}"


_RUN = ("bash", "yaml", "json")


def _run(commands: Sequence[Block], folder: Path) -> list[str]:
    """What each block prints when all of them run in one shell, as a reader would type them."""
    if shutil.which("curl") is None:
        assert os.environ.get("RIALTO_CI") != "1", "CI installs curl"
        pytest.skip("curl is not installed")
    port = free_port()
    script = ["set -euo pipefail", "trap 'kill $(jobs -p) && wait' EXIT"]
    for index, block in enumerate(commands):
        script.append(f"echo; echo '{MARK.format(index)}'")
        if block.language == "bash":
            script.append(block.text.replace("8000", str(port)))
        elif block.language == "yaml":
            (folder / "checkout.yaml").write_text(block.text, "utf-8")
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RIALTO_")} | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "RIALTO_URL": f"http://127.0.0.1:{port}",
    }
    result = subprocess.run(
        ["bash", "-c", "\n".join(script)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert result.returncode == 0, f"{result.stdout[-3000:]}\n{result.stderr[-3000:]}"
    return [part.strip() for part in re.split(r"^=== block \d+ ===$", result.stdout, flags=re.MULTILINE)[1:]]


def _assert_same_shape(shown: Any, printed: Any, where: str) -> None:
    """Everything shown is printed, with values of the same kind; `...` in a text stands for anything."""
    if isinstance(shown, dict):
        assert isinstance(printed, dict), where
        for name, value in shown.items():
            assert name in printed, f"{where}: {name} is shown but not printed"
            _assert_same_shape(value, printed[name], f"{where}/{name}")
    elif isinstance(shown, list):
        assert isinstance(printed, list), where
        assert len(printed) >= len(shown), where
        for index, value in enumerate(shown):
            _assert_same_shape(value, printed[index], f"{where}/{index}")
    elif isinstance(shown, str | bool) or shown is None:
        assert type(printed) is type(shown), f"{where}: {printed!r} where {shown!r} is shown"
    else:
        assert printed == pytest.approx(shown, abs=1e-6), where

"""The notebook of the simulator prints what it holds.

After a change of results: `python -m tests.sim.test_simulator_notebook` runs it and keeps what it prints.
"""

from __future__ import annotations

import json
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import pytest

for needed in ("nbclient", "pyarrow", "pandas"):
    pytest.importorskip(needed, reason="it is in the extras `dev`, `sim` or `dashboard`")

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "docs" / "simulator.ipynb"


@pytest.mark.slow
def test_the_notebook_prints_what_it_holds(tmp_path: Path) -> None:
    held, printed = read(), executed(tmp_path)
    found = [told(cell) for cell in printed["cells"] if cell["cell_type"] == "code"]
    assert found == [told(cell) for cell in held["cells"] if cell["cell_type"] == "code"]
    assert sum("image/svg+xml" in output for cell in found for output in cell) == 1
    assert "same customers: True" in json.dumps(found)
    assert (tmp_path / "learnt" / "days.parquet").exists()


def test_the_notebook_names_no_place_of_anybody() -> None:
    text = NOTEBOOK.read_text("utf-8")
    for place in (str(ROOT), str(Path.home()), tempfile.gettempdir()):
        assert f"{place}/" not in text
    assert '"output_type": "error"' not in text


def read() -> dict[str, Any]:
    return json.loads(NOTEBOOK.read_text("utf-8"))


def executed(folder: Path) -> Any:
    """The notebook after a run of all its cells in that folder."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Jupyter, about paths and loops
        import nbclient
        import nbformat

        notebook = nbformat.read(NOTEBOOK, as_version=4)
        nbclient.NotebookClient(
            notebook, timeout=240, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
        ).execute()
    return notebook


def told(cell: dict[str, Any]) -> list[dict[str, Any]]:
    """What a cell prints and shows, joined as notebooks may split texts into lines."""
    outputs: list[dict[str, Any]] = []
    for output in cell["outputs"]:
        assert output["output_type"] in ("stream", "execute_result", "display_data")
        shown = output.get("data") or {"text": output.get("text")}
        outputs.append(
            {kind: "".join(text) if isinstance(text, list) else text for kind, text in shown.items()}
        )
    return outputs


def _keep() -> None:
    with tempfile.TemporaryDirectory() as folder:
        notebook = executed(Path(folder))
    for cell in notebook["cells"]:
        cell["metadata"] = {}  # when it ran is nobody's business
    NOTEBOOK.write_text(json.dumps(notebook, indent=1, ensure_ascii=False, sort_keys=True) + "\n", "utf-8")


if __name__ == "__main__":
    _keep()
    sys.exit(0)

"""The notebook of docs/ opens what an analysis keeps."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pymc", reason="it is in the extra `analysis`")
nbclient = pytest.importorskip("nbclient")

NOTEBOOK = Path(__file__).parents[2] / "docs" / "pooled.ipynb"


@pytest.mark.slow
def test_the_notebook_opens_both_files(tmp_path: Path) -> None:
    """Run in a kernel, on draws of an analysis whose truth is known: socks sell more in either segment."""
    keep_draws(tmp_path / "draws")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Jupyter, about paths and loops
        import nbformat

        notebook = nbformat.read(NOTEBOOK, as_version=4)
        nbclient.NotebookClient(
            notebook, timeout=200, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
        ).execute()
    outputs = [cell["outputs"][-1]["data"]["text/plain"] for cell in notebook.cells if cell.get("outputs")]
    rates, rhat, better, much_better = outputs
    assert "socks/here/a/1/0" in rates
    assert float(rhat) < 1.02
    for table in (better, much_better):
        assert [line.split()[0] for line in table.splitlines()[-2:]] == ["a", "b"]
    assert all(float(line.split()[-1]) > 0.9 for line in better.splitlines()[-2:])
    assert not any(cell.get("outputs") for cell in nbformat.read(NOTEBOOK, as_version=4).cells), "kept clean"


def keep_draws(folder: Path) -> None:
    """Draws about a logit of -2 for the control and -1.8 for socks, written as the service writes them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of PyMC and ArviZ, about their own future
        from experiments.pooled.analyse import Analysis
        from experiments.pooled.data import Group, layout_of
        from experiments.pooled.keeping import arviz_of, columns_of
        from experiments.pooled.sampling import Draws
        from experiments.pooled.stages import Priors, binomial_stage
        from service.jobs.analysis_process import keep

        rows = [(Group("here", segment, 1, 0), v) for segment in ("a", "b") for v in range(2)]
        layout = layout_of(rows, ["none", "socks"])
        stage = binomial_stage("conversion", layout, Priors().conversion, np.ones(4), np.zeros(4))
        rng = np.random.default_rng(1)
        eta = np.where(layout.variant == 0, -2.0, -1.8) + 0.05 * rng.standard_normal((4, 200, 4))
        draws = Draws(stage, {"eta": eta, "spread": np.abs(eta[..., :3])}, 0)
        found = Analysis((), law="log_normal", draws={"conversion": draws})
        keep(folder, arviz_of(found), columns_of(found))
    assert sorted(os.listdir(folder)) == ["draws.nc", "draws.parquet"]

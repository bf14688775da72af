"""Posteriors in closed form against PyMC, which knows only the models: priors and likelihoods.

Few units and priors that lean to one side, so that a swapped, forgotten or doubled count shows.
"""

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from experiments.posteriors.beta import Beta
from experiments.posteriors.compare import expected_loss, prob_best, prob_greater
from experiments.posteriors.normal import NormalInverseGamma, StudentT
from experiments.posteriors.protocol import Posterior
from tests.statistical import STANDARD_ERRORS

pytestmark = pytest.mark.slow

Figures = dict[str, list[float]]

PROPORTIONS = {"alpha": [2.0, 3.0, 1.5], "beta": [20.0, 17.0, 9.0], "n": [40, 31, 25], "successes": [3, 5, 2]}
PRIOR = NormalInverseGamma(mean=1.0, kappa=2.0, nu=3.0, scale=4.0)
MEANS = {"n": [7, 5, 9], "mean": [2.3, 3.1, 2.6], "squares": [18.0, 26.0, 11.0]}


@pytest.fixture(scope="module")
def sampled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Figures]:
    """What PyMC finds, as [estimate, Monte-Carlo standard error] of each figure."""
    if importlib.util.find_spec("pymc") is None:
        assert os.environ.get("RIALTO_CI") != "1", "CI installs pymc"
        pytest.skip("pymc is not installed: it is in the extra `analysis`")
    prior = {key: getattr(PRIOR, key) for key in ("mean", "kappa", "nu", "scale")}
    compiled = tmp_path_factory.mktemp("compiled")  # not in the home directory
    result = subprocess.run(
        [sys.executable, "-m", "tests.experiments.pymc_sampler"],
        input=json.dumps({"proportions": PROPORTIONS, "means": {**MEANS, "prior": prior}}),
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PYTENSOR_FLAGS": f"base_compiledir={compiled}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


@pytest.mark.parametrize("model", ["proportions", "means"])
def test_pymc_has_mixed(model: str, sampled: dict[str, Figures]) -> None:
    """Else its standard errors would be wide enough to pass anything."""
    assert sampled[model]["r_hat"][0] < 1.01
    assert sampled[model]["ess"][0] > 4000


def test_beta_agrees(sampled: dict[str, Figures]) -> None:
    assert disagreements(betas(), sampled["proportions"]) == {}


def test_marginal_of_the_mean_agrees(sampled: dict[str, Figures]) -> None:
    assert disagreements(students(), sampled["means"]) == {}


@pytest.mark.parametrize("arm", [0, 1, 2])
def test_one_success_too_many_is_rejected(arm: int, sampled: dict[str, Figures]) -> None:
    wrong = betas()
    wrong[arm] = wrong[arm].updated(1, 0)
    found = disagreements(wrong, sampled["proportions"])
    assert {
        f"mean {arm}",
        f"low {arm}",
        f"high {arm}",
        f"prob_best {arm}",
        f"expected_loss {arm}",
    } <= found.keys()


def test_swapped_prior_is_rejected(sampled: dict[str, Figures]) -> None:
    swapped = {**PROPORTIONS, "alpha": PROPORTIONS["beta"], "beta": PROPORTIONS["alpha"]}
    assert "mean 0" in disagreements(betas(swapped), sampled["proportions"])


def test_one_unit_too_many_is_rejected(sampled: dict[str, Figures]) -> None:
    wrong = students({**MEANS, "n": [n + 1 for n in MEANS["n"]]})
    assert {"low 1", "expected_loss 1"} <= disagreements(wrong, sampled["means"]).keys()


def test_normal_instead_of_student_t_is_rejected(sampled: dict[str, Figures]) -> None:
    wrong = [StudentT(arm.location, arm.scale) for arm in students()]
    found = disagreements(wrong, sampled["means"])
    assert found.keys() & {"low 1", "high 1"}
    assert not found.keys() & {"mean 0", "mean 1", "mean 2"}


def disagreements(arms: Sequence[Posterior], sampled: Figures) -> dict[str, float]:
    """Figures more than five standard errors away, with how many."""
    exact = figures(arms)
    assert exact.keys() == sampled.keys() - {"r_hat", "ess"}
    off = {key: abs(value - sampled[key][0]) / sampled[key][1] for key, value in exact.items()}
    return {key: round(errors, 1) for key, errors in off.items() if not errors < STANDARD_ERRORS}


def figures(arms: Sequence[Posterior]) -> dict[str, float]:
    best, loss = prob_best(arms), expected_loss(arms)
    found = {"prob_greater": prob_greater(arms[1], arms[0])}
    for k, arm in enumerate(arms):
        found[f"mean {k}"] = arm.mean
        found[f"low {k}"], found[f"high {k}"] = (float(end) for end in arm.ppf([0.025, 0.975]))
        found[f"prob_best {k}"], found[f"expected_loss {k}"] = float(best[k]), float(loss[k])
    return found


def betas(data: dict[str, Any] = PROPORTIONS) -> list[Beta]:
    rows = zip(data["alpha"], data["beta"], data["n"], data["successes"], strict=True)
    return [Beta(alpha, beta).updated(s, n - s) for alpha, beta, n, s in rows]


def students(data: dict[str, Any] = MEANS, prior: NormalInverseGamma = PRIOR) -> list[StudentT]:
    rows = zip(data["n"], data["mean"], data["squares"], strict=True)
    return [prior.updated(n, mean, squares).marginal_mean() for n, mean, squares in rows]

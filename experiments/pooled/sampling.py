"""Draws of a stage's posterior, by nutpie where it is installed, else by PyMC's own NUTS.

Both are the same algorithm on the same model. nutpie compiles a model once for many data sets; that is what
makes calibration affordable.
"""

import contextlib
import io
import logging
import warnings
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np

from experiments.pooled.stages import Kind, Parameters, Stage
from experiments.posteriors.protocol import FloatArray

KEPT = ("eta", "width", "level", "spread", "main")
"""What of the draws is kept and judged."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How long to sample: `draws` of each of `chains` after `tune`; the sampler's name."""

    draws: int = 1000
    tune: int = 800
    chains: int = 4
    target_accept: float = 0.95
    sampler: str = "nutpie" if find_spec("nutpie") else "pymc"


@dataclass(frozen=True, slots=True)
class Draws:
    """Draws by parameter, shape (chains, draws, ...), and how many of them diverged."""

    stage: Stage
    values: Mapping[str, FloatArray]
    divergences: int

    @property
    def parameters(self) -> Parameters:
        """The chains one after the other."""
        eta = self.values["eta"]
        flat = eta.reshape(-1, eta.shape[-1])
        if self.stage.kind is Kind.BINOMIAL:
            return Parameters(flat, np.ones((len(flat), len(self.stage.layout.variants))))
        return Parameters(flat, self.values["width"].reshape(len(flat), -1))


class Sampler:
    """A stage's model, compiled; samples any data, under any prior, of the same layout."""

    def __init__(self, stage: Stage, settings: Sampling) -> None:
        self._settings = settings
        # Loaded when there is something to sample: a refusal of the data alone should not take seconds.
        with _quiet():
            from experiments.pooled.model import model_of

            self._model = model_of(stage)
            self._compiled = _compiled(self._model) if settings.sampler == "nutpie" else None

    def sample(self, stage: Stage, seed: int, *, target_accept: float | None = None) -> Draws:
        """The posterior of this data; the same seed gives the same draws."""
        how = self._settings
        told: dict[str, Any] = {"draws": how.draws, "tune": how.tune, "chains": how.chains, "cores": 1}
        told["target_accept"] = target_accept or how.target_accept
        with _quiet():
            if self._compiled is not None:
                found = _by_nutpie(self._compiled.with_data(data=stage.packed), seed, told)
            else:
                found = self._by_pymc(stage, seed, told)
        kept = {name: np.asarray(found.posterior[name].values) for name in KEPT if name in found.posterior}
        return Draws(stage, kept, int(found.sample_stats["diverging"].values.sum()))

    def _by_pymc(self, stage: Stage, seed: int, told: Mapping[str, Any]) -> Any:
        import pymc

        pm: Any = pymc  # whose functions are half typed
        with self._model:
            pm.set_data({"data": stage.packed})
            # Numba needs no C++ compiler; without one PyMC 5 would crawl.
            return pm.sample(
                **told,
                random_seed=seed,
                progressbar=False,
                compute_convergence_checks=False,
                compile_kwargs={"mode": "NUMBA"},
            )


def _compiled(model: Any) -> Any:
    import nutpie

    return nutpie.compile_pymc_model(model)


def _by_nutpie(compiled: Any, seed: int, told: Mapping[str, Any]) -> Any:
    import nutpie

    return nutpie.sample(compiled, **told, seed=seed, progress_bar=False)


@contextlib.contextmanager
def _quiet() -> Generator[None]:
    """PyMC and its compiler talk to the screen, about their own future too."""
    names = ("pymc", "pymc.sampling.mcmc", "pytensor")
    levels = {name: logging.getLogger(name).level for name in names}
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            for name in names:
                logging.getLogger(name).setLevel(logging.ERROR)
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)

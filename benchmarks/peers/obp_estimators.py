"""Open Bandit Pipeline's estimators, run in its own environment: CPU in milliseconds, and their values.

Usage: obp_estimators.py ROUNDS. PyTorch and two libraries of studies are imported by the package, but its
estimators use none of them; an empty stand-in takes their place (`Nothing`), since the versions it asks for
exist for no Python that we run on.
"""

from __future__ import annotations

import json
import sys
import time
import types
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from typing import Any

import numpy as np

ROWS, ACTIONS, PLACES, SEED = 10_000, 80, 3, 1
ABSENT = frozenset({"torch", "pingouin", "pyieoe"})


class Nothing(type):
    """A class that has every attribute, each another such class: enough to be named in an annotation."""

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return Nothing(name, (), {})


class _Empty(types.ModuleType):
    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return Nothing(name, (), {})


class _Finder:
    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """A stand-in for what is absent."""
        del path, target
        return ModuleSpec(name, self, is_package=True) if name.split(".")[0] in ABSENT else None  # type: ignore[arg-type]

    def create_module(self, spec: ModuleSpec) -> types.ModuleType:
        """An empty module."""
        return _Empty(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        """Nothing to run."""


def problem() -> dict[str, Any]:
    """The log, the candidate and the model that both sides get: 10,000 rows, 80 actions, 3 places."""
    rng = np.random.default_rng(SEED)
    shares = rng.dirichlet(np.ones(ACTIONS), (ROWS, PLACES)).transpose(0, 2, 1)
    return {
        "shares": np.ascontiguousarray(shares),
        "predictions": 0.02 * rng.random((ROWS, ACTIONS, PLACES)),
        "actions": rng.integers(ACTIONS, size=ROWS),
        "places": rng.integers(PLACES, size=ROWS),
        "rewards": (rng.random(ROWS) < 0.01).astype(np.int64),
        "propensities": np.full(ROWS, 1 / ACTIONS),
    }


def main(arguments: Sequence[str]) -> None:
    """Estimate so many times, and say what each took and what came of the last."""
    sys.meta_path.insert(0, _Finder())  # type: ignore[arg-type]
    import obp  # pyright: ignore[reportMissingImports]
    from obp import ope  # pyright: ignore[reportMissingImports]

    given = problem()
    feedback = {
        "n_rounds": ROWS,
        "n_actions": ACTIONS,
        "action": given["actions"],
        "reward": given["rewards"],
        "position": given["places"],
        "pscore": given["propensities"],
        "context": np.zeros((ROWS, 1)),
    }
    estimators = [
        ope.InverseProbabilityWeighting(estimator_name="ips"),
        ope.SelfNormalizedInverseProbabilityWeighting(estimator_name="snips"),
        ope.DirectMethod(estimator_name="dm"),
        ope.DoublyRobust(estimator_name="dr"),
        ope.SelfNormalizedDoublyRobust(estimator_name="sndr"),
        ope.SwitchDoublyRobust(lambda_=1.0, estimator_name="switch_dr"),
        ope.DoublyRobustWithShrinkage(lambda_=1.0, estimator_name="dros"),
    ]
    asked = ope.OffPolicyEvaluation(bandit_feedback=feedback, ope_estimators=estimators)
    costs: list[float] = []
    values: dict[str, float] = {}
    for _ in range(int(arguments[0])):
        start = time.process_time()
        values = asked.estimate_policy_values(
            action_dist=given["shares"], estimated_rewards_by_reg_model=given["predictions"]
        )
        costs.append(1000 * (time.process_time() - start))
    told = {"version": obp.__version__, "cpu_ms": costs, "values": {k: float(v) for k, v in values.items()}}
    sys.stdout.write(json.dumps(told))


if __name__ == "__main__":
    main(sys.argv[1:])

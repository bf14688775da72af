"""Linear Thompson sampling of a peer, run in its own environment: CPU in microseconds of one choice."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any, cast

import numpy as np

ARMS, FEATURES, LEARNT, CHOICES = 5, 10, 500, 500


def main() -> None:
    """Learn from 500 rows, choose in 500 contexts, and say what one choice took."""
    rng = np.random.default_rng(1)
    x = np.column_stack([np.ones(LEARNT), rng.normal(size=(LEARNT, FEATURES - 1))])
    theta = rng.normal(size=(ARMS, FEATURES))
    arms = rng.integers(0, ARMS, LEARNT)
    y = np.einsum("np,np->n", x, theta[arms]) + 0.5 * rng.normal(size=LEARNT)
    asked = np.column_stack([np.ones(CHOICES), rng.normal(size=(CHOICES, FEATURES - 1))])
    choose = {"mabwiser": mabwiser, "pymab": pymab}[sys.argv[1]](x, arms, y)
    choose(asked[0])
    start = time.process_time()
    for context in asked:
        choose(context)
    print(json.dumps(1e6 * (time.process_time() - start) / CHOICES))


def mabwiser(x: Any, arms: Any, y: Any) -> Callable[[Any], Any]:
    """MABWiser's LinTS, one context at a time."""
    from mabwiser.mab import MAB, LearningPolicy  # pyright: ignore[reportMissingImports]

    bandit = MAB(arms=list(range(ARMS)), learning_policy=LearningPolicy.LinTS(alpha=1.0), seed=1)
    bandit.fit(decisions=arms, rewards=y, contexts=x)
    return lambda context: cast("int", bandit.predict(context[np.newaxis]))


def pymab(x: Any, arms: Any, y: Any) -> Callable[[Any], Any]:
    """Linear Thompson sampling of pymab, whose core is compiled."""
    from pymab.policies.contextual_bandits import (  # pyright: ignore[reportMissingImports]
        LinearThompsonSamplingPolicy,
    )

    bandit, rng = LinearThompsonSamplingPolicy(n_arms=ARMS, n_features=FEATURES), np.random.default_rng(1)
    for row, arm, reward in zip(x, arms, y, strict=True):
        bandit.update(action=int(arm), reward=float(reward), context=np.tile(row, (ARMS, 1)))
    shape = (ARMS, FEATURES)  # it takes a row for each arm; a view costs it less than copies
    return lambda context: cast("int", bandit.select_action(rng=rng, context=np.broadcast_to(context, shape)))


if __name__ == "__main__":
    main()

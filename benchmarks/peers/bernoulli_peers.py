"""Ten Bernoulli arms in a peer's own simulator, run in its own environment: decisions, CPU and regret."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.peers.obp_estimators import _Finder as StandIn  # pyright: ignore[reportPrivateUsage]

RATES = np.linspace(0.05, 0.12, 10)
Found = tuple[int, float, Any]  # decisions, CPU seconds, the arms chosen


def main() -> None:
    """Simulate with the peer named, for the seed given, and say what it took."""
    simulate = {
        "pymab": pymab,
        "obp": obp,
        "obp drawn before": obp_drawn_before,
        "mabwiser": mabwiser,
    }[sys.argv[1]]
    # What they print on the way goes nowhere: a terminal's time is not theirs.
    with (
        open(os.devnull, "w") as nowhere,
        contextlib.redirect_stdout(nowhere),
        contextlib.redirect_stderr(nowhere),
    ):
        decisions, cpu_s, arms = simulate(int(sys.argv[2]))
    regret = [float((RATES.max() - RATES[chosen]).sum()) for chosen in arms]
    print(json.dumps({"decisions": decisions, "cpu_s": cpu_s, "regret": regret, "rss_mb": resident_mb()}))


def resident_mb() -> float:
    """The most that this process had resident; getrusage would count what it was forked from."""
    with open("/proc/self/status", encoding="utf-8") as status:
        return next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmHWM"))


def pymab(seed: int) -> Found:
    """Experiments of pymab's compiled core: 20 replications of 10,000 decisions."""
    from pymab import (  # pyright: ignore[reportMissingImports]
        BanditEnvironment,
        BernoulliReward,
        Experiment,
        ExperimentConfig,
    )
    from pymab.policies import BernoulliThompsonSamplingPolicy  # pyright: ignore[reportMissingImports]

    experiment = Experiment(
        environment=BanditEnvironment(RATES, BernoulliReward()),
        policies={"thompson": BernoulliThompsonSamplingPolicy(n_arms=10)},
        config=ExperimentConfig(10_000, 20, seed, backend="rust"),
    )
    start = time.process_time()
    result = experiment.run()
    return 200_000, time.process_time() - start, np.asarray(result.actions).reshape(20, 10_000)


def obp(seed: int) -> Found:
    """OBP's simulator for 10,000 rounds, each drawn when it is its turn."""
    simulator, _ = _obp_simulator(seed)
    return _timed(lambda: simulator.steps(n_rounds=10_000), simulator)


def obp_drawn_before(seed: int) -> Found:
    """OBP's simulator for 10,000 rounds whose rewards, of all arms, are drawn before, together."""
    simulator, environment = _obp_simulator(seed)
    return _timed(
        lambda: simulator.steps(batch_bandit_rounds=environment.next_bandit_round_batch(n_rounds=10_000)),
        simulator,
    )


def _obp_simulator(seed: int) -> tuple[Any, Any]:
    sys.meta_path.insert(0, StandIn())  # pyright: ignore[reportArgumentType]
    from obp.policy import BernoulliTS  # pyright: ignore[reportMissingImports]
    from obp.simulator.simulator import (  # pyright: ignore[reportMissingImports]
        BanditEnvironmentSimulator,
        BanditPolicySimulator,
    )

    def rates(context: Any, action_context: Any = None, random_state: Any = None, **_: Any) -> Any:
        return np.tile(RATES, (len(context), 1))

    environment = BanditEnvironmentSimulator(n_actions=10, reward_function=rates, random_state=seed)
    policy = BernoulliTS(n_actions=10, random_state=seed)
    return BanditPolicySimulator(policy=policy, environment=environment), environment


def _timed(steps: Callable[[], None], simulator: Any) -> Found:
    start = time.process_time()
    steps()
    return 10_000, time.process_time() - start, simulator.selected_actions[None]


def mabwiser(seed: int) -> Found:
    """MABWiser's simulator, which replays a log of 4,000 random decisions, half to learn, half one by one.

    It meets the logged arm's reward only, so that its regret is another question, and is not told.
    """
    from mabwiser.mab import MAB, LearningPolicy  # pyright: ignore[reportMissingImports]
    from mabwiser.simulator import Simulator  # pyright: ignore[reportMissingImports]

    rng = np.random.default_rng(seed)
    arms = rng.integers(0, 10, 4000)
    bandit = MAB(list(range(10)), LearningPolicy.ThompsonSampling(), seed=seed)
    rewards = (rng.random(4000) < RATES[arms]).astype(int)
    simulator = Simulator(
        [("thompson", bandit)],
        arms,
        rewards,
        test_size=0.5,
        is_ordered=True,
        batch_size=1,
        seed=seed,
        is_quick=True,
    )
    logging.disable()
    start = time.process_time()
    simulator.run()
    return 2000, time.process_time() - start, []


if __name__ == "__main__":
    main()

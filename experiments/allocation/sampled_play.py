"""Bernoulli arms played by a sampled policy: one replication by the compiled loop, or many by NumPy."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from experiments.allocation import sampled_loop as loop
from experiments.allocation.sampled_loop import Floats, Integers, Running
from experiments.model import PolicyKind

_AT_ONCE = 1 << 18  # draws that NumPy makes at once: a few MB


@dataclass(frozen=True, slots=True)
class SampledPolicy:
    """`thompson` or `top_two` on Beta posteriors that stand still for `update_every` decisions at a time.

    `control`, `control_share` and `floor` as in `sampled.choices`; `priors` are alpha and beta, for all arms
    or for each.
    """

    kind: PolicyKind = PolicyKind.THOMPSON
    control: int = 0
    control_share: float = 0.0
    floor: float = 0.0
    update_every: int = 1
    priors: tuple[tuple[float, float], ...] = ((1.0, 1.0),)

    def __post_init__(self) -> None:
        if self.update_every < 1:
            raise ValueError(
                f"update_every is {self.update_every}: posteriors stand still for 1 decision or more"
            )
        if not all(1e-300 <= parameter < np.inf for prior in self.priors for parameter in prior):
            raise ValueError(f"priors are {self.priors}: Beta needs finite parameters, from 1e-300")

    def prior_of(self, n_arms: int) -> Floats:
        """Alpha and beta of every arm before the first decision, shape (2, n_arms)."""
        if len(self.priors) not in (1, n_arms):
            raise ValueError(
                f"priors of {len(self.priors)} arms for {n_arms}: give one for all, or one for each"
            )
        return np.ascontiguousarray(np.broadcast_to(np.array(self.priors, np.float64).T, (2, n_arms)))


@dataclass(frozen=True, slots=True)
class Played:
    """What came of replications: `regret` (replications, times); `pulls`, `successes` (replications, arms).

    Regret is in successes given away: the best arm's rate less the chosen one's, summed over decisions.
    """

    regret: Floats
    pulls: Integers
    successes: Integers


def play(
    run: Running,
    policy: SampledPolicy,
    rates: Sequence[float],
    times: Sequence[int],
    *,
    rng: np.random.Generator,
) -> Played:
    """One replication of times[-1] decisions, reward at once, by `run` of `sampled_loop`, compiled or not.

    `rates` are the arms' true ones, `times` (ascending, from 1) those at which regret is kept. Monte-Carlo
    error: of independent replications.

    >>> played = play(loop.run, SampledPolicy(), [0.0, 1.0], [100], rng=np.random.default_rng(1))
    >>> played.pulls.sum(), played.successes[0, 1] == played.pulls[0, 1], played.regret[0, 0] < 10
    (np.int64(100), np.True_, np.True_)
    """
    _require_playable(policy, rates, times)
    n_arms = len(rates)
    alpha, beta = policy.prior_of(n_arms)
    arms = loop.posteriors(alpha, beta)
    learnt = arms if policy.update_every == 1 else arms.copy()
    rules: loop.Rules = (
        policy.kind is PolicyKind.TOP_TWO,
        policy.control,
        float(policy.control_share),
        float(policy.floor),
        policy.update_every,
    )
    pulls, regret = np.zeros(n_arms, np.int64), np.zeros(len(times))
    true, kept_at = np.array(rates, np.float64), np.array(times, np.int64)
    place = np.zeros(3, np.int64)
    place[loop.FORCED] = -1
    while (leader := run(arms, learnt, rules, true, kept_at, pulls, regret, place, rng)) != loop.DONE:
        place[loop.FORCED] = _challenger(arms, leader, rng)
    successes = np.rint(learnt[loop.ALPHA] - alpha).astype(np.int64)
    return Played(regret[None], pulls[None], successes[None])


def _challenger(arms: Floats, leader: int, rng: np.random.Generator) -> int:
    """Another arm than the leader by its exact law."""
    # The quadrature brings SciPy, 50 MB that the loop does without.
    from experiments.allocation.sampled import challenger_chances
    from experiments.posteriors.beta import Beta

    shapes = zip(arms[loop.ALPHA].tolist(), arms[loop.BETA].tolist(), strict=True)
    chances = challenger_chances([Beta(alpha, beta) for alpha, beta in shapes], leader)
    return int(rng.choice(len(chances), p=chances))


def play_many(
    policy: SampledPolicy,
    rates: Sequence[float],
    times: Sequence[int],
    replications: int,
    *,
    rng: np.random.Generator,
) -> Played:
    """Replications side by side by `sampled.choices`: the law of `play`, other random numbers, no Numba.

    >>> played = play_many(SampledPolicy(), [0.0, 1.0], [50, 100], 3, rng=np.random.default_rng(1))
    >>> played.pulls.sum(axis=1).tolist(), played.regret.shape
    ([100, 100, 100], (3, 2))
    """
    from experiments.allocation.sampled import BetaTable, choices

    _require_playable(policy, rates, times)
    true = np.array(rates, np.float64)
    shape = (replications, len(true))
    pulls, successes = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    alpha, beta = policy.prior_of(len(true))
    known = BetaTable(successes + alpha, pulls + beta)
    regret = np.empty((replications, len(times)))
    most, rows = max(1, _AT_ONCE // (replications * len(true))), np.arange(replications)[:, None] * len(true)
    now = recorded = 0
    while now < times[-1]:
        look = now - now % policy.update_every + policy.update_every
        n = min(look, times[recorded], now + most) - now
        arms = choices(
            policy.kind,
            known,
            n,
            control=policy.control,
            control_share=policy.control_share,
            floor=policy.floor,
            rng=rng,
        )
        cells, lucky = rows + arms, rng.random(arms.shape) < true[arms]
        pulls += np.bincount(cells.ravel(), minlength=pulls.size).reshape(shape)
        successes += np.bincount(cells[lucky], minlength=pulls.size).reshape(shape)
        now += n
        if now == look:
            known = BetaTable(successes + alpha, pulls - successes + beta)
        if now == times[recorded]:
            regret[:, recorded] = pulls @ (true.max() - true)
            recorded += 1
    return Played(regret, pulls, successes)


def _require_playable(policy: SampledPolicy, rates: Sequence[float], times: Sequence[int]) -> None:
    loop.require_feasible(policy.kind, len(rates), policy.control_share, policy.floor)
    if not all(0 <= rate <= 1 for rate in rates):
        raise ValueError(f"rates are {list(rates)}: each is a probability")
    if not 0 <= policy.control < len(rates):
        raise ValueError(f"control is arm {policy.control} of {len(rates)}")
    if not times or times[0] < 1 or any(later <= time for time, later in pairwise(times)):
        raise ValueError("times are numbers of decisions, from 1 and ascending, at least one")

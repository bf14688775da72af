"""The policies by sampling: an arm for each decision, from draws of the posteriors, without any shares.

The second evaluation of `thompson`, `top_two` and `fixed`: equal in law to `thompson.shares`, but vectorised
over replications, so that a simulator can decide thousands of times a second without a quadrature. What
is published and served is always the shares. Caps are not here: min(share, cap) needs the share itself,
which a draw does not know; a simulation with caps takes the shares. `sampled_loop` is the same for Numba to
compile, where arms are proportions and rewards come at once.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from experiments.allocation.sampled_loop import require_feasible
from experiments.model import PolicyKind
from experiments.posteriors.beta import Beta
from experiments.posteriors.compare import prob_best
from experiments.posteriors.normal import StudentT
from experiments.posteriors.protocol import FloatArray, Posterior

IntArray = NDArray[np.intp]

_REDRAWS = 64


class PosteriorTable(Protocol):
    """Posteriors of every arm in every replication, oriented so that more is better."""

    @property
    def shape(self) -> tuple[int, int]:
        """Replications, arms."""
        ...

    def draw(self, rows: IntArray, *, rng: np.random.Generator) -> FloatArray:
        """One joint draw of all arms for each replication named, shape (n_rows, n_arms)."""
        ...

    def of(self, row: int) -> Sequence[Posterior]:
        """The posteriors of one replication."""
        ...


@dataclass(frozen=True, slots=True)
class BetaTable:
    """Beta(alpha, beta) of each arm in each replication; both arrays (n_replications, n_arms)."""

    alpha: FloatArray
    beta: FloatArray

    @property
    def shape(self) -> tuple[int, int]:
        """Replications, arms."""
        return self.alpha.shape[0], self.alpha.shape[1]

    def draw(self, rows: IntArray, *, rng: np.random.Generator) -> FloatArray:
        """One joint draw for each row, (n_rows, n_arms)."""
        return rng.beta(self.alpha[rows], self.beta[rows])

    def of(self, row: int) -> list[Posterior]:
        """The posteriors of one replication."""
        shapes = zip(self.alpha[row].tolist(), self.beta[row].tolist(), strict=True)
        return [Beta(alpha, beta) for alpha, beta in shapes]


@dataclass(frozen=True, slots=True)
class StudentTable:
    """Student-t of each arm in each replication; three arrays (n_replications, n_arms), df finite."""

    location: FloatArray
    scale: FloatArray
    df: FloatArray

    @property
    def shape(self) -> tuple[int, int]:
        """Replications, arms."""
        return self.location.shape[0], self.location.shape[1]

    def draw(self, rows: IntArray, *, rng: np.random.Generator) -> FloatArray:
        """One joint draw for each row, (n_rows, n_arms)."""
        return self.location[rows] + self.scale[rows] * rng.standard_t(self.df[rows])

    def of(self, row: int) -> list[Posterior]:
        """The posteriors of one replication."""
        named = (self.location[row].tolist(), self.scale[row].tolist(), self.df[row].tolist())
        return [StudentT(location, scale, df) for location, scale, df in zip(*named, strict=True)]


def choices(
    kind: PolicyKind,
    posteriors: PosteriorTable,
    n: int = 1,
    *,
    control: int = 0,
    control_share: float = 0.0,
    floor: float = 0.0,
    rng: np.random.Generator,
) -> IntArray:
    """The arms of n decisions under the posteriors as they stand, shape (n_replications, n).

    With probability control_share the control, with (K - 1) floor a treatment at random, else the arm of
    `thompson` (the best in one joint draw) or of `top_two`: the mixture that the shares are. Decisions are
    independent. Top-two draws again until another arm than the first is best; after 64 vain draws the
    challenger comes from its exact law, P(best) of the others, at 0.3 ms for a decision of ten arms.

    >>> table = BetaTable(np.array([[1.0, 1.0]]), np.array([[1e6, 1.0]]))
    >>> choices(PolicyKind.THOMPSON, table, 3, rng=np.random.default_rng(1))
    array([[1, 1, 1]])
    """
    replications, n_arms = posteriors.shape
    require_feasible(kind, n_arms, control_share, floor)
    arms = _kept_apart(replications * n, n_arms, control, control_share, floor, rng)
    free = np.flatnonzero(arms < 0)
    rows = free // n
    arms[free] = _best(posteriors, rows, rng)
    if kind is PolicyKind.TOP_TWO and n_arms > 1:
        second = rng.random(len(free)) < 0.5
        places = free[second]
        arms[places] = _challengers(posteriors, rows[second], arms[places], rng)
    return arms.reshape(replications, n)


def fixed_choices(
    shares: Sequence[float], replications: int, n: int = 1, *, rng: np.random.Generator
) -> IntArray:
    """The arms of n decisions under given shares (summing to 1), shape (n_replications, n).

    >>> fixed_choices([0.0, 1.0], 2, rng=np.random.default_rng(1)).tolist()
    [[1], [1]]
    """
    return rng.choice(len(shares), (replications, n), p=np.asarray(shares, dtype=np.float64))


def _kept_apart(
    n: int, n_arms: int, control: int, control_share: float, floor: float, rng: np.random.Generator
) -> IntArray:
    """The arm of the decisions that control's share and the floors keep for it, -1 for all others."""
    arms = np.full(n, -1, dtype=np.intp)
    if control_share == 0 or n_arms == 1:
        return arms
    u = rng.random(n)
    arms[u < control_share] = control
    treatments = [arm for arm in range(n_arms) if arm != control]
    for number, arm in enumerate(treatments):
        low = control_share + number * floor
        arms[(low <= u) & (u < low + floor)] = arm
    return arms


def _best(posteriors: PosteriorTable, rows: IntArray, rng: np.random.Generator) -> IntArray:
    """The best arm of one joint draw for each row; points that tie share equally, as in `prob_best`."""
    draws = posteriors.draw(rows, rng=rng)
    arms = draws.argmax(axis=1)
    leading = draws == draws[np.arange(len(rows)), arms][:, None]
    for row in np.flatnonzero(leading.sum(axis=1) > 1):
        arms[row] = rng.choice(np.flatnonzero(leading[row]))
    return arms


def _challengers(
    posteriors: PosteriorTable, rows: IntArray, leaders: IntArray, rng: np.random.Generator
) -> IntArray:
    """The best arm of a draw in which it is not the leader, for each row.

    Vain draws leave the law of what is still to come as it was, so it may be taken over at any time.
    """
    arms = leaders.copy()
    vain = np.arange(len(rows))
    for _ in range(_REDRAWS):
        arms[vain] = _best(posteriors, rows[vain], rng)
        vain = vain[arms[vain] == leaders[vain]]
        if not len(vain):
            return arms
    for place in vain.tolist():
        chances = challenger_chances(posteriors.of(int(rows[place])), int(leaders[place]))
        arms[place] = rng.choice(len(chances), p=chances)
    return arms


def challenger_chances(posteriors: Sequence[Posterior], leader: int) -> FloatArray:
    """P(best) of each arm given that it is not the leader, shape (n_arms,); 0 for the leader.

    >>> challenger_chances([Beta(9.0, 1.0), Beta(2.0, 2.0), Beta(2.0, 2.0)], 0).round(6)
    array([0. , 0.5, 0.5])
    """
    chances = prob_best(posteriors)
    chances[leader] = 0.0
    if chances.sum() == 0:  # nobody but the leader has a chance: the others share equally
        chances[:] = 1.0
        chances[leader] = 0.0
    return chances / chances.sum()

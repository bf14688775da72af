"""Goal and guardrails drawn together: how often each variant is the best of those that harm nothing.

Symbols: variants k = 0 .. K-1 of one candidate set (one of them the control c), guardrails j = 1 .. G.

In each draw variant k has a goal x_k and guardrail figures y_kj, correlated within the variant and
independent between variants; the control's are one draw, common to all comparisons. A treatment is struck
out of the draw when for some j its figure is worse than control's by more than the throttle margin m_j:
y_kj > (1 + m_j) y_cj where more is bad, y_kj < (1 - m_j) y_cj where less is, y_cj +- m_j for a metric that
is measured by difference. The control is never struck out. The greatest x_k of the rest wins the draw, and
P(best) is the fraction of draws won. (P(best and harmless), renormalised, would hand all traffic to a
variant that is surely best and surely harmful.)

Draws    2^14 points of a scrambled Sobol net in K (1 + G) dimensions, each coordinate at the middle of its
         stratum of width 2^-14, so that every margin is the same 16,384 normal scores, permuted.
Copula   Gaussian: scores are multiplied by the Cholesky root of the variant's posterior correlation, then
         carried to the exact margins (Beta, Student-t).
Margins  the goal's quantiles by cubic Hermite interpolation of 35 exact ones, then linearly at steps of
         1/32 of a standard deviation: an error of about 1e-4 standard deviations. A guardrail is compared
         where it costs less, in the treatment's normal scores: z_kj > h(z_cj), h tabulated at 49 points.
Error    of a probability about 1e-3 for ten variants and 2.5e-3 for a hundred, against quadrature.
Limits   a dependence beyond correlation is not represented; with posteriors of many units there is none
         (Bernstein-von Mises). Arms equal to the last bit tie in one draw of 16,384, which the first wins.

Sources: Owen, Scrambling Sobol' and Niederreiter-Xing points (1998); Nelsen, An Introduction to Copulas
(2006), 5.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from experiments.allocation.nets import DRAWS, scrambled_net
from experiments.errors import BrokenInvariant
from experiments.posteriors.beta import Beta
from experiments.posteriors.log_normal import ShiftedLogNormal
from experiments.posteriors.normal import StudentT
from experiments.posteriors.protocol import FloatArray, Posterior

_KNOTS = np.linspace(-4.25, 4.25, 35)
_FINE = np.linspace(-4.25, 4.25, 273)
_LIMITS = np.linspace(-6.0, 6.0, 49)
_STRUCK_OUT = -1e300
"""Added to a goal that may not win: below any figure. Who is left out stands lower still, but the control."""
_NEARLY_ONE = 1.0 - 1e-9  # two metrics that are one and the same have no Cholesky root


@dataclass(frozen=True, slots=True)
class Limit:
    """How much worse than control a metric may be: `margin` > 0, relative or (`absolute`) in its own unit."""

    metric: str
    margin: float
    is_up_bad: bool
    absolute: bool

    def of(self, control: FloatArray) -> FloatArray:
        """The value beyond which a treatment is struck out, given control's."""
        signed = self.margin if self.is_up_bad else -self.margin
        return control + signed if self.absolute else control * (1.0 + signed)


@dataclass(frozen=True, slots=True)
class JointArm:
    """One variant: its goal (more is better), its guardrails and their correlation.

    `guards` stand in the order of the limits, None where the metric cannot be read (then it strikes
    nothing); `correlation` has shape (1 + G, 1 + G), the goal first.
    """

    goal: Posterior
    guards: tuple[Posterior | None, ...]
    correlation: tuple[tuple[float, ...], ...]


@dataclass(frozen=True, slots=True)
class Joint:
    """What one candidate set is drawn from; with the seed it can be drawn again, to the last bit."""

    keys: tuple[str, ...]
    control: str
    limits: tuple[Limit, ...]
    arms: tuple[JointArm, ...]
    seed: int

    def to_json(self) -> dict[str, Any]:
        """Plain values; `from_json` gives an equal joint posterior back."""
        return {
            "candidates": list(self.keys),
            "control": self.control,
            "seed": self.seed,
            "draws": DRAWS,
            "limits": [
                {"metric": x.metric, "margin": x.margin, "is_up_bad": x.is_up_bad, "absolute": x.absolute}
                for x in self.limits
            ],
            "arms": [
                {
                    "goal": _plain(arm.goal),
                    "guards": [None if guard is None else _plain(guard) for guard in arm.guards],
                    "correlation": [list(row) for row in arm.correlation],
                }
                for arm in self.arms
            ],
        }

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> "Joint":
        """The joint posterior that `to_json` wrote."""
        arms = (
            JointArm(
                _posterior(arm["goal"]),
                tuple(None if guard is None else _posterior(guard) for guard in arm["guards"]),
                tuple(tuple(map(float, row)) for row in arm["correlation"]),
            )
            for arm in plain["arms"]
        )
        limits = tuple(Limit(**limit) for limit in plain["limits"])
        return cls(tuple(plain["candidates"]), plain["control"], limits, tuple(arms), plain["seed"])


@dataclass(frozen=True, slots=True)
class Wins:
    """Of all draws, the fraction each variant won, and the fraction each was struck out of; both (K,)."""

    won: FloatArray
    struck: FloatArray


def seed_of(experiment: str, version: int) -> int:
    """The seed of a version's draws: 48 bits, so that every JSON reader keeps it whole.

    >>> seed_of("checkout-addon", 7) == seed_of("checkout-addon", 8)
    False
    """
    framed = f"{len(experiment)}:{experiment}:{version}".encode()
    return int.from_bytes(blake2b(framed, digest_size=6).digest())


def draw_wins(joint: Joint, *, without: str | None = None) -> Wins:
    """Draw the set and count; `without` leaves one variant out of the race (who would win in its place).

    >>> fair = Beta(30.0, 70.0)
    >>> alone = ((1.0, 0.0), (0.0, 1.0))
    >>> arms = (JointArm(fair, (fair,), alone), JointArm(Beta(60.0, 40.0), (Beta(90.0, 10.0),), alone))
    >>> limits = (Limit("refund_rate", 0.2, is_up_bad=True, absolute=False),)
    >>> draw_wins(Joint(("none", "socks"), "none", limits, arms, seed=1)).won.tolist()
    [1.0, 0.0]
    """
    size, control = 1 + len(joint.limits), joint.keys.index(joint.control)
    dimensions = len(joint.arms) * size
    goals = goal_tables([arm.goal for arm in joint.arms])
    tables = _limit_tables(joint, control)
    roots = [_root(arm) for arm in joint.arms]
    left_out = -1 if without is None else joint.keys.index(without)
    net = scrambled_net(dimensions, joint.seed)
    struck = np.zeros(len(joint.arms))
    drawn = np.empty((len(joint.arms), DRAWS))
    of_control = net.strata(control * size, size)
    place = _control_places(of_control, roots[control])
    for k in range(len(joint.arms)):
        own = of_control if k == control else net.strata(k * size, size)
        goals[k].take(own[0], out=drawn[k], mode="clip")
        if k != control:
            out = _struck(own, roots[k], tables[k], place)
            struck[k] = np.count_nonzero(out)
            drawn[k] += out * _STRUCK_OUT  # a third of what assigning under the mask costs
    if left_out >= 0:
        drawn[left_out] = 0.5 * _STRUCK_OUT if left_out == control else 2.0 * _STRUCK_OUT
    return Wins(_wins(drawn) / DRAWS, struck / DRAWS)


def _wins(drawn: FloatArray) -> NDArray[np.int64]:
    """How many columns each row is the greatest of; of equal ones the first."""
    highest = drawn.max(axis=0)
    won = np.array([np.count_nonzero(row == highest) for row in drawn])  # four times as fast as argmax
    if won.sum() > drawn.shape[1]:
        won = np.bincount(drawn.argmax(axis=0), minlength=len(drawn))
    return won.astype(np.int64)


def _struck(
    own: NDArray[np.intp], root: FloatArray, tables: Sequence[FloatArray | None], place: Sequence[Any]
) -> NDArray[np.bool_]:
    """In which draws the variant is beyond some limit: its score past h at control's score."""
    scores = _scores()
    out = np.zeros(own.shape[1], dtype=np.bool_)
    drawn = scores.take(own)
    for j, table in enumerate(tables, start=1):
        if table is None:
            continue
        z = root[j, j] * drawn[j]
        for i in range(j):
            if root[j, i]:
                z += root[j, i] * drawn[i]
        index, rest = place[j]
        limit = table[0].take(index)
        limit += rest * table[1].take(index)
        limit -= z
        out |= limit < 0 if table[2, 0] > 0 else limit > 0
    return out


def _control_places(own: NDArray[np.intp], root: FloatArray) -> list[tuple[NDArray[np.intp], FloatArray]]:
    """Where control's scores lie in the tables of limits: index and remainder, goal and each guardrail."""
    drawn = _scores().take(own)
    places: list[tuple[NDArray[np.intp], FloatArray]] = []
    for j in range(len(own)):
        z = sum((root[j, i] * drawn[i] for i in range(j + 1)), np.zeros(own.shape[1]))
        t = (np.clip(z, _LIMITS[0], _LIMITS[-1]) - _LIMITS[0]) / (_LIMITS[1] - _LIMITS[0])
        index = np.minimum(t.astype(np.intp), len(_LIMITS) - 2)
        places.append((index, t - index))
    return places


def _limit_tables(joint: Joint, control: int) -> list[list[FloatArray | None]]:
    """For each variant and guardrail h and its steps over `_LIMITS`, (3, 49); None where nothing is struck.

    h(z) is the treatment's normal score of the limit that control's figure at score z sets. The third row
    holds +1 where scores above h are struck out, -1 where those below.
    """
    found: list[list[FloatArray | None]] = [[None] * len(joint.limits) for _ in joint.arms]
    for j, limit in enumerate(joint.limits):
        ours = joint.arms[control].guards[j]
        if ours is None:
            continue
        values = limit.of(np.asarray(ours.ppf(special.ndtr(_LIMITS)), dtype=np.float64))
        for k, arm in enumerate(joint.arms):
            theirs = arm.guards[j]
            if k == control or theirs is None:
                continue
            h = _scores_at(theirs, values)
            side = np.full_like(h, 1.0 if limit.is_up_bad else -1.0)
            found[k][j] = np.stack([h, np.append(np.diff(h), 0.0), side])
    return found


def _scores_at(posterior: Posterior, values: FloatArray) -> FloatArray:
    """The normal scores of values, each from the nearer tail, at most 40 either way."""
    is_below = (
        values < posterior.mean
    )  # of few degrees of freedom there is none, and the upper tail serves all
    scores = np.empty_like(values)
    scores[is_below] = special.ndtri(posterior.cdf(values[is_below]))
    scores[~is_below] = -special.ndtri(posterior.sf(values[~is_below]))
    return np.clip(scores, -40.0, 40.0)


def goal_tables(goals: Sequence[Posterior]) -> FloatArray:
    """The goal of each variant at every stratum's score, (K, 2^14)."""
    index, rest = _places()
    fine = _fine_quantiles(goals)
    steps = np.diff(fine, axis=1)
    tables = steps.take(index, axis=1)
    tables *= rest
    tables += fine.take(index, axis=1)
    return tables


def _fine_quantiles(goals: Sequence[Posterior]) -> FloatArray:
    """Quantiles at the scores `_FINE`, (K, 273): exact at every eighth, Hermite in between, never falling."""
    levels = special.ndtr(_KNOTS)
    if all(isinstance(goal, Beta) for goal in goals):
        alpha, beta = (
            np.array([[getattr(goal, name)] for goal in goals], dtype=np.float64)
            for name in ("alpha", "beta")
        )
        x: FloatArray = special.betaincinv(alpha, beta, levels)
    else:
        x = np.array([goal.ppf(levels) for goal in goals])
    slopes = _monotone_slopes(x)
    (h00, h10, h01, h11), left = _hermite()
    fine = h00 * x[:, left] + h10 * slopes[:, left] + h01 * x[:, left + 1] + h11 * slopes[:, left + 1]
    return np.maximum.accumulate(fine, axis=1)


def _monotone_slopes(x: FloatArray) -> FloatArray:
    """Slopes at equal knots, times their distance: fourth-order differences, at most 3 times a side's step.

    Source: Fritsch and Carlson, Monotone Piecewise Cubic Interpolation (1980), 3: no overshoot.
    """
    step = np.diff(x, axis=1)
    slopes = np.empty_like(x)
    slopes[:, 2:-2] = (8.0 * (x[:, 3:-1] - x[:, 1:-3]) - (x[:, 4:] - x[:, :-4])) / 12.0
    slopes[:, 1], slopes[:, -2] = 0.5 * (step[:, 0] + step[:, 1]), 0.5 * (step[:, -2] + step[:, -1])
    slopes[:, 0], slopes[:, -1] = step[:, 0], step[:, -1]
    most = 3.0 * np.minimum(step[:, :-1], step[:, 1:])
    slopes[:, 1:-1] = np.clip(slopes[:, 1:-1], 0.0, most)
    return slopes


def _root(arm: JointArm) -> FloatArray:
    """The lower Cholesky root of the correlation, shrunk by 1e-9 toward none."""
    matrix = np.array(arm.correlation)
    shrunk = _NEARLY_ONE * matrix + (1.0 - _NEARLY_ONE) * np.eye(len(matrix))
    return np.linalg.cholesky(shrunk).astype(np.float64)


@lru_cache(maxsize=1)
def _scores() -> FloatArray:
    """The normal score of the middle of each of the 2^14 strata."""
    return special.ndtri((np.arange(DRAWS) + 0.5) / DRAWS)


@lru_cache(maxsize=1)
def _places() -> tuple[NDArray[np.intp], FloatArray]:
    """Where the scores lie among `_FINE`: index and remainder."""
    t = (_scores() - _FINE[0]) / (_FINE[1] - _FINE[0])
    index = t.astype(np.intp)
    return index, t - index


@lru_cache(maxsize=1)
def _hermite() -> tuple[tuple[FloatArray, FloatArray, FloatArray, FloatArray], NDArray[np.intp]]:
    """Hermite's weights of the left value and slope, the right value and slope, and the left knot."""
    t = (_FINE - _KNOTS[0]) / (_KNOTS[1] - _KNOTS[0])
    left = np.minimum(t.astype(np.intp), len(_KNOTS) - 2)
    s = t - left
    weights = (2 * s**3 - 3 * s**2 + 1, s**3 - 2 * s**2 + s, -2 * s**3 + 3 * s**2, s**3 - s**2)
    return weights, left


def _plain(posterior: Posterior) -> dict[str, Any]:
    if isinstance(posterior, Beta):
        return {"alpha": posterior.alpha, "beta": posterior.beta}
    if isinstance(posterior, StudentT):
        df = None if np.isinf(posterior.df) else posterior.df  # JSON has no infinity
        return {"location": posterior.location, "scale": posterior.scale, "df": df}
    if isinstance(posterior, ShiftedLogNormal):
        return {"shift": posterior.shift, "m": posterior.m, "s": posterior.s}
    raise BrokenInvariant(f"no plain form of {type(posterior).__name__}")


def _posterior(plain: Mapping[str, Any]) -> Posterior:
    if "alpha" in plain:
        return Beta(plain["alpha"], plain["beta"])
    if "shift" in plain:
        return ShiftedLogNormal(plain["shift"], plain["m"], plain["s"])
    df = np.inf if plain["df"] is None else plain["df"]
    return StudentT(plain["location"], plain["scale"], df)

"""Bernoulli arms decided by sampling, decision after decision: the loop that Numba compiles.

The compiled form of `sampled.choices` for Beta posteriors: equal to it in law, from other random numbers.
Who is best in one joint draw is found without drawing every arm. The one with the highest mean is drawn,
theta = x. Of any other, with alpha, beta >= 1 and density f, only what lies above x matters. log f is
concave, so for d >= 0, where s = -(log f)'(x) > 0,

    f(x + d) <= f(x) exp(-s d)

If the mass under that envelope, f(x) / s, is below 1, the arm is proposed with this probability, at x + d
with d exponential of rate s, and accepted with probability f(x + d) / (f(x) exp(-s d)). A value x + d then
has the density f(x) / s * s exp(-s d) * f(x + d) / (f(x) exp(-s d)) = f(x + d), exactly the arm's own, and
the arm stays below with the rest, P(theta <= x). An accepted value is the new x for the arms that follow.
Whether an arm is drawn or proposed depends on posteriors and x alone, so that arms stay independent.
(A tail under a tangent of the log density: Devroye, Non-Uniform Random Variate Generation, 1986, VII.2.)

Rounding makes a probability wrong by 2^-53 at most, and f, whose constant is added up from update to
update, by about a millionth: above 2^24 units, and with a parameter below 1, all arms are drawn.
"""

from collections.abc import Callable
from importlib import import_module
from math import ceil, exp, inf, lgamma, log, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments.model import PolicyKind

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

ALPHA, BETA, MEAN, LOG_NORM, SCALE, ROOT_ALPHA, ROOT_BETA = 0, 1, 2, 3, 4, 5, 6
"""Rows of the posteriors, an array (7, arms): Beta(alpha, beta), its mean, the constant of its density as a
logarithm and a factor, so that an update needs none, and 1 / sqrt(9 a - 3) of both, for their gamma draws."""
NOW, FORCED, RECORDED = 0, 1, 2
"""Where a run stands, three integers: decisions made, the arm of the next one or -1, times recorded."""
DONE = -1

_LARGEST = 2.0**24  # units of an arm up to which the envelope serves
_OVERFULL = 1e100  # above which the factor is taken into the logarithm
_KEPT = 3 / (4 * 0.8**4) + 1e-9  # see `gamma`; a little more, for rounding
_VAIN = 256  # draws of a challenger, after which its exact law costs less


Rules = tuple[bool, int, float, float, int]
"""top_two, control, control_share and floor as in `sampled.choices`, and decisions from look to look. A plain
tuple: of a named one Numba would find out the type anew at every call, in 80 microseconds."""


def require_feasible(kind: PolicyKind, n_arms: int, control_share: float, floor: float) -> None:
    """ValueError unless the policy can be sampled, and floors and control's share leave it something."""
    if kind not in (PolicyKind.THOMPSON, PolicyKind.TOP_TWO):
        raise ValueError(f"{kind} has no sampled evaluation of posteriors")
    if not (0 <= floor <= control_share <= 1 and floor * (n_arms - 1) + control_share < 1 + 1e-12):
        raise ValueError(f"infeasible: floor {floor}, control_share {control_share}, {n_arms} variants")


def log_norm(alpha: float, beta: float) -> float:
    """-log B(alpha, beta); infinite where the arm has to be drawn: a parameter below 1, or too many units."""
    if alpha < 1 or beta < 1 or alpha + beta > _LARGEST:
        return inf
    return lgamma(alpha + beta) - lgamma(alpha) - lgamma(beta)


def posteriors(alpha: Floats, beta: Floats) -> Floats:
    """Beta posteriors of the arms as the loop holds them; alpha and beta of each, (arms,)."""
    norms = [log_norm(*shapes) for shapes in zip(alpha.tolist(), beta.tolist(), strict=True)]
    roots = [1 / np.sqrt(9 * np.maximum(shape, 1.0) - 3) for shape in (alpha, beta)]
    return np.array([alpha, beta, alpha / (alpha + beta), norms, np.ones(len(alpha)), *roots])


def learn(arms: Floats, arm: int, success: bool) -> None:
    """Update an arm's posterior by one reward; its constant by B(a + 1, b) = B(a, b) a / (a + b)."""
    alpha, beta, norm = arms[ALPHA, arm], arms[BETA, arm], arms[LOG_NORM, arm]
    size = alpha + beta
    if success:
        scale = arms[SCALE, arm] * (size / alpha)
        alpha += 1
        arms[ROOT_ALPHA, arm] = 1 / sqrt(9 * alpha - 3)
    else:
        scale = arms[SCALE, arm] * (size / beta)
        beta += 1
        arms[ROOT_BETA, arm] = 1 / sqrt(9 * beta - 3)
    if norm == inf or size + 1 > _LARGEST:
        norm, scale = log_norm(alpha, beta), 1.0
    elif scale > _OVERFULL:
        norm, scale = norm + log(scale), 1.0
    arms[ALPHA, arm], arms[BETA, arm], arms[MEAN, arm] = alpha, beta, alpha / (size + 1)
    arms[LOG_NORM, arm], arms[SCALE, arm] = norm, scale


def uniform(rng: np.random.Generator) -> float:
    """The next in (0, 1]."""
    return 1 - rng.random()


def gamma(shape: float, root: float, rng: np.random.Generator) -> float:
    """A draw of Gamma(shape, 1), shape >= 1, root = 1 / sqrt(9 shape - 3) (Marsaglia and Tsang 2000).

    With w = root z and d = shape - 1 / 3 a draw is kept with the probability exp(h), h = 3 d (log(1 + w) - w
    + w^2 / 2 - w^3 / 3): 3 d times Taylor's remainder, -w^4 / (4 (1 + c)^4), c between 0 and w. From w = -0.2
    up exp(h) >= 1 + h >= 1 - 3 d w^4 / (4 * 0.8^4), which spares most draws their logarithms.
    """
    d = shape - 1 / 3
    while True:
        z = rng.standard_normal()
        w = root * z
        if w <= -1:
            continue
        v = (1 + w) * (1 + w) * (1 + w)
        u = uniform(rng)
        if w > -0.2 and u < 1 - _KEPT * d * w * w * w * w:
            return d * v
        if log(u) < 0.5 * z * z + d * (1 - v + log(v)):
            return d * v


def log_gamma(shape: float, rng: np.random.Generator) -> float:
    """The logarithm of a draw of Gamma(shape, 1), also where the draw itself would be 0."""
    if shape >= 1:
        return log(gamma(shape, 1 / sqrt(9 * shape - 3), rng))
    above = gamma(shape + 1, 1 / sqrt(9 * shape + 6), rng)
    return log(above) + log(uniform(rng)) / shape


def best_of_draws(arms: Floats, rng: np.random.Generator) -> int:
    """The best arm of one joint draw, all arms drawn, compared by log-odds: near 0 and 1 none tie there."""
    best, most = 0, -inf
    for arm in range(arms.shape[1]):
        log_odds = log_gamma(arms[ALPHA, arm], rng)
        log_odds -= log_gamma(arms[BETA, arm], rng)
        if log_odds > most:
            best, most = arm, log_odds
    return best


def leading(arms: Floats) -> tuple[int, float]:
    """The arm with the highest mean, and the highest mean of the others."""
    first, highest, second = 0, -inf, -inf
    for arm in range(arms.shape[1]):
        mean = arms[MEAN, arm]
        if mean > highest:
            first, highest, second = arm, mean, highest
        elif mean > second:
            second = mean
    return first, second


def best_arm(arms: Floats, first: int, rng: np.random.Generator) -> int:
    """The best arm of one joint draw; by the envelope of the module's docstring where all arms allow it.

    `first` is the arm drawn outright. An arm that does not allow the envelope is met whatever was drawn, so
    that all arms are then drawn anew, apart from what led there.
    """
    if arms[LOG_NORM, first] == inf:
        return best_of_draws(arms, rng)
    g = gamma(arms[ALPHA, first], arms[ROOT_ALPHA, first], rng)
    h = gamma(arms[BETA, first], arms[ROOT_BETA, first], rng)
    x, y = g / (g + h), h / (g + h)  # y = 1 - x, with all its digits
    log_x, log_y, per_x, per_y = log(x), log(y), (g + h) / g, (g + h) / h
    best = first
    # One uniform serves until an arm is proposed: given that it is above what it was held against, it is
    # uniform over the `left` that remains.
    u, left = uniform(rng), 1.0
    for arm in range(arms.shape[1]):
        if arm == first:
            continue
        p, q = arms[ALPHA, arm] - 1, arms[BETA, arm] - 1
        slope = q * per_y - p * per_x
        density = arms[SCALE, arm] * exp(p * log_x + q * log_y + arms[LOG_NORM, arm])
        if density < slope:
            mass = left * (density / slope)  # in this order the next arm need not wait for the division
            if u > mass:
                u -= mass
                left -= mass
                continue
            u, left = uniform(rng), 1.0
            step = rng.standard_exponential() / slope
            if step >= y:
                continue
            log_above, log_below = log(x + step), log(y - step)
            held = p * (log_above - log_x) + q * (log_below - log_y) + slope * step
            if rng.standard_exponential() < -held:
                continue
            x, y, log_x, log_y = x + step, y - step, log_above, log_below
        else:
            if arms[LOG_NORM, arm] == inf:
                return best_of_draws(arms, rng)
            g = gamma(arms[ALPHA, arm], arms[ROOT_ALPHA, arm], rng)
            h = gamma(arms[BETA, arm], arms[ROOT_BETA, arm], rng)
            if g / (g + h) <= x:
                continue
            x, y = g / (g + h), h / (g + h)
            log_x, log_y = log(x), log(y)
        best, per_x, per_y = arm, 1 / x, 1 / y
    return best


def kept_apart(n_arms: int, rules: Rules, rng: np.random.Generator) -> int:
    """The arm for which control's share or a floor keeps this decision, -1 for none."""
    _, control, control_share, floor, _ = rules
    if control_share == 0 or n_arms == 1:
        return -1
    u = uniform(rng) - control_share
    if u <= 0:
        return control
    if u > (n_arms - 1) * floor:
        return -1
    treatment = min(ceil(u / floor), n_arms - 1) - 1
    return treatment + 1 if treatment >= control else treatment


def decision(arms: Floats, first: int, rules: Rules, rng: np.random.Generator) -> int:
    """The arm of one decision, or -1 - leader where the leader's challenger was not found in many draws."""
    n_arms = arms.shape[1]
    arm = kept_apart(n_arms, rules, rng)
    if arm >= 0:
        return arm
    leader = -1
    for _ in range(
        _VAIN
    ):  # the leader's draw stands in here too, since the compiler builds in what is called once
        arm = best_arm(arms, first, rng)
        if leader < 0:
            if not rules[0] or n_arms == 1 or uniform(rng) > 0.5:
                return arm
            leader = arm
        elif arm != leader:
            return arm
    return -1 - leader


def run(
    arms: Floats,
    learnt: Floats,
    rules: Rules,
    rates: Floats,
    times: Integers,
    pulls: Integers,
    regret: Floats,
    place: Integers,
    rng: np.random.Generator,
) -> int:
    """Decide, see the reward and learn until times[-1] decisions are made: DONE, or a leader.

    For a leader a challenger is wanted, by its exact law: whoever calls names it in `place`, and calls again.
    `arms` (7, arms) are the posteriors decisions are made by, `learnt` those after every reward: one and the
    same array where each decision is learnt from at once. `rates` and `pulls` (arms), `times` ascending and
    `regret` at them, the sum over decisions of the best rate less the arm's; `place` as above.
    """
    update_every, most = rules[4], rates[0]
    for k in range(
        len(rates)
    ):  # by hand, as below: what arrays do at once takes Numba seconds and 30 MB to compile
        most = max(most, rates[k])
    first, second = leading(arms)
    while place[NOW] < times[-1]:
        arm = place[FORCED]
        if arm < 0:
            arm = decision(arms, first, rules, rng)
        if arm < 0:
            return -1 - arm
        place[FORCED] = -1
        pulls[arm] += 1
        learn(learnt, arm, rng.random() < rates[arm])
        place[NOW] += 1
        if update_every == 1:
            overtaken = arms[MEAN, first] < second if arm == first else arms[MEAN, arm] > second
        else:
            overtaken = place[NOW] % update_every == 0
            if overtaken:
                for k in range(len(rates)):
                    for row in range(7):
                        arms[row, k] = learnt[row, k]
        if overtaken:
            first, second = leading(arms)
        if place[NOW] == times[place[RECORDED]]:
            given_away = 0.0
            for k in range(len(rates)):
                given_away += pulls[k] * (most - rates[k])
            regret[place[RECORDED]] = given_away
            place[RECORDED] += 1
    return DONE


Running = Callable[..., int]
"""How `run` is called, compiled or not."""


class Compiled:
    """What this process has compiled, if anything."""

    run: Running | None = None


def compile_loop() -> Running | None:
    """`run` compiled, once in a process; None where Numba is not installed.

    It takes a second or two, less where an earlier process could keep the result beside this file.
    """
    if Compiled.run is not None:
        return Compiled.run
    try:
        numba: Any = import_module("numba")
    except ImportError:
        return None
    built_in: Any = import_module("numba.extending").register_jitable(forceinline=True)
    parts = (
        log_norm,
        learn,
        uniform,
        gamma,
        log_gamma,
        best_of_draws,
        leading,
        best_arm,
        kept_apart,
        decision,
    )
    for part in parts:
        built_in(part)
    # Divisions follow IEEE 754, as everywhere in NumPy, instead of being looked at one by one.
    options = {"nogil": True, "error_model": "numpy"}
    try:
        Compiled.run = numba.njit(cache=True, **options)(run)
    except RuntimeError:  # nowhere to keep it
        Compiled.run = numba.njit(**options)(run)
    return Compiled.run

"""Laplace's logistic regression: against SciPy's optimiser, exact integration and finite differences."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import integrate, optimize, special, stats

from experiments.errors import BrokenInvariant
from experiments.posteriors import logistic
from experiments.posteriors.logistic import UNIFORM_VARIANCE, Trials, coupled_logistic
from tests.statistical import SBC_LIMIT, SBC_POSTERIOR_DRAWS, sbc_chi_square

Floats = NDArray[np.float64]


def random_trials(seed: int, rows: int = 40, arms: int = 2, width: int = 3, effects: int = 2) -> Trials:
    rng = np.random.default_rng(seed)
    x = np.column_stack([np.ones(rows), rng.integers(0, 2, (rows, width - 1))]).astype(np.float64)
    trials = rng.integers(1, 60, rows).astype(np.float64)
    arm, effect = rng.integers(0, arms, rows), rng.integers(0, effects + 1, rows)
    rate = special.expit(-1.5 + 0.8 * x[:, 1] * arm + 0.4 * effect)
    return Trials(arm, effect, x, trials, rng.binomial(trials.astype(int), rate).astype(np.float64))


def loss(theta: Floats, means: Floats, variance: Floats, data: Trials, effects: int) -> float:
    """Written out unit by unit, as the docstring says it."""
    arms, width = means.shape
    beta, alpha = theta[: arms * width].reshape(arms, width), np.concatenate([[0.0], theta[arms * width :]])
    total = 0.5 * float((((beta - means) ** 2) / variance).sum() + (alpha**2).sum() / variance[0])
    for k, s, x, n, wins in zip(data.arm, data.effect, data.x, data.trials, data.successes, strict=True):
        rate = special.expit(x @ beta[k] + alpha[s])
        total -= wins * np.log(rate) + (n - wins) * np.log1p(-rate)
    return total


def test_the_mode_and_its_curvature_are_those_of_the_written_density() -> None:
    means, variance = np.array([[-1.0, 0.0, 0.2], [-1.5, 0.1, 0.0]]), np.array([3.0, 1.0, 2.0])
    data = random_trials(1)
    found = coupled_logistic(means, variance, data, effects=2)
    start = np.concatenate([means.ravel(), np.zeros(2)])
    best = optimize.minimize(loss, start, (means, variance, data, 2), method="BFGS", options={"gtol": 1e-9})
    assert found.mean.ravel() == pytest.approx(best.x[:6], abs=1e-5)
    step = 1e-4
    size = len(best.x)
    numeric = np.zeros((size, size))
    for i in range(size):
        for j in range(size):
            a, b = step * np.eye(size)[i], step * np.eye(size)[j]
            corners = [loss(best.x + u, means, variance, data, 2) for u in (a + b, a - b, b - a, -a - b)]
            numeric[i, j] = (corners[0] - corners[1] - corners[2] + corners[3]) / (4 * step * step)
    assert found.precision == pytest.approx(numeric, abs=2e-3)


def exact_prob_greater(counts: list[tuple[int, int]]) -> float:
    """P(arm 1 > arm 0) of two logistic-Normal posteriors, by integration on a grid."""
    t = np.linspace(-14.0, 6.0, 40_001)
    log_prior = -0.5 * t**2 / UNIFORM_VARIANCE
    logs = [s * t - n * np.logaddexp(0, t) + log_prior for s, n in counts]
    density = [np.exp(log - log.max()) for log in logs]
    below = integrate.cumulative_trapezoid(density[0], t, initial=0.0)
    return float(
        integrate.trapezoid(density[1] * below, t) / (below[-1] * integrate.trapezoid(density[1], t))
    )


def laplace_prob_greater(counts: list[tuple[int, int]]) -> float:
    wins, trials = (np.array(column, dtype=np.float64) for column in zip(*counts, strict=True))
    data = Trials(np.array([0, 1]), np.zeros(2, dtype=np.intp), np.ones((2, 1)), trials, wins)
    found = coupled_logistic(np.zeros((2, 1)), np.array([UNIFORM_VARIANCE]), data, effects=0)
    spread = np.sqrt(np.trace(found.covariance()))
    return float(stats.norm.cdf((found.mean[1, 0] - found.mean[0, 0]) / spread))


@pytest.mark.parametrize(
    ("counts", "error"),
    [
        ([(10, 300), (15, 320)], 0.01),
        ([(10, 300), (12, 100)], 0.01),
        ([(100, 3000), (120, 3200)], 0.002),
        ([(1000, 30_000), (1050, 30_000)], 1e-4),
    ],
)
def test_its_error_is_as_stated(counts: list[tuple[int, int]], error: float) -> None:
    assert abs(laplace_prob_greater(counts) - exact_prob_greater(counts)) < error


@pytest.mark.parametrize(("too_many", "is_right"), [(0, True), (1, False)])
def test_truths_are_uniform_among_its_draws(too_many: int, is_right: bool) -> None:
    """SBC of a context's rate, under a prior that leans to failures; one success too many in each context.

    Four contexts and 200 units in each; some 40 succeed: Laplace errs by about a twelfth of its spread.
    """
    means, variance = np.array([[-1.5, 0.3, -0.2]]), np.array([0.3, 0.1, 0.1])
    x = np.array([[1.0, a, b] for a in (0, 1) for b in (0, 1)])
    arm, effect, trials = np.zeros(4, np.intp), np.zeros(4, np.intp), np.full(4, 200.0)

    def simulate(rng: np.random.Generator) -> tuple[float, Floats]:
        theta = rng.normal(means[0], np.sqrt(variance))
        wins = rng.binomial(200, special.expit(x @ theta)).astype(np.float64) + too_many
        found = coupled_logistic(means, variance, Trials(arm, effect, x, trials, wins), effects=0)
        draws = found.mean[0] + found.draw(SBC_POSTERIOR_DRAWS, rng=rng)[:, 0]
        return float(special.expit(x[0] @ theta)), special.expit(draws @ x[0])

    assert (sbc_chi_square(simulate, seed=12) < SBC_LIMIT) == is_right


def test_a_separable_context_has_a_finite_mode() -> None:
    """No success among 50: maximum likelihood would be minus infinity, the prior holds it."""
    data = Trials(np.zeros(1, int), np.zeros(1, int), np.ones((1, 1)), np.array([50.0]), np.array([0.0]))
    found = coupled_logistic(np.zeros((1, 1)), np.array([UNIFORM_VARIANCE]), data, effects=0)
    assert -8 < found.mean[0, 0] < -3


def test_a_step_that_overshoots_is_halved() -> None:
    """From 30 log-odds off the curvature is nothing, and Newton's first step would go to -10^12."""
    data = Trials(np.zeros(1, int), np.zeros(1, int), np.ones((1, 1)), np.array([1000.0]), np.array([20.0]))
    found = coupled_logistic(np.full((1, 1), 30.0), np.array([1e6]), data, effects=0)
    assert found.mean[0, 0] == pytest.approx(special.logit(0.02), abs=1e-3)


def test_what_does_not_end_is_a_defect(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logistic, "_STEPS", 1)
    with pytest.raises(BrokenInvariant):
        coupled_logistic(np.zeros((2, 3)), np.ones(3), random_trials(2), effects=2)

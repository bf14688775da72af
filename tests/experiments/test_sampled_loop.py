"""The compiled loop has the law of the exact shares and of the textbook; planted defects have not."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType

import numpy as np
import pytest
from scipy import special, stats

from experiments.allocation import sampled_loop as loop
from experiments.allocation.sampled import BetaTable, choices
from experiments.allocation.sampled_loop import Running
from experiments.allocation.sampled_play import Played, SampledPolicy, play, play_many
from experiments.model import PolicyKind
from tests.experiments.test_sampled import ADAPTIVE, exact
from tests.statistical import FloatArray

THOMPSON, TOP_TWO = PolicyKind.THOMPSON, PolicyKind.TOP_TWO
RATES = np.linspace(0.05, 0.12, 10).tolist()
Shapes = tuple[tuple[float, float], ...]
POSTERIORS: dict[str, Shapes] = {
    "learnt": ((30.0, 400.0), (33.0, 400.0), (28.0, 390.0), (12.0, 210.0)),
    "alike": ((3.0, 9.0),) * 4,
    "untouched": ((1.0, 1.0),) * 3,
    "skewed": ((1.0, 40.0), (40.0, 1.0), (2.0, 2.0), (39.0, 1.5)),
    "below one": ((0.5, 0.7), (0.02, 0.9), (3.0, 2.0), (1.0, 0.3)),
    "large": ((500_000.0, 9.5e6), (500_300.0, 9.5e6), (499_500.0, 9.5e6)),
    "huge": ((5e8, 5e8), (5.0001e8, 5e8), (5e8, 5e8)),
    "uneven": ((5e6, 5e6), (5.0, 5.2), (1.0, 1.0), (600.0, 640.0)),
    "many": tuple((3.0 + arm, 60.0 + 5 * arm) for arm in range(30)),
}


@pytest.fixture(scope="module")
def compiled() -> Running:
    """The loop as Numba compiles it."""
    found = loop.compile_loop()
    assert found is not None
    return found


def counts(
    run: Running, kind: PolicyKind, shapes: Shapes, n: int, *, seed: int = 77, **mixture: float
) -> FloatArray:
    """How often each arm is chosen while posteriors stand still."""
    policy = SampledPolicy(kind, control=1, update_every=n + 1, priors=shapes, **mixture)
    played = play(run, policy, [0.5] * len(shapes), [n], rng=np.random.default_rng(seed))
    return played.pulls[0].astype(np.float64)


def shares_of(kind: PolicyKind, shapes: Shapes, control_share: float = 0.0, floor: float = 0.0) -> FloatArray:
    alpha, beta = np.array(shapes).T
    table = BetaTable(alpha[None], beta[None])
    return np.array(exact(kind, table, 0, control_share, floor))


def p_value(found: FloatArray, shares: FloatArray) -> float:
    """Chi-square against the shares, arms of fewer than five expected choices taken together."""
    expected = shares / shares.sum() * found.sum()
    rare = expected < 5
    pooled = [np.append(values[~rare], values[rare].sum()) for values in (found, expected)]
    kept = pooled[1] > 0
    return float(stats.chisquare(pooled[0][kept], pooled[1][kept]).pvalue)


@pytest.mark.parametrize(("control_share", "floor"), [(0.0, 0.0), (0.3, 0.015), (0.1, 0.0)])
@pytest.mark.parametrize("kind", ADAPTIVE)
@pytest.mark.parametrize("name", POSTERIORS)
def test_arms_are_chosen_as_the_exact_shares_say(
    compiled: Running, name: str, kind: PolicyKind, control_share: float, floor: float
) -> None:
    shapes = POSTERIORS[name]
    found = counts(compiled, kind, shapes, 60_000, control_share=control_share, floor=floor)
    assert p_value(found, shares_of(kind, shapes, control_share, floor)) > 1e-3


def test_tiny_parameters_are_drawn_by_log_odds(compiled: Running) -> None:
    """As alpha and beta go to 0 the log-odds are -Exp(alpha) with probability beta / (alpha + beta), or else
    Exp(beta). Of (1, 1), (2, 1) and (1, 3) thousandths the first is then best with probability
    1/2 (1 - 1/3 - 1/16 + 1/30) + 1/2 1/3 3/4 1/4 = 0.35, the second 2/3 (1 - 1/4 - 1/16 + 1/40) + 1/16.
    """
    found = counts(compiled, THOMPSON, ((1e-3, 1e-3), (2e-3, 1e-3), (1e-3, 3e-3)), 200_000)
    assert p_value(found, np.array([0.35, 0.5375, 0.1125])) > 1e-3


@pytest.mark.parametrize("shape", [0.05, 1.0, 1.7, 400.0])
def test_gamma_draws_have_their_law(shape: float) -> None:
    """Kolmogorov and Smirnov against SciPy."""
    assert p_of_gammas(loop, shape) > 1e-3


def test_gamma_draws_without_their_rejection_are_told_apart() -> None:
    wrong = defective("if w > -0.2 and u < 1 - _KEPT * d * w * w * w * w:", "if u <= 1:")
    assert p_of_gammas(wrong, 1.0) < 1e-6


def p_of_gammas(module: ModuleType, shape: float) -> float:
    rng = np.random.default_rng(12)
    draws = [module.log_gamma(shape, rng) for _ in range(60_000)]
    return float(stats.kstest(draws, lambda x: stats.gamma.cdf(np.exp(x), shape)).pvalue)


def test_what_is_kept_without_a_logarithm_would_have_been_kept_with_it() -> None:
    """The bound of `gamma` lies below the probability, everywhere it serves and for every shape."""
    w, d = np.linspace(-0.2, 40, 200_001), np.geomspace(2 / 3, 1e8, 60)[:, None]
    h = d * (4.5 * w**2 + 1 - (1 + w) ** 3 + 3 * np.log1p(w))
    rounding = 1e-15 * d * (1 + w) ** 3
    assert (1 - loop._KEPT * d * w**4 <= np.exp(h + rounding)).all()  # pyright: ignore[reportPrivateUsage]


@pytest.mark.parametrize("kind", ADAPTIVE)
def test_the_loop_and_the_choices_of_arrays_have_one_law(compiled: Running, kind: PolicyKind) -> None:
    """Chi-square of the table of both; the sampled evaluation is one, in two forms."""
    for shapes in POSTERIORS["learnt"], POSTERIORS["skewed"]:
        ours = counts(compiled, kind, shapes, 60_000, control_share=0.2, floor=0.03)
        alpha, beta = np.array(shapes).T
        table, rng = BetaTable(alpha[None], beta[None]), np.random.default_rng(2)
        arms = choices(kind, table, 60_000, control=1, control_share=0.2, floor=0.03, rng=rng)
        theirs = np.bincount(arms[0], minlength=len(shapes))
        assert stats.chi2_contingency(np.array([ours, theirs])).pvalue > 1e-3


def test_a_challenger_whom_no_draw_would_find_comes_from_the_exact_law(compiled: Running) -> None:
    shapes = ((900.0, 1100.0), (300.0, 1700.0), (301.0, 1700.0))
    assert shares_of(THOMPSON, shapes)[1:].max() < 1e-30
    found = counts(compiled, TOP_TWO, shapes, 400)
    assert p_value(found, shares_of(TOP_TWO, shapes)) > 1e-3
    assert found[2] > found[1] > 0


def test_decisions_are_independent(compiled: Running) -> None:
    """Chi-square of the pairs (decision, next) against the product of the shares; regret tells the arm."""
    n, rates, shapes = 40_000, [0.5, 0.4, 0.2, 0.1], POSTERIORS["learnt"]
    policy = SampledPolicy(update_every=n + 1, priors=shapes)
    played = play(compiled, policy, rates, list(range(1, n + 1)), rng=np.random.default_rng(3))
    gaps = np.diff(played.regret[0], prepend=0.0)
    arms = np.abs(gaps[:, None] - (0.5 - np.array(rates))).argmin(axis=1).reshape(-1, 2)
    shares = shares_of(THOMPSON, shapes)
    found = np.bincount(arms[:, 0] * 4 + arms[:, 1], minlength=16).astype(np.float64)
    assert p_value(found, np.outer(shares, shares).ravel()) > 1e-3


DEFECTS = {
    "whatever is proposed is accepted": ("rng.standard_exponential() < -held", "held > 0"),
    "a uniform that was held against one arm is held anew against the next": ("u -= mass", "u -= 0"),
    "the tangent touches elsewhere": ("slope = q * per_y", "slope = 3 * q * per_y"),
    "the posterior of fewer failures": (
        "h = gamma(arms[BETA, first]",
        "h = gamma(0.97 * arms[BETA, first]",
    ),
    "floors are taken from the control": (
        "u = uniform(rng) - control_share",
        "u = uniform(rng) - control_share + 2 * floor",
    ),
    "a challenger may be the leader": ("if arm != leader:", "if arm >= 0:"),
}


@pytest.mark.parametrize("defect", DEFECTS)
def test_a_planted_defect_is_found(defect: str) -> None:
    """The loop with one line wrong, against the shares; the same loop unharmed passes."""
    kind = TOP_TWO if "challenger" in defect else THOMPSON
    shapes = POSTERIORS["learnt"]
    shares = shares_of(kind, shapes, 0.2, 0.03)
    right, wrong = defective("", ""), defective(*DEFECTS[defect])
    assert p_value(counts(right.run, kind, shapes, 20_000, control_share=0.2, floor=0.03), shares) > 1e-3
    assert p_value(counts(wrong.run, kind, shapes, 20_000, control_share=0.2, floor=0.03), shares) < 1e-6


def defective(line: str, wrong: str) -> ModuleType:
    """The loop's module, uncompiled, with something of its text exchanged."""
    assert loop.__file__ is not None
    with open(loop.__file__, encoding="utf-8") as file:
        text = file.read()
    assert line in text
    module = ModuleType("defective_loop")
    exec(compile(text.replace(line, wrong), "defective_loop", "exec"), module.__dict__)
    return module


@pytest.mark.parametrize(
    "policy",
    [
        SampledPolicy(),
        SampledPolicy(TOP_TWO, control=2, control_share=0.2, floor=0.03, update_every=7),
        SampledPolicy(control_share=0.1, priors=((0.5, 0.2), (2.0, 3.0), (0.9, 30.0), (1.0, 1.0))),
        SampledPolicy(priors=((2.0**24 - 500, 5.0), (2.0**24 - 1, 8.0), (4.0, 1.0), (1.0, 1.0))),
        SampledPolicy(
            TOP_TWO, update_every=150, priors=((200.0, 10.0), (30.0, 1000.0), (25.0, 990.0), (1.0, 99.0))
        ),
    ],
)
def test_compiled_or_not_every_decision_is_the_same(compiled: Running, policy: SampledPolicy) -> None:
    rates, times = [0.1, 0.3, 0.31, 0.2], [1, 50, 1000 if policy.update_every < 100 else 200]
    one, other = (
        play(run, policy, rates, times, rng=np.random.default_rng(5)) for run in (compiled, loop.run)
    )
    assert (one.pulls == other.pulls).all()
    assert (one.successes == other.successes).all()
    assert one.regret == pytest.approx(other.regret, rel=1e-12)
    assert one.regret[0, -1] == pytest.approx(one.pulls[0] @ (0.31 - np.array(rates)))


def test_what_is_learnt_keeps_the_constant_of_the_density() -> None:
    """Against SciPy, also where a parameter grows past 1 and where the arm outgrows the envelope."""
    rng = np.random.default_rng(4)
    for alpha, beta in ((1.0, 1.0), (0.3, 0.4), (7.5, 1.0), (2.0**24 - 300.0, 20.0)):
        arms = loop.posteriors(np.array([alpha]), np.array([beta]))
        for _ in range(1000):
            loop.learn(arms, 0, bool(rng.random() < 0.3))
        a, b = arms[: loop.MEAN, 0]
        assert a + b == alpha + beta + 1000
        assert arms[loop.MEAN, 0] == pytest.approx(a / (a + b))
        expected = np.inf if alpha > 1e6 else -special.betaln(a, b)
        norm = arms[loop.LOG_NORM, 0] + np.log(arms[loop.SCALE, 0])
        assert norm == pytest.approx(expected, abs=1e-9)
        fresh = loop.posteriors(np.array([a]), np.array([b]))
        assert arms[loop.ROOT_ALPHA :, 0] == pytest.approx(fresh[loop.ROOT_ALPHA :, 0])


def textbook(rates: list[float], n: int, replications: int, seed: int) -> FloatArray:
    """Thompson sampling as textbooks write it, Beta(1, 1): the regret of each replication."""
    rng, true = np.random.default_rng(seed), np.array(rates)
    alpha, beta = np.ones((replications, len(rates))), np.ones((replications, len(rates)))
    rows, regret = np.arange(replications), np.zeros(replications)
    for _ in range(n):
        arms = rng.beta(alpha, beta).argmax(axis=1)
        rewards = rng.random(replications) < true[arms]
        alpha[rows, arms] += rewards
        beta[rows, arms] += ~rewards
        regret += true.max() - true[arms]
    return regret


def many(run: Running, policy: SampledPolicy, times: list[int], replications: int) -> Played:
    found = [
        play(run, policy, RATES, times, rng=np.random.default_rng([6, number]))
        for number in range(replications)
    ]
    return Played(*(np.concatenate([getattr(one, name) for one in found]) for name in Played.__slots__))


def standard_errors(found: FloatArray, mean: float, error: float) -> float:
    """How far the mean lies from another with its own error, in standard errors of the difference."""
    own = found.std(ddof=1) / np.sqrt(len(found))
    return float(abs(found.mean() - mean) / np.hypot(own, error))


def test_regret_is_the_textbooks_and_the_published(compiled: Running) -> None:
    """26.22 +- 0.09 and 44.90 +- 0.25: a hand-written loop of 1,000 replications, apart from Rialto."""
    ours = many(compiled, SampledPolicy(), [1000, 2000], 1500).regret
    theirs = textbook(RATES, 1000, 1000, seed=7)
    assert standard_errors(ours[:, 0], theirs.mean(), theirs.std(ddof=1) / np.sqrt(1000)) < 2
    assert standard_errors(ours[:, 0], 26.22, 0.09) < 2
    assert standard_errors(ours[:, 1], 44.90, 0.25) < 2
    late = many(compiled, SampledPolicy(update_every=500), [1000], 300).regret  # what must be found out
    assert standard_errors(late[:, 0], 26.22, 0.09) > 5


@pytest.mark.parametrize(
    "policy",
    [
        SampledPolicy(update_every=40),
        SampledPolicy(TOP_TWO, control=3, control_share=0.2, floor=0.01, update_every=20),
    ],
)
def test_arrays_play_the_same_game(compiled: Running, policy: SampledPolicy) -> None:
    """Mean regret and pulls within 4 standard errors of each other, at three times."""
    ours = many(compiled, policy, [10, 300, 1000], 400)
    theirs = play_many(policy, RATES, [10, 300, 1000], 400, rng=np.random.default_rng(8))
    for one, other in ((ours.regret, theirs.regret), (ours.pulls, theirs.pulls)):
        for column in range(one.shape[1]):
            error = other[:, column].std(ddof=1) / 20
            assert standard_errors(one[:, column], other[:, column].mean(), error) < 4
    for played in (ours, theirs):
        assert (played.pulls.sum(axis=1) == 1000).all()
        rates = played.successes.sum(axis=0) / played.pulls.sum(axis=0)
        assert (np.abs(rates - RATES) < 5 * np.sqrt(0.12 / played.pulls.sum(axis=0))).all()


def by_loop(policy: SampledPolicy, times: list[int]) -> FloatArray:
    played = [
        play(loop.run, policy, [1.0, 0.0], times, rng=np.random.default_rng([9, n])) for n in range(150)
    ]
    return np.concatenate([one.regret for one in played])


def by_arrays(policy: SampledPolicy, times: list[int]) -> FloatArray:
    return play_many(policy, [1.0, 0.0], times, 150, rng=np.random.default_rng(9)).regret


@pytest.mark.parametrize("regret_of", [by_loop, by_arrays])
def test_posteriors_stand_still_between_looks(
    regret_of: Callable[[SampledPolicy, list[int]], FloatArray],
) -> None:
    """An arm that never and one that always succeeds: half and half until the first look, then no more."""
    regret = regret_of(SampledPolicy(update_every=40), [39, 40, 80])
    assert abs(regret[:, 1].mean() - 20) < 4 * np.sqrt(40 / 4 / 150)
    assert (regret[:, 1] - regret[:, 0]).mean() > 0.3
    assert (regret[:, 2] - regret[:, 1]).mean() < 0.1


def test_thousands_of_arms_may_be_played(compiled: Running) -> None:
    found = counts(compiled, THOMPSON, ((0.5, 0.5),) * 9000, 3)
    assert found.sum() == 3
    assert found.max() == 1


def test_one_arm_is_always_chosen(compiled: Running) -> None:
    for kind in ADAPTIVE:
        policy = SampledPolicy(kind, control_share=0.1)
        assert play(compiled, policy, [0.3], [20], rng=np.random.default_rng(1)).pulls.tolist() == [[20]]


def test_the_loop_is_compiled_once_or_not_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    import numba

    monkeypatch.setattr(loop.Compiled, "run", None)
    monkeypatch.setitem(sys.modules, "numba", None)
    assert loop.compile_loop() is None
    njit, asked = numba.njit, []

    def nowhere(*, cache: bool = False, **options: object) -> object:
        asked.append(cache)
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return njit(**options)

    monkeypatch.setitem(sys.modules, "numba", numba)
    monkeypatch.setattr(numba, "njit", nowhere)
    found = loop.compile_loop()
    assert asked == [True, False]
    assert found is not None
    assert loop.compile_loop() is found


@pytest.mark.parametrize(
    ("policy", "rates", "times", "said"),
    [
        ({"kind": PolicyKind.FIXED}, [0.1, 0.2], [1], "fixed"),
        ({"control_share": 0.5, "floor": 0.6}, [0.1, 0.2], [1], "infeasible"),
        ({"update_every": 0}, [0.1, 0.2], [1], "update_every"),
        ({"priors": ((0.0, 1.0),)}, [0.1, 0.2], [1], "finite parameters"),
        ({"priors": ((1.0, 1.0),) * 3}, [0.1, 0.2], [1], "one for each"),
        ({"control": 2}, [0.1, 0.2], [1], "control is arm 2 of 2"),
        ({}, [0.1, 1.2], [1], "probability"),
        ({}, [0.1, 0.2], [], "ascending"),
        ({}, [0.1, 0.2], [0, 5], "ascending"),
        ({}, [0.1, 0.2], [5, 5], "ascending"),
    ],
)
def test_what_cannot_be_played_is_refused(
    policy: dict[str, object], rates: list[float], times: list[int], said: str
) -> None:
    rng = np.random.default_rng(1)
    with pytest.raises(ValueError, match=said):
        play(loop.run, SampledPolicy(**policy), rates, times, rng=rng)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match=said):
        play_many(SampledPolicy(**policy), rates, times, 2, rng=rng)  # pyright: ignore[reportArgumentType]

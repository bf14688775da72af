"""The hurdle: against exact draws, scipy, simulated shops of known law, and sizes that break the law."""

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
from scipy import integrate, stats

from experiments.allocation.joint import _plain, _posterior
from experiments.analysis.hurdle import METHOD, REFUSED
from experiments.analysis.objective import AllocationPosteriors, allocation_posteriors
from experiments.histogram import bin_of
from experiments.model import Experiment, PolicyKind, PolicySettings, TotalsModel
from experiments.posteriors.compare import prob_best
from experiments.posteriors.hurdle import Hurdle, LogSizes, law_z
from experiments.posteriors.log_normal import ShiftedLogNormal
from experiments.posteriors.normal import NormalInverseGamma
from experiments.statistics import Cell, CellKey
from tests.experiments.cells import DAY, experiment_of
from tests.statistical import (
    SBC_LIMIT,
    SBC_POSTERIOR_DRAWS,
    STANDARD_ERRORS,
    sbc_chi_square,
    standard_errors_off,
)

KEYS = ("none", "socks")
LATER = datetime(2026, 12, 1, tzinfo=UTC)


def sizes_of(totals: np.ndarray) -> LogSizes:
    logs = np.log(totals)
    return LogSizes(len(totals), float(logs.sum()), float((logs**2).sum()), float(totals.sum()))


def hurdled(objective: str = "margin_per_unit", **more: object) -> Experiment:
    policy = PolicySettings(
        kind=PolicyKind.THOMPSON,
        objective=objective,
        model=TotalsModel.HURDLE,
        **more,  # type: ignore[arg-type]
    )
    return experiment_of("socks", settings=policy)


def selling(key: str, totals: np.ndarray, units: int, name: str = "margin", candidate_set: int = 1) -> Cell:
    """A cell of that many units of which some have a total."""
    cell = Cell(CellKey(key, "", candidate_set, DAY, 0), frozenset(KEYS))
    for total in np.round(totals).astype(int).tolist():
        feature = (
            {"margin": total, "margin_capped": total} if name == "margin" else {"net_revenue_capped": total}
        )
        cell.add_unit({"assigned": 1, "units": 1} | feature, {name: bin_of(total)})
    cell.moments.add_units([{"assigned": 1, "units": 1}], [units - len(totals)])
    return cell


def read(cells: list[Cell], experiment: Experiment | None = None) -> AllocationPosteriors:
    return allocation_posteriors(experiment or hurdled(), cells, KEYS, time_zone="UTC", now=LATER)


@pytest.mark.parametrize(
    ("sales", "sigma", "losses", "within"), [(20, 0.8, 0, 0.02), (200, 1.6, 0, 0.025), (200, 0.8, 40, 0.01)]
)
def test_the_marginal_is_the_law_of_exact_draws(sales, sigma, losses, within):
    rng = np.random.default_rng(1)
    up, down = np.exp(rng.normal(8, sigma, sales)), np.exp(rng.normal(7.5, 0.5, losses))
    pooled = sizes_of(up), sizes_of(down) if losses else LogSizes()
    posterior = Hurdle.prior(*pooled).updated(30 * sales, *pooled)
    draws = np.sort(posterior.draw(100_000, rng=rng))
    marginal = posterior.marginal_mean()
    assert np.abs(marginal.cdf(draws) - np.arange(1, 100_001) / 100_000).max() < within
    assert marginal.mean == pytest.approx(posterior.mean)
    assert marginal.variance == pytest.approx(posterior.variance)
    bug = replace(posterior, signs=(posterior.signs[1], posterior.signs[0], posterior.signs[2]))
    assert np.abs(bug.marginal_mean().cdf(draws) - np.arange(1, 100_001) / 100_000).max() > 0.5


@pytest.mark.parametrize(
    ("fault", "is_right"),
    [
        (LogSizes(), True),
        (LogSizes(1, 8.0, 64.0), False),  # one sale too many, of a usual size
        (LogSizes(0, 8.0 * 2**0.5, 128.0), False),  # the sums of one sale too many, not its number
    ],
)
def test_truths_are_uniform_among_its_draws(fault: LogSizes, is_right: bool) -> None:
    """SBC with a prior that leans to sales; of 20 units some 4 sell and 1 loses."""
    prior = Hurdle(
        (9.0, 2.0, 0.5), NormalInverseGamma(8.0, 4.0, 20.0, 0.1), NormalInverseGamma(7.5, 6.0, 20.0, 0.05)
    )
    assert prior.negative is not None

    def simulate(rng: np.random.Generator) -> tuple[float, np.ndarray]:
        q = rng.dirichlet(prior.signs)
        _, *counts = rng.multinomial(20, q).tolist()
        found, means = [], []
        for logs, n in zip((prior.positive, prior.negative), counts, strict=True):
            mu, variance = (float(values[0]) for values in logs.draw(1, rng=rng))
            found.append(sizes_of(np.exp(rng.normal(mu, np.sqrt(variance), n))))
            means.append(np.exp(mu + variance / 2))
        posterior = prior.updated(20, found[0] + fault, found[1])
        return float(q[1] * means[0] - q[2] * means[1]), posterior.draw(SBC_POSTERIOR_DRAWS, rng=rng)

    assert (sbc_chi_square(simulate, seed=11) < SBC_LIMIT) == is_right


def test_moments_are_those_of_dirichlet_times_sizes():
    """Known sizes: 2 and 3 with certainty, signs Dirichlet(5, 3, 2): scipy's moments of 2 q+ - 3 q-."""
    sure = LogSizes(1e9, 1e9 * np.log(2.0), 1e9 * np.log(2.0) ** 2, 2e9)
    lost = LogSizes(1e9, 1e9 * np.log(3.0), 1e9 * np.log(3.0) ** 2, 3e9)
    found = replace(Hurdle.prior(sure, lost), signs=(5.0, 3.0, 2.0))
    law = stats.dirichlet([5, 3, 2])
    weights = np.array([0.0, 2.0, -3.0])
    assert found.mean == pytest.approx(float(weights @ law.mean()))
    assert found.variance == pytest.approx(float(weights @ law.cov() @ weights))


def test_log_normal_totals_are_read_with_less_error_and_their_intervals_hold():
    """300 shops, 3 % of 20,000 units buy, sigma = 1.6. Against the sample mean: under 0.85 of its spread."""
    rng = np.random.default_rng(2)
    truth = 0.03 * np.exp(8 + 1.6**2 / 2)
    held, model, sample = [], [], []
    for _ in range(300):
        totals = np.exp(rng.normal(8, 1.6, rng.binomial(20_000, 0.03)))
        pooled = sizes_of(totals)
        marginal = Hurdle.prior(pooled, LogSizes()).updated(20_000, pooled, LogSizes()).marginal_mean()
        low, high = marginal.ppf([0.025, 0.975])
        held.append(low <= truth <= high)
        model.append(float(marginal.ppf(0.5)))
        sample.append(totals.sum() / 20_000)
    assert abs(np.mean(held) - 0.95) < STANDARD_ERRORS * np.sqrt(0.95 * 0.05 / 300)
    assert np.std(model) < 0.85 * np.std(sample)


def test_the_law_of_sizes_is_checked():
    """Hausman's z is standard Normal for log-normal sizes; exponential sizes are refused."""
    rng = np.random.default_rng(3)
    z = np.array([law_z(sizes_of(np.exp(rng.normal(8, 0.8, 3000)))) for _ in range(300)])
    assert standard_errors_off(z, 0.0) < STANDARD_ERRORS
    assert 0.85 < z.std() < 1.15
    assert np.mean(np.abs(z) > 3.29) < 0.02
    assert abs(law_z(sizes_of(rng.gamma(1.0, 4000.0, 3000)))) > 3.29
    assert law_z(LogSizes(1, 2.0, 4.0, 7.4)) == 0.0
    assert law_z(sizes_of(np.full(9, 5.0))) == 0.0


def test_the_allocator_reads_the_hurdle_from_histograms():
    """Bins are 3 % wide: the mean is that of the sizes themselves to 0.2 %; losses lower it."""
    rng = np.random.default_rng(4)
    totals = {key: np.exp(rng.normal(mu, 0.8, 600)) for key, mu in (("none", 8.0), ("socks", 8.3))}
    losses = np.round(-np.exp(rng.normal(7, 0.5, 60)))
    cells = [
        selling("none", np.append(totals["none"], losses), 10_000),
        selling("socks", totals["socks"], 10_000),
    ]
    found = read(cells)
    assert set(found.methods.values()) == {METHOD}
    pooled = sizes_of(np.round(np.concatenate(list(totals.values())))), sizes_of(-losses)
    for key, lost in (("none", sizes_of(-losses)), ("socks", LogSizes())):
        exact = Hurdle.prior(*pooled).updated(10_000, sizes_of(np.round(totals[key])), lost).marginal_mean()
        assert found.posteriors[key].mean == pytest.approx(exact.mean, rel=2e-3)
        assert found.posteriors[key].variance == pytest.approx(exact.variance, rel=1e-2)
    draws = [found.posteriors[key].draw(200_000, rng=rng) for key in KEYS]
    wanted = float(np.mean(draws[1] > draws[0]))
    assert prob_best([found.better[key] for key in KEYS])[1] == pytest.approx(wanted, abs=5e-3)


def test_other_sizes_and_too_little_fall_back():
    rng = np.random.default_rng(5)
    gamma = [selling(key, rng.gamma(1.0, 4000.0, 3000) + 1, 10_000) for key in KEYS]
    refused = read(gamma)
    plain = read(
        gamma, experiment_of("socks", settings=replace(hurdled().policy, model=TotalsModel.STUDENT_T))
    )
    assert set(refused.methods.values()) == {REFUSED}
    assert refused.posteriors == plain.posteriors
    nobody = [selling(key, np.array([]), 500) for key in KEYS]
    assert read(nobody).reason == "insufficient_data"
    one = read([selling("none", np.exp(rng.normal(8, 0.8, 50)), 500), nobody[1]])
    assert one.posteriors["socks"].mean < 0.1 * one.posteriors["none"].mean
    assert read([selling("none", np.exp(rng.normal(8, 0.8, 50)), 500)]).reason == "insufficient_data"


def test_sets_are_standardised_with_common_weights():
    """Set 2 sells twice as often; both arms have other mixes of the sets and the same means within them."""
    rng = np.random.default_rng(6)
    totals = np.exp(rng.normal(8, 0.5, 4000))
    cells = [
        selling("none", totals[:900], 9_000, candidate_set=1),
        selling("none", totals[:200], 1_000, candidate_set=2),
        selling("socks", totals[:100], 1_000, candidate_set=1),
        selling("socks", totals[:1800], 9_000, candidate_set=2),
    ]
    found = read(cells)
    means = [found.posteriors[key].mean for key in KEYS]
    assert means[1] == pytest.approx(means[0], rel=0.06)
    by_day = read(cells, hurdled(discount_half_life=datetime(2026, 3, 5) - datetime(2026, 3, 4)))
    assert by_day.units["none"] < 1e-3


def test_net_revenue_has_a_hurdle_too():
    rng = np.random.default_rng(7)
    totals = np.exp(rng.normal(8, 0.5, 500))
    cells = [selling(key, totals, 5000, "net_revenue") for key in KEYS]
    found = read(cells, hurdled("revenue_per_unit"))
    assert found.methods["socks"] == METHOD
    assert found.posteriors["socks"].mean == pytest.approx(totals.sum() / 5000, rel=0.03)


def test_the_shifted_log_normal_is_scipys():
    mine, law = ShiftedLogNormal(-50.0, 4.0, 0.3), stats.lognorm(0.3, loc=-50.0, scale=np.exp(4.0))
    x = np.array([-60.0, -50.0, -20.0, 4.0, 30.0, 90.0])
    for name in ("pdf", "cdf", "sf"):
        assert getattr(mine, name)(x) == pytest.approx(getattr(law, name)(x), abs=1e-14)
    assert mine.ppf([0.01, 0.5, 0.999]) == pytest.approx(law.ppf([0.01, 0.5, 0.999]))
    assert (mine.mean, mine.variance) == pytest.approx((law.mean(), law.var()))
    assert mine.width == pytest.approx(law.std())
    low, high = mine.reach
    assert law.cdf(low) + law.sf(high) < 1e-16
    rest, _ = integrate.quad(lambda t: t * law.pdf(t), high, np.inf)
    assert abs(rest) < 1e-14
    assert stats.kstest(mine.draw(20_000, rng=np.random.default_rng(8)), law.cdf).pvalue > 1e-3
    assert _posterior(_plain(mine)) == mine


def test_points_and_what_is_none():
    point = ShiftedLogNormal.matching(0.0, 1.0, 0.0)
    assert (point.cdf(0.9), point.cdf(1.1), point.sf(0.9), point.variance) == (0.0, 1.0, 1.0, 0.0)
    assert point.pdf(1.0) == np.inf
    assert point.pdf(2.0) == 0.0
    with pytest.raises(ValueError, match="no log-normal above"):
        ShiftedLogNormal.matching(1.0, 1.0, 2.0)
    with pytest.raises(ValueError, match="not a shifted log-normal"):
        ShiftedLogNormal(0.0, 0.0, -1.0)

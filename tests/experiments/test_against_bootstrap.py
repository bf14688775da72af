"""The delta method of every ratio against the Bayesian bootstrap of the units themselves (Rubin 1981).

Weights of the units are drawn from the flat Dirichlet; the ratio of weighted sums is then a draw of a
posterior that assumes no law at all. Ends of the 95 % interval are compared in standard errors of a quantile
of that many draws, plus the skewness that a straight line leaves out.
"""

from __future__ import annotations

import numpy as np
import pytest

from experiments.analysis.cohorts import cohort_of
from experiments.analysis.estimates import Estimate
from experiments.analysis.metrics import metric_definitions
from experiments.analysis.reading import read_metric
from experiments.model import CustomMetric, MetricKind
from tests.experiments.cells import cell_of, experiment_of

UNITS = 4_000
DRAWS = 2_000
RNG = np.random.default_rng(20)
EXPERIMENT = experiment_of("socks", metrics=(CustomMetric("nps", MetricKind.NPS, "rating"),))


def shoppers() -> dict[str, np.ndarray]:
    """Units with several orders of their own price level, refunds, carts and ratings."""
    orders = RNG.binomial(1, 0.5, UNITS) * (1 + RNG.poisson(0.6, UNITS))
    level = RNG.lognormal(0.0, 0.5, UNITS)
    revenue = np.where(orders > 0, RNG.gamma(2.0 * np.maximum(orders, 1), 1500.0) * level, 0).astype(int)
    refunded = RNG.binomial(orders, 0.15)
    lost = (revenue * refunded / np.maximum(orders, 1)).astype(int)
    ratings = RNG.poisson(0.4, UNITS)
    promoters = RNG.binomial(ratings, 0.5)
    return {
        "orders": orders,
        "converted": orders > 0,
        "revenue": revenue,
        "refunded_orders": refunded,
        "refunded_value": lost,
        "margin": (0.4 * revenue).astype(int) - lost,
        "carts": orders + RNG.poisson(0.5, UNITS),
        "abandoned": RNG.binomial(1, 0.2, UNITS),
        "nps:count": ratings,
        "nps:sum": promoters - RNG.binomial(ratings - promoters, 0.4),
    }


TOTALS = shoppers()
WEIGHTS = RNG.exponential(size=(DRAWS, UNITS))
RATIOS = {
    "aov": (TOTALS["revenue"], TOTALS["orders"]),
    "aov_net": (TOTALS["revenue"] - TOTALS["refunded_value"], TOTALS["orders"]),
    "margin_rate": (TOTALS["margin"], TOTALS["revenue"] - TOTALS["refunded_value"]),
    "refund_rate": (TOTALS["refunded_orders"], TOTALS["orders"]),
    "refund_value_rate": (TOTALS["refunded_value"], TOTALS["revenue"]),
    "cart_abandonment_rate": (TOTALS["abandoned"], TOTALS["carts"]),
    "nps": (100 * TOTALS["nps:sum"], TOTALS["nps:count"]),
    "margin_per_unit": (TOTALS["margin"], np.ones(UNITS)),
    "orders_per_unit": (TOTALS["orders"], np.ones(UNITS)),
}


def errors_off(key: str, totals: dict[str, np.ndarray]) -> float:
    """Distance of either end of our interval from the bootstrap's, in standard errors of its quantile."""
    cells = [cell_of(k, n=UNITS, candidates=("none", "socks"), **totals) for k in ("none", "socks")]
    definition = metric_definitions(EXPERIMENT)[key]
    own = read_metric(EXPERIMENT, cohort_of(cells), definition, by_epoch=False, seed=1).own["socks"]
    assert isinstance(own, Estimate)
    assert own.posterior is not None
    x, y = RATIOS[key]
    draws = (WEIGHTS @ x) / (WEIGHTS @ y)
    assert own.figure == pytest.approx(x.sum() / y.sum())
    spread = draws.std()
    # sqrt(q (1 - q) / n) over the density there, phi(1.96) = .0584 of the spread
    error = spread * np.sqrt(0.025 * 0.975 / DRAWS) / 0.0584
    skew = abs(((draws - draws.mean()) ** 3).mean()) / spread**2 * (1.96**2 - 1) / 6
    ends = np.quantile(draws, [0.025, 0.975]) - own.posterior.ppf([0.025, 0.975])
    return float(np.abs(ends).max() / (error + skew))


@pytest.mark.parametrize("key", RATIOS)
def test_the_delta_method_is_the_bootstraps_interval(key: str) -> None:
    assert errors_off(key, TOTALS) < 4.0


@pytest.mark.parametrize(("key", "total"), [("aov", "revenue"), ("margin_rate", "margin")])
def test_totals_that_no_longer_vary_together_would_show(key: str, total: str) -> None:
    """The bug: numerators paired with other units' denominators, so that their covariance is lost."""
    other = np.random.default_rng(1).permutation(UNITS)
    assert errors_off(key, TOTALS | {total: TOTALS[total][other]}) > 5.0

"""Which sequence a lift gets, from which units: against the definition on unit data, and the AIPW figures."""

import math
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from experiments.analysis.metrics import metric_definitions
from experiments.analysis.read_out import read_out
from experiments.analysis.report import MetricReport, Sequential
from experiments.analysis.sequential import BEST_ETA, TUNED_UNITS, Counts, lift_of_rates, multiplier
from experiments.analysis.sequential_lifts import MIN_UNITS, final_after
from experiments.analysis.served import served_place
from experiments.model import PolicyKind
from experiments.statistics import FIXED_POINT, OVER_P, Cell
from tests.experiments.cells import DAY, cell_of, experiment_of

LATE = datetime(2027, 3, 20, tzinfo=UTC)
YOUNG = datetime(2026, 3, 20, tzinfo=UTC)  # attribution windows closed, refund windows open
KEYS = ("none", "socks")


def shoppers(n: int, seed: int) -> dict[str, np.ndarray]:
    """Units that buy with 30 %, once or twice, and return a tenth."""
    rng = np.random.default_rng(seed)
    orders = (rng.random(n) < 0.3) * (1 + (rng.random(n) < 0.2))
    revenue = np.rint(orders * rng.exponential(5_000, n)).astype(np.int64)
    refunded = revenue * (rng.random(n) < 0.1)
    return {
        "converted": (orders > 0).astype(np.int64),
        "orders": orders.astype(np.int64),
        "revenue": revenue,
        "refunded_value": refunded,
        "margin": revenue // 2 - refunded,
    }


UNITS = {key: shoppers(4_000, seed) for seed, key in enumerate(KEYS)}


def cells_of(**more: object) -> list[Cell]:
    return [
        cell_of(key, n=4_000, candidates=KEYS, **(UNITS[key] | more))  # type: ignore[arg-type]
        for key in KEYS
    ]


def metrics_of(
    cells: list[Cell], now: datetime = LATE, policy: PolicyKind = PolicyKind.FIXED, **more: object
) -> Mapping[str, MetricReport]:
    report = read_out(experiment_of("socks", policy=policy), cells, time_zone="UTC", now=now, **more)  # type: ignore[arg-type]
    return report.variant("socks").metrics


def sequence(metrics: Mapping[str, MetricReport], key: str) -> Sequential:
    found = metrics[key].figures.sequential
    assert found is not None
    return found


def test_a_rate_under_fixed_shares_has_the_exact_sequence_of_its_counts():
    found = sequence(metrics_of(cells_of()), "conversion_rate")
    treatment, control = (Counts(4_000, int(UNITS[key]["converted"].sum())) for key in ("socks", "none"))
    assert (found.ci_low, found.ci_high) == lift_of_rates(treatment, control)
    assert found.value == pytest.approx(treatment.rate - control.rate)
    assert (found.exact, found.method, found.ci_prob) == (True, "beta-binomial mixture", 0.95)


def test_a_mean_and_a_ratio_have_the_asymptotic_sequence_of_their_units():
    """value +- multiplier x standard error, by NumPy on the units; the time is that of all 8,000."""
    metrics = metrics_of(cells_of())
    factor = multiplier(BEST_ETA * 8_000 / TUNED_UNITS)
    means: list[tuple[float, float]] = []
    ratios: list[tuple[float, float]] = []
    for key in ("socks", "none"):
        revenue, orders = UNITS[key]["revenue"], UNITS[key]["orders"]
        net = revenue - UNITS[key]["refunded_value"]
        means.append((net.mean(), net.var(ddof=1) / 4_000))
        aov = revenue.sum() / orders.sum()
        ratios.append((aov, (revenue - aov * orders).var(ddof=1) / 4_000 / orders.mean() ** 2))
    for key, arms in (("revenue_per_unit", means), ("aov", ratios)):
        found = sequence(metrics, key)
        lift, half = arms[0][0] - arms[1][0], factor * math.sqrt(arms[0][1] + arms[1][1])
        assert found.value == pytest.approx(lift)
        assert (found.ci_low, found.ci_high) == pytest.approx((lift - half, lift + half), rel=2e-3)
        assert (found.exact, found.method) == (False, "asymptotic, normal mixture")


def test_several_candidate_sets_are_standardised_and_asymptotic():
    wide = [
        cell_of(key, n=4_000, candidates=(*KEYS, "mug"), candidate_set=7, **UNITS[key])  # type: ignore[arg-type]
        for key in KEYS
    ]
    metric = metrics_of(cells_of() + wide)["conversion_rate"]
    found = metric.figures.sequential
    assert found is not None
    assert not found.exact
    assert found.value == pytest.approx(metric.figures.lift_abs.value)


def test_units_enter_when_their_figures_are_final():
    """Young units count for conversion; for money only once their refund windows are closed, or labelled."""
    young = metrics_of(cells_of(), now=YOUNG)
    assert sequence(young, "conversion_rate").exact
    assert sequence(young, "margin_per_unit").method == "asymptotic, normal mixture, windows still open"
    later = [
        cell_of(key, n=5_000, candidates=KEYS, day=DAY + timedelta(days=40), **shoppers(5_000, 7))  # type: ignore[arg-type]
        for key in KEYS
    ]
    now = YOUNG + timedelta(days=42)
    both = sequence(metrics_of(cells_of() + later, now=now), "margin_per_unit")
    assert both.method == "asymptotic, normal mixture"
    assert both == sequence(metrics_of(cells_of(), now=now), "margin_per_unit")


def test_what_a_refund_changes_waits_for_the_refund_window():
    experiment = experiment_of("socks")
    definitions = metric_definitions(experiment)
    window, refunds = experiment.attribution_window, experiment.refund_window
    waits = {key: final_after(experiment, one) - one.horizon for key, one in definitions.items()}
    assert waits["conversion_rate"] == waits["aov"] == waits["rating_mean"] == timedelta()
    assert {waits[key] for key in ("aov_net", "refund_rate", "margin_per_unit", "ltv_90d")} == {refunds}
    assert final_after(experiment, definitions["refund_rate"]) == window + refunds


def test_too_few_units_have_no_asymptotic_sequence():
    few = [
        cell_of(key, n=MIN_UNITS - 1, candidates=KEYS, revenue=UNITS[key]["revenue"][: MIN_UNITS - 1])
        for key in KEYS
    ]
    found = sequence(metrics_of(few), "revenue_per_unit")
    assert (found.value, found.ci_low, found.reason) == (None, None, "insufficient_data")


def epochs() -> tuple[list[Cell], dict[int, dict[str, float]]]:
    """Three epochs of a bandit that moves to socks."""
    shares = {epoch: {"none": 1.0 - p, "socks": p} for epoch, p in enumerate((0.5, 0.7, 0.9))}
    cells = [
        cell_of(
            key,
            n=int(20_000 * share),
            candidates=KEYS,
            epoch=epoch,
            **shoppers(int(20_000 * share), 10 * epoch + (key == "socks")),  # type: ignore[arg-type]
        )
        for epoch, by_key in shares.items()
        for key, share in by_key.items()
    ]
    return cells, shares


def test_under_a_bandit_it_is_the_aipw_lift_and_wider_than_its_interval():
    """The half-width of the credible interval by AIPW is 1.96 standard errors, that of the sequence more."""
    cells, by_epoch = epochs()
    shares = {served_place(cell): by_epoch[cell.key.epoch] for cell in cells}
    metrics = metrics_of(cells, policy=PolicyKind.THOMPSON, epoch_shares=shares)
    factor = multiplier(BEST_ETA * 60_000 / TUNED_UNITS) / 1.959964
    for key in ("conversion_rate", "revenue_per_unit", "aov"):
        found, aipw = sequence(metrics, key), metrics[key].aipw
        assert aipw is not None
        shown = aipw.lift_abs
        assert shown.value is not None
        assert shown.ci_high is not None
        assert found.ci_high is not None
        assert found.value == pytest.approx(shown.value, rel=1e-6)
        assert found.ci_high - found.value == pytest.approx(factor * (shown.ci_high - shown.value), rel=1e-4)
        assert found.method == "asymptotic, normal mixture of AIPW increments"


def test_an_epoch_in_which_nobody_is_anchored_yet_adds_nothing():
    """Assigned and not exposed, under `anchor: exposure`: its figures would be 0 / 0."""
    cells, by_epoch = epochs()
    last = max(by_epoch)
    unseen = np.zeros(50, dtype=np.int64)
    more = [cell_of(key, n=50, candidates=KEYS, epoch=last + 1, units=unseen) for key in KEYS]
    shares = {served_place(cell): by_epoch[min(cell.key.epoch, last)] for cell in (*cells, *more)}
    found, without = (
        metrics_of(some, policy=PolicyKind.THOMPSON, epoch_shares=shares)["conversion_rate"]
        for some in ([*cells, *more], cells)
    )
    assert found.figures.sequential == without.figures.sequential
    assert without.figures.sequential is not None
    assert without.figures.sequential.value is not None


def test_under_a_bandit_without_known_shares_there_is_none():
    found = sequence(metrics_of(epochs()[0], policy=PolicyKind.THOMPSON), "conversion_rate")
    assert (found.value, found.reason) == (None, "propensity_unknown")


def test_a_variant_of_few_units_has_none_under_a_bandit_either():
    cells, by_epoch = epochs()
    few = [cell for cell in cells if cell.key.variant == "none"]
    few += [cell_of("socks", n=900, candidates=KEYS, **shoppers(900, 3))]  # type: ignore[arg-type]
    shares = {served_place(cell): by_epoch[cell.key.epoch] for cell in few}
    found = sequence(metrics_of(few, policy=PolicyKind.THOMPSON, epoch_shares=shares), "aov")
    assert found.reason == "insufficient_data"


def test_capped_money_has_a_sequence_of_its_own():
    cells = [
        cell_of(
            key,
            n=4_000,
            candidates=KEYS,
            **(UNITS[key] | {"margin_capped": np.minimum(UNITS[key]["margin"], 4_000)}),  # type: ignore[arg-type]
        )
        for key in KEYS
    ]
    metric = metrics_of(cells)["margin_per_unit"]
    assert metric.winsorised is not None
    assert metric.winsorised.sequential is not None
    assert metric.winsorised.sequential.value == pytest.approx(metric.winsorised.lift_abs.value)
    assert metric.winsorised.sequential != metric.figures.sequential
    assert metrics_of(cells_of())["margin_per_unit"].winsorised is None


def test_where_shares_went_by_context_it_rests_on_the_logged_propensities():
    """All of 1/2: the plain difference of means."""
    cells: list[Cell] = []
    for key in KEYS:
        over = {
            f"{name}{OVER_P}": 2 * FIXED_POINT * values
            for name, values in (
                ("units", np.ones(4_000, dtype=object)),
                ("converted", UNITS[key]["converted"]),
            )
        }
        arrays = UNITS[key] | {name: values.astype(object) for name, values in over.items()}
        cells.append(cell_of(key, n=4_000, candidates=KEYS, **arrays))  # type: ignore[arg-type]
    found = sequence(metrics_of(cells, policy=PolicyKind.CONTEXTUAL), "conversion_rate")
    socks, none = (float(UNITS[key]["converted"].mean()) for key in ("socks", "none"))
    assert found.value == pytest.approx(socks - none)
    assert found.method == "asymptotic, normal mixture of AIPW increments"

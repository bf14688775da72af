"""Shares, priors and verdict thresholds, each recomputed from the sentence that defines it."""

from datetime import UTC, date, datetime, timedelta

import numpy as np
import pytest
from scipy import stats

from experiments.allocation.guarding import Guarded, guard
from experiments.allocation.proposal import propose
from experiments.allocation.published import Cause, PolicyVersion
from experiments.analysis.objective import allocation_posteriors
from experiments.analysis.read_out import read_out
from experiments.analysis.verdict import Facts, judge
from experiments.model import Experiment, Guardrail, PolicyKind, PolicySettings, VerdictSettings
from experiments.statistics import Cell
from tests.experiments.cells import cell_of, experiment_of

KEYS = ("none", "socks", "mug")
NOW = datetime(2026, 12, 1, tzinfo=UTC)
DAY = date(2026, 3, 2)


def adaptive(**settings: object) -> Experiment:
    chosen = {"kind": PolicyKind.THOMPSON, "objective": "margin_per_unit"} | settings
    policy = PolicySettings(**chosen)  # type: ignore[arg-type]
    return experiment_of("socks", "mug", settings=policy)


def paying(rng: np.random.Generator, means: dict[str, float], n: int, **more: object) -> list[Cell]:
    placement: dict[str, object] = {"candidates": KEYS} | more
    return [
        cell_of(key, n=n, margin=rng.normal(mean, 800, n).astype(int), **placement)  # type: ignore[arg-type]
        for key, mean in means.items()
    ]


def proposed(experiment: Experiment, cells: list[Cell], **more: object):
    given: dict[str, object] = {"guarded": Guarded(), "promoted": None, "last": None}
    return propose(
        experiment,
        cells,
        frozenset(KEYS),
        [],
        **(given | more),  # type: ignore[arg-type]
        time_zone="UTC",
        now=NOW,
    )


def test_the_default_prior_of_a_mean_is_one_unit_of_the_pooled_mean_and_variance():
    """Normal-inverse-gamma by its own formulas, in floats over the raw totals."""
    cells = paying(np.random.default_rng(2), {"none": 500, "socks": 600, "mug": 520}, 40)
    found = allocation_posteriors(adaptive(), cells, KEYS, time_zone="UTC", now=NOW)
    n, total, square = (
        np.array([f(c.moments) for c in cells], dtype=float)
        for f in (
            lambda m: m.sum("units"),
            lambda m: m.sum("margin"),
            lambda m: m.product("margin", "margin"),
        )
    )
    means, deviations = total / n, square - total**2 / n
    pooled_mean, pooled_variance = total.sum() / n.sum(), deviations.sum() / (n.sum() - 3)
    for arm, key in enumerate(KEYS):
        kappa = nu = 1 + n[arm]
        location = (pooled_mean + total[arm]) / kappa
        spread = pooled_variance + deviations[arm] + n[arm] / kappa * (means[arm] - pooled_mean) ** 2
        by_hand = stats.t(nu, location, np.sqrt(spread / nu / kappa))
        posterior = found.posteriors[key]
        for q in (0.025, 0.5, 0.9):
            assert float(posterior.ppf(q)) == pytest.approx(by_hand.ppf(q), rel=1e-9)


def test_shares_are_the_formula_of_p_best_and_the_control_competes():
    """P(best) here from 400,000 draws; s = f + (1 - c - 2 f) w, control + (c - f)."""
    rng = np.random.default_rng(6)
    experiment = adaptive(control_share=0.2, floor=0.05, burn_in=100)
    cells = paying(rng, {"none": 560, "socks": 540, "mug": 450}, 200)
    shares = proposed(experiment, cells).sets[KEYS].shares
    posteriors = allocation_posteriors(experiment, cells, KEYS, time_zone="UTC", now=NOW).posteriors
    draws = np.column_stack([posteriors[key].draw(400_000, rng=rng) for key in KEYS])
    w = np.bincount(draws.argmax(axis=1), minlength=3) / len(draws)
    assert w[0] > 0.4, "the control must be a contender here"
    expected = 0.05 + (1 - 0.2 - 2 * 0.05) * w + np.array([0.15, 0, 0])
    assert [shares[key] / 2**32 for key in KEYS] == pytest.approx(expected.tolist(), abs=0.003)
    assert shares["none"] / 2**32 > 0.2


def test_burn_in_counts_units_over_all_sets_and_needs_every_variant():
    rng = np.random.default_rng(7)
    experiment = adaptive(burn_in=100, control_share=0.2)
    wide = paying(rng, {"none": 500, "socks": 900, "mug": 500}, 60, candidate_set=7)
    narrow = paying(rng, {"none": 500, "socks": 900}, 40, candidate_set=3, candidates=("none", "socks"))
    assert proposed(experiment, [*wide, *narrow]).burn_in, "mug has 60"
    more = paying(rng, {"mug": 500}, 40, candidate_set=5, candidates=("none", "mug"))
    assert not proposed(experiment, [*wide, *narrow, *more]).burn_in
    shares = proposed(experiment, wide).sets[KEYS].shares
    assert [shares[key] / 2**32 for key in KEYS] == pytest.approx([0.2, 0.4, 0.4])


def test_a_throttle_caps_at_the_floor_and_its_excess_is_the_controls():
    rng = np.random.default_rng(8)
    experiment = adaptive(burn_in=100, floor=0.03)
    cells = paying(rng, {"none": 500, "socks": 1500, "mug": 500}, 300)
    free = proposed(experiment, cells).sets[KEYS].shares
    capped = proposed(experiment, cells, guarded=Guarded(capped={"socks": 0.03})).sets[KEYS].shares
    assert free["socks"] / 2**32 > 0.8
    assert capped["socks"] / 2**32 == pytest.approx(0.03, abs=1e-9)
    assert capped["mug"] == free["mug"]
    assert capped["none"] - free["none"] == free["socks"] - capped["socks"]


def version_of(experiment: Experiment, cells: list[Cell]) -> PolicyVersion:
    return PolicyVersion(2, 2, 0, Cause.SHARES_MOVED, "none", proposed(experiment, cells).sets)


@pytest.mark.parametrize(("units", "state"), [(999, "throttle"), (1000, "kill")])
def test_a_kill_asks_for_a_thousand_matured_units_in_both_arms_and_stays(units, state):
    """Open windows do not count towards the thousand; better news later changes nothing."""
    experiment = experiment_of(
        "socks",
        "mug",
        guardrails=(Guardrail("conversion_rate", 0.01, 0.02, 0.04),),
        settings=PolicySettings(kind=PolicyKind.THOMPSON, objective="conversion_rate"),
    )
    now = datetime(2026, 3, 12, tzinfo=UTC)

    def converting(key: str, rate: float, n: int, day: date) -> Cell:
        hits = np.arange(n) < rate * n
        return cell_of(key, n=n, candidates=KEYS, day=day, converted=hits)

    rates = {"none": 0.6, "socks": 0.4, "mug": 0.6}
    cells = [converting(key, rate, units, DAY) for key, rate in rates.items()]
    cells += [converting(key, rate, 3000, DAY + timedelta(days=8)) for key, rate in rates.items()]
    last = version_of(experiment, cells)
    given = {"time_zone": "UTC", "now": now}
    found = guard(experiment, cells, frozenset(KEYS), [], last, **given)  # type: ignore[arg-type]
    assert {e["variant"]: e["state"] for e in found.entries} == {"socks": state, "mug": "ok"}
    assert found.killed == (frozenset({"socks"}) if state == "kill" else frozenset())
    if state == "kill":
        better = [*cells, converting("socks", 0.95, 90_000, DAY)]
        left = frozenset(KEYS) - found.killed
        later = guard(experiment, better, left, found.entries, last, **given)  # type: ignore[arg-type]
        assert {e["variant"]: e["state"] for e in later.entries}["socks"] == "kill"
        resumed = guard(experiment, cells, frozenset(KEYS), found.entries, last, **given)  # type: ignore[arg-type]
        assert {e["variant"]: e["state"] for e in resumed.entries}["socks"] == "throttle"


@pytest.mark.parametrize("treatments", [1, 2, 5])
def test_up_asks_for_1_minus_0_025_over_the_number_of_treatments(treatments):
    sure = 1 - 0.025 / treatments
    for prob, kind in ((sure, "healthy"), (sure - 1e-6, "promising")):
        facts = Facts(prob, None, 0.0, (0.05,), treatments)
        assert judge(facts, VerdictSettings())[0].value == kind
    facts = Facts(1 - sure, None, 0.0, (0.05,), treatments)
    assert judge(facts, VerdictSettings())[0].value == "harmful"


def test_lower_is_better_for_a_metric_that_is_good_when_low():
    """Fewer refunds: socks is best, beats control, and loses nothing to it; by draws of both arms."""
    rng = np.random.default_rng(12)
    rates = {"none": 0.12, "socks": 0.10, "mug": 0.13}
    cells = [
        cell_of(
            key,
            n=3000,
            candidates=KEYS,
            orders=np.ones(3000, dtype=int),
            refunded_orders=rng.random(3000) < rate,
        )
        for key, rate in rates.items()
    ]
    report = read_out(experiment_of("socks", "mug"), cells, time_zone="UTC", now=NOW)
    draws = {}
    for cell in cells:
        mean = cell.moments.sum("refunded_orders") / 3000
        draws[cell.key.variant] = rng.normal(mean, np.sqrt(mean * (1 - mean) / 3000), 300_000)
    table = np.column_stack([draws[key] for key in KEYS])
    best = np.bincount(table.argmin(axis=1), minlength=3) / len(table)
    loss = (table - table.min(axis=1, keepdims=True)).mean(axis=0)
    for index, key in enumerate(KEYS):
        figures = report.variant(key).metrics["refund_rate"].figures
        assert figures.prob_best == pytest.approx(best[index], abs=0.005)
        assert figures.expected_loss == pytest.approx(loss[index], abs=2e-4)
    figures = report.variant("socks").metrics["refund_rate"].figures
    assert figures.prob_beats_control == pytest.approx((draws["socks"] < draws["none"]).mean(), abs=0.005)

"""Confidence sequences against the package ville, the definition of a martingale, and brute force."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from scipy import optimize, stats

from experiments.analysis.sequential import (
    BEST_ETA,
    PRIOR_UNITS,
    TUNED_UNITS,
    Counts,
    _highest,
    _least,
    lift_of_rates,
    log_mixture,
    multiplier,
    rate_sequence,
)

LEVEL = math.log(20.0)
VILLE = json.loads((Path(__file__).parent / "golden" / "ville.json").read_text("utf-8"))


@pytest.mark.parametrize("case", VILLE["rates"], ids=lambda c: f"{c['successes']} of {c['units']}")
def test_the_evidence_against_a_rate_is_villes(case):
    """And so the sequence leaves out exactly the rates of which ville's e-value has reached 20."""
    counts = Counts(case["units"], case["successes"])
    low, high = rate_sequence(counts)
    assert VILLE["prior_units"] == PRIOR_UNITS
    for rate, log_e in case["log_e"]:
        assert log_mixture(counts, rate) == pytest.approx(log_e, rel=1e-9, abs=1e-7)
        assert (low <= rate <= high) == (log_e < LEVEL)


@pytest.mark.parametrize("case", VILLE["mean"], ids=lambda c: f"{c['units']} units")
def test_the_asymptotic_sequence_of_a_mean_is_villes(case):
    n, (total, squares) = case["units"], case["sums"]
    mean = total / n
    error = math.sqrt((squares - n * mean**2) / (n - 1) / n)
    half = multiplier(BEST_ETA * n / TUNED_UNITS) * error
    assert [mean - half, mean + half] == pytest.approx(case["interval"], rel=1e-6)


def test_the_asymptotic_sequence_of_a_lift_is_villes_but_for_its_centring():
    """ville weighs by the inverse shares about a running mean, we take the difference of means.

    The two estimates differ by noise of the order of 1 / n; the half-widths agree within 1 %.
    """
    case = VILLE["lift"]
    arms = case["treatment"], case["control"]
    means = [arm["sums"][0] / arm["units"] for arm in arms]
    errors = [
        (arm["sums"][1] / arm["units"] - mean**2) / (arm["units"] - 1)
        for arm, mean in zip(arms, means, strict=True)
    ]
    half = multiplier(BEST_ETA * sum(arm["units"] for arm in arms) / TUNED_UNITS) * math.sqrt(sum(errors))
    low, high = case["interval"]
    assert half == pytest.approx((high - low) / 2, rel=0.01)
    assert means[0] - means[1] == pytest.approx((low + high) / 2, abs=0.05 * half)


def test_the_multiplier_is_robbins_boundary():
    for units, factor in VILLE["multiplier"]:
        assert multiplier(BEST_ETA * units / TUNED_UNITS) == pytest.approx(factor, rel=1e-6)
    assert min(multiplier(BEST_ETA * step) for step in (0.9, 1.1)) > multiplier(BEST_ETA)


def expected_mixture(units: int, truth: float, rate: float) -> float:
    """E[M(rate)] over the successes among so many units, by all of their chances."""
    logs = stats.binom.logpmf(np.arange(units + 1), units, truth)
    return math.fsum(math.exp(float(log) + log_mixture(Counts(units, s), rate)) for s, log in enumerate(logs))


@pytest.mark.parametrize("rate", [0.02, 0.3, 0.9])
def test_the_mixture_is_a_martingale_that_starts_at_one(rate):
    """Its expectation is 1 at any n, and given the past it does not move."""
    for n in (1, 20, 3_000):
        assert expected_mixture(n, rate, rate) == pytest.approx(1.0, abs=1e-8)
    now, missed, hit = (
        math.exp(log_mixture(counts, rate)) for counts in (Counts(40, 7), Counts(41, 7), Counts(41, 8))
    )
    assert rate * hit + (1.0 - rate) * missed == pytest.approx(now, rel=1e-11)


def test_a_mixture_at_another_rate_is_none():
    """The planted bug: evidence against 0.31 where the truth is 0.30."""
    assert expected_mixture(3_000, 0.30, 0.31) > 1.2


PAIRS = [
    (Counts(5_000, 550), Counts(5_000, 500)),
    (Counts(400, 12), Counts(90_000, 2_700)),
    (Counts(2_000, 1_990), Counts(3_000, 2_700)),
    (Counts(300, 4), Counts(300, 9)),
    (Counts(300, 1), Counts(50, 0)),
]


@pytest.mark.parametrize(("treatment", "control"), PAIRS)
def test_a_lift_is_at_the_edge_of_what_both_arms_allow(treatment, control):
    """At either end the least joint evidence, over the control's rate, is log 20; just within it is less.

    By brute force, where the whole range of rates does not end first.
    """
    low, high = lift_of_rates(treatment, control)
    lift = treatment.successes / treatment.units - control.successes / control.units
    assert -1.0 <= low < lift < high <= 1.0
    for end in (low, high):
        least, inside = (
            joint_evidence(treatment, control, end + step) for step in (0.0, 0.02 * (lift - end))
        )
        assert least == pytest.approx(LEVEL, abs=0.02)
        assert inside < least


def joint_evidence(treatment: Counts, control: Counts, lift: float) -> float:
    """The least of log M_t + log M_c over all pairs of rates with that difference."""

    def evidence(rate: float) -> float:
        return log_mixture(treatment, rate + lift) + log_mixture(control, rate)

    first, last = max(0.0, -lift) + 1e-12, min(1.0, 1.0 - lift) - 1e-12
    grid = np.linspace(first, last, 4_001)
    best = int(np.argmin([evidence(rate) for rate in grid]))
    around = grid[max(0, best - 1)], grid[min(4_000, best + 1)]
    return float(optimize.minimize_scalar(evidence, bounds=around, method="bounded").fun)


@pytest.mark.parametrize(("treatment", "control"), [PAIRS[0], (Counts(1_000, 100), Counts(9_000, 900))])
def test_both_arms_together_say_more_than_each_at_half_the_error(treatment, control):
    low, high = lift_of_rates(treatment, control)
    level = math.log(40.0)
    (t_low, t_high), (c_low, c_high) = (rate_sequence(arm, level) for arm in (treatment, control))
    assert high - low < 0.95 * ((t_high - c_low) - (t_low - c_high))


def test_exchanged_arms_and_outcomes_mirror_the_lift():
    treatment, control = PAIRS[1]
    low, high = lift_of_rates(treatment, control)
    assert lift_of_rates(control, treatment) == pytest.approx((-high, -low), abs=1e-9)
    assert lift_of_rates(control.failures, treatment.failures) == pytest.approx((low, high), abs=1e-6)


def test_nothing_seen_allows_every_rate():
    assert rate_sequence(Counts(1, 0)) == (0.0, 1.0)
    assert rate_sequence(Counts(1, 1)) == (0.0, 1.0)


def test_a_level_at_the_least_gives_the_samples_own_rate():
    """The minimiser comes to the end of the levels, where rounding may put the mixture on either side."""
    counts = Counts(400, 30)
    assert _highest(counts, _least(counts) - 1e-12) == counts.rate
    assert counts.rate < _highest(counts, _least(counts) + 1e-6) < counts.rate + 1e-3

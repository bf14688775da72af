"""The studies of constant looking and of lost exposures, short, and with bugs that they must show."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import special

from experiments.analysis import sequential_lifts
from experiments.analysis.srm import log_e_value
from sim.calibration import mismatch, peeking
from sim.calibration.part import State


def rows_of(name: str, runs: int, looks: int = 40) -> list[peeking.Row]:
    return peeking.peeking(name, peeking.WORLDS[name], runs=runs, seed=1, looks=looks)


def most(rate: float, runs: int) -> float:
    """Four standard errors above a rate."""
    return rate + 4.0 * math.sqrt(rate * (1.0 - rate) / runs)


@pytest.mark.parametrize("name", ["3 % buy", "30 % buy, several orders", "buyers rise from 5 to 15 %"])
def test_who_looks_all_the_time_is_seldom_wrong(name: str) -> None:
    """40 looks, fixed shares: alarms well below 5 % of lifts, where credible intervals err in some 30 %."""
    for row in rows_of(name, runs=100):
        assert row.sequential <= most(0.03, 100)
        assert row.credible > 0.1


def test_nor_under_a_bandit() -> None:
    for row in rows_of("Thompson, 10 % buy", runs=20):
        assert row.sequential <= most(0.03, row.lifts)
        assert row.credible > 0.05


def test_a_standard_error_of_half_its_size_would_be_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """The planted bug: the variance of a quarter. (A doubled alpha is seen by test_sequential.py.)"""
    real = sequential_lifts.asymptotic_lift
    monkeypatch.setattr(
        sequential_lifts,
        "asymptotic_lift",
        lambda lift, error, units: real(lift, error / 2, units),
    )
    assert rows_of("all buy, CV 1", runs=100)[0].sequential > most(0.03, 100)


def test_lost_exposures_are_found_and_none_are_made_up() -> None:
    calm = mismatch.mismatch("calm", mismatch.WORLDS["fixed, 0.50 / 0.25 / 0.25"], runs=100, seed=3)
    lost = mismatch.mismatch(
        "lost", mismatch.WORLDS["fixed, 0.50 / 0.25 / 0.25, `a` loses"], runs=200, seed=3
    )
    assert calm.alarms <= most(0.01, 200)
    assert lost.alarms >= 0.9


def test_under_a_bandit_the_split_is_calm() -> None:
    row = mismatch.mismatch("bandit", mismatch.WORLDS["Thompson, one better"], runs=20, seed=3)
    assert row.alarms <= 0.05


def test_shares_of_the_wrong_epoch_would_alarm() -> None:
    """The planted bug: every epoch of a bandit against the shares of the last one."""
    split = mismatch.exposures(mismatch.WORLDS["Thompson, one better"], np.random.default_rng(5))[-1]
    assert log_e_value(split) < math.log(100.0)
    stale = type(split)(split.variants, split.counts, np.broadcast_to(split.shares[-1], split.shares.shape))
    assert log_e_value(stale) > math.log(100.0)


def test_pearson_has_not_the_variance_it_takes() -> None:
    """Shares of 0.9 and 0.1: the sum has 0.09 / 0.25 = 0.36 of one draw's variance; it alarms too seldom."""
    world = mismatch.WORLDS["two segments, 0.90 / 0.10 and 0.10 / 0.90"]
    rng = np.random.default_rng(3)
    found = [mismatch.pearson(mismatch.exposures(world, rng)[-1]) for _ in range(300)]
    assert np.mean(found) == pytest.approx(0.36, abs=5 * 0.36 * math.sqrt(2 / 300))
    assert max(found) < special.chdtri(1, 0.01)


def test_alarms_come_with_the_looks_and_never_go() -> None:
    """The share after each look of `TOLD` only grows, up to that of all looks."""
    (row,) = peeking.peeking("x", peeking.WORLDS["10 % buy"], runs=20, seed=1)
    for by, whole in ((row.credible_by, row.credible), (row.sequential_by, row.sequential)):
        assert list(by) == sorted(by)
        assert by[-1] == whole
    assert row.credible_by[0] < row.credible


def test_the_tables_have_a_line_for_each_world() -> None:
    peeked = peeking.text({"": [peeking.Row("a world", "aov", 20, 0.4, 0.01, 3.2, (), ())]})
    assert peeked.endswith("| a world | `aov` | 20 | 0.400 | 0.010 | 3.20 |")
    rows = [mismatch.Row("a world", 20, 20, 0.01, 0.0, 0.36), mismatch.Row("none", 20, 0, 0.0, 0.0, 0.0)]
    missed = mismatch.text({"": rows})
    assert missed.endswith("| a world | 20 | 20 | 0.010 | 0.000 | 0.36 |\n| none | 20 | 0 | – | – | – |")


def test_what_is_not_held_is_said() -> None:
    """5 % false alarms where 1 % is promised, 90 % found where it is 95 %: in 2,000 runs no accident."""
    calm, lost = "fixed, 0.50 / 0.25 / 0.25", "fixed, 0.50 / 0.25 / 0.25, `a` loses"
    rows = {
        calm: [mismatch.Row(calm, 2000, 2000, 0.05, 0.0, 1.0)],
        lost: [mismatch.Row(lost, 2000, 2000, 0.90, 1.0, 18.0)],
    }
    assert [promise.state for promise in mismatch.promises(rows)] == [State.MISSED, State.MISSED]
    beyond = "fixed, 0.10 / 0.88 / 0.02, `a` loses"
    (line,) = mismatch.promises({beyond: [mismatch.Row(beyond, 2000, 2000, 0.64, 0.94, 10.8)]})
    assert (line.found, line.state) == ("64.0%", State.BEYOND), "said, though nobody could hold it"
    alarmed = peeking.Row("10 % buy", "conversion_rate", 2000, 0.4, 0.08, 3.9, (), ())
    assert [promise.state for promise in peeking.promises({"": [alarmed]})] == [State.MISSED]

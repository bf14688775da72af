"""The study of logged propensities in short: choices agree with them, and three planted bugs are refuted."""

from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from benchmarks.studies import selection as study
from experiments.model import PolicyKind
from service.catalogue import LiveExperiment

UNITS, SEED = 4_000, 5
OFTEN, NEVER = 1e-4, 1e-9
TOLD_APART = [PolicyKind.SEGMENT, PolicyKind.CONTEXTUAL]


@lru_cache
def live(kind: PolicyKind, capped: bool = True) -> LiveExperiment:
    return study.live_experiment(kind, study.CAPS if capped else {}, seed=SEED)


@pytest.mark.parametrize("name", study.SETS)
@pytest.mark.parametrize("kind", PolicyKind)
def test_units_are_chosen_as_often_as_is_logged(kind: PolicyKind, name: str) -> None:
    won, logged = study.decided(live(kind), study.SETS[name], units=UNITS, seed=SEED)
    found = study.agreement(won, logged)
    assert min(found.p_value, found.bins_p_value) > OFTEN
    assert logged.sum(axis=1) == pytest.approx(np.ones(UNITS), abs=1e-12)
    for place, key in enumerate(study.SETS[name]):
        assert logged[:, place].max() <= study.CAPS.get(key, 1.0)


@pytest.mark.parametrize("kind", PolicyKind)
def test_a_race_on_shares_before_their_caps_is_refuted(kind: PolicyKind) -> None:
    won, logged = study.decided(live(kind, False), study.KEYS, units=UNITS, seed=SEED, logs=live(kind))
    assert study.agreement(won, logged).p_value < NEVER


def test_the_shares_of_all_variants_logged_for_a_subset_are_refuted() -> None:
    some = study.SETS["three, published"]
    won, _ = study.decided(live(PolicyKind.THOMPSON), some, units=UNITS, seed=SEED)
    whole = live(PolicyKind.THOMPSON).shares_for(study.KEYS)
    wrong = np.array([whole[key] for key in some]) / sum(whole[key] for key in some)
    assert study.agreement(won, np.tile(wrong, (UNITS, 1))).p_value < NEVER


@pytest.mark.parametrize("kind", TOLD_APART)
def test_the_propensity_of_somebody_else_is_refuted_by_its_bin_and_not_by_the_sum(kind: PolicyKind) -> None:
    won, logged = study.decided(live(kind), study.KEYS, units=UNITS, seed=SEED)
    found = study.agreement(won, np.random.default_rng(1).permutation(logged))
    assert found.p_value > OFTEN
    assert found.bins_p_value < NEVER


def test_one_propensity_is_the_chi_square_of_pearson() -> None:
    counts, shares = np.array([180, 330, 490]), np.array([0.2, 0.3, 0.5])
    found = study.agreement(np.repeat([0, 1, 2], counts), np.tile(shares, (1000, 1)))
    expected = stats.chisquare(counts, 1000 * shares)
    assert (found.chi_square, found.p_value) == pytest.approx((expected.statistic, expected.pvalue))
    assert found.bins == 3
    assert found.furthest == pytest.approx(30 / np.sqrt(1000 * 0.3 * 0.7))


def test_unequal_propensities_keep_their_level() -> None:
    """400 times 300 units chosen by their own propensities: p-values are uniform (Kolmogorov-Smirnov)."""
    rng = np.random.default_rng(3)
    found: list[float] = []
    for _ in range(400):
        logged = rng.dirichlet((2.0, 1.0, 3.0), 300)
        won = (rng.random(300)[:, np.newaxis] > logged.cumsum(axis=1)).sum(axis=1)
        found.append(study.agreement(np.minimum(won, 2), logged).p_value)
    assert stats.kstest(found, "uniform").pvalue > 1e-3
    assert np.mean([p < 0.05 for p in found]) == pytest.approx(0.05, abs=5 * np.sqrt(0.05 * 0.95 / 400))


def test_the_study_writes_its_part_of_the_page(tmp_path: Path) -> None:
    page = tmp_path / "policies.md"
    page.write_text(f"before\n{study.MARKS[0]}\nold\n{study.MARKS[1]}\nafter\n", "utf-8")
    study.selection(units=500, seed=1, page=page)
    text = page.read_text("utf-8")
    assert text.startswith(f"before\n{study.MARKS[0]}\nEvery row 500 units")
    assert text.endswith(f"{study.MARKS[1]}\nafter\n")
    assert "old" not in text
    assert len([line for line in text.splitlines() if line.startswith("| `")]) == 15


def test_the_committed_page_has_both_marks_once() -> None:
    text = study.PAGE.read_text("utf-8")
    assert [text.count(mark) for mark in study.MARKS] == [1, 1]
    assert text.index(study.MARKS[0]) < text.index(study.MARKS[1])

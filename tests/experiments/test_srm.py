"""The split of exposed units against their shares: an e-process, checked by enumeration and against SciPy."""

import math
from itertools import product

import numpy as np
import pytest
from scipy import stats

from experiments.analysis import srm_context
from experiments.analysis.read_out import read_out
from experiments.analysis.report import Check
from experiments.analysis.served import EpochShares, served_place
from experiments.analysis.srm import ALARM, LOSS_STAKE, SIZES, Split, log_e_value, split_of, srm_check
from experiments.model import PolicyKind
from experiments.statistics import FIXED_POINT, OVER_P, Cell
from tests.experiments.cells import cell_of, experiment_of
from tests.experiments.test_analysis_checks import NOW

KEYS = ("a", "b", "c")
SHARES = np.array([[0.5, 0.3, 0.2], [0.1, 0.1, 0.8]])


def expected_e_value(drawn_by: np.ndarray, units: tuple[int, int], scored_by: np.ndarray) -> float:
    """E[e-value] over every way in which the units of two places can be drawn."""
    total = 0.0
    draws = [[c for c in product(range(n + 1), repeat=3) if sum(c) == n] for n in units]
    for first, second in product(*draws):
        counts = np.array([first, second], dtype=float)
        chance = math.prod(
            stats.multinomial.pmf(row, n, p) for row, n, p in zip(counts, units, drawn_by, strict=True)
        )
        total += float(chance) * math.exp(log_e_value(Split(KEYS, counts, scored_by)))
    return total


def test_the_e_value_is_one_on_average_whatever_the_shares_of_a_place():
    """Exactly, by enumeration; the planted bug scores the second place's units by the first one's shares."""
    assert expected_e_value(SHARES, (5, 7), SHARES) == pytest.approx(1.0, abs=1e-12)
    assert expected_e_value(SHARES, (5, 7), SHARES[[0, 0]]) > 1.5


def test_the_e_value_is_an_average_of_likelihood_ratios():
    """Of multinomial draws with one variant's share tilted, by SciPy."""
    counts = np.array([[510.0, 260.0, 210.0], [95.0, 80.0, 830.0]])
    ratios: list[float] = []
    for sign, stake in ((-1, LOSS_STAKE), (1, 1 - LOSS_STAKE)):
        for size, k in product(SIZES, range(3)):
            tilted = SHARES * np.where(np.arange(3) == k, math.exp(sign * size), 1.0)
            tilted /= tilted.sum(axis=1, keepdims=True)
            log_ratio = sum(
                stats.multinomial.logpmf(row, row.sum(), q) - stats.multinomial.logpmf(row, row.sum(), p)
                for row, q, p in zip(counts, tilted, SHARES, strict=True)
            )
            ratios.append(stake / (len(SIZES) * 3) * math.exp(log_ratio))
    assert math.exp(log_e_value(Split(KEYS, counts, SHARES))) == pytest.approx(sum(ratios), rel=1e-9)


def test_places_may_be_split_and_variants_relabelled():
    counts = np.array([[510.0, 260.0, 210.0], [95.0, 80.0, 830.0]])
    whole = log_e_value(Split(KEYS, counts, SHARES))
    halves = Split(KEYS, np.vstack([counts / 2, counts / 2]), np.vstack([SHARES, SHARES]))
    turned = Split(KEYS[::-1], counts[:, ::-1], SHARES[:, ::-1])
    assert log_e_value(halves) == pytest.approx(whole)
    assert log_e_value(turned) == pytest.approx(whole)


EVEN = {"none": 0.5, "socks": 0.5}
SKEWED = {"none": 0.1, "socks": 0.9}


def cells_of(*rows: tuple[int, str, int, int]) -> list[Cell]:
    """Cells of (epoch, variant, units assigned, units exposed)."""
    return [
        cell_of(key, n=n, candidates=("none", "socks"), epoch=epoch, exposed=np.arange(n) < exposed)
        for epoch, key, n, exposed in rows
    ]


def shares_of(cells: list[Cell], *by_epoch: dict[str, float]) -> EpochShares:
    return {served_place(cell): by_epoch[cell.key.epoch] for cell in cells if cell.key.epoch < len(by_epoch)}


def check_of(cells: list[Cell], *by_epoch: dict[str, float]) -> Check:
    return srm_check(experiment_of("socks"), cells, shares_of(cells, *by_epoch))


def test_units_that_match_the_shares_of_their_epochs_are_fine():
    """Pooled, socks has 5,600 of 8,000 units; each epoch has what its shares say."""
    cells = cells_of((0, "none", 2000, 2000), (0, "socks", 2000, 2000))
    cells += cells_of((1, "none", 400, 400), (1, "socks", 3600, 3600))
    found = check_of(cells, EVEN, SKEWED)
    assert (found.name, found.state, found.remedy) == ("srm", "ok", None)
    assert "8000 exposed units" in found.detail
    assert "none +0.00%, socks +0.00%" in found.detail


def test_lost_exposures_alarm_and_say_what_to_do():
    """Of 4,000 units of each 400 of socks were not seen: 4.6 standard errors."""
    cells = cells_of((0, "none", 4000, 4000), (0, "socks", 4000, 3600))
    found = check_of(cells, EVEN)
    assert found.state == "warn"
    assert found.remedy is not None
    assert "none +5.26%, socks -5.26%" in found.detail
    assert f"alarm at {ALARM:.0f}" in found.detail


def test_a_very_large_e_value_is_written_by_its_power():
    cells = cells_of((0, "none", 20_000, 20_000), (0, "socks", 20_000, 10_000))
    assert "e-value 1e" in check_of(cells, EVEN).detail


def test_where_a_variant_reports_no_exposure_units_assigned_are_counted():
    cells = cells_of((0, "none", 2000, 0), (0, "socks", 2000, 1900))
    found = check_of(cells, EVEN)
    assert found.state == "ok"
    assert "4000 assigned units" in found.detail


def test_units_of_unknown_shares_are_left_out_and_counted():
    """Epoch 1 has no shares on record, and socks had none in epoch 0's narrow twin."""
    cells = cells_of((0, "none", 100, 100), (0, "socks", 100, 100), (1, "socks", 70, 70))
    assert check_of(cells, EVEN).detail.endswith("; 70 units whose shares are not known are left out")
    assert split_of(cells, shares_of(cells, {"none": 1.0, "socks": 0.0}, EVEN), "exposed").left_out == 100


def test_without_any_shares_there_is_nothing_to_say():
    cells = cells_of((0, "none", 100, 100), (0, "socks", 100, 100))
    found = check_of(cells)
    assert (found.state, found.remedy) == ("info", None)


def test_the_report_has_the_check():
    cells = cells_of((0, "none", 4000, 4000), (0, "socks", 4000, 3600))
    shares = shares_of(cells, EVEN)
    report = read_out(experiment_of("socks"), cells, time_zone="UTC", now=NOW, epoch_shares=shares)
    assert next(check for check in report.checks if check.name == "srm").state == "warn"


def by_context(keys: tuple[str, ...], lost: float, seed: int = 1, n: int = 40_000) -> list[Cell]:
    """Two contexts, shares of 0.6 and 0.2 the other way round; a part of what socks has seen is lost."""
    rng = np.random.default_rng(seed)
    shares = np.array([[0.2, 0.6, 0.2], [0.2, 0.2, 0.6]])[rng.integers(2, size=n)]
    arm = (rng.random(n)[:, None] > shares.cumsum(axis=1)).sum(axis=1)
    kept = ~((arm == 1) & (rng.random(n) < lost))
    cells: list[Cell] = []
    for index, key in enumerate(keys):
        p = shares[(arm == index) & kept, index]
        over = np.rint(FIXED_POINT / p).astype(object)
        features = {"exposed": np.ones(len(p), int), "exposed" + OVER_P: over, "units" + OVER_P: over}
        cells.append(cell_of(key, n=len(p), candidates=keys, **features))  # type: ignore[arg-type]
    return cells


VARIANTS = ("none", "socks", "mug")
CONTEXTUAL = experiment_of("socks", "mug", policy=PolicyKind.CONTEXTUAL)


def test_by_context_the_logged_propensities_are_enough_to_see_a_loss():
    """By hand: S, V and the mixture's e-value of each variant. 0.85 / 0.94 of socks are left."""
    cells = by_context(VARIANTS, lost=0.15)
    found = srm_check(CONTEXTUAL, cells, {})
    total = sum(cell.moments.sum("exposed") for cell in cells)
    logs: list[float] = []
    for cell in cells:
        inverse = cell.moments.sum("exposed/p") / FIXED_POINT
        variance = cell.moments.product("exposed/p", "exposed/p") / FIXED_POINT**2 - inverse
        r = (variance / total / 0.03) ** 2
        logs.append(0.5 * math.log(r / (r + variance)) + (inverse - total) ** 2 / (2 * (r + variance)))
    weighed, _ = srm_context.weigh(cells, VARIANTS, "exposed")
    expected = math.log(sum(math.exp(value) for value in logs) / 3)
    assert srm_context.log_e_value(weighed.values()) == pytest.approx(expected)
    assert (found.state, "asymptotic e-value" in found.detail) == ("warn", True)
    assert "socks -9." in found.detail


def test_by_context_a_split_that_is_right_is_fine():
    for seed in range(10):
        assert srm_check(CONTEXTUAL, by_context(VARIANTS, 0.0, seed, n=10_000), {}).state == "ok"


def test_by_context_wrong_propensities_are_seen():
    """The planted bug: every unit's propensity taken for a third."""
    cells = by_context(VARIANTS, 0.0)
    for cell in cells:
        units = cell.moments.sum("exposed")
        cell.moments.sums["exposed/p"] = 3 * FIXED_POINT * units
        cell.moments.products["exposed/p*exposed/p"] = 9 * FIXED_POINT**2 * units
    assert srm_check(CONTEXTUAL, cells, {}).state == "warn"


def test_by_context_few_units_or_none_with_propensities_say_nothing():
    assert srm_check(CONTEXTUAL, by_context(VARIANTS, 0.0, n=3_000), {}).state == "info"
    assert srm_check(CONTEXTUAL, [], {}).state == "info"
    plain = cell_of("none", n=50, candidates=VARIANTS, exposed=np.ones(50, int))
    found = srm_check(CONTEXTUAL, [*by_context(VARIANTS, 0.0), plain], {})
    assert found.detail.endswith("; 50 units whose shares are not known are left out")


def test_by_context_certain_shares_have_nothing_to_vary():
    sure = srm_context.Weighed(2_000, 2_000, 2_000.0, 2_000.0)
    assert srm_context.log_e_value([sure]) == 0.0

"""Health of exploration: formulas by hand and by brute force, and an alarm with hysteresis."""

import math
from datetime import date
from typing import Any

import numpy as np
import pytest

from experiments.allocation.health import (
    Exploration,
    Logged,
    Part,
    Sign,
    Worth,
    entropy_of,
    exploration,
    logged_worths,
    mean_entropy,
    trend,
    worths,
)
from experiments.allocation.thompson import shares
from experiments.statistics import Cell
from tests.experiments.cells import cell_of

DAY_US = 86_400_000_000
ALL = ("none", "socks")


def cell(variant: str, n: int, epoch: int, candidates: tuple[str, ...] = ALL) -> Cell:
    return cell_of(variant, n=n, candidates=candidates, epoch=epoch, day=date(2026, 3, 2))


def found(given: dict[str, float], *, cells: Any = (), before: Any = (), **more: Any) -> Exploration:
    past = [(at, entropy_of(old)) for at, old in more.pop("past", [])]
    worth = worths(cells, lambda one: (0.5, 0.02)[one.key.epoch])
    return exploration([Part(1.0, given)], past, worth, now_us=DAY_US, before=before, **more)


def test_a_ramp_s_first_step_is_no_collapse() -> None:
    """A second variant at 1 %, and a third: who is on a ramp is looked past, who is left is judged."""
    few = [Part(1.0, {"none": 0.99, "new": 0.01})]
    assert exploration(few, [], {}, now_us=0).collapsed == (Sign.ENTROPY,)
    assert exploration(few, [], {}, now_us=0, on_ramp={"new"}).collapsed == ()
    lost = [Part(1.0, {"none": 0.987, "old": 0.003, "new": 0.01})]
    found = exploration(lost, [], {}, now_us=0, on_ramp={"new"})
    assert found.collapsed == (Sign.ENTROPY, Sign.PROPENSITY)
    assert found.min_propensity == 0.003, "what is told is told of all"
    assert found.entropy == pytest.approx(entropy_of(lost[0].shares))


def test_entropy_by_hand() -> None:
    """-(0.8 ln 0.8 + 2 x 0.1 ln 0.1) / ln 3 = 0.6390 / 1.0986."""
    assert entropy_of({"a": 0.8, "b": 0.1, "c": 0.1}) == pytest.approx(0.581671, abs=1e-6)
    assert entropy_of({"a": 0.4, "b": 0.05, "c": 0.05}) == pytest.approx(0.581671, abs=1e-6)


def test_the_effective_sample_size_by_hand() -> None:
    """socks: 1,000 units at 1/2 (weight 1) and 200 at 1/50 (weight 25): 6,000^2 / 126,000 = 285.7."""
    cells = [cell("socks", 1000, 0), cell("socks", 200, 1), cell("none", 500, 0)]
    got = worths(cells, lambda one: (0.5, 0.02)[one.key.epoch])
    assert got["socks"].units == 1200
    assert got["socks"].ess == pytest.approx(6000**2 / 126_000)
    assert got["none"] == Worth(500, 500.0)


def test_the_effective_sample_size_is_that_of_the_units_weights() -> None:
    """Against the weights of every unit written out, sets of two and three; planted: sets taken as alike."""
    three = (*ALL, "cap")
    cells = [cell("socks", 300, 0), cell("socks", 50, 1), cell("socks", 400, 0, three)]
    got = worths(cells, lambda one: (0.5, 0.02)[one.key.epoch])["socks"]
    weights = np.repeat([1 / (2 * 0.5), 1 / (2 * 0.02), 1 / (3 * 0.5)], [300, 50, 400])
    assert got.ess == pytest.approx(weights.sum() ** 2 / (weights**2).sum())
    alike = np.repeat([1 / 0.5, 1 / 0.02, 1 / 0.5], [300, 50, 400])
    assert abs(got.ess - alike.sum() ** 2 / (alike**2).sum()) > 1


def test_units_whose_propensity_is_unknown_are_left_out() -> None:
    empty = Cell(cell("socks", 1, 0).key, frozenset(ALL))
    assert worths([cell("socks", 10, 0), empty], lambda _: 0.0) == {}


def test_the_trend_is_the_least_squares_line_through_the_steps() -> None:
    rng = np.random.default_rng(4)
    at = np.sort(rng.uniform(-9 * DAY_US, 0, 12)).astype(int)
    values = rng.uniform(0, 1, 12)
    slope = trend(list(zip(at.tolist(), values.tolist(), strict=True)), 0)
    grid = (np.arange(700_000) + 0.5) / 100_000 - 7
    steps = values[np.searchsorted(at / DAY_US, grid, side="right") - 1]
    assert slope == pytest.approx(np.polyfit(grid, steps, 1)[0], abs=1e-5)
    assert trend([(0, 0.5)], 0) is None
    assert trend([(0, 0.5), (1, 0.9)], DAY_US - 1) is None, "30 seconds tell no day's slope"


def test_shares_that_the_defaults_allow_are_no_collapse() -> None:
    """The surest winner there can be, from 2 to 45 variants, control or treatment."""
    for arms in range(2, 46):
        keys = ["none", *(f"v{k}" for k in range(arms - 1))]
        for winner in ("none", "v0"):
            best = {key: float(key == winner) for key in keys}
            assert found(shares(best, control="none", control_share=0.1, floor=0.02)).collapsed == ()


def test_a_collapse_is_entered_below_its_limit_and_left_above_a_higher_one() -> None:
    def signs(share: float, before: Any = ()) -> tuple[Sign, ...]:
        return found({"none": 1 - share, "socks": share}, before=before).collapsed

    assert signs(0.0134) == ()  # entropy 0.1023
    assert signs(0.0128) == (Sign.ENTROPY,)  # 0.0988
    assert signs(0.017, ("entropy",)) == (Sign.ENTROPY,)  # 0.1242
    assert signs(0.019, ("entropy",)) == ()  # 0.1357
    assert signs(0.004) == (Sign.ENTROPY, Sign.PROPENSITY)
    many = {f"v{k}": 0.2 for k in range(4)} | {"w": 0.196, "x": 0.004}
    assert found(many).collapsed == (Sign.PROPENSITY,)
    many |= {"w": 0.192, "x": 0.008}
    assert found(many, before=["min_propensity"]).collapsed == (Sign.PROPENSITY,)
    assert found(many).collapsed == ()


def test_units_worth_a_tenth_are_a_collapse_of_the_log() -> None:
    """10,000 units at 1/2 and 100 at 1/50: (10,000 + 2,500)^2 / (10,000 + 62,500) = 2,155 of 10,100."""
    even = [Part(1.0, {"none": 0.5, "socks": 0.5})]
    heavy = [cell("socks", 10_000, 0), cell("socks", 100, 1)]
    assert found(dict(even[0].shares), cells=heavy).collapsed == ()
    rare = [cell("socks", 10_000, 0), cell("socks", 20, 1)]  # 10,500^2 / 22,500 = 4,900

    def thin(one: Cell) -> float:
        return (0.5, 0.0005)[one.key.epoch]

    lost = exploration(even, [], worths(rare, thin), now_us=0)  # (10,000 + 20,000)^2 / 20,010,000 = 45
    assert lost.collapsed == (Sign.WEIGHTS,)
    assert lost.worth["socks"].ess == pytest.approx(30_000**2 / (10_000 + 20 * 1000**2))
    assert exploration(even, [], worths(rare, thin), now_us=0, is_chosen=True).collapsed == ()
    few = [cell("socks", 900, 0), cell("socks", 2, 1)]
    assert exploration(even, [], worths(few, thin), now_us=0).collapsed == ()


def test_what_is_shown() -> None:
    past = [(0, {"none": 0.5, "socks": 0.5})]
    got = found({"none": 0.9, "socks": 0.1}, past=past, cells=[cell("socks", 10, 0)])
    assert got.to_json() == {
        "entropy": pytest.approx(-(0.9 * math.log(0.9) + 0.1 * math.log(0.1)) / math.log(2)),
        "entropy_trend_per_day": pytest.approx(0),
        "min_propensity": 0.1,
        "variants": {"socks": {"units": 10, "ess": 10.0}},
        "collapsed": [],
        "segments": None,
        "contexts": None,
    }
    alone = found({"none": 1.0}, cells=[cell("none", 10, 0)])
    assert (alone.entropy, alone.min_propensity, alone.collapsed) == (None, None, ())


# ---- by segment and by context


def test_shares_that_are_even_on_average_and_certain_in_each_context_have_collapsed() -> None:
    """Entropy 0 in both. Planted: the entropy of the average, which is 1."""
    certain = [Part(0.5, {"none": 1.0, "socks": 0.0}), Part(0.5, {"none": 0.0, "socks": 1.0})]
    got = exploration(certain, [], {}, now_us=0, contexts=2)
    assert (got.entropy, got.min_propensity) == (0.0, 0.0)
    assert got.collapsed == (Sign.ENTROPY, Sign.PROPENSITY)
    average = {"none": 0.5, "socks": 0.5}
    assert entropy_of(average) == 1.0
    assert exploration([Part(1.0, average)], [], {}, now_us=0).collapsed == ()


def test_each_part_counts_by_its_units_and_the_least_share_is_anywhere() -> None:
    parts = [
        Part(30.0, {"none": 0.5, "socks": 0.5}, "vip"),
        Part(10.0, {"none": 0.1, "socks": 0.9}, "new"),
        Part(60.0, {"none": 0.996, "socks": 0.004}),
    ]
    got = exploration(parts, [(0, 0.9)], {}, now_us=DAY_US)
    by_hand = 0.3 + 0.1 * entropy_of(parts[1].shares) + 0.6 * entropy_of(parts[2].shares)
    assert got.entropy == pytest.approx(by_hand)
    assert mean_entropy(parts) == got.entropy
    assert got.min_propensity == 0.004
    assert got.collapsed == (Sign.PROPENSITY,)
    assert got.entropy_trend is not None
    assert got.to_json()["segments"] == {
        "vip": {"entropy": 1.0, "min_propensity": 0.5},
        "new": {"entropy": pytest.approx(0.468996, abs=1e-6), "min_propensity": 0.1},
    }


def test_logged_propensities_are_worth_what_their_weights_are() -> None:
    """Against the weights of every unit written out; planted: the effective size under average shares."""
    rng = np.random.default_rng(5)
    p = rng.uniform(0.02, 0.9, 900)
    rows = [
        Logged("a", 2, 600, float((1 / p[:600]).sum()), float((1 / p[:600] ** 2).sum())),
        Logged("a", 3, 300, float((1 / p[600:]).sum()), float((1 / p[600:] ** 2).sum())),
        Logged("none", 2, 10, 20.0, 40.0),
    ]
    got = logged_worths(rows)
    weights = 1 / (np.repeat([2, 3], [600, 300]) * p)
    assert got["a"].ess == pytest.approx(weights.sum() ** 2 / (weights**2).sum())
    assert got["none"] == Worth(10, 10.0)
    assert got["a"].ess < 0.8 * 900


@pytest.mark.parametrize("arms", [2, 3, 10, 45])
def test_no_mix_of_contexts_that_the_defaults_allow_is_a_collapse_of_the_log(arms: int) -> None:
    """A variant that is surely the best in a part q of the contexts and surely not elsewhere, for every q."""
    low, high = 0.02, 0.9 - 0.02 * (arms - 2)
    worst = 1.0
    for q in np.linspace(0.001, 0.999, 999):
        units = q * high + (1 - q) * low  # sum of w is 1 / K a unit assigned, of w^2 the mean of 1 / p
        worst = min(worst, 1 / (units * (q / high + (1 - q) / low)))
    assert worst == pytest.approx(4 * low * high / (low + high) ** 2, rel=1e-3)
    even = [Part(1.0, dict.fromkeys(ALL, 0.5))]
    worth = {"socks": Worth(10_000, worst * 10_000)}
    assert exploration(even, [], worth, now_us=0, contexts=1).collapsed == ()
    assert exploration(even, [], worth, now_us=0, contexts=1, before=[Sign.WEIGHTS]).collapsed == ()
    assert exploration(even, [], worth, now_us=0).collapsed == (() if worst > 0.1 else (Sign.WEIGHTS,))
    thin = {"socks": Worth(10_000, 490.0)}
    assert exploration(even, [], thin, now_us=0, contexts=1).collapsed == (Sign.WEIGHTS,)
    segment = [Part(1.0, dict.fromkeys(ALL, 0.5), "vip")]
    assert exploration(segment, [], worth, now_us=0).collapsed == ()

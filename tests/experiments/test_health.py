"""Health of exploration: formulas by hand and by brute force, and an alarm with hysteresis."""

import math
from datetime import date
from typing import Any

import numpy as np
import pytest

from experiments.allocation.health import Exploration, Sign, Worth, entropy_of, exploration, trend, worths
from experiments.allocation.thompson import shares
from experiments.statistics import Cell
from tests.experiments.cells import cell_of

DAY_US = 86_400_000_000
ALL = ("none", "socks")


def cell(variant: str, n: int, epoch: int, candidates: tuple[str, ...] = ALL) -> Cell:
    return cell_of(variant, n=n, candidates=candidates, epoch=epoch, day=date(2026, 3, 2))


def found(given: dict[str, float], *, cells: Any = (), before: Any = (), **more: Any) -> Exploration:
    past = more.pop("past", [])
    return exploration(
        given, past, cells, lambda one: (0.5, 0.02)[one.key.epoch], now_us=DAY_US, before=before, **more
    )


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
    even = {"none": 0.5, "socks": 0.5}
    heavy = [cell("socks", 10_000, 0), cell("socks", 100, 1)]
    assert found(even, cells=heavy).collapsed == ()
    rare = [cell("socks", 10_000, 0), cell("socks", 20, 1)]  # 10,500^2 / 22,500 = 4,900

    def thin(one: Cell) -> float:
        return (0.5, 0.0005)[one.key.epoch]

    lost = exploration(even, [], rare, thin, now_us=0)  # (10,000 + 20,000)^2 / 20,010,000 = 45
    assert lost.collapsed == (Sign.WEIGHTS,)
    assert lost.worth["socks"].ess == pytest.approx(30_000**2 / (10_000 + 20 * 1000**2))
    assert exploration(even, [], rare, thin, now_us=0, is_chosen=True).collapsed == ()
    few = [cell("socks", 900, 0), cell("socks", 2, 1)]
    assert exploration(even, [], few, thin, now_us=0).collapsed == ()


def test_what_is_shown() -> None:
    past = [(0, {"none": 0.5, "socks": 0.5}), (1, {"none": 1.0})]
    got = found({"none": 0.9, "socks": 0.1}, past=past, cells=[cell("socks", 10, 0)])
    assert got.to_json() == {
        "entropy": pytest.approx(-(0.9 * math.log(0.9) + 0.1 * math.log(0.1)) / math.log(2)),
        "entropy_trend_per_day": pytest.approx(0),
        "min_propensity": 0.1,
        "variants": {"socks": {"units": 10, "ess": 10.0}},
        "collapsed": [],
    }
    alone = found({"none": 1.0}, cells=[cell("none", 10, 0)])
    assert (alone.entropy, alone.min_propensity, alone.collapsed) == (None, None, ())

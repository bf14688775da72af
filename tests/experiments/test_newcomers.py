"""Variants that come later: a bounded share of their own, the others undisturbed, nobody below a minimum."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.allocation.caps import WHOLE, to_integer
from experiments.allocation.guarding import Guarded
from experiments.allocation.newcomers import admitted, newcomers
from experiments.allocation.proposal import Proposal, propose
from experiments.allocation.published import SetShares
from experiments.allocation.thompson import shares
from experiments.allocation.warm_start import WarmPriors, warm_priors
from experiments.model import Experiment, PolicyKind, PolicySettings, Prior, WarmStart
from experiments.posteriors.beta import Beta
from experiments.posteriors.compare import prob_best
from experiments.statistics import Cell
from tests.experiments.cells import cell_of, experiment_of

NOW = datetime(2026, 4, 1, tzinfo=UTC)
OLD = ("none", "socks")
ALL = ("none", "socks", "cap")
THOMPSON = PolicySettings(
    kind=PolicyKind.THOMPSON, objective="conversion_rate", control_share=0.1, floor=0.02, burn_in=100
)


def cell(variant: str, n: int, rate: float, **more: Any) -> Cell:
    bought = (np.arange(n) < round(n * rate)).astype(np.int64)
    return cell_of(variant, n=n, converted=bought, **{"candidates": ALL, **more})


def before() -> list[Cell]:
    """What was gathered before cap came: another candidate set, another epoch."""
    place = {"candidates": OLD, "candidate_set": 0b011, "epoch": 1}
    return [cell("none", 1000, 0.10, **place), cell("socks", 1000, 0.13, **place)]


def proposed(cells: Sequence[Cell], experiment: Experiment | None = None, **more: Any) -> Proposal:
    arguments: dict[str, Any] = {"guarded": Guarded(), "promoted": None, "last": None, "now": NOW, **more}
    arguments.setdefault("added", frozenset({"cap"}))
    chosen = experiment or experiment_of("socks", "cap", settings=THOMPSON)
    return propose(chosen, cells, frozenset(ALL), [ALL, OLD], time_zone="UTC", **arguments)


def real(found: Proposal, keys: tuple[str, ...] = ALL) -> dict[str, float]:
    return {key: share / WHOLE for key, share in found.sets[keys].shares.items()}


def test_the_others_go_on_and_the_newcomer_gets_a_tenth() -> None:
    """w = P(best) of Beta(101, 901), Beta(131, 871); free = 0.9 - 0.02; a tenth of all is taken from that."""
    found = proposed(before())
    assert (found.burn_in, found.newcomers, found.held) == (False, frozenset({"cap"}), None)
    best = prob_best([Beta(101, 901), Beta(131, 871)])
    kept = 1 - 0.1 / 0.88
    expected = {"none": 0.1 + 0.88 * best[0] * kept, "socks": 0.02 + 0.88 * best[1] * kept, "cap": 0.1}
    assert real(found) == pytest.approx(expected, abs=1e-9)
    assert real(found, OLD) == pytest.approx({"none": 0.1 + 0.88 * best[0], "socks": 0.02 + 0.88 * best[1]})
    assert found.sets[ALL].prob_best == pytest.approx(dict(zip(OLD, best, strict=True)))


def test_without_this_everybody_would_burn_in_again() -> None:
    found = proposed(before(), added=frozenset())
    assert found.burn_in
    assert real(found) == pytest.approx({"none": 0.1, "socks": 0.45, "cap": 0.45})


def test_it_stays_a_newcomer_until_it_has_its_units_and_they_are_matured() -> None:
    place = {"candidate_set": 0b111, "epoch": 2}
    later = [cell("none", 500, 0.1, **place), cell("socks", 500, 0.13, **place)]
    short = [*before(), *later, cell("cap", 99, 0.5, **place)]
    assert proposed(short).newcomers == {"cap"}
    enough = [*before(), *later, cell("cap", 100, 0.5, **place)]
    assert proposed(enough).newcomers == frozenset()
    young = date(2026, 3, 30)
    open_units = [
        *before(),
        *(cell(key, 500, 0.1, day=young, **place) for key in OLD),
        cell("cap", 500, 0.5, day=young, **place),
    ]
    assert proposed(open_units).newcomers == {"cap"}


def test_once_known_it_is_compared_over_the_units_that_could_have_had_it() -> None:
    place = {"candidate_set": 0b111, "epoch": 2}
    later = [cell(key, 200, rate, **place) for key, rate in (("none", 0.1), ("socks", 0.12), ("cap", 0.13))]
    found = proposed([*before(), *later])
    assert found.sets[ALL].prob_best == pytest.approx(
        dict(zip(ALL, prob_best([Beta(21, 181), Beta(25, 177), Beta(27, 175)]), strict=True))
    )


def test_what_holds_everybodys_shares_is_not_blamed_on_the_newcomer() -> None:
    experiment = experiment_of("socks", "cap", settings=replace(THOMPSON, objective="margin_per_unit"))
    lacking = [
        cell(key, 200, 0.1, margin=np.arange(200), unknown_cost_orders=np.ones(200, dtype=int)) for key in ALL
    ]
    found = proposed(lacking, experiment)
    assert found.newcomers == frozenset()
    assert found.held is not None
    assert found.held["reason"] == "cost_unknown"


def test_a_prior_counts_once_the_newcomer_is_compared_and_not_before() -> None:
    """Before, the others would have no unit in a set with cap, and all they are known by would be lost."""
    warm = WarmPriors(priors={"cap": Prior(alpha=130, beta=870)}, initial={"cap": Beta(130, 870)})
    assert proposed(before(), warm=warm).newcomers == {"cap"}
    place = {"candidate_set": 0b111, "epoch": 2}
    later = [*(cell(key, 500, 0.1, **place) for key in OLD), cell("cap", 100, 0.2, **place)]
    found = proposed([*before(), *later], warm=warm)
    assert found.newcomers == frozenset()
    assert found.sets[ALL].prob_best == pytest.approx(
        dict(zip(ALL, prob_best([Beta(51, 451), Beta(51, 451), Beta(150, 950)]), strict=True))
    )


def test_an_expert_sets_the_first_shares() -> None:
    """P(best) = 0.2, 0.5, 0.3: 0.02 + 0.86 w, the control 0.1 + 0.86 w."""
    start = WarmStart(shares={"none": 0.2, "socks": 0.5, "cap": 0.3}, units=100, rate=0.1)
    warm = WarmPriors(initial={"none": Beta(1, 1)})
    assert real(proposed([], added=frozenset(), warm=warm)) == pytest.approx(
        {"none": 0.1, "socks": 0.45, "cap": 0.45}
    )  # of the others nothing is known
    experiment = experiment_of("socks", "cap", settings=replace(THOMPSON, warm_start=start))
    warm = warm_priors(experiment, [], {}, time_zone="UTC", now=NOW)
    found = proposed([], experiment, added=frozenset(), warm=warm)
    assert found.burn_in
    assert real(found) == pytest.approx({"none": 0.272, "socks": 0.45, "cap": 0.278}, abs=1e-6)


def test_a_throttled_newcomer_stays_below_its_cap() -> None:
    found = proposed(before(), guarded=Guarded(capped={"cap": 0.01}))
    assert real(found)["cap"] <= 0.01
    assert sum(found.sets[ALL].shares.values()) == WHOLE


def test_all_treatments_may_be_newcomers() -> None:
    found = proposed([cell("none", 500, 0.1)], added=frozenset({"socks", "cap"}))
    assert found.newcomers == {"socks", "cap"}
    assert real(found) == pytest.approx({"none": 0.8, "socks": 0.1, "cap": 0.1})


@given(
    weights=st.lists(st.floats(0, 1), min_size=2, max_size=8).filter(lambda w: sum(w) > 0.01),
    fresh=st.integers(1, 8),
    control_share=st.floats(0.05, 0.6),
    part=st.floats(0, 0.9),
)
def test_minima_hold_and_newcomers_get_their_bound(
    weights: list[float], fresh: int, control_share: float, part: float
) -> None:
    known = ["none", *(f"v{k}" for k in range(len(weights) - 1))]
    new = [f"n{k}" for k in range(fresh)]
    treatments = len(known) + fresh - 1
    floor = min(control_share, part * (1 - control_share) / treatments)
    settings = replace(THOMPSON, control_share=control_share, floor=floor)
    split = shares(
        dict(zip(known, weights, strict=True)), control="none", control_share=control_share, floor=floor
    )
    experiment = experiment_of(*known[1:], *new, settings=settings)
    others = SetShares(to_integer(split))
    found = {k: v / WHOLE for k, v in admitted(experiment, others, [*known, *new], new, {}).shares.items()}
    close = 1e-8
    assert found["none"] >= control_share - close
    assert min(found.values()) >= floor - close
    for key in new:
        assert found[key] <= max(floor, 0.1, 0) + close
        assert found[key] <= (1 - control_share) / treatments + close
    for key in known:
        assert found[key] <= split[key] + close


def test_nobody_new_changes_nothing() -> None:
    others = SetShares(to_integer({"none": 0.5, "socks": 0.5}))
    experiment = experiment_of("socks", "cap", settings=THOMPSON)
    assert admitted(experiment, others, OLD, {"cap"}, {}) is others
    assert newcomers(experiment, before(), [], time_zone="UTC", now=NOW) == frozenset()

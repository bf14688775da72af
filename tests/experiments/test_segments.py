"""Segments shrunk toward the pooled arm: by hand, calibrated in simulated worlds, and against confounding."""

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from experiments.allocation.caps import WHOLE
from experiments.allocation.guarding import Guarded, guard
from experiments.allocation.hashing import race, unit_hash
from experiments.allocation.proposal import Proposal, propose, replayed
from experiments.allocation.published import Cause, PolicyVersion, moved, same_shares
from experiments.allocation.segments import segment_posteriors, shrunk
from experiments.analysis.read_out import read_out
from experiments.analysis.strata import by_segment
from experiments.model import Guardrail, PolicyKind, PolicySettings
from experiments.posteriors.compare import prob_best
from experiments.posteriors.normal import StudentT
from experiments.statistics import Cell
from tests.experiments.cells import cell_of, experiment_of

ALL = ("none", "a", "b")
NOW = datetime(2026, 4, 1, tzinfo=UTC)
SETTINGS = PolicySettings(
    kind=PolicyKind.SEGMENT, objective="conversion_rate", control_share=0.1, floor=0.02, burn_in=100
)
Floats = NDArray[np.float64]


def test_by_hand() -> None:
    """Arms 4 apart in segment 0 and equal in 1, all variances 1, weights 1/2.

    Levels 2 and 0; effects -1 and +1; residuals -1, 1, 1, -1. An arm's residual is half the sum of four
    errors signed: variance 4 / 16 = 1/4 at tau^2 = 0, and as much per unit of tau^2. sum r^2 / (1/4) = 16
    against 4 expected: tau^2 = (16 - 4) / 4 = 3, B = 3/4. Means: level + effect + 3/4 residual.
    Variance: 1 - 2 (1/4)(1/2) + (1/16) V + 2 (1/16) 1 / 1, V = (1/4 + 1/4)(3 + 1) = 2.
    """
    found = shrunk(np.array([[0.0, 0.0], [4.0, 0.0]]), np.ones((2, 2)), np.array([0.5, 0.5]))
    assert found.between == pytest.approx(3.0)
    assert found.own == pytest.approx(np.full((2, 2), 0.75))
    assert found.mean == pytest.approx(np.array([[0.25, -0.25], [3.75, 0.25]]))
    assert found.variance == pytest.approx(np.full((2, 2), 1 - 0.25 + 2 / 16 + 2 / 16))


def test_the_pooled_arm_weighs_segments_by_all_units_and_not_by_its_own() -> None:
    """With no spread between segments each is the pooled arm at its level: sum of weight x mean."""
    means, weights = np.array([[1.0, 5.0, 2.0], [1.4, 5.1, 2.3]]), np.array([0.6, 0.3, 0.1])
    found = shrunk(means, np.array([[4.0, 9.0, 1.0], [0.5, 40.0, 30.0]]), weights)
    assert found.between == 0.0
    apart = float((means[1] - means[0]) @ weights)
    assert found.mean[1] - found.mean[0] == pytest.approx(np.full(3, apart))


def test_a_segment_with_no_error_speaks_for_itself() -> None:
    means = np.random.default_rng(1).normal(size=(3, 4))
    variances = np.full((3, 4), 1e-9)
    found = shrunk(means, variances, np.full(4, 0.25))
    assert found.mean == pytest.approx(means, abs=1e-6)
    assert found.variance == pytest.approx(variances, rel=1e-6)


def worlds(between: float, runs: int, seed: int, effects: float = 0.5) -> tuple[Floats, Floats, Floats]:
    """(runs, K, G) truths and estimates of their model, and the variances of the latter, (K, G)."""
    rng = np.random.default_rng(seed)
    variances = np.array([[0.2, 1.0, 3.0, 0.5, 0.2], [1.5, 0.3, 0.5, 2.0, 1.0], [0.8, 0.8, 0.8, 4.0, 0.3]])
    truth = rng.normal(0, 3, (runs, 1, 5)) + rng.normal(0, effects, (runs, 3, 1))
    truth = truth + between**0.5 * rng.normal(size=(runs, 3, 5))
    return truth, truth + np.sqrt(variances) * rng.normal(size=truth.shape), variances


WEIGHTS = np.array([0.4, 0.25, 0.2, 0.1, 0.05])


@pytest.mark.parametrize("between", [0.0, 0.5, 2.0])
def test_the_moments_find_the_variance_between_segments(between: float) -> None:
    """Before it is kept from being negative the estimate is unbiased: with the truth large it hardly is."""
    _, estimates, variances = worlds(between + 4.0, 2000, 2)
    found = np.array([shrunk(one, variances, WEIGHTS).between for one in estimates])
    assert abs(found.mean() - between - 4.0) < 5 * found.std() / 2000**0.5


def contrast_errors(between: float, runs: int = 3000) -> tuple[float, float]:
    """Mean squared error of the arms' differences, shrunk and not, each over its stated variance."""
    truth, estimates, variances = worlds(between, runs, 3)
    shrunken, plain, stated = [], [], []
    for real, seen in zip(truth, estimates, strict=True):
        found = shrunk(seen, variances, WEIGHTS)
        shrunken.append(((found.mean[1:] - found.mean[0]) - (real[1:] - real[0])) ** 2)
        plain.append(((seen[1:] - seen[0]) - (real[1:] - real[0])) ** 2)
        stated.append(found.variance[1:] + found.variance[0])
    return float(np.mean(shrunken) / np.mean(plain)), float(np.mean(shrunken) / np.mean(stated))


def test_shrinking_pays_and_its_stated_error_is_its_error() -> None:
    """Half the squared error where segments are alike, less than all of it where they are not."""
    alike, honest = contrast_errors(0.05)
    assert alike < 0.55
    assert 0.6 < honest < 1.2
    apart, honest = contrast_errors(2.0)
    assert apart < 0.9
    assert 0.8 < honest < 1.2


def test_stated_p_best_is_the_frequency_of_being_best() -> None:
    """Of all (world, segment, arm) whose P(best) is said to be near p, a share near p is best.

    Effects are spread widely, as the flat prior on them has it.
    """
    truth, estimates, variances = worlds(0.5, 800, 4, effects=2.0)
    said, real = [], []
    for best, seen in zip(truth.argmax(axis=1), estimates, strict=True):
        found = shrunk(seen, variances, WEIGHTS)
        for g in range(5):
            arms = [StudentT(float(found.mean[k, g]), float(found.variance[k, g]) ** 0.5) for k in range(3)]
            said.extend(prob_best(arms))
            real.extend(best[g] == np.arange(3))
    bins = np.minimum((np.array(said) * 5).astype(int), 4)
    for group in range(5):
        inside = bins == group
        assert np.mean(np.array(real)[inside]) == pytest.approx(np.mean(np.array(said)[inside]), abs=0.05)


def bought(key: str, segment: str, rate: float, n: int, **more: object) -> Cell:
    """A cell in which the first n x rate of n units converted."""
    buys = (np.arange(n) < round(rate * n)).astype(np.int64)
    given = {"candidates": ALL, "segment": segment, "converted": buys, "orders": buys, **more}
    return cell_of(key, n=n, **given)  # type: ignore[arg-type]


def proposed(
    cells: Sequence[Cell], *rails: Guardrail, last: PolicyVersion | None = None, **more: object
) -> Proposal:
    made = replace(experiment_of("a", "b", settings=SETTINGS), guardrails=rails)
    given = {"guarded": Guarded(), "promoted": None, "time_zone": "UTC", "now": NOW, **more}
    return propose(made, cells, frozenset(ALL), [ALL], last=last, **given)  # type: ignore[arg-type]


FLIP = [
    bought(key, segment, rate, 4000)
    for segment, rates in {"": (0.1, 0.15, 0.1), "vip": (0.1, 0.1, 0.15)}.items()
    for key, rate in zip(ALL, rates, strict=True)
]
"""segment_flip: a is best for everybody, b for the few; pooled they are equal."""


def version(found: Proposal, number: int = 1) -> PolicyVersion:
    return PolicyVersion(
        number, 1, 1, Cause.SHARES_MOVED, "none", found.sets, segments=found.segments, capped={}
    )


def test_where_segments_differ_each_gets_its_own_best() -> None:
    found = proposed(FLIP)
    assert set(found.segments) == {"", "vip"}
    assert found.segments[""][ALL].shares["a"] > 0.85 * WHOLE
    assert found.segments["vip"][ALL].shares["b"] > 0.85 * WHOLE
    pooled = found.sets[ALL].shares
    assert abs(pooled["a"] - pooled["b"]) < 0.05 * WHOLE


def test_a_segment_with_few_units_follows_the_others() -> None:
    """30 units an arm, the last of whom would favour b by chance; a is clearly best everywhere else."""
    cells = [
        bought(key, segment, rate, 3000)
        for segment in ("", "x", "y")
        for key, rate in zip(ALL, (0.1, 0.15, 0.1), strict=True)
    ]
    cells += [bought(key, "new", rate, 30) for key, rate in zip(ALL, (0.1, 0.1, 0.2), strict=True)]
    cells += [bought(key, "tiny", 0.0, 3) for key in ALL]
    found = proposed(cells)
    assert found.segments["new"][ALL].shares["a"] > 0.6 * WHOLE
    assert "tiny" not in found.segments
    served = version(found)
    assert served.shares_for(ALL, segment="tiny") == served.shares_for(ALL) == dict(found.sets[ALL].shares)
    assert served.shares_for(ALL, segment="new") == dict(found.segments["new"][ALL].shares)
    assert sum(served.shares_for(("none", "b"), segment="new").values()) == WHOLE


def test_units_that_could_not_have_had_a_variant_say_nothing_of_it() -> None:
    others = [bought("none", "vip", 0.9, 4000, candidates=("none", "a"), candidate_set=1)]
    assert proposed([*FLIP, *others]).segments["vip"][ALL] == proposed(FLIP).segments["vip"][ALL]


def test_one_segment_alone_is_no_segment() -> None:
    assert proposed([cell for cell in FLIP if not cell.key.segment]).segments == {}


def test_where_all_treatments_are_killed_segments_have_nothing_to_compare() -> None:
    made = experiment_of("a", "b", settings=SETTINGS)
    given = {"guarded": Guarded(), "promoted": None, "last": None, "time_zone": "UTC", "now": NOW}
    found = propose(made, FLIP, frozenset({"none"}), [("none",)], **given)  # type: ignore[arg-type]
    assert found.segments == {}
    assert found.sets[("none",)].shares == {"none": WHOLE}


def test_identical_arms_are_equal_however_they_were_shown() -> None:
    """VIPs buy five times as much and were shown b: its own mix would make it four times as good."""
    counts = {"": {"none": 3000, "a": 3000, "b": 300}, "vip": {"none": 300, "a": 300, "b": 3000}}
    cells = [
        bought(key, segment, 0.5 if segment else 0.1, n)
        for segment, of in counts.items()
        for key, n in of.items()
    ]
    found = proposed(cells)
    best = found.sets[ALL].prob_best or {}
    assert best["b"] < 0.5
    assert min(best.values()) > 0.15
    for sets in found.segments.values():
        assert min((sets[ALL].prob_best or {}).values()) > 0.15
    told = found.sets[ALL].posteriors
    assert told["b"].mean == pytest.approx(told["none"].mean, abs=0.01)


def test_an_arm_new_in_a_segment_that_buys_much_is_not_drawn_below_its_equals() -> None:
    """Why levels: shrunk to its pooled mean of 0.2 alone, b would be far below 0.5 there."""
    cells = [bought(key, "", 0.1, 5000) for key in ALL]
    cells += [bought("none", "vip", 0.5, 5000), bought("a", "vip", 0.5, 5000), bought("b", "vip", 0.5, 20)]
    made = experiment_of("a", "b", settings=SETTINGS)
    found = segment_posteriors(made, cells, ALL, time_zone="UTC", now=NOW)["vip"]
    assert found.posteriors["b"].mean == pytest.approx(found.posteriors["none"].mean, abs=0.03)


def test_guardrails_hold_in_every_segment() -> None:
    """a doubles refunds: it is struck out where it sells best too."""
    cells = []
    for one in FLIP:
        rate = 0.5 if one.key.variant == "a" else 0.1
        bought_now = (np.arange(4000) < one.moments.sum("converted")).astype(np.int64)
        back = (np.arange(4000) < round(rate * bought_now.sum())).astype(np.int64)
        given = {"converted": bought_now, "orders": bought_now, "refunded_orders": back}
        cells.append(cell_of(one.key.variant, n=4000, candidates=ALL, segment=one.key.segment, **given))
    found = proposed(cells, Guardrail("refund_rate", 0.1, 0.2, 0.4))
    assert found.segments[""][ALL].shares["a"] < 0.03 * WHOLE
    assert found.segments["vip"][ALL].shares["b"] > 0.75 * WHOLE


def test_what_a_segment_was_drawn_from_gives_its_wins_again_to_the_bit() -> None:
    """Planted: the goals of all segments together, which a version kept alone before."""
    cells = []
    for one in FLIP:
        n = round(400 * (1 + (one.key.variant == "b")))
        bought_now = (np.arange(n) < n * one.moments.sum("converted") / 4000).astype(np.int64)
        back = (np.arange(n) % (3 if one.key.variant == "a" else 4) == 0) * bought_now
        given = {"converted": bought_now, "orders": bought_now, "refunded_orders": back}
        cells.append(cell_of(one.key.variant, n=n, candidates=ALL, segment=one.key.segment, **given))
    found = proposed(cells, Guardrail("refund_rate", 0.1, 0.2, 0.4))
    (kept,) = json.loads(json.dumps(found.draws))
    assert kept["segments"].keys() == found.segments.keys() == {"", "vip"}
    for segment, sets in found.segments.items():
        assert replayed(kept, segment) == sets[ALL].prob_best
        assert replayed(kept) != sets[ALL].prob_best
    assert replayed(kept) == found.sets[ALL].prob_best
    assert 0.05 < (found.segments["vip"][ALL].prob_best or {})["b"] < 0.999
    assert len(json.dumps(kept["segments"])) < 50 * 2 * 3 + 30
    assert not proposed(cells).draws


def test_while_the_objective_cannot_be_read_segments_keep_their_shares() -> None:
    made = replace(SETTINGS, objective="margin_per_unit")
    first = proposed(FLIP)
    unknown = cell_of("none", n=1, candidates=ALL, unknown_cost_orders=[1])
    experiment = experiment_of("a", "b", settings=made)
    given = {"promoted": None, "time_zone": "UTC", "now": NOW}
    cells, live = [*FLIP, unknown], frozenset(ALL)
    held = propose(
        experiment,
        cells,
        live,
        [ALL],
        guarded=Guarded(capped={"a": 0.02}),
        last=version(first),
        **given,  # type: ignore[arg-type]
    )
    assert held.held is not None
    assert held.segments["vip"][ALL].shares["b"] == first.segments["vip"][ALL].shares["b"]
    assert held.segments[""][ALL].shares["a"] == int(0.02 * WHOLE)
    nothing = propose(experiment, cells, live, [ALL], guarded=Guarded(), last=None, **given)  # type: ignore[arg-type]
    assert nothing.segments == {}


def test_a_version_tells_segments_apart() -> None:
    found = version(proposed(FLIP))
    again = PolicyVersion.from_json(json.loads(json.dumps(found.to_json(), allow_nan=False)))
    assert again == found
    other = replace(found, segments={**found.segments, "vip": found.segments[""]})
    assert moved(found, other)
    assert not same_shares(found, other)
    assert same_shares(found, other.unmoved(found))
    plain = {name: value for name, value in found.to_json().items() if name not in ("segments", "contextual")}
    assert PolicyVersion.from_json(plain).segments == {}  # as versions of old have it


@pytest.mark.parametrize("some", [ALL, ("none", "b")])
def test_units_are_assigned_as_often_as_the_logged_propensity_says(some: tuple[str, ...]) -> None:
    found, n = version(proposed(FLIP)), 10_000
    for segment in ("", "vip", "unheard"):
        given = found.shares_for(some, segment=segment)
        counts = dict.fromkeys(some, 0)
        for unit in range(n):
            counts[race("salt", unit_hash(b"k", f"{segment}-{unit}"), given).winner] += 1
        expected = [given[key] / WHOLE * n for key in some]
        assert stats.chisquare([counts[key] for key in some], expected).pvalue > 1e-4


def test_splitting_sets_by_segment_changes_no_sum() -> None:
    split = by_segment(FLIP)
    assert [cell.moments for cell in split] == [cell.moments for cell in FLIP]
    assert len({cell.key.candidate_set for cell in split}) == 2
    assert {cell.key.candidate_set for cell in FLIP} == {FLIP[0].key.candidate_set}


def test_report_and_guardrails_compare_within_segments() -> None:
    """VIPs convert at 50 %, others at 10 %, all arms alike; b went to VIPs, its own mix says +200 %."""
    counts = {"": {"none": 6000, "a": 6000, "b": 600}, "vip": {"none": 600, "a": 600, "b": 6000}}
    cells = [bought(key, seg, 0.5 if seg else 0.1, n) for seg, of in counts.items() for key, n in of.items()]
    rails = (Guardrail("cancel_rate", 0.1, 0.2, 0.4), Guardrail("conversion_rate", 0.1, 0.2, 0.4))
    made = replace(experiment_of("a", "b", settings=SETTINGS), guardrails=rails)
    found = read_out(made, cells, time_zone="UTC", now=NOW, metric="conversion_rate")
    lift = next(v for v in found.variants if v.key == "b").metrics["conversion_rate"].figures.lift_rel
    assert lift.value == pytest.approx(0.0, abs=0.01)
    assert found.units_assigned == sum(sum(of.values()) for of in counts.values())
    worse = [
        replace(cell, key=cell.key._replace(variant={"none": "b", "b": "none", "a": "a"}[cell.key.variant]))
        for cell in cells
    ]  # the control went to VIPs
    states = guard(made, worse, frozenset(ALL), [], version(proposed(FLIP)), time_zone="UTC", now=NOW)
    assert {entry["state"] for entry in states.entries if entry["metric"] == "conversion_rate"} == {"ok"}
    plain = replace(made, policy=replace(SETTINGS, kind=PolicyKind.THOMPSON))
    naive = guard(plain, worse, frozenset(ALL), [], version(proposed(FLIP)), time_zone="UTC", now=NOW)
    assert "kill" in {entry["state"] for entry in naive.entries}  # planted: not told apart by segment

"""Our closed-form read-out against GrowthBook's gbstats on the same sums (recorded by `make agreement`).

gbstats is Normal throughout, with flat priors, as our read-out with a flat prior is: the two agree whatever
the counts. From 5,000 conversions per arm on our posteriors (Beta, Student-t, delta, the exact ratio of a
relative lift) give the same lift and interval to 1 % of its width; where they part `test_relative_lifts` asks
which is right.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from experiments.analysis.closed_form import metric_reports
from experiments.analysis.cohorts import Cohorts
from experiments.analysis.comparison import Pair
from experiments.analysis.metrics import MetricDefinition, metric_definitions
from experiments.analysis.priors import sensitivities
from experiments.analysis.reading import Reading, read_metric
from experiments.analysis.report import Interval
from experiments.statistics import Cell, CellKey, Moments, product_name
from tests.experiments.cells import DAY, experiment_of

RECORD = json.loads((Path(__file__).parent / "golden" / "gbstats.json").read_text("utf-8"))
CASES = RECORD["cases"]
MANY = 5_000
DOWN = frozenset({"refund_rate", "refund_value_rate"})
NOW = datetime(2026, 12, 1, tzinfo=UTC)


def cells_of(definition: MetricDefinition, arms: list[Mapping[str, int]], keys: list[str]) -> list[Cell]:
    """Cells whose moments are the recorded sums; numerators are told under the first of their features."""
    x, y = next(iter(definition.numerator)), next(iter(definition.denominator))
    found: list[Cell] = []
    for key, sums in zip(keys, arms, strict=True):
        moments = Moments({"assigned": sums["n"], "units": sums["n"]})
        moments.sums |= {x: sums["x"], y: sums["y"]}
        moments.products |= {
            product_name(x, x): sums["xx"],
            product_name(x, y): sums["xy"],
            product_name(y, y): sums["yy"],
        }
        found.append(Cell(CellKey(key, "", 1, DAY, 0), frozenset(keys), moments))
    return found


def read(case: Mapping[str, Any]) -> tuple[Reading, dict[str, Any], dict[str, Any]]:
    """The reading, its reports and its lifts with a flat prior."""
    keys = ["none", *(f"v{k}" for k in range(1, len(case["arms"])))]
    experiment = experiment_of(*keys[1:])
    definition = metric_definitions(experiment)[case["name"]]
    cells = cells_of(definition, case["arms"], keys)
    cohorts = Cohorts(cells, only_matured=False, time_zone="UTC", now=NOW, epoch_shares={})
    reading = read_metric(experiment, cohorts.all, definition, by_epoch=False, seed=1)
    reports = metric_reports(experiment, cohorts.all, reading, seed=1)
    return reading, reports, sensitivities(experiment, cohorts, reading, reports, seed=1)


def widths_off(ours: Interval, theirs: Mapping[str, float]) -> float:
    """The largest distance of value and ends, in widths of their interval."""
    width = theirs["ci_high"] - theirs["ci_low"]
    pairs = ((ours.value, "value"), (ours.ci_low, "ci_low"), (ours.ci_high, "ci_high"))
    return max(abs(mine - theirs[name]) / width for mine, name in pairs if mine is not None)


def conversions(case: Mapping[str, Any]) -> int:
    """Of the arm that has fewest; a world's metrics are of the same units."""
    (rate,) = [c for c in CASES if c["world"] == case["world"] and c["name"] == "conversion_rate"]
    return min(arm["x"] for arm in rate["arms"])


NAMES = [f"{case['world']}: {case['name']}" for case in CASES]
Z = 1.959964


@pytest.mark.parametrize("case", CASES, ids=NAMES)
def test_the_normal_read_out_is_that_of_gbstats(case: Mapping[str, Any]) -> None:
    """Whatever the counts; of a proportion gbstats divides by n, we by n - 1: an end moves a width / 4n."""
    _, _, flat = read(case)
    close = 1e-6 + (0.3 / min(arm["n"] for arm in case["arms"]) if case["kind"] == "proportion" else 0.0)
    for place, theirs in enumerate(case["lifts"], start=1):
        told = flat[f"v{place}"]["flat"]
        assert widths_off(told.lift_abs, theirs["absolute"]) < close
        assert widths_off(told.lift_rel, theirs["relative"]) < close
        chance = theirs["absolute"]["prob_beats_control"]
        if len(case["arms"]) == 2:
            assert told.prob_best == pytest.approx(
                chance if case["name"] not in DOWN else 1 - chance, abs=close
            )


@pytest.mark.parametrize("case", [c for c in CASES if conversions(c) >= MANY], ids=lambda c: c["name"])
def test_posteriors_are_within_a_hundredth_of_the_interval(case: Mapping[str, Any]) -> None:
    """Absolute lifts all; relative ones but for what gbstats' straight line leaves out of a ratio.

    The ends of a ratio lie (1 + lift) z^2 r^2 further up (Fieller 1954), r control's relative error: of a
    rate with 5,000 conversions that is 0.9 % of the width, of money or refunds more, and ours has it.
    """
    reading, reports, _ = read(case)
    for place, theirs in enumerate(case["lifts"], start=1):
        figures, pair = reports[f"v{place}"].figures, reading.pairs[f"v{place}"]
        assert isinstance(pair, Pair)
        assert widths_off(figures.lift_abs, theirs["absolute"]) < 5e-4
        error = pair.control_posterior.width / pair.control.figure
        width = theirs["relative"]["ci_high"] - theirs["relative"]["ci_low"]
        bent = (1 + theirs["relative"]["value"]) * (Z * error) ** 2 / width
        if case["name"] in ("conversion_rate", "orders_per_unit", "aov", "aov_net"):
            assert bent < 0.011
            assert widths_off(figures.lift_rel, theirs["relative"]) < 0.01
        assert widths_off(figures.lift_rel, theirs["relative"]) < 1.25 * bent
        chance = theirs["absolute"]["prob_beats_control"]
        wanted = 1 - chance if case["name"] in DOWN else chance
        assert figures.prob_beats_control == pytest.approx(wanted, abs=2e-4)


def test_a_covariance_forgotten_would_show() -> None:
    (case,) = [c for c in CASES if c["world"] == "checkout" and c["name"] == "aov"]
    arms = [{**arm, "xy": arm["x"] * arm["y"] / arm["n"]} for arm in case["arms"]]
    _, reports, _ = read({**case, "arms": [{name: round(v) for name, v in arm.items()} for arm in arms]})
    assert widths_off(reports["v1"].figures.lift_abs, case["lifts"][0]["absolute"]) > 0.05


def test_the_record_has_the_published_examples() -> None:
    worlds = {case["world"] for case in CASES}
    assert worlds >= {"field_test 1", "field_test 2", "Robinson 2016", "recomputed"}
    assert RECORD["versions"]["gbstats"] == "0.8.0"
    assert len({case["name"] for case in CASES if conversions(case) >= MANY}) == 8

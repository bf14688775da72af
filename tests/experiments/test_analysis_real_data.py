"""Figures that others have published: the worked examples, and Hillstrom's 64,000 customers."""

import csv
import gzip
import json
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from experiments.analysis.read_out import read_out
from experiments.analysis.report import Report
from experiments.model import CustomMetric, MetricKind, PolicySettings
from tests.experiments.cells import cell_of, experiment_of

DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data"
NOW = datetime(2026, 12, 1, tzinfo=UTC)


def data_file(name: str) -> Path:
    path = DATA / name
    if not path.exists():
        pytest.skip(f"{name} is not beside the repository")
    return path


def conversions(first: tuple[int, int], second: tuple[int, int]) -> Report:
    cells = [
        cell_of(key, n=n, candidates=("none", "socks"), converted=np.arange(n) < hits)
        for key, (hits, n) in (("none", first), ("socks", second))
    ]
    experiment = experiment_of("socks", settings=PolicySettings(objective="conversion_rate"))
    return read_out(experiment, cells, time_zone="UTC", now=NOW)


def test_the_published_examples_of_p_second_beats_first():
    examples = json.loads(data_file("published_examples.json").read_text())["prob_b_beats_a"]
    checked = 0
    for example in examples:
        if "arms_beta" in example and "prob_second_beats_first" in example:
            pairs = [(alpha - 1, alpha + beta - 2) for alpha, beta in example["arms_beta"]]
        elif "successes_trials" in example:
            pairs = [tuple(pair) for pair in example["successes_trials"]]
        else:
            continue
        if min(n for _, n in pairs) < 2:
            continue
        figures = conversions(*pairs).variant("socks").metrics["conversion_rate"].figures
        assert figures.prob_beats_control == pytest.approx(example["prob_second_beats_first"], rel=1e-9)
        if "expected_loss_choose_second" in example:
            assert figures.expected_loss == pytest.approx(example["expected_loss_choose_second"], rel=1e-9)
        checked += 1
    assert checked >= 2


ARMS = {"No E-Mail": "none", "Mens E-Mail": "mens", "Womens E-Mail": "womens"}


@pytest.fixture(scope="module")
def hillstrom() -> Report:
    rows: dict[str, list[tuple[int, int, int]]] = {arm: [] for arm in ARMS.values()}
    with gzip.open(data_file("hillstrom_email.csv.gz"), "rt") as file:
        for row in csv.DictReader(file):
            cents = round(float(row["spend"]) * 100)
            rows[ARMS[row["segment"]]].append((int(row["visit"]), int(row["conversion"]), cents))
    cells = []
    for arm, values in rows.items():
        visit, conversion, cents = np.array(values).T
        features = {"visit_rate:had": visit, "visit_rate:count": visit}
        cells.append(
            cell_of(
                arm,
                n=len(values),
                candidates=tuple(ARMS.values()),
                converted=conversion,
                orders=conversion,
                revenue=cents,
                margin=cents,
                **features,
            )
        )
    experiment = experiment_of(
        "mens",
        "womens",
        metrics=(CustomMetric("visit_rate", MetricKind.PROPORTION, "visit"),),
        settings=PolicySettings(objective="visit_rate"),
    )
    return read_out(experiment, cells, time_zone="UTC", now=NOW)


@pytest.mark.parametrize(
    ("arm", "units", "visit", "conversion", "spend", "aov"),
    [
        ("none", 21306, 10.617, 0.5726, 65.28, 11400),
        ("mens", 21307, 18.276, 1.2531, 142.26, 11353),
        ("womens", 21387, 15.140, 0.8837, 107.72, 12189),
    ],
)
def test_hillstroms_own_figures(hillstrom, arm, units, visit, conversion, spend, aov):
    """The table beside the data: rates to four digits, money in cents to what is printed there."""
    variant = hillstrom.variant(arm)
    assert variant.assigned == units
    value = {key: metric.figures.value for key, metric in variant.metrics.items()}
    assert 100 * value["visit_rate"] == pytest.approx(visit, abs=5e-4)
    assert 100 * value["conversion_rate"] == pytest.approx(conversion, abs=5e-5)
    assert value["revenue_per_unit"] == pytest.approx(spend, abs=5e-3)
    assert value["aov"] == pytest.approx(aov, abs=0.5)


def test_hillstroms_intervals_are_the_large_sample_ones(hillstrom):
    """Spend per customer: the published sd (17.754, 11.588) gives the lift's interval to 1 %.

    Mens against none: 0.7698 -+ 1.96 sqrt(17.754^2/21307 + 11.588^2/21306) = 0.7698 -+ 0.2847.
    """
    lift = hillstrom.variant("mens").metrics["revenue_per_unit"].figures.lift_abs
    assert lift.value == pytest.approx(76.98, abs=0.02)
    assert (lift.ci_high - lift.ci_low) / 2 == pytest.approx(28.47, rel=0.01)
    assert hillstrom.variant("mens").metrics["visit_rate"].figures.prob_best > 0.9999
    assert hillstrom.verdict.kind == "healthy"
    assert hillstrom.verdict.variant == "mens"
    assert "visit_rate" in hillstrom.verdict.sentence

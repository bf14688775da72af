"""The report on the wire, and that it does not hang on how its cells are cut."""

import json
from dataclasses import replace
from datetime import timedelta

import numpy as np

from experiments.analysis.report import to_wire
from experiments.statistics import Cell
from tests.experiments.cells import DAY
from tests.experiments.test_analysis_report import KEYS, read, shop, two


def test_the_wire_has_the_promised_names_and_only_json():
    report = read(two(), share_of={"none": 0.5, "socks": 0.5})
    document = json.loads(json.dumps(to_wire(report), allow_nan=False))
    assert {
        "experiment", "currency", "generated_at", "unit", "anchor", "window", "units_assigned",
        "units_exposed", "variants", "guardrails", "checks", "verdict", "matured", "from", "to", "segment",
        "days",
    } <= set(document)  # fmt: skip
    assert document["window"] == "7d"
    socks = document["variants"][1]
    assert (socks["key"], socks["is_control"], socks["share"], socks["assigned"]) == (
        "socks",
        False,
        0.5,
        4000,
    )
    metric = socks["metrics"]["margin_per_unit"]
    assert set(metric) == {
        "value", "ci_low", "ci_high", "ci_prob", "numerator", "denominator", "lift_abs", "lift_rel",
        "prob_best", "prob_beats_control", "expected_loss", "method", "cuped", "prior", "sensitivity",
        "prob_in_rope",
        "sequential",
    }  # fmt: skip
    assert set(metric["sequential"]) == {"value", "ci_low", "ci_high", "ci_prob", "method", "exact"}
    assert metric["ci_prob"] == 0.95
    assert set(metric["lift_abs"]) == {"value", "ci_low", "ci_high"}
    assert socks["metrics"]["rating_mean"]["reason"] == "insufficient_data"
    guardrail = document["guardrails"][0]
    assert set(guardrail) >= {"metric", "variant", "state", "prob_breach", "margins", "lift", "density"}
    assert set(guardrail["prob_breach"]) == {"warn", "throttle", "kill"}
    assert set(document["verdict"]) == {"variant", "kind", "reason", "sentence", "sentences"}
    assert document["days"][0] == {"day": "2026-03-02", "variant": "none", "assigned": 4000, "units": 4000}


def test_the_report_does_not_depend_on_how_the_cells_are_cut():
    """The same units in one cell, or spread over segments and days in another order: the same report.

    But for what is stratified by segment, which one segment cannot be, and what a week's units would bring.
    """
    rng = np.random.default_rng(6)
    pieces = [
        shop(rng, key, n=400, segment=segment, day=DAY + timedelta(days=day))
        for key in KEYS
        for segment in ("a", "b")
        for day in range(2)
    ]
    whole = [
        Cell(piece.key, piece.candidates, sum((p.moments for p in group[1:]), group[0].moments))
        for key in KEYS
        for group in [[p for p in pieces if p.key.variant == key]]
        for piece in group[:1]
    ]
    one, other = read(whole), read(pieces[::-1])
    for left, right in zip(one.variants, other.variants, strict=True):
        assert left.metrics.keys() == right.metrics.keys()
        assert replace(left, metrics={}, verdict=None) == replace(right, metrics={}, verdict=None)
        verdicts = [(v.verdict.kind, v.verdict.reason) for v in (left, right) if v.verdict is not None]
        assert len(set(verdicts)) <= 1
        for key, metric in left.metrics.items():
            assert metric == replace(right.metrics[key], post_stratified=None)
    assert one.guardrails == other.guardrails

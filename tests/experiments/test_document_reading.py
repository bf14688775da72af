"""The document's metrics, thresholds of the verdict and priors of the report: read, written back, refused."""

from typing import Any

import pytest

from experiments.document import parse_document, to_document
from experiments.model import MetricKind, Prior, VerdictSettings, WarmSource
from tests.experiments.documents import SMALL, changed, faults


def test_counts_and_scores_are_metrics_with_the_priors_of_what_they_are_read_as() -> None:
    normal = {"mean": 1, "kappa": 2, "nu": 3, "scale": 4}
    visits = {"key": "visits", "kind": "count", "event": "visit", "prior": normal}
    nps = {"key": "nps", "kind": "nps", "event": "rating"}
    read = parse_document(changed(SMALL, ("/metrics", [visits, nps])))
    assert [metric.kind for metric in read.metrics] == [MetricKind.COUNT, MetricKind.NPS]
    assert to_document(read)["metrics"][1] == {**nps, "direction": "up"}
    for member, value, pointer, code in (
        ("event", "score", "/metrics/0/event", "not_for_this_metric"),
        ("prior", {"alpha": 1, "beta": 1}, "/metrics/0/prior", "not_for_this_metric"),
    ):
        assert faults(changed(SMALL, ("/metrics", [{**nps, member: value}]))) == [(pointer, code)]
    assert faults(changed(SMALL, ("/metrics", [{**visits, "prior": {"alpha": 1, "beta": 1}}]))) == [
        ("/metrics/0/prior", "prior_shape")
    ]
    learning = {"kind": "thompson", "objective": "nps", "delay": "model"}
    assert faults(changed(SMALL, ("/metrics", [nps]), ("/policy", learning))) == [
        ("/policy/delay", "not_for_this_metric")
    ]
    assert parse_document(changed(SMALL, ("/metrics", [nps]), ("/policy/objective", "nps")))


def test_thresholds_of_the_verdict_and_priors_of_the_report() -> None:
    thresholds = {"tail": 0.05, "rope": 0.02, "promising": 0.95}
    past = {"experiment": "spring", "variant": "none"}
    document = changed(
        SMALL,
        ("/verdict", thresholds),
        ("/priors", {"take_rate": {"alpha": 3, "beta": 97}, "margin_per_unit": past}),
    )
    read = parse_document(document)
    assert read.verdict == VerdictSettings(tail=0.05, rope=0.02, promising=0.95)
    assert read.priors == {
        "take_rate": Prior(alpha=3, beta=97),
        "margin_per_unit": WarmSource("spring", "none", 1.0),
    }
    assert parse_document(to_document(read)) == read
    assert to_document(read)["priors"]["margin_per_unit"] == {**past, "discount": 1.0}
    assert {"verdict", "priors"}.isdisjoint(to_document(parse_document(SMALL)))


NORMAL = {"mean": 1, "kappa": 1, "nu": 1, "scale": 1}
BAD_READING: list[tuple[str, Any, str, str]] = [
    ("/verdict", {"tail": 0}, "/verdict/tail", "too_small"),
    ("/verdict", {"breach": 1}, "/verdict/breach", "too_large"),
    ("/verdict", {"held": 0.4}, "/verdict/held", "too_small"),
    ("/verdict", {"rope": 0}, "/verdict/rope", "too_small"),
    ("/verdict", {"sure": 0.9}, "/verdict/sure", "unknown_field"),
    ("/verdict", {"tail": 0.2, "promising": 0.85}, "/verdict/promising", "thresholds_order"),
    ("/priors", {"profit": {"alpha": 1, "beta": 1}}, "/priors/profit", "unknown_metric"),
    ("/priors", {"aov": NORMAL}, "/priors/aov", "not_for_this_metric"),
    ("/priors", {"conversion_rate": NORMAL}, "/priors/conversion_rate", "prior_shape"),
    ("/priors", {"margin_per_unit": {"alpha": 1, "beta": 1}}, "/priors/margin_per_unit", "prior_shape"),
    ("/priors", {"take_rate": {"experiment": "spring"}}, "/priors/take_rate", "prior_shape"),
    (
        "/priors",
        {"take_rate": {"experiment": "s", "variant": "v", "alpha": 1}},
        "/priors/take_rate",
        "prior_shape",
    ),
    ("/priors", {"take_rate": {"alpha": 0, "beta": 1}}, "/priors/take_rate/alpha", "too_small"),
    ("/priors", {"take_rate": 3}, "/priors/take_rate", "wrong_type"),
]


@pytest.mark.parametrize(("pointer", "value", "at", "code"), BAD_READING)
def test_what_is_wrong_with_thresholds_and_priors(pointer: str, value: Any, at: str, code: str) -> None:
    assert faults(changed(SMALL, (pointer, value))) == [(at, code)]


def test_a_prior_is_stated_once() -> None:
    stated = {"visits": NORMAL}
    visits = {"key": "visits", "kind": "count", "event": "visit", "prior": NORMAL}
    assert faults(changed(SMALL, ("/metrics", [visits]), ("/priors", stated))) == [
        ("/priors/visits", "twice")
    ]
    learning = {"kind": "thompson", "objective": "margin_per_unit", "prior": NORMAL}
    assert faults(changed(SMALL, ("/policy", learning), ("/priors", {"margin_per_unit": NORMAL}))) == [
        ("/priors/margin_per_unit", "twice")
    ]
    del visits["prior"]
    assert parse_document(changed(SMALL, ("/metrics", [visits, 5][:1]), ("/priors", stated))).priors
    assert faults(changed(SMALL, ("/metrics", [5]), ("/priors", {"take_rate": {"alpha": 1, "beta": 1}}))) == [
        ("/metrics/0", "wrong_type")
    ]

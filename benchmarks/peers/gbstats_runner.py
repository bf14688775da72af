"""Run by a Python that has gbstats: read cases from standard input, write what gbstats says of them.

A case is a metric with the sums of each variant, the first one the control. `lifts` are asked of its Bayesian
test with flat priors, absolute and relative. `cpu_ms` is of its whole way from rows to results, as its own
back end calls it, `bare_cpu_ms` of its test classes alone. Nothing of ours is imported.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

from gbstats.bayesian.tests import (  # pyright: ignore[reportMissingImports]
    EffectBayesianABTest,
    EffectBayesianConfig,
)
from gbstats.gbstats import process_single_metric  # pyright: ignore[reportMissingImports]
from gbstats.models.settings import (  # pyright: ignore[reportMissingImports]
    AnalysisSettingsForStatsEngine,
    MetricSettingsForStatsEngine,
)
from gbstats.models.statistics import (  # pyright: ignore[reportMissingImports]
    ProportionStatistic,
    RatioStatistic,
    SampleMeanStatistic,
)

TOO_SHORT_S = 0.5
KINDS = {"proportion": ("mean", "binomial"), "mean": ("mean", "count"), "ratio": ("ratio", "count")}


def statistic(kind: str, sums: dict[str, float]) -> Any:
    """The sums as gbstats has them."""
    n = int(sums["n"])
    if kind == "proportion":
        return ProportionStatistic(n=n, sum=sums["x"])
    top = SampleMeanStatistic(n=n, sum=sums["x"], sum_squares=sums["xx"])
    if kind == "mean":
        return top
    bottom = SampleMeanStatistic(n=n, sum=sums["y"], sum_squares=sums["yy"])
    return RatioStatistic(n=n, m_statistic=top, d_statistic=bottom, m_d_sum_of_products=sums["xy"])


def lift(kind: str, control: dict[str, float], treatment: dict[str, float], how: str) -> dict[str, float]:
    """The lift's mean and interval with a flat prior."""
    config = EffectBayesianConfig(difference_type=how)
    found = EffectBayesianABTest(
        statistic(kind, control), statistic(kind, treatment), config
    ).compute_result()
    return {
        "value": float(found.expected),
        "ci_low": float(found.ci[0]),
        "ci_high": float(found.ci[1]),
        "prob_beats_control": float(found.chance_to_win),
    }


def rows(kind: str, arms: list[dict[str, float]]) -> list[dict[str, Any]]:
    """The rows its back end gets from a database."""
    names = {"x": "main_sum", "xx": "main_sum_squares"}
    if kind == "ratio":
        names |= {
            "y": "denominator_sum",
            "yy": "denominator_sum_squares",
            "xy": "main_denominator_sum_product",
        }
    return [
        {
            "dimension": "All",
            "variation": str(place),
            "users": sums["n"],
            "count": sums["n"],
            **{name: sums[mine] for mine, name in names.items()},
        }
        for place, sums in enumerate(arms)
    ]


def cpu_ms(cases: list[dict[str, Any]]) -> float:
    """CPU of all the cases, over as many runs as take half a second."""
    ready = [(rows(case["kind"], case["arms"]), *_settings(case)) for case in cases]

    def work() -> None:
        for one, metric, analysis in ready:
            process_single_metric(one, metric, [analysis])

    return _cpu_ms(work)


def lifts(cases: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Every lift of every case, absolute and relative."""
    return [
        [
            {how: lift(case["kind"], case["arms"][0], arm, how) for how in ("absolute", "relative")}
            for arm in case["arms"][1:]
        ]
        for case in cases
    ]


def _cpu_ms(work: Callable[[], object]) -> float:
    work()
    runs, start = 0, time.process_time()
    while (spent := time.process_time() - start) < TOO_SHORT_S:
        work()
        runs += 1
    return 1000 * spent / runs


def _settings(case: dict[str, Any]) -> tuple[Any, Any]:
    statistic_type, main = KINDS[case["kind"]]
    more = {"denominator_metric_type": "count"} if case["kind"] == "ratio" else {}
    metric = MetricSettingsForStatsEngine(
        id=case["name"], name=case["name"], statistic_type=statistic_type, main_metric_type=main, **more
    )
    names = [str(place) for place in range(len(case["arms"]))]
    weights = [1 / len(names)] * len(names)
    return metric, AnalysisSettingsForStatsEngine(var_names=names, var_ids=names, weights=weights)


def main() -> None:
    """Answer `{"cases": [...], "timed": bool}`."""
    asked = json.load(sys.stdin)
    answer: dict[str, Any] = {"version": version("gbstats"), "numpy": version("numpy")}
    cases = asked["cases"]
    if asked["timed"]:
        answer |= {"cpu_ms": cpu_ms(cases), "bare_cpu_ms": _cpu_ms(lambda: lifts(cases))}
    else:
        answer["lifts"] = lifts(cases)
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main()

"""What stands beside a metric's figures, and fits of the pooled model: the service's shapes, made-up figures.

Serve the page's fullest form by hand: `python -m tests.dashboard.fake_analysis 8000`.
"""

import sys
from typing import Any

from tests.dashboard.fake_service import FakeService, interval

Json = dict[str, Any]

REFUSED = [
    {"code": "r_hat", "detail": "conversion: R-hat 1.204 of level is above 1.01: ask for more draws"},
    {"code": "posterior_predictive", "detail": "order_value, socks, sd: 91.2 where the model gives about 61"},
    {"code": "posterior_predictive", "detail": "order_value, none, sd: 90.1 where the model gives about 60"},
]


def lift(value: float, half: float, base: float) -> Json:
    return {"lift_abs": interval(value, half), "lift_rel": interval(value / base, half / base)}


def with_all(report: Json, variant: str = "socks") -> Json:
    """Give a report everything that can stand beside the objective of one variant."""
    block = next(one for one in report["variants"] if one["key"] == variant)["metrics"]["margin_per_unit"]
    base = 612.0
    told = block["lift_abs"]["value"]
    block |= {
        "naive": {"value": 641.0, **lift(29.0, 12.1, base), "method": "student-t"},
        "aipw": {"value": 630.0, **lift(17.4, 13.9, base), "method": "aipw"},
        "sequential": {
            **interval(told, 21.5),
            "ci_prob": 0.95,
            "method": "asymptotic, normal mixture of AIPW increments",
            "exact": False,
        },
        "booked": {**interval(702.0, 15.0), **lift(30.5, 14.0, base), "method": "student-t"},
        "expected_final": {
            **interval(611.0, 17.0),
            **lift(11.9, 16.0, base),
            "prob_beats_control": 0.93,
            "refunds_seen": 0.71,
            "method": "refunds to come by the delay curve",
        },
        "cuped": {"lift_abs": interval(15.9, 9.8), "variance_saved": 0.31, "method": "cuped"},
        "post_stratified": {
            "lift_abs": interval(16.2, 12.8),
            "variance_saved": -0.01,
            "method": "by segment",
        },
        "without_crossover": {**lift(16.3, 12.9, base), "method": "student-t"},
        "prior": {"kind": "flat", "parameters": None, "source": None, "reason": None},
        "sensitivity": {
            "default": {"lift_abs": interval(told, 12.8), "prob_best": 0.93},
            "flat": {"lift_abs": interval(told, 12.9), "prob_best": 0.93},
            "sceptical": {"lift_abs": interval(14.1, 11.9), "prob_best": 0.91},
        },
    }
    control = next(one for one in report["variants"] if one["is_control"])["metrics"]["margin_per_unit"]
    control |= {
        "booked": interval(671.0, 9.0),
        "expected_final": {**interval(599.0, 12.0), "refunds_seen": 0.78},
    }
    return report


def analysis(state: str = "done", number: str = "3", **changes: Any) -> Json:
    """A fit in that state, with figures by segment when it is done."""
    return {
        "id": number,
        "experiment": "checkout-addon",
        "state": state,
        "settings": {},
        "created_at": "2026-03-29T06:00:00Z",
        "started_at": "2026-03-29T06:00:01Z",
        "ended_at": None if state in ("queued", "running") else "2026-03-29T06:00:58Z",
        "attempt": 1,
        "reasons": REFUSED if state == "refused" else [],
        "result": result() if state == "done" else None,
        **changes,
    }


def result() -> Json:
    segments = {"returning": (21.0, 8.0, 9000), "new": (9.5, 11.0, 21000), "": (2.0, 30.0, 40)}
    return {
        "order_value_law": "log_normal",
        "notes": ["2 touchpoints were pooled"],
        "currency": "EUR",
        "variants": variants(14.2, 7.1, 10_000),
        "segments": {key: variants(*figures) for key, figures in segments.items()},
        "files": {"netcdf": "rialto.db.analyses/3/draws.nc", "parquet": "rialto.db.analyses/3/draws.parquet"},
    }


def variants(value: float, half: float, units: int) -> list[Json]:
    """Control and two treatments; the second has no units in the smallest segment."""
    control = {"key": "none", "units": units, "metrics": {"margin_per_unit": {**span(612.0, 9.0)}}}
    found = [control]
    for place, key in enumerate(("socks", "insoles"), start=1):
        if units > 40 or key == "socks":
            told = {"lift_abs": span(value / place, half), "prob_beats_control": 0.97 / place}
            metrics = {"margin_per_unit": {**span(612.0 + value, 9.0), **told}}
            found.append({"key": key, "units": units, "metrics": metrics})
    return found


def span(value: float, half: float) -> Json:
    return {**interval(value, half), "raw": 1.3 * value}


if __name__ == "__main__":
    service = FakeService(int(sys.argv[1]))
    with_all(service.report)
    service.analyses = [analysis()]
    print(service.url, flush=True)

"""The file's numbers next to the service's, and whether they agree."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sim.replay.file_summary import FileSummary
from sim.replay.tally import Z95, Figure, VariantNumbers

TOLERANCE = 1e-9  # relative: both sides add the same integers, only the division may round
SAMPLING_ERRORS = 4.5  # kept rows further than this from the file's rate are no sample of it
JUDGED_UNITS = 1000


@dataclass(frozen=True, slots=True)
class Comparison:
    """One number on both sides; `service` None = the service gives none, `reason` says why."""

    subject: str
    metric: str
    file: float | None
    service: float | None
    agrees: bool
    file_interval: tuple[float, float] | None = None
    service_interval: tuple[float, float] | None = None
    reason: str | None = None


def compare_report(numbers: Mapping[str, VariantNumbers], report: Mapping[str, Any]) -> list[Comparison]:
    """Per variant: units and each metric, by numerator and denominator, to the last digit."""
    served = {variant["key"]: variant for variant in report["variants"]}
    rows: list[Comparison] = []
    for key, ours in numbers.items():
        variant = served.get(key)
        if variant is None:
            rows.append(Comparison(key, "units", ours.units, None, False, reason="no such variant"))
            continue
        assigned = variant["assigned"]
        rows.append(Comparison(key, "units", ours.units, assigned, ours.units == assigned))
        rows.extend(_metric(key, metric, figure, variant) for metric, figure in ours.metrics.items())
    return rows


def _metric(key: str, metric: str, figure: Figure, variant: Mapping[str, Any]) -> Comparison:
    found = variant["metrics"].get(metric)
    file_interval = _interval(figure.low, figure.high)
    if found is None:
        return Comparison(key, metric, figure.value, None, False, file_interval, reason="not reported")
    top, bottom = found.get("numerator"), found.get("denominator")
    reason = found.get("reason")
    if reason == "no_offer":
        # A control without an offer has no such figure, whatever the file says of its clicks.
        return Comparison(key, metric, figure.value, None, True, file_interval, reason=reason)
    agrees = _same(figure.numerator, top) and _same(figure.denominator, bottom)
    plain = found.get("naive") or found
    return Comparison(
        key,
        metric,
        figure.value,
        top / bottom if top is not None and bottom else None,
        agrees,
        file_interval,
        _interval(plain.get("ci_low"), plain.get("ci_high")),
        reason,
    )


def compare_sample(
    file: Mapping[str, VariantNumbers], kept: Mapping[str, VariantNumbers]
) -> list[Comparison]:
    """Whether the rows kept look like a sample of the file: each rate within sampling error of it.

    The error is the file's own, scaled to the sample's size: a small sample of rare purchases cannot
    tell its own spread. Variants with fewer than `JUDGED_UNITS` rows are shown and not judged.
    """
    return [
        Comparison(
            key,
            metric,
            figure.value,
            sample.value,
            kept[key].units < JUDGED_UNITS or _is_near(figure, sample, whole.units / kept[key].units),
            _interval(figure.low, figure.high),
            _interval(sample.low, sample.high),
        )
        for key, whole in file.items()
        for metric, figure in whole.metrics.items()
        for sample in [kept[key].metrics[metric]]
        if sample.value is not None and figure.value is not None
    ]


def _is_near(figure: Figure, sample: Figure, times_smaller: float) -> bool:
    if figure.low is None or figure.high is None or figure.value is None or sample.value is None:
        return True
    error = (figure.high - figure.low) / (2 * Z95) * math.sqrt(times_smaller)
    return abs(figure.value - sample.value) <= SAMPLING_ERRORS * error


def compare_summary(summary: FileSummary, served: Mapping[str, Any]) -> list[Comparison]:
    """The store summary: counts and money exact, the two rates by division."""
    rows: list[Comparison] = []
    for name in (
        "orders",
        "revenue",
        "aov",
        "refunded",
        "over_refunded",
        "refunded_orders",
        "orphan_refunds",
        "orphan_refunded",
        "refund_rate",
    ):
        file: float | None = getattr(summary, name)
        service = served.get(name)
        agrees = service is None if file is None else _same(file, service)
        rows.append(Comparison("store", name, file, service, agrees))
    return rows


def _same(file: float, service: float | None) -> bool:
    return service is not None and math.isclose(file, service, rel_tol=TOLERANCE, abs_tol=1e-12)


def _interval(low: float | None, high: float | None) -> tuple[float, float] | None:
    return None if low is None or high is None else (low, high)

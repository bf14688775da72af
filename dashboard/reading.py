"""Finding one's way in a report and a policy: plain functions over the service's JSON, no drawing.

Every lookup survives a missing or null field, since a newer or older service may leave one out.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeAlias, cast

from dashboard import words

Json: TypeAlias = dict[str, Any]

HEADLINES = ("aov", "take_rate", "margin_per_unit")
"""The metrics of the headline cards, in order."""

COLUMNS = ("aov", "take_rate", "conversion_rate", "margin_per_unit", "cart_abandonment_rate", "refund_rate")
"""The metrics of the table of variants; all others stand in the full table below it."""

_GUARDRAILS_FIRST = ("cart_abandonment_rate", "refund_rate", "conversion_rate")
_VERSIONS_DRAWN = 400
_SEVERITY = ("kill", "throttle", "warn", "unknown", "ok")


@dataclass(frozen=True, slots=True)
class Interval:
    """A figure with its credible interval, or the reason why there is none."""

    value: float | None = None
    low: float | None = None
    high: float | None = None
    reason: str | None = None

    @property
    def has_bounds(self) -> bool:
        """Whether both ends of the interval are known."""
        return self.low is not None and self.high is not None


@dataclass(frozen=True, slots=True)
class Reading:
    """One metric of one variant, as the report gives it.

    `naive` and `naive_lift` are value and relative lift not corrected for changing shares, `aipw_lift` the
    lift corrected by propensities, `capped_lift` that with the largest totals capped, `sequential` the
    absolute lift with an interval that holds at every look; each only where the report has it.
    """

    value: Interval
    lift_abs: Interval
    lift_rel: Interval
    prob_best: float | None
    prob_beats_control: float | None
    ci_prob: float
    reason: str | None
    naive: float | None = None
    naive_lift: Interval = Interval()
    aipw_lift: Interval = Interval()
    capped_lift: Interval = Interval()
    sequential: Interval = Interval()


def reading(variant: Json, metric: str) -> Reading:
    """What the report says of a variant's metric; empty with its reason where it says nothing."""
    found = block(variant, metric)
    reason = _text(found.get("reason")) or (None if found else "insufficient_data")
    return Reading(
        value=interval(found, reason),
        lift_abs=interval(found.get("lift_abs"), reason),
        lift_rel=interval(found.get("lift_rel"), reason),
        prob_best=number(found.get("prob_best")),
        prob_beats_control=number(found.get("prob_beats_control")),
        ci_prob=number(found.get("ci_prob")) or 0.95,
        reason=reason,
        naive=number(_object(found.get("naive")).get("value")),
        naive_lift=interval(_object(found.get("naive")).get("lift_rel"), None),
        aipw_lift=interval(_object(found.get("aipw")).get("lift_rel"), None),
        capped_lift=interval(_object(found.get("winsorised")).get("lift_rel"), None),
        sequential=interval(found.get("sequential"), None),
    )


def block(variant: Json, metric: str) -> Json:
    """The report's own block of a variant's metric, empty where it has none."""
    return _object(_object(variant.get("metrics")).get(metric))


def interval(block: object, reason: str | None = None) -> Interval:
    """A value with its interval, as any block of the report has it; `reason` where it gives none itself."""
    found = _object(block)
    return Interval(
        value=number(found.get("value")),
        low=number(found.get("ci_low")),
        high=number(found.get("ci_high")),
        reason=_text(found.get("reason")) or reason,
    )


def number(value: object) -> float | None:
    """A figure of the report; None for anything else, true and false too."""
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def reason(block: Json) -> str | None:
    """Why a block has no figures."""
    return _text(block.get("reason"))


def variants(report: Json) -> list[Json]:
    """The report's variants, control first, then in the document's order."""
    items = cast("list[Json]", report.get("variants") or [])
    return sorted(items, key=lambda item: not item.get("is_control"))


def control_key(report: Json) -> str | None:
    """The control's key."""
    return next((str(item["key"]) for item in variants(report) if item.get("is_control")), None)


def treatments(report: Json) -> list[str]:
    """Keys of all variants but the control."""
    return [str(item["key"]) for item in variants(report) if not item.get("is_control")]


def variant(report: Json, key: str) -> Json:
    """The variant of that key, empty when the report has none."""
    return next((item for item in variants(report) if item.get("key") == key), {})


def leading(report: Json, objective: str = "margin_per_unit") -> str | None:
    """The variant to show first: the verdict's, else the treatment most probably best, else the first."""
    offered = treatments(report)
    chosen = _object(report.get("verdict")).get("variant")
    if chosen in offered:
        return str(chosen)
    return max(
        offered,
        key=lambda key: reading(variant(report, key), objective).prob_best or 0.0,
        default=None,
    )


def metric_words(document: Json, unit: str, key: str) -> words.Metric:
    """The words of a metric, built in or defined by the experiment's document."""
    custom = next((item for item in document.get("metrics") or [] if item.get("key") == key), None)
    kind = (str(custom.get("kind", "mean")), str(custom.get("direction", "up"))) if custom else None
    return words.metric(key, unit, kind)


def metric_keys(report: Json) -> list[str]:
    """Every metric that any variant of the report has, in the report's order."""
    found = (key for item in variants(report) for key in _object(item.get("metrics")))
    return list(dict.fromkeys(found))


def guardrails(report: Json, variant_key: str) -> list[Json]:
    """A variant's guardrails: the three every shop watches first, then those it added."""
    own = [item for item in report.get("guardrails") or [] if item.get("variant") == variant_key]
    return sorted(own, key=lambda item: _rank(str(item.get("metric")), _GUARDRAILS_FIRST))


def troubled(report: Json, but: str) -> list[Json]:
    """Guardrails in trouble of the other variants, worst first."""
    others = [
        item
        for item in report.get("guardrails") or []
        if item.get("variant") != but and item.get("state") in ("warn", "throttle", "kill")
    ]
    return sorted(others, key=lambda item: _rank(str(item.get("state")), _SEVERITY))


def guardrail_lift(guardrail: Json) -> Interval:
    """The change of a guardrail's metric against control."""
    return interval(guardrail.get("lift"), _text(guardrail.get("reason")))


def policy_kind(policy: Json) -> str:
    """How shares come about; fixed where nothing is said."""
    return str(_object(policy.get("policy")).get("kind") or "fixed")


def segments(policy: Json) -> list[str]:
    """The segments that have shares of their own now, the one with most units first."""
    found = _object(policy.get("segments"))
    return sorted(found, key=lambda segment: (-_units(found[segment]), segment))


def sets_of(version: Json, segment: str | None = None) -> list[Json]:
    """The candidate sets of a segment, or those of all units where it has none of its own."""
    own = _object(version.get("segments")).get(segment) if segment is not None else None
    return cast("list[Json]", own or version.get("sets") or [])


def share_rows(
    policy: Json, until: str | None, field: str = "shares", *, segment: str | None = None
) -> list[Json]:
    """Rows {at, variant, value, cause, version} of every version's `shares` or `prob_best`.

    With `segment` those that its units got. Each version's first set is the one that most units saw. A
    variant that drops out of it, killed or retired, has share 0 from then on and no P(best). The last value
    is repeated at `until` (now), so that the step in force is as long as it has lasted. Of more versions than
    a screen has room for, evenly spaced ones are kept, and the last.
    """
    rows: list[Json] = []
    seen: dict[str, float] = {}
    for version in _thinned(cast("list[Json]", policy.get("versions") or [])):
        values = _object((sets_of(version, segment) or [{}])[0].get(field))
        found = {key: float(value) for key, value in values.items() if value is not None}
        if field == "shares" and found:
            found = dict.fromkeys(seen, 0.0) | found
            seen |= found
        rows += _rows_at(version, str(version.get("published_at")), found)
    if rows and until and datetime.fromisoformat(until) > datetime.fromisoformat(rows[-1]["at"]):
        last = rows[-1]["at"]
        rows += [{**row, "at": until} for row in rows if row["at"] == last]
    return rows


def first_shares(version: Json, segment: str | None = None) -> dict[str, float]:
    """Shares of the set that most units saw, of all or of a segment."""
    shares = _object((sets_of(version, segment) or [{}])[0].get("shares"))
    return {key: float(value) for key, value in shares.items() if value is not None}


def drift_words(policy: Json) -> str | None:
    """What the drift alarm says while it is raised: which week, and whether the order has changed."""
    drift = _object(policy.get("drift"))
    if drift.get("state") != "drifting":
        return None
    days = [words.day(day) for day in cast("list[str]", drift.get("recent") or [])]
    when = f" ({' to '.join(days)})" if days else ""
    common, between = number(drift.get("p_common")), number(drift.get("p_between"))
    has_order = between is not None and (common is None or between < common)
    what = "the order of the variants has changed" if has_order else "all variants have moved together"
    half_life = _object(policy.get("policy")).get("discount_half_life")
    remedy = (
        f"Old weeks fade, by half every {half_life}."
        if half_life
        else "Shares still rest on both; set policy.discount_half_life (14d, say): old weeks then fade."
    )
    return f"The last full week{when} contradicts the weeks before: {what}. {remedy}"


def day_rows(report: Json) -> list[Json]:
    """Rows {day, variant, assigned} of the enrolments per day."""
    return [
        {"day": str(item["day"]), "variant": str(item["variant"]), "assigned": int(item.get("assigned") or 0)}
        for item in report.get("days") or []
        if "day" in item and "variant" in item
    ]


def _units(sets: object) -> float:
    """Units behind the posteriors of a segment's first set."""
    first = _object(cast("list[Json]", sets or [{}])[0])
    return sum(number(_object(found).get("n")) or 0.0 for found in _object(first.get("posteriors")).values())


def _thinned(versions: list[Json]) -> list[Json]:
    stride = max(1, math.ceil(len(versions) / _VERSIONS_DRAWN))
    return [
        version for place, version in enumerate(versions, start=1) if (len(versions) - place) % stride == 0
    ]


def _rows_at(version: Json, at: str, values: dict[str, float]) -> list[Json]:
    cause = words.cause(str(version.get("cause") or ""))
    number = version.get("policy_version")
    return [
        {"at": at, "variant": key, "value": value, "cause": cause, "version": number}
        for key, value in values.items()
    ]


def _rank(item: str, order: Iterable[str]) -> int:
    places = {name: place for place, name in enumerate(order)}
    return places.get(item, len(places))


def _object(value: object) -> Json:
    return cast("Json", value) if isinstance(value, dict) else {}


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None

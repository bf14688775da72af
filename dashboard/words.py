"""Numbers and codes in the growth team's words: money, percentages, states and reasons.

Nothing here invents a figure: what is missing stays None, and the reason is what is shown.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any, Literal

MINUS = "\u2212"
NARROW = "\u202f"  # a thin space that does not break: between a number and its unit

Scale = Literal["money", "share", "score", "number"]

_EXPONENTS = {
    0: "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF",
    3: "BHD IQD JOD KWD LYD OMR TND",
    4: "CLF UYW",
}
_SYMBOLS = {"EUR": "€", "GBP": "£", "USD": "$", "JPY": "¥"}


@dataclass(frozen=True, slots=True)
class Metric:
    """How a metric is called and written; `lower_is_better` names its bad direction."""

    label: str
    scale: Scale
    lower_is_better: bool = False


_METRICS = {
    "aov": Metric("Average order value", "money"),
    "aov_net": Metric("Average order value after refunds", "money"),
    "take_rate": Metric("Take rate", "share"),
    "click_through_rate": Metric("Click-through rate", "share"),
    "orders_per_unit": Metric("Orders per {unit}", "number"),
    "revenue_per_unit": Metric("Revenue per {unit}", "money"),
    "margin_per_unit": Metric("Margin per {unit}", "money"),
    "margin_rate": Metric("Margin as a share of revenue", "share"),
    "conversion_rate": Metric("Conversion rate", "share"),
    "cart_abandonment_rate": Metric("Cart abandonment", "share", lower_is_better=True),
    "refund_rate": Metric("Refund rate", "share", lower_is_better=True),
    "refund_value_rate": Metric("Refunded share of revenue", "share", lower_is_better=True),
    "cancel_rate": Metric("Cancelled orders", "share", lower_is_better=True),
    "rating_mean": Metric("Rating (of 100)", "score"),
    "repeat_rate": Metric("Repeat purchase, 90 days", "share"),
    "ltv_30d": Metric("Margin per {unit}, 30 days", "money"),
    "ltv_90d": Metric("Margin per {unit}, 90 days", "money"),
    "ltv_180d": Metric("Margin per {unit}, 180 days", "money"),
}

_REASONS = {
    "no_offer": "This variant makes no offer, so there is nothing to take.",
    "not_comparable": "Other visitors got this variant than the control, so the two cannot be compared.",
    "no_control_exposure": "The control does not report when its slot would have been drawn.",
    "cost_unknown": "The cost of some orders is unknown: send it with them, or set the store's cost rate.",
    "insufficient_data": "Not enough data yet.",
    "unconverted": "Some orders are in a currency without a rate: add it to the store's settings.",
    "is_control": "This is the control itself.",
    "propensity_unknown": "With which shares some visitors were assigned is on no record.",
    "no_pre_period": "No visitor bought anything in the 30 days before.",
    "control_near_zero": "The control's figure is too close to zero for a relative change.",
}

_CHECKS = {
    "maturity": ("Windows closed", "Wait for the windows to close."),
    "crossover": ("One person, one variant", "Identify visitors earlier, or make the customer the unit."),
    "exposure_gap": (
        "Slots drawn alike",
        "See that the storefront reports exposure for every variant, control included, at the same moment.",
    ),
    "srm": (
        "Split as its shares say",
        "Do not act on lifts before the cause is found: see how each variant reports its exposures.",
    ),
    "cost_unknown": ("Costs known", "Send cost with the orders, or set the store's default_cost_rate."),
    "unconverted": ("Currencies converted", "Add the missing rates to the store's fx_rates."),
    "candidate_sets": (
        "Comparable with control",
        "Look at the audience and the offers' rules: too few visitors could get control and an offer alike.",
    ),
    "methods": (
        "Corrected beside plain lifts",
        "Decide by the corrected figures: the plain ones compare different times.",
    ),
    "burn_in": ("Burn-in", "Wait: until then shares do not follow their results."),
    "stop_rule": ("Stop rule", "Decide: promote a variant, or stop the experiment."),
    "missing_outcomes": ("Outcomes of every variant", "Check that every variant's pages send their events."),
    "outcomes_stopped": ("Outcomes still come", "Look for what changed in how the shop sends events."),
    "late_events": ("Outcomes in time", "Send events as they happen."),
    "aa": ("Equal variants look equal", "Trust no experiment of this shop before the cause is found."),
}
"""Check -> what it looks at, and what to do when it is not in order."""


CAUSES = {
    "started": "Started",
    "shares_moved": "Shares followed the results",
    "daily": "A day passed",
    "guardrail": "A guardrail changed",
    "breaker": "A circuit breaker changed",
    "ramp": "A ramp took a step",
    "edited": "Somebody edited the experiment",
    "promoted": "Somebody promoted a variant",
    "resumed": "Somebody resumed a variant",
    "retired": "Somebody retired a variant",
    "added": "A variant was added",
    "replaced": "A variant took another's place",
    "stop_rule": "The stop rule changed",
}
"""Why a policy version was published."""

ROUTINE = frozenset({"shares_moved", "daily"})
"""Causes that are nobody's decision and no rule's."""


POLICIES = {
    "thompson": "Thompson sampling on",
    "top_two": "top-two sampling on",
    "segment": "by segment, on",
    "contextual": "by context, on",
}
"""How shares come about, before the metric they follow."""


_STATES = {
    "ok": ("good", "✓", "OK"),
    "warn": ("warn", "!", "Warning"),
    "throttle": ("poor", "▼", "Throttled"),
    "kill": ("bad", "✕", "Killed"),
    "unknown": ("none", "?", "Not known yet"),
    "info": ("none", "i", "Note"),
    "reached": ("warn", "■", "Reached"),
    "alarm": ("bad", "✕", "Alarm"),
    "fail": ("bad", "✕", "Failed"),
    "tripped": ("bad", "✕", "Tripped"),
    "drifting": ("warn", "!", "Drift"),
    "closed": ("good", "✓", "In order"),
    "draft": ("none", "○", "Draft"),
    "running": ("good", "●", "Running"),
    "paused": ("warn", "‖", "Paused"),
    "stopped": ("poor", "■", "Stopped"),
    "archived": ("none", "▪", "Archived"),
    "retired": ("none", "▪", "Retired"),
    "killed": ("bad", "✕", "Killed"),
    "toxic": ("bad", "✕", "Toxic"),
    "harmful": ("bad", "✕", "Harmful"),
    "healthy": ("good", "✓", "Healthy"),
    "promising": ("warn", "↗", "Promising"),
    "no_difference": ("none", "=", "No difference"),
    "insufficient_data": ("none", "…", "Too early to say"),
}


def metric(key: str, unit: str = "visitor", custom: tuple[str, str] | None = None) -> Metric:
    """A metric's words; `custom` = (kind, direction) of one that the document defines itself.

    >>> metric("margin_per_unit", "customer").label
    'Margin per customer'
    """
    if key in _METRICS:
        known = _METRICS[key]
        return Metric(known.label.format(unit=unit), known.scale, known.lower_is_better)
    kind, direction = custom or ("mean", "up")
    return Metric(spoken(key), "share" if kind == "proportion" else "number", direction == "down")


def spoken(code: str) -> str:
    """A code as words: `held_by_cost` becomes `Held by cost`."""
    text = code.replace("_", " ").replace(".", " ").strip()
    return text[:1].upper() + text[1:]


def cause(code: str) -> str:
    """Why a version was published; a cause not known here is spelled out."""
    return CAUSES.get(code, spoken(code))


def reason(code: str | None) -> str:
    """Why a figure is missing, in a sentence; a code not known here is spelled out."""
    if not code:
        return "Not available, and the service gave no reason."
    return _REASONS.get(code, spoken(code) + ".")


def check(name: str, state: str, detail: str, remedy: str | None = None) -> tuple[str, str, str]:
    """What a check looks at, its finding, and what to do about it when it is not in order.

    The report's own `remedy` fits the case best; without one, what usually helps.
    """
    title, usual = _CHECKS.get(name, (spoken(name), ""))
    return title, sentence(detail), "" if state == "ok" else usual if remedy is None else remedy


def check_of(item: Mapping[str, Any]) -> tuple[str, str, str]:
    """`check` of one as the report has it; a remedy that is null says that there is nothing to do."""
    remedy = str(item["remedy"] or "") if "remedy" in item else None
    return check(str(item.get("name")), str(item.get("state")), str(item.get("detail") or ""), remedy)


def sentence(text: str) -> str:
    """A text with a capital in front and a full stop behind.

    >>> sentence("12 orders have no cost"), sentence("done.")
    ('12 orders have no cost.', 'Done.')
    """
    whole = text.strip()
    if not whole:
        return ""
    return whole[0].upper() + whole[1:] + ("" if whole[-1] in ".!?" else ".")


def instant(text: str) -> str:
    """An RFC 3339 time to the minute, in UTC; as it stands when it is none.

    >>> instant("2026-03-01T12:34:56+02:00")
    '1 Mar 2026, 10:34 UTC'
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return text
    utc = moment.astimezone(UTC) if moment.tzinfo else moment
    return f"{utc.day} {utc:%b %Y, %H:%M} UTC"


def day(text: str) -> str:
    """An ISO date as people write it; as it stands when it is none.

    >>> day("2026-03-09")
    '9 Mar 2026'
    """
    try:
        found = date.fromisoformat(text)
    except ValueError:
        return text
    return f"{found.day} {found:%b %Y}"


def held(found: Mapping[str, Any]) -> str:
    """Why shares are held, in a sentence."""
    return sentence(str(found.get("detail") or reason(found.get("reason"))))


def segment(name: str) -> str:
    """A segment's name; units that none matches have the empty one."""
    return name or "No segment"


def lift_reason(code: str | None) -> str:
    """Why there is no comparison with control, in a few words."""
    return "none: the control makes no offer" if code == "no_offer" else reason(code)


def state(code: str) -> tuple[str, str, str]:
    """(tone, sign, word) of a state: three ways to see it, so that colour is never the only one."""
    return _STATES.get(code, ("none", "•", spoken(code)))


def exponent(currency: str) -> int:
    """Decimals of the currency's minor unit (ISO 4217)."""
    return next((places for places, codes in _EXPONENTS.items() if currency in codes.split()), 2)


def money(minor: float, currency: str, *, signed: bool = False) -> str:
    """Minor units as an amount.

    >>> money(123456, "EUR"), money(-1290, "JPY"), money(1500, "KWD", signed=True)
    ('€1,234.56', '−¥1,290', '+KWD\u202f1.500')
    """
    places = exponent(currency)
    amount = minor / 10**places
    mark = _SYMBOLS.get(currency, currency + NARROW)
    return _sign(round(amount, places), signed) + mark + f"{abs(amount):,.{places}f}"


def percent(share: float, *, signed: bool = False, places: int = 1) -> str:
    """A fraction as a percentage: 0.034 is `3.4 %`."""
    value = 100 * share
    return _sign(round(value, places), signed) + f"{abs(value):,.{places}f}{NARROW}%"


def points(change: float) -> str:
    """A change of a share in percentage points, without the word: +0.034 is `+3.4`."""
    return _sign(round(100 * change, 1), True) + f"{abs(100 * change):,.1f}"


def probability(value: float | None) -> str:
    """A probability, never rounded to certainty."""
    if value is None:
        return "not known"
    if value > 0.999:
        return f">{NARROW}99.9{NARROW}%"
    if value < 0.001:
        return f"<{NARROW}0.1{NARROW}%"
    return percent(value)


def amount(value: float, scale: Scale, currency: str) -> str:
    """A metric's value in its own unit."""
    if scale == "money":
        return money(value, currency)
    if scale == "share":
        return percent(value, places=2 if abs(value) < 0.1 else 1)
    return _sign(round(value, 2), False) + f"{abs(value):,.{1 if scale == 'score' else 2}f}"


def change(value: float, scale: Scale, currency: str) -> str:
    """An absolute difference in the metric's unit; of shares, in percentage points."""
    if scale == "money":
        return money(value, currency, signed=True)
    if scale == "share":
        return _sign(round(100 * value, 2), True) + f"{abs(100 * value):,.2f} points"
    return _sign(round(value, 2), True) + f"{abs(value):,.2f}"


def shift(value: float, scale: Scale, currency: str, *, relative: bool) -> str:
    """A change against control: relative in percent, else in the metric's unit.

    >>> shift(0.02, "share", "EUR", relative=True), shift(-150, "money", "EUR", relative=False)
    ('+2\u202f%', '−€1.50')
    """
    if not relative:
        return change(value, scale, currency)
    whole = abs(100 * value - round(100 * value)) < 1e-9
    return percent(value, signed=True, places=0 if whole else 1)


def is_relative(guardrail: Mapping[str, Any], about: Metric) -> bool:
    """Whether a guardrail's change and margins are relative; else they are in the metric's unit."""
    absolute = guardrail.get("absolute")
    return about.scale != "score" if absolute is None else not absolute


def count(value: int | None) -> str:
    """A number of things, with thousands apart."""
    return "–" if value is None else f"{value:,}"


def _sign(value: float, signed: bool) -> str:
    if value < 0:
        return MINUS
    return "+" if signed and value > 0 else ""

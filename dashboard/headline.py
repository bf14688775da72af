"""What a headline card and a guardrail say, as HTML: pure functions of one reading."""

from typing import Any, TypeAlias

from dashboard import markup, reading, words
from dashboard.reading import Interval, Reading

Json: TypeAlias = dict[str, Any]

_LIFT_FIRST = frozenset({"aov"})


def card(key: str, about: words.Metric, found: Reading, control: Reading, currency: str) -> str:
    """A metric's card. For order value the lift is the headline, for the others the value.

    Missing figures give way to their reason; the rest of the card stays.
    """
    level = f"{words.percent(found.ci_prob, places=0)} credible interval"
    lift = found.lift_rel if key in _LIFT_FIRST else found.lift_abs
    rows: list[tuple[str, str]] = []
    value = None if found.value.value is None else words.amount(found.value.value, about.scale, currency)
    if key in _LIFT_FIRST:
        label = f"{about.label}: lift"
        big = None if lift.value is None else words.percent(lift.value, signed=True)
        why = words.lift_reason(lift.reason)
        rows.append((level, _range(lift, about.scale, currency, relative=True)))
        rows.append(("Value", _value_text(found.value, about.scale, currency)))
    else:
        label, big, why = about.label, value, words.reason(found.value.reason)
        if big is not None:
            rows.append((level, _ends(found.value, about.scale, currency)))
    if control.value.value is not None:
        rows.append(("Control", words.amount(control.value.value, about.scale, currency)))
    if key not in _LIFT_FIRST and big is not None:
        rows += _lift_rows(found, level, about.scale, currency)
    if found.prob_beats_control is not None:
        rows.append(("P(beats control)", words.probability(found.prob_beats_control)))
    rows = [(name, text) for name, text in rows if text]
    return markup.card(label, big, why, rows, markup.interval_line(lift))


def guardrail(about: words.Metric, found: Json, currency: str) -> str:
    """A guardrail's name, state, change and the probabilities of being beyond its margins."""
    lift = reading.guardrail_lift(found)
    relative = words.is_relative(found, about)
    lines: list[str] = []
    if lift.value is None:
        lines.append(words.reason(lift.reason))
    else:
        at = _change(lift.value, about.scale, currency, relative=relative)
        bounds = _range(lift, about.scale, currency, relative=relative)
        lines.append(f"Change {at}" + (f" ({bounds})" if bounds else ""))
    beyond = found.get("prob_breach") or {}
    if beyond:
        told = ", ".join(
            f"{name} {words.probability(beyond.get(name))}" for name in ("warn", "throttle", "kill")
        )
        lines.append(f"P(beyond): {told}")
    elif lift.value is not None:
        lines.append(words.reason(found.get("reason")))
    body = "".join(f'<div class="small muted">{markup.text(line)}</div>' for line in lines)
    badge = markup.badge(str(found.get("state")))
    return markup.block(f'<div class="rl-guard"><b>{markup.text(about.label)}</b>{badge}</div>{body}')


def _lift_rows(found: Reading, level: str, scale: words.Scale, currency: str) -> list[tuple[str, str]]:
    if found.lift_abs.value is None:
        return [("Lift", words.lift_reason(found.lift_abs.reason))]
    lift = words.change(found.lift_abs.value, scale, currency)
    if found.lift_rel.value is not None:
        lift += f" ({words.percent(found.lift_rel.value, signed=True)})"
    return [("Lift", lift), (f"Lift, {level}", _range(found.lift_abs, scale, currency, relative=False))]


def _value_text(value: Interval, scale: words.Scale, currency: str) -> str:
    return words.reason(value.reason) if value.value is None else words.amount(value.value, scale, currency)


def _ends(value: Interval, scale: words.Scale, currency: str) -> str:
    if value.low is None or value.high is None:
        return ""
    return f"{words.amount(value.low, scale, currency)} to {words.amount(value.high, scale, currency)}"


def _range(lift: Interval, scale: words.Scale, currency: str, *, relative: bool) -> str:
    if lift.low is None or lift.high is None:
        return ""
    low, high = (_change(end, scale, currency, relative=relative) for end in (lift.low, lift.high))
    return f"{low} to {high}"


def _change(value: float, scale: words.Scale, currency: str, *, relative: bool) -> str:
    return words.percent(value, signed=True) if relative else words.change(value, scale, currency)

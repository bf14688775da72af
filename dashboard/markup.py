"""The page's own HTML: badges, banners, cards and tables. Pure functions; every text is escaped."""

import re
from collections.abc import Sequence
from html import escape
from pathlib import Path

from dashboard import words
from dashboard.reading import Interval, Reading

STYLESHEET = Path(__file__).with_name("style.css")
"""The page's own look, drawn before anything else."""


_SIGNED = re.compile(r"[-+\u2212][€$£¥][\d.,]*\d")


def badge(code: str) -> str:
    """A state as colour, sign and word."""
    tone, sign, word = words.state(code)
    return f'<span class="rl-badge rl-{tone}"><span aria-hidden="true">{sign}</span> {escape(word)}</span>'


def block(body: str) -> str:
    """A fragment in the page's own type."""
    return f'<div class="rl">{body}</div>'


def text(raw: str) -> str:
    """Anybody's text, made safe to stand in HTML."""
    return escape(raw)


def page_title(name: str, question: str) -> str:
    """The page's title with the question it answers."""
    return block(f'<h1 class="rl-title">{escape(name)}</h1><div class="muted">{escape(question)}</div>')


def heading(title: str, note: str = "") -> str:
    """A section's title with one line of explanation."""
    extra = f'<div class="muted small">{escape(note)}</div>' if note else ""
    return block(f"<h2>{escape(title)}</h2>{extra}")


def banner(code: str, sentence: str, note: str = "", *, word: str | None = None, tongue: str = "en") -> str:
    """The verdict: its word and its sentence, in the language of that code."""
    tone, sign, usual = words.state(code)
    extra = f'<div class="muted small">{escape(note)}</div>' if note else ""
    return block(
        f'<div class="rl-banner rl-{tone}" role="status">'
        f'<span class="word" lang="{escape(tongue)}"><span aria-hidden="true">{sign}</span> '
        f"{escape(word or usual)}</span>"
        f'<div class="said" lang="{escape(tongue)}">{_amounts(sentence)}</div>{extra}</div>'
    )


def _amounts(sentence: str) -> str:
    """The sentence with signs kept on the line of their amounts: browsers break `-€9` after it."""
    return _SIGNED.sub(r'<span class="rl-whole">\g<0></span>', escape(sentence))


def facts(parts: Sequence[str]) -> str:
    """Short statements side by side; each is HTML already escaped by its maker."""
    return block('<div class="rl-facts">' + "".join(f"<span>{part}</span>" for part in parts) + "</div>")


def fact(name: str, value: str) -> str:
    """One short statement: a name and its value."""
    return f'<span class="muted">{escape(name)}</span> <b>{escape(value)}</b>'


def card(label: str, big: str | None, why: str, rows: Sequence[tuple[str, str]], line: str = "") -> str:
    """A headline card; without a figure it says why instead."""
    if big is None:
        head = f'<div class="big missing">{escape(why)}</div>'
    else:
        head = f'<div class="big">{escape(big)}</div>'
    body = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in rows)
    return (
        f'<section class="rl-card" aria-label="{escape(label, quote=True)}">'
        f'<div class="label">{escape(label)}</div>'
        f"{head}{line}<dl>{body}</dl></section>"
    )


def cards(items: Sequence[str]) -> str:
    """Cards in a row."""
    return block('<div class="rl-cards">' + "".join(items) + "</div>")


def interval_line(interval: Interval) -> str:
    """The lift of a metric that is good when high, on a line with control in the middle; or nothing."""
    if interval.value is None or interval.low is None or interval.high is None:
        return ""
    reach = 1.15 * max(abs(interval.low), abs(interval.high), abs(interval.value)) or 1.0
    return _bar(interval, reach) + _sides(lower_is_better=False)


def estimate(name: str, note: str, figures: str, interval: Interval, reach: float) -> str:
    """One way to tell a change: its name, when to read it, its bar on a line up to +-`reach`, its figures."""
    return (
        f'<div class="est"><div><b>{escape(name)}</b><span class="sub">{escape(note)}</span></div>'
        f'<div>{_bar(interval, reach)}</div><div class="figures">{escape(figures)}</div></div>'
    )


def estimates(rows: Sequence[str], *, lower_is_better: bool, drawn: bool) -> str:
    """Rows made by `estimate`, under them what the line's two sides mean when any bar is drawn."""
    sides = f'<div class="est sides"><div></div><div>{_sides(lower_is_better=lower_is_better)}</div></div>'
    return block('<div class="rl-ests">' + "".join(rows) + (sides if drawn else "") + "</div>")


def _bar(interval: Interval, reach: float) -> str:
    if interval.value is None or interval.low is None or interval.high is None:
        return ""
    low, dot, high = (50 + 50 * at / (reach or 1.0) for at in (interval.low, interval.value, interval.high))
    return (
        '<div class="rl-line" aria-hidden="true"><div class="track"></div>'
        f'<div class="span" style="left:{low:.1f}%;width:{high - low:.1f}%"></div>'
        f'<div class="zero"></div><div class="dot" style="left:{dot:.1f}%"></div></div>'
    )


def _sides(*, lower_is_better: bool) -> str:
    left, right = ("better", "worse") if lower_is_better else ("worse", "better")
    return (
        '<div class="rl-ends" aria-hidden="true">'
        f"<span>{left}</span><span>as control</span><span>{right}</span></div>"
    )


def table(head: Sequence[str], rows: Sequence[Sequence[str]], lead: int | None = None) -> str:
    """A table of cells made by `cell`; the row `lead` is set off. Where it is narrow each row is a card."""
    top = "".join(f'<th scope="col">{escape(name)}</th>' for name in head)
    body = "".join(
        f'<tr class="{"lead" if number == lead else ""}">'
        + "".join(_labelled(cell, name) for cell, name in zip(row, head, strict=True))
        + "</tr>"
        for number, row in enumerate(rows)
    )
    return block(
        f'<div class="rl-scroll"><table class="rl-table"><thead><tr>{top}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def listing(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of words rather than figures: ranged left, and one under the other where it is narrow."""
    top = "".join(f'<th scope="col">{escape(name)}</th>' for name in head)
    body = "".join("<tr>" + "".join(row) + "</tr>" for row in rows)
    return block(
        f'<table class="rl-table rl-listing"><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>'
    )


def hints(texts: Sequence[str]) -> str:
    """What to know before believing figures, one line each."""
    return block("".join(f'<div class="hint">{escape(one)}</div>' for one in texts))


def _labelled(cell: str, name: str) -> str:
    """A cell that knows its column's name, for when there is no head above it."""
    return f'<td data-label="{escape(name, quote=True)}"' + cell.removeprefix("<td")


def variant_cell(key: str, state: str, *, is_control: bool) -> str:
    """A variant's name; a state other than active is said."""
    role = '<span class="sub">control</span>' if is_control else ""
    shown = "" if state == "active" else f'<span class="sub">{badge(state)}</span>'
    return f"<td>{escape(key)}{role}{shown}</td>"


def cell(figure: str, subs: Sequence[str] = ()) -> str:
    """A table cell: a figure, with smaller lines under it."""
    under = "".join(f'<span class="sub">{escape(sub)}</span>' for sub in subs)
    return f"<td>{escape(figure)}{under}</td>"


def why_cell(code: str | None) -> str:
    """A table cell of a figure that is missing."""
    return f'<td class="why">{escape(words.reason(code))}</td>'


EVERY_LOOK = "Lift, however often you look"
"""The confidence sequence: unlike the credible interval it may be watched until it says something."""


def metric_cell(found: Reading, scale: words.Scale, currency: str, *, is_control: bool) -> str:
    """A metric's value, its interval, and its lift against control."""
    if found.value.value is None:
        return why_cell(found.value.reason)
    return cell(words.amount(found.value.value, scale, currency), _under(found, scale, currency, is_control))


def full_cell(found: Reading, scale: words.Scale, currency: str, *, is_control: bool) -> str:
    """`metric_cell` with everything else the report has: the lift's interval, the lift told in other ways."""
    if found.value.value is None:
        return why_cell(found.value.reason)
    subs = _under(found, scale, currency, is_control)
    if not is_control:
        subs += [_lift("", found.lift_rel), _lift("capped ", found.capped_lift)]
        subs += [_lift("by propensity, ", found.aipw_lift), _lift("plain ", found.naive_lift)]
        if found.sequential.low is not None and found.sequential.high is not None:
            ends = found.sequential.low, found.sequential.high
            low, high = (words.change(end, scale, currency) for end in ends)
            subs.append(f"{EVERY_LOOK} {low} to {high}")
        if found.prob_beats_control is not None:
            subs.append(f"P(beats control) {words.probability(found.prob_beats_control)}")
    if found.naive is not None:
        subs.append(f"plain {words.amount(found.naive, scale, currency)}")
    return cell(words.amount(found.value.value, scale, currency), [sub for sub in subs if sub])


def _under(found: Reading, scale: words.Scale, currency: str, is_control: bool) -> list[str]:
    subs: list[str] = []
    if found.value.low is not None and found.value.high is not None:
        low, high = (words.amount(end, scale, currency) for end in (found.value.low, found.value.high))
        subs.append(f"{low} to {high}")
    if not is_control and found.lift_rel.value is not None:
        subs.append(f"{words.percent(found.lift_rel.value, signed=True)} vs control")
    return subs


def _lift(name: str, lift: Interval) -> str:
    if lift.low is None or lift.high is None:
        return ""
    low, high = (words.percent(end, signed=True) for end in (lift.low, lift.high))
    return f"{name}lift {low} to {high}"


def checks(items: Sequence[tuple[str, str, str, str]]) -> str:
    """Checks as a list of (state, what, finding, what to do)."""
    lines = "".join(
        f"<li><span>{badge(state)}</span><span><b>{escape(what)}.</b> {escape(finding)}"
        f"{_remedy(remedy)}</span></li>"
        for state, what, finding, remedy in items
    )
    return block(f'<ul class="rl-checks">{lines}</ul>')


def _remedy(remedy: str) -> str:
    return f'<span class="do"><b>What to do:</b> {escape(remedy)}</span>' if remedy else ""

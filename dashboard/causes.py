"""Why shares moved: each policy version with its cause, what happened, and what became of the shares."""

from dataclasses import dataclass
from typing import Any, TypeAlias, cast

import streamlit as st

from dashboard import markup, reading, record, words

Json: TypeAlias = dict[str, Any]

_SHOWN = 12
_LATEST = 5
_LEAST = 0.0005  # a change of a share that is shown
_NOTES = {
    "segment": "Shares of all visitors together, and the segment in which most changed",
    "contextual": "Shares as they are on average over all contexts",
}


@dataclass(frozen=True, slots=True)
class Told:
    """A version and the one before it; its cause in words, with what it was about.

    `is_routine` where nobody and no rule stood behind it but the results or the calendar.
    """

    version: Json
    before: Json
    title: str
    details: tuple[str, ...]
    is_routine: bool

    @property
    def line(self) -> str:
        """All of it in one line."""
        return ": ".join(part for part in (self.title, "; ".join(self.details)) if part)


def section(document: Json, report: Json, policy: Json, changes: list[Json]) -> None:
    """The latest versions with their cause, newest first; before them those that were no routine."""
    found = told(document, policy, changes)
    rows = rows_of(found, policy, reading.control_key(report))
    if rows:
        shares = _NOTES.get(reading.policy_kind(policy), "Shares")
        note = f"The latest policy versions, newest first. {shares}; in brackets the change in points."
        st.html(
            markup.heading("Why shares moved", note)
            + markup.listing(["When", "What happened", "Shares"], rows)
        )


def told(document: Json, policy: Json, changes: list[Json]) -> list[Told]:
    """Every version in words, oldest first."""
    versions = cast("list[Json]", policy.get("versions") or [])
    by_version: dict[Any, list[Json]] = {}
    for change in changes:
        by_version.setdefault(change.get("policy_version"), []).append(change)
    pairs = zip([{}, *versions], versions, strict=False)
    return [
        _told(document, before, one, by_version.get(one.get("policy_version"), [])) for before, one in pairs
    ]


def notable(found: list[Told]) -> list[Json]:
    """Rows {at, cause, version} of the versions that something other than the results caused."""
    return [
        {
            "at": str(one.version.get("published_at")),
            "cause": one.line,
            "version": one.version.get("policy_version"),
        }
        for one in found
        if not one.is_routine
    ]


def rows_of(found: list[Told], policy: Json, control: str | None) -> list[list[str]]:
    """Rows of the table, newest first: when, what happened, and every share with what it changed by."""
    first = len(found) - _LATEST
    shown = [one for place, one in enumerate(found) if place >= first or not one.is_routine]
    return [
        [
            markup.cell(
                words.instant(str(one.version.get("published_at"))),
                [f"version {one.version.get('policy_version')}"],
            ),
            markup.cell(one.title, one.details),
            markup.cell(_shares(one, control), _segment(one, reading.segments(policy), control)),
        ]
        for one in reversed(shown[-_SHOWN:])
    ]


def _told(document: Json, before: Json, version: Json, changes: list[Json]) -> Told:
    cause = str(version.get("cause") or "")
    details = [*_about(before, version), *record.said(document, changes)]
    held = cast("Json", {} if version.get("burn_in") else version.get("held") or {})
    if held:
        # What tripped the breaker is in the record of its change.
        of_breaker = held.get("reason") == "breaker"
        details.append("shares held" if of_breaker else f"shares held, {_lower(words.held(held))}")
    if cause not in words.ROUTINE:
        if version.get("burn_in") and cause == "started":
            details.append("burn-in, every variant has its minimum")
        return Told(version, before, words.cause(cause), tuple(details), is_routine=False)
    was_held = bool(before.get("held")) and not before.get("burn_in")
    if held and not was_held:
        return Told(version, before, "Shares are held", (words.held(held),), is_routine=False)
    if version.get("burn_in"):
        return Told(version, before, "Burn-in goes on", (), is_routine=True)
    if before.get("burn_in"):
        return Told(
            version, before, "Burn-in is over", ("shares follow the results from now on",), is_routine=False
        )
    if was_held and not held:
        return Told(version, before, "Shares follow the results again", (), is_routine=False)
    if cause == "shares_moved" and not _has_moved(before, version):
        details.append("shares stay as they were")
        return Told(
            version, before, "The state of an alarm or a figure changed", tuple(details), is_routine=True
        )
    return Told(version, before, words.cause(cause), tuple(details), is_routine=True)


def _about(before: Json, version: Json) -> list[str]:
    """Whom it was about: who came, who went, who was promoted."""
    old, new = _candidates(before), _candidates(version)
    said: list[str] = []
    cause, promoted = version.get("cause"), version.get("promoted")
    came, left = [key for key in new if key not in old], [key for key in old if key not in new]
    if cause == "replaced" and came and left:
        said.append(f"{', '.join(came)} in place of {', '.join(left)}")
    elif cause in ("added", "replaced"):
        said += came
    elif cause == "retired":
        said += left
    if promoted and promoted != before.get("promoted"):
        said.append(f"{promoted} gets all but the control's share")
    return said


def _candidates(version: Json) -> list[str]:
    sets = cast("list[Json]", version.get("sets") or [])
    return list(dict.fromkeys(str(key) for one in sets for key in one.get("shares") or {}))


def _has_moved(before: Json, version: Json) -> bool:
    if (before.get("contextual") or {}) != (version.get("contextual") or {}):
        return True
    places = [None, *reading.segments(before), *reading.segments(version)]
    return any(
        abs(change) >= _LEAST for place in places for change in _changes(before, version, place).values()
    )


def _changes(before: Json, version: Json, segment: str | None) -> dict[str, float]:
    old, new = reading.first_shares(before, segment), reading.first_shares(version, segment)
    return {key: new.get(key, 0.0) - old.get(key, 0.0) for key in {**old, **new}} if old else {}


def _shares(one: Told, control: str | None, segment: str | None = None) -> str:
    new = reading.first_shares(one.version, segment)
    old = reading.first_shares(one.before, segment)
    changes = _changes(one.before, one.version, segment)
    parts: list[str] = []
    for key in sorted(new, key=lambda key: (key != control, key)):
        change = changes.get(key, 0.0)
        moved = f" ({words.points(change)})" if abs(change) >= _LEAST else ""
        parts.append(f"{key} {words.percent(new[key])}{moved}")
    return ", ".join([*parts, *(f"{key} out" for key in old if key not in new and old[key] > 0)])


def _segment(one: Told, segments: list[str], control: str | None) -> list[str]:
    """The segment in which shares changed most, with its own."""
    moved = {
        segment: max((abs(by) for by in _changes(one.before, one.version, segment).values()), default=0.0)
        for segment in segments
    }
    most = max(moved, key=lambda segment: moved[segment], default=None)
    if most is None or moved[most] < _LEAST:
        return []
    return [f"{words.segment(most)}: {_shares(one, control, most)}"]


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:].removesuffix(".")

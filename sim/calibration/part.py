"""What a study is to the report: its worlds, what it measures in each, and what is promised of that.

A part's results are rows by world (frozen dataclasses of plain figures), so that they can be kept as JSON,
joined over several runs, and drawn without being measured again.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from textwrap import fill
from typing import Any

from scipy import stats

Step = Callable[[], None]
"""Called after every run."""


def nothing() -> None:
    """The step of whoever does not count them."""


Rows = Mapping[str, Sequence[Any]]
"""By world, in the order of the part's worlds; of a part's own row type."""


class State(StrEnum):
    """Whether figures keep a promise."""

    HELD = "held"
    SO_FAR = "held so far"
    """In fewer runs than the promise is judged by."""
    MISSED = "not held"
    BEYOND = "not held, nor promised"
    """Where no method could: the part says why."""
    UNSURE = "too few runs to tell"


@dataclass(frozen=True, slots=True)
class Promise:
    """One line of what is promised, the worst figure found for it, and whether that keeps it.

    `world` names the one it is about, if it is about one alone.
    """

    what: str
    found: str
    state: State
    world: str | None = None


@dataclass(frozen=True, slots=True)
class Part:
    """A study: `measure(world, runs, seed, step)` gives the rows of one world.

    `worlds` has the milliseconds that a run takes on one core of 2 GHz, for the estimate of the time left
    alone. `text(rows)` is the table with what must be known to read it, `after` what follows from it.
    """

    key: str
    title: str
    runs: int
    worlds: Mapping[str, float]
    row: type[Any]
    measure: Callable[[str, int, int, Step], Sequence[Any]]
    text: Callable[[Rows], str]
    promises: Callable[[Rows], Sequence[Promise]]
    chart: Callable[[Rows], str]
    before: str = ""
    after: str = ""
    needs: str | None = None
    """The extra without which it cannot be measured."""


def flat(rows: Rows) -> list[Any]:
    """All rows, world after world."""
    return [row for found in rows.values() for row in found]


def paragraph(text: str) -> str:
    """Text in lines of at most 110 letters; a number and its per cent sign stay together."""
    kept = fill(
        text.replace(" %", "\N{NO-BREAK SPACE}%"), 110, break_long_words=False, break_on_hyphens=False
    )
    return kept.replace("\N{NO-BREAK SPACE}", " ")


def band(runs: int, share: float = 0.95) -> tuple[float, float]:
    """Between which parts of `runs` a true share lies with 99.8 %, by the binomial distribution.

    >>> band(2_000)
    (0.9345, 0.9645)
    """
    low, high = stats.binom(runs, share).ppf([0.001, 0.999])
    return float(low) / runs, float(high) / runs


def at_most(share: float, limit: float, runs: int) -> State:
    """Whether `share` of `runs` keeps a promise of at most `limit`.

    A figure beyond the limit breaks it only when chance alone, at a true share of the limit, would lead so
    far in less than one study of a thousand.

    >>> at_most(0.04, 0.05, 100), at_most(0.06, 0.05, 100), at_most(0.2, 0.05, 100)
    (<State.HELD: 'held'>, <State.UNSURE: 'too few runs to tell'>, <State.MISSED: 'not held'>)
    """
    if share <= limit:
        return State.HELD
    beyond = float(stats.binom(runs, limit).sf(round(share * runs) - 1))
    return State.MISSED if beyond < 0.001 else State.UNSURE


def at_least(share: float, limit: float, runs: int) -> State:
    """The same of a promise of at least `limit`."""
    return at_most(1.0 - share, 1.0 - limit, runs)


def within(share: float, runs: int) -> State:
    """Whether a coverage of 95 % may have come to that share by chance."""
    low, high = band(runs)
    return State.HELD if low <= share <= high else State.MISSED


def worst(states: Sequence[State]) -> State:
    """The state of a promise about several figures."""
    for state in (State.MISSED, State.UNSURE):
        if state in states:
            return state
    return State.HELD

"""The goals, and what was measured of each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any

from benchmarks.parts.simulation import from_textbook, over
from benchmarks.parts.whole_year import growth
from benchmarks.results import Results

Data = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Goal:
    """One figure: what it has to reach, and where it stands in the results."""

    label: str
    part: str
    values: Callable[[Data], list[float]]
    at_least: float | None = None
    at_most: float | None = None
    cpu: Callable[[Data], list[float]] | None = None
    profile: str | None = None  # the profile that says where its time goes
    unit: str = ""


@dataclass(frozen=True, slots=True)
class Figure:
    """A goal and what was measured; without values, why there are none."""

    goal: Goal
    values: tuple[float, ...] = ()
    cpu_ratio: float | None = None
    missing: str = ""

    @property
    def value(self) -> float:
        """The median of the rounds."""
        return median(self.values)

    @property
    def is_reached(self) -> bool:
        """Whether the median is what was set."""
        if not self.values:
            return False
        least, most = self.goal.at_least, self.goal.at_most
        return (least is None or self.value >= least) and (most is None or self.value <= most)


def figures(results: Results) -> list[Figure]:
    """Every goal in order."""
    return [_figure(goal, results.get(goal.part)) for goal in GOALS]


def _figure(goal: Goal, part: dict[str, Any] | None) -> Figure:
    if part is None:
        return Figure(goal, missing="not measured yet")
    if "failed" in part:
        return Figure(goal, missing=part["failed"])
    try:
        values = tuple(goal.values(part["data"]))
    except KeyError as error:
        return Figure(goal, missing=part["data"].get("missing", {}).get(error.args[0], "not measured"))
    if not values:
        return Figure(goal, missing="nothing to measure")
    return Figure(goal, values, median(goal.cpu(part["data"])) if goal.cpu else None)


def _path(label: str, part: str, name: str, at_least: float) -> Goal:
    database = "postgres" if part == "postgres" else "sqlite"
    return Goal(
        label,
        part,
        lambda data: data["paths"][name]["ratios"],
        at_least=at_least,
        cpu=lambda data: data["paths"][name]["cpu_ratios"],
        profile=f"{database} {name}",
    )


def _growth(kind: str, at_least: float) -> Goal:
    return Goal(
        f"assign at 5 million rows over assign at 10,000, {kind} ids",
        "growth",
        lambda data: data[kind]["ratios"],
        at_least=at_least,
        cpu=lambda data: data[kind]["cpu_ratios"],
        profile="sqlite new",
    )


def _peer(label: str, name: str, at_least: float) -> Goal:
    return Goal(
        label,
        "peers",
        lambda data: data["peers"][name]["ours_over_theirs"],
        at_least=at_least,
        cpu=lambda data: data["peers"][name]["cpu_theirs_over_ours"],
        profile="sqlite new",
    )


def _allocation(kind: str, arms: int, at_most: float) -> Goal:
    return Goal(
        f"CPU of allocating {arms} arms ({kind}) over 100,000 draws of them",
        "allocation",
        lambda data: data["kinds"][f"{kind} {arms}"]["ratios"],
        at_most=at_most,
    )


def _contextual(peer: str, at_most: float) -> Goal:
    return Goal(
        f"CPU of shares by context, 1,000 draws, over one choice of {peer}'s linear Thompson sampling",
        "contextual",
        lambda data: [
            ours / theirs for ours, theirs in zip(data["us"]["shares alone"], data["us"][peer], strict=True)
        ],
        at_most=at_most,
    )


def _simulated(label: str, name: str, at_least: float) -> Goal:
    return Goal(
        f"decisions simulated a CPU second over {label}",
        "simulation",
        lambda data: over(data, name),
        at_least=at_least,
    )


def _folding_over_taking(rounds: list[dict[str, float]]) -> list[float]:
    """Of rounds in which anything waited; a folder that kept up has done as much as was to be seen."""
    compared = [found["cpu_ratio"] for found in rounds if "cpu_ratio" in found]
    return compared or [1.0 for found in rounds if found["share_waiting"] == 0]


def _year(label: str, smaller: int) -> Goal:
    return Goal(
        f"CPU per customer of a simulated year of 1 million over one of {label}",
        "whole_year",
        lambda data: growth(data, smaller),
        at_most=1.2,
    )


GOALS = [
    _path("assign, new unit, SQLite", "assign", "new", 1.0),
    _path("assign, known unit, SQLite", "assign", "known", 1.2),
    _path("assign, new unit, PostgreSQL", "postgres", "new", 0.7),
    _path("events, 1 per body, SQLite", "events", "events_1", 0.8),
    _path("events, 1,000 per body, SQLite", "events", "events_1000", 10),
    _path("events, 1 per body, PostgreSQL", "postgres", "events_1", 0.7),
    _path("events, 1,000 per body, PostgreSQL", "postgres", "events_1000", 5),
    _growth("ordered", 0.95),
    _growth("random", 0.7),
    Goal(
        "bytes per assignment at 5 million rows, random ids",
        "growth",
        lambda data: [data["random"]["bytes_per_row"]["assignment"]],
        at_most=60,
    ),
    Goal(
        "p99 of assign at half of saturation less one fdatasync, over the no-op's",
        "latency",
        lambda data: data["ratios"],
        at_most=2,
        profile="sqlite new",
    ),
    Goal(
        "folding over taking events in bodies of 100, same core, 9 s of them waiting",
        "folding",
        lambda data: _folding_over_taking(data["behind"][-1]["rounds"]),
        at_least=1,
        profile="sqlite folding",
    ),
    *(
        _allocation(kind, arms, at_most)
        for kind, at_most in (
            ("thompson, proportions", 0.01),
            ("thompson, means", 0.01),
            ("top_two, proportions", 0.01),
            ("thompson, a guardrail", 0.1),
        )
        for arms in (10, 100)
    ),
    Goal(
        "CPU of the read-out of 10 variants x 8 metrics over gbstats' as its back end calls it",
        "analysis",
        lambda data: data["ratios"],
        at_most=0.5,
    ),
    Goal(
        "CPU of the same over gbstats' bare test classes",
        "analysis",
        lambda data: data["bare_ratios"],
        at_most=0.5,
    ),
    Goal(
        "CPU of the report at 10 million events over at 10,000",
        "analysis",
        lambda data: data["growth"],
        at_most=1.2,
    ),
    _contextual("mabwiser", 0.1),
    _contextual("pymab", 1.0),
    Goal(
        "CPU of seven off-policy estimators, 10,000 x 80 x 3, over Open Bandit Pipeline's",
        "off_policy",
        lambda data: data["ratios"],
        at_most=1 / 30,
    ),
    _simulated("pymab's Rust simulator", "pymab", 20),
    _simulated("OBP's simulator, the faster of its two ways", "obp drawn before", 100),
    _simulated("MABWiser's simulator, one by one", "mabwiser", 3000),
    _simulated("NumPy merely drawing as many Beta variates", "draws", 1),
    Goal(
        "mean regret of simulated decisions from a textbook loop's, in standard errors",
        "simulation",
        from_textbook,
        at_most=2,
    ),
    Goal(
        "resident memory of 1,000 simulated replications",
        "simulation",
        lambda data: data["runs"]["compiled"]["rss_mb"],
        at_most=200,
        unit=" MB",
    ),
    _year("10,000", 10_000),
    _year("100,000", 100_000),
    Goal(
        "resident memory of a simulated year of 1 million customers",
        "whole_year",
        lambda data: data["runs"]["1000000"]["rss_mb"],
        at_most=1000,
        unit=" MB",
    ),
    _peer("assign, new unit, over unleash-server", "unleash", 4),
    _peer("assign, new unit, over a Python OFREP server", "ofrep", 2),
    Goal(
        "resident memory after 1 million assignments",
        "memory",
        lambda data: [max(resident for _, resident in data["resident_mb"])],
        at_most=300,
        unit=" MB",
    ),
]

"""A run in figures: one row for each replication, and what they say together."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sim.runner.outcome import Look, Replication
from sim.runner.run import Run

QUANTILES = (0.05, 0.5, 0.95)
NAMED = (
    "customers",
    "profit_minor",
    "expected_minor",
    "regret_minor",
    "regret_share",
    "control_minor",
    "best_share",
    "harmed_share",
    "days_to_decision",
)
"""The figures of a replication that a summary has the mean and the quantiles of."""


def row_of(run: Run, one: Replication) -> dict[str, Any]:
    """One replication in a row; money in minor units, shares of customers.

    `best` is the arm that would have earned most had everybody got it, `best_share` its published share when
    the run ended. `regret` is against every segment's best arm of every day.
    """
    keys = [effect.variant for effect in run.settings.scenario.world.effects]
    customers, best = int(one.customers.sum()), one.best_arm
    control = keys.index(run.settings.scenario.experiment.control.key)
    oracle = float(one.oracle_minor.sum())
    decided = one.decided
    return {
        "replication": one.number,
        "customers": customers,
        "profit_minor": int(one.booked_minor.sum()),
        "expected_minor": float(one.expected_minor.sum()),
        "oracle_minor": oracle,
        "regret_minor": float(one.regret_minor.sum()),
        "regret_share": float(one.regret_minor.sum()) / oracle if oracle > 0 else None,
        "control_minor": float(one.if_all_minor[:, control].sum()),
        "best": keys[best],
        "best_share": float(one.shares[-1, best]),
        "harmed_share": int(one.harmed.sum()) / max(1, customers),
        "throttled": _first_days(keys, one, "throttle"),
        "killed": _first_days(keys, one, "kill"),
        "breach_days": int((one.state >= 3).any(axis=1).sum()),
        "days_to_decision": None if decided is None else decided.day + 1,
        "verdict": None if decided is None else decided.verdict,
        "verdict_variant": None if decided is None else decided.variant,
        "last_verdict": one.looks[-1].verdict if one.looks else None,
    }


def summary_of(run: Run) -> dict[str, Any]:
    """Mean with its standard error, and quantiles, of the figures of all replications; verdicts counted."""
    rows = [row_of(run, one) for one in run.replications]
    keys = [effect.variant for effect in run.settings.scenario.world.effects]
    return {
        "replications": len(rows),
        "figures": {name: _figures([row[name] for row in rows]) for name in NAMED},
        "best": _counts([row["best"] for row in rows]),
        "verdicts": _counts([row["verdict"] or "undecided" for row in rows]),
        "killed": {key: sum(key in row["killed"] for row in rows) for key in keys},
        "throttled": {key: sum(key in row["throttled"] for row in rows) for key in keys},
        "assigned": _by_key(keys, [one.assigned.sum(axis=0) for one in run.replications]),
    }


def look_row(one: Replication, look: Look) -> dict[str, Any]:
    """A look at the verdict as a row."""
    return {
        "replication": one.number,
        "day": look.day,
        "verdict": look.verdict,
        "variant": look.variant,
        "lift_abs": look.lift_abs,
        "ci_low": look.lift_low,
        "ci_high": look.lift_high,
        "srm": look.srm,
    }


def _first_days(keys: Sequence[str], one: Replication, state: str) -> dict[str, int]:
    days = {key: one.first_day(arm, state) for arm, key in enumerate(keys)}
    return {key: day for key, day in days.items() if day is not None}


def _figures(values: Sequence[float | None]) -> dict[str, float | int | None]:
    """Of the replications that have the figure, `n` of them."""
    known = np.array([value for value in values if value is not None], dtype=np.float64)
    if not len(known):
        return {"n": 0}
    error = float(known.std(ddof=1) / np.sqrt(len(known))) if len(known) > 1 else None
    quantiles = {f"q{round(100 * q):02d}": float(np.quantile(known, q)) for q in QUANTILES}
    return {"n": len(known), "mean": float(known.mean()), "standard_error": error, **quantiles}


def _counts(values: Sequence[str]) -> dict[str, int]:
    return {value: values.count(value) for value in sorted(set(values))}


def _by_key(keys: Sequence[str], arrays: Sequence[Any]) -> Mapping[str, float]:
    if not arrays:
        return {}
    return dict(zip(keys, np.mean(arrays, axis=0).tolist(), strict=True))

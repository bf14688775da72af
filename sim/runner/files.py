"""The files of a run: days, replications and looks as Parquet, settings and summary as JSON.

Nothing in them depends on the machine, the executor or the time it took: two runs of the same settings and
code are equal, byte by byte.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.times import format_duration
from sim.calibration.provenance import commit, rialto_version
from sim.runner.errors import RunError
from sim.runner.outcome import STATES, Replication
from sim.runner.run import Run
from sim.runner.sampled import LEFT_OUT
from sim.runner.settings import Evaluation, RunSettings
from sim.runner.summary import look_row, row_of, summary_of
from sim.worlds.document import to_document


def write(run: Run, folder: Path) -> list[Path]:
    """Write a run into a folder, which is made; the files."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [row_of(run, one) for one in run.replications]
    looks = [look_row(one, look) for one in run.replications for look in one.looks]
    tables = {
        "days.parquet": days_table(run),
        "replications.parquet": _columns([{**row, **_as_text(row)} for row in rows]),
        "looks.parquet": _columns(looks),
    }
    for name, columns in tables.items():
        _parquet(folder / name, columns)
    document = json.dumps(document_of(run), indent=2, sort_keys=True) + "\n"
    (folder / "run.json").write_text(document, encoding="utf-8")
    return [folder / name for name in (*tables, "run.json")]


def document_of(run: Run) -> dict[str, Any]:
    """Settings, provenance and summary of a run."""
    settings = run.settings
    scenario = settings.scenario
    return {
        "scenario": scenario.key,
        "title": scenario.title,
        "claim": scenario.claim,
        "ground_truth": scenario.ground_truth,
        "complete": run.is_complete,
        "settings": settings_to_json(settings),
        "rialto": {"version": rialto_version(), "commit": commit()},
        "world": to_document(scenario.world),
        "summary": summary_of(run),
    }


def settings_to_json(settings: RunSettings) -> dict[str, Any]:
    """What the run was asked for."""
    policy = settings.scenario.experiment.policy
    return {
        "seed": settings.seed,
        "replications": settings.replications,
        "customers": settings.customers,
        "days": settings.scenario.days,
        "evaluation": settings.evaluation.value,
        "left_out": list(LEFT_OUT) if settings.evaluation is Evaluation.SAMPLED else [],
        "cadence": format_duration(settings.step()),
        "look_every": format_duration(settings.look_every),
        "policy": policy.kind.value,
        "objective": policy.objective,
        "control_share": policy.control_share,
        "floor": policy.floor,
        "delay": policy.delay.value,
    }


def days_table(run: Run) -> dict[str, Any]:
    """A row for each replication, day and variant."""
    keys = [effect.variant for effect in run.settings.scenario.world.effects]
    parts = [_days(one, keys) for one in run.replications]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]} if parts else {}


def _days(one: Replication, keys: Sequence[str]) -> dict[str, Any]:
    days, arms = one.assigned.shape
    by_day = {
        "customers": one.customers,
        "expected_minor": one.expected_minor,
        "booked_minor": one.booked_minor,
        "oracle_minor": one.oracle_minor,
        "regret_minor": one.regret_minor,
        "harmed": one.harmed,
    }
    return {
        "replication": np.full(days * arms, one.number),
        "day": np.repeat(np.arange(days), arms),
        "variant": np.tile(np.array(keys), days),
        "assigned": one.assigned.ravel(),
        "share": one.shares.ravel(),
        "if_all_minor": one.if_all_minor.ravel(),
        "state": np.array(STATES)[one.state.ravel()],
        **{f"day_{name}": np.repeat(values, arms) for name, values in by_day.items()},
    }


def _as_text(row: dict[str, Any]) -> dict[str, str]:
    """First days by variant, as JSON: a column of one type whatever the variants."""
    return {name: json.dumps(row[name], sort_keys=True) for name in ("throttled", "killed")}


def _columns(rows: Sequence[dict[str, Any]]) -> dict[str, list[Any]]:
    return {name: [row[name] for row in rows] for name in rows[0]} if rows else {}


def _parquet(path: Path, columns: dict[str, Any]) -> None:
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError as error:
        raise RunError("results are Parquet, which needs pyarrow: pip install 'rialto[sim]'") from error
    parquet.write_table(pa.table(columns), path, compression="zstd")

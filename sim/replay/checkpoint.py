"""Where a replay stands, in a file that is whole at every instant."""

import json
import os
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from sim.replay.errors import ReplayError


@dataclass(slots=True)
class Progress:
    """The state of a replay between two steps; everything needed to go on as if never stopped.

    `position` counts rows (rejection) or actions (forced) done, `pending` holds events whose time has
    not come, `kept` the rows kept, `offered` what was answered on each day: day -> variant -> rows.
    """

    fingerprint: str
    position: int = 0
    clock: str | None = None
    assigned: int = 0
    accepted: int = 0
    duplicates: int = 0
    kept: list[int] = field(default_factory=list)
    offered: dict[str, dict[str, int]] = field(default_factory=dict)
    pending: list[dict[str, Any]] = field(default_factory=list)


def fingerprint(file: Path, mapping: Path, options: str) -> str:
    """Names the input: a checkpoint of another file, mapping or option is not gone on from."""
    digest = sha256()
    for path in (file, mapping):
        try:
            digest.update(sha256(path.read_bytes()).digest())
        except OSError as error:
            raise ReplayError(f"{path} cannot be read: {error}") from error
    digest.update(options.encode())
    return digest.hexdigest()


def load(path: Path | None, expected: str) -> Progress:
    """The progress in a checkpoint, or a fresh one when there is no file yet."""
    if path is None or not path.exists():
        return Progress(expected)
    try:
        progress = Progress(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise ReplayError(f"{path} is not a checkpoint of a replay: {error}") from error
    if progress.fingerprint != expected:
        raise ReplayError(f"{path} belongs to another file, mapping or options; remove it to start anew")
    return progress


def save(path: Path | None, progress: Progress) -> None:
    """Replace the checkpoint in one step, on disk before this returns."""
    if path is None:
        return
    temporary = path.with_name(path.name + ".new")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            json.dump(asdict(progress), file, separators=(",", ":"))
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise ReplayError(f"the checkpoint {path} cannot be written: {error}") from error

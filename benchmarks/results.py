"""What was measured, part by part, in a file beside the page: parts can be measured again one at a time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("results.json")
Results = dict[str, dict[str, Any]]
"""By part: when, at which commit, on what, for how long, and `data` or why it `failed`."""


def load(file: Path = FILE) -> Results:
    """The results so far."""
    return json.loads(file.read_text("utf-8")) if file.exists() else {}


def keep(part: str, found: dict[str, Any], file: Path = FILE) -> Results:
    """Put a part's result in the place of its last one."""
    results = load(file) | {part: found}
    file.write_text(json.dumps(results, indent=1) + "\n", "utf-8")
    return results

"""Which code runs: the commit of its checkout, or of the repository it was installed from."""

from __future__ import annotations

import json
import subprocess
from functools import cache
from importlib.metadata import distribution
from pathlib import Path

ROOT = Path(__file__).parents[1]
UNKNOWN = "unknown"


@cache
def commit() -> str:
    """Seven digits of the commit, with a plus sign where files differ; `unknown` where nobody can tell."""
    if not (ROOT / ".git").exists():
        origin = json.loads(distribution("rialto").read_text("direct_url.json") or "{}")  # PEP 610
        return str(origin.get("vcs_info", {}).get("commit_id", UNKNOWN))[:7]
    describe = ("git", "describe", "--always", "--abbrev=7", "--exclude=*", "--dirty=+")
    try:
        said = subprocess.run(describe, capture_output=True, text=True, cwd=ROOT, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return UNKNOWN
    return said.stdout.strip()

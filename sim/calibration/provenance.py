"""Which code was measured: its version, and its commit where that is known."""

import json
import subprocess
from importlib.metadata import Distribution, PackageNotFoundError, distribution, version
from pathlib import Path

UNKNOWN = "unknown"
CHANGED = "+"
"""After a commit from which files differ."""


def rialto_version() -> str:
    """The installed version."""
    return version("rialto")


def commit(root: Path = Path(__file__).parents[2]) -> str:
    """The commit of the checkout the code lies in, or of the repository pip installed it from.

    With `CHANGED` behind it where files differ; `UNKNOWN` for a package that was built elsewhere.
    """
    if not (root / ".git").exists():
        return _installed_from()
    try:
        said = subprocess.run(
            ["git", "describe", "--always", "--abbrev=7", "--exclude=*", f"--dirty={CHANGED}"],
            capture_output=True,
            text=True,
            cwd=root,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return UNKNOWN
    return said.stdout.strip()


def _installed_from() -> str:
    """What pip wrote down of a repository (PEP 610)."""
    try:
        found: Distribution = distribution("rialto")
        said = json.loads(found.read_text("direct_url.json") or "{}")
    except (PackageNotFoundError, ValueError):
        return UNKNOWN
    return str(said.get("vcs_info", {}).get("commit_id", UNKNOWN))[:7]

"""Which code was measured: its version, its commit where that is known, and a fingerprint of its files."""

import hashlib
import json
import subprocess
from importlib.metadata import Distribution, PackageNotFoundError, distribution, version
from pathlib import Path

UNKNOWN = "unknown"
ROOT = Path(__file__).parents[2]


def rialto_version() -> str:
    """The installed version."""
    return version("rialto")


def fingerprint(root: Path = ROOT) -> str:
    """Of every file that figures hang on: the core's and the studies'. Others may change without a trace."""
    found = hashlib.sha256()
    for folder in (root / "experiments", root / "sim" / "calibration"):
        for file in sorted(folder.rglob("*.py")):
            found.update(f"{file.relative_to(root).as_posix()}\0".encode() + file.read_bytes() + b"\0")
    return found.hexdigest()[:12]


def commit(root: Path = ROOT) -> str:
    """The commit of the checkout the code lies in, or of the repository pip installed it from.

    With a plus sign behind it where files differ; `UNKNOWN` for a package that was built elsewhere.
    """
    if not (root / ".git").exists():
        return _installed_from()
    try:
        said = subprocess.run(
            ["git", "describe", "--always", "--abbrev=7", "--exclude=*", "--dirty=+"],
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

"""The machine: versions, open files."""

from __future__ import annotations

import platform
import resource
import sqlite3
from collections.abc import Iterator

from service.checks.finding import Finding, bad, ok, warn

SQLITE_MIN = (3, 35, 0)
"""The first with RETURNING."""
OPEN_FILES = 4096
"""Two thousand connections, the ledger's files and room to spare."""


def machine() -> Iterator[Finding]:
    """Check what the service would run on."""
    yield ok("python", f"{platform.python_version()} on {platform.system()} {platform.machine()}")
    yield _sqlite(sqlite3.sqlite_version_info, sqlite3.sqlite_version)
    yield open_files(resource.getrlimit(resource.RLIMIT_NOFILE)[0])


def open_files(limit: int) -> Finding:
    """Check how many connections a process may hold."""
    found = "no limit" if limit == resource.RLIM_INFINITY else str(limit)
    if limit == resource.RLIM_INFINITY or limit >= OPEN_FILES:
        return ok("open files", found)
    return warn(
        "open files", found, f"raise the limit to {OPEN_FILES}: LimitNOFILE= in systemd, or ulimit -n"
    )


def _sqlite(version: tuple[int, ...], text: str) -> Finding:
    if version < SQLITE_MIN:
        needed = ".".join(map(str, SQLITE_MIN))
        return bad("sqlite", text, f"install a Python built with SQLite {needed} or later")
    return ok("sqlite", text)

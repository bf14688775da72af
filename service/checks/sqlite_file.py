"""An SQLite ledger's file: where it lies, how it is written, whether it is sound."""

from __future__ import annotations

import fcntl
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from service.checks.finding import Finding, bad, ok, warn

NETWORK = frozenset({"nfs", "nfs4", "cifs", "smb3", "9p", "fuse.sshfs", "glusterfs", "ceph", "afs"})
FLEETING = frozenset({"tmpfs", "ramfs", "overlay"})
FREE_FAIL, FREE_WARN = 100 << 20, 1 << 30
WAL_WARN = 256 << 20


def sqlite_file(file: Path) -> Iterator[Finding]:
    """Check the file of a ledger that exists."""
    yield file_system(file, Path("/proc/mounts"))
    yield free_space(file, shutil.disk_usage(file.parent).free)
    yield _wal(file)
    with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=rw", uri=True)) as connection:
        yield _journal(connection)
        yield _integrity(connection)
    yield lock_holder(file, Path("/proc/locks"))


def file_system(file: Path, mounts: Path) -> Finding:
    """Check that locks and syncs of the file's place can be trusted."""
    name = "file system"
    if not mounts.exists():
        return ok(name, "cannot be told on this system")
    place, kind = _mount_of(file.resolve(), mounts.read_text("utf-8"))
    found = f"{kind} at {place}"
    if kind in NETWORK:
        return bad(name, found, "move the ledger to a local disk: locks over a network lose writes")
    if kind in FLEETING:
        return warn(name, found, "move the ledger to a disk or volume: this ends with the machine")
    return ok(name, found)


def free_space(file: Path, free: int) -> Finding:
    """Check that there is room to write."""
    found = f"{free >> 20} MiB free at {file.parent}"
    if free < FREE_FAIL:
        return bad("free space", found, "make room now: a full disk stops every write")
    if free < max(FREE_WARN, file.stat().st_size // 2):
        return warn("free space", found, "make room: half the ledger's size is a good reserve")
    return ok("free space", found)


def lock_holder(file: Path, locks: Path) -> Finding:
    """Say which process serves the file."""
    lock = file.with_name(f"{file.name}.lock")
    if lock.exists():
        with lock.open() as held:
            try:
                fcntl.flock(held, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except OSError:
                return ok("served by", _holder(lock, locks))
    return warn("served by", "nobody", "start `rialto serve`: nothing is folded or allocated meanwhile")


def _wal(file: Path) -> Finding:
    wal = file.with_name(f"{file.name}-wal")
    size = wal.stat().st_size if wal.exists() else 0
    found = f"{size / (1 << 20):.1f} MiB"
    if size > WAL_WARN:
        return warn("write-ahead log", found, "look for a reader that never ends: a shell, a copy, a backup")
    return ok("write-ahead log", found)


def _journal(connection: sqlite3.Connection) -> Finding:
    (mode,) = connection.execute("PRAGMA journal_mode").fetchone()
    if mode != "wal":
        return warn("journal mode", mode, "it becomes wal when `rialto serve` next opens the ledger")
    return ok("journal mode", "wal; the service writes with synchronous=FULL")


def _integrity(connection: sqlite3.Connection) -> Finding:
    (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if found != "ok":
        return bad("integrity", found, "stop the service, keep the file, restore the last backup")
    return ok("integrity", "quick check passed")


def _mount_of(file: Path, mounts: str) -> tuple[str, str]:
    """The mount point a file lies under and its kind."""
    best = ("/", "unknown")
    for line in mounts.splitlines():
        _device, place, kind, *_ = line.split(" ")
        place = place.replace("\\040", " ")
        inside = file == Path(place) or Path(place) in file.parents
        if inside and len(place) >= len(best[0]):
            best = (place, kind)
    return best


def _holder(lock: Path, locks: Path) -> str:
    """The process that holds the lock, where the system says so."""
    inode = str(lock.stat().st_ino)
    lines = locks.read_text("utf-8").splitlines() if locks.exists() else []
    for line in lines:
        words = line.split()
        if len(words) > 5 and words[1] == "FLOCK" and words[5].rpartition(":")[2] == inode:
            return f"process {words[4]}"
    return "a process"

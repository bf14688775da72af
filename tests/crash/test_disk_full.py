"""The disk is full, and then it is not: the service says what it cannot do, loses nothing and goes on."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Generator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.crash.changes import FOLD_IN_THREAD
from tests.crash.load import Acknowledged, Load, ask, wait_for
from tests.crash.shop import check_nothing_is_doubled, check_verified, lost, new_shop
from tests.forked import Forkery
from tests.processes import eventually

DISK = "24m"
NEEDS = "needs to be root, and allowed to mount: the ledger goes on a small disk of its own"
pytestmark = pytest.mark.timeout(280)


@pytest.fixture
def small_disk(tmp_path: Path) -> Generator[Path]:
    """A folder on a disk of a few megabytes."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(folder)]
    is_mounted = os.geteuid() == 0 and subprocess.run(mount, capture_output=True).returncode == 0
    if not is_mounted:
        if os.environ.get("RIALTO_CI") == "1":
            pytest.fail(NEEDS)
        pytest.skip(NEEDS)
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(file: Path) -> None:
    """Take all the room there is, to the last byte."""
    with file.open("ab", buffering=0) as filler:
        for size in (1 << 20, 4096, 1):
            try:
                while True:
                    filler.write(b"\0" * size)
            except OSError:
                continue


def event(name: str) -> dict[str, Any]:
    return {"event_id": name, "type": "custom", "unit_id": "known", "name": "n"}


def post(client: httpx.Client, path: str, body: Any) -> httpx.Response:
    return client.post(path, json=body)


def test_a_full_disk_costs_nothing_that_was_acknowledged(forks: Forkery, small_disk: Path) -> None:
    url = f"sqlite:///{small_disk / 'full.db'}"
    key = new_shop(forks, url, deadline_ms=1000)
    filler = small_disk / "filler"
    with forks.serving(url, changes=FOLD_IN_THREAD) as running, running.client(key) as client:
        known = post(client, "/v1/assign", ask("known")).json()
        with Load([running], key, "full", survives=True).running() as acknowledged:
            wait_for(acknowledged, 60)
            fill(filler)
            eventually(lambda: post(client, "/v1/events", event("probe")).status_code == 503)
            check_answers_on_a_full_disk(client, known)
            eventually(lambda: acknowledged.refused["database_unavailable"] > 5)
            filler.unlink()
            wait_for(acknowledged, acknowledged.count + 60)  # the same process goes on
        assert post(client, "/v1/assign", ask("other")).json()["reason"] == "assigned"
        assert post(client, "/v1/assign", ask("known")).json()["reason"] == "sticky"
        check_kept(client, acknowledged)
    with forks.serving(url) as running, running.client(key, timeout_s=60) as client:
        check_kept(client, acknowledged)
    check_verified(url)


def check_answers_on_a_full_disk(client: httpx.Client, known: dict[str, Any]) -> None:
    """A known unit keeps its variant, another is shown nothing, an event is asked to come again."""
    told = post(client, "/v1/assign", ask("known")).json()
    assert (told["decision_id"], told["variant"]) == (known["decision_id"], known["variant"])
    assert told["reason"] in ("sticky", "stale")  # in memory it is as good as on record
    other = post(client, "/v1/assign", ask("other"))
    assert other.status_code == 200
    nothing = (other.json()["reason"], other.json()["decision_id"], other.json()["offer"])
    assert nothing == ("fallback", None, {"kind": "none"})
    refused = post(client, "/v1/events", event("refused"))
    assert (refused.status_code, refused.json()["code"]) == (503, "database_unavailable")
    assert int(refused.headers["retry-after"]) >= 1


def check_kept(client: httpx.Client, acknowledged: Acknowledged) -> None:
    assert lost(client, acknowledged) == []
    check_nothing_is_doubled(client)

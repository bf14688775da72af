"""The commands: what they print, how they end, and `rialto serve` as a process."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from experiments.allocation.hashing import seeded_secret
from service.applying import patch_between
from service.wire import merge_patch
from tests.service.conftest import ServiceProcess, document, rialto, rialto_here

Start = Callable[..., ServiceProcess]


def url_of(path: Path) -> str:
    return f"sqlite:///{path}"


def rows_of(file: Path, query: str) -> list[Any]:
    with closing(sqlite3.connect(file)) as connection:
        return connection.execute(query).fetchall()


def test_init_prints_the_keys_once_and_adds_stores(tmp_path: Path) -> None:
    database = url_of(tmp_path / "new" / "shop.db")
    made = rialto_here("init", "--database", database, "--json")
    assert made.returncode == 0, made.stderr
    keys = json.loads(made.stdout)
    assert list(keys) == ["store", "publishable_key", "secret_key"]
    again = rialto_here("init", "--database", database)
    assert again.returncode == 0
    assert re.search(r"secret key +sk_\S{32}", again.stdout)
    assert "shown this once" in again.stderr
    assert rows_of(tmp_path / "new" / "shop.db", "SELECT count(*) FROM store") == [(2,)]


def test_stores_of_one_seed_have_one_secret(tmp_path: Path) -> None:
    file = tmp_path / "shop.db"
    for options in (("--seed", "7"), ("--seed", "7"), ("--seed", "8"), (), ()):
        made = rialto_here("init", "--database", url_of(file), "--simulated", *options)
        assert made.returncode == 0, made.stderr
    secrets = [secret for (secret,) in rows_of(file, "SELECT secret FROM store ORDER BY store_no")]
    assert secrets[:2] == [seeded_secret(7)] * 2
    assert len(set(secrets)) == 4
    refused = rialto_here("init", "--database", url_of(file), "--seed", "7")
    assert refused.returncode == 2
    assert "--simulated" in refused.stderr


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="threads are counted in /proc")
def test_small_products_have_no_threads() -> None:
    """A thread of OpenBLAS spins on the core that answers; a setting of the machine's own stands."""
    script = (
        "import os; from service.entry import main; main(['init', '--help'], standalone_mode=False);"
        "import numpy as np; np.ones((800, 800)) @ np.ones((800, 800));"
        "print(len(os.listdir('/proc/self/task')))"
    )

    def threads(**more: str) -> int:
        environment = {key: value for key, value in os.environ.items() if key != "OPENBLAS_NUM_THREADS"}
        ran = [sys.executable, "-c", script]
        done = subprocess.run(ran, capture_output=True, text=True, env=environment | more, check=True)
        return int(done.stdout.split()[-1])

    assert threads() == 1
    if (os.cpu_count() or 1) > 1:
        assert threads(OPENBLAS_NUM_THREADS="2") == 2


def test_scopes_of_the_first_key(tmp_path: Path) -> None:
    file = tmp_path / "shop.db"
    rialto_here("init", "--database", url_of(file))
    rialto_here("init", "--database", url_of(file), "--scopes", "import,read")
    rows = rows_of(file, "SELECT scopes FROM api_key WHERE kind = 'sk' ORDER BY key_no")
    first, second = (json.loads(scopes) for (scopes,) in rows)
    assert first == ["assign", "events", "read", "write", "admin"]
    assert second == ["read", "import"]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("init", "--scopes", "root"), 2, "--scopes root: choose from assign"),
        (("init", "--time-zone", "Nowhere/At_All"), 2, "IANA"),
        (("init", "--currency", "euro"), 2, "ISO 4217"),
        (("init", "--database", "mysql://h/d"), 1, "write sqlite:///FILE or postgresql://"),
        (("init", "--database", "nonsense"), 2, "write a URL such as"),
        (("init", "--database", "sqlite:////proc/none/shop.db"), 1, "/proc/none"),
        (("serve", "--database", "sqlite:///absent.db"), 1, "run `rialto init"),
        (("verify", "--database", "sqlite:///absent.db"), 1, "run `rialto init"),
        (("upgrade", "--database", "sqlite:///absent.db"), 1, "run `rialto init"),
        (("apply", "absent.yaml", "--key", "sk"), 2, "absent.yaml"),
        (("apply", "pyproject.toml"), 2, "RIALTO_KEY"),
        (("serve", "--clock", "sundial"), 2, "sundial"),
        (("nonsense",), 2, "nonsense"),
    ],
)
def test_a_failure_is_a_readable_line(arguments: tuple[str, ...], code: int, said: str) -> None:
    done = rialto(*arguments) if arguments[0] == "serve" else rialto_here(*arguments)
    assert done.returncode == code, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert "error" in done.stderr.lower()


def test_a_file_that_is_no_ledger_is_a_readable_line(tmp_path: Path) -> None:
    file = tmp_path / "text.db"
    file.write_text("this is no database, and longer than a hundred bytes it must be " * 4)
    for command in ("init", "serve", "verify", "upgrade"):
        run = rialto if command == "serve" else rialto_here
        done = run(command, "--database", url_of(file))
        assert done.returncode == 1
        assert "not a database" in done.stderr
        assert "Traceback" not in done.stderr


def test_help_lists_every_command() -> None:
    listed = rialto_here("--help")
    assert listed.returncode == 0
    for command in ("init", "serve", "apply", "verify", "upgrade", "dashboard", "replay", "demo"):
        assert command in listed.stdout
    for command in ("init", "serve", "apply", "verify", "upgrade"):
        assert rialto_here(command, "--help").returncode == 0
    assert rialto_here("--version").stdout.startswith("rialto, version ")


def test_an_external_clock_needs_a_simulated_store(tmp_path: Path) -> None:
    rialto_here("init", "--database", url_of(tmp_path / "shop.db"))
    done = rialto("serve", "--database", url_of(tmp_path / "shop.db"), "--clock", "external")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "init --simulated" in done.stderr


def test_a_port_in_use_is_a_readable_line(tmp_path: Path) -> None:
    rialto_here("init", "--database", url_of(tmp_path / "shop.db"))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = rialto("serve", "--database", url_of(tmp_path / "shop.db"), "--port", port)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert f"port {port}" in done.stderr


def test_serve_answers_and_stops_in_order(start_service: Start) -> None:
    running = start_service()
    with running.client() as client:
        assert client.post("/v1/experiments", json=document()).status_code == 201
        if running.database_url.startswith("sqlite"):
            second = rialto("serve", "--database", running.database_url, "--port", "0")
            assert (second.returncode, "another `rialto serve`" in second.stderr) == (1, True)
            assert rialto("upgrade", "--database", running.database_url).returncode == 1
    running.process.send_signal(signal.SIGTERM)
    assert running.process.wait(15) == 0
    lines = [json.loads(line) for line in running.log.read_text().splitlines()]
    requests = [line for line in lines if line["logger"] == "rialto.requests"]
    assert {"request_id", "method", "route", "status", "ms"} <= requests[-1].keys()
    log = running.log.read_text()
    assert running.keys["secret_key"] not in log


def test_no_shoppers_id_is_logged(start_service: Start) -> None:
    running = start_service()
    with running.client() as client:
        assert client.get("/v1/units/anna@example.com").status_code == 404
        assert client.get("/v1/ledger/events?unit=anna@example.com").status_code == 200
    running.process.send_signal(signal.SIGINT)
    assert running.process.wait(15) == 0
    log = running.log.read_text()
    assert "/v1/units/{unit_id}" in log
    assert "anna" not in log


def test_what_was_acknowledged_survives_kill_9(start_service: Start) -> None:
    running = start_service()
    with running.client() as client:
        answers = [client.post("/v1/experiments", json=document(f"e{n}")) for n in range(20)]
        assert {answer.status_code for answer in answers} == {201}
    running.process.kill()
    running.process.wait()
    again = start_service(keys=running.keys)
    with again.client() as client:
        assert len(client.get("/v1/experiments").json()["items"]) == 20
    assert rialto("verify", "--database", again.database_url).returncode == 0


def apply(running: ServiceProcess, file: Path, *more: str) -> tuple[int, str, str]:
    done = rialto("apply", str(file), "--url", running.url, "--key", running.keys["secret_key"], *more)
    return done.returncode, done.stdout, done.stderr


def test_apply_creates_patches_and_leaves_alone(start_service: Start, tmp_path: Path) -> None:
    running = start_service()
    file = tmp_path / "experiments.yaml"
    one, two, three = document("one"), document("two"), document("three")
    file.write_text(f"{yaml.safe_dump([one, two])}\n---\n{yaml.safe_dump(three)}")
    assert apply(running, file) == (0, "one: created\ntwo: created\nthree: created\n", "")
    code, said, _ = apply(running, file, "--start")
    assert (code, said.count("unchanged"), said.count("started")) == (0, 3, 3)
    one |= {"name": "renamed", "winsorise": None}
    two["policy"] = {"kind": "fixed", "shares": {"none": 0.5, "socks": 0.5}}
    file.write_text(yaml.safe_dump([one, two]))
    code, said, _ = apply(running, file)
    assert code == 0
    assert 'one: /name: "" -> "renamed"' in said
    assert "one: /winsorise:" in said
    assert "two: patched to version 3" in said
    del two["policy"]
    file.write_text(yaml.safe_dump([one, two]))
    assert apply(running, file)[1].startswith("one: unchanged\ntwo: /policy/shares: ")
    assert apply(running, file)[1] == "one: unchanged\ntwo: unchanged\n"


def test_what_cannot_be_applied_names_file_and_field(start_service: Start, tmp_path: Path) -> None:
    running = start_service()
    file = tmp_path / "bad.yaml"
    file.write_text(yaml.safe_dump(document("bad", colour="red", unit="crowd")))
    code, said, error = apply(running, file)
    assert (code, said) == (1, "")
    assert f"error: {file}, bad: /colour: is not a known field" in error
    assert f"error: {file}, bad: /unit: " in error
    for text, expected in (("a: [", "not readable as YAML"), ("- 3", "is a mapping"), ("", "no experiment")):
        file.write_text(text)
        code, _, error = apply(running, file)
        assert (code, expected in error, "Traceback" in error) == (1, True, False), error
    file.write_text(yaml.safe_dump(document("good")))
    apply(running, file, "--start")
    file.write_text(yaml.safe_dump(document("good", unit="session")))
    code, _, error = apply(running, file)
    assert (code, f"{file}, good: /unit: " in error) == (1, True)


def test_apply_without_a_service_says_what_to_start(tmp_path: Path) -> None:
    file = tmp_path / "one.yaml"
    file.write_text(yaml.safe_dump(document()))
    done = rialto("apply", str(file), "--url", "http://127.0.0.1:9", "--key", "sk_x")
    assert (done.returncode, "rialto serve" in done.stderr) == (1, True)
    assert "Traceback" not in done.stderr


def test_a_wrong_key_is_a_readable_line(start_service: Start, tmp_path: Path) -> None:
    running = start_service()
    file = tmp_path / "one.yaml"
    file.write_text(yaml.safe_dump(document()))
    done = rialto("apply", str(file), "--url", running.url, "--key", "sk_" + "x" * 32)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "unknown or revoked" in done.stderr


def test_a_patch_between_two_documents_leads_from_one_to_the_other() -> None:
    before = {"a": 1, "b": {"c": 2, "d": 3}, "e": [1], "same": {"x": 1}}
    after = {"b": {"c": 2, "new": {"deep": True}}, "e": [1, 2], "same": {"x": 1}}
    patch = patch_between(before, after)
    assert "same" not in patch
    assert merge_patch(before, patch) == after


def test_the_service_answers_garbage_on_the_wire(start_service: Start) -> None:
    """Bytes that are no HTTP are refused, and the service goes on."""
    running = start_service()
    port = int(running.url.rsplit(":", 1)[1])
    with socket.create_connection(("127.0.0.1", port), timeout=5) as raw:
        raw.sendall(b"\x16\x03\x01 not http\r\n\r\n")
        assert raw.recv(100).startswith(b"HTTP/1.1 400")
    assert httpx.get(f"{running.url}/health/live").status_code == 200

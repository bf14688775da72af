"""`rialto serve` while its ledger cannot be reached: it waits, says so, answers storefronts, and goes on."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from service import standby
from service.settings import Settings
from service.stores import NewStore
from tests.processes import eventually, free_port, wait_until_ready
from tests.service.asking import NOTHING
from tests.service.conftest import ROOT, Shop, clean_environment, document, rialto

CALLS = [
    ("GET", "/v1/experiments"),
    ("POST", "/v1/experiments"),
    ("PATCH", "/v1/store"),
    ("DELETE", "/v1/units/u"),
    ("GET", "/v1/experiments/checkout-addon/report"),
    ("GET", "/schema"),
]


@dataclass
class Waiter:
    """A `rialto serve` that may be waiting for its ledger."""

    process: subprocess.Popen[bytes]
    client: httpx.Client
    log: Path

    def ready(self) -> httpx.Response:
        return self.client.get("/health/ready")

    def is_ready(self) -> bool:
        return self.ready().is_success

    def assign(self, key: str, **more: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {key}"}
        return self.client.post("/v1/assign", json={"touchpoint": "checkout", **more}, headers=headers)

    def said(self) -> list[str]:
        """Messages about waiting."""
        lines = [json.loads(line) for line in self.log.read_text().splitlines()]
        return [line["message"] for line in lines if line["logger"] == "service.waiting"]


@pytest.fixture
def serve(tmp_path: Path) -> Generator[Callable[..., Waiter]]:
    """A function that starts `rialto serve` and waits until the process answers, ready or not."""
    started: list[Waiter] = []

    def start(database_url: str, *options: str) -> Waiter:
        port, log = free_port(), tmp_path / f"serve{len(started)}.log"
        command = [sys.executable, "-m", "service.entry", "serve", "--database", database_url]
        with log.open("w") as stderr:
            process = subprocess.Popen(
                [*command, "--port", str(port), *options],
                stderr=stderr,
                cwd=ROOT,
                env=clean_environment(),
            )
        url = f"http://127.0.0.1:{port}"
        waiter = Waiter(process, httpx.Client(base_url=url, timeout=20, trust_env=False), log)
        started.append(waiter)
        wait_until_ready(process, f"{url}/health/live", log)
        return waiter

    yield start
    for waiter in started:
        waiter.client.close()
        waiter.process.kill()
        waiter.process.wait()


@dataclass
class Ledger:
    """A ledger with a running experiment and its last policy set, and no service on it."""

    file: Path
    keys: NewStore
    revoked_key: str

    @property
    def url(self) -> str:
        return f"sqlite:///{self.file}"


@pytest.fixture
def ledger(tmp_path: Path, sqlite_only: None, open_shop: Callable[..., Shop]) -> Ledger:
    shop = open_shop()
    shop.running()
    revoked = shop.post("/v1/keys", {"kind": "sk", "scopes": ["assign"]}).json()
    shop.call("DELETE", f"/v1/keys/{revoked['id']}")
    origin = {"origins": ["https://shop.example"]}
    assert shop.patch("/v1/store", origin, shop.get("/v1/store").headers["etag"]).status_code == 200
    file = tmp_path / "mount" / "shop.db"
    file.parent.mkdir()
    with closing(sqlite3.connect(shop.database.path)) as source, closing(sqlite3.connect(file)) as target:
        source.backup(target)
    with shop.database.read() as connection:
        policies = standby.read(connection)
    standby.save(standby.path_for(Settings(database_url=f"sqlite:///{file}")), policies)
    return Ledger(file, shop.keys, revoked["key"])


@contextmanager
def away(file: Path) -> Iterator[Callable[[], None]]:
    """The file moved elsewhere; the function given brings it back."""
    elsewhere = file.with_name("elsewhere.db")
    shutil.move(file, elsewhere)
    yield lambda: shutil.move(elsewhere, file)


def problem(answer: httpx.Response) -> tuple[int, str]:
    assert answer.headers["content-type"] == "application/problem+json"
    return answer.status_code, answer.json()["code"]


AWAY = (503, "database_unavailable")


def test_while_the_file_is_away_storefronts_are_shown_no_offer_and_then_it_goes_on(
    serve: Callable[..., Waiter], ledger: Ledger
) -> None:
    secret, publishable = ledger.keys.secret_key, ledger.keys.publishable_key
    with away(ledger.file) as bring_back:
        waiter = serve(ledger.url)
        for key in (secret, publishable):
            told = waiter.assign(key, unit_id="u")
            assert told.status_code == 200, told.text
            nothing = {**NOTHING, "experiment": "checkout-addon", "variant": "none", "reason": "fallback"}
            assert told.json() == nothing
        not_ready = waiter.ready()
        assert problem(not_ready) == AWAY
        assert str(ledger.file) in not_ready.json()["detail"]
        assert int(not_ready.headers["retry-after"]) >= 1
        assert not ledger.file.exists(), "waiting must not make an empty file"
        bring_back()
        eventually(waiter.is_ready, 30)
    assert waiter.assign(secret, unit_id="u").json()["reason"] == "assigned"
    assert waiter.assign(secret, unit_id="u").json()["reason"] == "sticky"
    said = waiter.said()
    assert str(ledger.file) in said[0]
    assert "mount or restore it" in said[0]
    assert "storefronts are shown no offer" in said[0]
    assert "the ledger is there" in said[-1]
    waiter.process.send_signal(signal.SIGTERM)
    assert waiter.process.wait(20) == 0


def test_what_is_answered_meanwhile(serve: Callable[..., Waiter], ledger: Ledger) -> None:
    secret, publishable = ledger.keys.secret_key, ledger.keys.publishable_key
    with away(ledger.file):
        waiter = serve(ledger.url)
        batch = {"requests": [{"touchpoint": "checkout", "unit_id": "u"}, {"touchpoint": "TOO BAD"}]}
        headers = {"Authorization": f"Bearer {secret}"}
        many = waiter.client.post("/v1/assign/batch", json=batch, headers=headers).json()["decisions"]
        assert (many[0]["reason"], many[1]["problem"]["status"]) == ("fallback", 400)
        unknown = waiter.assign(secret, unit_id="u", experiment="ghost")
        assert problem(unknown) == (404, "experiment_not_found")
        assert problem(waiter.assign(secret, nonsense=1)) == (400, "unknown_field")
        assert waiter.assign(secret, unit_id="u", touchpoint="elsewhere").json()["variant"] is None
        assert problem(waiter.assign(ledger.revoked_key, unit_id="u")) == (401, "unauthorised")
        assert problem(waiter.assign("sk_" + "x" * 32, unit_id="u")) == AWAY
        assert problem(waiter.client.get("/v1/assign")) == (405, "method_not_allowed")
        for method, path in CALLS:
            refused = waiter.client.request(method, path, headers=headers)
            assert problem(refused) == AWAY, path
            assert int(refused.headers["retry-after"]) >= 1
        page = {"Authorization": f"Bearer {publishable}", "Origin": "https://shop.example"}
        events = waiter.client.post("/v1/events", json={"events": []}, headers=page)
        assert problem(events) == AWAY
        assert int(events.headers["retry-after"]) >= 1
        assert events.headers["access-control-allow-origin"] == "https://shop.example"
        assert waiter.client.get("/health/live").json() == {"status": "ok"}
        assert waiter.client.get("/rialto.js").is_success
        assert "rialto_ledger_up 0" in waiter.client.get("/metrics").text
        waiter.process.send_signal(signal.SIGTERM)
        assert waiter.process.wait(20) == 0


def test_without_a_policy_set_all_are_told_to_wait_and_none_is_turned_away_for_good(
    serve: Callable[..., Waiter], ledger: Ledger, tmp_path: Path
) -> None:
    """The whole folder is away, and with it the file beside the ledger."""
    folder = shutil.move(ledger.file.parent, tmp_path / "unmounted")
    waiter = serve(ledger.url)
    assert problem(waiter.assign(ledger.keys.secret_key, unit_id="u")) == AWAY
    assert problem(waiter.ready()) == AWAY
    assert "mount it, or correct --database" in waiter.said()[0]
    assert "no policy set" in waiter.said()[0]
    shutil.move(folder, ledger.file.parent)
    eventually(waiter.is_ready, 30)
    assert waiter.assign(ledger.keys.secret_key, unit_id="u").json()["reason"] == "assigned"


def test_a_damaged_policy_set_is_none(serve: Callable[..., Waiter], ledger: Ledger) -> None:
    standby.path_for(Settings(database_url=ledger.url)).write_text("{}")
    with away(ledger.file):
        waiter = serve(ledger.url)
        assert problem(waiter.assign(ledger.keys.secret_key, unit_id="u")) == AWAY
        assert "is ignored" in waiter.log.read_text()


def test_a_ledger_that_never_was_is_refused_at_once(tmp_path: Path) -> None:
    done = rialto("serve", "--database", f"sqlite:///{tmp_path}/never.db", "--port", "0")
    assert done.returncode == 1
    assert "run `rialto init" in done.stderr
    assert list(tmp_path.iterdir()) == []


@contextmanager
def silent_server() -> Iterator[int]:
    """A server that takes connections and never says a word; its port."""
    taken: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def take() -> None:
            while True:
                try:
                    taken.append(listener.accept()[0])
                except OSError:
                    return

        threading.Thread(target=take, daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
    for connection in taken:
        connection.close()


def test_a_database_that_takes_connections_and_never_answers_holds_nothing_up(
    serve: Callable[..., Waiter], ledger: Ledger, tmp_path: Path
) -> None:
    with silent_server() as port:
        url = f"postgresql://rialto:geheim@127.0.0.1:{port}/shop"
        state = tmp_path / "state"
        beside = standby.load(standby.path_for(Settings(database_url=ledger.url)))
        assert beside is not None
        standby.save(standby.path_for(Settings(database_url=url, state_dir=str(state))), beside)
        waiter = serve(url, "--state-dir", str(state))
        for _ in range(3):
            before = time.monotonic()
            assert problem(waiter.ready()) == AWAY
            told = waiter.assign(ledger.keys.publishable_key, unit_id="u")
            assert (told.status_code, told.json()["reason"]) == (200, "fallback")
            assert time.monotonic() - before < 4, "a connection is given up after 5 s"
        assert "geheim" not in waiter.log.read_text() + waiter.ready().text
        waiter.process.send_signal(signal.SIGTERM)
        assert waiter.process.wait(20) == 0


def test_a_server_that_refuses_connections_is_waited_for(
    serve: Callable[..., Waiter], tmp_path: Path
) -> None:
    url = f"postgresql://rialto@127.0.0.1:{free_port()}/shop"
    waiter = serve(url, "--state-dir", str(tmp_path))
    assert problem(waiter.ready()) == AWAY
    assert "refused" in waiter.ready().json()["detail"]


def test_a_file_held_exclusively_is_waited_for(serve: Callable[..., Waiter], ledger: Ledger) -> None:
    """Another process keeps the whole file to itself, readers too, as some backups and repairs do."""
    with closing(sqlite3.connect(ledger.file, isolation_level=None)) as holder:
        holder.execute("PRAGMA journal_mode=DELETE")
        holder.execute("PRAGMA locking_mode=EXCLUSIVE")
        holder.execute("BEGIN EXCLUSIVE")
        waiter = serve(ledger.url)
        assert waiter.assign(ledger.keys.publishable_key, unit_id="u").json()["reason"] == "fallback"
        assert problem(waiter.ready()) == AWAY
        assert "locked" in waiter.ready().json()["detail"]
    eventually(waiter.is_ready, 30)
    assert waiter.assign(ledger.keys.secret_key, unit_id="u").json()["reason"] == "assigned"


def test_the_file_is_kept_by_the_service_itself(
    serve: Callable[..., Waiter], ledger: Ledger, tmp_path: Path
) -> None:
    """From a running service to the next start without its disk, killed in between."""
    state = str(tmp_path / "state")
    path = standby.path_for(Settings(database_url=ledger.url, state_dir=state))
    first = serve(ledger.url, "--state-dir", state)
    eventually(first.is_ready, 30)
    headers = {"Authorization": f"Bearer {ledger.keys.secret_key}"}
    made = first.client.post("/v1/experiments", json=document("second", touchpoint="cart"), headers=headers)
    assert made.status_code == 201
    eventually(lambda: path.exists() and '"second"' in path.read_text("utf-8"), 20)
    first.process.kill()
    first.process.wait()
    shutil.move(ledger.file.parent, tmp_path / "unmounted")
    second = serve(ledger.url, "--state-dir", state)
    told = second.assign(ledger.keys.secret_key, unit_id="u", experiment="second")
    assert (told.status_code, told.json()["experiment"]) == (200, "second")


def test_a_second_service_on_one_file_is_refused_not_left_waiting(
    serve: Callable[..., Waiter], ledger: Ledger
) -> None:
    first = serve(ledger.url)
    eventually(first.is_ready, 30)
    second = rialto("serve", "--database", ledger.url, "--port", "0")
    assert (second.returncode, "another `rialto serve`" in second.stderr) == (1, True)


def test_a_schema_that_comes_back_old_is_waited_for_with_its_remedy(
    serve: Callable[..., Waiter], ledger: Ledger, tmp_path: Path
) -> None:
    """While waiting also what needs a hand is waited for: who restores should not have to restart as well."""
    with away(ledger.file) as bring_back:
        waiter = serve(ledger.url)
        with closing(sqlite3.connect(ledger.file)) as empty:
            empty.execute("CREATE TABLE alembic_version (version_num TEXT)")
            empty.commit()
        eventually(lambda: "rialto upgrade" in waiter.ready().json().get("detail", ""), 30)
        ledger.file.unlink()
        bring_back()
        eventually(waiter.is_ready, 30)

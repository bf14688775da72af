"""A real service on a temporary ledger: in this process, and as `rialto serve` on a free port."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner
from litestar.testing import TestClient
from sqlalchemy import select, update

from service.app import create_app
from service.entry import main
from service.hot import key_index, link_upkeep, sqlite
from service.keys import Scope
from service.ledger import schema
from service.ledger.database import Database, DatabaseKind
from service.ledger.kept_units import KeptUnits
from service.settings import ClockKind, Settings
from service.stores import NewStore, create_store
from tests.ledgers import Ledgers, kinds_for
from tests.ledgers import empty_ledger as empty_ledger
from tests.ledgers import ledgers as ledgers
from tests.postgres import postgres_server as postgres_server
from tests.postgres import postgres_template as postgres_template
from tests.postgres import postgres_url as postgres_url
from tests.processes import free_port, wait_until_ready

ROOT = Path(__file__).parents[2]
PATIENT_MS = 5000


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run what needs a ledger on the databases that are wanted."""
    if "ledgers" in metafunc.fixturenames:
        kinds = kinds_for(metafunc)
        metafunc.parametrize("ledgers", kinds, ids=[k.value for k in kinds], indirect=True, scope="session")


@pytest.fixture
def sqlite_only(ledgers: Ledgers) -> None:
    """For a test of what is so on SQLite alone."""
    if ledgers.kind is not DatabaseKind.SQLITE:
        pytest.skip("it is about SQLite")


@pytest.fixture
def often_merged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Links, and keys of events, are brought up and merged every few events, a few at a time."""
    monkeypatch.setattr(key_index, "RECENT_MAX", 4)
    monkeypatch.setattr(sqlite, "EVENTS_SETTLE_AT", 12)
    monkeypatch.setattr(sqlite, "SETTLE_SLICE", 5)
    monkeypatch.setattr(link_upkeep, "BRING_UP_AT", 3)
    monkeypatch.setattr(link_upkeep, "SETTLE_AT", 12)
    monkeypatch.setattr(link_upkeep, "SLICE", 5)


def document(key: str = "checkout-addon", **changes: Any) -> dict[str, Any]:
    """A small valid experiment document, with changes."""
    return {
        "key": key,
        "touchpoint": "checkout",
        "policy": {"kind": "fixed"},
        "variants": [
            {"key": "none", "is_control": True, "offer": {"kind": "none"}},
            {"key": "socks", "offer": {"kind": "cross_sell", "sku": "SOCK-3", "price": 1290, "cost": 410}},
        ],
        **changes,
    }


@dataclass(frozen=True)
class Shop:
    """A store of the running service and a client to speak with it."""

    client: TestClient[Any]
    database: Database
    keys: NewStore
    other: NewStore  # another store of the same ledger

    def headers(self, key: str | None = None, **more: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {key or self.keys.secret_key}", **more}

    def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        key: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> httpx.Response:
        """Send JSON (or bytes as they are) with the secret key, or another."""
        content = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        sent = {"Content-Type": "application/json", **self.headers(key), **(headers or {})}
        return self.client.request(method, path, content=content, headers=sent)

    def get(self, path: str, **more: Any) -> httpx.Response:
        return self.call("GET", path, **more)

    def post(self, path: str, body: Any = None, **more: Any) -> httpx.Response:
        return self.call("POST", path, body, **more)

    def patch(self, path: str, body: Any, etag: str, **more: Any) -> httpx.Response:
        return self.call("PATCH", path, body, headers={"If-Match": etag}, **more)

    def fold_anew(self) -> None:
        """Keep nothing of what was folded: no service runs while a ledger is migrated."""
        self.client.app.state.service.folding._kept = KeptUnits()

    def running(self, key: str = "checkout-addon", **changes: Any) -> dict[str, Any]:
        """A started experiment."""
        assert self.post("/v1/experiments", document(key, **changes)).status_code == 201
        started = self.post(f"/v1/experiments/{key}/start")
        assert started.status_code == 200, started.text
        return started.json()

    def key_with(self, *scopes: str) -> str:
        """A new secret key of the store with these scopes."""
        made = self.post("/v1/keys", {"kind": "sk", "scopes": list(scopes)})
        assert made.status_code == 201, made.text
        return made.json()["key"]


def new_stores(database: Database, *, is_simulated: bool) -> tuple[NewStore, NewStore]:
    """Two stores whose secret keys may do everything."""
    with database.write() as connection:
        first, second = (
            create_store(
                connection,
                time_zone="Europe/Rome",
                currency="EUR",
                is_simulated=is_simulated,
                scopes=tuple(Scope),
                now_us=time.time_ns() // 1000,
            )
            for _ in range(2)
        )
    return first, second


def be_patient(database: Database) -> None:
    """Let a busy machine take its time: no decision falls back but where a test wants it to."""
    store = schema.store
    with database.write() as connection:
        for row in connection.execute(select(store.c.store_no, store.c.settings)).all():
            patient = {**row.settings, "deadline_ms": PATIENT_MS}
            mine = store.c.store_no == row.store_no
            connection.execute(update(store).where(mine).values(settings=patient))


def shops_in(folder: Path, ledgers: Ledgers) -> Generator[Callable[..., Shop]]:
    """A function that starts a service in this process, with settings of its own."""
    clients: list[TestClient[Any]] = []
    urls: list[str] = []

    def start(*, is_simulated: bool = False, is_patient: bool = True, **settings: Any) -> Shop:
        url = ledgers.new(folder, f"shop{len(clients)}")
        urls.append(url)
        database = Database(url)
        first, second = new_stores(database, is_simulated=is_simulated)
        if is_patient:
            be_patient(database)
        clock = ClockKind.EXTERNAL if is_simulated else ClockKind.SYSTEM
        if ledgers.kind is DatabaseKind.POSTGRES:  # else it would be in the working directory
            settings.setdefault("state_dir", str(folder))
        app = create_app(Settings(database_url=url, clock=clock, **settings), database)
        client = TestClient(app, raise_server_exceptions=False)
        client.__enter__()
        clients.append(client)
        return Shop(client, database, first, second)

    yield start
    for client in clients:
        client.__exit__(None, None, None)
    for url in urls:
        ledgers.remove(url)


@pytest.fixture
def open_shop(tmp_path: Path, ledgers: Ledgers) -> Generator[Callable[..., Shop]]:
    """Services of one test."""
    yield from shops_in(tmp_path, ledgers)


@pytest.fixture(scope="module")
def module_open_shop(
    tmp_path_factory: pytest.TempPathFactory, ledgers: Ledgers
) -> Generator[Callable[..., Shop]]:
    """Services that a module's tests share, since none of them may change anything."""
    yield from shops_in(tmp_path_factory.mktemp("module"), ledgers)


@pytest.fixture
def shop(open_shop: Callable[..., Shop]) -> Shop:
    """A store on the machine's clock."""
    return open_shop()


@pytest.fixture
def simulated_shop(open_shop: Callable[..., Shop]) -> Shop:
    """A store whose clock is set over the API."""
    return open_shop(is_simulated=True)


@dataclass
class ServiceProcess:
    """A running `rialto serve`."""

    process: subprocess.Popen[str]
    url: str
    database_url: str
    keys: dict[str, str]
    log: Path

    def client(self) -> httpx.Client:
        headers = {"Authorization": f"Bearer {self.keys['secret_key']}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=20)


def rialto(*arguments: str, timeout_s: float = 60) -> subprocess.CompletedProcess[str]:
    """Run a command of `rialto` to its end, without anything of the environment's that it reads."""
    return subprocess.run(
        [sys.executable, "-m", "service.entry", *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=clean_environment(),
        timeout=timeout_s,
    )


def rialto_here(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The same in this process, which starts no interpreter (not for `serve`, which takes signals)."""
    unset = {name: None for name in os.environ if name.startswith("RIALTO_")}
    done = CliRunner().invoke(main, arguments, env=unset)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return subprocess.CompletedProcess(arguments, done.exit_code, done.stdout, done.stderr)


def clean_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("RIALTO_")}


@pytest.fixture
def start_service(tmp_path: Path, ledgers: Ledgers) -> Generator[Callable[..., ServiceProcess]]:
    """A function that starts `rialto serve` on a new ledger (or one there is) and waits until it is ready."""
    started: list[ServiceProcess] = []
    database_url = ledgers.absent(tmp_path, "process")
    state = ("--state-dir", str(tmp_path)) if ledgers.kind is DatabaseKind.POSTGRES else ()

    def start(
        *, keys: dict[str, str] | None = None, init: tuple[str, ...] = (), serve: tuple[str, ...] = ()
    ) -> ServiceProcess:
        if keys is None:
            made = rialto("init", "--database", database_url, "--json", *init)
            assert made.returncode == 0, made.stderr
            keys = json.loads(made.stdout)
        port = free_port()
        log = tmp_path / f"serve{len(started)}.log"
        with log.open("w") as stderr:
            process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "service.entry", "serve"),
                    *("--database", database_url, "--port", str(port), *state, *serve),
                ],
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                text=True,
                cwd=ROOT,
                env=clean_environment(),
            )
        running = ServiceProcess(process, f"http://127.0.0.1:{port}", database_url, keys, log)
        started.append(running)
        wait_until_ready(process, f"{running.url}/health/ready", log)
        return running

    yield start
    for running in started:
        if running.process.poll() is None:
            running.process.kill()
        running.process.wait()
    ledgers.remove(database_url)

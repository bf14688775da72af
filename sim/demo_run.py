"""A demo store in operation: created, served, with its experiment running and shoppers about to come."""

import json
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib import resources
from pathlib import Path

import numpy as np
import yaml

from sim.demo_processes import HOST, Child, DemoFailed, error_line, run_rialto, stop_all
from sim.demo_signals import Stop
from sim.shop.api import Api, Json
from sim.shop.traffic import Traffic
from sim.shop.world import Shop, shop_of

SCOPES = "assign,events,read,write,admin,import"
START = datetime(2026, 3, 2, tzinfo=UTC)  # simulated time begins on a Monday
READY_S = 60.0


@dataclass(frozen=True, slots=True)
class Setting:
    """Where a demo runs, who may stop it, and how much traffic it gets."""

    folder: Path
    port: int
    seed: int
    step: timedelta
    per_day: float
    stop: Stop

    @property
    def url(self) -> str:
        """The service's address."""
        return f"http://{HOST}:{self.port}"

    @property
    def database(self) -> str:
        """The store's database URL."""
        return f"sqlite:///{self.folder / 'rialto.db'}"


@dataclass(frozen=True, slots=True)
class Running:
    """A service that answers, with everything needed to send it traffic."""

    setting: Setting
    document: Json
    shop: Shop
    publishable_key: str
    secret_key: str
    api: Api
    traffic: Traffic
    children: list[Child]

    def check(self) -> list[Child]:
        """Fail if the service has stopped; returns the other children that have, and forgets them."""
        service, *others = self.children
        if not service.is_running:
            raise DemoFailed(f"the service stopped:\n{service.last_words()}")
        gone = [child for child in others if not child.is_running]
        for child in gone:
            self.children.remove(child)
        return gone

    def policy(self) -> Json:
        """The experiment's current policy."""
        return self.api.get(f"/v1/experiments/{self.document['key']}/policy")

    def report(self) -> Json:
        """The experiment's report."""
        return self.api.get(f"/v1/experiments/{self.document['key']}/report")


@contextmanager
def running(setting: Setting) -> Generator[Running]:
    """Create the store and serve it until the context ends; then every child is stopped."""
    document = load_document()
    keys = create_store(setting.folder, setting.database, document["currency"])
    children: list[Child] = []
    try:
        with Api(setting.url, keys["secret_key"]) as api:
            serve = ("serve", "--database", setting.database, "--host", HOST, "--port", str(setting.port))
            children.append(Child("service", [*serve, "--clock", "external"], setting.folder, {}))
            children[0].wait_ready(f"{setting.url}/health/ready", within_s=READY_S, stop=setting.stop)
            if not setting.stop.is_asked:
                api.set_clock(START)
                api.begin(document)
            shop = shop_of(document)
            yield Running(
                setting,
                document,
                shop,
                keys["publishable_key"],
                keys["secret_key"],
                api,
                _traffic(setting, api, shop, document),
                children,
            )
    finally:
        with setting.stop.closing():
            stop_all(children)


def load_document() -> Json:
    """The demo's experiment document."""
    text = resources.files("sim").joinpath("demo_experiments.yaml").read_text(encoding="utf-8")
    return yaml.safe_load(text)


def create_store(folder: Path, database: str, currency: str, *, simulated: bool = True) -> Json:
    """A fresh store in a folder, simulated or not; returns its keys."""
    if (folder / "rialto.db").exists():
        raise DemoFailed(f"{folder} already holds a store: give --data an empty directory")
    kind = ("--simulated", "--scopes", SCOPES) if simulated else ()
    made = run_rialto("init", "--database", database, "--json", "--currency", currency, *kind)
    if made.returncode != 0:
        raise DemoFailed(f"init: {error_line(made)}")
    return json.loads(made.stdout)


def drive(demo: Running, *, day_s: float, seconds: float | None) -> Generator[int]:
    """Step after step, a simulated day every `day_s` seconds; yields the visitors of each full day."""
    pace_s = day_s * (demo.setting.step / timedelta(days=1))
    ends_at = None if seconds is None else time.monotonic() + seconds
    visitors = 0
    while not demo.setting.stop.is_asked and (ends_at is None or time.monotonic() < ends_at):
        began = time.monotonic()
        step = demo.traffic.step()
        visitors += step.shoppers
        if (step.now - START) % timedelta(days=1) == timedelta(0):
            yield visitors
            visitors = 0
        demo.setting.stop.wait(max(0.0, pace_s - (time.monotonic() - began)))


def _traffic(setting: Setting, api: Api, shop: Shop, document: Json) -> Traffic:
    rng = np.random.default_rng(setting.seed)
    return Traffic(api, shop, document, start=START, step=setting.step, per_day=setting.per_day, rng=rng)

"""Peers side by side: what each answers a second where Rialto has committed a decision."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import httpx

from benchmarks import shop
from benchmarks.bench import Bench
from benchmarks.databases import postgres
from benchmarks.peers import install
from benchmarks.rounds import Sample, Series, alternate
from benchmarks.servers import Server, free_port, process, rialto
from benchmarks.wrk import BenchmarkFailed, Load

TOKEN = "default:development.benchmark-frontend-token-of-no-secret"
ADMIN = "*:*.benchmark-admin-token-of-no-secret"
FLAG_TRIES = 150  # 30 seconds: flags reach the frontend by polling
HERE = Path(__file__).parents[1] / "peers"

LACKS = {
    "unleash": (
        f"unleash-server {install.UNLEASH}, `/api/frontend`, one flag of ten variants",
        "no record of a decision (a hash of flags in memory; exposures as counts), no memory of what a "
        "unit got before, no learning",
    ),
    "ofrep": (
        f"fast-feature {install.FAST_FEATURE} (OFREP on FastAPI), one flag, ten fractional variants",
        "no record, no memory, no learning, no key asked for; flags in memory",
    ),
    "growthbook": (
        f"GrowthBook's Python SDK {install.GROWTHBOOK} in a typed Litestar handler, ten variations",
        "no record (a callback of the caller's), memory only by a service of the caller's, no learning, "
        "no key",
    ),
}


def peers(bench: Bench) -> dict[str, Any]:
    """Ours, a peer, ours, the next peer ...; a peer that cannot be had is named with the reason."""
    missing: dict[str, str] = {}
    with ExitStack() as stack:
        folder = stack.enter_context(bench.folder())
        ours = stack.enter_context(rialto(folder))
        runs: dict[str, Callable[[], Sample]] = {}
        for name, start in (("unleash", _unleash), ("ofrep", _ofrep), ("growthbook", _growthbook)):
            try:
                server, load = stack.enter_context(start(bench.work, folder))
            except (BenchmarkFailed, httpx.HTTPError) as error:
                missing[name] = str(error)
                continue
            server.measure(load, 0.3)
            runs[name] = _run(server, load, bench.seconds)

        def assign() -> Sample:
            ours.wait_until_folded()
            return ours.measure(shop.assign(ours.browser), bench.seconds)

        assign()
        found = alternate(assign, runs, bench.rounds)
        ours.check_ledger()
    return {"peers": {name: _row(series) for name, series in found.items()}, "missing": missing}


def _run(server: Server, load: Load, seconds: float) -> Callable[[], Sample]:
    return lambda: server.measure(load, seconds)


def _row(series: Series) -> dict[str, Any]:
    """Ours over theirs: rates, and CPU the other way round."""
    row = series.as_row()
    return row | {
        "ours_over_theirs": [round(1 / ratio, 3) for ratio in series.ratios],
        "cpu_theirs_over_ours": [round(1 / ratio, 3) for ratio in series.cpu_ratios],
        "ours_rate": round(median(row["nothing_rates"]), 1),
    }


@contextmanager
def _ofrep(work: Path, folder: Path) -> Generator[tuple[Server, Load]]:
    port = free_port()
    command = [str(install.python_with_peers(work)), str(HERE / "ofrep_server.py"), str(port)]
    with process(command, f"http://127.0.0.1:{port}/docs", folder / "ofrep.log") as pid:
        body = '{"context":{"targetingKey":"<random>","device":"mobile","cart_value":8900}}'
        yield Server(pid, port), Load("/ofrep/v1/evaluate/flags/bench", {}, [body], drains=False)


@contextmanager
def _growthbook(work: Path, folder: Path) -> Generator[tuple[Server, Load]]:
    port = free_port()
    command = [str(install.python_with_peers(work)), str(HERE / "growthbook_server.py"), str(port)]
    with process(command, f"http://127.0.0.1:{port}/ready", folder / "growthbook.log") as pid:
        body = '{"unit_id":"<random>","device":"mobile","cart_value":8900}'
        yield Server(pid, port), Load("/evaluate", {}, [body], drains=False)


@contextmanager
def _unleash(work: Path, folder: Path) -> Generator[tuple[Server, Load]]:
    home = install.unleash_folder(work)
    with postgres() as database:
        port = free_port()
        environment = {
            "DATABASE_URL": database.new_database(),
            "DATABASE_SSL": "false",
            "PORT": str(port),
            "HTTP_HOST": "127.0.0.1",
            "INIT_ADMIN_API_TOKENS": ADMIN,
            "INIT_FRONTEND_API_TOKENS": TOKEN,
            "CHECK_VERSION": "false",
            "SEND_TELEMETRY": "false",
            "LOG_LEVEL": "error",
            "NODE_ENV": "production",
        }
        command = ["node", str(home / "dist" / "server.js")]
        health = f"http://127.0.0.1:{port}/health"
        with process(command, health, folder / "unleash.log", environment) as pid:
            _make_flag(f"http://127.0.0.1:{port}")
            load = Load("/api/frontend?userId=<random>", {"Authorization": TOKEN}, method="GET", drains=False)
            yield Server(pid, port), load


def _make_flag(url: str) -> None:
    """One flag with ten variants, on for everyone, and wait until the frontend answers with it."""
    with httpx.Client(base_url=url, headers={"Authorization": ADMIN}, timeout=30) as http:
        flags = "/api/admin/projects/default/features"
        http.post(flags, json={"name": "bench", "type": "experiment"}).raise_for_status()
        strategy = {
            "name": "flexibleRollout",
            "parameters": {"rollout": "100", "stickiness": "default", "groupId": "bench"},
            "variants": [
                {"name": f"offer-{n}", "weight": 100, "weightType": "variable", "stickiness": "default"}
                for n in range(10)
            ],
        }
        development = f"{flags}/bench/environments/development"
        http.post(f"{development}/strategies", json=strategy).raise_for_status()
        http.post(f"{development}/on").raise_for_status()
        for _ in range(FLAG_TRIES):
            answer = http.get("/api/frontend?userId=1", headers={"Authorization": TOKEN})
            if answer.is_success and "offer-" in answer.text:
                return
            time.sleep(0.2)
    raise BenchmarkFailed("unleash-server does not answer with its flag")

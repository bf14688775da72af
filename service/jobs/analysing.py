"""Runs the analyses that were asked for: the leader, one at a time, in a process of its own.

Sampling takes tens of seconds of a whole core, and its libraries hundreds of megabytes: neither belongs into
the process that answers shoppers. The process is ended when its time is up, when its row is no longer ours
(somebody cancelled it, another replica took it over), and with the service.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy.exc import DBAPIError

from service.context import Service
from service.jobs.folder import fold_pending
from service.ledger import analyses
from service.ledger.analyses import Claim, State, failure
from service.ledger.database import said
from service.settings import Settings
from service.standby import path_for

LOOK_S = 1.0
RENEW_S = 10.0
NETCDF, PARQUET = "draws.nc", "draws.parquet"
log = logging.getLogger(__name__)


class AnalysisRequest(msgspec.Struct):
    """What the process is told, as one line of JSON."""

    database_url: str
    store_no: int
    experiment_no: int
    now_us: int
    folder: str
    seed: int
    settings: dict[str, Any]


class AnalysisAnswer(msgspec.Struct):
    """What it answers before it ends."""

    state: State
    result: dict[str, Any]


def folder_of(settings: Settings) -> Path:
    """Where draws are kept: beside the last policy set."""
    beside = path_for(settings)
    name = beside.name.removesuffix(".json")
    own = name.removesuffix(".policies") + ".analyses" if name.endswith(".policies") else f"analyses-{name}"
    return beside.with_name(own)


def draws_folder(settings: Settings, analysis_no: int, attempt: int) -> Path:
    """Where the draws of an attempt are kept: of each its own, so that a lost one overwrites nothing."""
    return folder_of(settings) / (str(analysis_no) if attempt == 1 else f"{analysis_no}-{attempt}")


async def run(service: Service) -> None:
    """Run what is due while this service leads, until cancelled."""
    while True:
        try:
            await run_due(service)
        except DBAPIError as error:
            log.warning("analyses cannot be looked for, it is tried again: %s", said(error))
        except Exception:
            log.exception("an analysis could not be run; it is tried again")
        await asyncio.sleep(LOOK_S)


async def run_due(service: Service) -> bool:
    """Run the next analysis to its end; whether there was one."""
    if not service.leader.is_leader or not await service.read(lambda c: analyses.is_due(c, _now_us())):
        return False
    mine = await service.writer.submit(lambda c: analyses.claim(c, _now_us()), background=True)
    if mine is None:
        return False
    await fold_pending(service, mine.store_no)
    answer = await _answer(service, mine)
    if answer is not None:
        ended = partial(
            analyses.finish, mine=mine, state=answer.state, result=answer.result, now_us=_now_us()
        )
        await service.writer.submit(ended, background=True)
    return True


async def _answer(service: Service, mine: Claim) -> AnalysisAnswer | None:
    """What the process says, or what ended it; None when it is no longer ours to say."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "service.jobs.analysis_process"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env=_environment(service.settings),
    )
    assert process.stdin is not None
    assert process.stdout is not None
    # Not among the arguments: it may hold a password. The pipe stays open: with us gone, the process ends.
    process.stdin.write(msgspec.json.encode(await _request(service, mine)) + b"\n")
    reading = asyncio.create_task(process.stdout.read())
    until = time.monotonic() + float(mine.settings["time_limit_s"])
    try:
        if not await _watched(service, mine, reading, until):
            return None
        if not reading.done():
            detail = (
                f"it took longer than {mine.settings['time_limit_s']:g} s: ask for fewer draws or more time"
            )
            return AnalysisAnswer(State.FAILED, failure("time_limit", detail))
        code = await process.wait()
        if code:
            detail = f"its process ended with code {code}; the service's log has what it said"
            return AnalysisAnswer(State.FAILED, failure("process_ended", detail))
        return msgspec.json.decode(reading.result(), type=AnalysisAnswer)
    finally:
        reading.cancel()
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def _watched(service: Service, mine: Claim, reading: asyncio.Task[bytes], until: float) -> bool:
    """Wait until the process has answered or its time is up; False when it is not ours any more."""
    renew_at = time.monotonic() + RENEW_S
    while not reading.done() and time.monotonic() < until:
        await asyncio.wait([reading], timeout=min(LOOK_S, max(0.0, until - time.monotonic())))
        if not service.leader.is_leader or not await service.read(lambda c: analyses.is_mine(c, mine)):
            return False
        if time.monotonic() >= renew_at:
            await service.writer.submit(lambda c: analyses.renew(c, mine, _now_us()), background=True)
            renew_at = time.monotonic() + RENEW_S
    return True


async def _request(service: Service, mine: Claim) -> AnalysisRequest:
    store = await service.store(mine.store_no)
    folder = draws_folder(service.settings, mine.analysis_no, mine.attempt)
    return AnalysisRequest(
        database_url=service.database.url,
        store_no=mine.store_no,
        experiment_no=mine.experiment_no,
        now_us=service.now_us(store),
        folder=str(folder.absolute()),
        seed=mine.analysis_no,
        settings=dict(mine.settings),
    )


def _environment(settings: Settings) -> Mapping[str, str]:
    """The service's, with a place for compiled models that is not the home directory."""
    compiled = f"base_compiledir={(folder_of(settings) / 'compiled').absolute()}"
    return {"PYTENSOR_FLAGS": compiled, **os.environ, "OPENBLAS_NUM_THREADS": "1"}


def _now_us() -> int:
    return time.time_ns() // 1000

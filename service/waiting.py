"""Starting while the ledger cannot be reached: wait, say so, and go on by oneself when it comes.

What no waiting mends (a ledger never initialised, a wrong password, a second service on one file) is
refused at once, before anything listens.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from litestar.types import ASGIApp, LifeSpanReceive, LifeSpanSend
from sqlalchemy import make_url
from sqlalchemy.exc import OperationalError

from service import standby
from service.ledger.database import Database, DatabaseUnreachable, shown
from service.lifespan import Lifespan
from service.settings import Settings
from service.standby import PolicySet

FIRST_S = 3.0
"""How long the start waits for the first attempt before it goes on in standby."""
RETRY_S = (0.25, 5.0)
"""Between attempts, at first and at most."""
TELL_S = (2.0, 60.0)
"""Between messages, at first and at most."""

log = logging.getLogger(__name__)

Open = Callable[[Settings], Database]
"""Opens a ledger to be served: checks its schema, takes its lock. Raises when it cannot."""
Build = Callable[[Settings, Database], ASGIApp]
BuildStandby = Callable[[Settings, PolicySet | None, Callable[[], str]], ASGIApp]


def application(settings: Settings, open_ledger: Open, build: Build, build_standby: BuildStandby) -> ASGIApp:
    """The service, or what stands in for it until its ledger can be reached.

    Raises what `open_ledger` raises, unless waiting may mend it.
    """
    opening = Opening(settings, open_ledger)
    try:
        return build(settings, opening.result(FIRST_S))
    except Exception as error:
        trouble = _passing_trouble(error)
        if trouble is None:
            raise
    return Waiting(settings, opening, trouble, build, build_standby)


class Opening:
    """Opens the ledger in a thread of its own, one attempt at a time.

    A server that takes connections and never answers holds the attempt, and nothing else: the thread is
    not waited for when the process ends.
    """

    def __init__(self, settings: Settings, open_ledger: Open) -> None:
        self._settings = settings
        self._open_ledger = open_ledger
        self._attempt: Future[Database] | None = None

    def result(self, patience_s: float) -> Database:
        """The ledger, ready to be served. Raises what went wrong, or that it does not answer."""
        attempt = self._attempt
        if attempt is None:
            attempt = self._attempt = Future()
            threading.Thread(target=self._open, args=(attempt,), name="ledger-opening", daemon=True).start()
        try:
            error = attempt.exception(patience_s)
        except TimeoutError:
            raise DatabaseUnreachable(
                f"{shown(self._settings.database_url)} does not answer: see whether it hangs or is locked"
            ) from None
        self._attempt = None
        if error is not None:
            raise error
        return attempt.result()

    def _open(self, attempt: Future[Database]) -> None:
        try:
            _require_place(self._settings)
            attempt.set_result(self._open_ledger(self._settings))
        except BaseException as error:
            attempt.set_exception(error)


class Waiting:
    """An application that stands in for the service, and becomes it when the ledger can be reached."""

    def __init__(
        self,
        settings: Settings,
        opening: Opening,
        trouble: str,
        build: Build,
        build_standby: BuildStandby,
    ) -> None:
        self._settings = settings
        self._path = standby.path_for(settings)
        self._opening = opening
        self._trouble = trouble
        self._build = build
        self._build_standby = build_standby
        self._since = time.monotonic()
        self._policies: PolicySet | None = None
        self._current = self._stand_in()
        self._life: Lifespan | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Hand the request on; or live from start to end of the process."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        else:
            await self._current(scope, receive, send)

    async def _live(self, receive: LifeSpanReceive, send: LifeSpanSend) -> None:
        await receive()
        waiting = asyncio.create_task(self._until_open())
        await send({"type": "lifespan.startup.complete"})
        await receive()
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        if self._life is not None:
            await self._life.stop()
        await send({"type": "lifespan.shutdown.complete"})

    async def _until_open(self) -> None:
        pause_s, told_s, next_told_s = RETRY_S[0], 0.0, 0.0
        while True:
            waited_s = time.monotonic() - self._since
            if waited_s >= next_told_s:
                self._tell(waited_s)
                told_s = min(max(TELL_S[0], 2 * told_s), TELL_S[1])
                next_told_s = waited_s + told_s
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, RETRY_S[1])
            if await self._opened():
                log.warning("the ledger is there after %.0f s: serving", time.monotonic() - self._since)
                return
            if self._policies is None:
                self._current = self._stand_in()

    async def _opened(self) -> bool:
        """Try once; when the ledger is there, be the service."""
        try:
            database = await asyncio.to_thread(self._opening.result, 1.0)
        except Exception as error:
            # After the start also what needs a hand (a restored ledger of another version) is waited for.
            self._trouble = _passing_trouble(error) or str(error)
            return False
        service = self._build(self._settings, database)
        life = Lifespan(service)
        try:
            await life.start()
        except Exception as error:
            log.exception("the service cannot start on the ledger; it is tried again")
            self._trouble = str(error)
            await asyncio.to_thread(database.close)
            return False
        self._life, self._current = life, service
        return True

    def _stand_in(self) -> ASGIApp:
        self._policies = standby.load(self._path)
        return self._build_standby(self._settings, self._policies, lambda: self._trouble)

    def _tell(self, waited_s: float) -> None:
        meanwhile = (
            f"no policy set in {self._path}: until then every call but /health/live is answered with 503"
            if self._policies is None
            else f"until then storefronts are shown no offer, by the policy set in {self._path}"
        )
        log.warning("waiting for the ledger for %.0f s: %s; %s", waited_s, self._trouble, meanwhile)


def _passing_trouble(error: Exception) -> str | None:
    """What is wrong, if it may pass by itself."""
    match error:
        case DatabaseUnreachable():
            return str(error)
        case OperationalError():
            return str(error.orig)
        case OSError():
            return f"{error.filename}: {error.strerror}" if error.filename else str(error)
        case _:
            return None


def _require_place(settings: Settings) -> None:
    """Tell a file that is away from one that never was. Raises `DatabaseUnreachable` for the former."""
    url = make_url(settings.database_url)
    if url.get_backend_name() != "sqlite" or not url.database or url.database == ":memory:":
        return
    file = Path(url.database)
    if file.exists():
        return
    if not file.parent.exists():
        raise DatabaseUnreachable(f"{file.parent} is not there: mount it, or correct --database")
    if standby.path_for(settings).exists():
        raise DatabaseUnreachable(
            f"{file} is not there, and was served before: mount or restore it; "
            f"for a new ledger delete {standby.path_for(settings)} and run `rialto init`"
        )

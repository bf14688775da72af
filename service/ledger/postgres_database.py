"""A ledger in a PostgreSQL database, which any number of services share.

Reads are REPEATABLE READ, READ ONLY: one snapshot each. Transactions of `writing` (changes by people, jobs)
wait for one another under an advisory lock, whichever process they are of, as they do on SQLite; the hot
path does not take it. A connection that has died is noticed when it is taken from its pool and replaced.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, text
from sqlalchemy.exc import DBAPIError, TimeoutError

from service.ledger.backend import DatabaseKind, DatabaseUnreachable, DatabaseUnusable, said

if TYPE_CHECKING:
    import asyncpg

LOCKS = 0x5269_616C  # the first half of every advisory lock of ours
WRITING, SERVING, LEADING = 1, 2, 3
"""The second half. WRITING: held by the one transaction that writes. SERVING: shared by running services.
LEADING: held by the service that folds and allocates."""

CONNECTIONS_MAX = {"reading": (4, 8), "writing": (1, 2)}
"""Of each engine: connections kept open, and those opened besides while many are in use."""
POOL_WAIT_S = 10
CONNECT_S = 5
IDLE_IN_TRANSACTION_S = 60
"""A service that is suspended while it writes loses its turn to the others after this long."""

_LIVENESS = {
    "connect_timeout": CONNECT_S,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,
}
_ASYNCPG_KNOWS = (
    "host",
    "port",
    "application_name",
    "passfile",
    "sslmode",
    "sslcert",
    "sslkey",
    "sslrootcert",
    "sslcrl",
    "sslpassword",
    "ssl_min_protocol_version",
    "ssl_max_protocol_version",
    "target_session_attrs",
)
_UNREACHABLE = (
    "connection refused",
    "no such file or directory",
    "failed to resolve host",
    "timeout expired",
    "timed out",
    "starting up",
    "shutting down",
    "in recovery mode",
    "too many clients",
    "remaining connection slots",
    "server closed the connection",
    "could not receive data",
    "no route to host",
    "network is unreachable",
    "terminating connection",
    "the connection is lost",
)
_REFUSED = ("password", "no pg_hba.conf entry", "authentication", "role")


class PostgresBackend:
    """The engines of one database."""

    kind = DatabaseKind.POSTGRES

    def __init__(self, url: URL) -> None:
        if find_spec("psycopg") is None or find_spec("asyncpg") is None:
            raise DatabaseUnusable(
                "--database postgresql://...: install the extra for it: pip install 'rialto[postgres]'"
            )
        if not url.database:
            raise DatabaseUnusable("--database needs a database, e.g. postgresql://rialto@localhost/shop")
        self.name = url.set(drivername="postgresql").render_as_string()
        self.asyncpg_dsn = _asyncpg_dsn(url)
        url = url.set(drivername="postgresql+psycopg").update_query_dict(
            {name: str(value) for name, value in _LIVENESS.items() if name not in url.query}
        )
        self._at = _place(url)
        self.reading = _engine(url, "reading")
        self.writing = _engine(url, "writing")
        event.listen(self.writing, "begin", _wait_for_turn)

    def exists(self) -> bool:
        """Whether the database has a schema of ours."""
        with self.reading.connect() as connection:
            return connection.scalar(text("SELECT to_regclass('alembic_version') IS NOT NULL")) is True

    def prepare(self) -> None:
        """Nothing: who owns the server makes the database."""

    def keep_services_out(self, connection: Connection) -> None:
        """Refuse while services run; none starts to lead or to follow until the transaction ends."""
        lock = text("SELECT pg_try_advisory_xact_lock(:ours, :serving)")
        if not connection.scalar(lock, {"ours": LOCKS, "serving": SERVING}):
            raise DatabaseUnusable(f"a `rialto serve` is using {self.name}: stop every service of it first")

    def lock_for_serving(self) -> None:
        """Nothing: any number of services share the database."""

    def unusable(self, error: DBAPIError | TimeoutError) -> DatabaseUnusable:
        """A server that is not there yet, or that will not have us."""
        line = said(error)
        heard = line.lower()
        if "does not exist" in heard and "database" in heard:
            return DatabaseUnusable(
                f"the server has no such database: create it (createdb), then run "
                f"`rialto init --database {self.name}`"
            )
        if any(sign in heard for sign in _UNREACHABLE) or isinstance(error, TimeoutError):
            reason = line.rpartition("failed: ")[2]
            return DatabaseUnreachable(
                f"PostgreSQL does not answer at {self._at} ({reason}): start it, or correct --database"
            )
        reason = line.rpartition("FATAL:  ")[2]
        if any(sign in heard for sign in _REFUSED):
            return DatabaseUnusable(
                f"PostgreSQL at {self._at} refuses: {reason}; correct user and password in --database, "
                "PGPASSWORD or ~/.pgpass"
            )
        return DatabaseUnusable(f"{self.name} cannot be used: {reason}")

    def close(self) -> None:
        """Close every connection."""
        self.reading.dispose()
        self.writing.dispose()


async def listening_connection(dsn: str, purpose: str) -> asyncpg.Connection:
    """A connection that stays open for long, and whose end either side notices within seconds."""
    import asyncpg

    return await asyncpg.connect(
        dsn,
        timeout=CONNECT_S,
        server_settings={
            "application_name": f"rialto {purpose}",
            "tcp_keepalives_idle": "3",
            "tcp_keepalives_interval": "1",
            "tcp_keepalives_count": "3",
        },
    )


def _engine(url: URL, purpose: str) -> Engine:
    kept, besides = CONNECTIONS_MAX[purpose]
    idle = f"-c idle_in_transaction_session_timeout={IDLE_IN_TRANSACTION_S * 1000}"
    engine = create_engine(
        url,
        pool_size=kept,
        max_overflow=besides,
        pool_timeout=POOL_WAIT_S,
        pool_pre_ping=True,
        connect_args={
            "application_name": f"rialto {purpose}",
            "options": f"{url.query.get('options', '')} {idle}".strip(),
        },
    )

    @event.listens_for(engine, "connect")
    def _connect(connection: Any, _record: Any) -> None:
        from psycopg import IsolationLevel

        if purpose == "reading":
            connection.isolation_level = IsolationLevel.REPEATABLE_READ
            connection.read_only = True
        else:  # each statement sees what was committed before it, ours after the wait above all
            connection.isolation_level = IsolationLevel.READ_COMMITTED

    return engine


def _wait_for_turn(connection: Connection) -> None:
    connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({LOCKS}, {WRITING})")


def _place(url: URL) -> str:
    folder = url.query.get("host")
    host = url.host or (folder if isinstance(folder, str) else None) or "the local socket"
    return f"{host}:{url.port or url.query.get('port') or 5432}"


def _asyncpg_dsn(url: URL) -> str:
    """The same address as asyncpg reads it, which takes a parameter it does not know for a server setting."""
    unknown = [name for name in url.query if name not in _ASYNCPG_KNOWS]
    plain = url.set(drivername="postgresql").difference_update_query(unknown)
    return plain.render_as_string(hide_password=False)

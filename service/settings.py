"""What the service is told at start: the only reader of the environment."""

from __future__ import annotations

import os
from dataclasses import dataclass
from enum import StrEnum

BODY_BYTES_MAX = 1 << 20


class ClockKind(StrEnum):
    """Where time comes from: the machine, or `POST /v1/clock` for simulated stores."""

    SYSTEM = "system"
    EXTERNAL = "external"


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of one service process."""

    database_url: str = "sqlite:///rialto.db"
    clock: ClockKind = ClockKind.SYSTEM
    body_bytes_max: int = BODY_BYTES_MAX
    publishable_rate_per_s: float = 200.0  # per publishable key and client address
    publishable_burst: int = 2000
    sticky_max: int = 50_000  # committed assignments kept in memory
    fold_in_process: bool = False  # compute folds in a process of their own, as `rialto serve` does
    queue_max: int = 8192  # requests that may wait for their commit
    drain_s: float = 10.0  # from SIGTERM to the end, whatever happens
    workers: int = 1
    worker_no: int = 0  # of this process; given by the supervisor
    metrics_dir: str | None = None  # where workers share what they count; given by the supervisor
    trusted_proxies: str = "127.0.0.1"  # whose X-Forwarded-For names the client, by commas
    state_dir: str | None = None  # of the last policy set; beside the ledger if not given
    log_level: str = "info"
    otel_endpoint: str | None = None  # OTLP over HTTP, e.g. http://collector:4318


def database_url() -> str:
    """RIALTO_DATABASE, or a file in the working directory."""
    return os.environ.get("RIALTO_DATABASE", "sqlite:///rialto.db")


def service_url() -> str:
    """RIALTO_URL, or this machine's default port."""
    return os.environ.get("RIALTO_URL", "http://127.0.0.1:8000")


def api_key() -> str | None:
    """RIALTO_KEY, if set."""
    return os.environ.get("RIALTO_KEY")


def otel_endpoint() -> str | None:
    """RIALTO_OTEL_ENDPOINT, if set."""
    return os.environ.get("RIALTO_OTEL_ENDPOINT") or None

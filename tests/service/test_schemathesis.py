"""The OpenAPI document is true: requests made from it, right and wrong, are answered as it says.

Every check of Schemathesis is on (that is its default) but the one that needs two identities, which
`test_access.py` has. Off for single calls, listed below, is what a schema cannot say: a rule between fields
(exactly one control; a cursor is one we gave) refuses data that fits the schema, and a list answers a wrong
item in its place, with 200.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tests.service.conftest import ServiceProcess, clean_environment

MAX_TIME_S = 25
RULES_BETWEEN_FIELDS = (
    "GET /v1/experiments",  # cursor
    "GET /v1/keys",  # cursor
    "GET /v1/ledger/decisions",  # cursor
    "GET /v1/ledger/events",  # cursor
    "GET /v1/experiments/{key}/analyses",  # cursor
    "POST /v1/experiments/{key}/analyses",  # which experiments may be pooled; a time limit of 1h at most
    "PATCH /v1/experiments/{key}",  # the document is checked when merged
    "PATCH /v1/store",  # the settings are
    "POST /v1/assign",  # unit_id or ids; variant with mode forced only
    "POST /v1/clock",  # between 1970 and 9000
    "POST /v1/events",  # who it is about
    "POST /v1/experiments",  # exactly one control
    "POST /v1/plan",  # shop or measured, and what the objective needs of it
    "POST /v1/keys",  # scopes are not for publishable keys
)
ANSWERED_ITEM_BY_ITEM = ("POST /v1/assign/batch", "POST /v1/events")


def settings(key: str) -> str:
    lines = [
        f'[auth.openapi.key]\napi_key = "{key}"',
        f'[auth.openapi.bearer]\nbearer = "{key}"',
        # 412 is the answer to an If-Match that cannot be an ETag, as to one that is old.
        "[checks]",
        "object_level_authorization.enabled = false",
        "missing_required_header.expected-statuses = [401, 428]",
        'positive_data_acceptance.expected-statuses = ["2xx", 401, 403, 404, 409, 412, 429]',
        "negative_data_rejection.expected-statuses = [400, 401, 403, 404, 405, 409, 412, 413, 428, 429]",
    ]
    for name in sorted({*RULES_BETWEEN_FIELDS, *ANSWERED_ITEM_BY_ITEM}):
        lines.append(f'[[operations]]\ninclude-name = "{name}"')
        if name in RULES_BETWEEN_FIELDS:
            lines.append("checks.positive_data_acceptance.enabled = false")
        if name in ANSWERED_ITEM_BY_ITEM:
            lines.append("checks.negative_data_rejection.enabled = false")
    return "\n".join(lines)


def test_the_document_is_true(start_service: Callable[..., ServiceProcess], tmp_path: Path) -> None:
    service = start_service(init=("--scopes", "assign,events,read,write,admin,import"))
    (tmp_path / "schemathesis.toml").write_text(settings(service.keys["secret_key"]))
    found = subprocess.run(
        [
            *(str(Path(sys.executable).with_name("schemathesis")), "run"),
            f"{service.url}/schema/openapi.json",
            *("--phases", "coverage,fuzzing,stateful", "--max-examples", "10"),
            *("--seed", "1", "--generation-deterministic"),
            *("--max-time", str(MAX_TIME_S), "--suppress-health-check", "all", "--no-color"),
        ],
        cwd=tmp_path,
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=MAX_TIME_S + 60,
    )
    assert found.returncode == 0, found.stdout[-20_000:] + found.stderr[-2_000:]
    assert "Selected: 45/45" in found.stdout, found.stdout[-2_000:]

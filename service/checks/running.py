"""A running service, seen from outside: reachable, ready, of this version, serving what the ledger says."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from email.utils import parsedate_to_datetime
from importlib.metadata import version

import httpx

from service.checks.contents import clock
from service.checks.finding import Finding, bad, ok, warn

ANSWER_S = 10
_SAMPLE = re.compile(r"^rialto_policy_version(_published)?\{(.*)\} (\d+)$", re.MULTILINE)
_VERSION = re.compile(r'^rialto_build_info\{version="([^"]+)"', re.MULTILINE)


def running(url: str) -> Iterator[Finding]:
    """Check the service at an address."""
    with httpx.Client(base_url=url, timeout=ANSWER_S) as client:
        try:
            asked = time.time()
            answer = client.get("/health/live")
        except httpx.HTTPError as error:
            yield bad("service", f"{url}: {error}", "start `rialto serve`, or correct --url")
            return
        yield ok("service", f"{url} answers in {1000 * answer.elapsed.total_seconds():.0f} ms")
        if date := answer.headers.get("date"):
            ahead_s = parsedate_to_datetime(date).timestamp() - asked
            finding = clock(0.0 if -1.5 < ahead_s < 1.5 else ahead_s)  # the header has whole seconds
            yield Finding("clock of the service", finding.state, finding.found, finding.remedy)
        yield _readiness(client)
        yield from _figures(client)


def _readiness(client: httpx.Client) -> Finding:
    answer = client.get("/health/ready")
    if answer.status_code == 200:
        status = str(answer.json().get("status", "ok"))
        if status in ("ok", "ready"):
            return ok("readiness", status)
        return warn("readiness", f"{status}: {answer.text[:500]}", "see which check is not well, and its log")
    detail = answer.json().get("detail", "") if "json" in answer.headers.get("content-type", "") else ""
    return bad("readiness", f"{answer.status_code} {detail}", "see the service's log")


def _figures(client: httpx.Client) -> Iterator[Finding]:
    text = client.get("/metrics").text
    found, ours = _VERSION.search(text), version("rialto")
    theirs = found.group(1) if found else "unknown"
    if theirs == ours:
        yield ok("version", ours)
    else:
        yield warn("version", f"the service is {theirs}, this is {ours}", "run both from one installation")
    yield followed(text)


def followed(text: str) -> Finding:
    """Check that every process serves the newest policy versions."""
    served: dict[str, int] = {}
    published: dict[str, int] = {}
    for is_published, labels, number in _SAMPLE.findall(text):
        names = ",".join(part for part in labels.split(",") if not part.startswith("worker="))
        into: dict[str, int] = published if is_published else served
        into[names] = min(into.get(names, int(number)), int(number))
    behind = _behind(served, published)
    if behind:
        remedy = "ask again in a few seconds; if it stays, see the log for the connection that listens"
        return warn("policies served", f"an older version than the ledger's: {', '.join(behind)}", remedy)
    return ok("policies served", f"{len(served)} experiments, the ledger's versions")


def _behind(served: Mapping[str, int], published: Mapping[str, int]) -> list[str]:
    return sorted(names for names, number in served.items() if number < published.get(names, number))

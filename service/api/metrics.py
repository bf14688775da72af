"""`GET /metrics`: what the service counts, and how far behind its ledger's jobs are."""

from __future__ import annotations

import asyncio
import logging

from litestar import Response

from service.api.routing import AnyRequest, call
from service.context import Service, service_of
from service.exposition import MEDIA_TYPE, Family
from service.gauges import ledger_families

LEDGER_S_MAX = 2.0
"""A scraper gives up after ten seconds: it gets the process's own figures long before."""
log = logging.getLogger(__name__)


@call("GET", "/metrics", scope=None, summary="Counts for Prometheus", media_type="text/plain")
async def metrics(request: AnyRequest) -> Response[bytes]:
    """Expose the counts in Prometheus' text format."""
    service = service_of(request)
    ledger = await _of_ledger(service)
    content = await asyncio.to_thread(service.metrics.exposition, ledger)
    return Response(content.encode(), media_type=MEDIA_TYPE)


async def _of_ledger(service: Service) -> list[Family]:
    """What the ledger says; when it does not answer, that."""
    try:
        found = await asyncio.wait_for(
            service.read(lambda c: ledger_families(c, service.clock)), LEDGER_S_MAX
        )
        is_up = 1.0
    except Exception as error:
        log.warning("the ledger could not be read for /metrics: %s", type(error).__name__, exc_info=error)
        found, is_up = [], 0.0
    return [Family("rialto_ledger_up", "Whether the ledger answers.", "gauge", {(): [is_up]}), *found]


router = [metrics]

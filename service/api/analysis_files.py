"""The draws of an analysis as files, for notebooks on another machine than the service's."""

from __future__ import annotations

import asyncio
import os

from litestar import Response
from litestar.datastructures import ETag
from litestar.response import File

from service.api.analyses import live_of, number_of
from service.api.routing import AnyRequest, call
from service.context import service_of
from service.jobs.analysing import NETCDF, PARQUET, draws_folder
from service.keys import Scope
from service.ledger import analyses
from service.ledger.analyses import State
from service.problems import Problem, conflict, not_found

NETCDF_TYPE, PARQUET_TYPE = "application/x-netcdf", "application/vnd.apache.parquet"


@call(
    "GET",
    "/v1/experiments/{key:str}/analyses/{analysis_id:str}/draws.nc",
    scope=Scope.READ,
    summary="The draws of an analysis that is done, as ArviZ opens them",
    media_type=NETCDF_TYPE,
    problems=(404, 409),
    etag=True,
)
async def get_draws(request: AnyRequest, key: str, analysis_id: str) -> Response[bytes] | File:
    """Send the NetCDF file: every parameter of every stage, with its chains, draws and named coordinates."""
    return await _file(request, key, analysis_id, NETCDF, NETCDF_TYPE)


@call(
    "GET",
    "/v1/experiments/{key:str}/analyses/{analysis_id:str}/draws.parquet",
    scope=Scope.READ,
    summary="The draws of an analysis that is done, as a table",
    media_type=PARQUET_TYPE,
    problems=(404, 409),
    etag=True,
)
async def get_table(request: AnyRequest, key: str, analysis_id: str) -> Response[bytes] | File:
    """Send the Parquet file: a row for each draw and cell, with its variant and segment."""
    return await _file(request, key, analysis_id, PARQUET, PARQUET_TYPE)


async def _file(
    request: AnyRequest, key: str, analysis_id: str, name: str, media_type: str
) -> Response[bytes] | File:
    """A file of draws, in pieces; it never changes, so that an ETag known to the client spares sending it."""
    live = live_of(request, key)
    service, number = service_of(request), number_of(analysis_id)
    row = await service.read(lambda c: analyses.find(c, live.experiment_no, number))
    if row is None:
        raise not_found("analysis", analysis_id)
    if row.state != State.DONE:
        raise conflict("no_draws", f"analysis {analysis_id} is {row.state}: one that is done has draws")
    path = draws_folder(service.settings, number, row.attempt) / name
    try:
        stat = await asyncio.to_thread(os.stat, path)
    except OSError as error:
        detail = f"{path} is not on this machine: deleted, or kept by the replica that ran the analysis"
        raise Problem(404, "draws_not_here", detail) from error
    etag = f"{number}-{row.attempt}-{stat.st_mtime_ns:x}-{stat.st_size:x}"
    if f'"{etag}"' in request.headers.get("if-none-match", ""):
        return Response(b"", status_code=304, headers={"ETag": f'"{etag}"'})
    filename = f"{key}-{number}-{name}"
    return File(path, filename=filename, media_type=media_type, etag=ETag(value=etag), stat_result=stat)


router = [get_draws, get_table]

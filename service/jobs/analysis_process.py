"""The process of one analysis: reads its request, fits the pooled model, keeps the draws, answers, ends."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from experiments.analysis.maturity import matured
from experiments.model import PolicyKind
from experiments.pooled.data import Place, pooled_data
from service.catalogue import LiveExperiment, load_store
from service.clock import to_datetime
from service.jobs.analysing import NETCDF, PARQUET, AnalysisAnswer, AnalysisRequest
from service.jobs.fold_process import where_of
from service.ledger.analyses import State, failure
from service.ledger.cells import read_cells
from service.ledger.database import Database


def main() -> None:
    """Answer one request."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the service ends us
    os.nice(10)
    request = msgspec.json.decode(sys.stdin.buffer.readline(), type=AnalysisRequest)
    threading.Thread(target=_end_with_service, name="lifeline", daemon=True).start()
    output = sys.stdout.buffer
    with contextlib.redirect_stdout(sys.stderr):  # whatever a library prints is no answer
        answer = answer_to(request)
    output.write(msgspec.json.encode(answer))
    output.flush()
    os._exit(0)  # not waiting for the lifeline, nor for threads of the sampler


def answer_to(request: AnalysisRequest) -> AnalysisAnswer:
    """The analysis; what goes wrong is said by its kind and place alone, since a message may quote data."""
    try:
        return _analysed(request)
    except ImportError as error:
        detail = f"{error.name} is missing: pip install 'rialto[analysis]' where the service runs"
        return AnalysisAnswer(State.FAILED, failure("not_installed", detail))
    except OSError as error:
        detail = f"the draws cannot be kept in {request.folder}: {error.strerror or type(error).__name__}"
        return AnalysisAnswer(State.FAILED, failure("cannot_keep", detail))
    except Exception as error:
        return AnalysisAnswer(State.FAILED, failure("defect", f"{type(error).__name__} at {where_of(error)}"))


def _analysed(request: AnalysisRequest) -> AnalysisAnswer:
    from experiments.pooled.analyse import analyse
    from experiments.pooled.keeping import arviz_of, columns_of, document_of
    from experiments.pooled.sampling import Sampling

    places, variants = _read(request)
    if any(live.experiment.policy.kind is PolicyKind.CONTEXTUAL for live, _ in places):
        detail = "each shopper had shares of his own, which counts by segment cannot undo: read the report"
        return AnalysisAnswer(State.REFUSED, failure("contextual", detail))
    data = pooled_data([place for _, place in places], variants)
    found = analyse(data, seed=request.seed, settings=Sampling(draws=int(request.settings["draws"])))
    document = document_of(found)
    result: dict[str, Any] = {"reasons": document.pop("refused"), **document, "files": None}
    result["currency"] = places[0][0].experiment.currency
    if found.refused:
        return AnalysisAnswer(State.REFUSED, result)
    result["files"] = keep(Path(request.folder), arviz_of(found), columns_of(found))
    return AnalysisAnswer(State.DONE, result)


def _read(request: AnalysisRequest) -> tuple[list[tuple[LiveExperiment, Place]], Sequence[str]]:
    """The experiments as places, the one asked for first, and its variants, the control first."""
    database = Database(request.database_url)
    try:
        with database.read() as connection:
            store = load_store(connection, request.store_no)
            by_no = {live.experiment_no: live for live in store.experiments.values()}
            wanted = [by_no[request.experiment_no], *(store.experiments[k] for k in request.settings["with"])]
            first = wanted[0].experiment
            variants = [first.control.key, *(v.key for v in first.variants if not v.is_control)]
            return [
                (live, _place(live, read_cells(connection, live), variants, request)) for live in wanted
            ], variants
    finally:
        database.close()


def _place(
    live: LiveExperiment, cells: Sequence[Any], variants: Sequence[str], request: AnalysisRequest
) -> Place:
    is_moving = live.experiment.policy.kind is not PolicyKind.FIXED
    only_matured = request.settings["matured"]
    if is_moving if only_matured is None else only_matured:
        window = live.experiment.attribution_window
        cells = matured(cells, window, live.time_zone, to_datetime(request.now_us))
    known = [cell for cell in cells if cell.key.variant in variants]
    return Place(live.key, live.experiment.touchpoint, known, is_moving)


def keep(folder: Path, draws: Any, columns: dict[str, Any]) -> dict[str, str]:
    """Write the draws for notebooks: NetCDF as ArviZ opens it, and a table in Parquet."""
    import pyarrow
    from pyarrow import parquet

    from experiments.pooled.keeping import Labels

    def arrow(column: Any) -> Any:
        if not isinstance(column, Labels):
            return pyarrow.array(column)
        return pyarrow.DictionaryArray.from_arrays(column.codes, list(column.names)).cast(pyarrow.string())

    folder.mkdir(parents=True, exist_ok=True)
    netcdf, table = folder / NETCDF, folder / PARQUET
    draws.to_netcdf(str(netcdf), engine="h5netcdf")
    parquet.write_table(pyarrow.table({name: arrow(column) for name, column in columns.items()}), table)
    return {"netcdf": str(netcdf), "parquet": str(table)}


def _end_with_service() -> None:
    """The service never writes again: when the pipe ends, so has it."""
    while os.read(0, 1):
        pass
    os._exit(1)


if __name__ == "__main__":
    main()

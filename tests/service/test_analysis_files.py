"""Draws of an analysis over HTTP: whose they are, in pieces, once, and what is said when they are not there.

The files are written here as a fit would; `test_analyses` opens those of a real one.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from service.api.analysis_files import NETCDF_TYPE, PARQUET_TYPE
from service.jobs.analysing import draws_folder
from service.ledger import analyses
from service.ledger.analyses import State
from tests.service.conftest import Shop, document

FILES = {"draws.nc": NETCDF_TYPE, "draws.parquet": PARQUET_TYPE}
CONTENT = os.urandom(3_000_001)  # of several pieces


def ended(shop: Shop, state: State, *, experiment: int = 1, attempts: int = 1) -> tuple[int, Path]:
    """An analysis that ended so after some attempts: its number, and the folder of its draws.

    In one transaction, so that the service never sees one to run.
    """
    with shop.database.write() as connection:
        number = analyses.queue(connection, 1, experiment, {"time_limit_s": 60}, 0)
        for turn in range(attempts):
            mine = analyses.claim(connection, turn * (analyses.LEASE_US + 1))
            assert mine is not None
            assert mine.analysis_no == number
        assert analyses.finish(connection, mine, state, {}, 0)
    app: Any = shop.client.app
    return number, draws_folder(app.state.service.settings, number, attempts)


def path_of(number: int, name: str, experiment: str = "checkout-addon") -> str:
    return f"/v1/experiments/{experiment}/analyses/{number}/{name}"


@pytest.fixture
def trading(shop: Shop) -> Shop:
    """A shop with an experiment."""
    shop.running()
    return shop


def test_a_file_is_sent_whole_with_its_type_and_name(trading: Shop) -> None:
    number, folder = ended(trading, State.DONE)
    folder.mkdir(parents=True)
    reader = trading.key_with("read")
    for name, media_type in FILES.items():
        (folder / name).write_bytes(CONTENT)
        answer = trading.get(path_of(number, name), key=reader)
        assert answer.status_code == 200, answer.text
        assert answer.content == CONTENT
        assert answer.headers["content-type"] == media_type
        assert answer.headers["content-length"] == str(len(CONTENT))
        named = f'attachment; filename="checkout-addon-{number}-{name}"'
        assert answer.headers["content-disposition"] == named


def test_who_has_it_already_is_not_sent_it_again(trading: Shop) -> None:
    number, folder = ended(trading, State.DONE)
    folder.mkdir(parents=True)
    (folder / "draws.nc").write_bytes(b"one")
    etag = trading.get(path_of(number, "draws.nc")).headers["etag"]
    again = trading.get(path_of(number, "draws.nc"), headers={"If-None-Match": etag})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", etag)
    (folder / "draws.nc").write_bytes(b"other")
    assert trading.get(path_of(number, "draws.nc"), headers={"If-None-Match": etag}).content == b"other"


def test_the_draws_are_those_of_the_attempt_that_ended(trading: Shop) -> None:
    """A replica that lost its lease may still write, into a folder of its own."""
    number, folder = ended(trading, State.DONE, attempts=2)
    assert folder.name == f"{number}-2"
    lost = folder.with_name(str(number))
    for place, content in ((lost, b"lost"), (folder, b"finished")):
        place.mkdir(parents=True)
        (place / "draws.parquet").write_bytes(content)
    assert trading.get(path_of(number, "draws.parquet")).content == b"finished"


def test_what_has_no_draws_says_why(trading: Shop) -> None:
    refused, _ = ended(trading, State.REFUSED)
    done, folder = ended(trading, State.DONE)
    for name in FILES:
        for path, status, code in (
            (path_of(refused, name), 409, "no_draws"),
            (path_of(done, name), 404, "draws_not_here"),
            (path_of(done + 1, name), 404, "analysis_not_found"),
            (path_of(done, name, "ghost"), 404, "experiment_not_found"),
            (path_of(done, "passwords"), 404, "no_such_route"),
        ):
            answer = trading.get(path)
            assert (answer.status_code, answer.json()["code"]) == (status, code), path
    assert str(folder) in trading.get(path_of(done, "draws.nc")).json()["detail"]


def test_another_experiment_or_store_has_not_these_draws(trading: Shop) -> None:
    number, folder = ended(trading, State.DONE)
    folder.mkdir(parents=True)
    (folder / "draws.nc").write_bytes(b"ours")
    trading.running("elsewhere", touchpoint="cart")
    assert trading.get(path_of(number, "draws.nc", "elsewhere")).status_code == 404
    theirs = trading.other.secret_key
    assert trading.get(path_of(number, "draws.nc"), key=theirs).status_code == 404
    assert trading.post("/v1/experiments", document(), key=theirs).status_code == 201
    assert trading.get(path_of(number, "draws.nc"), key=theirs).json()["code"] == "analysis_not_found"

"""The pooled model through the service: asked for, run beside it, refused, cancelled, taken over."""

from __future__ import annotations

import io
import os
import time
import warnings
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import numpy as np
import pytest
from sqlalchemy import select

from service.analysis_command import FILES, lines_of
from service.api.analyses import AnalysisWanted, _wanted, number_of
from service.jobs.analysing import AnalysisRequest, folder_of
from service.jobs.analysis_process import answer_to
from service.ledger import analyses, schema
from service.ledger.analyses import ATTEMPTS_MAX, LEASE_US, Claim, QueueFull, State
from service.ledger.database import Database
from service.problems import Problem
from service.settings import Settings
from tests.processes import eventually
from tests.service.conftest import Shop, document
from tests.service.test_definitions import bought, enrol, send

PATH = "/v1/experiments/checkout-addon/analyses"
pytest.importorskip("pymc", reason="it is in the extra `analysis`")


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Database]:
    database = Database(f"sqlite:///{tmp_path / 'ledger.db'}")
    database.migrate()
    yield database
    database.close()


def queued(ledger: Database, *, experiment: int = 1, **settings: Any) -> int:
    with ledger.write() as connection:
        return analyses.queue(connection, 1, experiment, {"time_limit_s": 60, **settings}, 0)


def claimed(ledger: Database, now_us: int) -> Claim | None:
    with ledger.write() as connection:
        return analyses.claim(connection, now_us)


def state(ledger: Database, number: int) -> str:
    with ledger.read() as connection:
        return connection.scalar(
            select(schema.analysis.c.state).where(schema.analysis.c.analysis_no == number)
        )


def test_one_runs_at_a_time_in_the_order_asked(ledger: Database) -> None:
    first, second = queued(ledger), queued(ledger, draws=2)
    mine = claimed(ledger, 0)
    assert mine is not None
    assert mine.analysis_no == first
    assert claimed(ledger, 1) is None, "another service asks while it runs"
    with ledger.write() as connection:
        assert analyses.finish(connection, mine, State.DONE, {}, 2)
    after = claimed(ledger, 3)
    assert after is not None
    assert after.analysis_no == second


def test_a_lease_that_ran_out_goes_back_and_its_late_result_is_refused(ledger: Database) -> None:
    number = queued(ledger)
    lost = claimed(ledger, 0)
    assert lost is not None
    with ledger.write() as connection:
        assert analyses.renew(connection, lost, 5)
        assert not analyses.is_due(connection, 5 + LEASE_US)
        assert analyses.is_due(connection, 6 + LEASE_US)
    mine = claimed(ledger, 6 + LEASE_US)
    assert mine is not None
    assert (mine.analysis_no, mine.attempt) == (number, 2)
    with ledger.write() as connection:
        assert not analyses.renew(connection, lost, 7 + LEASE_US)
        assert not analyses.finish(connection, lost, State.DONE, {"by": "who lost it"}, 8 + LEASE_US)
        assert analyses.finish(connection, mine, State.DONE, {"by": "who took over"}, 9 + LEASE_US)
        assert analyses.find(connection, 1, number).result == {"by": "who took over"}  # type: ignore[union-attr]


def test_one_that_ends_its_service_each_time_is_given_up(ledger: Database) -> None:
    number = queued(ledger)
    for turn in range(ATTEMPTS_MAX):
        assert claimed(ledger, turn * (LEASE_US + 1)) is not None
    assert claimed(ledger, ATTEMPTS_MAX * (LEASE_US + 1)) is None
    assert state(ledger, number) == State.FAILED


def test_a_cancelled_one_is_never_finished(ledger: Database) -> None:
    number = queued(ledger)
    mine = claimed(ledger, 0)
    assert mine is not None
    with ledger.write() as connection:
        assert analyses.cancel(connection, 1, number, 1) is State.CANCELLED
        assert not analyses.is_mine(connection, mine)
        assert not analyses.finish(connection, mine, State.DONE, {}, 2)
        assert analyses.cancel(connection, 1, number, 3) is State.CANCELLED
        assert analyses.cancel(connection, 2, number, 3) is None, "of another experiment"


def test_the_same_is_not_queued_twice_and_not_without_end(ledger: Database) -> None:
    assert queued(ledger) == queued(ledger)
    for draws in range(analyses.WAITING_MAX - 1):
        queued(ledger, draws=draws)
    with pytest.raises(QueueFull):
        queued(ledger, draws=-1)


def test_the_defaults_and_wholenumber_ofs_are_read_as_json_means_them() -> None:
    assert _wanted(b"") == _wanted(b" null ") == _wanted(b"{}") == AnalysisWanted()
    assert _wanted(b'{"draws": 500.0}') == AnalysisWanted(draws=500)
    for body in (b'{"draws": 500.5}', b"[]", b"5", b'{"draws": 1e9}'):
        with pytest.raises(Problem) as refused:
            _wanted(body)
        assert refused.value.status == 400


def test_ids_that_are_none_exist_nowhere() -> None:
    assert number_of("12") == 12
    for text in ("x", "-1", "1" * 19, "١"):
        with pytest.raises(Problem) as refused:
            number_of(text)
        assert refused.value.status == 404


def test_draws_lie_beside_the_last_policy_set(tmp_path: Path) -> None:
    assert folder_of(Settings(database_url=f"sqlite:///{tmp_path}/shop.db")) == tmp_path / "shop.db.analyses"
    elsewhere = folder_of(Settings(database_url="postgresql://host/shop", state_dir=str(tmp_path)))
    assert elsewhere.parent == tmp_path
    assert elsewhere.name.startswith("analyses-policies-")


@pytest.fixture
def trading(shop: Shop) -> Shop:
    """A shop with an experiment whose units buy, some of whom send back."""
    shop.running(attribution_window="1d", refund_window="1d")
    return shop


def ended(shop: Shop, number: str) -> dict[str, Any]:
    until = time.monotonic() + 900
    while True:
        found = shop.get(f"{PATH}/{number}").json()
        if found["state"] not in ("queued", "running") or time.monotonic() > until:
            return found
        time.sleep(0.2)


def fitting() -> int:
    """How many processes of this one fit a model."""
    found = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has just ended
            parent = int(stat.read_text("utf-8").rpartition(")")[2].split()[1])
            command = stat.with_name("cmdline").read_bytes()
            found += parent == os.getpid() and b"service.jobs.analysis_process" in command
    return found


def test_too_little_is_refused_with_the_reason(trading: Shop) -> None:
    asked = trading.post(PATH)
    assert asked.status_code == 202, asked.text
    assert asked.json()["settings"] == {"matured": None, "with": [], "draws": 1000, "time_limit_s": 900}
    found = ended(trading, asked.json()["id"])
    assert found["state"] == "refused", found
    assert [reason["code"] for reason in found["reasons"]] == ["not_comparable"]
    assert found["result"]["variants"] == []
    listed = trading.get(PATH).json()
    assert [(item["id"], item["result"]) for item in listed["items"]] == [(found["id"], None)]
    assert trading.call("DELETE", f"{PATH}/{found['id']}").json()["code"] == "ended"


def trade(shop: Shop) -> tuple[dict[str, str], list[str], list[str]]:
    """800 visitors, a fourth buys, a fifth of these sends it back: variants, buyers, who sent back."""
    assigned = enrol(shop, [f"v{number}" for number in range(800)])
    buyers = list(assigned)[::4]
    send(shop, [bought(unit, 5000 + 37 * n, cost=3000) for n, unit in enumerate(buyers)])
    back = buyers[::5]
    send(shop, [{"event_id": f"r-{unit}", "type": "refund", "order_id": unit} for unit in back])
    return assigned, buyers, back


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_figures_and_files_of_a_shop_that_trades(trading: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Conversion, refunds and margin near what was traded; the draws over HTTP are those of the figures."""
    # What is compiled stays with what other tests compile: half of the time from the second run on.
    monkeypatch.setenv("PYTENSOR_FLAGS", "")
    assigned, buyers, back = trade(trading)
    number = trading.post(PATH, {"matured": False}).json()["id"]
    found = ended(trading, number)
    assert found["state"] == "done", found
    result = found["result"]
    of = {variant["key"]: variant["metrics"] for variant in result["variants"]}
    assert of.keys() == {"none", "socks"}
    for key, metrics in of.items():
        units, bought_by, back_by = (
            sum(assigned[unit] == key for unit in part) for part in (assigned, buyers, back)
        )
        for metric, raw in (("conversion_rate", bought_by / units), ("refund_rate", back_by / bought_by)):
            assert metrics[metric]["raw"] == pytest.approx(raw)
            width = metrics[metric]["ci_high"] - metrics[metric]["ci_low"]
            assert abs(metrics[metric]["value"] - raw) < width, "four posterior sd"
    assert sum(metrics["margin_per_unit"]["prob_best"] for metrics in of.values()) == pytest.approx(1)
    assert any("analysis" in line for line in lines_of(found))
    sent = {name: trading.get(f"{PATH}/{number}/{name}") for name in FILES}
    assert all(answer.status_code == 200 for answer in sent.values())
    assert [Path(path).name for path in result["files"].values()] == list(FILES)
    check_draws(sent["draws.nc"].content, sent["draws.parquet"].content, of)


def check_draws(netcdf: bytes, table: bytes, of: dict[str, Any]) -> None:
    """Both files give the conversion that stands among the figures, from the draws of its logit."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of ArviZ, about its own future
        import arviz
        from pyarrow import parquet
    with NamedTemporaryFile(suffix=".nc") as file:
        file.write(netcdf)
        file.flush()
        eta = arviz.from_netcdf(file.name).posterior["conversion_eta"]
        rates = 1 / (1 + np.exp(-eta.values))
        by_cell = dict(zip(eta.coords["cell"].values, rates.mean(axis=(0, 1)), strict=True))
    assert eta.shape == (4, 1000, 2)
    rows = parquet.read_table(io.BytesIO(table)).to_pandas()
    assert len(rows) == 8000
    for key, metrics in of.items():
        told = metrics["conversion_rate"]["value"]
        (cell,) = (cell for cell in by_cell if cell.startswith(f"{key}/checkout-addon/"))
        assert by_cell[cell] == pytest.approx(told, rel=1e-9)
        logits = rows[rows["variant"] == key]["conversion_eta"]
        assert (1 / (1 + np.exp(-logits))).mean() == pytest.approx(told, rel=1e-9)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="its process is looked up in /proc")
def test_one_that_runs_is_ended_when_it_is_cancelled(trading: Shop) -> None:
    trade(trading)
    number = trading.post(PATH, {"matured": False, "draws": 10_000}).json()["id"]
    eventually(lambda: fitting() == 1, within_s=100)
    cancelled = trading.call("DELETE", f"{PATH}/{number}")
    assert cancelled.json()["state"] == "cancelled"
    eventually(lambda: fitting() == 0, within_s=100)
    assert trading.get(f"{PATH}/{number}").json()["state"] == "cancelled"


def test_what_is_wrong_with_a_request_is_named(trading: Shop) -> None:
    for body, pointer in (
        ({"draws": 5}, "/draws"),
        ({"with": ["ghost"]}, "/with/0"),
        ({"with": ["checkout-addon"]}, "/with/0"),
        ({"time_limit": "2h"}, "/time_limit"),
        ({"time_limit": "soon"}, "/time_limit"),
        ({"speed": 1}, "/speed"),
    ):
        answer = trading.post(PATH, body)
        assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (400, pointer), body
    other = document("elsewhere", currency="USD", touchpoint="cart")
    assert trading.post("/v1/experiments", other).status_code == 201
    assert trading.post(PATH, {"with": ["elsewhere"]}).json()["errors"][0]["code"] == "not_poolable"
    assert trading.get(f"{PATH}/77").status_code == 404
    assert trading.call("DELETE", f"{PATH}/77").status_code == 404


def test_a_defect_says_its_kind_and_place_and_no_data(tmp_path: Path) -> None:
    request = AnalysisRequest(f"sqlite:///{tmp_path / 'none.db'}", 1, 1, 0, str(tmp_path), 1, {"with": []})
    answer = answer_to(request)
    assert answer.state is State.FAILED
    assert answer.result["reasons"][0]["code"] == "defect"

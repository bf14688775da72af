"""What `rialto export` writes, read as a log: units, revenue and margin are those of the service's report."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiments.off_policy.estimators import Estimator
from service.archive.export import Wanted, export
from sim.fitting.export import read_export as read_for_fit
from sim.fitting.mapping_reader import parse_mapping as parse_fit_mapping
from sim.ope.dealing import Options
from sim.ope.errors import MissingLibrary
from sim.ope.export import read_export
from sim.ope.loading import load
from sim.ope.mapping import ExportMapping
from sim.ope.mapping_reader import parse_mapping
from sim.ope.policies import candidate_of
from sim.ope.run import run
from sim.replay.errors import BadFile
from tests.service.conftest import Shop
from tests.service.conftest import empty_ledger as empty_ledger
from tests.spark.test_spark_metric import live, of_report
from tests.spark.test_spark_metric import shop as shop

duckdb = pytest.importorskip("duckdb", reason="the archive needs DuckDB: pip install 'rialto[archive]'")
EXPERIMENT = "checkout-addon"


def wanted(**changes: Any) -> ExportMapping:
    of = {"experiment": EXPERIMENT, "unit": "customer", "window": "7d", **changes}
    found = parse_mapping({"export": of}).export
    assert found is not None
    return found


def totals(exported: Path) -> dict[str, tuple[int, int, int, int]]:
    """By variant: units, buyers, net revenue, margin."""
    logs = [
        read_export(exported, wanted(metric=metric), ()) for metric in ("conversion", "revenue", "margin")
    ]
    found: dict[str, tuple[int, int, int, int]] = {}
    for k, label in enumerate(logs[0].labels):
        own = logs[0].actions == k
        found[label] = (int(own.sum()), *(round(log.rewards[own].sum()) for log in logs))
    return found


def test_an_export_says_what_the_report_says(shop: Shop, tmp_path: Path) -> None:
    """Orders, refunds, cancels and adjustments by chance, most archived, of customers with visitors."""
    live(shop, tmp_path / "archive")
    exported = tmp_path / "export"
    export(shop.database, exported, Wanted())
    report = shop.get(f"/v1/experiments/{EXPERIMENT}/report?matured=false").json()
    buyers = {v["key"]: v["metrics"]["conversion_rate"]["numerator"] for v in report["variants"]}
    expected = {
        key: (told["units"], buyers[key], told["net_revenue_minor"], told["margin_minor"])
        for key, told in of_report(shop).items()
    }
    assert totals(exported) == expected
    assert sum(units for units, *_ in expected.values()) > 80
    _decisions_are_those_of_the_ledger(exported)
    _an_evaluation_runs(exported)
    _a_fit_reads_the_same(exported, shop)
    _what_is_lacking_is_told(exported, tmp_path / "part")


def _decisions_are_those_of_the_ledger(exported: Path) -> None:
    files = f"'{exported}/assignments/**/*.parquet', hive_partitioning = true"
    with duckdb.connect() as connection:
        statement = f"SELECT at_us, variant, propensity, candidates FROM read_parquet({files})"
        rows = connection.execute(statement).fetchall()
    log = read_export(exported, wanted(), ())
    assert log.times is not None
    assert log.sets is not None
    columns = (log.times.tolist(), log.actions.tolist(), log.propensities.tolist(), log.sets.tolist())
    found = {
        (time, log.labels[action], propensity, tuple(log.labels[k] for k in log.set_of(code)))
        for time, action, propensity, code in zip(*columns, strict=True)
    }
    known = {
        (at / 1e6, variant, propensity, tuple(label for label in log.labels if label in candidates))
        for at, variant, propensity, candidates in rows
    }
    assert found <= known


def _an_evaluation_runs(exported: Path) -> None:
    mapping = parse_mapping(
        {
            "export": {"experiment": EXPERIMENT, "unit": "customer"},
            "policies": {
                "x": {"kind": "thompson", "control": "none", "burn_in": 5},
                "local": {"kind": "segment", "control": "none", "burn_in": 5},
                "early": {"kind": "thompson", "control": "none", "burn_in": 5, "train": "earlier"},
            },
        }
    )
    options = Options(estimators=(Estimator.SNIPS, Estimator.DR), folds=2)
    for name in ("uniform", "logged", "x", "local", "early"):
        found = run(exported, mapping, candidate_of(name, mapping), options)
        rows = len(load(exported, mapping, None))
        assert found.rows == rows if name != "early" else found.rows < rows
        assert all(np.isfinite(one.value or 0.0) for one in found.evaluation.estimates)


def _a_fit_reads_the_same(exported: Path, shop: Shop) -> None:
    """Persons, and the net revenue of whatever they ordered from their first enrolment on."""
    document = shop.get(f"/v1/experiments/{EXPERIMENT}").json()["document"]
    export_of = {"experiment": EXPERIMENT, "unit": "customer"}
    plain = {"currency": document["currency"], "export": export_of, "experiment": document}
    gathered = read_for_fit(exported, parse_fit_mapping(plain, name="x"))
    log = read_export(exported, wanted(metric="revenue", window="3650d"), ())
    assert len(gathered.visits) == len(log)
    net = sum(
        order.amount - min(order.refunded, order.amount)
        for order in gathered.orders.values()
        if order.unit in gathered.visits and order.at_s >= gathered.visits[order.unit].at_s
    )
    assert net == log.rewards.sum() > 0


def _what_is_lacking_is_told(exported: Path, part: Path) -> None:
    with pytest.raises(BadFile, match="holds no enrolment of experiment 'nobody'"):
        read_export(exported, wanted(experiment="nobody"), ())
    with pytest.raises(BadFile, match="holds no enrolment"):
        read_export(exported, wanted(store="store_of_nobody"), ())
    shutil.copytree(exported, part)
    shutil.rmtree(part / "persons")
    assert len(read_export(part, wanted(), ())) >= len(read_export(exported, wanted(), ()))
    (store,) = (part / "assignments").iterdir()
    shutil.copytree(store, store.with_name("store=other"))
    with pytest.raises(BadFile, match=r"several stores have an experiment .*, one of other, "):
        read_export(part, wanted(), ())
    assert len(read_export(part, wanted(store="other"), ())) > 0
    shutil.rmtree(part / "events")
    with pytest.raises(BadFile, match="holds no events"):
        read_export(part, wanted(store="other"), ())


def test_orders_of_unknown_cost_have_no_margin(shop: Shop, tmp_path: Path) -> None:
    shop.running(unit="customer", attribution_window="7d")
    shop.post("/v1/assign", {"touchpoint": "checkout", "ids": {"customer": "ann"}})
    event = {"event_id": "o1", "type": "order", "order_id": "O1", "currency": "EUR", "amount": 500}
    shop.post("/v1/events", {"events": [event | {"ids": {"customer": "ann"}}]})
    clock = shop.post("/v1/clock", {"now": "2027-06-01T00:00:00+00:00"})
    assert clock.status_code == 200
    export(shop.database, tmp_path / "export", Wanted())
    with pytest.raises(BadFile, match="1 orders have no known cost"):
        read_export(tmp_path / "export", wanted(), ())
    assert read_export(tmp_path / "export", wanted(metric="revenue"), ()).rewards.tolist() == [500.0]


def test_without_duckdb_an_export_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("assignments", "events"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "data.parquet").write_bytes(b"PAR1")
    monkeypatch.setitem(sys.modules, "duckdb", None)
    with pytest.raises(MissingLibrary, match=r"pip install 'rialto\[archive\]'"):
        read_export(tmp_path, wanted(), ())

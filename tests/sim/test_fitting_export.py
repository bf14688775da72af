"""The directory of `rialto export` as a log: enrolments, orders of any id of a person, refunds, answers."""

from pathlib import Path

import pytest

from sim.fitting.mapping_reader import parse_mapping
from sim.fitting.reading import read_log
from sim.replay.errors import BadFile
from tests.sim.fitting_logs import EXPERIMENT

MAPPING = {"currency": "EUR", "export": {"experiment": "socks-test"}, "experiment": EXPERIMENT}
HOUR = 3_600_000_000
EVENTS = f"""SELECT * FROM (VALUES
  (1, 'exposure', 1 * {HOUR}, NULL, 1, NULL, NULL, NULL, NULL, []::BIGINT[], []::INT[]),
  (2, 'accept', 1 * {HOUR}, NULL, 1, NULL, NULL, NULL, NULL, [], []),
  (3, 'order', 2 * {HOUR}, 'o1', NULL, 5000, 3000, NULL, 'EUR', [2], [1]),
  (4, 'refund', 9 * {HOUR}, 'o1', NULL, 2000, NULL, 500, NULL, [], []),
  (5, 'order', 3 * {HOUR}, 'o2', NULL, 700, 300, NULL, 'EUR', [3, 9], [1, 4]),
  (6, 'cancel', 8 * {HOUR}, 'o2', NULL, NULL, NULL, NULL, NULL, [], []),
  (7, 'order_adjusted', 3 * {HOUR}, 'o1', NULL, -400, -100, NULL, 'EUR', [], []),
  (8, 'refund', 9 * {HOUR}, 'o1', NULL, 90, NULL, NULL, 'RON', [], [])
) AS t(event_no, type, occurred_at_us, order_id, decision_unit_no, amount_minor, cost_minor,
  cost_recovered_minor, currency, unit_nos, unit_kinds)"""
ELSEWHERE = f"""SELECT * FROM (VALUES
  (9, 'order_adjusted', 4 * {HOUR}, 'o1', NULL, 7000, 7000, NULL, 'EUR', [1], [1]),
  (10, 'refund', 4 * {HOUR}, 'o1', NULL, 1, NULL, NULL, NULL, [1], [1])
) AS t(event_no, type, occurred_at_us, order_id, decision_unit_no, amount_minor, cost_minor,
  cost_recovered_minor, currency, unit_nos, unit_kinds)"""
"""Another store's order of the same id."""
ASSIGNED = f"""SELECT * FROM (VALUES (1, 1, 'socks', NULL, 1 * {HOUR}), (3, 1, 'none', 'new', 2 * {HOUR}),
  (4, 1, 'none', 'new', 2 * {HOUR})) AS t(unit_no, period, variant, segment, at_us)"""
PERSONS = "SELECT * FROM (VALUES (1, 77), (2, 77)) AS t(unit_no, person_no)"


@pytest.fixture
def export(tmp_path: Path) -> Path:
    duckdb = pytest.importorskip("duckdb", reason="it is in the extra `archive`")
    folder = "store=s1/experiment=socks-test/day=1970-01-01"
    for place, text in (
        (f"events/{folder}", EVENTS),
        (f"events/{folder.replace('s1', 's2')}", ELSEWHERE),
        (f"assignments/{folder}", ASSIGNED),
        ("persons/store=s1", PERSONS),
    ):
        (tmp_path / place).mkdir(parents=True)
        duckdb.sql(text).write_parquet(str(tmp_path / place / "data.parquet"))
    return tmp_path


def test_orders_and_refunds_reach_their_person(export: Path) -> None:
    """Unit 2 is the person of unit 1, so o1 is theirs, 400 less than ordered; o2 is given back whole.

    What another store did under the same id, or in another currency, is not of this order.
    """
    log = read_log(export, parse_mapping(MAPPING, name="x"))
    assert log.variants == ("none", "socks")
    assert [log.variants[code] for code in log.variant] == ["socks", "none", "none"]
    assert (log.order_s[:2] / 3600).tolist() == [2, 3]
    assert log.ordered.tolist() == [True, True, False]
    assert log.amount[:2].tolist() == [4600, 700]
    assert log.cost[:2].tolist() == [2900, 300]
    assert log.refunded.tolist() == [2000, 700, 0]
    assert log.seen.tolist() == log.took.tolist() == [True, False, False]
    assert log.recovered[0] == 500


def test_an_experiment_that_is_not_there_is_told(export: Path) -> None:
    other = MAPPING | {"export": {"experiment": "hats"}}
    with pytest.raises(BadFile, match="no enrolment"):
        read_log(export, parse_mapping(other, name="x"))

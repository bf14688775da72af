"""Units kept from fold to fold: only what has come since is read, and it comes to the same."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from service.ledger import fold_slices, folds, kept_units, marks, schema
from service.ledger.fold_slices import Slice, prepare, write
from service.ledger.kept_units import Kept, KeptUnits
from service.ledger.verify import verify
from tests.service.archives import archive_events, url_of
from tests.service.histories import RULES, History, new_history
from tests.service.oracle import DAY, Assigned, wire_time

MINUTE = 60


class Folder:
    """Folds as the folding process does."""

    def __init__(self, history: History, kept: KeptUnits | None = None) -> None:
        self.database = history.shop.database
        self.kept = KeptUnits() if kept is None else kept
        mine = schema.store.c.key == history.keys.store
        with self.database.read() as connection:
            self.store_no = connection.execute(select(schema.store.c.store_no).where(mine)).scalar_one()

    def prepare(self, units: int = 100) -> list[Slice]:
        with self.database.read() as connection:
            return prepare(connection, self.store_no, units, 2, self.kept)

    def write(self, slices: Iterable[Slice]) -> None:
        for part in slices:
            with self.database.write() as connection:
                write(connection, part)

    def fold(self) -> None:
        while slices := self.prepare():
            self.write(slices)

    def is_exact(self) -> bool:
        """Whether everything is folded, as a fold of everything would."""
        report = verify(self.database)
        return report.is_exact and report.pending_units == 0 and report.pending_orders == 0


@pytest.fixture
def history(empty_ledger: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Generator[History]:
    """A shop where nobody folds, with two visitors and a customer who have their assignment.

    The customer's window begins with her exposure.
    """

    async def nothing(*_: Any) -> int:
        return 0

    history = new_history(tmp_path / "a.db", empty_ledger)
    monkeypatch.setattr("service.jobs.loop.fold_pending", nothing)
    monkeypatch.setattr("service.jobs.loop.abandon_pending", nothing)
    for unit in ("a", "b"):
        history.assign(RULES["by-visitor"], {"unit_id": unit}, [])
    history.assign(RULES["by-customer"], {"ids": {"customer": "k"}}, [])
    yield history
    history.close()


@pytest.fixture
def folder(history: History) -> Folder:
    """One that has folded them all, each with an exposure, and before it a cart and an order."""
    folder = Folder(history)
    history.clock(history.now + 60 * MINUTE)
    for number, made in enumerate(history.made):
        who = {"ids": {made.kind: made.unit}}
        cart = {"type": "cart", **who, "cart_id": f"k{number}"}
        _send(history, f"first {number}", cart, {**_order("", number), **who}, late=40 * MINUTE)
        _send(history, f"seen {number}", _exposure(made), late=30 * MINUTE)
    folder.fold()
    assert folder.is_exact()
    return folder


@pytest.fixture
def folds_made(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The units that are folded from now on."""
    units: list[int] = []

    def fold_unit(rules: Any, facts: Any) -> Any:
        units.extend(enrolment.unit_no for enrolment in facts.enrolments)
        return folded(rules, facts)

    folded = folds.fold_unit
    monkeypatch.setattr(folds, "fold_unit", fold_unit)
    return units


def _exposure(made: Assigned) -> dict[str, Any]:
    return {"type": "exposure", "decision_id": made.decision_id}


def _order(unit: str, number: int) -> dict[str, Any]:
    order = {"type": "order", "order_id": f"o{number}", "amount": 1000, "currency": "EUR", "cost": 400}
    return {**order, "ids": {"visitor": unit}}


def _send(history: History, name: str, *bodies: dict[str, Any], late: int = 0) -> None:
    at = wire_time(history.now - late)
    bodies = tuple(
        {"event_id": f"{name} {number}", "occurred_at": at, **body} for number, body in enumerate(bodies)
    )
    assert history.send(list(bodies)) == [True] * len(bodies)


def _cart() -> dict[str, Any]:
    return {"type": "cart", "ids": {"visitor": "a"}, "cart_id": "k0"}


def _came_later(history: History) -> dict[str, list[dict[str, Any]]]:
    made = history.made[0]
    return {
        "an order": [_order("a", 9)],
        "a refund, which names its order alone": [{"type": "refund", "order_id": "o0", "amount": 300}],
        "a cancel": [{"type": "cancel", "order_id": "o0"}],
        "a correction": [{"type": "order_adjusted", "order_id": "o0", "amount_delta": -10}],
        "a cart given up": [{"type": "abandonment", "ids": {"visitor": "a"}, "cart_id": "k9"}],
        "a click": [{"type": "click", "decision_id": made.decision_id}],
        "a rating": [{"type": "rating", "unit_id": "a", "score": 3, "scale": 5}],
        "a custom event": [{"type": "custom", "unit_id": "a", "name": "signup"}],
        "a link": [{"type": "identify", "unit_id": "c", "anonymous_id": "a"}],
    }


@pytest.mark.parametrize("what", range(9))
@pytest.mark.parametrize("late", [0, 45 * MINUTE])
def test_whatever_comes_later_is_folded(history: History, folder: Folder, what: int, late: int) -> None:
    """Also what occurred before all that was known."""
    name, bodies = list(_came_later(history).items())[what]
    _send(history, name, *bodies, late=late)
    folder.fold()
    assert folder.is_exact(), name
    _send(history, "more", _order("a", 20), {"type": "refund", "order_id": "o20"})
    folder.fold()
    assert folder.is_exact(), name


def test_who_is_folded_as_she_is_waits_for_nothing_more(
    history: History, folder: Folder, folds_made: list[int]
) -> None:
    """A second look at the offer, and at the cart, changes nothing; a click does."""
    _send(history, "again", _exposure(history.made[0]), _cart())
    (only,) = folder.prepare()
    assert (len(only.marks), only.totals, folds_made) == (2, [], [])
    folder.write([only])
    _send(history, "then", {"type": "click", "decision_id": history.made[0].decision_id})
    folder.fold()
    assert len(folds_made) == 1
    assert folder.is_exact()


def test_the_earlier_of_two_exposures_counts_whichever_came_first(history: History, folder: Folder) -> None:
    _send(
        history,
        "before",
        _cart(),
        *(_exposure(made) for made in history.made),
        late=50 * MINUTE,
    )
    folder.fold()
    assert folder.is_exact()


@pytest.mark.parametrize("order_id", ["shared", 'o"1\\2\u00e9'])
def test_an_order_of_two_units_is_restated_for_both_though_one_was_read_later(
    history: History, folder: Folder, order_id: str
) -> None:
    order = {**_order("a", 0), "order_id": order_id, "ids": {"visitor": "a", "customer": "k"}}
    _send(history, "order", order)
    folder.fold()
    assert folder.is_exact()
    _send(history, "rating", {"type": "rating", "ids": {"customer": "k"}, "score": 3, "scale": 5})
    _send(history, "refund", {"type": "refund", "order_id": order_id, "amount": 500})
    folder.write(folder.prepare(units=1))  # the customer alone, who sees the refund
    assert not folder.is_exact()
    folder.fold()
    assert folder.is_exact()


def test_an_event_that_was_archived_before_it_was_folded_counts(
    history: History, folder: Folder, tmp_path: Path
) -> None:
    pytest.importorskip("duckdb", reason="the archive needs DuckDB: pip install 'rialto[archive]'")
    history.clock(history.now + 100 * DAY)
    rating = {"type": "rating", "score": 3, "scale": 5}
    _send(history, "waits", {**rating, "unit_id": "a"}, late=100 * DAY - MINUTE)
    _send(history, "the newest stays", {**rating, "unit_id": "z"})
    history.close()
    assert archive_events(url_of(history), tmp_path / "archive").events > 6
    history.open()
    later = Folder(history, folder.kept)
    later.fold()
    report = verify(later.database, full=True)
    assert report.is_exact, report.examples
    assert report.pending_units == 0


def test_who_enters_another_experiment_is_folded_in_both(history: History, folder: Folder) -> None:
    history.assign(RULES["by-customer"], {"ids": {"customer": "a"}}, [])
    folder.fold()
    assert folder.is_exact()
    _send(history, "then", {**_order("", 30), "ids": {"visitor": "a", "customer": "a"}})
    folder.fold()
    assert folder.is_exact()


@pytest.mark.parametrize("facts_max", [1, 1000])
def test_who_is_linked_counts_once_while_the_mark_of_the_link_waits(
    history: History, folder: Folder, monkeypatch: pytest.MonkeyPatch, facts_max: int
) -> None:
    folder.kept = KeptUnits(facts_max)
    _send(history, "first of what is kept", _order("a", 20))
    folder.fold()
    monkeypatch.setattr(marks, "WINDOW", 1)
    _send(history, "hers", {"type": "rating", "ids": {"customer": "c"}, "score": 3, "scale": 5})
    _send(history, "then", {"type": "click", "decision_id": history.made[0].decision_id})
    _send(history, "link", {"type": "identify", "unit_id": "c", "anonymous_id": "a"})
    (part,) = folder.prepare(units=2)
    assert not part.is_all
    folder.write([part])
    assert verify(folder.database).is_exact
    for number in (30, 31):
        _send(history, f"order {number}", _order("a", number))
        folder.fold()
        assert folder.is_exact()


@pytest.mark.parametrize("written", range(2))
def test_what_was_not_written_is_folded_again(history: History, folder: Folder, written: int) -> None:
    for number, made in enumerate(history.made):
        _send(history, f"then {number}", _order(made.unit, 10 + number))
    history.assign(RULES["by-visitor"], {"unit_id": "z"}, [])
    slices = folder.prepare()
    assert len(slices) == 2
    folder.write(slices[:written])
    folder.fold()
    assert folder.is_exact()


def test_under_new_rules_all_are_folded_again(
    history: History, folder: Folder, folds_made: list[int]
) -> None:
    _send(history, "sign up", {"type": "custom", "unit_id": "a", "name": "trial"})
    folder.fold()
    folds_made.clear()
    path = "/v1/experiments/by-visitor"
    metrics = [{"key": "trials", "kind": "proportion", "event": "trial"}]
    answer = history.shop.patch(path, {"metrics": metrics}, history.shop.get(path).headers["etag"])
    assert answer.status_code == 200, answer.text
    folder.fold()
    assert len(folds_made) == 2
    assert folder.is_exact()


def test_no_more_is_kept_than_asked(history: History) -> None:
    folder = Folder(history, KeptUnits(20))
    for number in range(30):
        history.assign(RULES["by-visitor"], {"unit_id": f"u{number}"}, [])
        _send(history, f"one {number}", _order(f"u{number}", 100 + number))
        _send(history, f"two {number}", _order(f"u{number // 2}", 200 + number))
        folder.fold()
        assert folder.is_exact()
    assert 3 <= len(folder.kept) <= 9


def test_who_has_done_nothing_yet_is_not_kept(history: History, folder: Folder) -> None:
    kept = len(folder.kept)
    history.assign(RULES["by-visitor"], {"unit_id": "new"}, [])
    folder.fold()
    assert len(folder.kept) == kept
    _send(history, "first", _order("new", 30))
    folder.fold()
    assert len(folder.kept) == kept + 1
    assert folder.is_exact()


def _never(*_: Any) -> bool:
    return False


def _none(*_: Any) -> None:
    return None


def _nothing_came(*_: Any) -> dict[int, list[Any]]:
    return {}


def _always(*_: Any) -> int:
    return 1


@pytest.mark.parametrize(
    ("place", "name", "fault"),
    [
        (kept_units, "is_seen_earlier", _never),
        (Kept, "restate", _none),
        (kept_units, "_come", _nothing_came),
        (KeptUnits, "note", _none),
        (fold_slices, "_basis", _always),
    ],
)
def test_planted_faults_would_be_caught(
    history: History, folder: Folder, monkeypatch: pytest.MonkeyPatch, place: Any, name: str, fault: Any
) -> None:
    monkeypatch.setattr(place, name, fault)
    (decision,) = (made.decision_id for made in history.made if made.unit == "b")
    _send(history, "then", {"type": "click", "decision_id": decision})
    slices = folder.prepare()
    if name != "_basis":
        folder.write(slices)
    _send(
        history, "before", *(_exposure(made) for made in history.made if made.unit != "b"), late=50 * MINUTE
    )
    _send(history, "refund", {"type": "refund", "order_id": "o0", "amount": 300})
    folder.fold()
    _send(history, "at last", _order("b", 40))
    folder.fold()
    assert not folder.is_exact()

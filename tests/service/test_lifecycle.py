"""Experiments along their life: what is allowed, what is frozen, who has read which version."""

from __future__ import annotations

import pytest

from tests.service.conftest import Shop, document

PATH = "/v1/experiments/checkout-addon"


def test_a_document_is_created_once_and_an_equal_one_changes_nothing(shop: Shop) -> None:
    made = shop.post("/v1/experiments", document())
    again = shop.post("/v1/experiments", document(currency="EUR", unit="visitor"))
    assert (made.status_code, again.status_code) == (201, 200)
    assert made.headers["etag"] == again.headers["etag"] == '"1"'
    assert made.json() == again.json()
    assert set(made.json()) == {
        *("key", "state", "version", "created_at", "started_at"),
        *("document", "variants"),
    }
    assert made.json()["variants"] == [
        {"key": "none", "state": "active"},
        {"key": "socks", "state": "active"},
    ]


def test_another_document_of_the_same_key_is_refused(shop: Shop) -> None:
    shop.post("/v1/experiments", document())
    answer = shop.post("/v1/experiments", document(name="changed"))
    assert (answer.status_code, answer.json()["code"]) == (409, "exists")
    assert shop.get(PATH).json()["document"]["name"] == ""


def test_the_currency_is_the_stores_unless_said(shop: Shop) -> None:
    etag = shop.get("/v1/store").headers["etag"]
    assert shop.patch("/v1/store", {"currency": "RON"}, etag).status_code == 200
    assert shop.post("/v1/experiments", document()).json()["document"]["currency"] == "RON"


def test_the_whole_life(shop: Shop) -> None:
    shop.post("/v1/experiments", document())
    states = [
        shop.post(f"{PATH}/{action}").json()["state"]
        for action in ("start", "pause", "resume", "stop", "archive")
    ]
    assert states == ["running", "paused", "running", "stopped", "archived"]
    assert shop.get(PATH).json()["started_at"] is not None
    reused = shop.post("/v1/experiments", document(name="another under the same key"))
    assert reused.status_code == 409


LEGAL = {
    "draft": {"start": "running", "archive": "archived"},
    "running": {"pause": "paused", "stop": "stopped"},
    "paused": {"resume": "running", "stop": "stopped"},
    "stopped": {"archive": "archived"},
    "archived": {},
}
WAY = {
    "draft": (),
    "running": ("start",),
    "paused": ("start", "pause"),
    "stopped": ("start", "stop"),
    "archived": ("start", "stop", "archive"),
}


@pytest.mark.parametrize("state", LEGAL)
def test_every_other_step_is_refused_and_changes_nothing(shop: Shop, state: str) -> None:
    for action in ("start", "pause", "resume", "stop", "archive"):
        key = f"{state}-{action}"
        shop.post("/v1/experiments", document(key))
        for step in WAY[state]:
            assert shop.post(f"/v1/experiments/{key}/{step}").status_code == 200
        answer = shop.post(f"/v1/experiments/{key}/{action}")
        expected = LEGAL[state].get(action)
        if expected is None:
            assert (answer.status_code, answer.json()["code"]) == (409, "illegal_transition")
            assert all(possible in answer.json()["detail"] for possible in LEGAL[state])
        else:
            assert answer.status_code == 200
        assert shop.get(f"/v1/experiments/{key}").json()["state"] == (expected or state)


def test_a_patch_needs_the_version_that_was_read(shop: Shop) -> None:
    shop.post("/v1/experiments", document())
    missing = shop.call("PATCH", PATH, {"name": "a"})
    assert (missing.status_code, missing.json()["code"]) == (428, "if_match_required")
    first = shop.patch(PATH, {"name": "a"}, '"1"')
    assert (first.status_code, first.headers["etag"]) == (200, '"2"')
    late = shop.patch(PATH, {"name": "b"}, '"1"')
    assert (late.status_code, late.json()["code"]) == (412, "stale_version")
    for useless in ('"x"', "*", 'W/"2"', '"-1"'):
        assert shop.patch(PATH, {"name": "b"}, useless).status_code == 412
    assert shop.get(PATH).json()["document"]["name"] == "a"


def test_a_patch_that_changes_nothing_keeps_the_version(shop: Shop) -> None:
    shop.post("/v1/experiments", document())
    answer = shop.patch(PATH, {"touchpoint": "checkout"}, '"1"')
    assert (answer.status_code, answer.headers["etag"]) == (200, '"1"')


def test_null_in_a_patch_restores_the_default_and_turns_winsorising_off(shop: Shop) -> None:
    shop.post("/v1/experiments", document(name="named", layer="l1"))
    patched = shop.patch(PATH, {"name": None, "layer": None, "winsorise": None}, '"1"').json()["document"]
    assert (patched["name"], patched["layer"], patched["winsorise"]) == ("", None, None)


FROZEN = {
    "/unit": {"unit": "session"},
    "/currency": {"currency": "USD"},
    "/anchor": {"anchor": "exposure"},
    "/attribution_window": {"attribution_window": "8d"},
    "/refund_window": {"refund_window": "31d"},
    "/salt": {"salt": "other"},
}


@pytest.mark.parametrize("pointer", FROZEN)
def test_what_is_frozen_once_started(shop: Shop, pointer: str) -> None:
    shop.post("/v1/experiments", document())
    shop.post("/v1/experiments", document("draft"))
    shop.post(f"{PATH}/start")
    answer = shop.patch(PATH, FROZEN[pointer], '"2"')
    assert (answer.status_code, answer.json()["code"]) == (409, "frozen_field")
    assert pointer in [error["pointer"] for error in answer.json()["errors"]]
    assert shop.get(PATH).headers["etag"] == '"2"'
    assert shop.patch("/v1/experiments/draft", FROZEN[pointer], '"1"').status_code == 200


def test_an_offers_price_is_frozen_but_its_headline_is_not(shop: Shop) -> None:
    variants = shop.running()["document"]["variants"]
    dearer = [variants[0], {**variants[1], "offer": {**variants[1]["offer"], "price": 1390}}]
    refused = shop.patch(PATH, {"variants": dearer}, '"2"')
    assert refused.status_code == 409
    assert refused.json()["errors"][0]["pointer"] == "/variants/1/offer/price"
    better = [variants[0], {**variants[1], "offer": {**variants[1]["offer"], "headline": "Warm feet"}}]
    assert shop.patch(PATH, {"variants": better}, '"2"').status_code == 200


def test_variants_are_added_retired_and_resumed(shop: Shop) -> None:
    shop.running()
    cap = {"key": "cap", "offer": {"kind": "cross_sell", "sku": "CAP-1", "price": 900, "cost": 300}}
    added = shop.post(f"{PATH}/variants", cap)
    assert (added.status_code, added.json()["version"]) == (201, 3)
    assert added.json()["variants"][-1].items() >= {"key": "cap", "state": "active"}.items()
    retired = shop.post(f"{PATH}/variants/socks/retire").json()
    assert {"key": "socks", "state": "retired"} in retired["variants"]
    again = shop.post(f"{PATH}/variants/socks/retire").json()
    assert again["version"] == retired["version"], "retiring twice is once"
    resumed = shop.post(f"{PATH}/variants/socks/resume").json()
    assert {"key": "socks", "state": "active"} in resumed["variants"]
    assert shop.post(f"{PATH}/variants", cap).status_code == 400, "the key is taken"


def test_the_control_can_neither_be_retired_nor_promoted(shop: Shop) -> None:
    shop.running()
    for path, body in ((f"{PATH}/variants/none/retire", None), (f"{PATH}/promote", {"variant": "none"})):
        answer = shop.post(path, body)
        assert (answer.status_code, answer.json()["code"]) == (409, "control_stays")


def test_promotion_needs_a_running_experiment_and_an_active_variant(shop: Shop) -> None:
    shop.post("/v1/experiments", document())
    early = shop.post(f"{PATH}/promote", {"variant": "socks"})
    assert (early.status_code, early.json()["code"]) == (409, "not_started")
    shop.post(f"{PATH}/start")
    shop.post(f"{PATH}/variants/socks/retire")
    retired = shop.post(f"{PATH}/promote", {"variant": "socks"})
    assert (retired.status_code, retired.json()["code"]) == (409, "variant_not_active")
    shop.post(f"{PATH}/variants/socks/resume")
    assert shop.post(f"{PATH}/promote", {"variant": "socks"}).status_code == 200
    assert shop.post(f"{PATH}/promote", {"variant": "ghost"}).json()["code"] == "variant_not_found"


def test_a_stopped_experiments_variants_no_longer_change(shop: Shop) -> None:
    shop.running()
    shop.post(f"{PATH}/stop")
    answer = shop.post(f"{PATH}/variants/socks/retire")
    assert (answer.status_code, answer.json()["code"]) == (409, "experiment_over")


def test_a_drafts_variants_may_be_replaced(shop: Shop) -> None:
    shop.post("/v1/experiments", document())
    others = [
        {"key": "cap", "offer": {"kind": "upsell", "sku": "CAP-1", "price": 900, "cost": 300}},
        {"key": "control", "is_control": True, "offer": {"kind": "none"}},
    ]
    patched = shop.patch(PATH, {"variants": others}, '"1"')
    assert [v["key"] for v in patched.json()["variants"]] == ["cap", "control"]


def test_the_time_zone_is_the_stores_at_the_start(shop: Shop) -> None:
    shop.running("first")
    shop.post("/v1/experiments", document("second"))
    etag = shop.get("/v1/store").headers["etag"]
    shop.patch("/v1/store", {"time_zone": "Asia/Tokyo"}, etag)
    shop.post("/v1/experiments/second/start")
    with shop.database.read() as connection:
        zones = connection.exec_driver_sql("SELECT key, time_zone FROM experiment ORDER BY key").all()
    assert [tuple(row) for row in zones] == [("first", "Europe/Rome"), ("second", "Asia/Tokyo")]


def test_another_audience_begins_another_epoch_of_the_report(shop: Shop) -> None:
    shop.running()
    shop.patch(PATH, {"audience": {"country": "IT"}}, '"2"')
    with shop.database.read() as connection:
        row = connection.exec_driver_sql(
            "SELECT report_from_epoch, (SELECT max(epoch) FROM policy_version) FROM experiment"
        ).one()
    assert row[0] == row[1] > 1


def test_a_refused_change_leaves_nothing_behind(shop: Shop) -> None:
    """The patch is refused after rows were read and before any is written; versions and rows agree."""
    shop.running()
    before = shop.get(PATH)
    bad = shop.patch(PATH, {"name": "new", "policy": {"control_share": 2}}, '"2"')
    assert (bad.status_code, bad.json()["errors"][0]["pointer"]) == (400, "/policy/control_share")
    after = shop.get(PATH)
    assert (after.json(), after.headers["etag"]) == (before.json(), before.headers["etag"])


def test_experiments_are_listed_in_pages(shop: Shop) -> None:
    keys = [f"e{number}" for number in range(7)]
    for key in keys:
        shop.post("/v1/experiments", document(key))
    seen: list[str] = []
    cursor, pages = "", 0
    while cursor is not None:
        page = shop.get(f"/v1/experiments?limit=3{cursor and '&cursor=' + cursor}").json()
        seen += [item["key"] for item in page["items"]]
        cursor, pages = page["next_cursor"], pages + 1
    assert (seen, pages) == (keys, 3)

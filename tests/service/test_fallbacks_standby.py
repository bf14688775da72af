"""The last policy set on disk: what it holds, what it never holds, and what is made of a damaged one."""

from __future__ import annotations

import json
import logging
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from service import standby
from service.keys import digest_of
from service.last_known import LastKnown
from service.settings import Settings
from service.standby import PolicySet
from tests.service.asking import ask, edit, settings
from tests.service.conftest import Shop

SEGMENTS = [{"key": "phones", "conditions": {"device": ["phone"]}}]


def policies_of(shop: Shop) -> PolicySet:
    with shop.database.read() as connection:
        return standby.read(connection)


def revisions(shop: Shop) -> dict[int, int]:
    with shop.database.read() as connection:
        return standby.revisions(connection)


def kept(shop: Shop, folder: Path) -> tuple[LastKnown, Path]:
    path = folder / "policies.json"
    return LastKnown(shop.database, path), path


def test_what_is_read_back_is_what_was_saved_but_for_the_secret(shop: Shop, tmp_path: Path) -> None:
    shop.running()
    shop.running("second", touchpoint="cart")
    settings(shop, segments=SEGMENTS, fx_rates={"USD": "0.85"}, out_of_stock=["A"], deadline_ms=60)
    saved = policies_of(shop)
    path = tmp_path / "new folder" / "policies.json"
    standby.save(path, saved)
    without = {no: replace(state, secret=b"", revision=0) for no, state in saved.stores.items()}
    assert standby.load(path) == replace(saved, stores=without)
    assert len(without) == 2
    assert saved.stores[1].settings.deadline_ms == 60
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [file.name for file in path.parent.iterdir()] == ["policies.json"]


def test_the_file_holds_no_secret_no_key_and_no_shopper(shop: Shop, tmp_path: Path) -> None:
    shop.running()
    ask(shop, "jane@shop.example", context={"country": "Atlantis"})
    saved = policies_of(shop)
    path = tmp_path / "policies.json"
    standby.save(path, saved)
    text = path.read_text("utf-8")
    for new in (shop.keys, shop.other):
        for key in (new.secret_key, new.publishable_key):
            assert key not in text
            assert key[3:] not in text
            assert digest_of(key) in saved.keys
    for state in saved.stores.values():
        for shape in (state.secret.hex(), json.dumps(list(state.secret)), repr(state.secret)):
            assert shape not in text
    assert "jane" not in text
    assert "Atlantis" not in text
    names = set(json.loads(text)["body"]["stores"][0])
    assert "secret" not in names


def test_a_revoked_key_is_remembered_as_such(shop: Shop, tmp_path: Path) -> None:
    made = shop.post("/v1/keys", {"kind": "sk", "scopes": ["assign"]}).json()
    assert shop.call("DELETE", f"/v1/keys/{made['id']}").status_code in (200, 204)
    path = tmp_path / "policies.json"
    standby.save(path, policies_of(shop))
    loaded = standby.load(path)
    assert loaded is not None
    digest = digest_of(made["key"])
    assert digest in loaded.revoked
    assert digest not in loaded.keys


def damaged(text: str) -> dict[str, bytes]:
    envelope = json.loads(text)
    key = envelope["body"]["stores"][0]["key"]
    return {
        "empty": b"",
        "cut": text.encode()[: len(text) // 2],
        "no text": b"\xff\xfe\x00",
        "another file": b'{"some": "other file"}',
        "another format": json.dumps({**envelope, "format": "shopping list"}).encode(),
        "a later version": json.dumps({**envelope, "version": 2}).encode(),
        "one letter": text.replace(key, "store_x" + key[7:]).encode(),
        "a list": b"[]",
    }


def test_a_damaged_or_foreign_file_is_ignored_with_a_line(
    shop: Shop, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shop.running()
    path = tmp_path / "policies.json"
    standby.save(path, policies_of(shop))
    whole = path.read_text("utf-8")
    assert standby.load(path) is not None
    for name, content in damaged(whole).items():
        path.write_bytes(content)
        caplog.clear()
        with caplog.at_level(logging.WARNING, "service.standby"):
            assert standby.load(path) is None, name
        assert [str(path) in line for line in caplog.messages] == [True], name
    path.unlink()
    caplog.clear()
    assert standby.load(path) is None
    assert caplog.messages == []


def test_the_file_is_written_when_a_revision_moves_and_only_then(shop: Shop, tmp_path: Path) -> None:
    shop.running()
    last_known, path = kept(shop, tmp_path)
    last_known.refresh()
    written = path.stat().st_mtime_ns, path.stat().st_ino
    ask(shop)
    last_known.refresh()
    assert (path.stat().st_mtime_ns, path.stat().st_ino) == written
    edit(shop, name="Another name")
    last_known.refresh()
    assert path.stat().st_ino != written[1] or path.stat().st_mtime_ns != written[0]
    assert "Another name" in path.read_text("utf-8")


@pytest.mark.parametrize(
    "change",
    [
        lambda shop: settings(shop, deadline_ms=77),
        lambda shop: shop.post("/v1/experiments/checkout-addon/pause"),
        lambda shop: shop.post("/v1/experiments/checkout-addon/variants/socks/retire"),
        lambda shop: shop.post("/v1/keys", {"kind": "sk", "scopes": ["assign"]}),
        lambda shop: shop.running("second"),
    ],
    ids=["settings", "life", "variant", "key", "experiment"],
)
def test_whatever_serving_reads_moves_the_revision(shop: Shop, change: Callable[[Shop], Any]) -> None:
    shop.running()
    before = revisions(shop)
    change(shop)
    after = revisions(shop)
    assert after[1] > before[1]
    assert after[2] == before[2]


def test_a_folder_that_cannot_be_written_is_told_once_and_tried_again(shop: Shop, tmp_path: Path) -> None:
    (tmp_path / "no folder").write_text("a file stands here")
    last_known = LastKnown(shop.database, tmp_path / "no folder" / "policies.json")
    with pytest.raises(OSError, match="no folder"):
        last_known.refresh()
    assert last_known.store(1) is not None, "what was read is known all the same"
    (tmp_path / "no folder").unlink()
    last_known.refresh()
    assert standby.load(tmp_path / "no folder" / "policies.json") is not None


def test_where_the_file_stands(tmp_path: Path) -> None:
    beside = Settings(database_url=f"sqlite:///{tmp_path}/shop.db")
    assert standby.path_for(beside) == tmp_path / "shop.db.policies.json"
    one, other = (
        standby.path_for(Settings(database_url=url, state_dir=str(tmp_path)))
        for url in (f"sqlite:///{tmp_path}/a.db", f"sqlite:///{tmp_path}/b.db")
    )
    assert one.parent == other.parent == tmp_path
    assert one != other
    with_password, without, elsewhere = (
        standby.path_for(Settings(database_url=f"postgresql://{who}h:5432/{name}"))
        for who, name in (("u:geheim@", "d"), ("", "d"), ("", "e"))
    )
    assert with_password == without != elsewhere
    assert not with_password.is_absolute()

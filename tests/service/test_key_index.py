"""The units in memory are a dictionary, whatever is sorted, settled or erased meanwhile."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.hot import key_index
from service.hot.key_index import KeyIndex

# Few values for each half: hashes that begin alike are the rule here.
HASHES = st.builds(lambda a, b: bytes(7) + bytes([a]) + bytes(7) + bytes([b]), *[st.integers(0, 9)] * 2)
STEPS = st.lists(st.tuples(st.sampled_from(["add", "add", "add", "remove", "settle"]), HASHES), max_size=60)


@settings(deadline=None, max_examples=200)
@given(steps=STEPS, absent=st.lists(HASHES, max_size=5))
def test_it_finds_what_was_added_and_nothing_else(
    steps: list[tuple[str, bytes]], absent: list[bytes]
) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(key_index, "RECENT_MAX", 3)
        index, truth, settled = KeyIndex(6), dict[bytes, int](), dict[bytes, int]()
        for number, (step, key) in enumerate(steps, 1):
            if step == "add" and key not in truth:
                index.add([(key, number)])
                truth[key] = number
            elif step == "remove":
                index.remove([key])
                truth.pop(key, None)
                settled.pop(key, None)
            elif step == "settle" and index.is_due:
                through = index.begin_settling()
                parts = list(index.settling(2))
                rows = [row for part in parts for row in part]
                assert rows == sorted(rows)
                settled |= dict(rows)
                assert index.find(list(truth)) == {k: n for k, n in truth.items() if n}
                assert {k for k, n in truth.items() if n <= through} <= set(settled)
                index.end_settling()
                for gone, _ in rows:
                    truth.pop(gone, None)
        assert index.find([*truth, *absent]) == {k: n for k, n in truth.items()}
        assert len(index) == len(truth)


def test_what_is_erased_while_it_is_settled_is_not_settled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_index, "RECENT_MAX", 10)
    hashes = [number.to_bytes(16, "big") for number in range(100)]
    index = KeyIndex(100)
    for number, key in enumerate(hashes, 1):
        index.add([(key, number)])
    assert index.is_due
    assert index.begin_settling() == 100
    slices = index.settling(30)
    first = next(slices)
    index.remove([hashes[5], hashes[50]])
    rest = [row for part in slices for row in part]
    assert [key for key, _ in first + rest] == [key for key in hashes if key != hashes[50]]


def test_what_could_not_be_settled_is_settled_the_next_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_index, "RECENT_MAX", 10)
    hashes = [number.to_bytes(16, "big") for number in range(100)]
    index = KeyIndex(50)
    index.add(zip(hashes[::2], range(1, 51), strict=True))
    assert index.begin_settling() == 50
    next(index.settling(30))  # and a job fails
    index.add(zip(hashes[1::2], range(51, 101), strict=True))
    assert index.is_due
    assert index.begin_settling() == 100
    assert [key for part in index.settling(30) for key, _ in part] == hashes
    assert len(index.find(hashes)) == len(index) == 100
    index.end_settling()
    assert not index.is_due
    assert not len(index)

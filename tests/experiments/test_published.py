import json
from dataclasses import replace
from math import inf

import pytest

from experiments.allocation.caps import WHOLE, to_integer
from experiments.allocation.published import (
    Cause,
    PolicyVersion,
    PosteriorSummary,
    SetShares,
    moved,
    same_shares,
    summary_of,
)
from experiments.errors import BrokenInvariant
from experiments.posteriors.beta import Beta
from experiments.posteriors.normal import StudentT

FULL = SetShares(
    shares=to_integer({"none": 0.2, "a": 0.3, "b": 0.5}),
    prob_best={"none": 0.1, "a": 1 / 3, "b": 0.5666},
    posteriors={"a": PosteriorSummary(mean=0.1, sd=1 / 7, n=200.5), "b": PosteriorSummary(None, None, 0)},
)
VERSION = PolicyVersion(
    number=7,
    epoch=3,
    published_at_us=1_790_000_000_000_000,
    cause=Cause.SHARES_MOVED,
    control="none",
    sets={("none", "a", "b"): FULL, ("none", "b"): SetShares(shares=to_integer({"none": 0.6, "b": 0.4}))},
    capped={"b": 0.5},
    killed=frozenset({"z", "y"}),
)


def with_full(shares: dict[str, float]) -> PolicyVersion:
    return replace(VERSION, number=8, sets={("none", "a", "b"): SetShares(to_integer(shares))})


def test_json_gives_the_same_version_back() -> None:
    again = PolicyVersion.from_json(json.loads(json.dumps(VERSION.to_json(), allow_nan=False)))
    assert again == VERSION
    assert list(again.sets) == list(VERSION.sets)


def test_a_published_set_is_found_in_any_order() -> None:
    assert VERSION.shares_for(("b", "none")) == {"none": 2576980378, "b": 1717986918}
    assert VERSION.published(["a", "b", "none"]) is FULL


def test_an_unpublished_set_renormalises_and_keeps_the_cap() -> None:
    """{none, a}: 0.2 : 0.3 = 0.4 : 0.6. With b capped at 0.5 and a gone, {none, b} would be 0.2 : 0.5."""
    result = VERSION.shares_for(("none", "a"))
    assert result["a"] == pytest.approx(0.6 * WHOLE, abs=2)
    only_full = with_full({"none": 0.2, "a": 0.3, "b": 0.5})
    assert only_full.shares_for(("none", "b")) == {"none": WHOLE // 2, "b": WHOLE // 2}


def test_a_variant_not_yet_published_gets_nothing() -> None:
    result = VERSION.shares_for(("none", "a", "new"))
    assert result["new"] == 0
    assert sum(result.values()) == WHOLE
    assert replace(VERSION, sets={}).shares_for(("none", "a")) == {"none": WHOLE, "a": 0}


def test_moved_means_by_the_given_step() -> None:
    before = with_full({"none": 0.25, "a": 0.25, "b": 0.5})
    assert not moved(before, with_full({"none": 0.25, "a": 0.2546, "b": 0.4954}))
    assert moved(before, with_full({"none": 0.25, "a": 0.2551, "b": 0.4949}))
    assert not moved(before, before)


def test_same_shares_is_about_what_is_served() -> None:
    before = with_full({"none": 0.25, "a": 0.25, "b": 0.5})
    assert same_shares(before, replace(before, number=9, epoch=4, cause=Cause.DAILY))
    assert not same_shares(before, VERSION)
    fallback = SetShares(before.shares_for(("none", "a")))
    assert same_shares(before, replace(before, sets={**before.sets, ("none", "a"): fallback}))


def test_broken_versions_cannot_be_made() -> None:
    with pytest.raises(BrokenInvariant):
        SetShares({"none": WHOLE - 1})
    with pytest.raises(BrokenInvariant):
        replace(VERSION, sets={("none", "c"): FULL})


def test_a_summary_says_none_where_there_is_no_moment() -> None:
    assert summary_of(Beta(1, 3), 2) == PosteriorSummary(0.25, pytest.approx(0.0375**0.5), 2)
    assert summary_of(StudentT(5, 1, 1.5), 2) == PosteriorSummary(5, None, 2)
    assert summary_of(StudentT(5, 1, 0.5), 2.5) == PosteriorSummary(None, None, 2.5)
    assert summary_of(StudentT(5, 1, inf), 1) == PosteriorSummary(5, 1, 1)

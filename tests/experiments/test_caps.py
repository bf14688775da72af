"""No share exceeds its cap by even one unit of 2^-32: the rules alone, and whole versions of every policy."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from fractions import Fraction
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.allocation.caps import WHOLE, cap_shares, capped_integer, to_integer
from experiments.allocation.features import Columns
from experiments.allocation.guarding import Guarded
from experiments.allocation.proposal import propose
from experiments.allocation.published import Cause, PolicyVersion
from experiments.model import Feature, FeatureKind, PolicyKind, PolicySettings
from experiments.statistics import Cell
from tests.experiments.cells import cell_of, experiment_of

CONTROL = "none"
ALL = (CONTROL, "a", "b", "c")
SUBSETS = [(CONTROL, *some) for size in (1, 2, 3) for some in combinations(ALL[1:], size)]
SEEN = [ALL, (CONTROL, "a", "b"), (CONTROL, "c")]
DEVICE = Feature("device", FeatureKind.CATEGORY, values=("mobile", "desktop"))
ROWS = [Columns((DEVICE,)).row((code,)) for code in range(3)]
RATES = {"": (0.10, 0.12, 0.13, 0.11), "vip": (0.20, 0.25, 0.20, 0.24)}
CAPS = st.dictionaries(st.sampled_from(ALL[1:]), st.floats(0, 0.6), min_size=1)


def over(shares: Mapping[str, int], capped: Mapping[str, float]) -> set[str]:
    """The variants above their cap, in rational arithmetic, and the sum where it is not whole."""
    above = {key for key, cap in capped.items() if Fraction(shares.get(key, 0), WHOLE) > Fraction(cap)}
    return above if sum(shares.values()) == WHOLE else {*above, "sum"}


@given(st.lists(st.floats(0, 1), min_size=4, max_size=4).filter(lambda parts: sum(parts) > 0.01), CAPS)
def test_a_rounded_share_keeps_its_cap_and_what_no_cap_touches_is_as_it_was(
    parts: list[float], capped: dict[str, float]
) -> None:
    split = {key: part / sum(parts) for key, part in zip(ALL, parts, strict=True)}
    cut = cap_shares(split, capped, CONTROL)
    found, plain = capped_integer(cut, capped, CONTROL), to_integer(cut)
    assert over(found, capped) == set()
    for key in ALL[1:]:
        assert found[key] == plain[key] or (key in capped and found[key] == int(capped[key] * WHOLE))


def test_rounding_alone_would_exceed_a_cap() -> None:
    """The planted bug. 0.6 x 2^32 = 2576980377.6 has the larger remainder and is rounded up."""
    cut = cap_shares({CONTROL: 0.0, "a": 1.0}, {"a": 0.6}, CONTROL)
    assert over(to_integer(cut), {"a": 0.6}) == {"a"}
    assert over(capped_integer(cut, {"a": 0.6}, CONTROL), {"a": 0.6}) == set()


def shop(n: int = 400) -> list[Cell]:
    """Units of two segments and two devices, that convert the better where the segment does."""
    cells: list[Cell] = []
    codes = np.arange(n) % 3
    contexts = {
        name: (codes == encoded[0]).astype(np.int64) for name, encoded in Columns((DEVICE,)).all_contexts()
    }
    for segment, rates in RATES.items():
        for key, rate in zip(ALL, rates, strict=True):
            bought = (np.arange(n) < round(n * rate)).astype(np.int64)
            cells.append(cell_of(key, n=n, candidates=ALL, segment=segment, converted=bought, **contexts))
    return cells


SHOP = shop()


def version_of(
    kind: PolicyKind, capped: Mapping[str, float], burn_in: int, promoted: str | None
) -> PolicyVersion:
    policy = PolicySettings(
        kind=kind, objective="conversion_rate", control_share=0.1, floor=0.02, burn_in=burn_in
    )
    if kind is PolicyKind.CONTEXTUAL:
        policy = replace(policy, features=(DEVICE,), draws=100)
    found = propose(
        experiment_of(*ALL[1:], settings=policy),
        SHOP,
        frozenset(ALL),
        SEEN,
        guarded=Guarded(capped=capped),
        promoted=promoted,
        last=None,
        time_zone="UTC",
        now=datetime(2026, 4, 1, tzinfo=UTC),
    )
    of_context = found.contextual
    return PolicyVersion(
        1, 1, 0, Cause.STARTED, CONTROL, found.sets, capped, segments=found.segments, contextual=of_context
    )


def served(version: PolicyVersion) -> Iterator[Mapping[str, int]]:
    """The shares of every subset, published or not, for the units of every segment and in every context."""
    yield from (found.shares for found in version.sets.values())
    for candidates in SUBSETS:
        for segment in (None, "", "vip", "never seen"):
            yield version.shares_for(candidates, segment=segment)
        for row in ROWS:
            yield version.shares_for(candidates, row=row)


@pytest.mark.parametrize("kind", PolicyKind)
@given(capped=CAPS)
@settings(max_examples=12, deadline=None)
def test_no_version_exceeds_a_cap_under_any_subset(kind: PolicyKind, capped: dict[str, float]) -> None:
    version = version_of(kind, capped, 50, None)
    assert bool(version.segments) == (kind is PolicyKind.SEGMENT)
    assert (version.contextual is not None) == (kind is PolicyKind.CONTEXTUAL)
    assert [over(shares, capped) for shares in served(version)] == [set()] * len(list(served(version)))


@given(capped=CAPS, burn_in=st.sampled_from([50, 10_000]), promoted=st.sampled_from([None, "a"]))
@settings(max_examples=20, deadline=None)
def test_nor_does_one_that_burns_in_or_promotes(
    capped: dict[str, float], burn_in: int, promoted: str | None
) -> None:
    version = version_of(PolicyKind.THOMPSON, capped, burn_in, promoted)
    assert all(over(shares, capped) == set() for shares in served(version))

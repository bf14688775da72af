"""The shares that were served, by epoch, as the read-out gets them."""

import numpy as np

from experiments.allocation.caps import WHOLE
from experiments.allocation.contextual import ContextualDraws
from experiments.allocation.published import Cause, PolicyVersion, SetShares
from experiments.analysis.served import epoch_shares
from experiments.analysis.strata import by_segment
from tests.experiments.cells import cell_of

KEYS = ("mug", "none", "socks")


def shares_of(**parts: int) -> SetShares:
    """Shares in tenths."""
    shares = {key: part * WHOLE // 10 for key, part in parts.items()}
    return SetShares(shares | {"none": shares["none"] + WHOLE - sum(shares.values())})


def version_of(epoch: int, **more: object) -> PolicyVersion:
    sets = {KEYS: shares_of(mug=3, none=2, socks=5)}
    return PolicyVersion(epoch, epoch, 0, Cause.STARTED, "none", sets, **more)  # type: ignore[arg-type]


def test_shares_of_an_epoch_are_by_segment_and_fall_back_for_a_set_not_published():
    """Of 3, 2 and 5 tenths a set without `mug` has 2 : 5; `vip` has shares of its own in epoch 2."""
    versions = {
        1: version_of(1),
        2: version_of(2, segments={"vip": {KEYS: shares_of(mug=1, none=1, socks=8)}}),
    }
    cells = [
        cell_of("socks", n=1, candidates=KEYS, epoch=1),
        cell_of("none", n=1, candidates=KEYS[1:], candidate_set=3, epoch=1),
        cell_of("socks", n=1, candidates=KEYS, epoch=2, segment="vip"),
        cell_of("socks", n=1, candidates=KEYS, epoch=2, segment="new"),
    ]
    found = epoch_shares(versions, cells)
    wide = frozenset(KEYS)
    plain = {"mug": 0.3, "none": 0.2, "socks": 0.5}
    expected = {
        (1, wide, ""): plain,
        (1, frozenset(KEYS[1:]), ""): {"none": 2 / 7, "socks": 5 / 7},
        (2, wide, "vip"): {"mug": 0.1, "none": 0.1, "socks": 0.8},
        (2, wide, "new"): plain,
    }
    assert set(found) == set(expected)
    for place, shares in expected.items():
        assert all(abs(found[place][key] - share) < 1e-9 for key, share in shares.items())
    assert epoch_shares(versions, by_segment(cells)) == found  # however sets are numbered


def test_an_epoch_without_a_version_or_with_shares_by_context_has_none():
    draws = np.zeros((2, 2), dtype="<f4").tobytes()
    drawn = ContextualDraws("linear", ("none", "socks"), ("1", "device=phone"), "none", 0.2, 0.1, 0, draws)
    cell = cell_of("socks", n=1, candidates=KEYS, epoch=4)
    assert epoch_shares({}, [cell]) == {}
    assert epoch_shares({4: version_of(4, contextual=drawn)}, [cell]) == {}
    assert epoch_shares({4: version_of(4)}, [cell])

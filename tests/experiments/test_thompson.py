from collections.abc import Callable, Mapping
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.allocation.caps import WHOLE, apportioned, cap_integer, cap_shares, renormalised, to_integer
from experiments.allocation.thompson import burn_in_shares, fixed_shares, shares, top_two
from experiments.errors import BrokenInvariant
from tests.statistical import STANDARD_ERRORS, share_errors_off

CONTROL = "none"


@st.composite
def situations(draw: st.DrawFn) -> dict[str, object]:
    """P(best) of up to eight variants with a feasible floor and control share, caps and kills."""
    keys = [CONTROL, *(f"v{k}" for k in range(draw(st.integers(1, 7))))]
    raw = [draw(st.floats(0, 1)) for _ in keys]
    raw[draw(st.integers(0, len(keys) - 1))] += 0.1
    prob_best = {key: value / sum(raw) for key, value in zip(keys, raw, strict=True)}
    control_share = draw(st.floats(0.01, 0.6))
    floor = draw(st.floats(0, 0.99)) * min(control_share, (1 - control_share) / len(keys))
    treatments = st.sampled_from(keys[1:])
    capped = draw(st.dictionaries(treatments, st.floats(0, 0.5), max_size=2))
    killed = draw(st.sets(treatments, max_size=2))
    live_total = sum(prob for key, prob in prob_best.items() if key not in killed)
    if live_total == 0:
        killed = set[str]()
    return {
        "prob_best": prob_best,
        "control_share": control_share,
        "floor": floor,
        "capped": capped,
        "killed": killed,
    }


Rule = Callable[..., dict[str, float]]


def broken_promises(rule: Rule, situation: Mapping[str, object]) -> set[str]:
    """What a share rule breaks in one situation."""
    result = rule(control=CONTROL, **situation)
    floor, capped, killed = situation["floor"], situation["capped"], situation["killed"]
    assert isinstance(floor, float)
    assert isinstance(capped, dict)
    assert isinstance(killed, set)
    broken: set[str] = set()
    if abs(sum(result.values()) - 1) > 1e-12:
        broken.add("sum")
    if result[CONTROL] < situation["control_share"] - 1e-12:  # type: ignore[operator]
        broken.add("control")
    for key, share in result.items():
        if key in killed:
            broken |= {"killed"} if share else set()
        elif key != CONTROL and share < min(floor, capped.get(key, 1.0)) - 1e-12:
            broken.add("floor")
        if share > capped.get(key, 1.0):
            broken.add("cap")
    return broken


@given(situations())
def test_shares_keep_every_promise(situation: dict[str, object]) -> None:
    assert broken_promises(shares, situation) == set()


@pytest.mark.parametrize(
    ("promise", "bug"),
    [
        ("sum", lambda given: {**given, "none": given["none"] + 0.01}),
        ("control", lambda given: {**given, "none": 0.05, "a": given["a"] + given["none"] - 0.05}),
        ("floor", lambda given: {**given, "b": 0.0, "none": given["none"] + given["b"]}),
        ("cap", lambda given: {**given, "a": 0.4, "none": given["none"] + given["a"] - 0.4}),
        ("killed", lambda given: {**given, "c": 0.01, "none": given["none"] - 0.01}),
    ],
)
def test_a_planted_violation_is_seen(
    promise: str, bug: Callable[[dict[str, float]], dict[str, float]]
) -> None:
    situation: dict[str, object] = {
        "prob_best": {"none": 0.1, "a": 0.7, "b": 0.2, "c": 0.0},
        "control_share": 0.1,
        "floor": 0.02,
        "capped": {"a": 0.3},
        "killed": {"c"},
    }
    assert broken_promises(shares, situation) == set()
    assert promise in broken_promises(lambda **given: bug(shares(**given)), situation)


def test_what_rounds_to_more_than_all_is_all() -> None:
    best = {"none": 0.4774908766946008, "v0": 0.5225091233053993}
    found = shares(best, control="none", control_share=0.015625, floor=0.0, capped={"v0": 0.0})
    assert found == {"none": 1.0, "v0": 0.0}


def test_shares_by_hand() -> None:
    """K = 3, f = 0.02, c = 0.1: free = 1 - 0.1 - 2 x 0.02 = 0.86.

    none 0.02 + 0.86 x 0.25 + 0.08 = 0.315; a 0.02 + 0.86 x 0.5 = 0.45; b 0.02 + 0.86 x 0.25 = 0.235.
    """
    result = shares({"none": 0.25, "a": 0.5, "b": 0.25}, control=CONTROL, control_share=0.1, floor=0.02)
    assert result == pytest.approx({"none": 0.315, "a": 0.45, "b": 0.235}, abs=1e-15)


def test_a_throttled_winner_leaves_its_excess_to_the_control() -> None:
    result = shares({"none": 0, "a": 1}, control=CONTROL, control_share=0.1, floor=0.02, capped={"a": 0.02})
    assert result == pytest.approx({"none": 0.98, "a": 0.02})


def test_when_all_treatments_are_killed_the_control_has_all() -> None:
    result = shares({"none": 0.1, "a": 0.9}, control=CONTROL, control_share=0.1, floor=0.02, killed={"a"})
    assert result == {"none": 1.0, "a": 0.0}


@pytest.mark.parametrize(
    "attempt",
    [
        lambda: shares({"a": 1.0}, control=CONTROL, control_share=0.1, floor=0.0),
        lambda: shares({"none": 0.5, "a": 0.5}, control=CONTROL, control_share=0.1, floor=0.2),
        lambda: shares({"none": 0.5, "a": 0.5}, control=CONTROL, control_share=0.9, floor=0.5),
        lambda: shares({"none": 0.0, "a": 0.0}, control=CONTROL, control_share=0.1, floor=0.0),
        lambda: shares(
            {"none": 0.5, "a": 0.5}, control=CONTROL, control_share=0.1, floor=0.0, capped={"none": 0.1}
        ),
        lambda: burn_in_shares(["a"], CONTROL, 0.1),
        lambda: fixed_shares(["a"], control=CONTROL),
        lambda: cap_integer({"none": WHOLE}, {"none": 0.1}, CONTROL),
        lambda: renormalised({"none": WHOLE}, ["a"], control=CONTROL, capped={}),
    ],
)
def test_what_cannot_be_is_refused(attempt: Callable[[], object]) -> None:
    with pytest.raises(ValueError):
        attempt()


def test_burn_in_and_fixed_shares_by_hand() -> None:
    assert burn_in_shares(
        ["none", "a", "b", "c"], CONTROL, 0.4, killed={"c"}, capped={"a": 0.1}
    ) == pytest.approx({"none": 0.6, "a": 0.1, "b": 0.3, "c": 0.0})
    assert burn_in_shares(["none"], CONTROL, 0.4) == {"none": 1.0}
    assert fixed_shares(["none", "a", "b", "c"], control=CONTROL) == dict.fromkeys(
        ["none", "a", "b", "c"], 0.25
    )
    assert fixed_shares(["none", "a"], control=CONTROL, killed={"a", "b"}) == {"none": 1.0, "a": 0.0}
    assert fixed_shares(["none", "a"], control=CONTROL, shares={"b": 1.0}) == {"none": 1.0, "a": 0.0}


def test_top_two_is_the_law_of_its_own_sampling() -> None:
    """Draw the best; with probability one half draw again until another comes."""
    prob_best = {"a": 0.6, "b": 0.3, "c": 0.1}
    rng = np.random.default_rng(5)
    n = 50_000
    first = rng.choice(3, n, p=list(prob_best.values()))
    second = first.copy()
    while (same := second == first).any():
        second[same] = rng.choice(3, int(same.sum()), p=list(prob_best.values()))
    chosen = np.where(rng.random(n) < 0.5, first, second)
    weights = list(top_two(prob_best).values())
    for k in range(3):
        assert share_errors_off(int((chosen == k).sum()), n, weights[k]) < STANDARD_ERRORS
        assert share_errors_off(int((first == k).sum()), n, weights[k]) > STANDARD_ERRORS or k == 1


def test_top_two_of_a_sure_leader_still_tries_the_others() -> None:
    assert top_two({"a": 1.0, "b": 1e-20, "c": 3e-20}) == pytest.approx({"a": 0.5, "b": 0.125, "c": 0.375})
    assert top_two({"a": 1.0, "b": 0.0, "c": 0.0}) == pytest.approx({"a": 0.5, "b": 0.25, "c": 0.25})
    assert top_two({"a": 1.0}) == {"a": 1.0}


@pytest.mark.parametrize("leader", [0.3, 0.9, 1 - 1e-12])
@pytest.mark.parametrize("n_arms", [2, 3, 100])
def test_top_two_agrees_with_the_exact_formula(leader: float, n_arms: int) -> None:
    """w_k = a_k [1/2 + 1/2 sum over j != k of a_j / (1 - a_j)] in rational arithmetic, to 12 digits."""
    raw = np.random.default_rng(n_arms).dirichlet(np.full(n_arms - 1, 0.2)) * (1 - leader)
    given = dict(zip(map(str, range(n_arms)), [*raw.tolist(), leader], strict=True))
    total = sum(map(Fraction, given.values()))
    a = {key: Fraction(prob) / total for key, prob in given.items()}
    exact = {k: a[k] * (1 + sum(a[j] / (1 - a[j]) for j in a if j != k)) / 2 for k in a}
    for key, weight in top_two(given).items():
        assert weight == pytest.approx(float(exact[key]), rel=1e-12, abs=0)


def test_top_two_survives_the_least_of_numbers() -> None:
    weights = top_two({"a": 1.0, "b": 5e-324, "c": 1e-310})
    assert weights == pytest.approx({"a": 0.5, "b": 0.0, "c": 0.5}, abs=1e-12)


SHARES = st.dictionaries(
    st.text("abcdef", min_size=1, max_size=3), st.one_of(st.just(0.0), st.floats(1e-300, 1.0)), min_size=1
).filter(lambda parts: sum(parts.values()) > 0)


@given(SHARES)
def test_integer_shares_sum_exactly_and_lie_within_one_unit(parts: dict[str, float]) -> None:
    result = to_integer(parts)
    total = sum(parts.values())
    assert sum(result.values()) == WHOLE
    for key, part in parts.items():
        assert (result[key] > 0) == (part > 0)
        assert abs(result[key] - part / total * WHOLE) < len(parts) + 1e-3
    backwards = dict(reversed(parts.items()))
    assert to_integer(backwards) == result


def test_integer_shares_by_hand() -> None:
    """Thirds: 2^32 / 3 = 1431655765.33; the one unit left falls to the first key."""
    assert to_integer({"b": 1 / 3, "a": 1 / 3, "c": 1 / 3}) == {
        "a": 1431655766,
        "b": 1431655765,
        "c": 1431655765,
    }
    assert to_integer({"a": 1.0, "b": 1e-30, "c": 0.0}) == {"a": WHOLE - 1, "b": 1, "c": 0}
    for impossible in ({}, {"a": 0}, {"a": -1, "b": 2}):
        with pytest.raises(BrokenInvariant):
            apportioned(impossible)


@given(
    SHARES, st.dictionaries(st.text("abcdef", min_size=1, max_size=3), st.floats(0, 1), max_size=3), st.data()
)
def test_a_fall_back_sums_exactly_and_keeps_caps(
    parts: dict[str, float], capped: dict[str, float], data: st.DataObject
) -> None:
    published = to_integer({**parts, CONTROL: 0.25})
    candidates = data.draw(st.sets(st.sampled_from([*published, "new"]))) | {CONTROL}
    result = renormalised(published, candidates, control=CONTROL, capped=capped)
    assert set(result) == candidates
    assert sum(result.values()) == WHOLE
    assert result.get("new", 0) == 0
    for key in candidates - {CONTROL}:
        assert result[key] <= capped.get(key, 1.0) * WHOLE
        assert published.get(key, 0) > 0 or result[key] == 0


def test_a_fall_back_without_any_share_is_the_control() -> None:
    assert renormalised({}, ["none", "a"], control=CONTROL, capped={}) == {"none": WHOLE, "a": 0}


@given(situations(), st.randoms())
def test_relabelling_variants_relabels_shares(situation: dict[str, object], random: object) -> None:
    prob_best = situation["prob_best"]
    assert isinstance(prob_best, dict)
    backwards = {**situation, "prob_best": dict(reversed(prob_best.items()))}
    assert shares(control=CONTROL, **backwards) == pytest.approx(
        shares(control=CONTROL, **situation), abs=1e-12
    )  # type: ignore[arg-type]


def test_capping_keeps_the_sum() -> None:
    assert cap_shares({"none": 0.2, "a": 0.8}, {}, CONTROL) == {"none": 0.2, "a": 0.8}
    assert cap_integer({"none": WHOLE // 2, "a": WHOLE // 2}, {"a": 0.0}, CONTROL) == {"none": WHOLE, "a": 0}

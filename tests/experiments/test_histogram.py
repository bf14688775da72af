import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.histogram import bin_of, caps, clip, edge, quantile_edge

LIMIT = 2**62


@given(st.integers(-LIMIT, LIMIT))
def test_a_bin_holds_its_value_and_its_edge(total: int) -> None:
    number = bin_of(total)
    assert bin_of(-total) == -number
    assert bin_of(edge(number)) == number
    assert abs(total) <= abs(edge(number))
    assert abs(edge(number)) - abs(total) <= abs(total) / 32


@given(st.integers(-LIMIT, LIMIT - 1))
def test_bins_never_fall_and_skip_nothing(total: int) -> None:
    assert bin_of(total + 1) - bin_of(total) in (0, 1)


def test_small_totals_are_exact_and_edges_rise() -> None:
    assert [bin_of(total) for total in range(-64, 65)] == list(range(-64, 65))
    edges = [edge(number) for number in range(-2000, 2001)]
    assert edges == sorted(set(edges))
    assert edges[-1] > LIMIT


def test_a_float_logarithm_would_have_put_this_elsewhere() -> None:
    """2^53 and 2^53 + 1 are one float, and two bins."""
    assert bin_of(2**53 + 1) == bin_of(2**53) + 1


def histogram_of(totals: list[int]) -> dict[int, int]:
    counts: dict[int, int] = {}
    for total in totals:
        if total:
            counts[bin_of(total)] = counts.get(bin_of(total), 0) + 1
    return counts


@given(
    st.lists(st.integers(-(10**7), 10**7), min_size=1), st.sampled_from([0.0, 0.001, 0.1, 0.5, 0.999, 1.0])
)
def test_quantile_is_the_edge_of_the_order_statistic(totals: list[int], q: float) -> None:
    present = sorted(total for total in totals if total)
    if not present:
        with pytest.raises(ValueError):
            quantile_edge(histogram_of(totals), q)
        return
    rank = max(1, -(-round(q * 1000) * len(present) // 1000))
    assert quantile_edge(histogram_of(totals), q) == edge(bin_of(present[rank - 1]))


def test_a_decimal_quantile_is_taken_as_written() -> None:
    """0.001 x 1000 is one total; the float 0.001 is a hair more and would make it the second."""
    assert quantile_edge({bin_of(-50): 1, bin_of(5): 999}, 0.001) == -50


@given(st.lists(st.integers(-(10**7), 10**7).filter(bool), min_size=1))
def test_outer_caps_cut_nothing(totals: list[int]) -> None:
    low, high = caps(histogram_of(totals), 0.0, 1.0)
    assert all(clip(total, low, high) == total for total in totals)
    assert bin_of(low) == bin_of(min(totals))
    assert bin_of(high) == bin_of(max(totals))


def test_the_low_cap_without_negatives_is_the_lower_edge_of_its_bin() -> None:
    """Bin 65 holds 65 and 66."""
    assert caps({65: 10}, 0.001, 0.999) == (65, 66)
    assert clip(0, 65, 66) == 0


def test_one_whale_in_a_thousand_is_cut() -> None:
    histogram = histogram_of([100] * 1998 + [10**6] * 2)
    assert clip(10**6, *caps(histogram, 0.001, 0.999)) == edge(bin_of(100))


def test_a_quantile_outside_the_unit_interval_is_refused() -> None:
    with pytest.raises(ValueError):
        quantile_edge({1: 1}, 1.5)

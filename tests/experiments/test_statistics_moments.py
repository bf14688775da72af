"""Moments are exact: adding and removing units are inverses, and the sums are those of numpy's big ints."""

from __future__ import annotations

from datetime import date

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from experiments.statistics import Cell, CellKey, Moments, product_name, total_of

names = st.sampled_from(["units", "orders", "revenue", "margin", "a:sum"])
values = st.integers(-(10**15), 10**15) | st.integers(-(2**80), 2**80)
vectors = st.dictionaries(names, values, max_size=5)


@given(st.lists(vectors, max_size=6))
def test_sums_and_products_are_those_of_the_matrix(units: list[dict[str, int]]) -> None:
    moments = Moments()
    for vector in units:
        moments.add_unit(vector)
    keys = ["units", "orders", "revenue", "margin", "a:sum"]
    matrix = np.array([[vector.get(key, 0) for key in keys] for vector in units], dtype=object).reshape(-1, 5)
    products = matrix.T.dot(matrix) if len(units) else np.zeros((5, 5), dtype=object)
    for i, a in enumerate(keys):
        assert moments.sum(a) == sum(matrix[:, i])
        for j, b in enumerate(keys):
            assert moments.product(a, b) == products[i, j]


@given(st.lists(st.tuples(vectors, st.integers(-3, 3)), max_size=6))
def test_many_at_once_are_one_after_the_other(units: list[tuple[dict[str, int], int]]) -> None:
    """Within 64 bits and beyond; a negative weight takes away."""
    one_by_one, at_once = Moments(), Moments()
    for vector, weight in units:
        for _ in range(abs(weight)):
            one_by_one.add_unit(vector, 1 if weight > 0 else -1)
    at_once.add_units([vector for vector, _ in units], [weight for _, weight in units])
    assert at_once == one_by_one
    assert all(type(value) is int for value in (*at_once.sums.values(), *at_once.products.values()))


@given(st.integers(2**31 - 2, 2**32), st.integers(1, 3))
def test_products_do_not_wrap_at_64_bits(value: int, units: int) -> None:
    moments = Moments()
    moments.add_units([{"revenue": value}, {"revenue": -value}], [units, units])
    assert moments.product("revenue", "revenue") == 2 * units * value * value


@given(st.lists(vectors, max_size=6), vectors)
def test_removing_restores_bit_for_bit(units: list[dict[str, int]], one: dict[str, int]) -> None:
    moments = Moments()
    for vector in units:
        moments.add_unit(vector)
    before = Moments(dict(moments.sums), dict(moments.products))
    moments.add_unit(one)
    moments.add_unit(one, sign=-1)
    assert moments == before
    for vector in units:
        moments.add_unit(vector, sign=-1)
    assert (moments.sums, moments.products) == ({}, {})
    assert not moments


@given(st.lists(vectors, max_size=6), st.integers(0, 6))
def test_parts_add_up_to_the_whole_and_come_apart_again(units: list[dict[str, int]], cut: int) -> None:
    whole, left, right = Moments(), Moments(), Moments()
    for i, vector in enumerate(units):
        whole.add_unit(vector)
        (left if i < cut else right).add_unit(vector)
    assert left + right == whole == total_of([right, left])
    whole.add(left, sign=-1)
    assert whole == right


def test_no_zero_is_kept_and_a_pair_has_one_name() -> None:
    moments = Moments()
    moments.add_unit({"units": 1, "margin": 0, "revenue": 5})
    moments.add_unit({"units": 1, "revenue": -5})
    assert moments.sums == {"units": 2}
    assert moments.products == {"units*units": 2, "revenue*revenue": 50}
    assert product_name("b", "a") == product_name("a", "b") == "a*b"


def test_a_float_sum_would_not_have_restored_it() -> None:
    big, small = 2**60 + 1, 3
    moments = Moments()
    moments.add_unit({"revenue": big})
    moments.add_unit({"revenue": small})
    moments.add_unit({"revenue": big}, sign=-1)
    assert moments.product("revenue", "revenue") == small**2
    assert float(big) ** 2 + float(small) ** 2 - float(big) ** 2 != small**2


def test_many_units_of_a_cell_at_once_are_one_after_the_other() -> None:
    """Three that earn 5, one of them taken back, two that lose 2: bins and moments alike."""
    earns, loses = ({"units": 1, "margin": 5}, {"margin": 5}), ({"units": 1, "margin": -2}, {"margin": -2})
    one_by_one, at_once = (Cell(CellKey("a", "", 1, date(2026, 3, 1), 1), frozenset()) for _ in range(2))
    for vector, bins in (earns, earns, earns, loses, loses):
        one_by_one.add_unit(vector, bins)
    one_by_one.add_unit(*earns, sign=-1)
    at_once.add_units([earns, loses, earns], [3, 2, -1])
    assert at_once == one_by_one
    assert at_once.histograms == {"margin": {5: 2, -2: 2}}


def test_a_cells_histograms_forget_a_unit_too() -> None:
    cell = Cell(CellKey("a", "", 1, date(2026, 3, 1), 1), frozenset())
    cell.add_unit({"units": 1, "revenue": 5}, {"revenue": 5})
    cell.add_unit({"units": 1, "revenue": 5}, {"revenue": 5, "margin": -2})
    cell.add_unit({"units": 1, "revenue": 5}, {"revenue": 5}, sign=-1)
    assert cell.histograms == {"revenue": {5: 1}, "margin": {-2: 1}}
    cell.add_unit({"units": 1, "revenue": 5}, {"revenue": 5, "margin": -2}, sign=-1)
    assert (cell.histograms, bool(cell.moments)) == ({}, False)

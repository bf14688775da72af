"""A fixed binning of signed integers, fine near zero and logarithmic beyond, in integer arithmetic.

|v| up to 64 has a bin of its own; beyond, each doubling is split into 32 equal bins, so a bin is 1.6 to 3.1 %
wide. Bin numbers rise with v and carry its sign; 0 is bin 0. The binning never changes: histograms
of different days and processes add.
"""

from collections.abc import Mapping
from fractions import Fraction
from itertools import accumulate
from math import ceil

_BITS = 5  # 2^5 bins per doubling


def bin_of(total: int) -> int:
    """The bin of an integer total.

    >>> bin_of(0), bin_of(64), bin_of(65), bin_of(66), bin_of(67), bin_of(-65)
    (0, 64, 65, 65, 66, -65)
    """
    if total < 0:
        return -bin_of(-total)
    offset = total - 1  # bins are closed above: a bin's edge is its largest value
    if offset < 2 << _BITS:
        return total
    shift = offset.bit_length() - _BITS - 1
    return (shift << _BITS) + (offset >> shift) + 1


def edge(bin_number: int) -> int:
    """The value of the bin farthest from zero, with its sign.

    >>> edge(64), edge(65), edge(-65)
    (64, 66, -66)
    """
    if bin_number < 0:
        return -edge(-bin_number)
    if bin_number <= 2 << _BITS:
        return bin_number
    shift = ((bin_number - 1) >> _BITS) - 1
    return (bin_number - (shift << _BITS)) << shift


def quantile_edge(histogram: Mapping[int, int], q: float) -> int:
    """The `edge` of the bin that holds the q quantile of the non-zero totals; ValueError when there are none.

    The quantile is the ceil(q n)-th smallest of n; q is taken as the decimal number it is written as, so
    0.001 of 1,000 totals is one total and not two.

    >>> quantile_edge({-3: 1, 5: 8, 7: 1}, 0.9)
    5
    """
    return edge(_quantile_bin(histogram, q))


def caps(histogram: Mapping[int, int], lower: float, upper: float) -> tuple[int, int]:
    """Winsorising caps (low, high): outer edges of the bins at two quantiles of the non-zero totals.

    Outer means that no value in those two bins is cut: the lower edge of the low bin, the upper of the high.

    >>> caps({-3: 1, 5: 8, 70: 1}, 0.01, 0.9)
    (-3, 5)
    """
    return _lowest(_quantile_bin(histogram, lower)), -_lowest(-_quantile_bin(histogram, upper))


def clip(total: int, low: int, high: int) -> int:
    """A total cut to its caps; 0 stays 0, since the caps are about the non-zero totals.

    >>> clip(0, 5, 90), clip(2, 5, 90), clip(100, 5, 90)
    (0, 5, 90)
    """
    return min(max(total, low), high) if total else 0


def _lowest(bin_number: int) -> int:
    """The lowest value of a bin other than 0."""
    return edge(bin_number) if bin_number < 0 else edge(bin_number - 1) + 1


def _quantile_bin(histogram: Mapping[int, int], q: float) -> int:
    counts = sorted((number, count) for number, count in histogram.items() if number and count)
    n = sum(count for _, count in counts)
    if n == 0:
        raise ValueError("a histogram without non-zero totals has no quantile")
    if not 0 <= q <= 1:
        raise ValueError(f"a quantile needs 0 <= q <= 1, found {q}")
    rank = max(1, ceil(Fraction(repr(float(q))) * n))
    ends = accumulate(count for _, count in counts)
    return next(number for (number, _), end in zip(counts, ends, strict=True) if end >= rank)

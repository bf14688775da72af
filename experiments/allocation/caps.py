"""Caps on shares, and shares as integers over 2^32.

The race compares integers, so that a propensity is exact and the same on every machine. A rounded share
is within one unit of 2^-32 of the real one, and never above its cap.
"""

from collections.abc import Iterable, Mapping

from experiments.errors import BrokenInvariant

WHOLE = 1 << 32
"""All of the traffic, as an integer share."""


def cap_shares(shares: Mapping[str, float], capped: Mapping[str, float], control: str) -> dict[str, float]:
    """Shares cut to their caps (absolute, in [0, 1]); what they lose goes to the control.

    >>> cap_shares({"none": 0.25, "a": 0.5, "b": 0.25}, {"a": 0.25, "b": 0.5}, "none")
    {'none': 0.5, 'a': 0.25, 'b': 0.25}
    """
    if control in capped:
        raise ValueError("the control cannot be capped: it takes what the others lose")
    cut = {key: min(share, capped.get(key, 1.0)) for key, share in shares.items()}
    excess = sum(share - cut[key] for key, share in shares.items())
    whole = min(1.0, cut[control] + excess)  # the sum may round to a little more
    return {key: whole if key == control else share for key, share in cut.items()}


def cap_integer(shares: Mapping[str, int], capped: Mapping[str, float], control: str) -> dict[str, int]:
    """`cap_shares` of integer shares: no cap is exceeded by even one unit, and the sum stays the same."""
    if control in capped:
        raise ValueError("the control cannot be capped: it takes what the others lose")
    limits = {key: int(cap * WHOLE) for key, cap in capped.items()}
    cut = {key: min(share, limits.get(key, WHOLE)) for key, share in shares.items()}
    excess = sum(shares.values()) - sum(cut.values())
    return {key: share + excess if key == control else share for key, share in cut.items()}


def capped_integer(shares: Mapping[str, float], capped: Mapping[str, float], control: str) -> dict[str, int]:
    """`to_integer` of shares that keep their caps: none exceeds its cap by even one unit of 2^-32.

    Rounding may lift a share over a cap it lies on; that unit is the control's, like all that a cap cuts.

    >>> shares = {"none": 0.4, "a": 0.6}  # 0.6 x 2^32 = 2576980377.6
    >>> to_integer(shares)["a"], capped_integer(shares, {"a": 0.6}, "none")["a"]
    (2576980378, 2576980377)
    """
    return cap_integer(to_integer(shares), capped, control)


def to_integer(shares: Mapping[str, float]) -> dict[str, int]:
    """Shares over 2^32 by largest remainder: sum exactly 2^32, every positive share at least 1.

    Shares are taken in proportion to their sum. Exact: a float is a ratio of integers, so no rounding takes
    part, and equal remainders fall by key, so the order of the mapping does not matter.

    >>> to_integer({"a": 0.5, "b": 0.25, "c": 0.25})
    {'a': 2147483648, 'b': 1073741824, 'c': 1073741824}
    """
    ratios = {key: float(share).as_integer_ratio() for key, share in shares.items()}
    denominator = max((below for _, below in ratios.values()), default=1)
    return apportioned({key: above * (denominator // below) for key, (above, below) in ratios.items()})


def apportioned(parts: Mapping[str, int]) -> dict[str, int]:
    """Split 2^32 in proportion to integer parts; see `to_integer`."""
    total = sum(parts.values())
    if total <= 0 or min(parts.values()) < 0:
        raise BrokenInvariant(f"shares must be >= 0 and not all 0, found {dict(parts)}")
    counts = {key: max(part * WHOLE // total, 1 if part else 0) for key, part in parts.items()}
    spare = WHOLE - sum(counts.values())
    if spare > 0:
        for key in _by_remainder(parts, total)[:spare]:
            counts[key] += 1
    elif spare < 0:  # shares below 2^-32 were lifted to 1, at the cost of the largest
        counts[max(counts, key=lambda key: (counts[key], key))] += spare
    return counts


def renormalised(
    shares: Mapping[str, int], candidates: Iterable[str], *, control: str, capped: Mapping[str, float]
) -> dict[str, int]:
    """Integer shares over fewer candidates: in the same proportions, caps kept absolute.

    A candidate without a share gets none. What the caps cut goes to the control, and so does everything
    when no candidate has a share.

    >>> quarter = 1 << 30
    >>> shares = {"none": quarter, "a": quarter, "b": 2 * quarter}
    >>> {key: share / 2**32 for key, share in renormalised(shares, ["none", "a"], control="none",
    ...                                                    capped={"a": 0.25}).items()}
    {'none': 0.75, 'a': 0.25}
    """
    parts = {key: shares.get(key, 0) for key in candidates}
    if control not in parts:
        raise ValueError(f"the control {control!r} is always a candidate")
    if not any(parts.values()):
        parts[control] = 1
    caps = {key: cap for key, cap in capped.items() if key in parts}
    return cap_integer(apportioned(parts), caps, control)


def _by_remainder(parts: Mapping[str, int], total: int) -> list[str]:
    """Keys of positive parts, largest remainder first."""
    positive = [key for key, part in parts.items() if part]
    return sorted(positive, key=lambda key: (-(parts[key] * WHOLE % total), key))

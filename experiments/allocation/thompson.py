"""From P(best) to shares of the traffic.

Serving each variant in proportion to P(best) is Thompson sampling in distribution, without its noise; the
floor keeps every propensity away from zero, and the control keeps a guaranteed share.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import accumulate

from experiments.allocation.caps import cap_shares


def shares(
    prob_best: Mapping[str, float],
    *,
    control: str,
    control_share: float,
    floor: float,
    capped: Mapping[str, float] | None = None,
    killed: Collection[str] = (),
) -> dict[str, float]:
    """Share of each variant, in [0, 1], summing to 1; `prob_best` over the live variants.

    s_k = f + (1 - c - (K - 1) f) w_k and (c - f) more for the control, K = live variants with the control,
    f = floor, c = control_share >= f, w = P(best). The control's share is a minimum: it competes too.
    Caps come last (a ramp or a throttle may lie below the floor), their excess goes to the control. A killed
    variant gets 0; it stands in `prob_best` with 0, P(best) having been taken without it (any other value is
    dropped and the rest scaled up, which only approximates that).

    >>> shares({"none": 0.25, "a": 0.75}, control="none", control_share=0.5, floor=0.25)
    {'none': 0.5625, 'a': 0.4375}
    """
    live = {key: prob for key, prob in prob_best.items() if key not in killed}
    if control not in live:
        raise ValueError(f"the control {control!r} must be among the live variants {sorted(live)}")
    if not (0 <= floor <= control_share <= 1 and floor * (len(live) - 1) + control_share < 1 + 1e-12):
        raise ValueError(f"infeasible: floor {floor}, control_share {control_share}, {len(live)} variants")
    total = sum(live.values())
    if not total > 0 or min(live.values()) < 0:
        raise ValueError(f"P(best) must be >= 0 and not all 0, found {live}")
    if len(live) == 1:
        return {key: 1.0 if key == control else 0.0 for key in [*prob_best]}
    free = 1 - control_share - (len(live) - 1) * floor
    result = {key: floor + free * live[key] / total if key in live else 0.0 for key in prob_best}
    result[control] += control_share - floor
    return cap_shares(result, _among(capped, result), control)


def burn_in_shares(
    keys: Iterable[str],
    control: str,
    control_share: float,
    *,
    capped: Mapping[str, float] | None = None,
    killed: Collection[str] = (),
) -> dict[str, float]:
    """Shares before anything is known: the control's share, and equal treatments.

    >>> burn_in_shares(["none", "a", "b"], "none", 0.5)
    {'none': 0.5, 'a': 0.25, 'b': 0.25}
    """
    every = list(keys)
    live = [key for key in every if key not in killed and key != control]
    if control not in every:
        raise ValueError(f"the control {control!r} must be among {every}")
    result = {key: (1 - control_share) / len(live) if key in live else 0.0 for key in every}
    result[control] = control_share if live else 1.0
    return cap_shares(result, _among(capped, result), control)


def fixed_shares(
    keys: Iterable[str],
    *,
    control: str,
    shares: Mapping[str, float] | None = None,
    capped: Mapping[str, float] | None = None,
    killed: Collection[str] = (),
) -> dict[str, float]:
    """The document's shares scaled to the candidates (equal ones by default).

    A killed variant's share goes to the control, so that the others keep theirs.

    >>> fixed_shares(["none", "a"], control="none", shares={"none": 0.25, "a": 0.25, "b": 0.5})
    {'none': 0.5, 'a': 0.5}
    """
    wanted = {key: 1.0 if shares is None else shares.get(key, 0.0) for key in keys}
    if control not in wanted:
        raise ValueError(f"the control {control!r} must be among {sorted(wanted)}")
    total = sum(wanted.values())
    if total <= 0:
        return {key: 1.0 if key == control else 0.0 for key in wanted}
    result = {key: share / total for key, share in wanted.items()}
    caps = {**_among(capped, result), **{key: 0.0 for key in killed if key in result}}
    return cap_shares(result, caps, control)


def top_two(prob_best: Mapping[str, float], beta: float = 0.5) -> dict[str, float]:
    """Weights that give the leader about beta and the rest to its challengers; sum 1.

    w_k = a_k [beta + (1 - beta) sum_{j != k} a_j / (1 - a_j)], a = P(best): draw the best arm, keep it with
    probability beta, else draw again until another comes. 1 - a_j is summed from the others, so that a
    leader of P(best) = 1 - 1e-17 still has its challengers; with exactly 1 they share equally.
    Source: Russo, Simple Bayesian Algorithms for Best-Arm Identification (2016), 3.3.

    >>> top_two({"a": 0.5, "b": 0.5})
    {'a': 0.5, 'b': 0.5}
    """
    if len(prob_best) < 2:
        return {key: 1.0 for key in prob_best}
    total = sum(prob_best.values())
    best = [prob / total for prob in prob_best.values()]
    leader = max(range(len(best)), key=best.__getitem__)
    # The leader's challengers apart: 1 / (1 - a) overflows where they have next to no chance
    chances = [0.0 if k == leader else prob for k, prob in enumerate(best)]
    if not any(chances):
        chances = [float(k != leader) for k in range(len(best))]
    left = sum(chances)
    rest = _sums_of_others(best)
    seconds = _sums_of_others([0.0 if k == leader else best[k] / rest[k] for k in range(len(best))])
    return {
        key: best[k] * (beta + (1 - beta) * seconds[k]) + (1 - beta) * best[leader] * chances[k] / left
        for k, key in enumerate(prob_best)
    }


def _sums_of_others(values: Sequence[float]) -> list[float]:
    """For each value the sum of all others, from both sides: subtracting it from the total would cancel."""
    before = accumulate(values[:-1], initial=0.0)
    after = reversed([*accumulate(values[:0:-1], initial=0.0)])
    return [low + high for low, high in zip(before, after, strict=True)]


def _among(capped: Mapping[str, float] | None, keys: Collection[str]) -> dict[str, float]:
    return {key: cap for key, cap in (capped or {}).items() if key in keys}

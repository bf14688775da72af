"""How customers react to each variant: the world's appeal, pressure and regret that make the log's figures.

===========  ==============================================================================  ========
symbol       meaning                                                                         solves
===========  ==============================================================================  ========
T            takes over exposures (over customers x `seeing` where exposures are not told)   appeal
G            log of orders over those expected of the same customers with nothing offered    pressure
R            refund rate of orders that took the offer less that of those without it         regret
===========  ==============================================================================  ========

What is expected of a customer depends on segment, day and age, so a variant shown to others or at other
times is not taken for better. T has a Beta posterior; G and R are Normal, shrunk toward no effect
(`rates.shrunk`; R in units of sqrt(r (1 - r)), r the usual rate). By segment each is that of the variant
plus what the segment differs by (T on the scale of log-odds), shrunk toward nothing (`rates.parted`):
segments of few customers react as all do.

Appeal and pressure are roots: the closed-form truth of the world (`sim/worlds/truth.py`), as a function of
the one parameter, must give T, or exp(G) - 1; both are monotone. The limits of an interval are the roots of
the statistic's limits. Regret is R itself, as the world adds it to the refunds of orders that took the offer.
Need, price sensitivity and rescue are assumed: one price cannot tell them. When it is wrong: who takes an
offer may return more than others, whatever they take.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from sim.fitting.building import REACTIONS, Structure, reaction_name
from sim.fitting.found import DRAWS, Found
from sim.fitting.log import Bools, Floats, ShopLog
from sim.fitting.orders import plain_orders
from sim.fitting.rates import common, parted, shrunk
from sim.fitting.roots import Statistic, conversion_lift, solved, take_rate

REGRET = (-1.0, 1.0)
UNTOLD = 10.0
"""Standard error, on a log scale, of what nobody tells anything about."""


@dataclass(frozen=True, slots=True)
class Expected:
    """Of each customer, (n,), if nothing had been offered: orders, and the part of the refunds to be seen."""

    orders: Floats
    refunds: Floats | None


def fit_seeing(log: ShopLog, found: Found) -> None:
    """`seeing`: exposures over customers of the variants that have any."""
    kinds = max(1, len(log.variants))
    counts = np.bincount(log.variant, minlength=kinds)
    seen = np.bincount(log.variant, weights=log.seen, minlength=kinds)
    told = seen > 0
    if not log.tells.exposures or not told.any():
        found.assumed("seeing", "seeing")
        return
    events, trials = float(seen[told].sum()), float(counts[told].sum())
    draws = found.rng.beta(events + 0.5, trials - events + 0.5, DRAWS)
    found.data("seeing", events / trials, draws, trials)


def fit_reactions(log: ShopLog, structure: Structure, found: Found, expected: Expected | None) -> None:
    """`appeal`, `pressure`, `regret` of every offer, for all customers and for each segment."""
    offers = [effect.variant for effect in structure.effects if effect.is_offer]
    for key in offers:
        for name in REACTIONS:
            found.assumed(f"{name}[{key}]", name)
    known = [key for key in offers if key in log.variants and _of(log, key).any()]
    if not known or expected is None:
        return
    kept = [key for key in known if _fit_takes(log, structure, found, key)]
    _fit_lifts(log, structure, found, known, expected.orders)
    if expected.refunds is not None:
        _fit_refunds(log, found, kept, expected.refunds)
    for key in known:
        _complete(log, found, key)


def _complete(log: ShopLog, found: Found, key: str) -> None:
    """The reaction of a segment takes the place of the variant's, so it must say all that this says."""
    for segment in log.segments if len(log.segments) > 1 else ():
        for name in REACTIONS:
            named = reaction_name(name, key, segment)
            if named not in found.estimates:
                found.copied(named, f"{name}[{key}]")


def _of(log: ShopLog, key: str) -> Bools:
    return log.variant == log.variants.index(key)


def _parts(log: ShopLog, chosen: Bools) -> list[Bools]:
    """The customers chosen, by segment; none where there is one segment alone."""
    if len(log.segments) == 1:
        return []
    return [chosen & (log.segment == place) for place in range(len(log.segments))]


def _pairs(log: ShopLog, mine: Bools, base: Bools) -> list[tuple[Bools, Bools]]:
    return list(zip(_parts(log, mine), _parts(log, base), strict=True))


def _units(log: ShopLog, chosen: Bools, segment: str) -> int:
    return int((chosen & (log.segment == log.segments.index(segment))).sum())


def _fit_takes(log: ShopLog, structure: Structure, found: Found, key: str) -> bool:
    """`take_rate` and `appeal`; false where nothing was ever taken."""
    mine = _of(log, key)
    if not log.tells.takes or not (mine & log.took).any():
        # all that the variant does is in the orders
        found.fixed(f"appeal[{key}]", 0.0)
        return False
    has_seen = log.tells.exposures and bool((mine & log.seen).any())
    seeing = 1.0 if has_seen else found.value("seeing")
    shown = mine & log.seen if has_seen else mine

    def counted(of: Bools) -> tuple[float, float]:
        events = float((of & log.took).sum())
        return events, max(float((of & shown).sum()), events)

    events, trials = counted(mine)
    overall = found.rng.beta(events + 0.5, trials - events + 0.5, DRAWS)
    whole = Statistic(min(1.0, events / trials / seeing), np.minimum(1.0, overall / seeing), round(trials))
    found.data(f"take_rate[{key}]", whole.value, whole.draws, whole.units)
    solved(structure, found, "appeal", key, whole, take_rate)
    counts = np.array([counted(part) for part in _parts(log, mine)]).reshape(-1, 2)
    if len(counts):
        took, left = counts[:, 0] + 0.5, counts[:, 1] - counts[:, 0] + 0.5
        odds, errors = np.log(took / left), np.sqrt(1 / took + 1 / left)
        middle, error = common(odds, errors)
        centre = middle + error * found.rng.standard_normal(DRAWS)
        means, draws = parted(odds, errors, found.rng, DRAWS)
        for place, segment in enumerate(log.segments):
            rates = np.minimum(1.0, expit(centre + draws[:, place]) / seeing)
            value = min(1.0, float(expit(middle + means[place])) / seeing)
            statistic = Statistic(value, rates, round(counts[place, 1]))
            solved(structure, found, "appeal", key, statistic, take_rate, segment)
    return True


def _fit_lifts(log: ShopLog, structure: Structure, found: Found, keys: list[str], orders: Floats) -> None:
    """`conversion_lift` and `pressure`; the control's own error is common to all variants."""
    control = log.variant == 0
    if not (control & log.ordered).any():
        found.notes.append("the control has no order: what offers do to conversion cannot be told")
        return

    def gain(mine: Bools, base: Bools) -> tuple[float, float]:
        return _gain(_tally(log.ordered, orders, mine), _tally(log.ordered, orders, base))

    gains = np.array([gain(_of(log, key), control) for key in keys])
    means, draws = shrunk(gains[:, 0], gains[:, 1], found.rng, DRAWS)
    for place, key in enumerate(keys):
        units = int(_of(log, key).sum())
        whole = Statistic(float(np.expm1(means[place])), np.expm1(draws[:, place]), units)
        found.data(f"conversion_lift[{key}]", whole.value, whole.draws, whole.units)
        solved(structure, found, "pressure", key, whole, conversion_lift)
    own = [[gain(*pair) for pair in _pairs(log, _of(log, key), control)] for key in keys]
    for place, segment, mean, drawn in _by_segment(log, own, found):
        statistic = Statistic(
            float(np.expm1(mean)), np.expm1(drawn), _units(log, _of(log, keys[place]), segment)
        )
        solved(structure, found, "pressure", keys[place], statistic, conversion_lift, segment)


def _fit_refunds(log: ShopLog, found: Found, keys: list[str], refunds: Floats) -> None:
    """`regret`: refunds of orders that took the offer, beyond those of orders without it, as a chance."""
    plain = plain_orders(log)
    chances = np.array([found.value(f"refund[{segment}]") for segment in log.segments])[log.segment]
    come = np.divide(refunds, chances, out=np.zeros(len(log)), where=chances > 0)  # the part of its time
    takers = {key: _of(log, key) & log.took & log.ordered for key in keys}
    told = [key for key in keys if takers[key].any()]
    if not told or not (plain & log.returned).any():
        return
    usual = float(log.returned[plain].sum() / come[plain].sum())
    scale = np.sqrt(usual * max(1 - usual, 0.01))

    def gain(mine: Bools, base: Bools) -> tuple[float, float]:
        if not mine.any() or not base.any():
            return 0.0, UNTOLD
        # segments are not alike: what is expected of those who took it is their own segments'
        rate, error = _rate(float(log.returned[mine].sum()), float(come[mine].sum()))
        _, of_base = _rate(float(log.returned[base].sum()), float(come[base].sum()))
        expected = float(refunds[mine].sum() / max(come[mine].sum(), 1e-9))
        return (rate - expected) / scale, float(np.hypot(error, of_base) / scale)

    gains = np.array([gain(takers[key], plain) for key in told])
    means, draws = shrunk(gains[:, 0], gains[:, 1], found.rng, DRAWS)
    for place, key in enumerate(told):
        units = int(takers[key].sum())
        _regret(found, f"regret[{key}]", scale * means[place], scale * draws[:, place], units)
    own = [[gain(*pair) for pair in _pairs(log, takers[key], plain)] for key in told]
    for place, segment, mean, drawn in _by_segment(log, own, found):
        name, units = reaction_name("regret", told[place], segment), _units(log, takers[told[place]], segment)
        _regret(found, name, scale * mean, scale * drawn, units)


def _rate(events: float, trials: float) -> tuple[float, float]:
    """A rate and its standard error, half an event and half a trial without one added to the latter."""
    smooth = (events + 0.5) / (max(trials, events) + 1.0)
    return events / max(trials, events, 1e-9), float(np.sqrt(smooth * (1 - smooth) / (trials + 1.0)))


def _regret(found: Found, name: str, value: float, draws: Floats, units: int) -> None:
    """What is added to a rate lies between -1 and 1."""
    low, high = REGRET
    found.data(name, float(np.clip(value, low, high)), np.clip(draws, low, high), units)


def _by_segment(
    log: ShopLog, gains: Sequence[Sequence[tuple[float, float]]], found: Found
) -> Iterator[tuple[int, str, float, Floats]]:
    """Place of the variant, segment, gain and its draws: what is common, shrunk, and by what they differ.

    `gains` of each variant: those of its segments and their errors, empty where there is one segment alone.
    """
    if not gains[0]:
        return
    given = np.array(gains)  # (variants, segments, 2)
    centres = np.array([common(one[:, 0], one[:, 1]) for one in given])
    middles, middle_draws = shrunk(centres[:, 0], centres[:, 1], found.rng, DRAWS)
    for place, one in enumerate(given):
        means, draws = parted(one[:, 0], one[:, 1], found.rng, DRAWS)
        for number, segment in enumerate(log.segments):
            drawn = middle_draws[:, place] + draws[:, number]
            yield place, segment, float(middles[place] + means[number]), drawn


def _tally(happened: Bools, expected: Floats, of: Bools) -> tuple[float, float, float]:
    """Events, those expected, and the number of customers."""
    return float((happened & of).sum()), float(expected[of].sum()), float(of.sum())


def _gain(mine: tuple[float, float, float], base: tuple[float, float, float]) -> tuple[float, float]:
    """Log of events over those expected, less that of the base, and its standard error.

    Half an event is added, and half an expected one: nothing seen is not surely nothing. Variance of a log of
    a binomial count: (1 - p) / events.
    """
    if not mine[2] or not base[2]:
        return 0.0, UNTOLD
    logs, variances = zip(*(_log_ratio(*one) for one in (mine, base)), strict=True)
    return logs[0] - logs[1], float(np.sqrt(sum(variances)))


def _log_ratio(events: float, expected: float, trials: float) -> tuple[float, float]:
    variance = (1 - events / (trials + 1.0)) / (events + 0.5)
    return float(np.log((events + 0.5) / (expected + 0.5))), variance

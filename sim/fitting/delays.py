"""The law of a delay, when what has not happened yet may still come: a life table with young units in it.

===========  ==================================================================  =======
symbol       meaning                                                             unit
===========  ==================================================================  =======
e_0 ... e_J  edges: quantiles of the delays seen, so that pieces hold as many    seconds
d_j          events with a delay in piece j                                      count
r_j          units at risk in piece j: neither had the event before nor are      count
             younger; one whose age ends within the piece counts by its part
h_j          d_j / r_j, the chance of the event in piece j given none before     1
q_j          h_j (1 - h_1) ... (1 - h_(j-1)), its chance                         1
w_j          q_j / (q_1 + ... + q_J): the law of the delay of those that come    1
===========  ==================================================================  =======

h_j has the posterior Beta(d_j + 1/J, r_j - d_j + 1). Delays of the events seen so far alone would be too
short, since of young units only short ones can be seen. Beyond the oldest age nothing is known, so nothing is
expected. Source: Kaplan and Meier 1958; the actuarial form, Cutler and Ederer 1958.
"""

from dataclasses import dataclass

import numpy as np

from sim.fitting.log import Floats

EVENTS_MIN = 30
"""Fewer delays than this tell no law."""
PIECES = 10
AT_RISK_MIN = 10.0


@dataclass(frozen=True, slots=True, eq=False)
class DelayFit:
    """Edges (J + 1,), weights (J,) and draws of the weights (draws, J)."""

    edges: Floats
    weights: Floats
    draws: Floats
    events: int

    def reached(self, ages: Floats) -> Floats:
        """Which part of each piece ages have reached: (n, J); times weights, summed, it is P(delay < age)."""
        return np.clip((ages[:, np.newaxis] - self.edges[:-1]) / np.diff(self.edges), 0.0, 1.0)

    def below(self, ages: Floats) -> Floats:
        """P(delay < age), shape (n,)."""
        return self.reached(ages) @ self.weights


def fit_delay(
    delays: Floats, ages: Floats, rng: np.random.Generator, draws: int, *, pieces: int = PIECES
) -> DelayFit | None:
    """The law of a delay; None where too few events were seen.

    `delays`: (n,) of each unit, nan where nothing has happened; `ages`: (n,) how long each was watched, both
    in seconds. Pieces reached by hardly any unit are left out.
    """
    seen = delays[~np.isnan(delays)]
    if len(seen) < EVENTS_MIN:
        return None
    count = min(pieces, len(seen) // (EVENTS_MIN // 3))
    edges = np.unique(np.quantile(seen, np.linspace(0, 1, count + 1)))
    if len(edges) < 2:  # all alike, as where a log knows days alone
        edges = np.array([edges[0], edges[0] + 1.0])
    events = np.histogram(seen, edges)[0].astype(float)
    at_risk = _at_risk(delays, ages, edges)
    kept = len(edges) - 1
    while kept > 1 and at_risk[kept - 1] < AT_RISK_MIN:
        kept -= 1
    edges, events, at_risk = edges[: kept + 1], events[:kept], np.maximum(at_risk, events)[:kept]
    drawn = rng.beta(events + 1.0 / kept, at_risk - events + 1.0, (draws, kept))
    return DelayFit(edges, _weights(events / at_risk), _weights(drawn), int(events.sum()))


def _at_risk(delays: Floats, ages: Floats, edges: Floats) -> Floats:
    """r_j, shape (J,)."""
    has_none_yet = np.where(np.isnan(delays), np.inf, delays)
    part = np.clip((ages[:, np.newaxis] - edges[:-1]) / np.diff(edges), 0.0, 1.0)
    here = (has_none_yet[:, np.newaxis] >= edges[:-1]) & (has_none_yet[:, np.newaxis] < edges[1:])
    # one that has the event in this piece was at risk whole, however young it is
    before = has_none_yet[:, np.newaxis] < edges[:-1]
    return np.where(here, 1.0, np.where(before, 0.0, part)).sum(axis=0)


def _weights(hazards: Floats) -> Floats:
    """W of h, along the last axis.

    >>> _weights(np.array([0.1, 0.5])).round(6).tolist()
    [0.181818, 0.818182]
    """
    left = np.cumprod(1.0 - hazards, axis=-1)
    before = np.concatenate([np.ones_like(left[..., :1]), left[..., :-1]], axis=-1)
    chances = hazards * before
    return chances / chances.sum(axis=-1, keepdims=True)

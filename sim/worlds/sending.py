"""When events reach the ledger: as they happen, or late, some twice; the same for the same customer.

Chances are hashed from the customer's own (`Row.NOISE`) by the kind of event, so that a customer whose events
are sent one by one over HTTP and a million of them in arrays are late in the same way.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sim.worlds.cells import Floats, Ints
from sim.worlds.customers import Customers, Row
from sim.worlds.outcomes import NEVER, Outcomes
from sim.worlds.world import Noise, World

SLOTS = (
    "exposed_us",
    "clicked_us",
    "took_us",
    "declined_us",
    "cart_us",
    "abandoned_us",
    "order_us",
    "refund_us",
    "rated_us",
)
"""The kinds of events, by their times in `Outcomes`; later orders follow, one for each period."""
HOUR_US = 3_600_000_000
_LATE, _BY, _TWICE, _GAP = range(4)
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True, slots=True, eq=False)
class Sendings:
    """Of each kind of event how late it is sent, and how long after that again; 0 for not at all.

    Microseconds, of shape (kinds, n).
    """

    late_us: Ints
    again_us: Ints


def sendings(noise: Noise, chance: Floats, kinds: int) -> Sendings:
    """How each customer's events are sent; `chance` is the customers' `Row.NOISE`, (n,)."""
    kind = np.arange(kinds)[:, None]
    u = [hashed(chance, 4 * kind + which) for which in (_LATE, _BY, _TWICE, _GAP)]
    late = (u[_BY] * (noise.late_h_max * HOUR_US)).astype(np.int64)
    again = ((1 + 59 * u[_GAP]) * 1e6).astype(np.int64)
    return Sendings(
        late_us=np.where(u[_LATE] < noise.late, late, 0),
        again_us=np.where(u[_TWICE] < noise.duplicates, again, 0),
    )


def as_sent(world: World, customers: Customers, outcomes: Outcomes) -> Outcomes:
    """The outcomes with the times at which their events are first sent in the place of when they happen."""
    noise, periods = world.noise, len(outcomes.repeat_us)
    if not noise.late:
        return outcomes
    late = sendings(noise, customers.u[Row.NOISE], len(SLOTS) + periods).late_us
    times = {name: _later(getattr(outcomes, name), late[place]) for place, name in enumerate(SLOTS)}
    return replace(outcomes, **times, repeat_us=_later(outcomes.repeat_us, late[len(SLOTS) :]))


def hashed(chance: Floats, counter: NDArray[np.int64]) -> Floats:
    """A uniform number on [0, 1) of each chance and counter: SplitMix64's mixing of the two.

    Source: Steele, Lea and Flood, Fast Splittable Pseudorandom Number Generators (2014), section 4.
    """
    bits = np.ascontiguousarray(chance).view(np.uint64) + (counter.astype(np.uint64) + np.uint64(1)) * _GOLDEN
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    bits ^= bits >> np.uint64(31)
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _later(times: Ints, late_us: Ints) -> Ints:
    return np.where(times == NEVER, NEVER, times + late_us)

"""Outcomes as unit vectors: for n customers at once what `fold_unit` makes of the events of each."""

from datetime import timedelta

import numpy as np
from numpy.typing import NDArray

from experiments.fold import HORIZONS_US, REPEAT_HORIZON_US, micros
from experiments.statistics import FIXED_POINT
from sim.worlds.cells import Ints
from sim.worlds.customers import Customers
from sim.worlds.outcomes import Outcomes
from sim.worlds.people import RATING_SCALE

_FOREVER_US = np.int64(2**62)


def figures(
    customers: Customers, outcomes: Outcomes, *, window: timedelta, age_us: Ints | None = None
) -> dict[str, Ints]:
    """The features of each customer's vector by name, (n,) each; money in minor units, uncapped.

    Counted is what has happened `age_us` after the arrival, (n,) or one number; None is all there will ever
    be. Features that are 0 for everybody (cancels, unknown costs) are left out, and so are the capped copies
    of money, which are the totals themselves until there are caps. `net_revenue` comes with them.
    """
    age = _FOREVER_US if age_us is None else np.asarray(age_us, np.int64)
    end = np.minimum(micros(window) - 1, age)  # the last instant within the window
    o = outcomes
    ordered, refunded = _by(o.order_us, end), _by(o.order_us, end) & _by(o.refund_us, age)
    exposed, rated = _by(o.exposed_us, end), _by(o.rated_us, end)
    carts, abandoned = _by(o.cart_us, end), _by(o.abandoned_us, age)
    repeats = _repeats(o, end)
    refunded_value = o.refunded_minor * refunded
    loss = refunded_value - o.recovered_minor * refunded
    revenue = o.amount_minor * ordered + o.repeat_amount_minor * repeats
    first_margin = (o.amount_minor - o.cost_minor) * ordered - loss
    later_margin = o.repeat_amount_minor - o.repeat_cost_minor
    booked = _by(o.order_us, np.minimum(REPEAT_HORIZON_US - 1, age))
    again = _repeats(o, np.minimum(REPEAT_HORIZON_US - 1, age))
    vector: dict[str, Ints | NDArray[np.bool_]] = {
        "assigned": np.ones(len(o), np.int64),
        "units": np.ones(len(o), np.int64),
        "exposed": exposed,
        "clicked": exposed & _by(o.clicked_us, end),
        "took": exposed & _by(o.took_us, end),
        "converted": ordered,
        "orders": ordered + repeats,
        "revenue": revenue,
        "refunded_orders": refunded,
        "refunded_value": refunded_value,
        "net_revenue": revenue - refunded_value,
        "margin": first_margin + later_margin * repeats,
        "refund_loss": loss,
        "carts": carts,
        "abandoned": carts & abandoned,
        "ratings": rated,
        "rating_sum": _SCORES[np.where(rated, o.rating, 0)],
        "pre_margin": customers.pre_margin_minor,
        "buyer_90d": booked,
        "repeat_90d": booked & (again > 0),
    }
    for name, horizon_us in HORIZONS_US.items():
        until = np.minimum(horizon_us - 1, age)
        first = _by(o.order_us, until)
        lost = (o.refunded_minor - o.recovered_minor) * _by(o.refund_us, age)
        margin = (o.amount_minor - o.cost_minor - lost) * first
        vector[name] = margin + later_margin * _repeats(o, until)
    return {name: np.asarray(values, np.int64) for name, values in vector.items()}


_SCORES = np.array([round(FIXED_POINT * score / RATING_SCALE) for score in range(RATING_SCALE + 1)])


def _by(at_us: Ints, until_us: Ints | np.int64) -> NDArray[np.bool_]:
    """Whether it has happened by then."""
    return (at_us >= 0) & (at_us <= until_us)


def _repeats(outcomes: Outcomes, until_us: Ints | np.int64) -> Ints:
    """Later orders by then, (n,)."""
    return _by(outcomes.repeat_us, until_us).sum(axis=0)

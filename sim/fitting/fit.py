"""The fit: a log and its mapping to a world with the uncertainty of every parameter."""

from dataclasses import dataclass

import numpy as np

from experiments.document import to_document
from experiments.model import OfferKind
from sim.fitting.building import Document, Structure, build, effects_of, usual_experiment
from sim.fitting.found import Found
from sim.fitting.goods import fit_goods
from sim.fitting.log import ShopLog
from sim.fitting.mapping import FitMapping
from sim.fitting.orders import (
    fit_conversion,
    fit_history,
    fit_parts,
    fit_refunds,
    fit_repeats,
    order_delay,
    refund_delay,
    told_delay,
)
from sim.fitting.traffic import fit_traffic
from sim.fitting.variants import Expected, fit_reactions, fit_seeing
from sim.worlds.world import World


@dataclass(frozen=True, slots=True, eq=False)
class Fit:
    """A fitted world: its parameters, and what they are parameters of."""

    log: ShopLog
    mapping: FitMapping
    found: Found
    structure: Structure
    experiment: Document

    @property
    def world(self) -> World:
        """The world of the estimates; it starts on the first day of the log."""
        return build(self.structure, self.found)

    def drawn(self, draw: int) -> World:
        """The world of one draw of the posterior."""
        return build(self.structure, self.found, draw)


def fit(log: ShopLog, mapping: FitMapping, *, seed: int = 0) -> Fit:
    """Estimate everything the log can tell; what it cannot is assumed, and listed as such."""
    found = Found(mapping, np.random.default_rng(seed), notes=list(log.notes))
    fit_traffic(log, found)
    by_order, by_refund = order_delay(log, found), refund_delay(log, found)
    order, refund = told_delay("order", by_order, found), told_delay("refund", by_refund, found)
    orders = fit_conversion(log, by_order, found)
    refunds = fit_refunds(log, by_refund, found)
    parts = fit_parts(log, found)
    repeats = fit_repeats(log, found)
    fit_history(log, found)
    fit_seeing(log, found)
    replaced = {one.replaces for one in mapping.goods.values() if one.replaces is not None}
    offered = (
        {v.offer.sku for v in mapping.experiment.variants if v.offer.sku} if mapping.experiment else set()
    )
    goods = fit_goods(log, found, frozenset(replaced | offered))
    if mapping.experiment is None:
        value, rate = found.value("mean_order_value"), found.value("cost_rate")
        experiment, document = usual_experiment(mapping.currency, value, rate)
    else:
        experiment, document = mapping.experiment, to_document(mapping.experiment)
    if experiment.control.offer.kind is not OfferKind.NONE:
        found.notes.append("the control is an offer: its own effect cannot be told and stands in all rates")
    structure = Structure(
        currency=mapping.currency,
        touchpoint=experiment.touchpoint,
        segments=log.segments,
        goods=goods,
        order=order,
        refund=refund,
        repeats=repeats,
        refunded_parts=parts,
        effects=effects_of(experiment, mapping.goods),
        has_visits=log.tells.visits,
        start=log.first_day,
    )
    fit_reactions(log, structure, found, None if orders is None else Expected(orders, refunds))
    return Fit(log, mapping, found, structure, document)

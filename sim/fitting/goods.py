"""What they buy: baskets of the frequent products, their prices and costs, and the spread of order values.

An order is the set of kept products it holds, and whether it holds others. The frequent sets are the world's
baskets; all others are one, of what is left. The price of a kept product is the mean of what it adds to an
order; in a basket with others, these cost what is missing to the mean of its orders. So the mean of each
basket, and of each segment by a factor, is that of the data; the spread is one for all:

Where there are variants the control's orders alone are taken: whoever leaves an offer has another basket.

    log M = log(amount) - log(basket's mean) - log(segment's factor),   cv = sqrt(exp(var(log M)) - 1)
"""

from dataclasses import dataclass

import numpy as np

from experiments.money import exponent
from sim.fitting.family import lognormal_gain
from sim.fitting.found import DRAWS, Found
from sim.fitting.log import Floats, Ints, ShopLog
from sim.fitting.orders import control_of
from sim.fitting.rates import law
from sim.worlds.offers import Basket, Product

BASKETS = 12
ORDERS_MIN = 50
"""Fewer orders tell no prices by product."""
REST = "rest"


@dataclass(frozen=True, slots=True)
class Goods:
    """Products and baskets of the world; a basket's share is the parameter of its place."""

    products: tuple[Product, ...]
    baskets: tuple[Basket, ...]


def fit_goods(log: ShopLog, found: Found, keep: frozenset[str]) -> Goods:
    """`order_value_cv`, `order_value[...]`, `mean_order_value`, `cost_rate`, `basket[...]`; `keep`: skus."""
    plain = log.ordered & control_of(log)
    amounts = log.amount[plain]
    if not log.tells.amounts or len(amounts) < 2:
        return _assumed(log, found)
    cost_rate = _cost_rate(log, found)
    units = np.flatnonzero(plain)
    sets = _sets(log, units, found, keep) if log.tells.goods and len(units) >= ORDERS_MIN else None
    where, skus = (np.zeros(len(units), np.int64), [("order",)]) if sets is None else sets
    counts = np.bincount(where, minlength=len(skus)).astype(float)
    means = np.bincount(where, weights=amounts, minlength=len(skus)) / counts
    goods = _priced(log, skus, counts, means, cost_rate)
    names = [f"basket[{'+'.join(basket.skus)}]" for basket in goods.baskets]
    found.many(names, *law(counts, found.rng, DRAWS), counts)
    _spread(log, found, units, np.array([_price(goods, one) for one in goods.baskets])[where])
    error = amounts.std() / np.sqrt(len(amounts))
    mean = float(amounts.mean())
    drawn = np.maximum(mean / 100, mean + error * found.rng.standard_normal(DRAWS))
    found.data("mean_order_value", mean, drawn, len(amounts))
    return goods


def _assumed(log: ShopLog, found: Found) -> Goods:
    found.assumed("mean_order_value", "order_value", scale=10.0 ** exponent(log.currency))
    found.assumed("order_value_cv", "order_value_cv")
    found.assumed("cost_rate", "cost_rate")
    found.fixed("basket[order]", 1.0)
    for key in log.segments:
        found.fixed(f"order_value[{key}]", 1.0)
    price = max(1, round(found.value("mean_order_value")))
    product = Product("order", price, round(price * found.value("cost_rate")))
    return Goods((product,), (Basket(("order",), 1.0),))


def _cost_rate(log: ShopLog, found: Found) -> float:
    known = log.ordered & control_of(log) & ~np.isnan(log.cost)
    if not log.tells.costs or known.sum() < 2:
        found.assumed("cost_rate", "cost_rate")
        return found.value("cost_rate")
    amount, cost = log.amount[known], log.cost[known]
    rate = float(cost.sum() / amount.sum())
    # the error of a ratio of means: Cochran 1977, 6.4
    error = float(np.std(cost - rate * amount) / amount.mean() / np.sqrt(len(cost)))
    found.data("cost_rate", rate, np.maximum(0, rate + error * found.rng.standard_normal(DRAWS)), len(cost))
    return rate


def _sets(
    log: ShopLog, units: Ints, found: Found, keep: frozenset[str]
) -> tuple[Ints, list[tuple[str, ...]]] | None:
    """The basket of each plain order, (n,), and the kept skus of each basket; REST stands for others."""
    if not len(log.item_sku):
        return None
    orders = np.bincount(log.item_sku, minlength=len(log.skus))
    frequent = np.argsort(-orders, kind="stable")[: found.mapping.products_max]
    kept = {*frequent.tolist(), *(place for place, sku in enumerate(log.skus) if sku in keep)}
    held: dict[int, set[str]] = {unit: set() for unit in units.tolist()}
    for unit, sku in zip(log.item_unit.tolist(), log.item_sku.tolist(), strict=True):
        if unit in held:
            held[unit].add(log.skus[sku] if sku in kept else REST)
    keys = [tuple(sorted(held[unit])) or (REST,) for unit in units.tolist()]
    counts: dict[tuple[str, ...], int] = {}
    for key in keys:
        counts[key] = counts.get(key, 0) + 1
    most = sorted(counts, key=lambda key: -counts[key])[:BASKETS]
    if len(counts) > len(most) and (REST,) not in most:
        most[-1] = (REST,)
    place = {key: number for number, key in enumerate(most)}
    rest = place.get((REST,), 0)
    return np.array([place.get(key, rest) for key in keys], np.int64), most


def _priced(
    log: ShopLog, skus: list[tuple[str, ...]], counts: Floats, means: Floats, cost_rate: float
) -> Goods:
    """Products with prices so that every basket costs the mean of its orders."""
    prices = _item_prices(log)
    products: dict[str, Product] = {}
    baskets: list[Basket] = []
    for number, (key, mean) in enumerate(zip(skus, means.tolist(), strict=True)):
        named = [sku for sku in key if sku != REST and sku in prices]
        left = mean - sum(prices[sku] for sku in named)
        in_basket = [sku for sku in named if prices[sku] >= 1]
        if REST in key or not in_basket:
            if left < 1:  # the others cannot cost less than nothing: the basket stands for itself
                in_basket, left = [], mean
            own = f"{REST}-{number}" if REST in key else key[0]
            products[own] = _product(own, left, cost_rate)
            in_basket.append(own)
        for sku in in_basket:
            if sku not in products:
                products[sku] = _product(sku, prices[sku], cost_rate)
        baskets.append(Basket(tuple(in_basket), float(counts[number] / counts.sum())))
    return Goods(tuple(products.values()), tuple(baskets))


def _product(sku: str, price: float, cost_rate: float) -> Product:
    minor = max(1, round(price))
    return Product(sku, minor, round(minor * cost_rate))


def _item_prices(log: ShopLog) -> dict[str, float]:
    """What each product adds to an order that holds it, on average."""
    if not len(log.item_sku):
        return {}
    sums = np.bincount(log.item_sku, weights=log.item_amount, minlength=len(log.skus))
    orders = np.bincount(log.item_sku, minlength=len(log.skus))
    return {sku: float(sums[place] / orders[place]) for place, sku in enumerate(log.skus) if orders[place]}


def _price(goods: Goods, basket: Basket) -> float:
    prices = {product.sku: product.price_minor for product in goods.products}
    return float(sum(prices[sku] for sku in basket.skus))


def _spread(log: ShopLog, found: Found, units: Ints, listed: Floats) -> None:
    """`order_value[...]` of segments and the spread of what is left."""
    relative = log.amount[units] / listed
    segment = log.segment[units]
    size = len(log.segments)
    counts = np.bincount(segment, minlength=size)
    overall = float(relative.mean())
    factors = np.ones(size)
    for place, key in enumerate(log.segments):
        mine = relative[segment == place]
        if len(mine) < 2:
            found.fixed(f"order_value[{key}]", overall)
            factors[place] = overall
            continue
        factors[place] = mine.mean()
        error = mine.std() / np.sqrt(len(mine))
        draws = np.maximum(factors[place] / 10, factors[place] + error * found.rng.standard_normal(DRAWS))
        found.data(f"order_value[{key}]", factors[place], draws, int(counts[place]))
    found.lognormal_gain = lognormal_gain(relative / factors[segment])
    logs = np.log(relative / factors[segment])
    logs -= (np.bincount(segment, weights=logs, minlength=size) / np.maximum(1, counts))[segment]
    dof = max(1, len(logs) - size)
    variance = float(logs @ logs / dof)
    variances = dof * variance / found.rng.chisquare(dof, DRAWS)
    found.data(
        "order_value_cv",
        float(np.sqrt(np.expm1(min(variance, 4.6)))),
        np.sqrt(np.expm1(np.minimum(variances, 4.6))),
        len(logs),
    )

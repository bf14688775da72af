"""Stop rules and health where shares go by context or segment, and what a segment was drawn from."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from sqlalchemy import update

from experiments.allocation.proposal import replayed
from service.ledger import schema
from service.ledger.verify import verify
from tests.service.conftest import Shop
from tests.service.test_contextual import FEATURES, FLIP, ask
from tests.service.test_definitions import POLICY, bought, clock, policy, send

PATH = "/v1/experiments/checkout-addon"
HOUR = timedelta(hours=1)
SURE = {
    ("none", "mobile"): 0.2,
    ("socks", "mobile"): 0.5,
    ("none", "desktop"): 0.1,
    ("socks", "desktop"): 0.4,
}
Decisions = dict[str, dict[str, Any]]
Rates = dict[tuple[str, str], float]


def opened(shop: Shop, settings: dict[str, Any], **document: Any) -> None:
    clock(shop, timedelta(0))
    chosen = {**POLICY, "objective": "conversion_rate", **settings}
    shop.running(policy=chosen, attribution_window="1h", **document)


def trade(shop: Shop, by: str, day: int, count: int, rates: Rates = FLIP, hour: int = 9) -> Decisions:
    """Shoppers of a day, every other one on mobile, who buy as the rates say; some send back."""
    rng = np.random.default_rng(day)
    clock(shop, timedelta(days=day, hours=hour))
    kinds = {f"d{day}-{n}": ("mobile", "desktop")[n % 2] for n in range(count)}
    made = ask(shop, {unit: {by: kind, "visits": n % 7} for n, (unit, kind) in enumerate(kinds.items())})
    orders = [u for u, kind in kinds.items() if rng.random() < rates[made[u]["variant"], kind]]
    send(shop, [bought(unit, 5000, cost=2000) for unit in orders])
    back = [{"event_id": f"r-{u}", "type": "refund", "order_id": u, "amount": 100} for u in orders[::4]]
    send(shop, back)
    return made


def settle(shop: Shop, at: timedelta) -> None:
    """Let everything sent be folded (a report does), and versions follow from it.

    A step under way while the clock is set may not have seen it yet; two hours later another one has.
    """
    assert shop.get(f"{PATH}/report").status_code == 200
    clock(shop, at)
    clock(shop, at + 2 * HOUR)


def entropy(shares: dict[str, float]) -> float:
    return -sum(share * math.log(share) for share in shares.values()) / math.log(len(shares))


def explained(shop: Shop, decision: dict[str, Any]) -> dict[str, Any]:
    return shop.get(f"/v1/decisions/{decision['decision_id']}/explain").json()


def weights(made: Decisions, variant: str) -> Iterator[float]:
    """What each unit of a variant weighs, by the propensity its decision told."""
    return (1 / (2 * one["propensity"]) for one in made.values() if one["variant"] == variant)


def test_who_leads_by_context_is_told_and_what_is_explored_there(simulated_shop: Shop) -> None:
    shop = simulated_shop
    rule = {"prob_best_above": 0.9, "action": "promote"}
    opened(shop, {"kind": "contextual", "features": FEATURES[:1], "floor": 0.1}, stop_rule=rule)
    assert policy(shop)["exploration"]["contexts"] is None  # nothing is drawn yet: shares are everybody's
    made = trade(shop, "device", 0, 500)
    settle(shop, timedelta(days=1, hours=2))
    made |= trade(shop, "device", 1, 300)
    settle(shop, timedelta(days=2, hours=12))
    found = policy(shop)
    stop = found["stop"]
    assert (stop["state"], stop["reached"], stop["blocked"]) == ("reached", ["prob_best"], ["not_everywhere"])
    assert found["promoted"] is None
    assert stop["figures"]["leads"] == {"none": pytest.approx(0.5), "socks": pytest.approx(0.5)}
    assert stop["figures"]["contexts"] == 2
    assert found["alarms"][0]["detail"].endswith("(not promoted: no variant leads in every context)")
    # What is explored: the mean over the two contexts of what a decision there is told.
    told = [explained(shop, one) for one in trade(shop, "device", 3, 2).values()]
    health = found["exploration"]
    assert health["entropy"] == pytest.approx(np.mean([entropy(one["shares"]) for one in told]))
    assert told[0]["entropy"] == pytest.approx(entropy(told[0]["shares"]))
    assert told[0]["stop"] == stop["detail"]
    assert told[0]["promoted"] is None
    assert health["min_propensity"] == min(min(one["shares"].values()) for one in told)
    assert (health["contexts"], health["collapsed"], health["segments"]) == (2, [], None)
    assert health["entropy_trend_per_day"] < 0  # it began even
    for variant in ("none", "socks"):
        w = np.array(list(weights(made, variant)))
        assert health["variants"][variant]["units"] == len(w)
        assert health["variants"][variant]["ess"] == pytest.approx(w.sum() ** 2 / (w**2).sum(), rel=1e-9)
    assert health["variants"]["socks"]["ess"] < 0.9 * health["variants"]["socks"]["units"]
    assert verify(shop.database).is_exact


def test_who_leads_in_every_context_is_promoted_once_shares_may_move(simulated_shop: Shop) -> None:
    shop = simulated_shop
    rule = {"prob_best_above": 0.95, "action": "promote"}
    opened(shop, {"kind": "contextual", "features": FEATURES[:1]}, stop_rule=rule)
    trade(shop, "device", 0, 800, SURE)
    assert shop.get(f"{PATH}/report").status_code == 200
    for minutes in range(0, 241, 20):
        clock(shop, timedelta(days=1, hours=1, minutes=minutes))
        found = policy(shop)
        if found["promoted"] is not None:  # never told before it is so
            assert found["sets"][0]["shares"] == pytest.approx({"none": 0.2, "socks": 0.8})
            assert (found["cause"], found["stop"]["promote"]) == ("stop_rule", "socks")
    assert found["promoted"] == "socks"
    assert found["contextual"] is None
    assert found["exploration"]["collapsed"] == []
    (unit,) = ask(shop, {"late": {"device": "mobile"}}).values()
    why = explained(shop, unit)
    assert (why["promoted"], why["stop"]) == ("socks", found["stop"]["detail"])
    assert why["shares"] == pytest.approx({"none": 0.2, "socks": 0.8})


def test_a_promotion_waits_until_draws_may_change(simulated_shop: Shop) -> None:
    """On the first day shares may move at once, draws hourly only: promoted is who has the shares of it."""
    shop = simulated_shop
    clock(shop, 12 * HOUR)
    settings = {**POLICY, "kind": "contextual", "features": FEATURES[:1], "objective": "conversion_rate"}
    shop.running(policy=settings, attribution_window="1h")
    trade(shop, "device", 0, 800, SURE, hour=13)
    settle(shop, 25 * HOUR)
    assert policy(shop)["contextual"] is not None
    rule = {"prob_best_above": 0.95, "action": "promote"}
    etag = shop.get(PATH).headers["etag"]
    assert shop.patch(PATH, {"stop_rule": rule, "policy": {"floor": 0.03}}, etag).status_code == 200
    assert policy(shop)["cause"] == "edited"  # with draws of its own
    clock(shop, 27 * HOUR + timedelta(minutes=20))
    found = policy(shop)
    assert (found["stop"]["reached"], found["stop"]["blocked"]) == (["prob_best"], ["shares_just_moved"])
    assert found["promoted"] is None
    clock(shop, 29 * HOUR)
    found = policy(shop)
    assert (found["promoted"], found["cause"]) == ("socks", "stop_rule")
    assert found["sets"][0]["shares"] == pytest.approx({"none": 0.2, "socks": 0.8})


def test_endless_contexts_are_those_of_the_units_there_are(simulated_shop: Shop) -> None:
    shop = simulated_shop
    opened(shop, {"kind": "contextual", "features": FEATURES}, stop_rule={"loss_below": 1e-9})
    trade(shop, "device", 0, 700)
    settle(shop, timedelta(days=1, hours=3))
    found = policy(shop)
    assert found["contextual"]["model"] == "linear"
    assert found["stop"]["figures"]["contexts"] == 14  # 2 devices, 7 numbers of visits, evenly among 256
    assert found["exploration"]["contexts"] == 14
    assert found["stop"]["figures"]["leads"].keys() == {"none", "socks"}
    assert found["stop"]["figures"]["leads"]["none"] == pytest.approx(0.5, abs=0.05)


def test_shares_that_die_in_a_context_are_an_alarm_that_says_where(simulated_shop: Shop) -> None:
    shop = simulated_shop
    opened(shop, {"kind": "contextual", "features": FEATURES[:1]})
    trade(shop, "device", 0, 1500)
    settle(shop, timedelta(days=1, hours=12))
    found = policy(shop)
    assert found["alarms"] == []
    assert found["exploration"]["variants"]["none"]["units"] > 50
    etag = shop.get(PATH).headers["etag"]
    assert shop.patch(PATH, {"policy": {"floor": 0.001, "control_share": 0.001}}, etag).status_code == 200
    before, found = found, policy(shop)
    assert found["exploration"]["variants"] == before["exploration"]["variants"]  # not counted while it waits
    assert found["exploration"]["collapsed"][:2] == ["entropy", "min_propensity"]
    assert "% of the traffic only in some context" in found["alarms"][0]["detail"]
    assert max(found["sets"][0]["shares"].values()) < 0.6  # on average nothing is to be seen


def test_each_segment_is_told_and_drawn_again_to_the_bit(simulated_shop: Shop) -> None:
    shop = simulated_shop
    rail = {"metric": "refund_rate", "warn": 0.1, "throttle": 5.0, "kill": 9.0}
    opened(shop, {"kind": "segment", "floor": 0.1}, guardrails=[rail], refund_window="1h")
    trade(shop, "segment", 0, 600)
    settle(shop, timedelta(days=1, hours=12))
    found = policy(shop)
    with shop.database.read() as connection:
        rows = connection.execute(schema.policy_version.select().order_by(schema.policy_version.c.number))
        body = rows.all()[-1].body
    (drawn,) = body["draws"]
    assert found["draws"][0]["segments"] == ["desktop", "mobile"]
    for segment, (of_set,) in found["segments"].items():
        assert replayed(drawn, segment) == of_set["prob_best"]
    assert replayed(drawn) == found["sets"][0]["prob_best"]
    assert found["segments"]["mobile"][0]["prob_best"] != found["segments"]["desktop"][0]["prob_best"]
    health = found["exploration"]
    for segment, (of_set,) in found["segments"].items():
        told = health["segments"][segment]
        assert told["entropy"] == pytest.approx(entropy(of_set["shares"]))
        assert told["min_propensity"] == min(of_set["shares"].values())
    assert health["entropy"] == pytest.approx(
        np.mean([one["entropy"] for one in health["segments"].values()])
    )
    assert health["contexts"] is None


def test_versions_of_old_have_no_figures_by_context(simulated_shop: Shop) -> None:
    """Their health was null; the trend begins with the first version that has an entropy."""
    shop = simulated_shop
    opened(shop, {"kind": "contextual", "features": FEATURES[:1]})
    with shop.database.write() as connection:
        body = connection.execute(schema.policy_version.select()).one().body
        old = json.loads(json.dumps(body)) | {"exploration": None}
        connection.execute(update(schema.policy_version).values(body=old))
    assert policy(shop)["exploration"] is None
    trade(shop, "device", 0, 500)
    settle(shop, timedelta(days=1, hours=12))
    found = policy(shop)["exploration"]
    assert found["contexts"] == 2

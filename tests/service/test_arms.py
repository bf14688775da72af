"""Variants that come and go, warm starts, stop rules and health, as the API has them; sums stay exact."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from service.ledger.verify import verify
from tests.service.conftest import Shop, document
from tests.service.test_definitions import bought, clock, enrol, policy, send

PATH = "/v1/experiments/checkout-addon"
POLICY = {
    "kind": "thompson",
    "objective": "conversion_rate",
    "control_share": 0.2,
    "floor": 0.02,
    "burn_in": 50,
}
CAP = {"key": "cap", "offer": {"kind": "cross_sell", "sku": "CAP-1", "price": 900, "cost": 200}}


def opened(shop: Shop, **changes: Any) -> None:
    clock(shop, timedelta(0))
    shop.running(**{"policy": POLICY, "attribution_window": "1h", **changes})


def trade(shop: Shop, day: int, units: int, **rates: float) -> dict[str, str]:
    """A day's units, the first part of each variant's buying; then the day is over and matured."""
    clock(shop, timedelta(days=day, hours=3))
    names = [f"d{day}u{i}" for i in range(units)]
    arms = enrol(shop, names)
    for variant, rate in rates.items():
        mine = [name for name in names if arms[name] == variant]
        send(shop, [bought(name, 1000, cost=0) for name in mine[: round(len(mine) * rate)]])
    clock(shop, timedelta(days=day + 1, hours=2))
    return arms


def shares(shop: Shop) -> dict[str, float]:
    sets = policy(shop)["sets"]
    return max(sets, key=lambda one: len(one["candidates"]))["shares"]


def exact(shop: Shop) -> None:
    assert verify(shop.database).is_exact


def test_a_variant_comes_while_the_others_go_on_and_one_takes_anothers_place(simulated_shop: Shop) -> None:
    shop = simulated_shop
    opened(shop)
    first = trade(shop, 0, 600, none=0.2, socks=0.4)
    before = shares(shop)
    assert before["socks"] > 0.7
    added = shop.post(f"{PATH}/variants", CAP)
    assert added.status_code == 201
    assert added.json()["variants"][2] == {
        **{"key": "cap", "state": "active"},
        "added_at": "2026-03-03T02:00:00Z",
    }
    found = policy(shop)
    assert (found["cause"], found["newcomers"], found["burn_in"]) == ("added", ["cap"], False)
    # 0.1 of what is above the minima (0.8 - 0.02 free, all but a hair socks') goes to cap.
    assert shares(shop)["cap"] == pytest.approx(0.1)
    assert shares(shop)["socks"] == pytest.approx(before["socks"] - 0.1, abs=2e-3)

    second = trade(shop, 1, 800, none=0.2, socks=0.4, cap=0.4)
    assert 29 <= sum(arm == "cap" for arm in second.values()) <= 131  # 80, six standard errors either way
    assert policy(shop)["newcomers"] == []
    assert policy(shop)["sets"][0]["prob_best"].keys() == {"none", "socks", "cap"}
    assert enrol(shop, list(first)) == first  # everybody keeps what they had

    hat = {"key": "hat", "offer": {"kind": "cross_sell", "sku": "HAT", "price": 900, "cost": 200}}
    replaced = shop.post(f"{PATH}/variants/socks/replace", {"variant": hat, "discount": 0.25})
    assert replaced.status_code == 201, replaced.text
    assert [(v["key"], v["state"], v.get("replaces")) for v in replaced.json()["variants"]] == [
        ("none", "active", None),
        ("socks", "retired", None),
        ("cap", "active", None),
        ("hat", "active", "socks"),
    ]
    found = policy(shop)
    assert (found["cause"], found["newcomers"]) == ("replaced", ["hat"])
    assert shares(shop).keys() == {"none", "cap", "hat"}
    prior = found["warm_start"]["hat"]
    counts = [sum(arm == "socks" for arm in arms.values()) for arms in (first, second)]
    weights = [len(arms) / 1400 for arms in (first, second)]  # one candidate set each
    units = 0.25 / sum(w * w / n for w, n in zip(weights, counts, strict=True))
    rate = sum(w * round(0.4 * n) / n for w, n in zip(weights, counts, strict=True))
    assert prior["units"] == pytest.approx(units)
    assert prior["prior"] == pytest.approx({"alpha": 1 + units * rate, "beta": 1 + units * (1 - rate)})
    decided = shop.post("/v1/assign", {"touchpoint": "checkout", "unit_id": "somebody"}).json()
    why = shop.get(f"/v1/decisions/{decided['decision_id']}/explain").json()
    assert (why["cause"], why["newcomers"], list(why["warm_start"])) == ("replaced", ["hat"], ["hat"])
    third = trade(shop, 2, 700, none=0.2, cap=0.4, hat=0.4)
    assert "socks" not in third.values()
    found = policy(shop)
    told, n = found["warm_start"]["hat"]["prior"], sum(arm == "hat" for arm in third.values())
    seen = n + (decided["variant"] == "hat")  # "somebody" bought nothing, whatever the hash showed
    mean = (told["alpha"] + round(0.4 * n)) / (told["alpha"] + told["beta"] + seen)
    now = next(one for one in found["sets"] if one["candidates"] == ["none", "cap", "hat"])
    assert now["posteriors"]["hat"]["mean"] == pytest.approx(mean)
    report = shop.get(f"{PATH}/report?matured=false").json()
    by_key = {one["key"]: one for one in report["variants"]}
    assert by_key["socks"]["assigned"] == sum(counts)  # a tombstone: its units still count
    assert shop.post(f"{PATH}/variants", {**hat, "key": "socks"}).status_code == 400  # and its key is gone
    causes = [one["cause"] for one in policy(shop, everything=True)["versions"]]
    assert (causes.count("added"), causes.count("replaced")) == (1, 1)
    exact(shop)


def test_what_cannot_be_replaced_says_why_and_changes_nothing(simulated_shop: Shop) -> None:
    shop = simulated_shop
    opened(shop)
    before = shop.get(PATH).json()
    answers = {
        "none": shop.post(f"{PATH}/variants/none/replace", {"variant": CAP}),
        "nobody": shop.post(f"{PATH}/variants/nobody/replace", {"variant": CAP}),
        "faulty": shop.post(f"{PATH}/variants/socks/replace", {"variant": {**CAP, "colour": "red"}}),
        "taken": shop.post(f"{PATH}/variants/socks/replace", {"variant": {**CAP, "key": "socks"}}),
        "discount": shop.post(f"{PATH}/variants/socks/replace", {"variant": CAP, "discount": 2}),
        "nothing": shop.post(f"{PATH}/variants/socks/replace", {}),
    }
    assert {name: answer.status_code for name, answer in answers.items()} == {
        **{"none": 409, "nobody": 404, "faulty": 400, "taken": 400, "discount": 400, "nothing": 400}
    }
    pointers = {name: [e["pointer"] for e in answers[name].json()["errors"]] for name in ("faulty", "taken")}
    assert pointers == {"faulty": ["/variant/colour"], "taken": ["/variant/key"]}
    assert shop.get(PATH).json() == before
    assert shop.post(f"{PATH}/stop").status_code == 200
    assert shop.post(f"{PATH}/variants/socks/replace", {"variant": CAP}).json()["code"] == "experiment_over"


def test_written_shares_pass_over_to_what_replaces(simulated_shop: Shop) -> None:
    shop = simulated_shop
    opened(shop, policy={"kind": "fixed", "shares": {"none": 0.3, "socks": 0.7}})
    assert shop.post(f"{PATH}/variants/socks/replace", {"variant": CAP}).status_code == 201
    assert shares(shop) == pytest.approx({"none": 0.3, "cap": 0.7})


def test_an_expert_sets_the_first_shares_and_a_past_experiment_the_first_posteriors(
    simulated_shop: Shop,
) -> None:
    shop = simulated_shop
    expert = {"shares": {"none": 0.4, "socks": 0.6}, "units": 100, "rate": 0.2}
    opened(shop, policy={**POLICY, "warm_start": expert})
    found = policy(shop)
    assert found["burn_in"]
    assert found["sets"][0]["prob_best"] == pytest.approx({"none": 0.4, "socks": 0.6}, abs=1e-6)
    assert shares(shop) == pytest.approx({"none": 0.2 + 0.78 * 0.4, "socks": 0.02 + 0.78 * 0.6}, abs=1e-6)
    assert found["warm_start"]["none"]["prior"] == pytest.approx({"alpha": 20, "beta": 80})
    arms = trade(shop, 0, 600, none=0.2, socks=0.3)
    counts = {key: sum(arm == key for arm in arms.values()) for key in ("none", "socks")}
    # The prior counts as 100 units of each.
    assert policy(shop)["sets"][0]["posteriors"]["none"]["mean"] == pytest.approx(
        (20 + round(0.2 * counts["none"])) / (100 + counts["none"])
    )
    assert shop.post(f"{PATH}/stop").status_code == 200

    warm = {"variants": {"none": past("none", 0.5), "socks": past("socks", 0.5)}}
    shop.running("again", policy={**POLICY, "warm_start": warm}, attribution_window="1h")
    again = shop.get("/v1/experiments/again/policy").json()
    hits = round(0.3 * counts["socks"])
    assert again["warm_start"]["socks"] == {
        **{"experiment": "checkout-addon", "variant": "socks", "discount": 0.5},
        "units": pytest.approx(counts["socks"] / 2),
        "prior": pytest.approx({"alpha": 1 + hits / 2, "beta": 1 + (counts["socks"] - hits) / 2}),
    }
    # The report keeps its own prior, one unit of each.
    report = shop.get(f"{PATH}/report").json()
    rate = next(v for v in report["variants"] if v["key"] == "socks")["metrics"]["conversion_rate"]
    assert rate["value"] == pytest.approx(hits / counts["socks"])


def past(variant: str, discount: float, experiment: str = "checkout-addon") -> dict[str, Any]:
    return {"experiment": experiment, "variant": variant, "discount": discount}


@pytest.mark.parametrize(
    ("source", "changes", "pointer", "code"),
    [
        (past("socks", 1, "nothing"), {}, "experiment", "unknown_experiment"),
        (past("shoes", 1), {}, "variant", "unknown_variant"),
        (past("socks", 1, "new"), {}, "variant", "unknown_variant"),
        (past("socks", 1), {"objective": "visits"}, "experiment", "unknown_metric"),
        (
            past("socks", 1),
            {"objective": "margin_per_unit", "currency": "USD"},
            "experiment",
            "other_currency",
        ),
    ],
)
def test_a_warm_start_from_what_is_not_there_is_refused(
    simulated_shop: Shop, source: Any, changes: Any, pointer: str, code: str
) -> None:
    shop = simulated_shop
    opened(shop)
    changes = dict(changes)
    chosen = {**POLICY, "objective": changes.pop("objective", "conversion_rate")}
    chosen["warm_start"] = {"variants": {"socks": source}}
    metrics = [{"key": "visits", "kind": "mean", "event": "visit"}]
    answer = shop.post("/v1/experiments", document("new", policy=chosen, metrics=metrics, **changes))
    assert answer.status_code == 400
    place = f"/policy/warm_start/variants/socks/{pointer}"
    assert [(e["pointer"], e["code"]) for e in answer.json()["errors"]] == [(place, code)]
    etag = shop.get(PATH).headers["etag"]
    if code == "unknown_experiment":
        patched = shop.patch(PATH, {"policy": {"warm_start": {"variants": {"socks": source}}}}, etag)
        assert patched.status_code == 400


RULE = {"prob_best_above": 0.95, "action": "promote"}


def test_a_stop_rule_promotes_and_leaves_its_cause(simulated_shop: Shop) -> None:
    shop = simulated_shop
    rails = [{"metric": "rating_mean", "warn": 1, "throttle": 2, "kill": 5}]
    opened(shop, stop_rule=RULE, guardrails=rails)
    assert policy(shop)["stop"] is None or policy(shop)["stop"]["state"] == "waiting"
    trade(shop, 0, 600, none=0.2, socks=0.5)
    found = policy(shop)
    assert found["stop"]["state"] == "reached", found["guardrails"]
    assert found["stop"]["reached"] == ["prob_best"]
    assert found["stop"]["blocked"] == ["guardrail:rating_mean"]  # nobody has rated anything: it is not known
    assert found["promoted"] is None
    alarm = found["alarms"][0]
    assert (alarm["name"], alarm["state"]) == ("stop_rule", "reached")
    assert "not promoted: rating_mean is not held" in alarm["detail"]
    check = next(c for c in shop.get(f"{PATH}/report").json()["checks"] if c["name"] == "stop_rule")
    assert (check["state"], check["detail"]) == ("reached", found["stop"]["detail"])

    etag = shop.get(PATH).headers["etag"]
    assert shop.patch(PATH, {"guardrails": []}, etag).status_code == 200
    clock(shop, timedelta(days=1, hours=5))
    found = policy(shop)
    assert (found["cause"], found["promoted"], found["stop"]["state"]) == ("stop_rule", "socks", "promoted")
    assert shares(shop) == pytest.approx({"none": 0.2, "socks": 0.8})
    assert found["alarms"][0]["detail"].startswith("socks was promoted by the stop rule: socks is the best")
    assert found["exploration"]["collapsed"] == []
    later = policy(shop)["policy_version"]
    clock(shop, timedelta(days=1, hours=8))
    assert policy(shop)["policy_version"] == later  # nothing new is said every minute
    exact(shop)


def test_a_rule_that_recommends_promotes_nobody(simulated_shop: Shop) -> None:
    shop = simulated_shop
    opened(shop, stop_rule={"prob_best_above": 0.95})
    trade(shop, 0, 600, none=0.2, socks=0.5)
    found = policy(shop)
    assert (found["stop"]["state"], found["stop"]["promote"], found["promoted"]) == ("reached", None, None)


def test_exploration_is_watched_and_its_collapse_is_an_alarm(simulated_shop: Shop) -> None:
    """Shares of 0.004 and 0.996: an entropy of 0.038, from the first version on."""
    shop = simulated_shop
    opened(shop, policy={**POLICY, "control_share": 0.004, "floor": 0.001})
    found = policy(shop)
    assert found["exploration"]["variants"] == {}
    assert found["exploration"]["collapsed"] == ["entropy", "min_propensity"]
    assert found["exploration"]["entropy"] == pytest.approx(0.03762, abs=1e-4)
    alarm = found["alarms"][0]
    assert (alarm["name"], alarm["since"]) == ("exploration_collapsed", "2026-03-02T00:00:00Z")
    assert "a variant has 0.40% of the traffic only. Raise policy.floor" in alarm["detail"]

    arms = trade(shop, 0, 1500)
    etag = shop.get(PATH).headers["etag"]
    edit = {"policy": {"control_share": 0.2, "floor": 0.1}}
    assert shop.patch(PATH, edit, etag).status_code == 200
    found = policy(shop)
    assert (found["alarms"], found["exploration"]["collapsed"]) == ([], [])
    assert found["exploration"]["entropy_trend_per_day"] == pytest.approx(0, abs=1e-9)  # it rose just now
    trade(shop, 1, 1000)
    trade(shop, 3, 10)
    explored = policy(shop)["exploration"]
    assert explored["entropy_trend_per_day"] > 0
    # Weights 1 / (2 x 0.996) of the first day's units, 1 / (2 x 0.8) of the second's.
    first = sum(arm == "socks" for arm in arms.values())
    second = explored["variants"]["socks"]["units"] - first
    assert 700 < second < 1000
    weights = first / 1.992 + second / 1.6
    squares = first / 1.992**2 + second / 1.6**2
    assert explored["variants"]["socks"]["ess"] == pytest.approx(weights**2 / squares)

"""Thresholds and priors of the report, as a person states them and the API answers."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from scipy import stats

from tests.service.conftest import Shop, document
from tests.service.test_arms import PATH, clock, opened, past, trade


def test_a_report_begins_with_what_a_past_experiment_found(simulated_shop: Shop) -> None:
    shop = simulated_shop
    opened(shop, policy={"kind": "fixed", "objective": "conversion_rate"})
    arms = trade(shop, 0, 300, none=0.2, socks=0.4)
    none = sum(arm == "none" for arm in arms.values())
    bought = round(0.2 * none)
    assert shop.post(f"{PATH}/stop").status_code == 200
    priors = {"conversion_rate": past("none", 0.5), "take_rate": {"alpha": 3, "beta": 97}}
    shop.running("again", policy={"kind": "fixed"}, priors=priors, verdict={"rope": 0.05})
    clock(shop, timedelta(days=1, hours=3))
    report = shop.get("/v1/experiments/again/report").json()
    metric = report["variants"][1]["metrics"]["conversion_rate"]
    told = {"alpha": 1 + bought / 2, "beta": 1 + (none - bought) / 2}
    assert metric["prior"] == {
        "kind": "historic",
        "parameters": pytest.approx(told),
        "source": past("none", 0.5),
    }
    assert report["variants"][1]["metrics"]["take_rate"]["prior"]["kind"] == "expert"
    assert report["variants"][1]["metrics"]["aov"]["prior"] == {"kind": "flat"}
    assert set(report["verdict"]["sentences"]) == {"en", "it", "ro"}
    again = trade_again(shop, 100)
    metric = shop.get("/v1/experiments/again/report").json()["variants"][1]["metrics"]["conversion_rate"]
    n = metric["denominator"]
    assert n == sum(arm == "socks" for arm in again.values())
    posterior = stats.beta(told["alpha"], told["beta"] + n)
    assert metric["ci_high"] == pytest.approx(float(posterior.ppf(0.975)))
    assert set(metric["sensitivity"]) == {"default", "flat", "sceptical"}


def trade_again(shop: Shop, units: int) -> dict[str, str]:
    """Units that buy nothing, in the experiment that is running now."""
    found: dict[str, str] = {}
    for place in range(units):
        body: dict[str, Any] = {"touchpoint": "checkout", "unit_id": f"again{place}"}
        found[f"again{place}"] = shop.post("/v1/assign", body).json()["variant"]
    return found


@pytest.mark.parametrize(
    ("prior", "pointer", "code"),
    [
        (past("none", 1, "nothing"), "experiment", "unknown_experiment"),
        (past("none", 1, "new"), "experiment", "unknown_experiment"),
        (past("shoes", 1), "variant", "unknown_variant"),
    ],
)
def test_a_prior_from_what_is_not_there_is_refused(
    simulated_shop: Shop, prior: Any, pointer: str, code: str
) -> None:
    opened(simulated_shop)
    answer = simulated_shop.post("/v1/experiments", document("new", priors={"conversion_rate": prior}))
    assert answer.status_code == 400
    place = f"/priors/conversion_rate/{pointer}"
    assert [(e["pointer"], e["code"]) for e in answer.json()["errors"]] == [(place, code)]

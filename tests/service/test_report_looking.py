"""What may be looked at all the time, through the service: the sequences of lifts, and the split."""

from __future__ import annotations

from datetime import timedelta

import pytest

from experiments.analysis.sequential import Counts, lift_of_rates
from tests.service.conftest import Shop
from tests.service.test_definitions import bought, clock, enrol, send
from tests.service.test_trust import report


@pytest.mark.parametrize("kind", ["fixed", "thompson"])
def test_the_report_has_the_split_and_the_sequence_of_a_lift(simulated_shop: Shop, kind: str) -> None:
    """200 units, all exposed, every fourth buys; the exact sequence of a rate needs fixed shares."""
    shop = simulated_shop
    clock(shop, timedelta(0))
    shop.running(policy={"kind": kind}, attribution_window="1h", refund_window="1h")
    units = [f"u{number}" for number in range(200)]
    clock(shop, timedelta(minutes=5))
    arms = enrol(shop, units)
    send(shop, [bought(unit, 5000, cost=2000) for unit in units[::4]])
    clock(shop, timedelta(days=3))
    found = report(shop)
    (split,) = [check for check in found["checks"] if check["name"] == "srm"]
    assert split["state"] == "ok", split["detail"]
    assert split["detail"].startswith("200 ")
    for variant in found["variants"]:
        metric = variant["metrics"]["conversion_rate"]
        if variant["is_control"]:
            assert "sequential" not in metric
            continue
        sequence = metric["sequential"]
        if kind == "thompson":
            assert (sequence["value"], sequence["reason"]) == (None, "insufficient_data")
            continue
        counts: list[Counts] = []
        for key in (variant["key"], found["variants"][0]["key"]):
            own = [unit for unit, arm in arms.items() if arm == key]
            counts.append(Counts(len(own), sum(unit in units[::4] for unit in own)))
        assert (sequence["ci_low"], sequence["ci_high"]) == pytest.approx(lift_of_rates(*counts))
        assert sequence["exact"] is True

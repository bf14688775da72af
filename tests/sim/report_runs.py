"""A run whose figures can be redone on paper, for the tests of its report."""

from dataclasses import replace
from datetime import timedelta

import numpy as np

from sim.runner.outcome import STATES, Look, Replication
from sim.runner.run import Run
from sim.runner.settings import RunSettings
from sim.worlds.scenarios import scenarios

DAYS = 14
WINDOW = timedelta(days=3)
OK, WARN, THROTTLE, KILL = (STATES.index(name) for name in ("ok", "warn", "throttle", "kill"))


def plain_run(replications: int = 3, **changes: object) -> Run:
    """Toxic upsell for two weeks: none, pro-shoe, socks; `changes` are fields of its scenario.

    Each day 100 customers come. None is worth 1,000 minor units a day, pro-shoe 800, socks 1,300, the oracle
    1,400; what was shown was worth 1,100 + 20 n in replication n.
    """
    found = scenarios()["toxic_upsell"]
    experiment = replace(found.experiment, attribution_window=WINDOW)
    scenario = replace(found, **{"days": DAYS, "experiment": experiment, **changes})
    settings = RunSettings(scenario, seed=7, replications=replications, look_every=timedelta(days=7))
    return Run(settings, tuple(replication(number) for number in range(replications)))


def replication(number: int) -> Replication:
    """Pro-shoe is warned of on day 3, throttled on day 4, killed on day 5; in number 0 it stays at warn."""
    state = np.full((DAYS, 3), OK, dtype=np.int8)
    state[2:, 1] = WARN
    if number:
        state[3, 1], state[4:, 1] = THROTTLE, KILL
    per_day = np.ones((DAYS, 1))
    return Replication(
        number=number,
        customers=np.full(DAYS, 100),
        by_segment=np.tile(np.array([[15, 5, 0], [4, 4, 2], [10, 40, 20]]), (DAYS, 1, 1)),
        shares=per_day * (0.2, 0.1, 0.7),
        expected_minor=np.full(DAYS, 1_100.0 + 20 * number),
        booked_minor=np.full(DAYS, 1_090),
        if_all_minor=per_day * (1_000.0, 800.0, 1_300.0),
        oracle_minor=np.full(DAYS, 1_400.0),
        harmed=np.full(DAYS, 9),
        state=state,
        looks=(
            Look(6, "promising", "socks", 150.0 + number, 50.0, 250.0, "ok"),
            Look(
                13,
                "healthy" if number else "promising",
                "socks",
                180.0 + number,
                120.0,
                250.0,
                "ok" if number else "warn",
            ),
        ),
    )

"""What a closed loop is asked for, and the commands that repeat it."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from experiments.times import format_duration
from sim.closed_loop.errors import NotDriven
from sim.runner.finding import find_scenario
from sim.worlds.customers import visitors
from sim.worlds.scenario import Scenario

DAY = timedelta(days=1)
SCOPES = "assign,events,read,write,admin,import"


@dataclass(frozen=True, slots=True)
class DriveSettings:
    """A drive of a scenario, by its name or file: `None` is the scenario's own, or the service's.

    `check_every` is after how many steps all figures are compared, and not counts alone.
    """

    scenario: str
    seed: int = 0
    customers: int | None = None
    days: int | None = None
    step: timedelta = timedelta(hours=6)
    late: float | None = None
    duplicates: float | None = None
    experiment: str | None = None
    check_every: int = 8
    stop_after: int | None = None

    def found(self) -> Scenario:
        """The scenario, with the noise asked for.

        Events that are made late come up to a day after the attribution window, so that some are of windows
        that have closed.
        """
        if self.step <= timedelta() or DAY % self.step:
            raise NotDriven(
                f"a step of {self.step}", "a day must be a whole number of steps, as of 6h or 30m"
            )
        scenario = find_scenario(self.scenario, days=self.days)
        noise = scenario.world.noise
        if self.late is not None:
            window_h = scenario.experiment.attribution_window / timedelta(hours=1)
            noise = replace(noise, late=self.late, late_h_max=window_h + 24)
        if self.duplicates is not None:
            noise = replace(noise, duplicates=self.duplicates)
        return replace(scenario, world=replace(scenario.world, noise=noise))

    def number_of(self, scenario: Scenario) -> int:
        """How many customers come, all days together."""
        if self.customers is not None:
            return self.customers
        return round(sum(visitors(scenario.world, day) for day in range(scenario.days)))

    def command(self, stop_after: int | None = None) -> str:
        """The command that does the same again, and stops after that step; address and key are not in it."""
        words = ["rialto", "sim", "drive", self.scenario, "--seed", str(self.seed)]
        for name, value in (
            ("customers", self.customers),
            ("days", self.days),
            ("step", format_duration(self.step)),
            ("late", self.late),
            ("duplicates", self.duplicates),
            ("experiment", self.experiment),
            ("check-every", self.check_every),
            ("stop-after", self.stop_after if stop_after is None else stop_after),
        ):
            if value is not None:
                words += [f"--{name}", str(value)]
        return shlex.join(words)

    def replay(self, commit: str, currency: str, stop_after: int) -> list[str]:
        """All that is needed to see the same again, from a checkout on; the key is printed by `init`."""
        ledger = "--database sqlite:///replay.db"
        made = f"rialto init {ledger} --simulated --seed {self.seed} --currency {currency} --scopes {SCOPES}"
        return [
            f"git checkout {commit.removesuffix('+')}",
            made,
            f"rialto serve {ledger} --clock external",
            self.command(stop_after),
        ]


def beginning(scenario: Scenario) -> datetime:
    """The midnight at which the first customers come."""
    return datetime.combine(scenario.world.start, datetime.min.time(), tzinfo=UTC)

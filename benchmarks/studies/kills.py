"""How soon a guardrail kills what harms, and how rarely what does not, by the production allocator.

Every run ends with the kill, or when its units are spent.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import numpy as np

from experiments.allocation.guarding import Guarded, guard
from experiments.allocation.proposal import propose
from experiments.allocation.published import Cause, PolicyVersion
from experiments.model import Guardrail
from experiments.statistics import Cell, CellKey
from sim.calibration.bandit import CONTROL, START, Arm, Design, enrol

KILL = (Guardrail("conversion_rate", 0.01, 0.02, 0.04),)
CHECKOUT = {CONTROL: Arm(0.60), "fine": Arm(0.60, take=0.2, gain=1_500, gain_margin=600), "toxic": Arm(0.552)}
"""Conversion 60 %; `toxic` lowers it by 8 %, twice its kill margin, and has the best order value by far."""
CHECKOUT["toxic"] = replace(CHECKOUT["toxic"], take=0.5, gain=9_000, gain_margin=5_000)
SAME = {CONTROL: Arm(0.60), "a": Arm(0.60), "b": Arm(0.60)}


@dataclass(frozen=True, slots=True)
class End:
    """How a run ended: the units at which a variant was killed, and its units; None when none was."""

    killed: str | None
    units: int | None
    own: int | None
    shares: Mapping[str, float]


def run(
    arms: Mapping[str, Arm],
    rng: np.random.Generator,
    *,
    units: int = 250_000,
    objective: str = "margin_per_unit",
    guardrails: Sequence[Guardrail] = KILL,
    falls_to: float = 1.0,
) -> End:
    """Run until the first kill; every conversion falls evenly to `falls_to` of itself by the last unit.

    The allocator looks every 1,000 units, later every twentieth of those there are, and sees them in full.
    """
    design = Design(
        arms, 1, 1, control_share=0.10, burn_in=200, guardrails=tuple(guardrails), objective=objective
    )
    experiment, keys = design.experiment(), tuple(arms)
    everything, now = frozenset(keys), datetime.combine(START, datetime.min.time(), tzinfo=UTC)
    # The allocator pools epochs: one cell for each variant says the same.
    cells = {key: Cell(CellKey(key, "", 1, START, 1), everything) for key in keys}
    later = now + timedelta(days=2)
    split = propose(
        experiment, [], everything, [], guarded=Guarded(), promoted=None, last=None, time_zone="UTC", now=now
    )
    version = PolicyVersion(1, 1, 0, Cause.STARTED, CONTROL, split.sets)
    entries: Sequence[Mapping[str, object]] = ()
    done = 0
    while done < units:
        step = max(1_000, done // 20)
        done += step
        shares = version.shares_for(keys)
        counts = rng.multinomial(step, [shares[key] / 2**32 for key in keys])
        for key, n in zip(keys, counts, strict=True):
            factor = 1 - (1 - falls_to) * min(1.0, done / units)
            arm = replace(arms[key], conversion=arms[key].conversion * factor)
            enrol(cells[key].moments, arm, int(n), rng)
        seen = list(cells.values())
        guarded = guard(experiment, seen, everything, entries, version, time_zone="UTC", now=later)
        entries = guarded.entries
        if guarded.killed:
            killed = sorted(guarded.killed)[0]
            own = cells[killed].moments.sum("assigned")
            return End(killed, done, own, {key: shares[key] / 2**32 for key in keys})
        proposal = propose(
            experiment,
            seen,
            everything,
            [keys],
            guarded=guarded,
            promoted=None,
            last=version,
            time_zone="UTC",
            now=later,
        )
        version = PolicyVersion(
            version.number + 1, 1, 0, Cause.SHARES_MOVED, CONTROL, proposal.sets, guarded.capped
        )
    shares = version.shares_for(keys)
    return End(None, None, None, {key: shares[key] / 2**32 for key in keys})

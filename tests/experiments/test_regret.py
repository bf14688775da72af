"""The peers' own job, in short: the whole of it is `make studies`."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.studies.regret import RATES, REFERENCE, Regret, regret
from experiments.model import PolicyKind

HORIZON = 1_000


def run(**changes: object) -> Regret:
    return regret(RATES, HORIZON, 500, rng=np.random.default_rng(2026), **changes)  # type: ignore[arg-type]


def test_regret_is_that_of_exact_thompson_sampling() -> None:
    found = run()
    assert found.errors_off(*REFERENCE[HORIZON]) < 3
    assert found.error < 0.2
    assert found.curve[-1] == pytest.approx(found.mean, rel=1e-12)


def test_publishing_every_hundred_decisions_costs_nothing_one_sees() -> None:
    assert run(every=100).errors_off(*REFERENCE[HORIZON]) < 3


def test_what_learns_too_late_is_rejected() -> None:
    """The planted defect: one look after half of the decisions. Before a look arms are chosen at random."""
    found = run(every=500)
    assert found.mean > REFERENCE[HORIZON][0]
    assert found.errors_off(*REFERENCE[HORIZON]) > 5
    assert run(every=HORIZON).mean == pytest.approx(HORIZON * 0.035, abs=0.3)


def test_floor_and_control_share_cost_what_they_keep() -> None:
    """All at the control: its gap of 0.07 a decision, in one decision of two."""
    found = run(every=100, control_share=0.5, kind=PolicyKind.TOP_TWO)
    assert found.mean > HORIZON * 0.5 * 0.07
    assert found.mean < HORIZON * (0.5 * 0.07 + 0.5 * 0.035)

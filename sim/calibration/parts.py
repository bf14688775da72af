"""The parts of the calibration report, in its order."""

from collections.abc import Mapping

from sim.calibration import (
    adaptive,
    coverage,
    cuped,
    intervals,
    mismatch,
    peeking,
    posteriors,
    ranked,
    refunds,
    verdicts,
)
from sim.calibration.part import Part

PARTS: Mapping[str, Part] = {
    module.PART.key: module.PART
    for module in (
        verdicts,
        intervals,
        refunds,
        cuped,
        adaptive,
        coverage,
        peeking,
        mismatch,
        posteriors,
        ranked,
    )
}

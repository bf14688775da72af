"""When a verdict can be given: the rules of `analysis/verdict.py` as sizes and chances.

=================  =====================================================  ==================================
verdict            rule                                                   as a statistic
=================  =====================================================  ==================================
up, down           P(lift > 0) >= 1 - tail / treatments, or <= its rest   lift / error beyond `sure_limit`
no_difference      P(|relative lift| < rope) >= equivalent                |estimate| below an edge, see below
=================  =====================================================  ==================================

No difference. With e the error of the relative lift x, the rule holds where Phi((rope - x) / e) -
Phi((-rope - x) / e) >= equivalent, that is for |x| <= x_max(e); under no true difference the chance of it is
2 Phi(x_max / e) - 1. All of it depends on rope / e alone. The error of (1 -+ rope) theta_c is taken as that
of theta_c.

Several treatments share one control, so their statistics correlate by rho = v_c / (v_c + v_t), v = sd^2 /
share. P(none beyond z) is one integral over the control's part (Dunnett, A multiple comparison procedure for
comparing several treatments with a control, 1955).
"""

from collections.abc import Sequence
from functools import lru_cache
from math import pi, sqrt

import numpy as np
from scipy import special

from experiments.model import VerdictSettings
from experiments.planning.baselines import Quantity
from experiments.planning.contrasts import Split, quantile
from experiments.posteriors.protocol import FloatArray
from experiments.posteriors.roots import root_between

_MOST = 1e4
"""rope / error beyond which every chance has come to 1."""


def sure_limit(settings: VerdictSettings, treatments: int) -> float:
    """The z beyond which a lift counts as sure, given how many treatments are judged.

    >>> round(sure_limit(VerdictSettings(), 1), 3), round(sure_limit(VerdictSettings(), 3), 3)
    (1.96, 2.394)
    """
    return -quantile(settings.tail / treatments)


def prob_any(means: Sequence[float], limit: float, correlation: float) -> float:
    """P(at least one of several statistics exceeds the limit); each Normal(its mean, 1).

    >>> round(prob_any([0.0, 0.0], 1.92, 0.5), 3)  # Dunnett 1955, table 1: two treatments, 5 %
    0.05
    """
    nodes, weights = _legendre()
    spread = sqrt(1.0 - correlation)
    none = np.exp(-0.5 * nodes * nodes) / sqrt(2.0 * pi)
    for mean in means:
        none = none * special.ndtr((limit - mean - sqrt(correlation) * nodes) / spread)
    return float(1.0 - weights @ none)


def correlation_of(treatment: Quantity, control: Quantity, split: Split) -> float:
    """How much the lifts of two treatments have in common, in [0, 1)."""
    shared, own = control.sd**2 / split.control, treatment.sd**2 / split.treatment
    return shared / (shared + own) if shared + own > 0 else 0.0


def prob_no_difference(rope_errors: float, equivalent: float) -> float:
    """P(the verdict `no_difference`) where there is none, at so many errors of the lift in the rope.

    >>> round(prob_no_difference(3.0, 0.95), 3), prob_no_difference(1.9, 0.95)
    (0.825, 0.0)
    """

    def within(x: float) -> float:
        return _phi(rope_errors - x) - _phi(-rope_errors - x)

    if within(0.0) < equivalent:
        return 0.0
    edge = root_between(lambda x: equivalent - within(x), 0.0, rope_errors, within=1e-10)
    return 2.0 * _phi(edge) - 1.0


def units_for_no_difference(
    treatment: Quantity, control: Quantity, split: Split, settings: VerdictSettings, power: float
) -> float | None:
    """Units of all variants until `no_difference` is found with that chance, where it is true.

    None for a control whose mean is not positive: there is no relative lift.

    >>> half = Quantity(0.5, 0.5)
    >>> round(units_for_no_difference(half, half, Split(0.5, 0.5), VerdictSettings(), 0.8))
    342583
    """
    if control.mean <= 0.0 or settings.rope <= 0.0:
        return None
    wanted = _rope_errors(settings.equivalent, power)
    variance = treatment.sd**2 / split.treatment + control.sd**2 / split.control
    return (wanted / (settings.rope * control.mean)) ** 2 * variance


@lru_cache(maxsize=64)
def _rope_errors(equivalent: float, power: float) -> float:
    """The rope in errors at which the chance of `no_difference` comes to the power."""
    return root_between(
        lambda errors: prob_no_difference(errors, equivalent) - power, 1.0, _MOST, within=1e-9
    )


@lru_cache(maxsize=1)
def _legendre() -> tuple[FloatArray, FloatArray]:
    x, w = np.polynomial.legendre.leggauss(96)
    return np.asarray(x * 9.0), np.asarray(w * 9.0)


def _phi(x: float) -> float:
    return float(special.ndtr(x))

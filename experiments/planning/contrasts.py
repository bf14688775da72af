"""Power and size of one comparison of a treatment with the control, by the Normal law.

Symbols: N units of all variants, s_t and s_c the shares of the two that are compared, z the limit.

    contrast   theta_t - k theta_c - shift              k = 1 for a lift, 1 + m for "m more than control"
    drift      d = sign (mu_t - k mu_c - shift) / sqrt(sd_t^2 / s_t + k^2 sd_c^2 / s_c)
    statistic  after N units Normal(d sqrt(N), 1); P(contrast > 0 | data) >= p where it exceeds z = Phi^-1(p)
    power      Phi(d sqrt(N) - z)
    size       N = ((z + Phi^-1(power)) / d)^2

With flat priors the posterior probability of a side and the one-sided p-value are one number, so that these
are the classical formulas for unpooled variances. Wrong while counts are small (fewer than some 30 successes
or failures of an arm) and while the prior, worth one or two units, still counts.
Source: Chow, Shao & Wang, Sample Size Calculations in Clinical Research (2008), 3.2 and 4.2.
"""

from dataclasses import dataclass
from math import inf, sqrt

from scipy import special

from experiments.planning.baselines import Quantity


@dataclass(frozen=True, slots=True)
class Split:
    """Shares of the traffic of the control and of the treatment compared with it."""

    control: float
    treatment: float


def even_split(variants: int, control_share: float | None = None) -> Split:
    """The control's share and what each treatment has of the rest; equal shares by default.

    >>> even_split(4), even_split(3, 0.5)
    (Split(control=0.25, treatment=0.25), Split(control=0.5, treatment=0.25))
    """
    control = 1.0 / variants if control_share is None else control_share
    return Split(control, (1.0 - control) / (variants - 1))


def drift(
    treatment: Quantity,
    control: Quantity,
    split: Split,
    *,
    factor: float = 1.0,
    shift: float = 0.0,
    sign: int = 1,
) -> float:
    """d: by how many standard errors the contrast grows with the square root of all units.

    >>> from experiments.planning.baselines import Quantity
    >>> round(drift(Quantity(10.0, 10.0), Quantity(5.0, 10.0), Split(0.5, 0.5)), 4)  # 5 / sqrt(400)
    0.25
    """
    variance = treatment.sd**2 / split.treatment + (factor * control.sd) ** 2 / split.control
    distance = sign * (treatment.mean - factor * control.mean - shift)
    if variance == 0.0:
        return inf if distance > 0 else -inf if distance < 0 else 0.0
    return distance / sqrt(variance)


def quantile(prob: float) -> float:
    """The Normal quantile z of a probability."""
    return float(special.ndtri(prob))


def power_of(d: float, units: float, z: float) -> float:
    """P(the statistic exceeds z after so many units), at one look.

    >>> round(power_of(0.25, 126, 1.959964), 3)  # 63 in each of two arms
    0.801
    """
    return float(special.ndtr(d * sqrt(units) - z)) if units > 0 else 0.0


def units_for(d: float, z: float, power: float) -> float | None:
    """Units of all variants at which the power is reached; None where it never is.

    A drift of 0 or against the contrast ends below the power asked, however many units there are.

    >>> round(units_for(0.25, 1.959964, 0.8) / 2, 1)  # of each of two arms, so 63
    62.8
    """
    if d <= 0.0:
        return None
    reach = z + quantile(power)
    return (reach / d) ** 2 if reach > 0.0 else 0.0

"""Whether a log can tell anything of a candidate policy: what to refuse, and what to warn of.

Weights have mean 1 where the propensities are true and the log does, now and then, whatever the candidate
does. So the mean is a test of both, and what it cannot see is looked for in the rows: propensities that can
be none, that are next to nothing, mass where the log never went, rows that decide everything.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from experiments.off_policy.estimators import standard_error, weight_figures
from experiments.off_policy.terms import Terms

TINY = 1e-4
"""Rows of a smaller propensity are named: one stands for ten thousand."""
NAMED = 3
"""So many rows, at most, are named by one finding."""
UNSEEN_REFUSED = 0.10
"""Mass on actions the log never took from which on nothing is estimated; any is warned of."""
STRAYED = 1e-9
"""Mass on actions that were not allowed below which it is rounding."""
MEAN_ERRORS, MEAN_OFF = 3.0, 0.05
"""The mean weight is warned of this many standard errors and this far from 1 ..."""
MEAN_ERRORS_REFUSED, MEAN_OFF_REFUSED = 6.0, 0.20
"""... and refused from here on."""
ESS_REFUSED, ESS_LEAST, ESS_SHARE = 10.0, 100.0, 0.01
"""Effective rows below which nothing is estimated; below which, or which part of all, is warned of."""
DECISIVE = 0.05
"""Part of all weight from which on one row is named as deciding."""


Labels = Sequence[int] | NDArray[np.int64]


class Severity(StrEnum):
    """What a finding does: refused, nothing that weighs rows is estimated."""

    REFUSE = "refuse"
    WARN = "warn"


class Code(StrEnum):
    """What was found."""

    PROPENSITY_INVALID = "propensity_invalid"
    PROPENSITY_TINY = "propensity_tiny"
    ACTION_NOT_ALLOWED = "action_not_allowed"
    ACTION_UNSEEN = "action_unseen"
    NO_OVERLAP = "no_overlap"
    MEAN_WEIGHT = "mean_weight"
    FEW_EFFECTIVE = "few_effective"
    ROW_DECIDES = "row_decides"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing found, in words; `rows` (by their labels) and `actions` it is about, the worst first."""

    severity: Severity
    code: Code
    text: str
    rows: Sequence[int] = ()
    actions: Sequence[int] = ()


@dataclass(frozen=True, slots=True)
class Overlap:
    """Figures of the weights and what was found. `mean_error` is the standard error of the mean weight.

    Figures are None where propensities can be none: they would be of other rows than the estimates.
    """

    rows: int
    units: int
    least_propensity: float | None
    positive: int | None = None
    mean_weight: float | None = None
    mean_error: float | None = None
    max_weight: float | None = None
    ess: float | None = None
    unseen_mass: float = 0.0
    findings: Sequence[Finding] = field(default_factory=tuple[Finding, ...])

    @property
    def refused(self) -> bool:
        """Whether estimates that weigh rows are refused."""
        return any(finding.severity is Severity.REFUSE for finding in self.findings)


def overlap(terms: Terms, labels: Labels | None = None) -> Overlap:
    """What the weights say of the log and the candidate; `labels` are what rows are called in words.

    >>> log = Terms(np.array([0, 1]), np.array([1.0, 0.0]), np.ones(2), np.array([1.0, np.nan]), None, None,
    ...             None, np.ones((1, 2)), np.ones((1, 2)))
    >>> found = overlap(log)
    >>> found.refused, found.findings[0].code.value, found.findings[0].rows
    (True, 'propensity_invalid', (1,))
    """
    rows = len(terms)
    called = range(rows) if labels is None else labels
    units = rows if terms.units is None else 1 + int(terms.units.max(initial=-1))
    if not rows:
        return Overlap(0, 0, None)
    unseen, findings = _unseen(terms)
    least = float(terms.propensities.min())
    invalid = np.flatnonzero(np.isnan(terms.weights))
    if len(invalid):
        return Overlap(
            rows, units, least, unseen_mass=unseen, findings=(_invalid(terms, invalid, called), *findings)
        )
    seen = weight_figures(terms.weights)
    error, _ = standard_error(terms.weights - seen.mean, terms.units)
    findings += _of_weights(terms, called, seen.mean, error, seen.ess)
    order = {Severity.REFUSE: 0, Severity.WARN: 1}
    return Overlap(
        rows,
        units,
        least,
        int((terms.weights > 0.0).sum()),
        seen.mean,
        error,
        seen.largest,
        seen.ess,
        unseen,
        tuple(sorted(findings, key=lambda finding: order[finding.severity])),
    )


def _invalid(terms: Terms, rows: NDArray[np.intp], labels: Labels) -> Finding:
    named = rows[:NAMED].tolist()
    those = ", ".join(f"{terms.propensities[row]:g} in row {labels[row]}" for row in named)
    text = f"{len(rows)} propensities are no probability above 0 ({those}): what was done there has no weight"
    return Finding(Severity.REFUSE, Code.PROPENSITY_INVALID, text, _called(labels, named))


def _unseen(terms: Terms) -> tuple[float, list[Finding]]:
    """Mass on actions that the log never took at that place, and on those that were not allowed."""
    findings: list[Finding] = []
    total = max(1.0, float(terms.wanted.sum()))
    if terms.strayed > STRAYED * total:
        part = terms.strayed / total
        text = f"{part:.2%} of the candidate's shares are on actions outside the row's candidate set"
        findings.append(Finding(Severity.REFUSE, Code.ACTION_NOT_ALLOWED, text))
    missed = np.where(terms.taken == 0.0, terms.wanted, 0.0)
    mass = float(missed.sum()) / total
    if mass > 0.0:
        by_action = missed.sum(axis=0)
        actions = [int(k) for k in np.argsort(-by_action, kind="stable") if by_action[k] > 0.0]
        text = (
            f"{mass:.2%} of the candidate's shares are on actions the log never took there: what they earn "
            "is in no row, and an estimate by weights counts them as earning nothing (`snips`: as the others)"
        )
        severity = Severity.REFUSE if mass > UNSEEN_REFUSED else Severity.WARN
        findings.append(Finding(severity, Code.ACTION_UNSEEN, text, actions=tuple(actions)))
    return mass, findings


def _of_weights(terms: Terms, labels: Labels, mean: float, error: float, ess: float) -> list[Finding]:
    if mean == 0.0:
        text = "the candidate never does what was logged: there is nothing to weigh"
        return [*_tiny(terms, labels), Finding(Severity.REFUSE, Code.NO_OVERLAP, text)]
    findings = _tiny(terms, labels)
    off = abs(mean - 1.0)
    if off > max(MEAN_OFF, MEAN_ERRORS * error):
        severity = (
            Severity.REFUSE if off > max(MEAN_OFF_REFUSED, MEAN_ERRORS_REFUSED * error) else Severity.WARN
        )
        errors = f"{off / error:.3g} standard errors from 1" if error > 1e-12 else "in every row alike, not 1"
        text = (
            f"the weights' mean is {mean:.4g}, {errors}: the "
            "propensities are not those the log was drawn with, or the candidate goes where it never went"
        )
        findings.append(Finding(severity, Code.MEAN_WEIGHT, text))
    rows = len(terms)
    if ess < ESS_LEAST or ess < ESS_SHARE * rows:
        severity = Severity.REFUSE if ess < ESS_REFUSED else Severity.WARN
        text = f"{rows} rows are worth {ess:.3g} of a log made by the candidate itself"
        findings.append(Finding(severity, Code.FEW_EFFECTIVE, text))
    worst = int(np.argmax(terms.weights))
    part = float(terms.weights[worst]) / (mean * rows)
    if part > DECISIVE:
        text = f"row {labels[worst]} alone has {part:.1%} of all weight ({_told(terms, worst)})"
        findings.append(Finding(Severity.WARN, Code.ROW_DECIDES, text, _called(labels, [worst])))
    return findings


def _tiny(terms: Terms, labels: Labels) -> list[Finding]:
    rows = np.flatnonzero(terms.propensities < TINY)
    if not len(rows):
        return []
    # the greatest weights first, then the least propensities: what they do comes before what they are
    named = rows[np.lexsort((terms.propensities[rows], -terms.weights[rows]))][:NAMED].tolist()
    those = "; ".join(f"row {labels[row]}: {_told(terms, row)}" for row in named)
    text = f"{len(rows)} propensities are below {TINY:g}, the least {terms.propensities.min():.3g}. {those}"
    return [Finding(Severity.WARN, Code.PROPENSITY_TINY, text, _called(labels, named))]


def _called(labels: Labels, rows: Sequence[int]) -> tuple[int, ...]:
    return tuple(int(labels[row]) for row in rows)


def _told(terms: Terms, row: int) -> str:
    """A row's propensity, its weight, and what it alone adds to the plain weighted value."""
    weight = float(terms.weights[row])
    moved = weight * float(terms.rewards[row]) / len(terms)
    return (
        f"propensity {terms.propensities[row]:.3g}, weight {weight:.4g}, adds {moved:.4g} to the value of ips"
    )

"""What is refused and what is warned of, and that it is said with the row and what the row does."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from experiments.off_policy.estimators import Estimator, Reason, Settings
from experiments.off_policy.evaluation import Evaluation, evaluate
from experiments.off_policy.overlap import Code, Finding, Severity, overlap
from experiments.off_policy.terms import Log, Terms, terms

SETTINGS = Settings(10.0, 10.0, 100.0)


def even(n: int = 1000, k: int = 2) -> Log:
    actions = np.arange(n) % k
    return Log(actions, np.full(n, 1 / k), (np.arange(n) % 5 == 0).astype(np.float64), k)


def changed(log: Log, row: int, propensity: float) -> Log:
    propensities = log.propensities.copy()
    propensities[row] = propensity
    return replace(log, propensities=propensities)


def found(rows: Terms, code: Code) -> Finding:
    return next(finding for finding in overlap(rows).findings if finding.code is code)


def asked(rows: Terms) -> Evaluation:
    return evaluate(rows, list(Estimator), SETTINGS, rng=np.random.default_rng(1))


UNIFORM = np.array([[0.5, 0.5]])


def test_an_even_log_has_nothing_to_say() -> None:
    seen = overlap(terms(even(), UNIFORM))
    assert (seen.rows, seen.units, seen.positive, seen.ess) == (1000, 1000, 1000, pytest.approx(1000))
    assert seen.mean_weight == pytest.approx(1.0)
    assert not seen.findings
    assert not seen.refused
    by_unit = overlap(terms(replace(even(), units=np.arange(1000) // 4), UNIFORM))
    assert (by_unit.rows, by_unit.units) == (1000, 250)


@pytest.mark.parametrize("propensity", [0.0, -0.2, 1.5, np.nan, np.inf])
def test_a_propensity_that_can_be_none_refuses_all_but_the_model(propensity: float) -> None:
    rows = terms(changed(even(), 7, propensity), UNIFORM, UNIFORM)
    finding = found(rows, Code.PROPENSITY_INVALID)
    assert finding.severity is Severity.REFUSE
    assert finding.rows == (7,)
    assert "in row 7" in finding.text
    for one in asked(rows).estimates:
        assert (one.value is None) == (one.estimator != Estimator.DM)
        assert one.reason is (None if one.estimator == Estimator.DM else Reason.REFUSED) or one.value == 0.5
    without = asked(terms(changed(even(), 7, propensity), UNIFORM))
    assert {e.reason for e in without.estimates} == {Reason.REFUSED, Reason.NO_MODEL}


def test_a_propensity_of_a_millionth_is_named_with_what_it_does() -> None:
    log = even()
    rows = terms(changed(log, 10, 1e-6), UNIFORM)  # row 10 was a success: 10 % 5 == 0
    finding = found(rows, Code.PROPENSITY_TINY)
    assert finding.severity is Severity.WARN
    assert finding.rows == (10,)
    assert "row 10: propensity 1e-06, weight 5e+05, adds 500 to the value of ips" in finding.text
    assert found(rows, Code.ROW_DECIDES).rows == (10,)
    assert found(rows, Code.FEW_EFFECTIVE).severity is Severity.REFUSE  # the whole log is worth one row
    called = overlap(rows, labels=np.arange(1, 1001))
    assert all("row 11" in f.text for f in called.findings if f.rows)
    assert {f.rows for f in called.findings} == {(11,), ()}


def test_a_tiny_propensity_is_named_where_the_candidate_stays_away_too() -> None:
    rows = terms(changed(even(), 10, 1e-6), np.array([[0.0, 1.0]]))
    assert "row 10: propensity 1e-06, weight 0, adds 0" in found(rows, Code.PROPENSITY_TINY).text
    assert not overlap(rows).refused


def test_the_three_worst_of_many_are_named() -> None:
    log = even()
    for row, propensity in ((3, 9e-5), (4, 1e-5), (5, 2e-5), (6, 5e-5)):
        log = changed(log, row, propensity)
    finding = found(terms(log, UNIFORM), Code.PROPENSITY_TINY)
    assert finding.rows == (4, 5, 6)
    assert "4 propensities are below 0.0001, the least 1e-05" in finding.text


@pytest.mark.parametrize(("mass", "severity"), [(0.05, Severity.WARN), (0.3, Severity.REFUSE)])
def test_mass_where_the_log_never_went(mass: float, severity: Severity) -> None:
    log = even(k=2)
    wider = Log(log.actions, log.propensities, log.rewards, 4)
    rows = terms(wider, np.array([[0.5 - mass / 2, 0.5 - mass / 2, 0.0, mass]]))
    finding = found(rows, Code.ACTION_UNSEEN)
    assert finding.severity is severity
    assert finding.actions == (3,)
    assert f"{mass:.2%}" in finding.text
    assert overlap(rows).unseen_mass == pytest.approx(mass)


def test_an_action_seen_in_another_place_is_not_seen_here() -> None:
    log = replace(even(), places=np.arange(1000) % 2)  # action 0 always left, action 1 always right
    assert overlap(terms(log, UNIFORM)).unseen_mass == pytest.approx(0.5)


def test_a_candidate_that_never_agrees_is_refused() -> None:
    log = Log(np.zeros(50, dtype=np.int64), np.ones(50), np.ones(50), 2)
    rows = terms(log, np.array([[0.0, 1.0]]), UNIFORM)
    assert found(rows, Code.NO_OVERLAP).severity is Severity.REFUSE
    assert {e.reason for e in asked(rows).estimates if e.estimator != Estimator.DM} == {Reason.REFUSED}


@pytest.mark.parametrize(("factor", "severity"), [(0.9, Severity.WARN), (0.5, Severity.REFUSE)])
def test_propensities_that_are_not_those_of_the_log_show_in_the_mean(
    factor: float, severity: Severity
) -> None:
    log = even()
    rows = terms(replace(log, propensities=log.propensities * factor), UNIFORM)
    assert found(rows, Code.MEAN_WEIGHT).severity is severity


def test_few_effective_rows_are_warned_of() -> None:
    rng = np.random.default_rng(2)
    actions = (rng.random(4000) < 0.01).astype(np.int64)
    log = Log(actions, np.where(actions == 1, 0.01, 0.99), rng.random(4000), 2)
    assert found(terms(log, np.array([[0.0, 1.0]])), Code.FEW_EFFECTIVE).severity is Severity.WARN


def test_shares_outside_the_candidate_set_are_refused() -> None:
    allowed = np.ones((1000, 2), dtype=bool)
    allowed[3] = [False, True]
    rows = terms(replace(even(), allowed=allowed), UNIFORM)
    assert found(rows, Code.ACTION_NOT_ALLOWED).severity is Severity.REFUSE


def test_an_empty_log_says_nothing() -> None:
    none = Log(*(a[:0] for a in (even().actions, even().propensities, even().rewards)), 2)
    assert overlap(terms(none, UNIFORM)).rows == 0


def test_what_refuses_comes_first() -> None:
    rows = terms(changed(even(), 10, 1e-6), np.array([[0.6, 0.4]]))
    severities = [finding.severity for finding in overlap(rows).findings]
    assert severities == sorted(severities, key=list(Severity).index)

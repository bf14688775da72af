"""Models of rewards: what they find, and that they have not seen the rows they predict."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiments.off_policy.estimators import Estimator
from sim.ope.dealing import Options
from sim.ope.errors import MissingLibrary, UnfitLearner
from sim.ope.learners import Learner, fitted
from sim.ope.loading import load
from sim.ope.logged import Logged
from sim.ope.mapping_reader import parse_mapping
from sim.ope.policies import candidate_of
from sim.ope.run import run
from tests.sim.ope_log import LOGGING, MAPPING, RATES, rows, write_csv

FITTED = [learner for learner in Learner if learner is not Learner.MEAN]
LABEL_ORDER = [2, 0, 1]  # bundle, none, socks of RATES


@pytest.fixture(autouse=True)
def one_thread() -> Generator[None]:
    """Threads that wait for each other take ten times as long where others are at work too."""
    try:
        from threadpoolctl import threadpool_limits
    except ImportError:
        yield
        return
    with threadpool_limits(1):
        yield


def given(path: Path, n: int = 3000, **changes: Any) -> Logged:
    mapping = parse_mapping({key: value for key, value in (MAPPING | changes).items() if value is not None})
    return load(write_csv(path / "log.csv", rows(n)), mapping, None)


def predicted(learner: Learner, data: Logged, train: Any = None) -> np.ndarray:
    every = np.arange(len(data))
    made = fitted(learner, data, every if train is None else train, seed=1)
    return np.broadcast_to(made(every), (len(data), len(data.labels)))


@pytest.mark.parametrize("learner", FITTED)
def test_models_find_what_each_country_takes(tmp_path: Path, learner: Learner) -> None:
    """Rates by country and offer, 400 to 750 rows each: within 5 standard errors, 0.11 at most."""
    pytest.importorskip("sklearn", reason="needs scikit-learn")
    data = given(tmp_path, context={"country": "category"}, segment=None, policies={})
    found = predicted(learner, data)
    for country in range(2):
        assert found[country] == pytest.approx(RATES[country, LABEL_ORDER], abs=0.11)


def test_the_mean_is_that_of_each_action_and_place(tmp_path: Path) -> None:
    data = given(tmp_path, 60)
    found = predicted(Learner.MEAN, data)
    everywhere = data.rewards.mean()
    for k in range(3):
        own = data.rewards[data.actions == k]
        assert found[0, k] == pytest.approx((own.sum() + everywhere) / (len(own) + 1))
    by_place = predicted(Learner.MEAN, given(tmp_path, 60, position="country"))
    assert not np.allclose(by_place[0], by_place[1])
    assert np.array_equal(by_place[0], by_place[2])


@pytest.mark.parametrize("learner", [Learner.RIDGE, Learner.GRADIENT_BOOSTING])
def test_rewards_of_money_are_predicted_too(tmp_path: Path, learner: Learner) -> None:
    pytest.importorskip("sklearn", reason="needs scikit-learn")
    data = given(tmp_path, reward={"formula": "amount - cost", "empty": 0}, policies={})
    found = predicted(learner, data)
    italy = np.array([row % 2 == 0 for row in range(len(data))])
    assert found[italy].mean(axis=0) == pytest.approx(11.5 * RATES[0, LABEL_ORDER], abs=1.2)


def test_the_linear_models_are_those_of_scikit_learn(tmp_path: Path) -> None:
    """Predictions by one product of matrices are those of `predict` on each action's own design."""
    linear_model = pytest.importorskip("sklearn.linear_model", reason="needs scikit-learn")
    data = given(tmp_path, 400, context={"country": "category"}, segment=None, policies={})
    texts = data.categories["country"]
    x = np.column_stack([texts.codes == 0, texts.codes == 1]).astype(float)

    def design(actions: np.ndarray) -> np.ndarray:
        one_hot = np.eye(3)[actions]
        products = np.zeros((len(actions), 3, 2))
        products[np.arange(len(actions)), actions] = x
        return np.column_stack([x, one_hot, products.reshape(len(actions), 6)])

    model = linear_model.LogisticRegression(max_iter=10_000, tol=1e-10).fit(
        design(data.actions), data.rewards
    )
    ridge = linear_model.Ridge(alpha=1.0).fit(design(data.actions), data.rewards)
    for learner, predict in (
        (Learner.LOGISTIC, lambda z: model.predict_proba(z)[:, 1]),
        (Learner.RIDGE, ridge.predict),
    ):
        found = predicted(learner, data)
        for k in range(3):
            assert found[:, k] == pytest.approx(predict(design(np.full(len(data), k))), abs=2e-3)


def test_one_reward_only_is_predicted_as_it_is(tmp_path: Path) -> None:
    data = given(tmp_path, 60)
    none = replace(data, rewards=np.zeros(60))
    for learner in FITTED:
        pytest.importorskip("sklearn", reason="needs scikit-learn")
        assert (predicted(learner, none) == 0).all()


def test_a_missing_number_and_an_unknown_place_are_the_mean(tmp_path: Path) -> None:
    pytest.importorskip("sklearn", reason="needs scikit-learn")
    data = given(tmp_path, 400, position="country", policies={})
    spent = data.numbers["spent"].copy()
    spent[0] = np.nan
    known = replace(data, numbers={"spent": spent})
    italy_only = np.arange(0, 400, 2)
    for learner in FITTED:
        assert np.isfinite(predicted(learner, known, italy_only)).all()
    nothing = replace(data, numbers={}, categories={}, places=None, segments=None)
    assert len(np.unique(predicted(Learner.RIDGE, nothing), axis=0)) == 1


@pytest.mark.parametrize("learner", list(Learner))
def test_a_model_has_not_seen_the_rows_it_predicts(tmp_path: Path, learner: Learner) -> None:
    """The planted leak: outcomes of the other fold are turned round, and its predictions stay."""
    if learner is not Learner.MEAN:
        pytest.importorskip("sklearn", reason="needs scikit-learn")
    data = given(tmp_path, 400)
    train, asked = np.arange(0, 400, 2), np.arange(1, 400, 2)
    turned = data.rewards.copy()
    turned[asked] = 1 - turned[asked]
    other = replace(data, rewards=turned)
    kept = predicted(learner, data, train)[asked]
    assert np.array_equal(kept, predicted(learner, other, train)[asked])
    assert not np.allclose(kept, predicted(learner, other)[asked])


@pytest.mark.parametrize("name", ["bandit", "early", "mine"])
def test_a_whole_evaluation_learns_from_other_units_only(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every fit and every use of it are watched: no unit is in both, and every row is used once."""
    seen: list[tuple[str, Any, Any]] = []

    def watched(what: str, made: Callable[[Any], Any], train: Any) -> Callable[[Any], Any]:
        def use(rows: Any) -> Any:
            seen.append((what, train, rows))
            return made(rows)

        return use

    def fit(learner: Learner, data: Logged, train: Any, *, seed: int) -> Any:
        return watched("model", fitted(learner, data, train, seed=seed), train)

    monkeypatch.setattr("sim.ope.dealing.fitted", fit)
    path = write_csv(
        tmp_path / "log.csv", [row | {"shopper": f"s{n // 2}"} for n, row in enumerate(rows(400))]
    )
    mapping = parse_mapping(MAPPING)
    candidate = candidate_of(name, mapping)
    kept = candidate.make
    candidate = replace(candidate, make=lambda data, train: watched("policy", kept(data, train), train))
    found = run(path, mapping, candidate, Options(estimators=(Estimator.DR,), folds=4))
    units = load(path, mapping, None).units
    assert units is not None
    for what in ("model", "policy"):
        uses = [(train, asked) for kind, train, asked in seen if kind == what]
        every = np.concatenate([asked for _, asked in uses])
        assert len(np.unique(every)) == len(every) == found.rows
        assert len(uses) == 4
        for train, asked in uses:
            if what == "model" or name != "mine":
                assert not set(units[train].tolist()) & set(units[asked].tolist())


def test_what_cannot_be_fitted_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = given(tmp_path, 60)
    money = replace(data, rewards=3 * data.rewards)
    pytest.importorskip("sklearn", reason="needs scikit-learn")
    with pytest.raises(UnfitLearner, match="needs rewards of 0 and 1"):
        predicted(Learner.LOGISTIC, money)
    many = replace(data, labels=tuple(map(str, range(300))))
    with pytest.raises(UnfitLearner, match="255 actions at most"):
        predicted(Learner.GRADIENT_BOOSTING, many)
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(MissingLibrary, match=r"pip install 'rialto\[sim\]'"):
        predicted(Learner.RIDGE, data)
    assert predicted(Learner.MEAN, data).shape == (60, 3)


def test_dr_with_a_model_is_unbiased_on_the_shop(tmp_path: Path) -> None:
    """The candidate's value is known: dr within 4 of its standard errors, and surer than ips."""
    pytest.importorskip("sklearn", reason="needs scikit-learn")
    path = write_csv(tmp_path / "log.csv", rows(6000, seed=8))
    mapping = parse_mapping(MAPPING)
    candidate = candidate_of("mine", mapping)
    options = Options(estimators=(Estimator.IPS, Estimator.DR), learner=Learner.LOGISTIC)
    found = run(path, mapping, candidate, options)
    truth = float((0.25 * RATES[:, 0] + 0.75 * RATES[:, 1]).mean())
    ips, dr = found.evaluation.estimates
    for one in (ips, dr):
        assert abs((one.value or 0.0) - truth) < 4 * (one.standard_error or 0.0)
    assert (dr.standard_error or 1.0) < 0.95 * (ips.standard_error or 0.0)
    assert LOGGING.shape == RATES.shape

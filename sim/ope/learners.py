"""Models of the reward for the estimators that need one, from scikit-learn, each fitted on some rows only.

=====================  ======================================================================================
learner                what it is
=====================  ======================================================================================
`mean`                 the mean reward of each action at each place, shrunk by one row to the mean of all
`ridge`                least squares on context, place, action and context x action, penalty 1
`logistic`             the same, logistic with C = 1; rewards of 0 and 1 only
`gradient_boosting`    histogram gradient boosting on context, place and action as they are
=====================  ======================================================================================

`mean` needs no scikit-learn. Categories of the context are one column a value (the 50 most frequent; the
others have none), numbers are standardised and a missing one is the mean. Where the rows of a fit hold one
reward only, that reward is predicted.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from enum import StrEnum
from typing import Any

import numpy as np
from scipy import sparse

from experiments.off_policy.terms import FloatArray, IntArray
from sim.ope.errors import MissingLibrary, UnfitLearner
from sim.ope.logged import Logged

VALUES_MAX = 50
"""So many values of a category have a column of their own."""
ACTIONS_MAX = 255
"""Of more actions gradient boosting can make no category."""

Predictions = Callable[[IntArray], FloatArray]
"""The predicted reward of every action in some rows, (n_rows, K) or one row for all."""


class Learner(StrEnum):
    """How rewards are predicted."""

    MEAN = "mean"
    RIDGE = "ridge"
    LOGISTIC = "logistic"
    GRADIENT_BOOSTING = "gradient_boosting"


def fitted(learner: Learner, data: Logged, train: IntArray, *, seed: int) -> Predictions:
    """A model of the reward from some rows of a log."""
    if learner is Learner.MEAN:
        return _means(data, train)
    _require_library()
    if learner is Learner.LOGISTIC and not data.is_binary:
        raise UnfitLearner("--learner logistic needs rewards of 0 and 1; take ridge or gradient_boosting")
    if learner is Learner.GRADIENT_BOOSTING and len(data.labels) > ACTIONS_MAX:
        raise UnfitLearner(f"--learner gradient_boosting takes {ACTIONS_MAX} actions at most; take ridge")
    rewards = data.rewards[train]
    if (rewards == rewards[0]).all():
        only = np.full((1, len(data.labels)), rewards[0])
        return lambda rows: only
    if learner is Learner.GRADIENT_BOOSTING:
        return _boosted(data, train, seed)
    return _linear(learner, data, train, seed)


def _require_library() -> None:
    try:
        import sklearn  # noqa: F401 # pyright: ignore[reportUnusedImport] - whether it is there
    except ImportError:
        remedy = "pip install 'rialto[sim]'; --learner mean does without"
        raise MissingLibrary(f"models of rewards need scikit-learn: {remedy}") from None


def _means(data: Logged, train: IntArray) -> Predictions:
    """(sum + mean of all) / (n + 1) by place and action."""
    places = np.zeros(len(data), np.int64) if data.places is None else data.places.codes
    k, n_places = len(data.labels), 1 + int(places.max(initial=0))
    cells = places[train] * k + data.actions[train]
    counts = np.bincount(cells, minlength=n_places * k)
    sums = np.bincount(cells, data.rewards[train], minlength=n_places * k)
    table = ((sums + data.rewards[train].mean()) / (counts + 1)).reshape(n_places, k)
    return (lambda rows: table) if n_places == 1 else (lambda rows: table[places[rows]])


def _linear(learner: Learner, data: Logged, train: IntArray, seed: int) -> Predictions:
    """Scores are linear, so those of all actions are one product of matrices, and none is built for each."""
    from sklearn.linear_model import LogisticRegression, Ridge

    context = _Design(data, train)
    x, k = context.rows(train), len(data.labels)
    model: Any
    if learner is Learner.LOGISTIC:
        model = LogisticRegression(max_iter=1000, random_state=seed)
    else:
        model = Ridge(alpha=1.0, solver="sparse_cg", tol=1e-8, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a fit that stops early still is a model; dr asks no more of it
        model.fit(_with_actions(x, data.actions[train], k), data.rewards[train])
    width = x.shape[1]
    coefficients = np.asarray(model.coef_, dtype=np.float64).ravel()
    common, of_action = coefficients[:width], coefficients[width : width + k]
    slopes = coefficients[width + k :].reshape(k, width) + common
    level = of_action + float(np.ravel(model.intercept_)[0])

    def predict(rows: IntArray) -> FloatArray:
        scores = context.rows(rows) @ slopes.T + level
        return 1.0 / (1.0 + np.exp(-scores)) if learner is Learner.LOGISTIC else scores

    return predict


def _with_actions(x: FloatArray, actions: IntArray, k: int) -> Any:
    """Context, one column an action, and their products, as a sparse matrix."""
    n, width = x.shape
    rows = np.repeat(np.arange(n), width)
    places = (actions[:, np.newaxis] * width + np.arange(width)).ravel()
    products = sparse.csr_array((x.ravel(), (rows, places)), shape=(n, k * width))
    one_hot = sparse.csr_array((np.ones(n), (np.arange(n), actions)), shape=(n, k))
    found = sparse.csr_array(sparse.hstack([sparse.csr_array(x), one_hot, products]))
    found.eliminate_zeros()
    return found


def _boosted(data: Logged, train: IntArray, seed: int) -> Predictions:
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    context = _Design(data, train)
    k = len(data.labels)
    x = np.column_stack([data.actions[train], context.rows(train)])
    is_action: Any = np.arange(x.shape[1]) == 0
    model: Any
    if data.is_binary:
        model = HistGradientBoostingClassifier(categorical_features=is_action, random_state=seed)
    else:
        model = HistGradientBoostingRegressor(categorical_features=is_action, random_state=seed)
    model.fit(x, data.rewards[train])

    def predict(rows: IntArray) -> FloatArray:
        asked = context.rows(rows)
        found = np.empty((len(rows), k))
        for action in range(k):
            of_action = np.column_stack([np.full(len(rows), float(action)), asked])
            found[:, action] = (
                model.predict_proba(of_action)[:, 1] if data.is_binary else model.predict(of_action)
            )
        return found

    return predict


class _Design:
    """The context and the place of rows as numbers; means and values are those of the rows of a fit."""

    def __init__(self, data: Logged, train: IntArray) -> None:
        self._numbers: list[tuple[FloatArray, float, float]] = []
        for values in data.numbers.values():
            known = values[train]
            known = known[np.isfinite(known)]
            spread = float(known.std()) if len(known) else 0.0
            self._numbers.append((values, float(known.mean()) if len(known) else 0.0, spread or 1.0))
        self._categories: list[tuple[IntArray, IntArray]] = []
        texts = [*data.categories.values(), *([] if data.places is None else [data.places])]
        texts += [] if data.segments is None else [data.segments]
        for text in texts:
            counts = np.bincount(text.codes[train], minlength=len(text.labels))
            most = np.argsort(-counts, kind="stable")[:VALUES_MAX]
            self._categories.append((text.codes, most[counts[most] > 0]))

    def rows(self, rows: IntArray) -> FloatArray:
        """(n_rows, width): numbers standardised, categories one column a value."""
        columns = [
            np.where(np.isfinite(values[rows]), (values[rows] - mean) / spread, 0.0)
            for values, mean, spread in self._numbers
        ]
        blocks = [(codes[rows][:, np.newaxis] == most).astype(np.float64) for codes, most in self._categories]
        if not columns and not blocks:
            return np.zeros((len(rows), 0))
        return np.column_stack([*columns, *blocks])

"""The Open Bandit logs, both directions and campaigns: published figures, and plain loops to 1e-8.

The probabilities of the Thompson sampler that made the bts logs are simulated from its shipped priors, by
everybody: figures of random -> bts agree within that error (2 % allowed). The model of rewards is built as
Open Bandit Pipeline builds it (a logistic regression a place, C = 100, on user and item features, three
shuffled folds), but solved to the end.
"""

from __future__ import annotations

import csv
import json
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiments.off_policy.estimators import Estimator, Settings, estimate
from experiments.off_policy.terms import FloatArray, terms
from sim.ope.dealing import Options
from sim.ope.loading import load
from sim.ope.logged import Logged
from sim.ope.mapping_reader import read_mapping
from sim.ope.policies import candidate_of
from sim.ope.run import run
from tests.experiments.off_policy_loops import by_loops, ess_of

ROOT = Path(__file__).parents[2]
DATA = ROOT.parent / "shared" / "data" / "open_bandit"
MAPPING = ROOT / "sim" / "mappings" / "open_bandit.yaml"
PUBLISHED = DATA.parent / "published_examples.json"
OBP: dict[str, dict[str, float]] = {
    "all": {"dm": 0.00351577, "dr": 0.00481658, "sndr": 0.00488028, "dros": 0.00352210},
    "men": {"dm": 0.00425999, "dr": 0.00450290, "sndr": 0.00450669, "dros": 0.00422818},
}
"""What obp 0.5.7 gave on its own machine, lambda 1 (another simulation of the policy, another solver)."""
DRAWS = 60_000
SETTINGS = Settings(clip=10.0, switch=1.0, shrink=1.0)

pytestmark = pytest.mark.skipif(
    not DATA.exists(), reason="the Open Bandit logs of ../shared/data are not here"
)
campaigns = pytest.mark.parametrize("campaign", ["all", "men"])


def published(campaign: str, direction: str) -> dict[str, float]:
    example = json.loads(PUBLISHED.read_text("utf-8"))["ope_open_bandit_small"]
    return example["recomputed"][campaign][direction]


def read(log: str, campaign: str) -> Logged:
    return load(DATA / f"{log}_{campaign}.csv.gz", read_mapping(MAPPING), None)


def thompson(campaign: str) -> FloatArray:
    """Probability of each item at each place, (K, 3): the three best of a draw from the priors, in order."""
    prior = json.loads((DATA / f"bts_prior_{campaign}.json").read_text("utf-8"))
    rng = np.random.default_rng(12345)
    counts = np.zeros((len(prior["alpha"]), 3))
    for _ in range(DRAWS // 20_000):
        draws = rng.beta(prior["alpha"], prior["beta"], (20_000, len(counts)))
        best = np.argpartition(-draws, 3, axis=1)[:, :3]
        order = np.argsort(-np.take_along_axis(draws, best, axis=1), axis=1)
        best = np.take_along_axis(best, order, axis=1)
        for place in range(3):
            counts[:, place] += np.bincount(best[:, place], minlength=len(counts))
    return counts / DRAWS


def places_of(data: Logged) -> Any:
    """The place of each row as 0, 1, 2."""
    assert data.places is not None
    return np.array([int(label) - 1 for label in data.places.labels])[data.places.codes]


def one_hot(data: Logged) -> FloatArray:
    """User features as obp has them: a column a value in alphabetical order, but the first of each."""
    blocks = []
    for texts in data.categories.values():
        blocks += [
            (texts.codes == texts.labels.index(value)).astype(float) for value in sorted(texts.labels)[1:]
        ]
    return np.column_stack(blocks)


def item_features(campaign: str) -> FloatArray:
    """Three features as whole numbers in alphabetical order, and the number; items in their order."""
    with (DATA / f"item_context_{campaign}.csv").open(encoding="utf-8") as file:
        rows = sorted(csv.DictReader(file), key=lambda row: int(row["item_id"]))
    columns: list[list[float]] = []
    for name in ("item_feature_1", "item_feature_2", "item_feature_3"):
        values = sorted({row[name] for row in rows})
        columns.append([float(values.index(row[name])) for row in rows])
    columns.append([float(row["item_feature_0"]) for row in rows])
    return np.array(columns).T


def rewards_of(data: Logged, campaign: str) -> FloatArray:
    """The reward of every item in every row at its place, from folds the row is not in, (n, K)."""
    linear_model = pytest.importorskip("sklearn.linear_model", reason="needs scikit-learn")
    from sklearn.model_selection import KFold

    users, items, places = one_hot(data), item_features(campaign), places_of(data)
    found = np.zeros((len(data), len(data.labels)))
    for train, test in KFold(3, shuffle=True, random_state=12345).split(users):
        for place in range(3):
            rows = train[places[train] == place]
            asked = test[places[test] == place]
            model = linear_model.LogisticRegression(C=100, max_iter=1000, tol=1e-10, solver="newton-cholesky")
            model.fit(np.column_stack([users[rows], items[data.actions[rows]]]), data.rewards[rows])
            of_user, of_item = np.split(model.coef_[0], [users.shape[1]])
            scores = (users[asked] @ of_user)[:, None] + items @ of_item + model.intercept_[0]
            found[asked] = 1 / (1 + np.exp(-scores))
    return found


@campaigns
def test_bts_to_random_is_as_published(campaign: str) -> None:
    """Nothing is simulated here: the same inputs, the same figures."""
    expected = published(campaign, "bts_to_random")
    mapping = read_mapping(MAPPING)
    found = run(
        DATA / f"bts_{campaign}.csv.gz",
        mapping,
        candidate_of("uniform", mapping),
        Options(estimators=(Estimator.IPS, Estimator.SNIPS)),
    )
    ips, snips = found.evaluation.estimates
    assert ips.value == pytest.approx(expected["ipw"], abs=1e-8)
    assert snips.value == pytest.approx(expected["snipw"], abs=1e-8)
    assert ips.ess == pytest.approx(expected["ess"], rel=1e-8)
    assert ips.mean_weight == pytest.approx(expected["mean_weight"], rel=1e-8)
    assert ips.max_weight == pytest.approx(expected["max_weight"], rel=1e-8)
    error = json.loads(PUBLISHED.read_text("utf-8"))["ope_open_bandit_small"]["recomputed"][campaign]
    assert ips.standard_error == pytest.approx(error["ips_se_bts_to_random"], rel=1e-8)
    assert found.logged.value == {"all": 0.0042, "men": 0.0069}[campaign]


@campaigns
@pytest.mark.parametrize("log", ["random", "bts"])
def test_values_are_those_of_plain_loops(log: str, campaign: str) -> None:
    """Both directions, all estimators, the same model and the same probabilities: to 1e-8."""
    data = read(log, campaign)
    k = len(data.labels)
    shares = np.full((1, k, 3), 1 / k)
    if log == "random":
        shares = thompson(campaign)[np.newaxis]
    own = shares[0].T[places_of(data)]
    predictions = rewards_of(data, campaign)
    rows = terms(data.log(np.arange(len(data))), own, predictions)
    looped = by_loops(
        data.actions.tolist(),
        data.propensities.tolist(),
        data.rewards.tolist(),
        own.tolist(),
        predictions.tolist(),
        clip=10.0,
        switch=1.0,
        shrink=1.0,
    )
    values = {str(name): estimate(name, rows, SETTINGS).value for name in Estimator if name in looped}
    for name, value in looped.items():
        assert values[name] == pytest.approx(value, abs=1e-8, rel=1e-8), name
    assert estimate(Estimator.IPS, rows, SETTINGS).ess == pytest.approx(
        ess_of(rows.weights.tolist()), rel=1e-8
    )
    if log == "random":
        _assert_as_published(campaign, values, estimate(Estimator.IPS, rows, SETTINGS).ess or 0.0)


def _assert_as_published(campaign: str, values: dict[str, float | None], ess: float) -> None:
    """Within what the simulated probabilities allow: 2 %; of obp's own run of the same model 1 %."""
    expected = published(campaign, "random_to_bts")
    assert values["ips"] == pytest.approx(expected["ipw"], rel=0.02)
    assert values["snips"] == pytest.approx(expected["snipw"], rel=0.02)
    assert ess == pytest.approx(expected["ess"], rel=0.02)
    for name, value in OBP[campaign].items():
        assert values[name] == pytest.approx(value, rel=0.01), name
    if campaign == "all":  # the notebook of Open Bandit Pipeline
        example = json.loads(PUBLISHED.read_text("utf-8"))["ope_open_bandit_small"]["published"]
        assert values["ips"] == pytest.approx(example["ipw"], rel=0.02)
        assert values["dm"] == pytest.approx(example["dm_logistic"], rel=0.025)
        assert values["dr"] == pytest.approx(example["dr_logistic"], rel=0.025)


@campaigns
def test_published_figures_tell_a_planted_bug(campaign: str) -> None:
    """Propensities of the wrong rows: not what was published."""
    data = read("bts", campaign)
    log = data.log(np.arange(len(data)))
    moved = type(log)(log.actions, np.roll(log.propensities, 1), log.rewards, log.n_actions)
    rows = terms(moved, np.full((1, log.n_actions), 1 / log.n_actions))
    value = estimate(Estimator.SNIPS, rows, Settings(inf, inf, inf)).value
    assert value != pytest.approx(published(campaign, "bts_to_random")["snipw"], rel=0.02)

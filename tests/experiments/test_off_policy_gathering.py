"""Shares and predictions gathered by operations on arrays and by the loop Numba compiles: all the same."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import numpy as np
import pytest

from experiments.off_policy import gathering
from experiments.off_policy.estimators import Estimator, Settings, estimate
from experiments.off_policy.gathering import BLOCK, BadShares, Gathered
from experiments.off_policy.terms import Log, Terms, terms

WAYS = ("arrays", "loop", "compiled")


@pytest.fixture(scope="module")
def compiled() -> Iterator[gathering.Sweeping]:
    before = gathering.Compiled.sweep
    assert gathering.compile_gathering()
    assert gathering.Compiled.sweep is not None
    yield gathering.Compiled.sweep
    gathering.Compiled.sweep = before


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest, compiled: gathering.Sweeping, monkeypatch: pytest.MonkeyPatch) -> str:
    use(request.param, compiled, monkeypatch)
    return request.param


def use(way: str, compiled: gathering.Sweeping, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = {"arrays": None, "loop": gathering.sweep, "compiled": compiled}[way]
    monkeypatch.setattr(gathering.Compiled, "sweep", chosen)


def some(n: int, k: int, n_places: int, seed: int, *, is_open: bool = True) -> Log:
    """A log; unless it is open, a fifth of the actions was not allowed."""
    rng = np.random.default_rng(seed)
    places = rng.integers(n_places, size=n)
    allowed = None if is_open else rng.random((n, k)) < 0.8
    actions, rewards = rng.integers(k, size=n), rng.normal(size=n)
    return Log(actions, np.full(n, 1 / k), rewards, k, places=places, allowed=allowed)


def plainly(log: Log, shares: np.ndarray, predictions: np.ndarray | None) -> Gathered:
    """By the definitions: a row at a time, in pure Python."""
    n, k = len(log), log.n_actions
    assert log.places is not None
    allowed = np.ones((n, k), dtype=np.bool_) if log.allowed is None else log.allowed
    taken, fitted, expected = np.zeros(n), np.zeros(n), np.zeros(n)
    wanted, strayed = np.zeros((1 + int(log.places.max()), k)), 0.0

    def of(figures: np.ndarray, i: int) -> np.ndarray:
        row = figures[i if len(figures) == n else 0]
        return row[:, log.places[i]] if row.ndim == 2 else row  # type: ignore[index]

    for i, action in enumerate(log.actions.tolist()):
        own = of(shares, i)
        taken[i] = own[action]
        wanted[log.places[i]] += own
        strayed += float(own[~allowed[i]].sum())
        if predictions is not None:
            fitted[i], expected[i] = of(predictions, i)[action], of(predictions, i) @ own
    return Gathered(taken, fitted, expected, wanted, strayed)


def same(found: Terms, plain: Gathered, log: Log) -> None:
    assert found.weights == pytest.approx(plain.taken / log.propensities, rel=1e-12)
    assert np.allclose(found.wanted, plain.wanted, rtol=1e-12, atol=1e-12)
    assert found.strayed == pytest.approx(plain.strayed, rel=1e-12)
    if found.fitted is not None:
        assert found.fitted == pytest.approx(plain.fitted, rel=1e-12)
        assert found.expected == pytest.approx(plain.expected, rel=1e-12)


@pytest.mark.parametrize("of_shares", ["row", "row and place", "one", "one and place"])
@pytest.mark.parametrize("of_model", ["none", "row", "row and place", "one"])
@pytest.mark.parametrize("is_open", [True, False])
def test_what_is_gathered_is_what_the_definitions_say(
    way: str, of_shares: str, of_model: str, is_open: bool
) -> None:
    n, k, n_places = BLOCK + 9, 7, 3
    rng, log = np.random.default_rng(1), some(n, k, n_places, 2, is_open=is_open)
    rows, by_place = 1 if of_shares.startswith("one") else n, of_shares.endswith("place")
    shares = np.ascontiguousarray(rng.dirichlet(np.ones(k), (rows, n_places)).transpose(0, 2, 1))
    model = rng.normal(size=(1 if of_model == "one" else n, k, n_places))
    shares = shares if by_place else np.ascontiguousarray(shares[:, :, 0])
    predictions = {"none": None, "row and place": model}.get(of_model, np.ascontiguousarray(model[:, :, 1]))
    shares.setflags(write=False)  # nothing is written where it is read
    same(terms(log, shares, predictions), plainly(log, shares, predictions), log)


def test_what_does_not_lie_in_a_row_is_gathered_all_the_same(way: str) -> None:
    """Columns side by side, single precision, and what is no number but in another place."""
    n, k = 300, 4
    rng, log = np.random.default_rng(6), some(n, k, 2, 7)
    assert log.places is not None
    shares = np.ascontiguousarray(rng.dirichlet(np.ones(k), (n, 2)).transpose(0, 2, 1))
    model = rng.normal(size=(n, k, 2))
    plain = plainly(log, shares, model)
    same(terms(log, np.asfortranarray(shares), model), plain, log)
    same(terms(log, shares, np.asfortranarray(model)), plain, log)
    other = (np.arange(2) != log.places[:, np.newaxis])[:, np.newaxis, :]
    holes, unknown = np.where(other, np.nan, shares), np.where(other, np.nan, model)
    same(terms(log, np.ascontiguousarray(holes), np.ascontiguousarray(unknown)), plain, log)
    same(terms(log, shares, np.ascontiguousarray(unknown)), plain, log)
    single = shares.astype(np.float32)
    found = terms(log, single, model)  # type: ignore[arg-type]
    assert found.expected == pytest.approx(plain.expected, rel=1e-5, abs=1e-6)


def test_every_way_gives_the_same_estimates(
    compiled: gathering.Sweeping, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, rng = some(500, 6, 2, 3), np.random.default_rng(4)
    shares, model = rng.dirichlet(np.ones(6), 500), rng.normal(size=(500, 6))
    settings, values = Settings(2.0, 1.5, 4.0), []
    for way in WAYS:
        use(way, compiled, monkeypatch)
        found = terms(log, shares, model)
        every = [estimate(name, found, settings) for name in Estimator if name is not Estimator.REPLAY]
        values.append([(one.value, one.standard_error) for one in every])
    assert np.allclose(values[0], values[1], rtol=1e-12, atol=1e-14)
    assert np.allclose(values[0], values[2], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ([-0.1, 1.1], "a share of -0.1; shares are 0 or more"),
        ([0.5, 0.6], "the shares sum to 1.1, not to 1"),
        ([np.nan, 1.0], "a share of nan"),
        ([np.inf, 0.0], "the shares sum to inf"),
    ],
)
def test_the_first_bad_row_is_named_whatever_its_fault(way: str, row: list[float], problem: str) -> None:
    """In the second block, before another of another fault."""
    n = BLOCK + 20
    log = Log(np.zeros(n, dtype=np.int64), np.full(n, 0.5), np.ones(n), 2)
    shares = np.full((n, 2), 0.5)
    shares[BLOCK + 4], shares[BLOCK + 9] = row, [-1.0, 2.0]
    with pytest.raises(BadShares, match=problem) as caught:
        terms(log, shares)
    assert caught.value.row == BLOCK + 4


@pytest.mark.parametrize("shape", [(9, 3), (10, 2), (10, 3, 1), (2, 3)])
def test_figures_of_another_shape_are_refused(way: str, shape: tuple[int, ...]) -> None:
    """Compiled code would read beside them without a word."""
    log = some(10, 3, 2, 5)
    good = np.full((10, 3), 1 / 3)
    with pytest.raises(ValueError, match="shares have the shape"):
        terms(log, np.full(shape, 1 / 3))
    with pytest.raises(ValueError, match="predictions have the shape"):
        terms(log, good, np.zeros(shape))


@pytest.mark.parametrize("places", [np.array([0, -1]), np.array([-2, -2])])
def test_places_below_the_first_are_refused(way: str, places: np.ndarray) -> None:
    with pytest.raises(ValueError, match="places are numbered from 0"):
        Log(np.array([0, 1]), np.full(2, 0.5), np.ones(2), 2, places=places)


def test_without_numba_or_a_place_to_keep_what_it_compiled_all_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import numba

    monkeypatch.setattr(gathering.Compiled, "sweep", None)
    monkeypatch.setitem(sys.modules, "numba", None)
    assert not gathering.compile_gathering()
    assert gathering.Compiled.sweep is None
    asked: list[bool] = []

    def as_it_is(function: object) -> object:
        return function

    def nowhere(_signature: object, *, cache: bool = False, **_options: object) -> object:
        asked.append(cache)
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return as_it_is

    monkeypatch.setitem(sys.modules, "numba", numba)
    monkeypatch.setattr(numba, "njit", nowhere)
    assert gathering.compile_gathering()
    assert asked == [True, False]
    assert gathering.Compiled.sweep is gathering.sweep

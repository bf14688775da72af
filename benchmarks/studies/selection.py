"""Whether what is logged as propensity is how often a variant is chosen: a million hashed units a policy.

Every unit is decided by what the service decides with: its context encoded, the shares of the live version
for its candidates, segment and context, the race of hashes on them. Segments and contexts are random, so the
propensities p_i(k) of a unit differ. Under the null T = Σ (1{W_i = k} - p_i(k)) over units has mean 0 and
covariance V = Σ (diag p_i - p_i p_iᵀ), and Tᵀ V⁺ T is chi-square with K - 1 degrees of freedom (units are
independent: Lindeberg). For one propensity that is Pearson's. It could be right on the whole and wrong for
some, so units are also binned by the propensity of each variant, and the bin that is furthest off is told,
by Bonferroni over bins and variants (which are dependent).

Sources: Pearson (1900); Hosmer and Lemeshow, Goodness of Fit Tests (1980), with known probabilities.
"""

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from experiments.allocation.caps import WHOLE
from experiments.allocation.features import Columns
from experiments.allocation.guarding import Guarded
from experiments.allocation.hashing import race, unit_hash
from experiments.allocation.proposal import propose
from experiments.allocation.published import Cause, PolicyVersion
from experiments.eligibility import RequestContext
from experiments.model import (
    Experiment,
    Feature,
    FeatureKind,
    Lifecycle,
    Offer,
    OfferKind,
    PolicyKind,
    PolicySettings,
    Variant,
    VariantState,
)
from experiments.statistics import Cell, CellKey
from service.catalogue import LiveExperiment

FloatArray = NDArray[np.float64]
Keys = tuple[str, ...]

PAGE = Path(__file__).parents[2] / "docs" / "policies.md"
MARKS = "<!-- selection: written by make studies -->", "<!-- end of selection -->"
KEYS: Keys = ("none", "socks", "cap", "bundle")
SETS: dict[str, Keys] = {
    "all four": KEYS,
    "three, published": ("none", "socks", "cap"),
    "three, not yet published": ("none", "cap", "bundle"),
}
CAPS = {"cap": 0.15, "bundle": 0.3}
SEGMENTS, DEVICES = ("", "vip", "new"), ("mobile", "desktop", "tablet")
FEATURES = (
    Feature("device", FeatureKind.CATEGORY, values=DEVICES[:2]),
    Feature("cart_value", FeatureKind.NUMBER, center=5000.0, scale=5000.0),
)
SHOPPERS = 600
"""Units a variant and segment has in the past from which the version is made."""
BINS = 10
_SECRET = b"selection"


@dataclass(frozen=True, slots=True)
class Visit:
    """Who comes: the raw id, and what the request says."""

    unit: str
    segment: str
    context: RequestContext


@dataclass(frozen=True, slots=True)
class Agreement:
    """Choices against propensities: the chi-square of the whole, and the worst of the bins."""

    chi_square: float
    freedom: int
    p_value: float
    bins: int
    furthest: float  # in standard errors
    bins_p_value: float


def selection(*, units: int, seed: int, page: Path = PAGE) -> None:
    """Decide so many units by every policy and candidate set, and put the table into the page."""
    lines = [
        f"Every row {units:,} units of random segment and context, seed {seed}, decided as the service does; "
        + " and ".join(f"`{key}` is capped at {cap:.0%}" for key, cap in CAPS.items())
        + ". Chi-square of how often each variant was chosen against the sum of the logged propensities; "
        "then the bin of units of like propensity that is furthest off, in standard errors, its p-value by "
        "Bonferroni over the bins.",
        "",
        "| policy | candidates | chi-square (df) | p | bins | furthest | p |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    for kind in PolicyKind:
        live = live_experiment(kind, CAPS, seed=seed)
        for name, candidates in SETS.items():
            won, logged = decided(live, candidates, units=units, seed=seed)
            found = agreement(won, logged)
            lines.append(
                f"| `{kind}` | {name} | {found.chi_square:.2f} ({found.freedom}) | {found.p_value:.3f} "
                f"| {found.bins} | {found.furthest:.2f} | {found.bins_p_value:.3f} |"
            )
            print(lines[-1], file=sys.stderr, flush=True)
    text = page.read_text("utf-8")
    before, after = text.split(MARKS[0])[0], text.split(MARKS[1])[1]
    figures = "\n".join(lines)
    page.write_text(f"{before}{MARKS[0]}\n{figures}\n{MARKS[1]}{after}", "utf-8")


def live_experiment(kind: PolicyKind, capped: Mapping[str, float], *, seed: int) -> LiveExperiment:
    """The experiment as it serves, with the version that the allocator makes of its past."""
    experiment = _experiment(kind)
    found = propose(
        experiment,
        _past(np.random.default_rng(seed)),
        frozenset(KEYS),
        [SETS["all four"], SETS["three, published"]],
        guarded=Guarded(capped=capped),
        promoted=None,
        last=None,
        time_zone="UTC",
        now=datetime(2026, 4, 1, tzinfo=UTC),
    )
    version = PolicyVersion(
        number=1,
        epoch=1,
        published_at_us=0,
        cause=Cause.STARTED,
        control=KEYS[0],
        sets=found.sets,
        capped=capped,
        segments=found.segments,
        contextual=found.contextual,
    )
    return LiveExperiment(
        experiment_no=1,
        experiment=experiment,
        state=Lifecycle.RUNNING,
        version=1,
        time_zone="UTC",
        variant_states=dict.fromkeys(KEYS, VariantState.ACTIVE),
        policy=version,
        caps={},
        report_from_epoch=1,
        created_at_us=0,
        started_at_us=0,
    )


def decided(
    live: LiveExperiment,
    candidates: Keys,
    *,
    units: int,
    seed: int,
    logs: LiveExperiment | None = None,
) -> tuple[NDArray[np.int64], FloatArray]:
    """The place of every unit's variant among the candidates, (units,), and its propensities, (units, K).

    `logs` is whose shares are logged, the experiment's own unless a test plants a bug.
    """
    place = {key: number for number, key in enumerate(candidates)}
    salt = f"{live.experiment.salt}:{len(candidates)}:{candidates[-1]}"  # no two rows share their hashes
    won = np.empty(units, dtype=np.int64)
    logged = np.empty((units, len(candidates)))
    for number, visit in enumerate(_visits(units, np.random.default_rng([seed, 1]))):
        encoded = None if live.columns is None else live.columns.encoded(visit.context, visit.segment)
        shares = live.shares_for(candidates, visit.segment, encoded)
        won[number] = place[race(salt, unit_hash(_SECRET, visit.unit), shares).winner]
        said = shares if logs is None else logs.shares_for(candidates, visit.segment, encoded)
        logged[number] = [said[key] for key in candidates]
    return won, logged / WHOLE


def agreement(won: NDArray[np.int64], logged: FloatArray) -> Agreement:
    """How well choices (units,) agree with propensities (units, K): each above 0, sum 1.

    >>> found = agreement(np.repeat([0, 1], [60, 40]), np.full((100, 2), 0.5))
    >>> round(found.chi_square, 12), found.freedom  # (60 - 50)^2 / 50 + (40 - 50)^2 / 50
    (4.0, 1)
    """
    freedom = logged.shape[1] - 1
    chosen = won[:, np.newaxis] == np.arange(freedom + 1)
    off = (chosen - logged).sum(axis=0)[1:]  # the first is minus the sum of the others
    covariance = (np.diag(logged.sum(axis=0)) - logged.T @ logged)[1:, 1:]
    chi_square = float(off @ np.linalg.solve(covariance, off))
    distances = [z for k in range(freedom + 1) for z in _bins_off(chosen[:, k], logged[:, k])]
    furthest = max(distances)
    return Agreement(
        chi_square,
        freedom,
        float(stats.chi2.sf(chi_square, freedom)),
        len(distances),
        furthest,
        min(1.0, 2 * len(distances) * float(stats.norm.sf(furthest))),
    )


def _bins_off(chosen: NDArray[np.bool_], propensity: FloatArray) -> Iterator[float]:
    """Standard errors between choices and propensities, in bins of one propensity or ten of equal size."""
    edges = np.unique(np.quantile(propensity, np.arange(1, BINS) / BINS))
    values = np.unique(propensity)
    bins = np.searchsorted(edges if len(values) > BINS else values, propensity)
    for number in np.unique(bins):
        own = propensity[bins == number]
        yield float(abs(chosen[bins == number].sum() - own.sum()) / np.sqrt((own * (1 - own)).sum()))


def _visits(units: int, rng: np.random.Generator) -> Iterator[Visit]:
    segments = rng.choice(len(SEGMENTS), units, p=[0.5, 0.2, 0.3]).tolist()
    devices = rng.integers(0, len(DEVICES), units).tolist()
    carts = np.rint(rng.gamma(2.0, 3000.0, units)).astype(np.int64).tolist()
    for number, (segment, device, cart) in enumerate(zip(segments, devices, carts, strict=True)):
        context = RequestContext(cart_value_minor=cart, fields={"device": DEVICES[device]})
        yield Visit(f"visitor-{number}", SEGMENTS[segment], context)


def _past(rng: np.random.Generator) -> list[Cell]:
    """Units whose conversion goes by segment, device and cart, not by the same for each variant."""
    columns, cells = Columns(FEATURES), dict[tuple[str, str], Cell]()
    of_segment = {"": (0, 0, 4, 1), "vip": (4, 4, 0, 6), "new": (2, 6, 4, 0)}
    of_device = {"mobile": (0, 4, 0, 2), "desktop": (0, 0, 4, 2), "tablet": (0, 2, 2, 2)}
    for k, key in enumerate(KEYS):
        for segment in SEGMENTS:
            cell = Cell(CellKey(key, segment, 1, date(2026, 3, 2), 1), frozenset(KEYS))
            cells[key, segment] = cell
            vectors: list[Mapping[str, int]] = []
            for visit in _visits(SHOPPERS, rng):
                device, cart = visit.context.fields["device"], visit.context.cart_value_minor or 0
                rate = 0.2 + 0.01 * (of_segment[segment][k] + of_device[str(device)][k] + k * cart / 5000)
                bought = int(rng.random() < rate)
                features = columns.vector_of(columns.encoded(visit.context, segment))
                vectors.append({"assigned": 1, "units": 1, "converted": bought, **features})
            cell.moments.add_units(vectors, [1] * len(vectors))
    return [*cells.values()]


def _experiment(kind: PolicyKind) -> Experiment:
    offers = (Variant(key, Offer(OfferKind.CROSS_SELL), is_control=key == KEYS[0]) for key in KEYS)
    shares = dict(zip(KEYS, (0.3, 0.3, 0.3, 0.1), strict=True)) if kind is PolicyKind.FIXED else None
    return Experiment(
        key=f"selection-{kind}",
        touchpoint="checkout",
        currency="EUR",
        variants=tuple(offers),
        policy=PolicySettings(
            kind=kind,
            objective="conversion_rate",
            control_share=0.1,
            floor=0.02,
            burn_in=100,
            shares=shares,
            features=FEATURES if kind is PolicyKind.CONTEXTUAL else (),
        ),
    )

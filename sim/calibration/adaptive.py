"""How often 95 % intervals hold the lift when shares follow outcomes, by the three ways to read such data.

The shares are the allocator's own (`prob_best`, then `shares`) after every epoch, and the read-out is the
report's; only shoppers are simulated. Three arms of a conversion around 10 %, 50,000 units over 100 epochs,
floor 0.02, control share 0.10: an epoch costs a few draws, since only counts matter.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
from numpy.typing import NDArray

from experiments.allocation.caps import WHOLE, to_integer
from experiments.allocation.thompson import shares
from experiments.analysis.aipw import pair_by_aipw
from experiments.analysis.comparison import Pair
from experiments.analysis.inverse import Inverse, by_context, by_shares
from experiments.analysis.metrics import MetricDefinition, metric_definitions
from experiments.analysis.reading import Reason, pair_of_arms
from experiments.analysis.strata import Table, tabulate
from experiments.model import Experiment, Offer, OfferKind, PolicyKind, PolicySettings, Variant
from experiments.posteriors.beta import Beta
from experiments.posteriors.compare import difference, prob_best
from experiments.statistics import Cell, CellKey, Moments, over_propensity
from sim.calibration.part import Part, Promise, Rows, State, Step, band, flat, nothing, paragraph, within
from sim.calibration.tracks import Dot, dot_chart

RISING, BY_CONTEXT = "rates rise from 5 to 15 %", "by context"
CONTROL, *TREATMENTS = KEYS = ("none", "a", "b")
DAY = date(2026, 3, 2)
CANDIDATES = frozenset(KEYS)
EPOCHS, PER_EPOCH = 100, 500

Rates = NDArray[np.float64]
Counts = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class World:
    """Conversion by arm and context, each context equally common; `season` is added in each epoch."""

    rates: Rates  # (arms, contexts)
    season: Rates  # (epochs,)

    def lift(self, arm: int) -> float:
        """The true lift over all shoppers; the season is everybody's."""
        return float(np.mean(self.rates[arm] - self.rates[0]))


@dataclass(frozen=True, slots=True)
class Row:
    """What one way to read a world's runs came to, over both treatments."""

    world: str
    method: str
    runs: int
    coverage: float
    bias: float  # mean of (lift - truth) / standard error
    spread: float  # standard deviation of the same
    width: float  # mean width of the interval

    @property
    def is_right(self) -> bool:
        """Whether the coverage is one that 95 % may come to, were the two treatments of a run as one."""
        return within(self.coverage, self.runs) is State.HELD


def worlds(epochs: int = EPOCHS) -> dict[str, World]:
    """By name; the last differs by context, and is run with shares by context."""
    still, rising = np.zeros(epochs), np.linspace(-0.05, 0.05, epochs)
    same = np.full((3, 1), 0.10)
    return {
        "nothing differs": World(same, still),
        "b converts 11 %": World(np.array([[0.10], [0.10], [0.11]]), still),
        RISING: World(same, rising),
        BY_CONTEXT: World(np.array([[0.05, 0.15], [0.07, 0.13], [0.03, 0.17]]), still),
    }


def run(
    world: World, rng: np.random.Generator, *, per_epoch: int = PER_EPOCH
) -> tuple[list[Cell], list[Mapping[str, float]]]:
    """Thompson sampling in every context: the cells and, by epoch, the shares of the first context."""
    arms, contexts = world.rates.shape
    won, lost = np.ones((arms, contexts)), np.ones((arms, contexts))
    cells: list[Cell] = []
    served: list[Mapping[str, float]] = []
    for epoch, season in enumerate(world.season):
        here = rng.multinomial(per_epoch, np.full(contexts, 1 / contexts))
        split = np.array([_shares(won[:, c], lost[:, c]) for c in range(contexts)]).T  # (arms, contexts)
        units = np.array([rng.multinomial(here[c], split[:, c] / WHOLE) for c in range(contexts)]).T
        hits = rng.binomial(units, world.rates + season)
        won, lost = won + hits, lost + units - hits
        served.append({key: int(split[arm, 0]) / WHOLE for arm, key in enumerate(KEYS)})
        cells += [_cell(key, epoch, units[arm], hits[arm], split[arm]) for arm, key in enumerate(KEYS)]
    return cells, served


def _shares(won: Rates, lost: Rates) -> list[int]:
    arms = [Beta(float(a), float(b)) for a, b in zip(won, lost, strict=True)]
    best: dict[str, float] = dict(zip(KEYS, map(float, prob_best(arms)), strict=True))
    found = to_integer(shares(best, control=CONTROL, control_share=0.10, floor=0.02))
    return [found[key] for key in KEYS]


def _cell(key: str, epoch: int, units: Counts, hits: Counts, split: Counts) -> Cell:
    """The cell of an arm in an epoch, as the fold leaves it: counts, and sums over the propensity."""
    moments = Moments()
    n, s = int(units.sum()), int(hits.sum())
    sums = {"assigned": n, "units": n, "converted": s}
    products = {"units*units": n, "converted*units": s, "converted*converted": s}
    for all_of, some, share in zip(units.tolist(), hits.tolist(), split.tolist(), strict=True):
        one = over_propensity(1, share)
        for name, count in (("units/p", all_of), ("converted/p", some)):
            sums[name] = sums.get(name, 0) + count * one
        for name, count in (
            ("units/p*units/p", all_of),
            ("converted/p*units/p", some),
            ("converted/p*converted/p", some),
        ):
            products[name] = products.get(name, 0) + count * one * one
    moments.sums |= {name: value for name, value in sums.items() if value}
    moments.products |= {name: value for name, value in products.items() if value}
    return Cell(CellKey(key, "", 7, DAY, epoch), CANDIDATES, moments)


Ways = Mapping[str, Callable[[str], Pair | Reason]]
"""By the method's name, a treatment's comparison with control."""


def ways(cells: Sequence[Cell], served: Sequence[Mapping[str, float]], *, has_contexts: bool) -> Ways:
    """The three ways of the report, for one run."""
    definition = metric_definitions(EXPERIMENT)["conversion_rate"]
    table = tabulate(cells, definition)
    inverse = _inverse(cells, table, definition, None if has_contexts else served)
    return {
        "stratified": lambda key: pair_of_arms(table, key, CONTROL, by_epoch=True),
        "AIPW": lambda key: pair_by_aipw(table, inverse, key, CONTROL),
        "naive": lambda key: pair_of_arms(table, key, CONTROL, by_epoch=False),
    }


def _inverse(
    cells: Sequence[Cell],
    table: Table,
    definition: MetricDefinition,
    served: Sequence[Mapping[str, float]] | None,
) -> Inverse:
    if served is None:
        return by_context(cells, definition)
    return by_shares(table, {(7, epoch): found for epoch, found in enumerate(served)})


def cover(
    name: str, world: World, *, runs: int, seed: int, per_epoch: int = PER_EPOCH, step: Step = nothing
) -> list[Row]:
    """Coverage, bias and width of every way over that many runs."""
    has_contexts = world.rates.shape[1] > 1
    scores: dict[str, list[tuple[bool, float, float]]] = {}
    for run_no in range(runs):
        cells, served = run(world, np.random.default_rng([seed, run_no]), per_epoch=per_epoch)
        for method, read in ways(cells, served, has_contexts=has_contexts).items():
            for arm, key in enumerate(TREATMENTS, start=1):
                pair = read(key)
                if isinstance(pair, Pair):
                    scores.setdefault(method, []).append(_score(pair, world.lift(arm)))
        step()
    rows: list[Row] = []
    for method, found in scores.items():
        held, errors, widths = (np.array(column, dtype=np.float64) for column in zip(*found, strict=True))
        spread = float(errors.std())
        figures = float(held.mean()), float(errors.mean()), spread, float(widths.mean())
        rows.append(Row(name, method, runs, *figures))
    return rows


def _score(pair: Pair, truth: float) -> tuple[bool, float, float]:
    low, high = difference(pair.treatment_posterior, pair.control_posterior).interval(0.95)
    width = float(high - low)
    return bool(low <= truth <= high), (pair.lift_abs - truth) / (width / 3.92), width


EXPERIMENT = Experiment(
    key="study",
    touchpoint="checkout",
    currency="EUR",
    variants=(
        Variant(CONTROL, Offer(OfferKind.NONE), is_control=True),
        *(Variant(key, Offer(OfferKind.CROSS_SELL)) for key in TREATMENTS),
    ),
    policy=PolicySettings(PolicyKind.THOMPSON, objective="conversion_rate", control_share=0.10),
)


def text(rows: Rows) -> str:
    """The table."""
    lines = [
        paragraph(
            "Thompson sampling over three arms of about 10 % conversion, 50,000 units in 100 "
            "epochs, floor 0.02, control share 0.10; the shares are the allocator's, the read-out "
            "is the report's. Coverage is of the 95 % interval of the absolute lift, over both "
            "treatments; `bias` and `spread` are mean and standard deviation of (lift - truth) / "
            "standard error. *off* marks a coverage that 95 % would come to by chance less than "
            "once in 500 studies. By context, each of two contexts has Thompson's shares of its "
            "own; other arms are best in each, and every lift over all shoppers is 0."
        ),
        "",
        "| world | read | coverage | | bias | spread | mean width |",
        "|---|---|---:|---|---:|---:|---:|",
    ]
    for row in flat(rows):
        mark = "" if row.is_right else "*off*"
        lines.append(
            f"| {row.world} | {row.method} | {row.coverage:.3f} | {mark} "
            f"| {row.bias:+.2f} | {row.spread:.2f} | {row.width:.4f} |"
        )
    return "\n".join(lines)


def promises(rows: Rows) -> list[Promise]:
    """Both corrected lifts hold 95 % in each world; the naive one is seen to fail where rates rise."""
    found: list[Promise] = []
    for row in flat(rows):
        if _is_promised(row):
            what = f"95 % intervals hold the truth under Thompson sampling: {row.method}, {row.world}"
            found.append(Promise(what, f"{row.coverage:.3f}", within(row.coverage, row.runs), row.world))
        if row.method == "naive" and row.world == RISING:
            state = State.MISSED if row.is_right else State.HELD
            what = f"the naive lift is seen to fail: {row.world}"
            found.append(Promise(what, f"{row.coverage:.3f}", state, row.world))
    return found


def _is_promised(row: Row) -> bool:
    """The stratified lift knows nothing of contexts, the naive one of shares that move."""
    return row.method == "AIPW" or (row.method == "stratified" and row.world != BY_CONTEXT)


def chart(rows: Rows) -> str:
    """A track for each way to read each world."""
    dots = [
        Dot(f"{row.world}: {row.method}", row.coverage, band(row.runs), _is_promised(row))
        for row in flat(rows)
    ]
    return dot_chart("Coverage under Thompson sampling", dots, ("coverage of the 95 % interval", ""))


PART = Part(
    key="adaptive",
    title="Stratified, AIPW and naive under Thompson sampling",
    runs=2_000,
    worlds=dict(zip(worlds(), (35, 35, 35, 62), strict=True)),
    row=Row,
    measure=lambda world, runs, seed, step: cover(world, worlds()[world], runs=runs, seed=seed, step=step),
    text=text,
    promises=promises,
    chart=chart,
    before=(
        "A report on a policy whose shares follow outcomes has a lift by three ways "
        "(`docs/metrics.md`). This is what their intervals hold."
    ),
    after=(
        "The stratified lift knows nothing of contexts whose shares differ: under a contextual "
        "policy the report shows AIPW."
    ),
)

"""Coverage of the 95 % intervals at one look, metric by metric, where shares do not follow outcomes.

A run simulates two arms (`checkout.Shoppers`) and reads them as the report does. An interval with equal tails
holds the truth where the posterior's distribution function there lies between .025 and .975: nothing needs
to be inverted. `alone` is the treatment's own figure, `lift` the relative lift against control, for margin
the absolute one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from scipy import stats

from experiments.analysis.cohorts import cohort_of
from experiments.analysis.comparison import Pair
from experiments.analysis.estimates import Estimate
from experiments.analysis.metrics import MetricDefinition, metric_definitions
from experiments.analysis.reading import Reading, read_metric
from experiments.analysis.strata import by_segment
from experiments.model import PolicyKind
from experiments.posteriors.compare import difference, ratio_minus_one
from experiments.posteriors.protocol import Posterior
from experiments.statistics import Cell
from sim.calibration.checkout import CONTROL, MARGIN, Shoppers, cell, experiment
from sim.calibration.part import Part, Promise, Rows, Step, band, flat, nothing, paragraph, within, worst
from sim.calibration.tracks import Dot, dot_chart

TREATMENT = "offer"
OTHER = "other"
RARE = 0.03
CAPS = (0.001, 0.999)

Mix = Mapping[str, tuple[Shoppers, float]]
"""Shoppers of each kind (a segment, a candidate set) with their share of all units."""


@dataclass(frozen=True, slots=True)
class Design:
    """Who comes to the two arms, which metrics are read, and at how many units of each arm.

    `of_treatment` is the part of a kind's units that the treatment gets, one half unless told; `by` says what
    the kinds are. `is_gated` marks the sizes and tails for which coverage is held to 95 %.
    """

    control: Mix
    treatment: Mix
    metrics: tuple[str, ...]
    units: int = 50_000
    of_treatment: Mapping[str, float] | None = None
    by: str = "nothing"
    is_winsorised: bool = False
    is_gated: bool = True


@dataclass(frozen=True, slots=True)
class Row:
    """Coverage of one metric in one design."""

    design: str
    metric: str
    units: int
    runs: int
    alone: float | None  # None where the arm's own figure has another mix than the truth
    lift: float
    is_gated: bool


def _pair(
    shoppers: Shoppers,
    *metrics: str,
    units: int = 50_000,
    is_winsorised: bool = False,
    is_gated: bool = True,
) -> Design:
    better = replace(shoppers, value=1.05 * shoppers.value, conversion=1.02 * shoppers.conversion)
    arms = {"all": (shoppers, 1.0)}, {"all": (better, 1.0)}
    return Design(*arms, metrics, units, is_winsorised=is_winsorised, is_gated=is_gated)


BUYERS = Shoppers()
SEVERAL = Shoppers(more_orders=0.5, unit_spread=0.4)
FEW = Shoppers(conversion=RARE)
HEAVY = Shoppers(conversion=RARE, spread=float(np.sqrt(np.expm1(1.6**2))), is_heavy=True)
MONEY = ("aov_net", "revenue_per_unit", "margin_per_unit", "refund_rate", "refund_value_rate")
KINDS: Mix = {
    "mobile": (Shoppers(conversion=0.4, value=3000.0), 0.6),
    "desktop": (Shoppers(conversion=0.7, value=8000.0), 0.4),
}
LIFTED: Mix = {
    key: (replace(shoppers, value=1.05 * shoppers.value), part) for key, (shoppers, part) in KINDS.items()
}
MIXED = ("conversion_rate", "aov", "revenue_per_unit", "margin_per_unit")

DESIGNS: Mapping[str, Design] = {
    "a proportion": _pair(BUYERS, "conversion_rate"),
    "margin, 97 % zeros": _pair(FEW, "margin_per_unit"),
    "the same, winsorised": _pair(FEW, "margin_per_unit", is_winsorised=True),
    "several orders a unit": _pair(SEVERAL, "aov"),
    "with refunds": _pair(SEVERAL, *MONEY),
    "segments, shares of their own": Design(
        KINDS, LIFTED, MIXED, of_treatment={"mobile": 0.3, "desktop": 0.6}, by="segment"
    ),
    "candidate sets": Design(KINDS, LIFTED, MIXED, of_treatment={"mobile": 0.3, "desktop": 0.6}, by="set"),
    **{
        f"margin, 97 % zeros, {units:,} units": _pair(FEW, "margin_per_unit", units=units, is_gated=False)
        for units in (1_000, 10_000)
    },
    "several orders, 1,000 units": _pair(SEVERAL, "aov", *MONEY, units=1_000, is_gated=False),
    **{
        f"margin, 97 % zeros, log-normal sigma 1.6, {units:,} units": _pair(
            HEAVY, "margin_per_unit", units=units, is_gated=False
        )
        for units in (1_000, 10_000, 50_000)
    },
}


def coverage(name: str, design: Design, *, runs: int, seed: int, step: Step = nothing) -> list[Row]:
    """How often the two intervals hold the truth, for each metric of the design."""
    kind = PolicyKind.SEGMENT if design.by == "segment" else PolicyKind.FIXED
    about = experiment([TREATMENT, OTHER] if design.by == "set" else [TREATMENT], kind=kind)
    definitions = metric_definitions(about)
    caps = _caps(design) if design.is_winsorised else None
    truth = {arm: _truth(design, arm, caps) for arm in (TREATMENT, CONTROL)}
    held: dict[str, list[tuple[bool, bool]]] = {key: [] for key in design.metrics}
    for run_no in range(runs):
        cells = cells_of(design, np.random.default_rng([seed, run_no]), caps)
        for key in design.metrics:
            definition = definitions[key].winsorised if design.is_winsorised else definitions[key]
            found = read_metric(about, cohort_of(cells), definition, by_epoch=design.by == "segment", seed=1)
            held[key].append(_held(found, definition, truth[TREATMENT], truth[CONTROL]))
        step()
    rows: list[Row] = []
    for key, pairs in held.items():
        alone, lift = np.mean(np.array(pairs, dtype=float), axis=0)
        is_mixed = design.by != "nothing"
        own = None if is_mixed else float(alone)
        rows.append(Row(name, key, design.units, runs, own, float(lift), design.is_gated))
    return rows


def cells_of(design: Design, rng: np.random.Generator, caps: tuple[float, float] | None) -> list[Cell]:
    """The cells of one run: a kind is a segment or a candidate set, or there is only one."""
    cells: list[Cell] = []
    for number, kind in enumerate(design.control, start=1):
        candidates = [CONTROL, TREATMENT]
        if design.by == "set" and number == 1:
            candidates.append(OTHER)
        for arm in candidates:
            mix = design.control if arm == CONTROL else design.treatment
            shoppers, units = mix[kind][0], _units(design, kind, arm)
            segment = kind if design.by == "segment" else ""
            place = number if design.by == "set" else 1
            totals = shoppers.totals(units, rng)
            cells.append(cell(arm, totals, units, candidates, number=place, segment=segment, caps=caps))
    return by_segment(cells) if design.by == "segment" else cells


def _units(design: Design, kind: str, arm: str) -> int:
    of_treatment = (design.of_treatment or {}).get(kind, 0.5)
    part = 1.0 - of_treatment if arm == CONTROL else of_treatment
    return round(2 * design.units * design.control[kind][1] * part)


def _truth(design: Design, arm: str, caps: tuple[float, float] | None) -> dict[str, float]:
    """Expected figures under the standard mix; sets weigh by all their units, those of `other` too."""
    mix = design.control if arm == CONTROL else design.treatment
    weights: dict[str, float] = {}
    for number, (kind, (_, part)) in enumerate(mix.items(), start=1):
        extra = _units(design, kind, OTHER) if design.by == "set" and number == 1 else 0
        weights[kind] = 2 * design.units * part + extra
    total = sum(weights.values())
    sums: dict[str, float] = {}
    for kind, (shoppers, _) in mix.items():
        one = shoppers.truth()
        orders = shoppers.conversion * (1.0 + shoppers.more_orders)
        parts = {
            "conversion_rate": shoppers.conversion,
            "orders": orders,
            "booked": orders * shoppers.value,
            "net": one["revenue_per_unit"],
            "margin": one["margin_per_unit"] if caps is None else _winsorised_margin(shoppers, caps),
            "refunded": orders * shoppers.refunds,
        }
        for name, value in parts.items():
            sums[name] = sums.get(name, 0.0) + weights[kind] / total * value
    return {
        "conversion_rate": sums["conversion_rate"],
        "aov": sums["booked"] / sums["orders"],
        "aov_net": sums["net"] / sums["orders"],
        "revenue_per_unit": sums["net"],
        "margin_per_unit": sums["margin"],
        "refund_rate": sums["refunded"] / sums["orders"],
        "refund_value_rate": 1.0 - sums["net"] / sums["booked"],
    }


def _caps(design: Design) -> tuple[float, float]:
    """Caps at the quantiles of the control's totals that are not 0, as frozen early in its life."""
    shoppers = design.control["all"][0]
    totals = shoppers.totals(2_000_000, np.random.default_rng(0))["margin"]
    low, high = np.quantile(totals[totals != 0.0], CAPS)
    return float(low), float(high)


def _winsorised_margin(shoppers: Shoppers, caps: tuple[float, float]) -> float:
    """The expected capped margin of a unit of at most one order, by quantiles of its value."""
    levels = (np.arange(200_000) + 0.5) / 200_000
    shape = shoppers.spread**-2.0
    values = stats.gamma(shape, scale=shoppers.value / shape).ppf(levels)
    kept, lost = (float(np.clip(part * values, *caps).mean()) for part in (MARGIN, MARGIN - 1.0))
    return shoppers.conversion * ((1.0 - shoppers.refunds) * kept + shoppers.refunds * lost)


def _held(
    found: Reading, definition: MetricDefinition, truth: Mapping[str, float], control: Mapping[str, float]
) -> tuple[bool, bool]:
    key = definition.key
    own, pair = found.own[TREATMENT], found.pairs[TREATMENT]
    if not isinstance(own, Estimate) or not isinstance(pair, Pair):
        return False, False
    is_alone = own.posterior is not None and _is_central(own.posterior, truth[key])
    change = ratio_minus_one(pair.treatment_posterior, pair.control_posterior)
    if key == "margin_per_unit" or change is None:
        change = difference(pair.treatment_posterior, pair.control_posterior)
        return is_alone, 0.025 <= float(change.cdf(truth[key] - control[key])) <= 0.975
    return is_alone, 0.025 <= float(change.cdf(truth[key] / control[key] - 1.0)) <= 0.975


def _is_central(posterior: Posterior, truth: float) -> bool:
    return 0.025 <= float(posterior.cdf(truth)) <= 0.975


def text(rows: Rows) -> str:
    """The table."""
    runs = {row.runs for row in flat(rows)}
    low, high = band(max(runs))
    lines = [
        paragraph(
            "Order values have a mean of 50 and a coefficient of variation of 1 (unless told), 5 "
            "% of orders are refunded, margin is 40 % of what is booked less refunds; the "
            "treatment has 5 % higher order values and 2 % more conversion. `alone` is the "
            "interval of the treatment's own figure, `lift` that of its relative lift (for margin "
            "the absolute one). Winsorised, the target is the winsorised mean. With segments and "
            "with candidate sets the two arms have other mixes of shoppers, and only the lift is "
            f"standardised. A coverage of 95 % would lie between {low:.3f} and {high:.3f} in 99.8 "
            "% of such studies: designs marked * are held to that; smaller and heavier-tailed "
            "ones are published as they are."
        ),
        "",
        "| design | metric | units per arm | alone | lift |",
        "|---|---|---:|---:|---:|",
    ]
    for row in flat(rows):
        alone = "–" if row.alone is None else f"{row.alone:.3f}"
        star = " *" if row.is_gated else ""
        lines.append(f"| {row.design}{star} | {row.metric} | {row.units:,} | {alone} | {row.lift:.3f} |")
    return "\n".join(lines)


def promises(rows: Rows) -> list[Promise]:
    """One for each design that is held to 95 %: all its intervals are within the binomial band."""
    found: list[Promise] = []
    for name, of_design in rows.items():
        if DESIGNS[name].is_gated:
            shares = [(share, row.runs) for row in of_design for share in (row.alone, row.lift) if share]
            least, most = (end(share for share, _ in shares) for end in (min, max))
            said = f"{least:.3f}" if least == most else f"{least:.3f} to {most:.3f}"
            states = [within(share, runs) for share, runs in shares]
            found.append(Promise(f"95 % intervals hold the truth: {name}", said, worst(states), name))
    return found


def chart(rows: Rows) -> str:
    """A track for each metric of each design."""
    dots = [
        Dot(
            f"{row.design}: {row.metric}",
            row.lift,
            band(row.runs) if row.is_gated else None,
            row.is_gated,
            row.alone,
        )
        for row in flat(rows)
    ]
    return dot_chart("Coverage of 95 % intervals at one look", dots, ("lift", "own figure"))


PART = Part(
    key="intervals",
    title="Intervals at one look",
    runs=2_000,
    worlds=dict(zip(DESIGNS, (7, 1, 33, 10, 12, 7, 37, 1, 1, 5, 1, 1, 1), strict=True)),
    row=Row,
    measure=lambda world, runs, seed, step: coverage(world, DESIGNS[world], runs=runs, seed=seed, step=step),
    text=text,
    promises=promises,
    chart=chart,
    before="Each design is read once, by the service's own read-out.",
)

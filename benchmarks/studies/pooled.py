"""What the pooled model costs by the number of units, and what it finds of Hillstrom's customers."""

import csv
import gzip
import time
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path

import numpy as np

from benchmarks.studies.blocks import write_block
from experiments.histogram import bin_of
from experiments.pooled.analyse import Analysis, analyse
from experiments.pooled.data import Place, PooledData, pooled_data
from experiments.pooled.figures import VariantFigures
from experiments.statistics import Cell, CellKey

PAGE = Path(__file__).parents[2] / "docs" / "analysis.md"
CUSTOMERS = Path(__file__).parents[2].parent / "shared" / "data" / "hillstrom_email.csv.gz"
FEW = 10_000
SEGMENTS = 8
RATIO_MAX = 3.0
VARIANTS = ("none", "socks", "cap")
ARMS = {"No E-Mail": "none", "Mens E-Mail": "mens", "Womens E-Mail": "womens"}
MARGIN = 0.30


def pooled(*, units: int, seed: int) -> None:
    """Both parts of the page; the second where the customers' file lies beside the repository."""
    seconds_of(data_of(FEW, seed), seed)  # libraries load, and what they compile but once is kept
    few, many = (seconds_of(data_of(count, seed), seed) for count in (FEW, units))
    write_block(PAGE, "time", time_block(few, many, units))
    if CUSTOMERS.exists():
        found = analyse(customers(CUSTOMERS), seed=seed)
        write_block(PAGE, "hillstrom", customers_block(found))


def seconds_of(data: PooledData, seed: int) -> tuple[float, float]:
    """Seconds of CPU and of the clock of an analysis from the cells on, compiling and all."""
    began, at = time.process_time(), time.perf_counter()
    found = analyse(data, seed=seed)
    took = time.process_time() - began, time.perf_counter() - at
    assert not found.refused, found.refused
    return took


def data_of(units: int, seed: int) -> PooledData:
    """A shop of three variants in eight segments; a fifth of its visitors buy, a tenth of those send back."""
    rng = np.random.default_rng(seed)
    cells: list[Cell] = []
    base = 0.2 * np.exp(0.3 * rng.standard_normal(SEGMENTS))
    each = units // (SEGMENTS * len(VARIANTS))
    for segment in range(SEGMENTS):
        for variant, lift in zip(VARIANTS, (1.0, 1.1, 1.03), strict=True):
            cell = Cell(CellKey(variant, f"s{segment}", 1, date(2026, 3, 1), 0), frozenset(VARIANTS))
            buyers = int(rng.binomial(each, base[segment] * lift))
            values = np.round(5000 * np.exp(0.6 * rng.standard_normal(buyers))).astype(int)
            back = rng.random(buyers) < 0.1
            kinds = [_unit(int(value), is_back) for value, is_back in zip(values, back, strict=True)]
            cell.add_units([*kinds, ({"units": 1}, {})], [1] * buyers + [each - buyers])
            cells.append(cell)
    return pooled_data([Place("shop", "checkout", cells)], VARIANTS)


def _unit(value: int, is_back: bool) -> tuple[Mapping[str, int], Mapping[str, int]]:
    bought = {"units": 1, "converted": 1, "orders": 1, "revenue": value, "margin": value * 2 // 5}
    if not is_back:
        return bought, {"revenue": bin_of(value)}
    back = {"refunded_orders": 1, "refunded_value": value, "margin": value * 2 // 5 - value}
    return bought | back, {"revenue": bin_of(value), "refunded_value": bin_of(value)}


def customers(file: Path) -> PooledData:
    """Hillstrom's 64,000 customers by what they spent in the year before, profit at a margin of 30 %."""
    units: dict[tuple[str, str], dict[int, int]] = {}
    with gzip.open(file, "rt") as rows:
        for row in csv.DictReader(rows):
            cents = round(float(row["spend"]) * 100)
            spent = units.setdefault((ARMS[row["segment"]], row["history_segment"]), {})
            spent[cents] = spent.get(cents, 0) + 1
    cells: list[Cell] = []
    for (variant, segment), spent in units.items():
        cell = Cell(CellKey(variant, segment, 1, date(2008, 3, 1), 0), frozenset(ARMS.values()))
        kinds = [(_spender(cents), {"revenue": bin_of(cents)} if cents else {}) for cents in spent]
        cell.add_units(kinds, list(spent.values()))
        cells.append(cell)
    return pooled_data([Place("hillstrom", "email", cells)], tuple(ARMS.values()))


def _spender(cents: int) -> Mapping[str, int]:
    if not cents:
        return {"units": 1}
    return {"units": 1, "converted": 1, "orders": 1, "revenue": cents, "margin": round(MARGIN * cents)}


def time_block(few: tuple[float, float], many: tuple[float, float], units: int) -> str:
    """The ratio that is promised, in words."""
    (few_cpu, few_wall), (many_cpu, many_wall) = few, many
    return "\n".join(
        [
            f"Three variants in eight segments, all stages, from the cells on: {few_cpu:.1f} s of CPU with",
            f"{FEW:,} units, {many_cpu:.1f} s with {units:,}, that is {many_cpu / few_cpu:.2f} times (by the",
            f"clock {few_wall:.1f} s and {many_wall:.1f} s, {many_wall / few_wall:.2f} times; promised: at",
            f"most {RATIO_MAX:g}). Most of either is compiling.",
        ]
    )


def customers_block(found: Analysis) -> str:
    """All customers and each segment: profit a customer in cents, raw beside pooled."""
    assert not found.refused, found.refused
    assert found.law is not None, "only what is refused early has no law"
    lines = [
        "MineThatData's e-mail test of 2008: 64,000 customers, three variants, profit = 30 % of what they",
        "spent in two weeks, in cents a customer; segments by what they had spent in the year before. 578",
        f"bought, so a segment has some 28 buyers a variant. Order values: {found.law.replace('_', '-')}. In",
        "brackets the 95 % interval.",
        "",
        "| customers | variant | units | profit, pooled | raw | against none | raw | P(better) | P(best) |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    lines += _rows("all", found.variants)
    for segment, variants in found.segments.items():
        lines += _rows(segment.partition(") ")[2], variants)
    mixed = [
        f"{stage.name}: R-hat {stage.mixing.r_hat:.3f}, effective draws {stage.mixing.ess_bulk:.0f} (bulk), "
        f"{stage.mixing.ess_tail:.0f} (tail), {stage.mixing.divergences} divergences"
        for stage in found.stages
    ]
    return "\n".join([*lines, "", "; ".join(mixed) + "."])


def _rows(title: str, variants: Sequence[VariantFigures]) -> list[str]:
    rows: list[str] = []
    for variant in variants:
        profit = variant.metrics["margin_per_unit"]
        text = f"| {title} | {variant.key} | {variant.units:,.0f} | {profit.value:.1f} "
        text += f"({profit.ci_low:.1f} to {profit.ci_high:.1f}) | {profit.raw:.1f} | "
        best = f"{variant.prob_best['margin_per_unit']:.3f} |"
        lift = variant.lifts.get("margin_per_unit")
        if lift is None:
            rows.append(f"{text}| | | {best}")
        else:
            found = lift.absolute
            text += f"{found.value:+.1f} ({found.ci_low:+.1f} to {found.ci_high:+.1f}) | {found.raw:+.1f} | "
            rows.append(f"{text}{lift.prob_beats_control:.3f} | {best}")
    return rows

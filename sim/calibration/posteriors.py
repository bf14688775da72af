"""Every posterior that shares and reports rest on, held against truths that are known.

Generative ones (`sim.calibration.generative`) by the truths' levels, which must be uniform; approximations
and posteriors of weighted cohorts (`weighted`, `late`) by the coverage of their 95 % intervals. Each is
measured twice from the same seeds, then with a fault of one unit, order or day, which must be seen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sim.calibration.generative import GENERATIVE
from sim.calibration.late import LATE
from sim.calibration.levels import Row, World, measured
from sim.calibration.part import Part, Promise, Rows, State, band, flat, paragraph, worst
from sim.calibration.ranked import BINS, LIMIT
from sim.calibration.tracks import Axis, Dot, dot_chart
from sim.calibration.weighted import WEIGHTED

WORLDS: Mapping[str, World] = {**GENERATIVE, **WEIGHTED, **LATE}
LEAST = 5 * BINS
"""Runs below which chi-square over so many bins says nothing."""


def text(rows: Rows) -> str:
    """The table."""
    low, high = band(max(row.runs for row in flat(rows)))
    lines = [
        paragraph(
            "A level is P(parameter <= truth) in the posterior. *Chi-square* is of the levels over "
            f"{BINS} bins against uniform, below {LIMIT} by 99.9 % where a posterior is right (Talts "
            "et al. 2018); *due* the coverage that the 95 % interval is to have: 0.95 between "
            f"{low:.3f} and {high:.3f} by 99.8 %. *Planted*: the same data with a fault. Truths of "
            "the hurdle and of logistic regression are drawn from their priors, which lean to one "
            "side. Ratios: 60 visitors of the offer, 240 of control, several orders each. "
            "Discounted: 2,000 visitors a day of each variant, half-life one day, read by the "
            "allocator; of rates that walk the truth is today's. Late: 5,000 visitors of each "
            "variant while windows are open, `policy.delay: model`; the truth is that of closed ones."
        ),
        "",
        "| posterior | of | runs | due | coverage | chi-square | planted: coverage | chi-square |",
        "|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {row.world} | {row.quantity} | {row.runs:,} | {_due(row)} | {row.coverage:.3f} "
        f"| {row.chi_square:.1f} | {row.planted_coverage:.3f} | {row.planted_chi_square:.1f} |"
        for row in flat(rows)
    ]
    faults: dict[str, list[str]] = {}
    for name in rows:
        faults.setdefault(WORLDS[name].fault, []).append(name)
    told = [f"- {fault}: {'; '.join(names)}" for fault, names in faults.items()]
    return "\n".join([*lines, "", "What is planted:", "", *told])


def _due(row: Row) -> str:
    return "–" if row.expected is None else f"{row.expected:.3f}"


def promises(rows: Rows) -> list[Promise]:
    """Of each world: levels are uniform, or intervals hold what is due; and the fault is seen."""
    found: list[Promise] = []
    for name, of_world in rows.items():
        held = [row for row in of_world if row.expected is not None]
        if WORLDS[name].is_generative:
            found.append(_uniform(name, held))
        elif held:
            shares = ", ".join(f"{row.coverage:.3f}" for row in held)
            states = [_is_due(row, row.coverage) for row in held]
            due = "/".join(sorted({_due(row) for row in held}))
            found.append(Promise(f"95 % intervals hold {due} of truths: {name}", shares, worst(states)))
        seen = [row for row in of_world if is_seen(row)]
        said = ", ".join(
            f"coverage {row.planted_coverage:.3f}, chi-square {row.planted_chi_square:.1f}"
            for row in seen[:1]
        )
        state = State.HELD if seen else State.UNSURE
        found.append(Promise(f"a planted off-by-one is seen: {name}", said or "not seen", state))
    return found


def _uniform(name: str, held: Sequence[Row]) -> Promise:
    chi = max(row.chi_square for row in held)
    state = State.MISSED if chi > LIMIT else State.HELD if held[0].runs >= LEAST else State.UNSURE
    return Promise(f"levels are uniform: {name}", f"chi-square at most {chi:.1f}", state)


def _is_due(row: Row, share: float) -> State:
    low, high = band(row.runs, row.expected or 0.95)
    return State.HELD if low <= share <= high else State.MISSED


def is_seen(row: Row) -> bool:
    """Whether the fault fails what passes without it: levels or, where they need not be uniform, coverage."""
    if row.chi_square <= LIMIT < row.planted_chi_square and row.runs >= LEAST:
        return True
    right, planted = (_is_due(row, share) for share in (row.coverage, row.planted_coverage))
    return not row.is_generative and right is State.HELD and planted is State.MISSED


def chart(rows: Rows) -> str:
    """A track for each quantity: its coverage, and that with the fault."""
    dots = [
        Dot(
            f"{row.world}: {row.quantity}",
            row.coverage,
            None if row.expected is None else band(row.runs, row.expected),
            row.expected is not None,
            row.planted_coverage,
        )
        for row in flat(rows)
    ]
    axis = Axis([0.85, 0.9, 0.95, 1.0])
    names = "as it is", "with a fault (below 85 %: at the edge)"
    return dot_chart("Coverage of 95 % intervals, posterior by posterior", dots, names, axis=axis)


PART = Part(
    key="posteriors",
    title="Posterior by posterior",
    runs=1_000,
    worlds=dict(zip(WORLDS, (0.3, 0.3, 2, 7, 4, 4, 4, 6, 6, 8, 8, 17), strict=True)),
    row=Row,
    measure=lambda world, runs, seed, step: measured(world, WORLDS[world], runs=runs, seed=seed, step=step),
    text=text,
    promises=promises,
    chart=chart,
    before=(
        "What shares and reports rest on, one by one. The other conjugate posteriors (Beta, Normal-inverse-"
        "gamma, linear) are exact; their ranks, with a fault planted, are part of the tests."
    ),
    after=(
        "Discounted counts are a posterior of what is true today, in a world where rates walk as fast as the "
        "half-life forgets: there its interval holds 95 %. Where nothing changes, and of the discounted mean "
        "of what changes, it is wider than need be (98.4 % with a half-life of a day, 99.4 % with a long "
        "one): it counts sum w n units, and the mean of them errs as sum (w n)^2 / sum w^2 n would. A steady "
        "trend is followed with a delay, here of one standard deviation, which is published and not "
        "promised. Counting young units by their age takes n_eff for binomial, which says too much where "
        "most units buy (60 %); and a figure of its own does not know how uncertain the delay curve is. That "
        "is common to all variants: their difference, which decides shares, hardly feels it. A success too "
        "many, or a day, in every variant alike leaves differences as they are where rates are low."
    ),
)

"""The studies that docs/policies.md cites: regret, the price of publishing rarely, P(best) against draws.

They write the part of that page between their two marks, and the chart beside it.
"""

import sys
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.studies.regret import RATES, REFERENCE, Regret, regret
from experiments.model import PolicyKind
from experiments.posteriors.beta import Beta
from experiments.posteriors.compare import prob_best
from experiments.posteriors.normal import StudentT
from experiments.posteriors.protocol import Posterior
from sim.calibration.chart import line_chart

PAGE = Path(__file__).parents[2] / "docs" / "policies.md"
CHART = "regret.svg"
MARKS = "<!-- written by make studies -->", "<!-- end of what make studies writes -->"
HORIZON = 10_000
DRAWS = 10_000_000
AT_ONCE = 100_000
SHARE, FLOOR = 0.1, 0.01
SHOWN = "every decision", "every 100", "every 1,000"


def policies(*, runs: int, seed: int, draws: int = DRAWS, page: Path = PAGE) -> None:
    """Run the studies and put their figures into the page."""
    found = regrets(runs=runs, seed=seed)
    compared = against_draws(seed=seed, draws=draws)
    text = page.read_text("utf-8")
    before, after = text.split(MARKS[0])[0], text.split(MARKS[1])[1]
    figures = "\n".join(written(found, compared, runs, seed, draws))
    page.write_text(f"{before}{MARKS[0]}\n{figures}\n{MARKS[1]}{after}", "utf-8")
    page.with_name(CHART).write_text(chart(found), "utf-8")


def regrets(*, runs: int, seed: int) -> dict[str, Regret]:
    """Regret of every way to run the job, by what the page calls it."""
    job = partial(regret, RATES, HORIZON, runs)
    kept = partial(job, control_share=SHARE, floor=FLOOR)
    ways = {
        "`thompson`, every decision": job,
        "`thompson`, every 10": partial(job, every=10),
        "`thompson`, every 100": partial(job, every=100),
        "`thompson`, every 1,000": partial(job, every=1_000),
        "`top_two`, every 100": partial(job, every=100, kind=PolicyKind.TOP_TWO),
        f"`thompson`, every 100, floor {FLOOR}, control share {SHARE}": partial(kept, every=100),
    }
    found: dict[str, Regret] = {}
    for number, (name, way) in enumerate(ways.items()):
        found[name] = way(rng=np.random.default_rng([seed, number]))
        print(f"{name}: {found[name].mean:.2f} +- {found[name].error:.2f}", file=sys.stderr, flush=True)
    return found


def against_draws(*, seed: int, draws: int) -> dict[str, float]:
    """By posteriors: the greatest distance of a P(best) from its share of the draws, in standard errors."""
    arms: dict[str, list[Posterior]] = {
        "2 proportions": proportions(2),
        "10 proportions": proportions(10),
        "100 proportions": proportions(100),
        "10 means, 3 to 30 degrees of freedom": [
            StudentT(mean, 0.5, 3.0 * (k + 1)) for k, mean in enumerate(np.linspace(10.0, 11.0, 10).tolist())
        ],
    }
    found: dict[str, float] = {}
    for number, (name, posteriors) in enumerate(arms.items()):
        rng = np.random.default_rng([seed, 100 + number])
        won = np.zeros(len(posteriors), dtype=np.int64)
        for _ in range(draws // AT_ONCE):
            made = np.array([posterior.draw(AT_ONCE, rng=rng) for posterior in posteriors])
            won += np.bincount(made.argmax(axis=0), minlength=len(posteriors))
        chance = prob_best(posteriors)
        error = np.sqrt(draws * np.maximum(chance * (1 - chance), 1 / draws))  # of a rare winner: one win
        found[name] = float((np.abs(won - draws * chance) / error).max())
        print(f"{name}: {found[name]:.2f} standard errors", file=sys.stderr, flush=True)
    return found


def proportions(count: int) -> list[Posterior]:
    """Proportions of 5 to 8 % after a thousand units each."""
    return [Beta(1 + 1000 * rate, 1 + 1000 * (1 - rate)) for rate in np.linspace(0.05, 0.08, count).tolist()]


def chart(found: dict[str, Regret]) -> str:
    """Regret over decisions, by how often versions are published."""
    shown = {f"published {name}": found[f"`thompson`, {name}"] for name in SHOWN}
    places = np.linspace(1, HORIZON, 201).astype(int).tolist()
    lines = {
        name: [(0.0, 0.0), *((float(t), float(result.curve[t - 1])) for t in places)]
        for name, result in shown.items()
    }
    return line_chart("Thompson sampling: what is given away", "decisions", "successes given away", lines)


def written(
    found: dict[str, Regret], compared: dict[str, float], runs: int, seed: int, draws: int
) -> list[str]:
    """The figures as the page has them."""
    every = found["`thompson`, every decision"]
    truth, error = REFERENCE[HORIZON]
    lines = [
        f"Ten arms, rates 5 % to 12 % in equal steps, {HORIZON:,} decisions with the reward at once, "
        f"{runs:,} replications, seed {seed}. Regret is the number of successes given away against always "
        f"choosing the best; at random it is {HORIZON * (RATES.max() - RATES.mean()):,.0f}.",
        "",
        "| policy, published | regret at 1,000 | at 10,000 | more than at every decision |",
        "|---|---:|---:|---:|",
    ]
    for name, result in found.items():
        more = result.mean - every.mean
        price = "–" if result is every else f"{more:+.1f} ± {np.hypot(result.error, every.error):.1f}"
        lines.append(
            f"| {name} | {result.curve[999]:.2f} | {result.mean:.2f} ± {result.error:.2f} | {price} |"
        )
    lines += [
        "",
        f"Exact Beta-Thompson sampling written by hand apart from Rialto gives {truth} ± {error:.2f}: "
        f"{every.errors_off(truth, error):.1f} standard errors from the first row.",
        "",
        f"P(best) by quadrature against {draws:,} draws, the arm that is furthest off: "
        + "; ".join(f"{name} {off:.1f} standard errors" for name, off in compared.items())
        + ".",
    ]
    return lines

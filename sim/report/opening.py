"""The first screen: the claim, what is true, and in one sentence what it was worth."""

import numpy as np

from experiments.analysis.wording import Language, money
from sim.report.markup import Html, element, joined
from sim.report.scales import percent
from sim.report.series import best_single, control_of, is_sampled
from sim.runner.run import Run
from sim.runner.summary import summary_of

WEEK_DAYS = 7


def opening(run: Run) -> Html:
    """Title, claim, ground truth, the sentence, and the figures behind it."""
    settings, scenario = run.settings, run.settings.scenario
    done = len(run.replications)
    size = f"{done} of {settings.replications} replications of {scenario.days} days, seed {settings.seed}"
    notes = [element("p", f"{scenario.key} · {size}", class_="size")]
    if not run.is_complete:
        notes.append(
            element("p", "Interrupted: what follows is of the replications that were done.", class_="alarm")
        )
    about = [("Claim", scenario.claim), ("What is true", scenario.ground_truth)]
    terms = [joined([element("dt", name), element("dd", text)]) for name, text in about if text]
    worth = [element("p", sentence(run), class_="sentence"), _tiles(run)] if done else []
    return element("header", element("h1", scenario.title), *notes, element("dl", *terms), *worth)


def sentence(run: Run) -> str:
    """What the policy was worth, in money and in customers."""
    weekly = _weekly(run)
    mean = float(weekly.mean())
    amount = _money(run, abs(mean))
    if amount == _money(run, 0.0):
        earned = "Against no offers it earned neither more nor less"
    else:
        earned = f"Against no offers it earned {amount} a week {'more' if mean > 0 else 'less'}"
    found = summary_of(run)["figures"]
    regret, harmed = found["regret_share"], found["harmed_share"]
    had = f"regret was {percent(regret['mean'])} of what could be had" if regret["n"] else ""
    saw = f"{percent(harmed['mean'])} of customers saw something worse than nothing"
    return "; ".join(part for part in (earned, had, saw) if part) + "."


def _tiles(run: Run) -> Html:
    figures = summary_of(run)["figures"]
    weekly, single = _weekly(run), _weekly(run, of_best_single=True)
    low, high = (_money(run, float(end), signed=True) for end in np.quantile(weekly, (0.05, 0.95)))
    days, verdicts = figures["days_to_decision"], summary_of(run)["verdicts"]
    tiles = [
        (_money(run, float(weekly.mean()), signed=True), "a week against no offers", _range(low, high)),
        (_money(run, float(single.mean()), signed=True), "a week, the best single variant", "in hindsight"),
        _spread_tile("regret, of what could be had", figures["regret_share"]),
        _spread_tile("saw something worse than nothing", figures["harmed_share"]),
    ]
    if is_sampled(run):
        return element("ul", *(_tile(*tile) for tile in tiles), class_="tiles")
    counts = ", ".join(f"{name.replace('_', ' ')} {count}" for name, count in verdicts.items())
    when = f"{days['q50']:.0f} days" if days["n"] else "none"
    which = f"to a verdict, median of {days['n']} that had one" if days["n"] else "came to a verdict"
    tiles.append((when, which, counts))
    return element("ul", *(_tile(*tile) for tile in tiles), class_="tiles")


def _spread_tile(name: str, figures: dict[str, float]) -> tuple[str, str, str]:
    if not figures["n"]:
        return "–", name, "nothing could be had"
    return percent(figures["mean"]), name, _range(percent(figures["q05"]), percent(figures["q95"]))


def _tile(figure: str, name: str, note: str) -> Html:
    return element(
        "li", element("strong", figure), element("span", name), element("small", note), class_="tile"
    )


def _range(low: str, high: str) -> Html:
    """Two figures, neither of them torn apart at the end of a line."""
    return joined([element("span", low), element("span", f"to {high}")], " ")


def _weekly(run: Run, *, of_best_single: bool = False) -> np.ndarray:
    """True margin above that of offering nothing, per week, of each replication."""
    control, weeks = control_of(run), run.settings.scenario.days / WEEK_DAYS
    had = [best_single(run, one) if of_best_single else one.expected_minor for one in run.replications]
    nothing = [one.if_all_minor[:, control] for one in run.replications]
    return np.array([(h - n).sum() / weeks for h, n in zip(had, nothing, strict=True)])


def _money(run: Run, minor: float, *, signed: bool = False) -> str:
    return money(minor, run.settings.scenario.world.currency, Language.EN, signed=signed)

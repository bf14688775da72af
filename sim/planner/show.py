"""A plan for people: one table, and sentences that say what its figures mean; and as plain values."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from experiments.money import exponent
from experiments.planning.figures import EffectPlan, Plan
from experiments.planning.guarding import GuardrailPlan
from experiments.planning.plan import Question
from sim.planner.rows import SIMULATED as LIVED_THROUGH
from sim.planner.rows import Answer, Row
from sim.planner.trials import Simulated

NONE = "–"
PLANNED = ("visitors", "days", "power", "forgone", "at risk")
SIMULATED = ("right", "wrong", "days", "treated", "forgone")


def as_json(answer: Answer) -> dict[str, Any]:
    """Everything as plain values; money in minor units."""
    asked = answer.asked
    return {
        "objective": asked.experiment.policy.objective,
        "currency": asked.experiment.currency,
        "shop": asdict(asked.shop),
        "visitors_per_day": asked.per_day,
        "power": asked.power,
        "variants": len(asked.experiment.variants),
        "replications": asked.replications,
        "seed": asked.seed,
        "look": "daily" if asked.is_watched else "end",
        "rows": [
            {
                "effect": row.effect,
                "control_share": row.control_share,
                "policy": row.policy,
                "plan": asdict(row.planned),
                "is_of_first_shares": row.is_of_first_shares,
                "simulated": None if row.simulated is None else asdict(row.simulated),
            }
            for row in answer.rows
        ],
        "designs": [
            {"control_share": question.split.control, "treatment_share": question.split.treatment}
            | _whole(found)
            for question, found in answer.plans
        ],
    }


def _whole(found: Plan) -> dict[str, Any]:
    return {name: value for name, value in asdict(found).items() if name != "effects"}


def show(answer: Answer, console: Console) -> None:
    """Print a table of the closed forms, one of what was simulated, and the sentences."""
    asked = answer.asked
    objective, currency = asked.experiment.policy.objective, asked.experiment.currency
    table = _table(f"{objective}, {asked.per_day:,.0f} visitors a day: what the rules take", PLANNED)
    for row in answer.rows:
        table.add_row(*_what_if(row), *_planned(row.planned, currency))
    console.print(table)
    if any(row.simulated for row in answer.rows):
        table = _table(f"{asked.replications} tests of each lived through", SIMULATED)
        for row in answer.rows:
            table.add_row(*_what_if(row), *_lived(row.simulated, currency))
        console.print(table)
    for line in sentences(answer):
        console.print(line, soft_wrap=True, highlight=False)


def _table(title: str, columns: Sequence[str]) -> Table:
    table = Table(title=title, box=SIMPLE_HEAD)
    for name in ("effect", "control", "policy", *columns):
        table.add_column(name, justify="left" if name == "policy" else "right", no_wrap=True)
    return table


def _what_if(row: Row) -> tuple[str, str, str]:
    return _percent(row.effect), f"{row.control_share:.0%}", row.policy


def _planned(one: EffectPlan, currency: str) -> Iterator[str]:
    yield _count(one.units)
    yield NONE if one.days is None else f"{one.days.decision:,.0f}"
    yield f"{one.power:.0%}"
    yield _money(one.regret_minor, currency)
    yield _money(one.at_risk_minor, currency)


def _lived(one: Simulated | None, currency: str) -> Iterator[str]:
    if one is None:
        yield from [NONE] * len(SIMULATED)
        return
    yield f"{one.power:.0%} ± {one.power_error:.0%}"
    yield f"{one.wrong:.0%}"
    days = (one.days_low, one.days_half, one.days_high)
    low, half, high = (f">{one.days}" if day is None else f"{day:.0f}" for day in days)
    yield f"{half} ({low}–{high})"
    yield _count(one.treated)
    yield _money(one.regret_minor, currency)


def sentences(answer: Answer) -> Iterator[str]:
    """What the figures mean, of the first row, the first design and its guardrails."""
    question, found = answer.plans[0]
    currency, objective = answer.asked.experiment.currency, question.objective
    for row in answer.rows[:1]:
        yield from _of_effect(row.planned, question, currency)
        if row.simulated is not None:
            yield _of_simulation(row, row.simulated)
    yield from _of_policies(answer)
    if found.detectable is not None:
        yield f"The least effect found with a power of {question.power:.0%} then: {found.detectable:+.1%}."
    if found.units_no_difference is not None:
        yield (
            f"That {objective} differs by less than {question.verdict.rope:.1%} takes"
            f" {_count(found.units_no_difference)} visitors to say, where it is so."
        )
    if found.balance > 1.05:
        yield (
            f"A control share of {found.best_control_share:.0%} would need"
            f" {1 - 1 / found.balance:.0%} fewer visitors than {question.split.control:.0%}."
        )
    for guardrail in found.guardrails:
        yield _of_guardrail(guardrail, question, currency)
    planned = {one.metric for one in found.guardrails}
    for rail in question.guardrails:
        if rail.metric not in planned:
            yield f"Nothing is assumed of {rail.metric}: its guardrail is not planned."


def _of_effect(one: EffectPlan, question: Question, currency: str) -> Iterator[str]:
    if one.units is None or one.days is None:
        yield "No size finds that nothing is different; see below what it takes to say so."
        return
    yield (
        f"A change of {question.objective} by {_percent(one.effect)} is called {one.found} in {one.power:.0%}"
        f" of tests of {_count(one.units)} visitors: enrolled in {one.days.enrolling:,.0f} days, decided on"
        f" day {one.days.decision:,.0f}, beyond refunds on day {one.days.final:,.0f}."
    )
    if one.at_risk_minor is not None:
        yield (
            f"If it is as much worse instead, those who have it cost {_money(one.at_risk_minor, currency)} of"
            " margin by then."
        )
    if one.looking is not None and one.looking.looks > 1:
        yield (
            f"Who looks {one.looking.looks} times and stops at the first verdict, of fixed shares, ends after"
            f" {_count(one.looking.units_expected)} visitors on average, and sees a difference that is not"
            f" there in {one.looking.false_alarms:.0%} of tests."
        )
    if one.anytime is not None:
        yield (
            f"To look always and be wrong in 5 % of tests at most takes {one.anytime.factor:.1f} times the"
            f" visitors: {_count(one.anytime.units)} (the confidence sequence)."
        )
    if one.is_rough:
        yield "These sizes are rough: an arm has fewer than 100 orders."


def _of_policies(answer: Answer) -> Iterator[str]:
    """What the closed form does not know of policies that move their shares."""
    moved = {row.policy: row.simulated is not None for row in answer.rows if row.is_of_first_shares}
    for policy, is_simulated in moved.items():
        told = f"The first table has {policy} with the shares it begins with, as if they stood"
        if is_simulated:
            yield f"{told}: what it makes of them is in the second."
        elif policy in LIVED_THROUGH:
            yield f"{told}: --replications lives through what it makes of them."
        else:
            yield (
                f"{told}. A plan has no segments and no contexts to simulate it with: what it makes of them"
                " says `rialto sim run` in a world that has (docs/worlds.md)."
            )


def _of_simulation(row: Row, one: Simulated) -> str:
    return (
        f"Simulated under {row.policy}, {one.replications} tests of up to {one.days} days: {one.power:.0%}"
        f" ended rightly (± {one.power_error:.1%}), {one.wrong:.0%} wrongly, {one.open:.0%} stayed open;"
        f" {_count(one.treated)} of {_count(one.units)} visitors had the treatment."
    )


def _of_guardrail(one: GuardrailPlan, question: Question, currency: str) -> str:
    is_part = one.metric != "margin_per_unit"
    harm = f"{one.change:.0%}" if is_part else _money(one.change, currency)
    told = f"{one.metric}, worse by {harm}: "
    if one.kill is None:
        return told + "never killed, since that lies within its margin."
    told += f"killed after {_count(one.kill.units_expected)} visitors on average"
    if one.kill_at_floor is not None:
        told += f" ({_count(one.kill_at_floor.units_expected)} at its floor)"
    if one.exposed_until_kill is not None:
        told += f", {_count(one.exposed_until_kill)} of whom had it"
    if one.loss_until_kill_minor is not None:
        told += f" and cost {_money(one.loss_until_kill_minor, currency)} of margin"
    held = "" if one.units_held is None else f" Seen to be held after {_count(one.units_held)}"
    return f"{told}.{held} where nothing changes." if held else f"{told}."


def _percent(change: float) -> str:
    return f"{100 * change:+.4g}%"


def _count(units: float | None) -> str:
    return NONE if units is None else f"{units:,.0f}"


def _money(minor: float | None, currency: str) -> str:
    if minor is None:
        return NONE
    return f"{minor / 10 ** exponent(currency):,.0f} {currency}"

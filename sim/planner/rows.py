"""What is asked of `rialto sim plan`, and a row of figures for every what-if."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from experiments.model import Experiment, PolicyKind
from experiments.planning.baselines import Shop
from experiments.planning.design import question_of
from experiments.planning.figures import EffectPlan, Plan
from experiments.planning.plan import Question, plan
from sim.planner.trials import Simulated, simulate

DAYS_LEAST, DAYS_MOST, DAYS_UNKNOWN = 7, 365, 28
SIMULATED = (PolicyKind.FIXED, PolicyKind.THOMPSON, PolicyKind.TOP_TWO)


@dataclass(frozen=True, slots=True)
class Asked:
    """All that was asked; `days` None lets the closed form say how long is simulated."""

    experiment: Experiment
    shop: Shop
    per_day: float
    effects: Sequence[float]
    control_shares: Sequence[float | None]
    policies: Sequence[PolicyKind]
    power: float = 0.8
    days: int | None = None
    replications: int = 200
    seed: int = 0
    is_watched: bool = True


@dataclass(frozen=True, slots=True)
class Row:
    """One what-if: its closed form, and what the simulation of its policy came to."""

    effect: float
    control_share: float
    policy: str
    planned: EffectPlan
    simulated: Simulated | None

    @property
    def is_of_first_shares(self) -> bool:
        """Whether the policy moves its shares, so that its closed form is of those it begins with."""
        return self.policy != PolicyKind.FIXED


@dataclass(frozen=True, slots=True)
class Answer:
    """The rows, and of each control share and policy the whole plan in closed form."""

    asked: Asked
    rows: Sequence[Row]
    plans: Sequence[tuple[Question, Plan]]


def answer(asked: Asked, step: Callable[[], object] = lambda: None) -> Answer:
    """Every combination of effects, control shares and policies; `step` is called after each simulated test.

    Policies differ in the shares they begin with, so that each has a closed form of its own.
    """
    designs = [
        designed(asked.experiment, policy, share)
        for share in asked.control_shares
        for policy in asked.policies
    ]
    plans = [_planned(asked, design) for design in designs]
    rows: list[Row] = []
    for number in range(len(asked.effects)):
        for design, (question, found) in zip(designs, plans, strict=True):
            rows.append(_row(asked, design, question, found.effects[number], step))
    return Answer(asked, rows, plans)


def size_of(asked: Asked) -> int:
    """How many tests will be lived through."""
    simulated = [policy for policy in asked.policies if policy in SIMULATED]
    return len(asked.effects) * len(asked.control_shares) * len(simulated) * asked.replications


def designed(experiment: Experiment, policy: PolicyKind, share: float | None) -> Experiment:
    """The document under another policy and control share; a fixed one splits the rest equally."""
    settings = replace(experiment.policy, kind=policy)
    if share is not None:
        others = [variant.key for variant in experiment.variants if not variant.is_control]
        rest = {key: (1.0 - share) / len(others) for key in others}
        fixed = {experiment.control.key: share} | rest if policy is PolicyKind.FIXED else None
        settings = replace(settings, control_share=share, shares=fixed)
    elif policy is not PolicyKind.FIXED:
        settings = replace(settings, shares=None)
    return replace(experiment, policy=settings)


def _planned(asked: Asked, design: Experiment) -> tuple[Question, Plan]:
    question = replace(
        question_of(design, asked.shop, asked.per_day), power=asked.power, length_days=asked.days
    )
    return question, plan(question, asked.effects)


def _row(
    asked: Asked, design: Experiment, question: Question, planned: EffectPlan, step: Callable[[], object]
) -> Row:
    simulated = None
    if asked.replications and design.policy.kind in SIMULATED:
        simulated = simulate(
            design,
            asked.shop,
            planned.effect,
            per_day=asked.per_day,
            days=asked.days or simulated_days(planned),
            replications=asked.replications,
            seed=asked.seed,
            is_watched=asked.is_watched,
            step=step,
        )
    return Row(planned.effect, question.split.control, design.policy.kind.value, planned, simulated)


def simulated_days(planned: EffectPlan) -> int:
    """As long as a test with fixed shares and one look would enrol, between a week and a year."""
    if planned.days is None:
        return DAYS_UNKNOWN
    return min(DAYS_MOST, max(DAYS_LEAST, math.ceil(planned.days.enrolling)))

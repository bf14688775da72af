"""Stop rules: whether there is anything more to learn, and what then follows.

===============  ======================================================================  ===================
rule             reached when                                                            unit
===============  ======================================================================  ===================
value_remaining  95th percentile of what another arm may hold over the leader < limit    metric x units/week
expected_loss    E[max_j theta_j - theta_leader] < limit                                 metric
prob_best        1 - P(leader is best) < 1 - limit                                       probability
futility         P(a treatment beats control by more than the rope) < limit              probability
time             now >= at
===============  ======================================================================  ===================

Leader: the arm of highest P(best). Beats by more than the rope r: theta_v > theta_c + r |theta_c|, below
theta_c - r |theta_c| where less is better. All from the allocator's posteriors, by quadrature, arms
independent; a contextual policy has a leader in each context (`contextual_stopping`), and the `leader` told
is the one of most units.

A rule that was reached is left only when its figure has grown to `LEAVE` times its limit, lest the word come
and go with every order. None of the rules is a test: looked at after every unit, P(best) passes any limit
sooner or later even where the arms are the same. Loss and value remaining bound what that costs.

A promotion needs one of the first three, no futility, a treatment as leader, and every guardrail of it
*held*: state ok and P(beyond throttle) <= 0.05. One that cannot be computed is open, and so is one not yet
sure. Under a contextual policy the leader must lead in every context: then, and only then, all that the rules
say of serving each context its leader holds of serving it to everybody.

Sources: Scott 2015, Multi-armed bandit experiments in the online service economy, 3.1 (value remaining);
Stucchio 2015, Bayesian A/B Testing at VWO, 4 (expected loss).
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

import numpy as np

from experiments.allocation.contextual_fit import ContextualPosterior, contextual_posterior
from experiments.allocation.contextual_stopping import context_figures
from experiments.allocation.features import Columns, Encoded
from experiments.allocation.joint import seed_of
from experiments.allocation.mixes import mix_of
from experiments.analysis.cohorts import day_counts, units_per_week
from experiments.analysis.guardrails import GuardrailState
from experiments.analysis.metrics import metric_definitions
from experiments.analysis.objective import allocation_posteriors
from experiments.analysis.strata import by_segment
from experiments.analysis.wording import MONEY_METRICS, Language, money
from experiments.model import Experiment, PolicyKind, Prior, StopAction, StopRule
from experiments.posteriors.compare import expected_loss, prob_best, value_remaining
from experiments.posteriors.protocol import FloatArray, Posterior
from experiments.posteriors.quadrature import edges_of, middle_of, nodes_cut_at
from experiments.statistics import Cell

LEAVE = 1.25
HELD = 0.05
"""P(beyond throttle) up to which a guardrail counts as held: the verdict's `held`."""


class Rule(StrEnum):
    """What can be reached, in the order it is told."""

    VALUE_REMAINING = "value_remaining"
    EXPECTED_LOSS = "expected_loss"
    PROB_BEST = "prob_best"
    FUTILITY = "futility"
    TIME = "time"


class StopState(StrEnum):
    """`waiting` for a first posterior, `open`, `reached`, or `promoted` by the rule."""

    WAITING = "waiting"
    OPEN = "open"
    REACHED = "reached"
    PROMOTED = "promoted"


_BLOCKED = {
    "control_leads": "the control leads",
    "futility": "nothing is better than the control",
    "no_evidence": "a date is no evidence for the leader",
    "not_everywhere": "no variant leads in every context",
    "shares_just_moved": "shares moved less than an hour ago",
}
_FOR_A_WINNER = frozenset({Rule.VALUE_REMAINING, Rule.EXPECTED_LOSS, Rule.PROB_BEST})


@dataclass(frozen=True, slots=True)
class StopFigures:
    """What the rules look at; see the module's table."""

    leader: str
    prob_best: float
    expected_loss: float
    value_remaining: float  # a week
    prob_any_better: float
    leads: Mapping[str, float] | None = None  # by context: the part of the units where each variant leads
    contexts: int | None = None  # how many contexts were looked at

    def to_json(self) -> dict[str, Any]:
        """As plain values; a loss that does not exist (no mean) is None."""
        loss = self.expected_loss
        return {
            "leader": self.leader,
            "prob_best": self.prob_best,
            "expected_loss": loss if np.isfinite(loss) else None,
            "value_remaining": self.value_remaining,
            "prob_any_better": self.prob_any_better,
            "leads": None if self.leads is None else dict(self.leads),
            "contexts": self.contexts,
        }


@dataclass(frozen=True, slots=True)
class StopDecision:
    """The state of the stop rule: which rules are reached, and whom it promotes or why it does not."""

    state: StopState
    reached: tuple[Rule, ...] = ()
    figures: StopFigures | None = None
    promote: str | None = None
    blocked: tuple[str, ...] = ()
    reason: str | None = None  # why there are no figures

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "state": self.state.value,
            "reached": [rule.value for rule in self.reached],
            "figures": None if self.figures is None else self.figures.to_json(),
            "promote": self.promote,
            "blocked": list(self.blocked),
            "reason": self.reason,
        }


def read_figures(
    experiment: Experiment,
    cells: Sequence[Cell],
    active: Collection[str],
    *,
    priors: Mapping[str, Prior],
    time_zone: str,
    now: datetime,
    contexts: Sequence[Encoded] = (),
) -> StopFigures | str:
    """The figures of the active variants over everybody, or the reason why there are none.

    Under a policy by segment the figures are standardised over segments: an arm's own mix of them is what
    the bandit chose. Under a contextual one they are by context, over the mix of all units (`contexts` is a
    sample of units', looked at where they are endless).
    """
    keys = [variant.key for variant in experiment.variants if variant.key in active]
    if experiment.policy.kind is PolicyKind.CONTEXTUAL:
        return _by_context(experiment, cells, keys, contexts, time_zone=time_zone, now=now)
    read = by_segment(cells) if experiment.policy.kind is PolicyKind.SEGMENT else cells
    found = allocation_posteriors(experiment, read, keys, time_zone=time_zone, now=now, priors=priors)
    if found.reason is not None:
        return found.reason
    return stop_figures(
        found.posteriors,
        found.better,
        experiment.control.key,
        rope=experiment.stop_rule.rope,
        sign=metric_definitions(experiment)[found.objective].sign,
        units_per_week=units_per_week(day_counts(cells)),
    )


def _by_context(
    experiment: Experiment,
    cells: Sequence[Cell],
    keys: Sequence[str],
    contexts: Sequence[Encoded],
    *,
    time_zone: str,
    now: datetime,
) -> StopFigures | str:
    found = contextual_posterior(experiment, cells, keys, time_zone=time_zone, now=now)
    if not isinstance(found, ContextualPosterior):
        return found[0].value
    told = context_figures(
        found,
        mix_of(Columns(experiment.policy.features), cells, contexts),
        experiment.control.key,
        rope=experiment.stop_rule.rope,
        seed=seed_of(experiment.key, 0),  # that of no version, for good
    )
    return StopFigures(
        leader=next(iter(told.leads)),
        prob_best=told.prob_best,
        expected_loss=told.expected_loss,
        value_remaining=told.value_remaining * units_per_week(day_counts(cells)),
        prob_any_better=told.prob_any_better,
        leads=told.leads,
        contexts=told.contexts,
    )


def stop_figures(
    posteriors: Mapping[str, Posterior],
    better: Mapping[str, Posterior],
    control: str,
    *,
    rope: float,
    sign: int,
    units_per_week: float,
) -> StopFigures:
    """The figures of the arms; `better` are the posteriors oriented so that more is better.

    >>> from experiments.posteriors.normal import StudentT
    >>> arms = {"none": StudentT(10.0, 1.0, 1e9), "a": StudentT(10.0, 1.0, 1e9)}
    >>> found = stop_figures(arms, arms, "none", rope=0.0, sign=1, units_per_week=1.0)
    >>> round(found.prob_best, 6), round(found.expected_loss, 6), round(found.prob_any_better, 6)
    (0.5, 0.56419, 0.5)
    """
    keys, arms = list(better), list(better.values())
    best = prob_best(arms)
    leader = int(np.argmax(best))
    return StopFigures(
        leader=keys[leader],
        prob_best=float(best[leader]),
        expected_loss=float(expected_loss(arms)[leader]),
        value_remaining=value_remaining(arms) * units_per_week,
        prob_any_better=prob_any_better(posteriors, control, rope=rope, sign=sign),
    )


def prob_any_better(posteriors: Mapping[str, Posterior], control: str, *, rope: float, sign: int) -> float:
    """P(some treatment is better than control by more than `rope` of control's size), in [0, 1].

    1 - integral of f_c(x) prod_v P(theta_v no better than x + sign rope |x|) dx; sign -1: less is better.
    """
    base = posteriors[control]
    rivals = [posterior for key, posterior in posteriors.items() if key != control]
    edges = [0.0, *(edge for rival in rivals for edge in edges_of(rival))]
    for rival in rivals:
        if base.width > 2 * rival.width:  # its distribution is a step on control's scale
            edges.extend(middle_of(rival) + widths * rival.width for widths in (-9, -3, 0, 3, 9))
    x, mass = nodes_cut_at(base, [_threshold_inverse(edge, rope, sign) for edge in edges])
    limit = x + sign * rope * np.abs(x)
    none_better: FloatArray = np.ones(len(x))
    for rival in rivals:
        none_better = none_better * (rival.cdf(limit) if sign > 0 else rival.sf(limit))
    return float(np.clip(1.0 - (mass * none_better).sum(), 0.0, 1.0))


def open_guardrails(
    experiment: Experiment, variant: str, entries: Sequence[Mapping[str, Any]]
) -> tuple[str, ...]:
    """Metrics of the guardrails that are not held by the variant; `entries` as a version keeps them."""
    held: set[str] = set()
    for entry in entries:
        probs = entry["prob_breach"]
        is_ok = entry["variant"] == variant and entry["state"] == GuardrailState.OK
        if is_ok and probs is not None and probs["throttle"] <= HELD:
            held.add(entry["metric"])
    return tuple(rail.metric for rail in experiment.guardrails if rail.metric not in held)


def decide(
    experiment: Experiment,
    figures: StopFigures | str,
    before: Mapping[str, Any] | None,
    entries: Sequence[Mapping[str, Any]],
    *,
    promoted: str | None,
    now: datetime,
    may_promote: bool = True,
) -> StopDecision | None:
    """The stop rule's next state; None when the experiment has none.

    `figures` is the reason where there are none, `before` the last version's state, `entries` the guardrails'
    as of now, `promoted` who is promoted already (by the rule or a person). `may_promote` is false while
    shares have just moved.
    """
    rule = experiment.stop_rule
    if not has_rule(rule):
        return None
    was = frozenset() if before is None else frozenset(before["reached"])
    known = None if isinstance(figures, str) else figures
    reached = tuple(one for one in Rule if _is_reached(one, rule, known, one in was, now))
    reason = figures if isinstance(figures, str) else None
    if promoted is not None:
        by_rule = before is not None and before["promote"] == promoted
        state = StopState.PROMOTED if by_rule else StopState.REACHED if reached else StopState.OPEN
        return StopDecision(state, reached, known, promoted if by_rule else None, (), reason)
    if not reached:
        return StopDecision(StopState.OPEN if known else StopState.WAITING, (), known, reason=reason)
    if known is None or rule.action is not StopAction.PROMOTE:
        return StopDecision(StopState.REACHED, reached, known, reason=reason)
    blocked = _blocked(experiment, known, reached, entries)
    if not blocked and not may_promote:
        blocked = ("shares_just_moved",)
    if blocked:
        return StopDecision(StopState.REACHED, reached, known, None, blocked)
    return StopDecision(StopState.PROMOTED, reached, known, known.leader)


def in_words(stop: Mapping[str, Any], experiment: Experiment) -> str:
    """One sentence on a stop rule's state as a version keeps it; money in the experiment's currency."""
    if stop["state"] == StopState.WAITING:
        return f"the stop rule waits for figures ({str(stop['reason']).replace('_', ' ')})"
    if stop["state"] == StopState.OPEN:
        return "the stop rule is not reached"
    found: Mapping[str, Any] = stop["figures"] or {}
    leads: Mapping[str, float] = found.get("leads") or {}  # versions of old have none
    leader = "each context's leader" if len(leads) > 1 else found.get("leader")
    any_variant = "some variant" if not leads else "each context's best variant"
    rule, is_money = experiment.stop_rule, experiment.policy.objective in MONEY_METRICS

    def amount(value: float, form: str) -> str:
        return money(value, experiment.currency, Language.EN) if is_money else format(value, form)

    said = {
        Rule.VALUE_REMAINING: lambda: (
            f"{amount(found['value_remaining'], '.0f')} a week at most is left to win"
        ),
        Rule.EXPECTED_LOSS: lambda: f"choosing {leader} loses {amount(found['expected_loss'], '.4g')} a unit",
        Rule.PROB_BEST: lambda: f"{leader} is the best with probability {found['prob_best']:.4g}",
        Rule.FUTILITY: lambda: (
            f"{any_variant} beats the control by more than {rule.rope:.2%} with probability"
            f" {found['prob_any_better']:.2g} only"
        ),
        Rule.TIME: lambda: f"the date {rule.at.isoformat() if rule.at else ''} has come",
    }
    why = "; ".join(said[Rule(name)]() for name in stop["reached"])
    if stop["state"] == StopState.PROMOTED:
        return f"{stop['promote']} was promoted by the stop rule: {why or 'its figures have changed since'}"
    held = ", ".join(
        _BLOCKED.get(code, f"{code.removeprefix('guardrail:')} is not held") for code in stop["blocked"]
    )
    return f"stopping is recommended: {why}" + (f" (not promoted: {held})" if held else "")


def has_rule(rule: StopRule) -> bool:
    """Whether the rule can ever be reached."""
    limits = (rule.value_remaining_below, rule.loss_below, rule.prob_best_above, rule.futility_below, rule.at)
    return any(limit is not None for limit in limits)


def _is_reached(
    one: Rule, rule: StopRule, figures: StopFigures | None, was_reached: bool, now: datetime
) -> bool:
    if one is Rule.TIME:
        return rule.at is not None and now >= rule.at
    if figures is None:
        return False
    figure, limit = {
        Rule.VALUE_REMAINING: (figures.value_remaining, rule.value_remaining_below),
        Rule.EXPECTED_LOSS: (figures.expected_loss, rule.loss_below),
        Rule.PROB_BEST: (
            1.0 - figures.prob_best,
            None if rule.prob_best_above is None else 1.0 - rule.prob_best_above,
        ),
        Rule.FUTILITY: (figures.prob_any_better, rule.futility_below),
    }[one]
    if limit is None:
        return False
    return figure < limit * (LEAVE if was_reached else 1.0)


def _blocked(
    experiment: Experiment,
    figures: StopFigures,
    reached: Sequence[Rule],
    entries: Sequence[Mapping[str, Any]],
) -> tuple[str, ...]:
    """Why the leader is not promoted, as codes (a guardrail's with its metric); empty when it may be."""
    if figures.leads is not None and len(figures.leads) > 1:
        return ("not_everywhere",)
    if figures.leader == experiment.control.key:
        return ("control_leads",)
    blocked = [f"guardrail:{metric}" for metric in open_guardrails(experiment, figures.leader, entries)]
    if Rule.FUTILITY in reached:
        blocked.append("futility")
    if not _FOR_A_WINNER.intersection(reached):
        blocked.append("no_evidence")
    return tuple(blocked)


def _threshold_inverse(edge: float, rope: float, sign: int) -> float:
    """The control's value x whose threshold x + sign rope |x| lies at the edge."""
    signed = sign * rope if edge >= 0 else -sign * rope
    return edge / (1.0 + signed)

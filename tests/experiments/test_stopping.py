"""Stop rules: figures against Monte Carlo and closed forms, what is reached, left, promoted and blocked."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from scipy import stats

from experiments.allocation.stopping import (
    LEAVE,
    Rule,
    StopDecision,
    StopFigures,
    StopState,
    decide,
    in_words,
    open_guardrails,
    prob_any_better,
    read_figures,
    stop_figures,
)
from experiments.model import (
    Experiment,
    Guardrail,
    PolicyKind,
    PolicySettings,
    StopAction,
    StopRule,
)
from experiments.posteriors.beta import Beta
from experiments.posteriors.compare import value_remaining
from experiments.posteriors.normal import StudentT
from experiments.posteriors.protocol import Posterior
from tests.experiments.cells import cell_of, experiment_of

NOW = datetime(2026, 4, 1, tzinfo=UTC)
DRAWS = 2_000_000
MEANS = {"none": StudentT(10.0, 1.0, 5.0), "socks": StudentT(11.0, 1.5, 8.0), "cap": StudentT(9.0, 2.0, 30.0)}
LOSSES = {"none": StudentT(-1.0, 1.0, 9.0), "socks": StudentT(-0.5, 0.3, 9.0)}
RATES = {"none": Beta(31, 971), "socks": Beta(36, 900), "cap": Beta(3, 40)}
POINT = {"none": StudentT(10.0, 3.0, 50.0), "socks": StudentT(10.2, 1e-4, 50.0)}


def draws_of(posteriors: Mapping[str, Posterior]) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(20260401)
    return {key: np.asarray(posterior.draw(DRAWS, rng=rng)) for key, posterior in posteriors.items()}


@pytest.mark.parametrize("arms", [MEANS, LOSSES, RATES, POINT], ids=["means", "losses", "rates", "point"])
def test_the_figures_agree_with_monte_carlo_within_five_standard_errors(arms: dict[str, Any]) -> None:
    found = stop_figures(arms, arms, "none", rope=0.05, sign=1, units_per_week=7.0)
    drawn = draws_of(arms)
    table = np.column_stack(list(drawn.values()))
    best = np.bincount(table.argmax(axis=1), minlength=len(arms)) / DRAWS
    lead = int(best.argmax())
    assert found.leader == list(arms)[lead]

    def near(value: float, sample: np.ndarray) -> bool:
        return abs(value - sample.mean()) < 5 * sample.std() / DRAWS**0.5 + 1e-12

    gain = table.max(axis=1) - table[:, lead]
    assert near(found.prob_best, table.argmax(axis=1) == lead)
    assert near(found.expected_loss, gain)
    assert near(0.95, gain <= found.value_remaining / 7.0)
    control = drawn["none"]
    limit = control + 0.05 * np.abs(control)
    rivals = np.column_stack([drawn[key] for key in arms if key != "none"])
    assert near(found.prob_any_better, (rivals > limit[:, None]).any(axis=1))
    if arms is LOSSES:  # planted: the rope taken of a negative level lowers the bar instead of raising it
        assert not near(found.prob_any_better, (rivals > 1.05 * control[:, None]).any(axis=1))


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("level", [10.0, -10.0])
def test_futility_of_two_normal_arms_is_a_normal_probability(sign: int, level: float) -> None:
    """Far from 0: theta_v - (1 +- r) theta_c is Normal with variance s_v^2 + (1 +- r)^2 s_c^2."""
    arms = {"none": StudentT(level, 0.5, 1e12), "socks": StudentT(level + 0.3 * sign, 0.7, 1e12)}
    factor = 1 + sign * 0.02 * np.sign(level)
    mean, sd = arms["socks"].location - factor * level, (0.7**2 + (factor * 0.5) ** 2) ** 0.5
    expected = stats.norm.sf(0, mean, sd) if sign > 0 else stats.norm.cdf(0, mean, sd)
    assert prob_any_better(arms, "none", rope=0.02, sign=sign) == pytest.approx(expected, abs=1e-9)


def test_a_loss_without_a_mean_is_said_to_be_unknown() -> None:
    arms = {"none": StudentT(0.0, 1.0, 1.0), "socks": StudentT(0.0, 1.0, 1.0)}
    figures = stop_figures(arms, arms, "none", rope=0.01, sign=1, units_per_week=1.0)
    assert figures.to_json()["expected_loss"] is None


# ---- the state


def figures(**more: Any) -> StopFigures:
    values: dict[str, Any] = {
        "leader": "socks",
        "prob_best": 0.8,
        "expected_loss": 5.0,
        "value_remaining": 1_000.0,
        "prob_any_better": 0.9,
    }
    return StopFigures(**(values | more))


def ruled(**rule: Any) -> Experiment:
    rails = (Guardrail("conversion_rate", 0.01, 0.02, 0.04), Guardrail("refund_rate", 0.1, 0.2, 0.4))
    return experiment_of("socks", "cap", guardrails=rails, stop_rule=StopRule(**rule))


def entry(
    metric: str, variant: str = "socks", state: str = "ok", throttle: float | None = 0.01
) -> dict[str, Any]:
    probs = None if throttle is None else {"warn": 0.1, "throttle": throttle, "kill": 0.0}
    return {"metric": metric, "variant": variant, "state": state, "prob_breach": probs}


HELD = [entry("conversion_rate"), entry("refund_rate")]


def decided(experiment: Experiment, found: StopFigures | str = "", **more: Any) -> StopDecision:
    arguments: dict[str, Any] = {"before": None, "entries": HELD, "promoted": None, "now": NOW, **more}
    before, entries = arguments.pop("before"), arguments.pop("entries")
    decision = decide(experiment, found or figures(), before, entries, **arguments)
    assert decision is not None
    return decision


def test_without_a_rule_there_is_no_state() -> None:
    assert decide(ruled(action=StopAction.PROMOTE), figures(), None, [], promoted=None, now=NOW) is None


@pytest.mark.parametrize(
    ("rule", "met", "missed"),
    [
        ({"value_remaining_below": 500}, {"value_remaining": 499.9}, {"value_remaining": 500.0}),
        ({"loss_below": 2.0}, {"expected_loss": 1.99}, {"expected_loss": 2.0}),
        ({"prob_best_above": 0.95}, {"prob_best": 0.951}, {"prob_best": 0.949}),
        ({"futility_below": 0.05}, {"prob_any_better": 0.049}, {"prob_any_better": 0.05}),
    ],
)
def test_a_rule_is_reached_at_its_limit_and_left_a_quarter_beyond(
    rule: dict[str, Any], met: dict[str, float], missed: dict[str, float]
) -> None:
    experiment = ruled(**rule)
    assert decided(experiment, figures(**missed)).state is StopState.OPEN
    reached = decided(experiment, figures(**met))
    assert reached.state is StopState.REACHED
    again = decided(experiment, figures(**missed), before=reached.to_json())
    assert again.reached == reached.reached  # hovering at the limit
    (name, value), (_, limit) = next(iter(missed.items())), next(iter(met.items()))
    far = 1 - (1 - limit) * LEAVE * 1.05 if name == "prob_best" else limit * LEAVE * 1.03
    assert decided(experiment, figures(**{name: far}), before=reached.to_json()).state is StopState.OPEN
    assert far != value


def test_a_date_is_reached_whatever_is_known_and_never_promotes() -> None:
    experiment = ruled(at=NOW, loss_below=1.0, action=StopAction.PROMOTE)
    found = decided(experiment, "insufficient_data")
    assert (found.state, found.reached, found.reason) == (
        StopState.REACHED,
        (Rule.TIME,),
        "insufficient_data",
    )
    late = decided(experiment)
    assert (late.state, late.promote, late.blocked) == (StopState.REACHED, None, ("no_evidence",))
    early = decided(experiment, "insufficient_data", now=datetime(2026, 3, 31, tzinfo=UTC))
    assert early.state is StopState.WAITING


PROMOTING = {"loss_below": 10.0, "action": StopAction.PROMOTE}


def test_a_rule_promotes_its_leader_once_every_guardrail_is_held() -> None:
    found = decided(ruled(**PROMOTING))
    assert (found.state, found.promote, found.blocked) == (StopState.PROMOTED, "socks", ())
    assert found.to_json()["reached"] == ["expected_loss"]
    only_said = decided(ruled(loss_below=10.0))
    assert (only_said.state, only_said.promote) == (StopState.REACHED, None)


@pytest.mark.parametrize(
    "bad",
    [
        entry("refund_rate", state="unknown", throttle=None),
        entry("refund_rate", state="warn"),
        entry("refund_rate", state="throttle"),
        entry("refund_rate", state="kill"),
        entry("refund_rate", throttle=0.06),  # not breached, but not held either
        entry("refund_rate", variant="cap"),  # nothing on record for the leader
        entry("refund_rate", throttle=None),
    ],
)
def test_an_open_guardrail_is_never_promoted(bad: dict[str, Any]) -> None:
    entries = [entry("conversion_rate"), bad]
    assert open_guardrails(ruled(**PROMOTING), "socks", entries) == ("refund_rate",)
    found = decided(ruled(**PROMOTING), entries=entries)
    assert (found.state, found.promote) == (StopState.REACHED, None)
    assert found.blocked == ("guardrail:refund_rate",)


def test_the_control_and_a_futile_leader_are_not_promoted() -> None:
    assert decided(ruled(**PROMOTING), figures(leader="none")).blocked == ("control_leads",)
    both = decided(ruled(**PROMOTING, futility_below=0.05), figures(prob_any_better=0.01))
    assert (both.reached, both.blocked) == ((Rule.EXPECTED_LOSS, Rule.FUTILITY), ("futility",))


def test_what_the_rule_promoted_stays_promoted_and_a_persons_choice_is_told_apart() -> None:
    first = decided(ruled(**PROMOTING))
    later = decided(
        ruled(**PROMOTING), figures(expected_loss=99.0), before=first.to_json(), promoted="socks", entries=[]
    )
    assert (later.state, later.promote, later.reached) == (StopState.PROMOTED, "socks", ())
    by_hand = decided(ruled(**PROMOTING), promoted="cap")
    assert (by_hand.state, by_hand.promote) == (StopState.REACHED, None)
    assert decided(ruled(**PROMOTING), "held", promoted="cap").state is StopState.OPEN


def test_shares_that_just_moved_are_not_moved_by_a_promotion() -> None:
    waiting = decided(ruled(**PROMOTING), may_promote=False)
    assert (waiting.state, waiting.promote, waiting.blocked) == (
        StopState.REACHED,
        None,
        ("shares_just_moved",),
    )
    assert decided(ruled(**PROMOTING), may_promote=False, entries=[]).blocked[0].startswith("guardrail:")


# ---- what the allocator reads


def read(policy: PolicyKind, cells: Any, **more: Any) -> StopFigures | str:
    settings = PolicySettings(kind=policy, objective="conversion_rate")
    experiment = experiment_of("socks", settings=settings, stop_rule=StopRule(loss_below=1.0))
    arguments: dict[str, Any] = {"priors": {}, "time_zone": "UTC", "now": NOW, **more}
    return read_figures(experiment, cells, {"none", "socks"}, **arguments)


def converted(variant: str, n: int, hits: int, segment: str = "") -> Any:
    bought = (np.arange(n) < hits).astype(np.int64)
    return cell_of(variant, n=n, candidates=("none", "socks"), segment=segment, converted=bought)


def test_the_figures_are_of_the_allocators_posteriors_and_a_week_of_units() -> None:
    cells = [converted("none", 1000, 100), converted("socks", 1000, 120)]
    found = read(PolicyKind.THOMPSON, cells)
    arms = {"none": Beta(101, 901), "socks": Beta(121, 881)}
    assert isinstance(found, StopFigures)
    assert found == stop_figures(arms, arms, "none", rope=0.01, sign=1, units_per_week=14_000.0)
    assert found.value_remaining == value_remaining(list(arms.values())) * 14_000


def test_a_policy_by_segment_is_read_over_everybodys_mix() -> None:
    """In each segment the arms are alike; socks was sent where more is bought: its own mix looks better."""
    cells = [
        *(converted("none", 900, 90, "new"), converted("socks", 100, 10, "new")),
        *(converted("none", 100, 40, "old"), converted("socks", 900, 360, "old")),
    ]
    mixed, fair = read(PolicyKind.THOMPSON, cells), read(PolicyKind.SEGMENT, cells)
    assert isinstance(mixed, StopFigures)
    assert isinstance(fair, StopFigures)
    assert mixed.prob_best > 0.999
    assert fair.prob_best < 0.6


def test_without_posteriors_the_figures_are_a_reason() -> None:
    assert read(PolicyKind.THOMPSON, []) == "insufficient_data"


# ---- in words

EVERY = {
    "value_remaining_below": 2000,
    "loss_below": 6.0,
    "prob_best_above": 0.7,
    "futility_below": 0.95,
    "at": NOW,
}


@pytest.mark.parametrize(
    ("rule", "found", "more", "words"),
    [
        ({"loss_below": 1.0}, figures(), {}, "the stop rule is not reached"),
        ({"loss_below": 1.0}, "cost_unknown", {}, "the stop rule waits for figures (cost unknown)"),
        (
            {"at": NOW},
            "cost_unknown",
            {},
            "stopping is recommended: the date 2026-04-01T00:00:00+00:00 has come",
        ),
        (
            EVERY,
            figures(),
            {},
            "stopping is recommended: €10.00 a week at most is left to win; choosing socks loses €0.05 a"
            " unit; socks is the best with probability 0.8; some variant beats the control by more than 1.00%"
            " with probability 0.9 only; the date 2026-04-01T00:00:00+00:00 has come",
        ),
        (PROMOTING, figures(), {}, "socks was promoted by the stop rule: choosing socks loses €0.05 a unit"),
        (
            PROMOTING,
            figures(leader="none"),
            {},
            "stopping is recommended: choosing none loses €0.05 a unit (not promoted: the control leads)",
        ),
        (
            PROMOTING,
            figures(),
            {"entries": HELD[:1]},
            "stopping is recommended: choosing socks loses €0.05 a unit (not promoted: refund_rate is"
            " not held)",
        ),
        (
            PROMOTING,
            figures(expected_loss=99.0),
            {"promoted": "socks", "before": {"promote": "socks", "reached": []}},
            "socks was promoted by the stop rule: its figures have changed since",
        ),
    ],
)
def test_every_state_is_said_in_a_sentence(rule: Any, found: Any, more: Any, words: str) -> None:
    experiment = ruled(**rule)
    assert in_words(decided(experiment, found, **more).to_json(), experiment) == words

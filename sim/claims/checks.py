"""The claim of every named scenario, as parts that a run can refute."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from sim.claims.finding import Finding, above, mostly, seldom
from sim.runner.outcome import Replication
from sim.runner.run import Run
from sim.worlds.timing import DAY_S
from sim.worlds.truth import true_lifts, truth_of_period

WEEK = 7
Check = Callable[[Run], Sequence[Finding]]


def findings(run: Run) -> Sequence[Finding]:
    """What the run says of its scenario's claim; KeyError for a scenario without one."""
    return CHECKS[run.settings.scenario.key](run)


def _healthy(run: Run) -> list[Finding]:
    socks, every = run.arm("socks"), run.replications
    return [
        mostly("socks have most of the traffic in the last week", _over(every, socks, 0.5), 0.9),
        above("true margin above equal shares'", [_gain_on_equal(one) for one in every]),
        seldom("a guardrail kills the socks", _killed(every, socks), 0.02),
    ]


def _toxic_upsell(run: Run) -> list[Finding]:
    (upsell,) = (run.arm(key) for key in run.keys if key not in ("none", "socks", "care-kit"))
    every, key = run.replications, run.keys[upsell]
    days = [one.first_day(upsell, "throttle") for one in every]
    stopped = [day is not None and day < 2 * WEEK for day in days]
    healthy = [any(look.verdict == "healthy" and look.variant == key for look in one.looks) for one in every]
    return [
        mostly("throttled or killed within two weeks", stopped, 0.9),
        seldom("called healthy at any look", healthy, 0.01),
    ]


def _revenue_trap(run: Run) -> list[Finding]:
    (bundle,) = (run.arm(key) for key in run.keys if "bundle" in key)
    before = [_share(one, bundle, slice(0, WEEK)) for one in run.replications]
    after = [_share(one, bundle, slice(-WEEK, None)) for one in run.replications]
    return [
        mostly(
            "less traffic in the last week than in the first",
            [b > a for b, a in zip(before, after, strict=True)],
            0.9,
        ),
        mostly("under a tenth of the traffic in the last week", [a < 0.1 for a in after], 0.8),
    ]


def _novelty_fades(run: Run) -> list[Finding]:
    (offer,) = (run.arm(key) for key in run.keys if key != "none")
    weeks = [_weeks(one, offer) for one in run.replications]
    return [
        mostly("more than half of the traffic in its best week", [bool(max(w) > 0.5) for w in weeks], 0.9),
        mostly("less than half in the last week", [bool(w[-1] < 0.5) for w in weeks], 0.9),
    ]


def _price_sensitive_downsell(run: Run) -> list[Finding]:
    (offer,) = (run.arm(key) for key in run.keys if key != "none")
    return _by_segment(run, offer, "price_sensitive")


def _segment_flip(run: Run) -> list[Finding]:
    (offer,) = (run.arm(key) for key in run.keys if key != "none")
    return _by_segment(run, offer, "loyal")


def _black_friday(run: Run) -> list[Finding]:
    scenario, socks = run.settings.scenario, run.arm("socks")
    (shock,) = scenario.world.season.shocks
    before = slice(shock.from_day - 3, shock.from_day)
    every = run.replications
    covered = [_covers(run, one, "socks") for one in every]
    return [
        mostly("socks lead before", [_leads(one, socks, before) for one in every], 0.8),
        mostly("socks lead after", [_leads(one, socks, slice(-WEEK, None)) for one in every], 0.9),
        mostly("the last interval of their lift covers the truth", covered, 0.9),
    ]


def _late_refunds(run: Run) -> list[Finding]:
    watch = next(run.arm(key) for key in run.keys if "watch" in key)
    every = run.replications
    first_refunds = int(run.settings.scenario.world.delays.refund.edges_s[0] // DAY_S)
    early = [_leads(one, watch, slice(0, first_refunds)) for one in every]
    late = [_share(one, watch, slice(-WEEK, None)) < 0.1 for one in every]
    return [
        mostly("the watch leads until refunds can come", early, 0.8),
        mostly("it has less than a tenth of the traffic in the last week", late, 0.9),
    ]


def _a_a(run: Run) -> list[Finding]:
    wrong = {"healthy", "toxic", "harmful"}
    called = [one.looks[-1].verdict in wrong for one in run.replications]
    return [seldom("called better or worse when it ended", called, 0.05)]


def _cold_start(run: Run) -> list[Finding]:
    every = run.replications
    equal = [float((one.oracle_minor - one.if_all_minor.mean(axis=1)).sum()) for one in every]
    given = [float(one.regret_minor.sum()) for one in every]
    best = np.argsort(every[0].if_all_minor.sum(axis=0))[-10:]
    ten = [sum(_share(one, int(arm), slice(-WEEK, None)) for arm in best) for one in every]
    return [
        mostly(
            "gives away less than half of equal shares'",
            [g < e / 2 for g, e in zip(given, equal, strict=True)],
            0.9,
        ),
        mostly("the ten best have more than half in the last week", [share > 0.5 for share in ten], 0.9),
    ]


def _bots_and_duplicates(run: Run) -> list[Finding]:
    socks, every = run.arm("socks"), run.replications
    alarms = [any(look.srm == "warn" for look in one.looks) for one in every]
    return [
        mostly("socks have most of the traffic in the last week", _over(every, socks, 0.5), 0.9),
        seldom("the check of the sample ratio raises an alarm", alarms, 0.01),
    ]


def _fatigue(run: Run) -> list[Finding]:
    wall = next(run.arm(key) for key in run.keys if "wall" in key)
    (one_offer,) = (run.arm(key) for key in run.keys if key not in ("none", run.keys[wall]))
    last = slice(-WEEK, None)
    prefers = [_share(one, one_offer, last) > _share(one, wall, last) for one in run.replications]
    return [mostly("one offer has more traffic than the wall in the last week", prefers, 0.9)]


def _newcomer(run: Run) -> list[Finding]:
    (key, day), *_ = run.settings.scenario.arrives.items()
    ramp, arm = run.settings.scenario.experiment.policy.ramp, run.arm(key)
    assert ramp is not None
    beyond = []
    for one in run.replications:
        shares = one.shares[day : day + len(ramp.steps), arm]
        beyond.append(bool((shares > np.array(ramp.steps)[: len(shares)] + 1e-9).any()))
    return [
        seldom("its share exceeds the step of its ramp", beyond, 0.0),
        mostly("more than half of the traffic in the last week", _over(run.replications, arm, 0.5), 0.8),
    ]


def _whole_year(run: Run) -> list[Finding]:
    upsell, every = run.arm("pro-shoe"), run.replications
    days = [one.first_day(upsell, "throttle") for one in every]
    gone = [day is not None and day < 31 for day in days]
    gain = [float(one.expected_minor.sum() - one.if_all_minor.sum(axis=0).max()) for one in every]
    return [
        above("true margin above that of the best offer for all, all year", gain),
        mostly("the upsell is throttled or killed within a month", gone, 0.9),
    ]


CHECKS: Mapping[str, Check] = {
    "healthy": _healthy,
    "toxic_upsell": _toxic_upsell,
    "revenue_trap": _revenue_trap,
    "novelty_fades": _novelty_fades,
    "price_sensitive_downsell": _price_sensitive_downsell,
    "black_friday": _black_friday,
    "late_refunds": _late_refunds,
    "a_a": _a_a,
    "cold_start_100_arms": _cold_start,
    "segment_flip": _segment_flip,
    "bots_and_duplicates": _bots_and_duplicates,
    "fatigue": _fatigue,
    "newcomer": _newcomer,
    "whole_year": _whole_year,
}


def _by_segment(run: Run, offer: int, segment: str) -> list[Finding]:
    place = run.settings.scenario.world.segment_index(segment)
    here, others, more = [], [], []
    for one in run.replications:
        last = one.by_segment[-WEEK:].sum(axis=0)
        rest = np.delete(last, place, axis=1)
        here.append(bool(last[offer, place] > 0.5 * last[:, place].sum()))
        others.append(bool(rest[offer].sum() < 0.35 * rest.sum()))
        more.append(float(one.expected_minor.sum() - one.if_all_minor.sum(axis=0).max()))
    return [
        mostly(f"most of the {segment} see it in the last week", here, 0.9),
        mostly("few of the others do (under 35 %)", others, 0.9),
        above("true margin above that of either variant for all", more),
    ]


def _share(one: Replication, arm: int, days: slice) -> float:
    """The part of the customers of some days who got the arm."""
    counts = one.assigned[days].sum(axis=0)
    return float(counts[arm] / max(1, counts.sum()))


def _over(every: Sequence[Replication], arm: int, limit: float) -> list[bool]:
    return [_share(one, arm, slice(-WEEK, None)) > limit for one in every]


def _killed(every: Sequence[Replication], arm: int) -> list[bool]:
    return [one.first_day(arm, "kill") is not None for one in every]


def _leads(one: Replication, arm: int, days: slice) -> bool:
    return int(np.argmax(one.assigned[days].sum(axis=0))) == arm


def _weeks(one: Replication, arm: int) -> list[float]:
    starts = range(0, len(one.customers) - WEEK + 1, WEEK)
    return [_share(one, arm, slice(start, start + WEEK)) for start in starts]


def _gain_on_equal(one: Replication) -> float:
    return float(one.expected_minor.sum() - one.if_all_minor.mean(axis=1).sum())


def _covers(run: Run, one: Replication, variant: str) -> bool:
    """Whether the last look's interval holds the true lift of the days whose windows had closed by then."""
    scenario, look = run.settings.scenario, one.looks[-1]
    if look.variant != variant or look.lift_low is None or look.lift_high is None:
        return False
    window = scenario.experiment.attribution_window
    days = range(look.day + 1 - window.days)
    lifts = true_lifts(truth_of_period(scenario.world, days, window=window), scenario.experiment.control.key)
    return look.lift_low <= lifts[variant].absolute <= look.lift_high

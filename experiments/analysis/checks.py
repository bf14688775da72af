"""What a reader must know before trusting the figures: each check a state and one sentence."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from scipy import special

from experiments.analysis.cohorts import Cohort, Cohorts
from experiments.analysis.report import Check, DayCount, ValueRemaining
from experiments.analysis.strata import Table
from experiments.model import Experiment, PolicyKind, StopRule

CROSSOVER_WARN = 0.01
EXPOSURE_GAP = 0.02
EXPOSURE_P = 1e-3
COMPARED_WARN = 0.95


@dataclass(frozen=True, slots=True)
class Leader:
    """The arm with the highest P(best) on the objective and what choosing it may cost per unit."""

    key: str
    expected_loss: float


def checks_of(
    experiment: Experiment,
    cohorts: Cohorts,
    *,
    only_matured: bool,
    now: datetime,
    objective: Table,
    remaining: ValueRemaining | None,
    leader: Leader | None,
) -> tuple[Check, ...]:
    """Every check of a report, in the order a person should read them."""
    counted = cohorts.all
    checks = [
        _maturity(experiment, cohorts, only_matured=only_matured),
        _crossover(counted),
        _exposure(experiment, counted),
        _orders(counted, "unknown_cost_orders", "cost_unknown", "cost", "so margin is unknown"),
        _orders(counted, "unconverted_orders", "unconverted", "exchange rate", "so money is incomplete"),
        _compared(experiment, objective),
    ]
    if experiment.policy.kind is not PolicyKind.FIXED:
        checks.append(_burn_in(experiment, counted))
    stop = _stop_rule(experiment.stop_rule, remaining, leader, now)
    return tuple(checks if stop is None else [*checks, stop])


def units_per_week(days: Sequence[DayCount]) -> float:
    """Enrolments per week over the last seven days that had any."""
    recent = sorted({count.day for count in days})[-7:]
    if not recent:
        return 0.0
    span = (recent[-1] - recent[0]).days + 1
    units = sum(count.units for count in days if count.day >= recent[0])
    return 7.0 * units / span


def _maturity(experiment: Experiment, cohorts: Cohorts, *, only_matured: bool) -> Check:
    total = cohorts.all.overall("units")
    closed = cohorts.closed(experiment.attribution_window).overall("units")
    final = cohorts.closed(experiment.attribution_window + experiment.refund_window).overall("units")
    window = _days(experiment.attribution_window)
    text = f"{closed} of {total} units have their window of {window} closed; {final} are final (refunds too)"
    if closed == total:
        return Check("maturity", "ok", text)
    if only_matured:
        return Check("maturity", "info", f"{text}; the others are left out")
    return Check("maturity", "info", f"{text}; the figures count units whose window is still open")


def _crossover(counted: Cohort) -> Check:
    units, crossed = counted.overall("assigned"), counted.overall("crossover")
    share = crossed / units if units else 0.0
    state = "warn" if share > CROSSOVER_WARN else "ok"
    return Check("crossover", state, f"{crossed} of {units} units were seen in two variants ({share:.2%})")


def _exposure(experiment: Experiment, counted: Cohort) -> Check:
    """Arms should see their slot equally often; a gap means the figures compare different shoppers."""
    seen = {
        variant.key: (counted.total(variant.key, "exposed"), counted.total(variant.key, "assigned"))
        for variant in experiment.variants
    }
    rates = {key: exposed / assigned for key, (exposed, assigned) in seen.items() if exposed and assigned}
    silent = [key for key, (exposed, assigned) in seen.items() if assigned and not exposed]
    shown = ", ".join(f"{key} {rate:.1%}" for key, rate in rates.items())
    if silent and rates:
        return Check("exposure_gap", "warn", f"no exposure reported for {', '.join(silent)}; {shown}")
    if len(rates) < 2:
        return Check("exposure_gap", "ok", shown or "no exposure reported")
    gap = max(rates.values()) - min(rates.values())
    p_value = _homogeneity([seen[key] for key in rates])
    state = "warn" if gap > EXPOSURE_GAP and p_value < EXPOSURE_P else "ok"
    return Check("exposure_gap", state, f"units exposed: {shown} (chance of such a gap {p_value:.2g})")


def _homogeneity(counts: Sequence[tuple[int, int]]) -> float:
    """P-value of Pearson's chi-square that all arms share one rate; counts are (hits, trials)."""
    hits = sum(h for h, _ in counts)
    trials = sum(n for _, n in counts)
    rate = hits / trials
    if rate in (0.0, 1.0):
        return 1.0
    statistic = sum((h - n * rate) ** 2 / (n * rate * (1.0 - rate)) for h, n in counts)
    return float(special.chdtrc(len(counts) - 1, statistic))


def _orders(counted: Cohort, feature: str, name: str, lacking: str, consequence: str) -> Check:
    orders = counted.overall(feature)
    if not orders:
        return Check(name, "ok", f"no order lacks its {lacking}")
    return Check(name, "warn", f"{orders} orders have no {lacking}, {consequence}")


def _compared(experiment: Experiment, objective: Table) -> Check:
    """Units of candidate sets that hold control and a treatment can be compared; the others cannot."""
    control = experiment.control.key
    total = sum(objective.all_units.values())
    usable = sum(
        units
        for (candidate_set, _), units in objective.all_units.items()
        if control in objective.candidates[candidate_set] and len(objective.candidates[candidate_set]) > 1
    )
    share = usable / total if total else 1.0
    state = "ok" if share >= COMPARED_WARN else "warn"
    sets = len(objective.candidates)
    return Check(
        "candidate_sets",
        state,
        f"{share:.1%} of units comparable with control, in {sets} candidate set{'s' * (sets != 1)}",
    )


def _burn_in(experiment: Experiment, counted: Cohort) -> Check:
    need = experiment.policy.burn_in
    counts = {v.key: counted.total(v.key, "assigned") for v in experiment.variants}
    short = [f"{key} {count}" for key, count in counts.items() if count < need]
    if not short:
        return Check("burn_in", "ok", f"every variant has its {need} units")
    return Check("burn_in", "info", f"below the {need} units of burn-in: {', '.join(short)}")


def _stop_rule(
    rule: StopRule, remaining: ValueRemaining | None, leader: Leader | None, now: datetime
) -> Check | None:
    """Any condition met is enough to recommend stopping; None when no rule is set."""
    if rule == StopRule():
        return None
    met: list[str] = []
    if rule.at is not None and now >= rule.at:
        met.append(f"the date {rule.at.isoformat()} has come")
    if rule.loss_below is not None and leader is not None and leader.expected_loss < rule.loss_below:
        met.append(
            f"the expected loss of {leader.key}, {leader.expected_loss:.4g}, is below {rule.loss_below:g}"
        )
    limit = rule.value_remaining_below
    if limit is not None and remaining is not None and remaining.per_week < limit:
        met.append(f"{remaining.per_week:.0f} a week at most is left to win, below {limit}")
    if met:
        return Check("stop_rule", "reached", f"stopping is recommended: {'; '.join(met)}")
    return Check("stop_rule", "ok", "the stop rule is not reached")


def _days(window: timedelta) -> str:
    return f"{window / timedelta(days=1):g} d"

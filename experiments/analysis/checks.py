"""What a reader must know before trusting the figures: each check a state and one sentence."""

from collections.abc import Mapping, Sequence
from typing import Any

from scipy import special

from experiments.allocation.stopping import StopState, in_words
from experiments.analysis.cohorts import Cohort, Cohorts
from experiments.analysis.report import Check
from experiments.analysis.srm import srm_check
from experiments.analysis.strata import Table
from experiments.model import Experiment, PolicyKind
from experiments.times import format_duration

CROSSOVER_WARN = 0.01
EXPOSURE_GAP = 0.02
EXPOSURE_P = 1e-3
COMPARED_WARN = 0.95


def checks_of(
    experiment: Experiment,
    cohorts: Cohorts,
    *,
    only_matured: bool,
    objective: Table,
    stop: Mapping[str, Any] | None,
) -> tuple[Check, ...]:
    """Every check of a report, in the order a person should read them; `stop` is the stop rule's state."""
    counted = cohorts.all
    checks = [
        _maturity(experiment, cohorts, only_matured=only_matured),
        _crossover(counted),
        _exposure(experiment, counted),
        srm_check(experiment, counted.cells, cohorts.epoch_shares),
        _orders(counted, "unknown_cost_orders", "cost_unknown", "cost", "so margin is unknown"),
        _orders(counted, "unconverted_orders", "unconverted", "exchange rate", "so money is incomplete"),
        _compared(experiment, objective),
    ]
    if experiment.policy.kind is not PolicyKind.FIXED:
        checks.append(_burn_in(experiment, counted))
    if stop is not None:
        is_over = stop["state"] in (StopState.REACHED, StopState.PROMOTED)
        checks.append(
            Check("stop_rule", "reached" if is_over else "ok", in_words(stop, experiment.stop_rule))
        )
    return tuple(checks)


def _maturity(experiment: Experiment, cohorts: Cohorts, *, only_matured: bool) -> Check:
    total = cohorts.all.overall("units")
    closed = cohorts.closed(experiment.attribution_window).overall("units")
    final = cohorts.closed(experiment.attribution_window + experiment.refund_window).overall("units")
    window = format_duration(experiment.attribution_window)
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

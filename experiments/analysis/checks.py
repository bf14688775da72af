"""What a reader must know before trusting the figures: each check a state and one sentence."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from scipy import special

from experiments.allocation.stopping import StopState, in_words
from experiments.analysis.checks_aa import aa_check
from experiments.analysis.checks_outcomes import LateEvents, late_events, missing_outcomes, outcomes_stopped
from experiments.analysis.cohorts import Cohort, Cohorts
from experiments.analysis.crossover import crossover_check
from experiments.analysis.reading import Reading
from experiments.analysis.report import Check
from experiments.analysis.srm import srm_check
from experiments.analysis.strata import Table
from experiments.model import Experiment, PolicyKind
from experiments.times import format_duration

EXPOSURE_GAP = 0.02
EXPOSURE_P = 1e-3
COMPARED_WARN = 0.95

ReadingOf = Callable[[str], Reading]


def checks_of(
    experiment: Experiment,
    cohorts: Cohorts,
    reading_of: ReadingOf,
    *,
    only_matured: bool,
    stop: Mapping[str, Any] | None,
    late: LateEvents | None = None,
    seed: int = 0,
) -> tuple[Check, ...]:
    """Every check of a report, in the order a person should read them.

    `reading_of` reads a metric by the arms' own units, `stop` is the stop rule's state, `late` the events
    that the ledger has recorded late.
    """
    counted, objective = cohorts.all, reading_of(experiment.policy.objective)
    checks = [
        _maturity(experiment, cohorts, only_matured=only_matured),
        aa_check(experiment, reading_of),
        crossover_check(experiment, cohorts, objective, seed=seed),
        _exposure(experiment, counted),
        srm_check(experiment, counted.cells, cohorts.epoch_shares),
        missing_outcomes(experiment, cohorts),
        outcomes_stopped(experiment, cohorts),
        None if late is None else late_events(cohorts, late),
        _orders(counted, "unknown_cost_orders", "cost_unknown", "cost", "so margin is unknown", _COST),
        _orders(
            counted, "unconverted_orders", "unconverted", "exchange rate", "so money is incomplete", _RATES
        ),
        _compared(experiment, objective.table),
        _burn_in(experiment, counted) if experiment.policy.kind is not PolicyKind.FIXED else None,
        None if stop is None else _stop_rule(experiment, stop),
    ]
    return tuple(check for check in checks if check is not None)


_COST = (
    "Send `cost` with orders or with all their items, or set the store's default_cost_rate; orders on record "
    "can be given a cost by order_adjusted with cost_delta."
)
_RATES = (
    "Set the store's fx_rates for every currency it sells in: a rate holds for orders that come after it."
)


def _stop_rule(experiment: Experiment, stop: Mapping[str, Any]) -> Check:
    is_over = stop["state"] in (StopState.REACHED, StopState.PROMOTED)
    remedy = "Read the verdict, then promote a variant or stop the experiment." if is_over else None
    return Check("stop_rule", "reached" if is_over else "ok", in_words(stop, experiment), remedy)


def _maturity(experiment: Experiment, cohorts: Cohorts, *, only_matured: bool) -> Check:
    total = cohorts.all.overall("units")
    closed = cohorts.closed(experiment.attribution_window).overall("units")
    final = cohorts.closed(experiment.attribution_window + experiment.refund_window).overall("units")
    window = format_duration(experiment.attribution_window)
    text = f"{closed} of {total} units have their window of {window} closed; {final} are final (refunds too)"
    if closed == total:
        return Check("maturity", "ok", text)
    if only_matured:
        wait = "Wait: the others come in as their windows close."
        return Check("maturity", "info", f"{text}; the others are left out", wait)
    return Check(
        "maturity",
        "info",
        f"{text}; the figures count units whose window is still open",
        "Read the report with matured=true, or wait for the windows to close, before deciding.",
    )


def _exposure(experiment: Experiment, counted: Cohort) -> Check:
    """Arms should see their slot equally often; a gap means the figures compare different shoppers."""
    seen = {
        variant.key: (counted.total(variant.key, "exposed"), counted.total(variant.key, "assigned"))
        for variant in experiment.variants
    }
    rates = {key: exposed / assigned for key, (exposed, assigned) in seen.items() if exposed and assigned}
    silent = [key for key, (exposed, assigned) in seen.items() if assigned and not exposed]
    shown = ", ".join(f"{key} {rate:.1%}" for key, rate in rates.items())
    remedy = (
        "Send the exposure at the same moment for every variant, control too: when the slot is drawn, or "
        "would have been."
    )
    if silent and rates:
        return Check("exposure_gap", "warn", f"no exposure reported for {', '.join(silent)}; {shown}", remedy)
    if len(rates) < 2:
        return Check("exposure_gap", "ok", shown or "no exposure reported")
    gap = max(rates.values()) - min(rates.values())
    p_value = _homogeneity([seen[key] for key in rates])
    is_off = gap > EXPOSURE_GAP and p_value < EXPOSURE_P
    text = f"units exposed: {shown} (chance of such a gap {p_value:.2g})"
    return Check("exposure_gap", "warn" if is_off else "ok", text, remedy if is_off else None)


def _homogeneity(counts: Sequence[tuple[int, int]]) -> float:
    """P-value of Pearson's chi-square that all arms share one rate; counts are (hits, trials)."""
    hits = sum(h for h, _ in counts)
    trials = sum(n for _, n in counts)
    rate = hits / trials
    if rate in (0.0, 1.0):
        return 1.0
    statistic = sum((h - n * rate) ** 2 / (n * rate * (1.0 - rate)) for h, n in counts)
    return float(special.chdtrc(len(counts) - 1, statistic))


def _orders(counted: Cohort, feature: str, name: str, lacking: str, consequence: str, remedy: str) -> Check:
    orders = counted.overall(feature)
    if not orders:
        return Check(name, "ok", f"no order lacks its {lacking}")
    return Check(name, "warn", f"{orders} orders have no {lacking}, {consequence}", remedy)


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
    is_off = share < COMPARED_WARN
    remedy = (
        "Let the same shoppers be eligible for every variant: look at audience, stock and prices of each."
    )
    sets = len(objective.candidates)
    return Check(
        "candidate_sets",
        "warn" if is_off else "ok",
        f"{share:.1%} of units comparable with control, in {sets} candidate set{'s' * (sets != 1)}",
        remedy if is_off else None,
    )


def _burn_in(experiment: Experiment, counted: Cohort) -> Check:
    need = experiment.policy.burn_in
    counts = {v.key: counted.total(v.key, "assigned") for v in experiment.variants}
    short = [f"{key} {count}" for key, count in counts.items() if count < need]
    if not short:
        return Check("burn_in", "ok", f"every variant has its {need} units")
    wait = "Wait: until every variant has them, shares do not follow the outcomes."
    return Check("burn_in", "info", f"below the {need} units of burn-in: {', '.join(short)}", wait)

"""Outcomes that should have come and did not: of one variant, or of everyone since a day.

Both ask how many units with such an outcome were to be expected, from the others or from the days before, and
whether none at all could be chance: P(none) = exp(-expected), Poisson. Outcomes of one unit come together, so
they are counted as s^2 / ss units of one each, with s and ss the sums of a unit's count and of its square.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from experiments.analysis.cohorts import Cohorts
from experiments.analysis.refund_curve import come_by_day
from experiments.analysis.report import Check
from experiments.model import Experiment
from experiments.statistics import Cell, custom_features, product_name

EXPECTED = 14.0
"""Outcomes expected where none came: by chance once in a million."""


@dataclass(frozen=True, slots=True)
class _Kind:
    """A kind of outcome: its feature, and the feature of what may have one."""

    feature: str
    words: str
    among: str = "units"
    by_age: bool = False  # whether the cells say how late it comes


_KINDS = (
    _Kind("orders", "orders", by_age=True),
    _Kind("refunded_orders", "refunds", among="orders"),
    _Kind("carts", "carts"),
    _Kind("ratings", "ratings"),
)


def missing_outcomes(experiment: Experiment, cohorts: Cohorts) -> Check:
    """Whether some variant lacks a kind of outcome that the others have, given how many units it has."""
    found: list[str] = []
    for kind in _kinds(experiment):
        total = _Counts.of(cohorts.all.cells, kind)
        by_variant = {
            variant.key: _Counts.of((c for c in cohorts.all.cells if c.key.variant == variant.key), kind)
            for variant in experiment.variants
        }
        for key, own in by_variant.items():
            expected = total.expected(own.among, total.among - own.among)
            if not own.events and expected >= EXPECTED:
                found.append(f"no {kind.words} of {key} (about {expected:.0f} expected from the others)")
    if not found:
        return Check("missing_outcomes", "ok", "every variant has every kind of outcome that others have")
    remedy = (
        "Check that pages with these variants still send these events with the right unit_id or decision_id; "
        "until then do not read their lifts."
    )
    return Check("missing_outcomes", "warn", "; ".join(found), remedy)


def outcomes_stopped(experiment: Experiment, cohorts: Cohorts) -> Check:
    """Whether a kind of outcome has stopped coming for the units enrolled since some day."""
    found: list[str] = []
    for kind in _kinds(experiment):
        if since := _silent_since(experiment, cohorts, kind):
            day, expected = since
            found.append(
                f"no {kind.words} of those enrolled since {day} (about {expected:.0f} expected by now)"
            )
    if not found:
        return Check("outcomes_stopped", "ok", "outcomes come as they did before")
    remedy = (
        "Look for what changed that day in how the shop sends events (a release, a key, a webhook); events "
        "sent now with their own occurred_at are counted where they belong."
    )
    return Check("outcomes_stopped", "warn", "; ".join(found), remedy)


LATE_WARN = 0.01
"""Share of outcomes recorded after their unit's window had closed above which closed cohorts still move."""


@dataclass(frozen=True, slots=True)
class LateEvents:
    """Events of the experiment's units that were recorded long after they occurred.

    `late` were recorded more than a day after, `after_close` of these when the unit's window had closed,
    though they lie in it. Where there are more than the ledger counts, `is_more`.
    """

    late: int
    after_close: int
    is_more: bool = False


def late_events(cohorts: Cohorts, late: LateEvents) -> Check:
    """Which share of the outcomes came late; what comes after a window has closed moves closed cohorts."""
    outcomes = sum(cell.moments.sum(feature) for cell in cohorts.all.cells for feature in _OUTCOMES)
    share = late.late / max(outcomes, late.late, 1)
    after = late.after_close / max(outcomes, late.late, 1)
    more = "more than " if late.is_more else ""
    text = (
        f"{more}{late.late} events ({share:.1%} of outcomes) were recorded over a day after they occurred, "
        f"{late.after_close} after the window of their unit had closed"
    )
    if after <= LATE_WARN:
        return Check("late_events", "ok", text)
    remedy = (
        "Send events as they happen, or lengthen attribution_window in the next experiment; if history was "
        "brought in, nothing is wrong."
    )
    return Check("late_events", "warn", text, remedy)


_OUTCOMES = ("exposed", "clicked", "took", "orders", "refunded_orders", "carts", "ratings")


def _silent_since(experiment: Experiment, cohorts: Cohorts, kind: _Kind) -> tuple[date, float] | None:
    cells = cohorts.all.cells
    if not any(cell.moments.sum(kind.feature) for cell in cells):
        return None
    window = experiment.attribution_window
    come = come_by_day(
        cells, kind.feature if kind.by_age else None, window, time_zone=cohorts.time_zone, now=cohorts.now
    )
    last = max(cell.key.day for cell in cells if cell.moments.sum(kind.feature))
    before = _Counts.of((cell for cell in cells if cell.key.day <= last), kind, come)
    since = [cell for cell in cells if cell.key.day > last]
    expected = before.expected(_Counts.of(since, kind, come).among, before.among)
    return (min(cell.key.day for cell in since), expected) if expected >= EXPECTED else None


@dataclass(frozen=True, slots=True)
class _Counts:
    """Events, the sum of their squares over units, and how many might have had one."""

    events: int
    squares: int
    among: float

    @classmethod
    def of(
        cls, cells: Iterator[Cell] | Sequence[Cell], kind: _Kind, come: Mapping[date, float] | None = None
    ) -> "_Counts":
        events, squares, among = 0, 0, 0.0
        square = product_name(kind.feature, kind.feature)
        for cell in cells:
            sums = cell.moments.sums
            events += sums.get(kind.feature, 0)
            squares += cell.moments.products.get(square, 0)
            share = 1.0 if come is None else come[cell.key.day]
            among += share * sums.get(kind.among, 0)
        return cls(events, squares, among)

    def expected(self, among: float, own: float) -> float:
        """Units with an outcome among so many, at the rate these have among their own; 0 without any."""
        if not self.squares or own <= 0.0:
            return 0.0
        return self.events**2 / self.squares * among / own


def _kinds(experiment: Experiment) -> Iterator[_Kind]:
    yield from _KINDS
    for metric in experiment.metrics:
        yield _Kind(custom_features(metric.key)[1], f"{metric.event} events")

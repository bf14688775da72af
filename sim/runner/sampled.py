"""Replications side by side, by the sampled evaluation of the policy: an arm from each draw, without shares.

Equal in law to published shares for `thompson`, `top_two` and `fixed` without caps, and faster for many small
replications: one draw of all posteriors decides for every customer of every replication at once. What needs
shares is not here: guardrails, ramps, caps, breakers, the stop rule, drift, and the verdict of the report.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from experiments.allocation.sampled import BetaTable, PosteriorTable, StudentTable, choices, fixed_choices
from experiments.allocation.sampled_posteriors import LEAST_UNITS, beta_table, student_table
from experiments.allocation.thompson import burn_in_shares, fixed_shares
from experiments.analysis.maturity import closes_at
from experiments.analysis.metrics import metric_definitions
from experiments.fold import DAY_US, FoldRules, micros
from experiments.model import DelayHandling, Experiment, MetricKind, PolicyKind, TotalsModel
from sim.runner.arriving import arrivals, rows_of
from sim.runner.batch import Batch
from sim.runner.errors import NotSimulated
from sim.runner.outcome import Replication
from sim.runner.settings import EPOCH, RunSettings, Streams, sampling_stream, streams
from sim.runner.tally import Tally
from sim.worlds.cells import Floats, Ints
from sim.worlds.customers import Customers, joined
from sim.worlds.outcomes import outcomes
from sim.worlds.sending import as_sent

LEFT_OUT = ("guardrails", "ramps", "breakers", "stop rule", "drift", "winsorising", "verdict")
SAMPLED = (PolicyKind.THOMPSON, PolicyKind.TOP_TWO, PolicyKind.FIXED)


def replicate_sampled(settings: RunSettings, chunk: int) -> tuple[Replication, ...]:
    """The replications of a chunk; a pure function of its arguments."""
    return _Chunk(settings, chunk).run()


def refuse_sampled(experiment: Experiment) -> None:
    """What sampling cannot do, said before it begins."""
    policy = experiment.policy
    kind = metric_definitions(experiment)[policy.objective].kind
    instead = "take --evaluation shares"
    if policy.kind not in SAMPLED:
        raise NotSimulated(f"policy {policy.kind.value} by sampling", instead)
    if kind not in (MetricKind.PROPORTION, MetricKind.MEAN):
        raise NotSimulated(f"objective {policy.objective} (a {kind.value}) by sampling", instead)
    if policy.delay is DelayHandling.MODEL or policy.model is not TotalsModel.STUDENT_T:
        raise NotSimulated("the delay model or the hurdle by sampling", instead)
    if policy.discount_half_life is not None or policy.warm_start is not None or policy.prior is not None:
        raise NotSimulated("discounting, a warm start or a prior of one's own by sampling", instead)


Learnt = tuple[Ints, PosteriorTable] | None
"""Replications that are past their burn-in, and their posteriors."""


@dataclass(slots=True)
class _Cohort:
    """A day's customers, and the sums of the objective of each replication and arm as known by now."""

    batch: Batch
    closes_us: int  # when the objective's horizon of its last customer has passed
    sums: Floats  # (3, runs * arms): units, x, x^2


class _Chunk:
    def __init__(self, settings: RunSettings, chunk: int) -> None:
        scenario = settings.scenario
        self._settings, self._scenario = settings, scenario
        self._world, self._experiment = scenario.world, scenario.experiment
        self._keys = tuple(effect.variant for effect in self._world.effects)
        self._control = self._keys.index(self._experiment.control.key)
        self._definition = metric_definitions(self._experiment)[self._experiment.policy.objective]
        self._numbers = settings.chunk(chunk)
        self._streams: list[Streams] = [streams(settings.seed, number) for number in self._numbers]
        self._rng = sampling_stream(settings.seed, chunk)
        self._rules = FoldRules(self._experiment, "UTC")
        self._tally = Tally(scenario, self._numbers)
        self._shape = len(self._numbers), len(self._keys)
        self._cohorts: list[_Cohort] = []
        self._settled = np.zeros((3, self._shape[0] * self._shape[1]))
        self._assigned = np.zeros(self._shape, np.int64)

    def run(self) -> tuple[Replication, ...]:
        """All days; posteriors stand still between one step and the next."""
        learnt: Learnt = None
        for day in range(self._scenario.days):
            drawn = [arrivals(self._settings, one, day) for one in self._streams]
            shown, since = np.zeros(self._shape, np.int64), [0] * len(drawn)
            for at_us in [*self._settings.steps(day), None]:
                until = [
                    len(c) if at_us is None else int(np.searchsorted(c.arrival_us, at_us)) for c in drawn
                ]
                part = [rows_of(one, slice(*ends)) for one, *ends in zip(drawn, since, until, strict=True)]
                shown += self._assign(day, part, learnt)
                since = until
                if at_us is not None:
                    learnt = self._learn(self._settings.start_us + day * DAY_US + at_us)
            self._tally.shares(day, shown / np.maximum(1, shown.sum(axis=1, keepdims=True)))
        return self._tally.results()

    def _assign(self, day: int, drawn: Sequence[Customers], learnt: Learnt) -> Ints:
        """Give every customer an arm; how many got each, (runs, arms)."""
        sizes = [len(one) for one in drawn]
        if not any(sizes):
            return np.zeros(self._shape, np.int64)
        arms = self._arms(max(sizes), learnt)
        arm = np.concatenate([row[:size] for row, size in zip(arms, sizes, strict=True)])
        run = np.repeat(np.arange(len(sizes)), sizes)
        customers = joined(drawn)
        what = outcomes(self._world, customers, arm)
        self._tally.assigned(day, run, customers, arm, what)
        group = run * self._shape[1] + arm
        counts = np.bincount(group, minlength=self._settled.shape[1]).reshape(self._shape)
        self._assigned += counts
        date = self._settings.date(day)
        closes_us = micros(closes_at(date, self._definition.horizon, "UTC") - EPOCH)
        sent = as_sent(self._world, customers, what)
        batch = Batch(date, 0, self._settings.start_us + day * DAY_US, customers, what, sent, group)
        self._cohorts.append(_Cohort(batch, closes_us, np.zeros_like(self._settled)))
        return counts

    def _learn(self, now_us: int) -> Learnt:
        """The replications that are past their burn-in, and the posteriors of those."""
        policy = self._experiment.policy
        sums = self._settled.copy()
        for cohort in self._cohorts:
            self._fold(cohort, now_us)
            if cohort.closes_us <= now_us:
                sums += cohort.sums
                if cohort.batch.is_settled:
                    self._settled += cohort.sums
        self._cohorts = [one for one in self._cohorts if one.closes_us > now_us or not one.batch.is_settled]
        units, totals, squares = (part.reshape(self._shape) for part in sums)
        rows = np.flatnonzero(
            (self._assigned >= policy.burn_in).all(axis=1) & (units >= LEAST_UNITS).all(axis=1)
        )
        if policy.kind is PolicyKind.FIXED or not len(rows):
            return None
        table: PosteriorTable
        sign = self._definition.sign
        if self._definition.kind is MetricKind.PROPORTION:
            found = beta_table(units[rows], totals[rows])
            table = found if sign > 0 else BetaTable(found.beta, found.alpha)
        else:
            mean = student_table(units[rows], totals[rows], squares[rows])
            table = StudentTable(sign * mean.location, mean.scale, mean.df)
        return rows, table

    def _fold(self, cohort: _Cohort, now_us: int) -> None:
        people = cohort.batch.due(now_us)
        if people is None:
            return
        rows, before = people.known_before(self._rules)
        now = people.known(self._rules)
        for known, group, sign in ((before, people.group[rows], -1.0), (now, people.group, 1.0)):
            vectors = known.vectors()
            x = sum(factor * vectors[name] for name, factor in self._definition.numerator.items())
            n = sum(factor * vectors[name] for name, factor in self._definition.denominator.items())
            for place, values in enumerate((n, x, x * x)):
                weights = np.asarray(values, np.float64)
                counted = np.bincount(group, weights=weights, minlength=cohort.sums.shape[1])
                cohort.sums[place] += sign * counted * self._definition.scale ** (place if place else 0)

    def _arms(self, n: int, learnt: Learnt) -> Ints:
        """An arm for each of n customers of every replication, (runs, n)."""
        policy, runs = self._experiment.policy, self._shape[0]
        control = self._experiment.control.key
        if policy.kind is PolicyKind.FIXED:
            split = fixed_shares(self._keys, control=control, shares=policy.shares)
        else:
            split = burn_in_shares(self._keys, control, policy.control_share)
        shares = [split[key] for key in self._keys]
        if learnt is None:
            return fixed_choices(shares, runs, n, rng=self._rng)
        rows, table = learnt
        waiting = np.setdiff1d(np.arange(runs), rows)
        arms = np.zeros((runs, n), np.intp)
        arms[waiting] = fixed_choices(shares, len(waiting), n, rng=self._rng)
        arms[rows] = choices(
            policy.kind,
            table,
            n,
            control=self._control,
            control_share=policy.control_share,
            floor=policy.floor,
            rng=self._rng,
        )
        return arms

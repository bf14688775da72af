"""Customers who were assigned together, and what becomes known of them as time goes on."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np

from experiments.fold import FoldRules
from sim.runner.vectors import Known, change_times, outcomes_joined, part_of
from sim.worlds.cells import Ints
from sim.worlds.customers import Customers
from sim.worlds.outcomes import Outcomes


@dataclass(frozen=True, slots=True)
class People:
    """Some customers as they are folded; `group` says where each is counted. Arrays of shape (n,)."""

    group: Ints
    outcomes: Outcomes
    sent: Outcomes  # the same, with the times at which events are sent
    pre_margin_minor: Ints
    arrival_us: Ints  # since the midnight of the cohort's day
    before_us: Ints  # the age at which each was last looked at, below 0 where it had not arrived
    age_us: Ints

    def known(self, rules: FoldRules) -> Known:
        """What is known of them now."""
        return Known(rules, self.outcomes, self.sent, self.pre_margin_minor, self.arrival_us, self.age_us)

    def known_before(self, rules: FoldRules) -> tuple[Ints, Known]:
        """The places of those who had arrived when they were last looked at, and what was known of them."""
        rows = np.flatnonzero(self.before_us >= 0)
        outcomes, sent = _parts(self.outcomes, self.sent, rows)
        arrival, before = self.arrival_us[rows], self.before_us[rows]
        return rows, Known(rules, outcomes, sent, self.pre_margin_minor[rows], arrival, before)


class Batch:
    """Customers of one day who were assigned under one policy version; those who are settled are let go.

    `sent` are the outcomes with the times at which their events are sent (`as_sent`).
    """

    def __init__(
        self,
        day: date,
        epoch: int,
        midnight_us: int,
        customers: Customers,
        outcomes: Outcomes,
        sent: Outcomes,
        group: Ints,
    ) -> None:
        self.day, self.epoch, self._midnight_us = day, epoch, midnight_us
        self._arrival_us = customers.arrival_us
        self._pre_margin_minor = customers.pre_margin_minor
        self._outcomes, self._sent = outcomes, sent
        self._group = group
        times = change_times(sent)
        known = times >= 0
        self._who = np.broadcast_to(np.arange(len(customers)), times.shape)[known]
        self._when = times[known] + self._arrival_us[self._who]
        order = np.argsort(self._when, kind="stable")
        self._who, self._when = self._who[order], self._when[order]
        self._at_us = -1
        self._place = 0

    @property
    def is_settled(self) -> bool:
        """Whether nothing more will come."""
        return self._place == len(self._when)

    def due(self, now_us: int, first: int = 0) -> People | None:
        """Those of whom something new is known, None without any; `now_us` since 1970.

        `first` is added to the numbers of their groups.
        """
        at_us = now_us - self._midnight_us
        end = int(np.searchsorted(self._when, at_us, side="right"))
        rows = np.unique(self._who[self._place : end])
        before_us, self._at_us, self._place = self._at_us, at_us, end
        return self._people(rows, before_us, at_us, first)

    def all_known(self, first: int = 0) -> People | None:
        """Everybody who has arrived, as they were last looked at."""
        return self._people(np.unique(self._who[: self._place]), self._at_us, self._at_us, first)

    def _people(self, rows: Ints, before_us: int, at_us: int, first: int) -> People | None:
        if not len(rows):
            return None
        arrival = self._arrival_us[rows]
        return People(
            self._group[rows] + first,
            *_parts(self._outcomes, self._sent, rows),
            self._pre_margin_minor[rows],
            arrival,
            before_us - arrival,
            at_us - arrival,
        )


def in_portions(found: Sequence[People], rows_max: int) -> Iterator[People]:
    """All of them joined in their order, in portions of about `rows_max`, so that memory has a bound."""
    portion: list[People] = []
    size = 0
    for one in found:
        portion.append(one)
        size += len(one.group)
        if size >= rows_max:
            yield joined(portion)
            portion, size = [], 0
    if portion:
        yield joined(portion)


def joined(parts: Sequence[People]) -> People:
    """Several as one, in the order given."""
    if len(parts) == 1:
        return parts[0]
    names = ("group", "pre_margin_minor", "arrival_us", "before_us", "age_us")
    arrays = {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
    outcomes = outcomes_joined([part.outcomes for part in parts])
    is_late = any(part.sent is not part.outcomes for part in parts)
    sent = outcomes_joined([part.sent for part in parts]) if is_late else outcomes
    return People(outcomes=outcomes, sent=sent, **arrays)


def _parts(outcomes: Outcomes, sent: Outcomes, rows: Ints) -> tuple[Outcomes, Outcomes]:
    """Both of some of the customers; one and the same where nothing is late."""
    found = part_of(outcomes, rows)
    return found, found if sent is outcomes else part_of(sent, rows)

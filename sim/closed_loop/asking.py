"""Asking for decisions, and holding every answer to the version it names and to what was answered before."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from experiments.allocation.hashing import race, seeded_secret, unit_hash
from experiments.model import Experiment
from sim.closed_loop.errors import Broken, hold
from sim.closed_loop.published import WHOLE, Shares, Version
from sim.closed_loop.ratio import SampleRatio
from sim.closed_loop.traffic import Visit
from sim.closed_loop.wire import Json, Wire, encode

FORETOLD = 0.9
"""Of the first decisions, how many must be those of a store of our seed to take it for one."""


@dataclass(frozen=True, slots=True)
class Standing:
    """Where the experiment stands: its state, that of its variants, and the version that serves."""

    state: str
    variants: Mapping[str, str]
    version: Version

    @property
    def active(self) -> frozenset[str]:
        """The variants that can be assigned."""
        return frozenset(key for key, state in self.variants.items() if state == "active")


@dataclass(frozen=True, slots=True)
class Made:
    """A decision as it was first answered."""

    decision_id: str
    variant: str
    propensity: float
    version: int
    candidates: frozenset[str]
    segment: str


class Asking:
    """All asks of a drive."""

    def __init__(self, wire: Wire, experiment: Experiment, seed: int) -> None:
        self._wire, self._experiment = wire, experiment
        self._control = experiment.control.key
        self._skus = {variant.key: variant.offer.sku for variant in experiment.variants}
        self._secret = seeded_secret(seed)
        self.made: dict[str, Made] = {}
        self.ratio = SampleRatio(self._skus)
        self.is_foretold: bool | None = None
        """Whether the store is one of our seed, so that every variant is known beforehand."""
        self._units_of: dict[str, str] = {}

    def ask(self, asks: list[Visit], standing: Standing) -> list[Json]:
        """Ask for all of these in batches; the answers, each of them checked."""
        answers: list[Json] = []
        repeated: list[bool] = []
        bodies = [encode(visit.request) for visit in asks]
        for size, answer in self._wire.post_many("/v1/assign/batch", "requests", bodies):
            hold("answered", "decisions in a batch", size, len(answer["decisions"]))
            answers += answer["decisions"]
            repeated += [self._wire.was_repeated] * size
        fresh: list[tuple[str, Made]] = []
        for visit, answer, was_repeated in zip(asks, answers, repeated, strict=True):
            if "problem" in answer:
                raise Broken("answered", f"ask of {visit.unit_id}", "a decision", answer["problem"])
            if visit.unit_id in self.made:
                self._check_again(visit.unit_id, answer, standing)
            elif (made := self._check_first(visit, answer, standing, was_repeated)) is not None:
                self.made[visit.unit_id] = made
                fresh.append((visit.unit_id, made))
        self._draw(fresh, standing.version)
        return answers

    def _check_first(self, visit: Visit, answer: Json, standing: Standing, was_repeated: bool) -> Made | None:
        """An ask of somebody who has no variant yet: whether there is one, and with which propensity."""
        where = f"decision of {visit.unit_id}"
        candidates = frozenset(
            key
            for key in standing.active
            if key == self._control or visit.holds is None or self._skus[key] != visit.holds
        )
        reason = _refusal(standing.state, candidates)
        if reason is not None:
            hold("enrolment", f"{where}: reason", reason, answer["reason"])
            hold("enrolment", f"{where}: decision_id", None, answer["decision_id"])
            return None
        variant, version = answer["variant"], standing.version
        reasons = ("assigned", "sticky") if was_repeated else ("assigned",)
        if answer["reason"] not in reasons:
            raise Broken("enrolment", f"{where}: reason", reasons[0], answer["reason"])
        hold("propensity", f"{where}: policy_version", version.number, answer["policy_version"])
        if variant not in candidates:
            raise Broken("candidates", where, f"one of {', '.join(sorted(candidates))}", variant)
        known = self._units_of.setdefault(answer["decision_id"], visit.unit_id)
        hold("one variant", f"unit of decision {answer['decision_id']}", known, visit.unit_id)
        if not version.is_by_context:
            self._check_propensity(where, visit, answer, version, candidates)
        return Made(
            *(answer["decision_id"], variant, answer["propensity"], version.number),
            *(candidates, visit.segment),
        )

    def _check_propensity(
        self, where: str, visit: Visit, answer: Json, version: Version, candidates: frozenset[str]
    ) -> None:
        shares = version.propensities(candidates, visit.segment, self._control)
        exact = version.published(candidates, visit.segment) is not None
        found = answer["propensity"] * WHOLE
        off = [abs(found - one[answer["variant"]]) for one in shares]
        # A fall-back is rounded by the service; for all of the control's it collects what others lost.
        if min(off) > (0 if exact else len(candidates)):
            named = f"version {version.number}, {', '.join(sorted(candidates))}, segment {visit.segment!r}"
            expected = shares[0][answer["variant"]] / WHOLE
            raise Broken("propensity", f"{where} ({named})", expected, answer["propensity"])

    def _check_again(self, unit_id: str, answer: Json, standing: Standing) -> None:
        """An ask of somebody who has a variant: it is that one, as it was first answered."""
        made = self.made[unit_id]
        where = f"repeated decision of {unit_id}"
        for name in ("variant", "decision_id", "propensity"):
            hold("one variant", f"{where}: {name}", getattr(made, name), answer[name])
        hold("one variant", f"{where}: policy_version", made.version, answer["policy_version"])
        state = standing.variants[made.variant]
        reason = "paused" if standing.state == "paused" else "sticky" if state == "active" else state
        hold("one variant", f"{where}: reason", reason, answer["reason"])

    def _draw(self, fresh: list[tuple[str, Made]], version: Version) -> None:
        """Count who got what of which shares, and, in a store of our seed, run every race again."""
        counts: dict[tuple[frozenset[str], str], Counter[str]] = defaultdict(Counter)
        wrong: list[tuple[str, str, str]] = []
        foretellable = 0
        for unit_id, made in fresh:
            if version.is_by_context:
                self.ratio.drawn(made.variant, made.propensity, made.candidates)
                continue
            shares = version.published(made.candidates, made.segment)
            if shares is None:
                continue
            counts[made.candidates, made.segment][made.variant] += 1
            if self.is_foretold is not False:
                foretellable += 1
                winner = self._winner(unit_id, shares)
                if winner != made.variant:
                    wrong.append((unit_id, winner, made.variant))
        for (candidates, segment), found in counts.items():
            shares = version.published(candidates, segment)
            assert shares is not None
            self.ratio.add(shares, found)
        if self.is_foretold is None and foretellable:
            self.is_foretold = len(wrong) <= (1 - FORETOLD) * foretellable
        if self.is_foretold and wrong:
            unit_id, winner, variant = wrong[0]
            raise Broken("race", f"variant of {unit_id}", winner, variant)

    def _winner(self, unit_id: str, shares: Shares) -> str:
        return race(self._experiment.salt, unit_hash(self._secret, unit_id), shares).winner


def _refusal(state: str, candidates: frozenset[str]) -> str | None:
    """Why somebody who has no variant gets none; None where there is a choice."""
    if state == "paused":
        return "paused"
    if state != "running":
        return "no_experiment"
    return "no_eligible_variant" if len(candidates) < 2 else None


def is_shown(answer: Mapping[str, Any]) -> bool:
    """Whether an offer is to be shown."""
    return answer["offer"]["kind"] != "none"

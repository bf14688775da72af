"""A published policy version: the integer shares that serving uses, per candidate set, and their grounds."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from math import isfinite, sqrt
from typing import Any

from experiments.allocation.caps import WHOLE, renormalised
from experiments.allocation.contextual import ContextualDraws, Row
from experiments.errors import BrokenInvariant
from experiments.posteriors.protocol import Posterior


class Cause(StrEnum):
    """Why a version was published."""

    STARTED = "started"
    SHARES_MOVED = "shares_moved"
    GUARDRAIL = "guardrail"
    BREAKER = "breaker"
    RAMP = "ramp"
    DAILY = "daily"
    EDITED = "edited"
    PROMOTED = "promoted"
    RESUMED = "resumed"
    RETIRED = "retired"
    ADDED = "added"
    REPLACED = "replaced"
    STOP_RULE = "stop_rule"


@dataclass(frozen=True, slots=True)
class PosteriorSummary:
    """What a version keeps of a posterior: mean and sd (None where they do not exist), units behind it.

    `method` says by which model it was formed; versions of old do not.
    """

    mean: float | None
    sd: float | None
    n: float
    method: str | None = None


@dataclass(frozen=True, slots=True)
class SetShares:
    """Shares of one candidate set over 2^32; P(best) and posteriors are absent before there are any."""

    shares: Mapping[str, int]
    prob_best: Mapping[str, float] | None = None
    posteriors: Mapping[str, PosteriorSummary] = field(default_factory=dict[str, PosteriorSummary])

    def __post_init__(self) -> None:
        if sum(self.shares.values()) != WHOLE or min(self.shares.values()) < 0:
            raise BrokenInvariant(f"integer shares must be >= 0 and sum to 2^32, found {dict(self.shares)}")


Sets = Mapping[tuple[str, ...], SetShares]


@dataclass(frozen=True, slots=True)
class PolicyVersion:
    """One version of an experiment's shares; an epoch is a run of versions with equal shares.

    `sets` maps a candidate set (its keys in any order) to its shares, in the order given, which is kept;
    `segments` does so for the units of a segment, where those differ. With `contextual` draws a decision
    computes its shares from them, and `sets` says what they come to on average.
    """

    number: int
    epoch: int
    published_at_us: int
    cause: Cause
    control: str
    sets: Mapping[tuple[str, ...], SetShares]
    capped: Mapping[str, float] = field(default_factory=dict[str, float])
    killed: frozenset[str] = frozenset()
    segments: Mapping[str, Sets] = field(default_factory=dict[str, Sets])
    contextual: ContextualDraws | None = None

    def __post_init__(self) -> None:
        for sets in (self.sets, *self.segments.values()):
            for candidates, published in sets.items():
                if set(candidates) != set(published.shares) or self.control not in published.shares:
                    raise BrokenInvariant(f"set {candidates} has shares for {sorted(published.shares)}")

    def published(self, candidates: Collection[str], segment: str | None = None) -> SetShares | None:
        """What was published for exactly these candidates, in whatever order: for the segment, or for all."""
        wanted = frozenset(candidates)
        of_segment = self.segments.get(segment, {}) if segment is not None else {}
        for sets in (of_segment, self.sets):
            for keys, found in sets.items():
                if frozenset(keys) == wanted:
                    return found
        return None

    def shares_for(
        self, candidates: Sequence[str], *, segment: str | None = None, row: Row | None = None
    ) -> dict[str, int]:
        """Integer shares of these candidates, sum 2^32: the published ones, or the fall-back.

        Those of the unit's `segment` where it has its own; with published draws those of its context, whose
        columns are `row`. The fall-back renormalises the smallest published set that holds all candidates
        (else the one that shares most with them); a candidate it does not hold gets no share until the next
        version.
        """
        if self.contextual is not None and row is not None:
            return self.contextual.shares_for(candidates, row, self.capped)
        found = self.published(candidates, segment)
        if found is not None:
            return dict(found.shares)
        wanted = frozenset(candidates)
        nearest = min(
            self.sets, key=lambda keys: (-len(wanted & set(keys)), len(keys), sorted(keys)), default=None
        )
        shares = self.sets[nearest].shares if nearest is not None else {}
        return renormalised(shares, sorted(wanted), control=self.control, capped=self.capped)

    def unmoved(self, last: "PolicyVersion") -> "PolicyVersion":
        """The version's posteriors with the shares of the last one, in every segment and context."""
        kept = {keys: replace(found, shares=last.shares_for(keys)) for keys, found in self.sets.items()}
        return replace(self, sets=kept, segments=last.segments, contextual=last.contextual)

    def to_json(self) -> dict[str, Any]:
        """Plain dictionaries, lists, strings and numbers; `from_json` gives an equal version back."""
        return {
            "number": self.number,
            "epoch": self.epoch,
            "published_at_us": self.published_at_us,
            "cause": self.cause.value,
            "control": self.control,
            "sets": _plain(self.sets),
            "capped": dict(self.capped),
            "killed": sorted(self.killed),
            "segments": {segment: _plain(sets) for segment, sets in self.segments.items()},
            "contextual": None if self.contextual is None else self.contextual.to_json(),
        }

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> "PolicyVersion":
        """The version that `to_json` wrote."""
        contextual = plain.get("contextual")
        return cls(
            number=plain["number"],
            epoch=plain["epoch"],
            published_at_us=plain["published_at_us"],
            cause=Cause(plain["cause"]),
            control=plain["control"],
            sets=_sets(plain["sets"]),
            capped=dict(plain["capped"]),
            killed=frozenset(plain["killed"]),
            # Versions published before there were such policies have neither.
            segments={segment: _sets(items) for segment, items in plain.get("segments", {}).items()},
            contextual=None if contextual is None else ContextualDraws.from_json(contextual),
        )


def _plain(sets: Sets) -> list[dict[str, Any]]:
    return [
        {
            "candidates": list(candidates),
            "shares": dict(found.shares),
            "prob_best": None if found.prob_best is None else dict(found.prob_best),
            "posteriors": {
                key: {"mean": summary.mean, "sd": summary.sd, "n": summary.n, "method": summary.method}
                for key, summary in found.posteriors.items()
            },
        }
        for candidates, found in sets.items()
    ]


def _sets(plain: Sequence[Mapping[str, Any]]) -> dict[tuple[str, ...], SetShares]:
    return {
        tuple(item["candidates"]): SetShares(
            shares=dict(item["shares"]),
            prob_best=None if item["prob_best"] is None else dict(item["prob_best"]),
            posteriors={key: PosteriorSummary(**summary) for key, summary in item["posteriors"].items()},
        )
        for item in plain
    }


def summary_of(posterior: Posterior, n: float, method: str | None = None) -> PosteriorSummary:
    """The summary of a posterior resting on n units (discounted ones count in part)."""
    mean, variance = posterior.mean, posterior.variance
    sd = sqrt(variance) if isfinite(variance) else None
    return PosteriorSummary(mean if isfinite(mean) else None, sd, n, method)


def same_shares(a: PolicyVersion, b: PolicyVersion) -> bool:
    """Whether both would serve the same shares, for every candidate set, segment and context."""
    return a.contextual == b.contextual and all(before == after for before, after in _served(a, b))


def moved(a: PolicyVersion, b: PolicyVersion, by: float = 0.005) -> bool:
    """Whether some share differs by `by` or more, in a candidate set or segment either has published.

    New draws have moved: their own error is of that size, and what they rest on has changed.
    """
    least = by * WHOLE
    return a.contextual != b.contextual or any(
        abs(after[key] - before[key]) >= least for before, after in _served(a, b) for key in before
    )


def _served(a: PolicyVersion, b: PolicyVersion) -> Iterator[tuple[dict[str, int], dict[str, int]]]:
    """What both serve, wherever either has published something."""
    for segment in (None, *sorted({*a.segments, *b.segments})):
        parts = [v.sets if segment is None else v.segments.get(segment, {}) for v in (a, b)]
        for keys in {frozenset(keys) for sets in parts for keys in sets}:
            wanted = sorted(keys)
            yield a.shares_for(wanted, segment=segment), b.shares_for(wanted, segment=segment)

"""A published policy version: the integer shares that serving uses, per candidate set, and their grounds."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from math import isfinite, sqrt
from typing import Any

from experiments.allocation.caps import WHOLE, renormalised
from experiments.errors import BrokenInvariant
from experiments.posteriors.protocol import Posterior


class Cause(StrEnum):
    """Why a version was published."""

    STARTED = "started"
    SHARES_MOVED = "shares_moved"
    GUARDRAIL = "guardrail"
    DAILY = "daily"
    EDITED = "edited"
    PROMOTED = "promoted"
    RESUMED = "resumed"
    RETIRED = "retired"


@dataclass(frozen=True, slots=True)
class PosteriorSummary:
    """What a version keeps of a posterior: mean and sd (None where they do not exist), units behind it."""

    mean: float | None
    sd: float | None
    n: float


@dataclass(frozen=True, slots=True)
class SetShares:
    """Shares of one candidate set over 2^32; P(best) and posteriors are absent before there are any."""

    shares: Mapping[str, int]
    prob_best: Mapping[str, float] | None = None
    posteriors: Mapping[str, PosteriorSummary] = field(default_factory=dict[str, PosteriorSummary])

    def __post_init__(self) -> None:
        if sum(self.shares.values()) != WHOLE or min(self.shares.values()) < 0:
            raise BrokenInvariant(f"integer shares must be >= 0 and sum to 2^32, found {dict(self.shares)}")


@dataclass(frozen=True, slots=True)
class PolicyVersion:
    """One version of an experiment's shares; an epoch is a run of versions with equal shares.

    `sets` maps a candidate set (its keys in any order) to its shares, in the order given, which is kept.
    """

    number: int
    epoch: int
    published_at_us: int
    cause: Cause
    control: str
    sets: Mapping[tuple[str, ...], SetShares]
    capped: Mapping[str, float] = field(default_factory=dict[str, float])
    killed: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        for candidates, published in self.sets.items():
            if set(candidates) != set(published.shares) or self.control not in published.shares:
                raise BrokenInvariant(f"set {candidates} has shares for {sorted(published.shares)}")

    def published(self, candidates: Collection[str]) -> SetShares | None:
        """What was published for exactly these candidates, in whatever order."""
        wanted = frozenset(candidates)
        return next((found for keys, found in self.sets.items() if frozenset(keys) == wanted), None)

    def shares_for(self, candidates: Collection[str]) -> dict[str, int]:
        """Integer shares of these candidates, sum 2^32: the published ones, or the fall-back.

        The fall-back renormalises the smallest published set that holds all candidates (else the one
        that shares most with them); a candidate it does not hold gets no share until the next version.
        """
        found = self.published(candidates)
        if found is not None:
            return dict(found.shares)
        wanted = frozenset(candidates)
        nearest = min(
            self.sets, key=lambda keys: (-len(wanted & set(keys)), len(keys), sorted(keys)), default=None
        )
        shares = self.sets[nearest].shares if nearest is not None else {}
        return renormalised(shares, sorted(wanted), control=self.control, capped=self.capped)

    def to_json(self) -> dict[str, Any]:
        """Plain dictionaries, lists, strings and numbers; `from_json` gives an equal version back."""
        return {
            "number": self.number,
            "epoch": self.epoch,
            "published_at_us": self.published_at_us,
            "cause": self.cause.value,
            "control": self.control,
            "sets": [
                {
                    "candidates": list(candidates),
                    "shares": dict(found.shares),
                    "prob_best": None if found.prob_best is None else dict(found.prob_best),
                    "posteriors": {
                        key: {"mean": summary.mean, "sd": summary.sd, "n": summary.n}
                        for key, summary in found.posteriors.items()
                    },
                }
                for candidates, found in self.sets.items()
            ],
            "capped": dict(self.capped),
            "killed": sorted(self.killed),
        }

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> "PolicyVersion":
        """The version that `to_json` wrote."""
        sets = {
            tuple(item["candidates"]): SetShares(
                shares=dict(item["shares"]),
                prob_best=None if item["prob_best"] is None else dict(item["prob_best"]),
                posteriors={key: PosteriorSummary(**summary) for key, summary in item["posteriors"].items()},
            )
            for item in plain["sets"]
        }
        return cls(
            number=plain["number"],
            epoch=plain["epoch"],
            published_at_us=plain["published_at_us"],
            cause=Cause(plain["cause"]),
            control=plain["control"],
            sets=sets,
            capped=dict(plain["capped"]),
            killed=frozenset(plain["killed"]),
        )


def summary_of(posterior: Posterior, n: float) -> PosteriorSummary:
    """The summary of a posterior resting on n units (discounted ones count in part)."""
    mean, variance = posterior.mean, posterior.variance
    return PosteriorSummary(
        mean=mean if isfinite(mean) else None, sd=sqrt(variance) if isfinite(variance) else None, n=n
    )


def same_shares(a: PolicyVersion, b: PolicyVersion) -> bool:
    """Whether both would serve the same shares, for every candidate set either has published."""
    return all(a.shares_for(keys) == b.shares_for(keys) for keys in _all_sets(a, b))


def moved(a: PolicyVersion, b: PolicyVersion, by: float = 0.005) -> bool:
    """Whether some share differs by `by` or more, in a candidate set either has published."""
    least = by * WHOLE
    for keys in _all_sets(a, b):
        before, after = a.shares_for(keys), b.shares_for(keys)
        if any(abs(after[key] - before[key]) >= least for key in keys):
            return True
    return False


def _all_sets(a: PolicyVersion, b: PolicyVersion) -> set[frozenset[str]]:
    return {frozenset(keys) for version in (a, b) for keys in version.sets}

"""Policy versions as the service publishes them: what they promise, and the share a decision must name.

Shares are integers over 2^32; on the wire they are those over 2^32 as floating-point numbers, which is exact.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from experiments.model import Experiment, PolicyKind
from sim.closed_loop.errors import Broken, hold
from sim.closed_loop.wire import Json

WHOLE = 1 << 32
ROUNDING = 2
"""By how many of 2^32 a share may be off what it was rounded from."""

Shares = Mapping[str, int]
Sets = Mapping[frozenset[str], Shares]


@dataclass(frozen=True, slots=True)
class Version:
    """A policy version: shares by candidate set, for all and by segment; caps and killed variants then."""

    number: int
    sets: Sets
    segments: Mapping[str, Sets]
    is_by_context: bool = False
    caps: Mapping[str, float] = field(default_factory=dict[str, float])

    def published(self, candidates: frozenset[str], segment: str) -> Shares | None:
        """What was published for exactly these candidates: of the segment, or of all."""
        found = self.segments.get(segment, {}).get(candidates)
        return self.sets.get(candidates) if found is None else found

    def propensities(self, candidates: frozenset[str], segment: str, control: str) -> list[Shares]:
        """The shares that a decision may have been made with: one, but where several sets are as near.

        A set that has not been published takes its shares from the smallest published one that holds all of
        its candidates, else from the one that holds most of them: in the same proportions, with caps as they
        are, what they cut going to the control.
        """
        exact = self.published(candidates, segment)
        if exact is not None:
            return [exact]
        near = {keys: (-len(candidates & keys), len(keys)) for keys in self.sets}
        nearest = min(near.values())
        return [
            self._renormalised(self.sets[keys], candidates, control)
            for keys, place in near.items()
            if place == nearest
        ]

    def _renormalised(self, shares: Shares, candidates: frozenset[str], control: str) -> Shares:
        parts = {key: shares.get(key, 0) for key in candidates}
        total = sum(parts.values())
        if not total:
            return {key: WHOLE * (key == control) for key in candidates}
        cut = {
            key: min(part * WHOLE // total, int(self.caps.get(key, 1.0) * WHOLE))
            for key, part in parts.items()
        }
        return cut | {control: WHOLE - sum(cut.values()) + cut[control]}


def version_of(document: Json, now: Json | None = None) -> Version:
    """A version from `/policy`; `now` is the document around the one that serves, with its caps."""
    caps: dict[str, float] = {}
    if now is not None:
        floor = now["policy"].get("floor", 0.0)
        caps = {entry["variant"]: floor for entry in now["guardrails"] if entry["state"] == "throttle"}
        for ramp in now["ramps"]:
            if ramp["cap"] is not None:
                caps[ramp["variant"]] = min(ramp["cap"], caps.get(ramp["variant"], 1.0))
    return Version(
        number=document["policy_version"],
        sets=_sets(document["sets"]),
        segments={name: _sets(sets) for name, sets in (document.get("segments") or {}).items()},
        is_by_context=document.get("contextual") is not None,
        caps=caps,
    )


def _sets(items: list[Json]) -> Sets:
    found: dict[frozenset[str], Shares] = {}
    for item in items:
        shares = {key: share * WHOLE for key, share in item["shares"].items()}
        hold("shares", "not of 2^32", [], [share for share in shares.values() if share != int(share)])
        found[frozenset(item["candidates"])] = {key: int(share) for key, share in shares.items()}
    return found


def check_version(version: Version, experiment: Experiment, document: Json, killed: frozenset[str]) -> None:
    """Hold a version to the document: whole, control and floors kept, caps kept, what is killed at nothing.

    `document` is what `/policy` says of the version that serves.
    """
    policy, control = experiment.policy, experiment.control.key
    is_bound = policy.kind is not PolicyKind.FIXED and document["promoted"] is None
    for place, candidates, shares in _every(version):
        where = f"version {version.number}, {place}, {', '.join(sorted(candidates))}"
        hold("shares", f"{where}: variants", candidates, frozenset(shares))
        hold("shares", f"{where}: sum", WHOLE, sum(shares.values()))
        for key in killed & candidates:
            hold("killed", f"{where}: share of {key}", 0, shares[key])
        for key, cap in version.caps.items():
            if shares.get(key, 0) > int(cap * WHOLE):
                raise Broken("caps", f"{where}: share of {key}", f"at most {cap}", shares[key] / WHOLE)
        if policy.kind is not PolicyKind.FIXED:
            _at_least("control share", where, control, policy.control_share, shares)
        if is_bound:
            for key in candidates - killed:
                _at_least("floors", where, key, min(policy.floor, version.caps.get(key, 1.0)), shares)
    if policy.kind is PolicyKind.FIXED and document["promoted"] is None and not version.caps:
        _check_fixed(version, experiment, killed)


def _at_least(invariant: str, where: str, key: str, least: float, shares: Shares) -> None:
    if shares[key] < least * WHOLE - ROUNDING:
        raise Broken(invariant, f"{where}: share of {key}", f"at least {least}", shares[key] / WHOLE)


def _every(version: Version) -> Iterator[tuple[str, frozenset[str], Shares]]:
    for place, sets in (("all", version.sets), *version.segments.items()):
        for candidates, shares in sets.items():
            yield place, candidates, shares


def _check_fixed(version: Version, experiment: Experiment, killed: frozenset[str]) -> None:
    """Fixed shares are those of the document, in proportion where a variant is no candidate."""
    given = experiment.policy.shares or {variant.key: 1.0 for variant in experiment.variants}
    for place, candidates, shares in _every(version):
        total = sum(given[key] for key in candidates - killed)
        for key in candidates - killed:
            wanted = given[key] / total
            if abs(shares[key] - wanted * WHOLE) > ROUNDING:
                where = f"version {version.number}, {place}: share of {key}"
                raise Broken("fixed shares", where, wanted, shares[key] / WHOLE)

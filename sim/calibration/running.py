"""Runs parts of the study world by world, and says how far it is."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from sim.calibration.part import Part
from sim.calibration.results import Made, Measured, Results

Tell = Callable[[str], None]
"""Takes a line about the progress; a later one takes its place."""


def run(
    parts: Sequence[Part], runs: int | None, made: Made, results: Results, tell: Tell, *, every_s: float
) -> Iterator[Results]:
    """Measure every world of the parts, and give the results so far after each.

    `runs` replaces the number of each part. A world that stands in `results` already, of the same code, seed
    and runs, is not measured again: the figures would be the same.
    """
    worlds = [(part, world, runs or part.runs) for part in parts for world in part.worlds]
    progress = _Progress(tell, every_s, worlds)
    for part in parts:
        of_part = replace(made, runs=runs or part.runs)
        for world in part.worlds:
            before = results.parts.get(part.key, {}).get(world)
            if before is not None and before.made.gives_the_same_as(of_part):
                progress.skip(part, world, of_part.runs)
                continue
            step = progress.begin(part, world, of_part.runs)
            start = time.perf_counter()
            rows = tuple(part.measure(world, of_part.runs, of_part.seed, step))
            took = round(time.perf_counter() - start, 1)
            results = results.with_world(part, world, Measured(of_part, took, rows))
            yield results


class _Progress:
    """What is done and about how long the rest takes, by what a run of each world costs."""

    def __init__(self, tell: Tell, every_s: float, worlds: Sequence[tuple[Part, str, int]]) -> None:
        self.tell, self.every_s = tell, every_s
        self.whole = sum(part.worlds[world] * runs for part, world, runs in worlds)
        self.done = 0.0
        self.start = self.told = time.perf_counter()

    def begin(self, part: Part, world: str, runs: int) -> Callable[[], None]:
        """A step for every run of the world."""
        each, so_far, before = part.worlds[world], 0, self.done

        self.tell(f"{part.key}, {world}: begun; {self._rest(time.perf_counter())}")

        def step() -> None:
            nonlocal so_far
            so_far += 1
            self.done = before + each * min(so_far, runs)
            now = time.perf_counter()
            if now - self.told >= self.every_s:
                self.told = now
                self.tell(f"{part.key}, {world}: run {so_far:,}; {self._rest(now)}")

        return step

    def skip(self, part: Part, world: str, runs: int) -> None:
        """The world stands already."""
        self.whole -= part.worlds[world] * runs
        self.tell(f"{part.key}, {world}: stands already")

    def _rest(self, now: float) -> str:
        # What a run costs is of another machine: before anything is done it is the best guess there is
        each = (now - self.start) / self.done if self.done else 1e-3
        left = each * (self.whole - self.done)
        said = f"{left / 60:.0f} min" if left >= 90 else f"{left:.0f} s"
        return f"{self.done / self.whole:.0%} of all, about {said} left"

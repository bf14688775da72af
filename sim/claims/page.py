"""The page of checked claims, docs/scenarios.md, and its figures as JSON."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sim.calibration.provenance import commit, rialto_version
from sim.claims.finding import Finding
from sim.runner.settings import RunSettings
from sim.worlds.scenario import Scenario

HEAD = """# The named scenarios, and whether their claims hold

Each is a world whose truth is known, the experiment a shop would run in it, and a claim that a run can
refute. `rialto sim run NAME` runs one, `make scenarios` runs all of them and writes this page. A part that
says how often something happens is held unless chance would give the runs it got less than once in a
thousand; a part about a mean is held when it lies beyond its limit by three standard errors.
"""


@dataclass(frozen=True, slots=True)
class Checked:
    """A scenario that was run, and what its claim came to."""

    settings: RunSettings
    findings: tuple[Finding, ...]

    @property
    def scenario(self) -> Scenario:
        """The scenario."""
        return self.settings.scenario


def document_of(checked: Sequence[Checked]) -> dict[str, Any]:
    """Figures, seeds and commit."""
    return {
        "rialto": {"version": rialto_version(), "commit": commit()},
        "scenarios": {
            one.scenario.key: {
                "seed": one.settings.seed,
                "replications": one.settings.replications,
                "days": one.scenario.days,
                "findings": [asdict(found) for found in one.findings],
            }
            for one in checked
        },
    }


def page_of(checked: Sequence[Checked]) -> str:
    """The page in Markdown."""
    lines = [HEAD, f"Commit {commit()}, Rialto {rialto_version()}."]
    for one in checked:
        scenario, settings = one.scenario, one.settings
        size = f"{settings.replications} runs of {scenario.days} days, seed {settings.seed}"
        lines += [
            f"\n## {scenario.key}: {scenario.title}\n",
            f"**Claim.** {scenario.claim}  \n**Truth.** {scenario.ground_truth}  \n{size}; "
            f"{settings.per_day():,.0f} customers on a usual day.\n",
            "| part of the claim | found | held against | |",
            "|---|---|---|---|",
            *map(_row, one.findings),
        ]
    return "\n".join(lines) + "\n"


def _row(found: Finding) -> str:
    held = "held" if found.held else "**not held**"
    return f"| {found.said} | {found.found:,.3g} | {found.limit} | {held} |"

"""Samples of the real files through the real service, killed on the way."""

import json
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest

from sim.replay.client import Service
from sim.replay.run import Options, Outcome, replay
from tests.sim.replay_service import RealService, rialto

ROOT = Path(__file__).parents[2]
MAPPINGS = ROOT / "sim" / "mappings"
DATA = ROOT.parent / "shared" / "data"
HILLSTROM = DATA / "hillstrom_email.csv.gz"
RETAIL = DATA / "online_retail_2010-12_to_2011-05.csv.gz"

pytestmark = pytest.mark.skipif(not DATA.exists(), reason="the real files are not beside this repository")

PATIENCE_S = 150.0  # a busy machine may take long to start a service
Begin = Callable[[str, int], Callable[[int], None]]


@pytest.fixture
def dollars(tmp_path: Path) -> Generator[RealService]:
    service = RealService(tmp_path, currency="USD")
    yield service
    service.stop()


def run(
    real: RealService, file: Path, mapping: str, *, begin: Begin | None = None, **options: Any
) -> Outcome:
    with Service(real.url, real.key, patience_s=PATIENCE_S) as service:
        return replay(service, file, MAPPINGS / f"{mapping}.yaml", Options(**options), begin or _quiet)


def _quiet(_task: str, _total: int) -> Callable[[int], None]:
    return lambda _: None


def figures(report: dict[str, Any]) -> Any:
    """A report without the instant it was made at."""
    told = {name: value for name, value in report.items() if name not in ("generated_at", "policy_version")}
    # How late events came is the one thing that the order of sending changes.
    return told | {"checks": [check for check in told["checks"] if check["name"] != "late_events"]}


def test_a_forced_replay_survives_kills_and_a_second_run_changes_nothing(dollars: RealService) -> None:
    first = run(dollars, HILLSTROM, "hillstrom", limit=2000, begin=dollars.killed_at(0.2, 0.6))
    assert dollars.kills == 2
    assert first.agrees, [c for c in first.comparisons if not c.agrees]
    arguments = (
        "--mapping",
        str(MAPPINGS / "hillstrom.yaml"),
        "--url",
        dollars.url,
        "--limit",
        "2000",
        "--json",
    )
    done = rialto("replay", str(HILLSTROM), *arguments, "--key", dollars.key)
    assert done.returncode == 0, done.stderr
    second = json.loads(done.stdout)
    assert second["agrees"] is True
    assert second["events"]["accepted"] == 0
    assert figures(second["service"]["report"]) == figures(first.service["report"])
    assert dollars.verify().returncode == 0
    refused = rialto("replay", str(HILLSTROM), *arguments, "--key", "sk_wrong")
    assert refused.returncode == 1
    assert refused.stderr.splitlines()[-1].startswith("error: ")
    assert "Traceback" not in refused.stderr


@pytest.mark.slow
def test_the_whole_email_test_reads_as_published(dollars: RealService) -> None:
    """Hillstrom's own rates, in per cent and dollars, of 64,000 customers (none, mens, womens)."""
    outcome = run(dollars, HILLSTROM, "hillstrom")
    assert outcome.agrees, [c for c in outcome.comparisons if not c.agrees]
    variants = {one["key"]: one for one in outcome.service["report"]["variants"]}
    assert [one["assigned"] for one in variants.values()] == [21_306, 21_307, 21_387]
    published = {
        "visit_rate": (0.1062, 0.1828, 0.1514),
        "conversion_rate": (0.00573, 0.01253, 0.00884),
        "revenue_per_unit": (65.3, 142.3, 107.7),
        "aov": (11_400, 11_353, 12_189),
    }
    last_digit = {"visit_rate": 1e-4, "conversion_rate": 1e-5, "revenue_per_unit": 0.1, "aov": 1}
    for metric, wanted in published.items():
        for key, figure in zip(("none", "mens", "womens"), wanted, strict=True):
            found = variants[key]["metrics"][metric]["value"]
            assert abs(found - figure) <= last_digit[metric] / 2 + 1e-12, f"{metric} of {key}: {found}"
    assert dollars.verify().returncode == 0


class Interrupted(Exception):
    """The replay is cut off here."""


def test_a_thompson_replay_cut_off_twice_goes_on_from_its_checkpoint(
    dollars: RealService, tmp_path: Path
) -> None:
    def begin(_task: str, _total: int) -> Callable[[int], None]:
        steps = 0

        def tick(_: int) -> None:
            nonlocal steps
            steps += 1
            if steps == 250:
                raise Interrupted

        return tick

    options: dict[str, Any] = {"limit": 1500, "checkpoint": tmp_path / "position.json"}
    with pytest.raises(Interrupted):
        run(dollars, HILLSTROM, "hillstrom_thompson", begin=begin, **options)
    outcome = run(dollars, HILLSTROM, "hillstrom_thompson", begin=dollars.killed_at(0.6), **options)
    assert dollars.kills == 1
    assert outcome.agrees, [c for c in outcome.comparisons if not c.agrees]
    kept = outcome.progress.assigned
    # While nothing is known control gets 0.10 and each e-mail 0.45; the log has a third of each.
    assert abs(kept - 500) < 5 * (1500 * 2 / 9) ** 0.5
    versions = dollars.get("/v1/experiments/hillstrom-thompson/policy?all=true")["versions"]
    assert len(versions) > 1
    assert dollars.verify().returncode == 0


def test_invoices_in_order_and_shuffled_give_the_same_to_the_penny(tmp_path: Path) -> None:
    outcomes: list[Outcome] = []
    mixing: dict[str, Any] = {"shuffle": 4, "duplicates": 0.05}
    nothing: dict[str, Any] = {}
    for name, options in (("plain", nothing), ("mixed", mixing)):
        folder = tmp_path / name
        folder.mkdir()
        real = RealService(folder, currency="GBP")
        try:
            outcome = run(real, RETAIL, "online_retail", limit=20_000, **options)
        finally:
            real.stop()
        assert outcome.agrees, [c for c in outcome.comparisons if not c.agrees]
        assert real.verify().returncode == 0
        outcomes.append(outcome)
    plain, mixed = outcomes
    assert mixed.counts.duplicates > 0
    assert plain.service["summary"] == mixed.service["summary"]
    assert plain.service["summary"]["orphan_refunds"] > 0
    assert plain.service["summary"]["refunded_orders"] > 0
    assert figures(plain.service["report"]) == figures(mixed.service["report"])

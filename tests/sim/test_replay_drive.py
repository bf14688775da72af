"""Driving a service: idempotent, patient, resumable to the byte, and honest about disagreement."""

import json
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from sim import commands
from sim.replay.client import BODY_LIMIT, Service, batches
from sim.replay.errors import ReplayError, Unreachable
from sim.replay.run import Options, Outcome, replay
from sim.replay.show import as_json
from tests.sim.replay_fake import FakeService

MAPPINGS = Path(__file__).parents[2] / "sim" / "mappings"
MAILS = ("No E-Mail", "Mens E-Mail", "Womens E-Mail")


@pytest.fixture
def csv_file(tmp_path: Path) -> Path:
    """Six hundred made customers of the e-mail test."""
    rng = random.Random(5)
    lines = ["channel,zip_code,newbie,segment,visit,conversion,spend"]
    for _ in range(600):
        visit = rng.random() < 0.3
        buys = visit and rng.random() < 0.3
        spend = f"{rng.uniform(5, 99):.2f}" if buys else "0"
        lines.append(f"Web,Rural,{rng.randrange(2)},{rng.choice(MAILS)},{visit:d},{buys:d},{spend}")
    path = tmp_path / "made.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def run(
    fake: FakeService, csv_file: Path, name: str = "hillstrom", *, patience_s: float = 5.0, **options: Any
) -> Outcome:
    """A replay over four days instead of the mapping's thirty-two."""
    mapping = yaml.safe_load((MAPPINGS / f"{name}.yaml").read_text(encoding="utf-8"))
    mapping["clock"]["days"] = 4
    path = csv_file.with_name(f"{name}.yaml")
    path.write_text(yaml.safe_dump(mapping), encoding="utf-8")
    with Service(
        "http://test", "sk_x", patience_s=patience_s, transport=fake.transport, sleep=_no_sleep
    ) as service:
        return replay(service, csv_file, path, Options(**options), _quiet)


def _no_sleep(_: float) -> None:
    return None


def _quiet(task: str, total: int) -> Callable[[int], None]:
    assert task
    assert total > 0
    return lambda _: None


def test_a_forced_replay_agrees_and_a_second_one_changes_nothing(csv_file: Path) -> None:
    fake = FakeService()
    first = run(fake, csv_file)
    before = (dict(fake.assignments), dict(fake.events))
    second = run(fake, csv_file)
    assert first.agrees
    assert second.agrees
    assert (fake.assignments, fake.events) == before
    assert second.counts.accepted == 0
    assert second.counts.duplicates == first.counts.accepted == len(fake.events)
    assert first.comparisons == second.comparisons


def test_each_customer_gets_the_logged_variant_with_its_propensity(csv_file: Path) -> None:
    fake = FakeService()
    run(fake, csv_file)
    lines = csv_file.read_text(encoding="utf-8").splitlines()[1:]
    variants = dict(zip(MAILS, ("none", "mens", "womens"), strict=True))
    for number, line in enumerate(lines, 1):
        found = fake.assignments[f"hillstrom-email/customer-{number}"]
        assert found["variant"] == variants[line.split(",")[3]]
        assert found["propensity"] == pytest.approx(1 / 3)
        assert found["context"]["channel"] == "Web"


def test_a_shuffled_replay_with_duplicates_ends_the_same(csv_file: Path) -> None:
    plain, mixed, other = FakeService(), FakeService(), FakeService()
    run(plain, csv_file)
    outcome = run(mixed, csv_file, shuffle=7, duplicates=0.2)
    run(other, csv_file, shuffle=8)
    assert outcome.agrees
    assert outcome.counts.duplicates > 0
    assert mixed.assignments == plain.assignments
    assert mixed.events == plain.events
    assert mixed.arrivals != plain.arrivals
    assert other.arrivals != mixed.arrivals
    kinds = [arrival.split()[0] for arrival in mixed.arrivals]
    assert kinds.index("event") < 599 - kinds[::-1].index("assign"), "events come between assignments"


def test_busy_and_lost_answers_are_tried_again(csv_file: Path) -> None:
    plain, shaky = FakeService(), FakeService()
    run(plain, csv_file)
    shaky.fail = {3: "busy", 5: "lost", 8: "lost", 12: "busy", 20: "lost"}
    assert run(shaky, csv_file).agrees
    assert shaky.assignments == plain.assignments
    assert shaky.events == plain.events


def test_patience_ends(csv_file: Path) -> None:
    fake = FakeService()
    fake.fail = dict.fromkeys(range(4, 10_000), "busy")
    with pytest.raises(Unreachable, match=r"within 0\.5 s"):
        run(fake, csv_file, patience_s=0.5)


def test_a_store_on_the_machines_clock_takes_the_past(csv_file: Path) -> None:
    assert run(FakeService(is_simulated=False), csv_file).agrees


def test_a_store_on_the_machines_clock_refuses_the_future(csv_file: Path, tmp_path: Path) -> None:
    mapping = yaml.safe_load((MAPPINGS / "hillstrom.yaml").read_text(encoding="utf-8"))
    mapping["clock"]["start"] = "2900-01-01T00:00:00Z"
    path = tmp_path / "later.yaml"
    path.write_text(yaml.safe_dump(mapping), encoding="utf-8")
    fake = FakeService(is_simulated=False)
    with (
        Service("http://test", "k", transport=fake.transport) as service,
        pytest.raises(ReplayError, match="ahead of the service's clock"),
    ):
        replay(service, csv_file, path, Options(), _quiet)


def test_a_lost_event_is_noticed(csv_file: Path) -> None:
    """The planted fault: a service that forgets one visit must not pass."""
    fake = FakeService()
    run(fake, csv_file)
    fake.events.pop(next(key for key, event in fake.events.items() if event.get("name") == "visit"))
    fake._events = lambda events: {"accepted": 0, "duplicates": len(events), "rejected": []}  # pyright: ignore
    outcome = run(fake, csv_file)
    assert not outcome.agrees
    assert [c.metric for c in outcome.comparisons if not c.agrees] == ["visit_rate"]


def test_another_variant_than_the_files_is_noticed(csv_file: Path) -> None:
    fake = FakeService()
    run(fake, csv_file)
    decision = fake.assignments["hillstrom-email/customer-1"]
    decision["variant"] = "mens" if decision["variant"] == "none" else "none"
    outcome = run(fake, csv_file)
    assert not outcome.agrees
    assert outcome.counts.rejected == 1
    assert "customer-1: already assigned" in outcome.counts.problems[0]


def test_a_rejection_replay_keeps_the_rows_that_agree(csv_file: Path) -> None:
    fake = FakeService()
    outcome = run(fake, csv_file, "hillstrom_thompson")
    assert outcome.agrees
    kept = len(fake.assignments)
    # The fake's choice is uniform over three: a third of 600 agrees, within 5 standard errors.
    assert abs(kept - 200) < 5 * (600 * 2 / 9) ** 0.5
    assert outcome.progress.assigned == kept == len(outcome.progress.kept)
    assert {found["propensity"] for found in fake.assignments.values()} == {0.25}
    units = {event["unit_id"] for event in fake.events.values()}
    assert units <= {name.split("/")[1] for name in fake.assignments}
    assert len(as_json(outcome)["shares_by_day"]) == 4
    assert sum(sum(day.values()) for day in outcome.progress.offered.values()) == 600


@pytest.mark.parametrize("killed_at", [3, 4, 40, 41, 42, 111, 200])
def test_a_killed_rejection_replay_goes_on_exactly(csv_file: Path, tmp_path: Path, killed_at: int) -> None:
    whole = FakeService()
    expected = run(whole, csv_file, "hillstrom_thompson")
    assert killed_at < whole.requests, "the kill must come in the middle"
    cut = FakeService()
    cut.fail = {killed_at: "killed"}
    checkpoint = tmp_path / "checkpoint.json"
    with pytest.raises(KeyboardInterrupt):
        run(cut, csv_file, "hillstrom_thompson", checkpoint=checkpoint)
    resumed = run(cut, csv_file, "hillstrom_thompson", checkpoint=checkpoint)
    assert cut.assignments == whole.assignments
    assert cut.events == whole.events
    assert resumed.progress.kept == expected.progress.kept
    assert resumed.progress.offered == expected.progress.offered
    assert resumed.agrees
    assert cut.now == whole.now


def test_a_finished_rejection_replay_is_not_repeated(csv_file: Path, tmp_path: Path) -> None:
    fake = FakeService()
    run(fake, csv_file, "hillstrom_thompson", checkpoint=tmp_path / "c.json")
    requests, arrivals = fake.requests, len(fake.arrivals)
    assert run(fake, csv_file, "hillstrom_thompson", checkpoint=tmp_path / "c.json").agrees
    assert fake.requests <= requests + 3
    assert len(fake.arrivals) == arrivals
    with pytest.raises(ReplayError, match="already past"):
        run(fake, csv_file, "hillstrom_thompson")


def test_a_killed_forced_replay_goes_on_from_its_checkpoint(csv_file: Path, tmp_path: Path) -> None:
    whole, cut = FakeService(), FakeService()
    run(whole, csv_file)
    cut.fail = {10: "killed"}
    with pytest.raises(KeyboardInterrupt):
        run(cut, csv_file, checkpoint=tmp_path / "c.json")
    before = Counter(cut.arrivals)
    outcome = run(cut, csv_file, checkpoint=tmp_path / "c.json")
    assert outcome.agrees
    assert cut.assignments == whole.assignments
    assert cut.events == whole.events
    repeated = [arrival for arrival, n in Counter(cut.arrivals).items() if n > 1]
    assert len(repeated) < len(before) / 2, "at most one step is sent again"


def test_a_checkpoint_of_another_run_is_refused(csv_file: Path, tmp_path: Path) -> None:
    checkpoint = tmp_path / "c.json"
    run(FakeService(), csv_file, checkpoint=checkpoint)
    with pytest.raises(ReplayError, match="belongs to another"):
        run(FakeService(), csv_file, checkpoint=checkpoint, limit=10)
    checkpoint.write_text("{", encoding="utf-8")
    with pytest.raises(ReplayError, match="is not a checkpoint"):
        run(FakeService(), csv_file, checkpoint=checkpoint)


def test_a_rejection_replay_needs_a_simulated_store(csv_file: Path) -> None:
    with pytest.raises(ReplayError, match="init --simulated"):
        run(FakeService(is_simulated=False), csv_file, "hillstrom_thompson")


def test_shuffling_what_the_service_chooses_is_refused(csv_file: Path) -> None:
    with pytest.raises(ReplayError, match="--shuffle and --duplicates"):
        run(FakeService(), csv_file, "hillstrom_thompson", shuffle=1)


def test_events_that_name_their_decision_find_it_even_when_shuffled(tmp_path: Path) -> None:
    mapping = {
        "mode": "forced",
        "clock": {"start": "2024-01-01T00:00:00Z", "days": 2},
        "unit": {"row": "u"},
        "variant": {"column": "mail", "keys": {"A": "none", "B": "mail"}},
        "propensity": 0.5,
        "events": [{"type": "exposure"}, {"type": "click", "when": "click == 1", "after": "1m"}],
        "experiment": yaml.safe_load((MAPPINGS / "online_retail.yaml").read_text(encoding="utf-8"))[
            "experiment"
        ],
    }
    mapping["experiment"].update(
        key="mail",
        policy={"kind": "fixed"},
        variants=[
            {"key": "none", "is_control": True, "offer": {"kind": "none"}},
            {"key": "mail", "offer": {"kind": "upsell", "sku": "M"}},
        ],
    )
    (tmp_path / "map.yaml").write_text(yaml.safe_dump(mapping), encoding="utf-8")
    lines = [f"{'AB'[n % 2]},{n % 3 == 0:d}" for n in range(1500)]
    (tmp_path / "clicks.csv").write_text("\n".join(["mail,click", *lines]), encoding="utf-8")
    fake = FakeService()
    with Service("http://test", "k", transport=fake.transport) as service:
        replay(service, tmp_path / "clicks.csv", tmp_path / "map.yaml", Options(shuffle=3), _quiet)
    assert len(fake.events) == 2000
    for event in fake.events.values():
        assert event["decision_id"] == f"d:mail/{event['unit_id']}"


def test_batches_fit_one_request() -> None:
    small = [{"n": n} for n in range(2500)]
    assert [len(batch) for batch in batches(small)] == [1000, 1000, 500]
    large = [{"text": "é" * 1000} for _ in range(1000)]
    sizes = [len(json.dumps(batch, ensure_ascii=False).encode()) for batch in batches(large)]
    assert max(sizes) <= BODY_LIMIT * 1.01
    assert sum(len(batch) for batch in batches(large)) == 1000


def test_the_command_prints_both_sides_and_its_exit_code_says_whether_they_agree(
    csv_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = FakeService()

    def connected(url: str, key: str, *, patience_s: float) -> Service:
        assert (url, key) == ("http://127.0.0.1:8000", "sk_x")
        return Service(url, key, patience_s=patience_s, transport=fake.transport)

    monkeypatch.setattr(commands, "Service", connected)
    arguments = [str(csv_file), "--mapping", str(MAPPINGS / "hillstrom.yaml"), "--key", "sk_x"]
    shown = CliRunner().invoke(commands.replay, arguments)
    assert shown.exit_code == 0
    assert "The file and the service agree" in shown.output
    printed = CliRunner().invoke(commands.replay, [*arguments, "--json"])
    both = json.loads(printed.stdout)
    assert both["agrees"] is True
    assert both["file"]["variants"]["mens"]["units"] == both["service"]["report"]["variants"][1]["assigned"]
    fake.assignments.popitem()
    fake._assign = lambda ask: {**ask, "decision_id": "x", "reason": "sticky"}  # pyright: ignore
    differs = CliRunner().invoke(commands.replay, arguments)
    assert differs.exit_code == 1
    assert "do NOT agree" in differs.output


@pytest.mark.parametrize(
    ("mapping", "code", "message"),
    [
        ("mode: [", 2, "is not YAML"),
        ("mode: forced", 2, "the mapping cannot be used"),
        (None, 1, "no column"),
    ],
)
def test_errors_are_one_readable_line(
    tmp_path: Path, csv_file: Path, mapping: str | None, code: int, message: str
) -> None:
    path = MAPPINGS / "online_retail.yaml"
    if mapping is not None:
        path = tmp_path / "map.yaml"
        path.write_text(mapping, encoding="utf-8")
    done = CliRunner().invoke(commands.replay, [str(csv_file), "--mapping", str(path), "--key", "k"])
    assert done.exit_code == code
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert message in lines[0]
    assert "Traceback" not in done.output


def test_a_service_that_is_not_there_is_one_readable_line(csv_file: Path) -> None:
    arguments = ["--mapping", str(MAPPINGS / "hillstrom.yaml"), "--key", "k", "--patience", "0.2"]
    done = CliRunner().invoke(commands.replay, [str(csv_file), *arguments, "--url", "http://127.0.0.1:9"])
    assert done.exit_code == 1
    assert "error: POST /v1/clock got no answer from http://127.0.0.1:9" in done.stderr


def test_progress_is_plain_data(csv_file: Path) -> None:
    outcome = run(FakeService(), csv_file, limit=50)
    assert json.loads(json.dumps(asdict(outcome.progress)))["assigned"] == 50

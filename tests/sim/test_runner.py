"""A run: the same bytes from every executor, whatever is killed, and a valid part of it on Ctrl-C."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from experiments.model import PolicyKind, PolicySettings
from sim.runner.command import run_command
from sim.runner.errors import LostWorkers, NotSimulated, UnknownExecutor
from sim.runner.executors import Processes, Serial, executor_of
from sim.runner.files import write
from sim.runner.finding import find_scenario
from sim.runner.outcome import Replication
from sim.runner.replication import replicate
from sim.runner.run import run
from sim.runner.settings import RunSettings
from sim.worlds.scenarios import scenario

SETTINGS = RunSettings(replace(scenario("healthy"), days=9), seed=3, replications=4, customers=1800)


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def equal(one: Replication, other: Replication) -> bool:
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in Replication.__slots__)


@pytest.fixture(scope="module")
def serial(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("serial")
    write(run(SETTINGS, Serial()), folder)
    return folder


def test_a_replication_is_a_function_of_seed_and_number() -> None:
    one, again = replicate(SETTINGS, 1), replicate(SETTINGS, 1)
    assert equal(one, again)
    assert not equal(one, replicate(SETTINGS, 2))
    assert not equal(one, replicate(replace(SETTINGS, seed=4), 1))


def test_two_policies_meet_the_same_customers() -> None:
    found = SETTINGS.scenario
    fixed = replace(
        found,
        experiment=replace(found.experiment, policy=replace(found.experiment.policy, kind=PolicyKind.FIXED)),
    )
    one, other = replicate(SETTINGS, 0), replicate(replace(SETTINGS, scenario=fixed), 0)
    assert np.array_equal(one.customers, other.customers)
    assert np.array_equal(one.if_all_minor, other.if_all_minor)
    assert not np.array_equal(one.assigned, other.assigned)


def test_processes_give_the_same_bytes(serial: Path, tmp_path: Path) -> None:
    write(run(SETTINGS, Processes(2)), tmp_path)
    assert bytes_of(tmp_path) == bytes_of(serial)


def dies_once(settings: tuple[Path, RunSettings], number: int) -> Replication:
    """`replicate`, but the process of replication 2 is killed the first time."""
    marker, wanted = settings
    if number == 2 and not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return replicate(wanted, number)


def always_dies(settings: object, number: int) -> Replication:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def test_a_killed_process_loses_no_replication(serial: Path, tmp_path: Path) -> None:
    found = Processes(2).run(dies_once, (tmp_path / "died", SETTINGS), range(4))
    results = {one.number: one for one in found}
    assert (tmp_path / "died").exists()
    assert sorted(results) == [0, 1, 2, 3]
    assert all(equal(one, replicate(SETTINGS, number)) for number, one in results.items())


def test_a_pool_that_always_dies_is_given_up_with_the_remedy() -> None:
    with pytest.raises(LostWorkers, match="memory is short"):
        list(Processes(1).run(always_dies, None, [0]))


def test_dask_gives_the_same_bytes_though_a_worker_is_killed(serial: Path, tmp_path: Path) -> None:
    from distributed import Client, LocalCluster

    with LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, host="127.0.0.1"
    ) as found:
        address = found.scheduler_address.removeprefix("tcp://")
        executor = executor_of(f"dask://{address}")
        ticks: list[float] = []

        def tick(done: int) -> None:
            ticks.append(time.monotonic())
            if len(ticks) == 1:
                with Client(found.scheduler_address) as client:
                    pids = client.run(os.getpid)
                os.kill(sorted(pids.values())[0], signal.SIGKILL)

        write(run(SETTINGS, executor, tick), tmp_path)
    assert len(ticks) == SETTINGS.replications
    assert bytes_of(tmp_path) == bytes_of(serial)


def test_ctrl_c_leaves_what_has_come(tmp_path: Path, serial: Path) -> None:
    class Interrupted(Serial):
        def run(self, job, settings, numbers):  # type: ignore[no-untyped-def]
            for count, one in enumerate(super().run(job, settings, numbers)):
                if count == 2:
                    raise KeyboardInterrupt
                yield one

    found = run(SETTINGS, Interrupted())
    assert not found.is_complete
    write(found, tmp_path)
    document = json.loads((tmp_path / "run.json").read_text())
    assert document["complete"] is False
    assert document["summary"]["replications"] == 2
    part = pq.read_table(tmp_path / "days.parquet")
    whole = pq.read_table(serial / "days.parquet")
    assert part.equals(whole.slice(0, len(part)))


def sleeps(folder: Path, number: int) -> int:
    """Number 0 is done at once; all others say who they are, and sleep for longer than any test."""
    if number:
        (folder / str(os.getpid())).touch()
        time.sleep(3600)
    return number


def test_what_is_running_is_not_waited_for_when_a_run_ends_early(tmp_path: Path) -> None:
    found = Processes(2).run(sleeps, tmp_path, [0, 1, 2])
    assert next(found) == 0
    while not list(tmp_path.iterdir()):
        time.sleep(0.05)
    pid = int(next(tmp_path.iterdir()).name)
    found.close()  # type: ignore[attr-defined]
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_an_interrupted_command_writes_and_says_so(tmp_path: Path) -> None:
    """Ctrl-C in the terminal: the whole group gets the signal, the workers leave it to the parent."""
    out = tmp_path / "out"
    command = [sys.executable, "-c", "from service.entry import main; main()", "sim", "run", "healthy"]
    options = ["--days", "9", "--customers", "1800", "--replications", "500", "--executor", "processes:2"]
    screen, stderr = pty.openpty()  # the bar shows on a terminal alone
    with subprocess.Popen(
        [*command, *options, "--out", str(out)], stdout=subprocess.PIPE, stderr=stderr, start_new_session=True
    ) as process:
        os.close(stderr)
        seen = b""
        while b"2/500" not in seen:
            seen += os.read(screen, 4096)
        os.killpg(process.pid, signal.SIGINT)
        told, _ = process.communicate(timeout=120)
    os.close(screen)
    assert process.returncode == 130
    assert b"interrupted" in told
    document = json.loads((out / "run.json").read_text())
    assert document["complete"] is False
    assert document["summary"]["replications"] >= 2


def test_a_run_says_seed_commit_and_settings(serial: Path) -> None:
    document = json.loads((serial / "run.json").read_text())
    assert document["settings"]["seed"] == 3
    assert document["settings"]["policy"] == "thompson"
    assert document["rialto"].keys() == {"version", "commit"}
    assert document["complete"] is True
    days = pq.read_table(serial / "days.parquet").to_pydict()
    assert len(days["day"]) == 4 * 9 * len(SETTINGS.scenario.world.effects)
    assert sum(days["assigned"]) == sum(
        pq.read_table(serial / "replications.parquet")["customers"].to_pylist()
    )


def test_what_cannot_be_run_is_refused_by_name() -> None:
    found = SETTINGS.scenario
    policy = replace(found.experiment.policy, kind=PolicyKind.CONTEXTUAL)
    contextual = replace(found, experiment=replace(found.experiment, policy=policy))
    with pytest.raises(NotSimulated, match="contextual"):
        run(replace(SETTINGS, scenario=contextual), Serial())
    for name in ("threads", "processes:0", "processes:x", "dask://"):
        with pytest.raises(UnknownExecutor, match=r"dask://HOST:PORT"):
            executor_of(name)


def test_the_command_names_the_fault_and_the_remedy(tmp_path: Path) -> None:
    runner = CliRunner()
    found = runner.invoke(run_command, ["nowhere"])
    assert found.exit_code == 2
    assert "healthy" in found.output
    path = tmp_path / "own.yaml"
    for text, told in (
        ("[]", "a mapping"),
        ("days: 3", "missing: experiment, world"),
        ("x: 1", "unknown: x"),
    ):
        path.write_text(text)
        found = runner.invoke(run_command, [str(path)])
        assert found.exit_code == 2
        assert told in found.output


def test_steps_of_six_hours_and_a_step_longer_than_a_day() -> None:
    quick = replace(SETTINGS.scenario.experiment, attribution_window=timedelta(hours=3))
    settings = replace(SETTINGS, scenario=replace(SETTINGS.scenario, experiment=quick), customers=9000)
    often = replicate(replace(settings, cadence=timedelta(hours=6)), 0)
    seldom = replicate(replace(settings, cadence=timedelta(hours=36)), 0)
    assert np.array_equal(often.customers, seldom.customers)
    changes = [len(np.unique(one.shares[:, 1])) for one in (often, seldom)]
    assert changes[0] > changes[1] >= 2


@pytest.mark.parametrize(("days", "looks"), [(4, 96), (5, 120), (6, 24), (90, 90), (365, 52)])
def test_an_experiment_without_a_cadence_is_looked_at_a_hundred_times(days: int, looks: int) -> None:
    found = SETTINGS.scenario
    policy = PolicySettings(found.experiment.policy.kind)
    plain = replace(found, days=days, experiment=replace(found.experiment, policy=policy))
    settings = RunSettings(plain)
    assert sum(len(settings.steps(day)) for day in range(days)) == looks
    assert replace(settings, cadence=timedelta(minutes=1)).step() == timedelta(minutes=1)
    written = replace(plain.experiment, policy=replace(policy, cadence=timedelta(minutes=5)))
    assert RunSettings(replace(plain, experiment=written)).step() == timedelta(minutes=5)


def test_an_own_scenario_is_read_from_a_file(tmp_path: Path) -> None:
    from sim.worlds.document import to_document

    path = tmp_path / "mine.json"
    world = to_document(SETTINGS.scenario.world)
    document = {
        "key": "mine",
        "touchpoint": world["touchpoint"],
        "variants": [
            {"key": v.key, "is_control": v.is_control, "offer": _offer(v.offer)}
            for v in SETTINGS.scenario.experiment.variants
        ],
        "policy": {"kind": "thompson", "cadence": "1d"},
    }
    path.write_text(json.dumps({"world": world, "experiment": document, "days": 9}))
    found = find_scenario(str(path))
    assert found.world == SETTINGS.scenario.world
    assert run(RunSettings(found, replications=1, customers=500), Serial()).is_complete


def _offer(offer) -> dict:  # type: ignore[no-untyped-def]
    plain = {"kind": offer.kind.value, "sku": offer.sku, "price": offer.price_minor, "cost": offer.cost_minor}
    return {name: value for name, value in plain.items() if value is not None}

"""`rialto dashboard`: what it starts, what it refuses, and that it starts and stops for real."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator

import httpx
import pytest
from click.testing import CliRunner

from dashboard.commands import command_line, dashboard, environment
from tests.dashboard.fake_service import KEY
from tests.dashboard.processes import Running


def test_importing_the_command_does_not_import_streamlit() -> None:
    heavy = "{'streamlit', 'altair', 'pandas'}"
    code = f"import sys, dashboard.commands; sys.exit(bool({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_key_goes_by_environment_never_on_the_command_line() -> None:
    line = command_line("127.0.0.1", 8501, True)
    assert "sk_secret" not in " ".join(line)
    found = environment("http://rialto.test", "sk_secret")
    assert (found["RIALTO_URL"], found["RIALTO_KEY"]) == ("http://rialto.test", "sk_secret")
    assert found["PATH"] == os.environ["PATH"]


def test_headless_decides_whether_a_browser_opens_and_nothing_is_sent_home() -> None:
    for headless in (True, False):
        line = command_line("::1", 8599, headless)
        options = dict(zip(line[5::2], line[6::2], strict=True))
        assert options["--server.headless"] == str(headless).lower()
        assert options["--server.address"] == "::1"
        assert options["--browser.gatherUsageStats"] == "false"


def test_a_taken_port_is_one_readable_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = CliRunner().invoke(dashboard, ["--port", str(port), "--key", "k"])
    assert result.exit_code == 1
    assert result.output.startswith(f"error: cannot listen on 127.0.0.1:{port}")
    assert result.output.count("\n") == 1


@pytest.mark.parametrize("arguments", [["--port", "0"], ["--port", "99999"], ["--nonsense"]])
def test_wrong_usage_exits_with_2(arguments) -> None:
    assert CliRunner().invoke(dashboard, arguments).exit_code == 2


def test_help_names_every_option() -> None:
    told = CliRunner().invoke(dashboard, ["--help"]).output
    for option in ("--url", "--key", "--host", "--port", "--headless", "RIALTO_KEY"):
        assert option in told


@pytest.fixture
def running(fake) -> Iterator[Running]:
    process = Running(fake.url, KEY)
    yield process
    process.stop()


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_it_starts_and_stops_cleanly_on_a_signal(running, how) -> None:
    assert running.stop(how) == 0
    with pytest.raises(httpx.ConnectError):
        httpx.get(running.url, timeout=1)

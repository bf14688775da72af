"""`rialto dashboard`: starts the dashboard in this process's place.

Streamlit is never imported here, so that `rialto --help` stays quick and an installation without
the `dashboard` extra works.
"""

import importlib.util
import os
import socket
import sys
from pathlib import Path
from typing import NoReturn

import click

_LOOPBACK = ("127.0.0.1", "localhost", "::1")


@click.command(short_help="Open the dashboard.")
@click.option(
    "--url", envvar="RIALTO_URL", default="http://127.0.0.1:8000", show_default=True, help="The service."
)
@click.option(
    "--key", envvar="RIALTO_KEY", default="", help="A secret key with scope read. [env: RIALTO_KEY]"
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", default=8501, show_default=True, type=click.IntRange(1, 65535), help="Port to listen on."
)
@click.option("--headless", is_flag=True, help="Do not open a browser.")
def dashboard(url: str, key: str, host: str, port: int, headless: bool) -> None:
    """Show the experiments of a running service in the browser.

    Whoever can open the dashboard can read the store's figures: leave it on the loopback address, or put
    your own login in front of it.
    """
    if importlib.util.find_spec("streamlit") is None:
        _fail("the dashboard is not installed: pip install 'rialto[dashboard]'")
    _require_free(host, port)
    if host not in _LOOPBACK:
        click.echo(f"warning: everyone who can reach {host}:{port} can read this store's figures", err=True)
    click.echo(f"dashboard: http://{host}:{port} (service: {url})", err=True)
    sys.stderr.flush()
    # Replacing the process makes Streamlit the one that signals reach and whose exit code counts.
    os.execve(sys.executable, command_line(host, port, headless), environment(url, key))


def command_line(host: str, port: int, headless: bool) -> list[str]:
    """The command that runs Streamlit on the dashboard, settings included: no file is read for them."""
    settings = {
        "server.address": host,
        "server.port": str(port),
        "server.headless": "true" if headless else "false",
        "server.showEmailPrompt": "false",
        "server.fileWatcherType": "none",
        "browser.gatherUsageStats": "false",
        "client.toolbarMode": "viewer",
        "client.showErrorDetails": "none",
        "theme.base": "light",
        "theme.primaryColor": "#0072B2",
    }
    script = Path(__file__).with_name("app.py")
    options = [part for name, value in settings.items() for part in (f"--{name}", value)]
    return [sys.executable, "-m", "streamlit", "run", str(script), *options]


def environment(url: str, key: str) -> dict[str, str]:
    """The environment of this process with address and key: a command line would show the key to others."""
    return {**os.environ, "RIALTO_URL": url, "RIALTO_KEY": key}


def _require_free(host: str, port: int) -> None:
    """One readable line when the port is taken, before Streamlit says it in ten."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        _fail(f"cannot listen on {host}:{port} ({error.strerror}): choose another with --host or --port")


def _fail(message: str) -> NoReturn:
    click.echo(f"error: {message}", err=True)
    raise SystemExit(1)

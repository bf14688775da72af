"""`rialto demo`: service, dashboard and a simulated shop with live traffic, on one command."""

import itertools
import shutil
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import click
from rich.console import Console
from rich.progress import track

from sim.demo_page.server import ShopServer
from sim.demo_processes import HOST, Child, DemoFailed, check_ports, error_line, free_port, run_rialto
from sim.demo_report import print_report, shares_line
from sim.demo_run import START, Running, Setting, drive, running
from sim.demo_signals import Stop
from sim.shop.api import ServiceRefused
from sim.shop.truth import truth

LIVE_STEP, LIVE_PER_DAY, LIVE_DAY_S = timedelta(hours=1), 1200.0, 5.0
ONCE_STEP, ONCE_PER_DAY, ONCE_DAYS = timedelta(hours=6), 800.0, 20
REPORT_WIDTH = 150


@click.command()
@click.option("--once", is_flag=True, help=f"Simulate {ONCE_DAYS} days, print the report, verify, exit.")
@click.option("--seconds", type=click.FloatRange(min=0), help="Stop after so many seconds of traffic.")
@click.option("--port", type=click.IntRange(1, 65535), help="Port of the service [8000; --once: a free one].")
@click.option("--dashboard-port", type=click.IntRange(1, 65535), default=8501, show_default=True)
@click.option("--shop-port", type=click.IntRange(1, 65535), default=8600, show_default=True)
@click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    help="Keep the database and the logs in this directory [a temporary one, removed at the end].",
)
@click.option(
    "--seed", type=click.IntRange(min=0), default=1, show_default=True, help="Seed of the shoppers."
)
def demo(
    *,
    once: bool,
    seconds: float | None,
    port: int | None,
    dashboard_port: int,
    shop_port: int,
    data: Path | None,
    seed: int,
) -> None:
    """Run Rialto with a simulated shop: a day of traffic every few seconds, until Ctrl-C.

    Starts the service on a fresh SQLite store, the dashboard and the shop's checkout page, and prints
    where they are. Shoppers see no offer, an upsell, a cross-sell or a bundle at checkout; one of the
    offers is good, one earns less than it seems to, one makes no difference.
    """
    stop = Stop()
    try:
        with stop.listening(), _folder(data) as folder:
            if once:
                _once(Setting(folder, port or free_port(), seed, ONCE_STEP, ONCE_PER_DAY, stop), seconds)
            else:
                setting = Setting(folder, port or 8000, seed, LIVE_STEP, LIVE_PER_DAY, stop)
                _live(setting, dashboard_port, shop_port, seconds, keep=data is not None)
    except (DemoFailed, ServiceRefused) as error:
        click.echo(f"error: {error}", err=True)
        raise SystemExit(1) from error
    except KeyboardInterrupt:
        click.echo("stopped at once", err=True)


def _once(setting: Setting, seconds: float | None) -> None:
    """A bounded run: traffic, report, and an exact rebuild of every sum from the ledger."""
    check_ports({"--port": setting.port})
    with running(setting) as run:
        days = itertools.islice(drive(run, day_s=0.0, seconds=seconds), ONCE_DAYS)
        for _ in track(days, "simulating", total=ONCE_DAYS, console=Console(stderr=True)):
            run.check()
        if setting.stop.is_asked:
            click.echo("stopped")
            return
        print_report(Console(width=REPORT_WIDTH), run.report(), truth(run.shop))
    verified = run_rialto("verify", "--database", setting.database)
    if verified.returncode != 0:
        raise DemoFailed(f"verify: {error_line(verified)}")
    click.echo("verify: every sum, rebuilt from the ledger, is equal")


def _live(
    setting: Setting, dashboard_port: int, shop_port: int, seconds: float | None, *, keep: bool
) -> None:
    """Traffic until a signal, or for so many seconds."""
    check_ports({"--port": setting.port, "--dashboard-port": dashboard_port, "--shop-port": shop_port})
    with running(setting) as run:
        if not setting.stop.is_asked:
            with _shop_page(run, shop_port) as page_url:
                run.children.append(_dashboard(run, dashboard_port))
                _print_places(run, dashboard_port, page_url, keep=keep)
                _watch(run, seconds)
    click.echo("stopped")


def _watch(run: Running, seconds: float | None) -> None:
    """One line for every simulated day."""
    visitors = 0
    for arrived in drive(run, day_s=LIVE_DAY_S, seconds=seconds):
        visitors += arrived
        day = (run.traffic.now - START).days
        click.echo(f"day {day:3}  {visitors:7} visitors   {shares_line(run.policy())}")
        for child in run.check():
            click.echo(f"warning: the {child.name} stopped: {child.last_words()}", err=True)


@contextmanager
def _shop_page(run: Running, port: int) -> Generator[str]:
    """The shop's page, allowed by the store to ask; yields its address."""
    page = ShopServer(run.api, run.shop, run.document, publishable_key=run.publishable_key, port=port)
    try:
        page.start()
        run.api.change_store({"origins": [page.url, page.url.replace(HOST, "localhost")]})
        yield page.url
    finally:
        page.stop()


def _dashboard(run: Running, port: int) -> Child:
    arguments = ["dashboard", "--url", run.setting.url, "--host", HOST, "--port", str(port), "--headless"]
    # The key goes by the environment: a command line can be read by every user of the machine.
    return Child("dashboard", arguments, run.setting.folder, {"RIALTO_KEY": run.secret_key})


def _print_places(run: Running, dashboard_port: int, page_url: str, *, keep: bool) -> None:
    places = {
        "dashboard": f"http://{HOST}:{dashboard_port}   (ready in a few seconds)",
        "shop page": page_url,
        "service": run.setting.url,
        "schema": f"{run.setting.url}/schema",
        "publishable key": run.publishable_key,
        "secret key": run.secret_key,
        "data": str(run.setting.folder) + ("" if keep else "   (removed at the end)"),
    }
    click.echo(f"Rialto demo: a simulated shop, one day every {LIVE_DAY_S:.0f} seconds. Ctrl-C stops it.\n")
    for name, place in places.items():
        click.echo(f"  {name:<17}{place}")
    click.echo("")


@contextmanager
def _folder(data: Path | None) -> Generator[Path]:
    """The directory given, or a temporary one that is removed at the end."""
    if data is not None:
        data.mkdir(parents=True, exist_ok=True)
        yield data
        return
    made = Path(tempfile.mkdtemp(prefix="rialto-demo-"))
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)

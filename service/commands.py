"""The subcommands of `rialto` that open a ledger, serve it or talk to the service."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from experiments.allocation.hashing import seeded_secret
from service import settings as environment
from service.console import fail, on_stderr, opened, readable_database, usage
from service.keys import DEFAULT_SCOPES, Scope
from service.ledger.database import shown
from service.settings import ClockKind, Settings
from service.store_settings import currency_fault, time_zone_fault
from service.stores import NewStore, create_store

Command = TypeVar("Command", bound=Callable[..., Any])

database_option = click.option(
    "--database",
    "database_url",
    default=environment.database_url,
    show_default="RIALTO_DATABASE, else sqlite:///rialto.db",
    metavar="URL",
    help="The ledger.",
)


@click.command()
@database_option
@click.option("--simulated", is_flag=True, help="A store whose time may be set by POST /v1/clock.")
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    help="With --simulated: who gets what is the same in every store of this seed.",
)
@click.option(
    "--time-zone", default="UTC", show_default=True, help="IANA name; where the store's days begin."
)
@click.option("--currency", default="EUR", show_default=True, help="ISO 4217 code.")
@click.option(
    "--scopes",
    default=",".join(DEFAULT_SCOPES),
    show_default=True,
    help=f"Of the secret key, of: {','.join(Scope)}.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def init(
    database_url: str,
    simulated: bool,
    seed: int | None,
    time_zone: str,
    currency: str,
    scopes: str,
    as_json: bool,
) -> None:
    """Create the ledger, or another store in it, and print the store's first keys once."""
    if seed is not None and not simulated:
        usage("--seed is for --simulated: whoever knows it can tell what every customer will be shown")
    if fault := time_zone_fault(time_zone, "--time-zone"):
        usage(f"--time-zone {time_zone}: {fault.remedy}")
    if fault := currency_fault(currency, "--currency"):
        usage(f"--currency {currency}: {fault.remedy}")
    wanted = _scopes(scopes)
    with opened(database_url) as database:
        database.migrate()
        with database.write() as connection:
            new = create_store(
                connection,
                time_zone=time_zone,
                currency=currency,
                is_simulated=simulated,
                scopes=wanted,
                now_us=time.time_ns() // 1000,
                secret=None if seed is None else seeded_secret(seed),
            )
    if as_json:
        keys = {
            "store": new.store,
            "publishable_key": new.publishable_key,
            "secret_key": new.secret_key,
        }
        click.echo(json.dumps(keys))
    else:
        _print_keys(new, database_url)


@click.command()
@database_option
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", default=8000, show_default=True, type=click.IntRange(0, 65535), help="Port to listen on."
)
@click.option(
    "--workers",
    default=1,
    show_default=True,
    type=click.IntRange(1, 256),
    help="Processes that share the port; more than one needs PostgreSQL.",
)
@click.option(
    "--clock",
    type=click.Choice([kind.value for kind in ClockKind]),
    default=ClockKind.SYSTEM.value,
    show_default=True,
    help="external: simulated stores take their time from POST /v1/clock.",
)
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="info",
    show_default=True,
    help="What is logged, as JSON lines on stderr.",
)
@click.option(
    "--trusted-proxies",
    default=Settings().trusted_proxies,
    show_default=True,
    metavar="ADDRESSES",
    help="Whose X-Forwarded-For names the client, by commas.",
)
@click.option(
    "--state-dir",
    type=click.Path(file_okay=False),
    metavar="DIRECTORY",
    help="Where the last policy set is kept, to start with while the ledger is away.",
)
@click.option(
    "--otel-endpoint",
    default=environment.otel_endpoint,
    show_default="RIALTO_OTEL_ENDPOINT, else nothing is sent",
    metavar="URL",
    help="Send OpenTelemetry traces and metrics there, OTLP over HTTP.",
)
def serve(host: str, port: int, clock: str, **told: Any) -> None:
    """Serve the API, with the folder and the allocator beside it."""
    # Only this command needs the web framework: the others start without it.
    from service.logs import log_to_stderr
    from service.serving import CannotServe
    from service.serving import serve as serve_until_stopped

    settings = Settings(clock=ClockKind(clock), fold_in_process=True, **told)
    log_to_stderr(settings.log_level)
    with readable_database(settings.database_url):
        try:
            serve_until_stopped(settings, host, port)
        except CannotServe as error:
            fail(str(error))


@click.command()
@database_option
def upgrade(database_url: str) -> None:
    """Bring the ledger's schema to this version's; the service must be stopped."""
    with opened(database_url) as database:
        if not database.exists():
            remedy = f"run `rialto init --database {shown(database_url)}` first"
            fail(f"there is no ledger at {database.name}: {remedy}")
        database.lock_for_serving()
        database.migrate()
    click.echo(f"{database.name}: the schema is current", err=True)


@click.command()
@database_option
@click.option("--full", is_flag=True, help="From the first event on: read the archive too.")
@click.option(
    "--archive",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="DIR",
    help="With --full: a copy of the archive, in place of the one the ledger names.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def verify(database_url: str, full: bool, archive: Path | None, as_json: bool) -> None:
    """Rebuild every stored sum from the ledger's rows and demand exact equality."""
    from dataclasses import asdict

    from rich.progress import Progress

    from service.ledger.verify import verify as verify_ledger

    if archive is not None and not full:
        usage("--archive is read with --full only")
    with opened(database_url) as database:
        database.require_current()
        with Progress(console=on_stderr(), transient=True) as bar:
            tasks: dict[str, Any] = {}

            def progress(what: str, done: int, total: int) -> None:
                if what not in tasks:
                    tasks[what] = bar.add_task(what, total=total)
                bar.update(tasks[what], completed=done, total=total)

            report = verify_ledger(database, progress, full=full, archive=archive)
    if as_json:
        click.echo(json.dumps({**asdict(report), "exact": report.is_exact}))
    else:
        compared = f"{report.units} units, {report.cells} cells, {report.orders} orders"
        waiting = f"{report.pending_units} units and {report.pending_orders} orders wait to be folded"
        for example in report.examples:
            click.echo(f"  {example}")
        if report.sealed_through and not full:
            days = ", ".join(f"{store} through {day}" for store, day in report.sealed_through.items())
            sealed = f"{report.sealed_units} units and {report.sealed_orders} orders with archived events"
            waiting += f"; from the last seal on ({days}): {sealed} stand as sealed, --full folds them too"
        verdict = "exact" if report.is_exact else f"{report.differences} DIFFERENCES"
        click.echo(f"{verdict}: {compared} compared in {report.stores} stores; {waiting}")
    if not report.is_exact:
        fail("the stored sums are not those of the ledger's rows")


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--url", default=environment.service_url, show_default="RIALTO_URL, else http://127.0.0.1:8000")
@click.option("--key", default=environment.api_key, show_default="RIALTO_KEY", help="Secret, scope write.")
@click.option("--start", is_flag=True, help="Start what is still a draft.")
def apply(file: Path, url: str, key: str | None, start: bool) -> None:
    """Create or patch the experiments of a YAML FILE through the running service."""
    from service.applying import CannotApply, apply_file

    if not key:
        usage("no key: give --key sk_... or set RIALTO_KEY")
    try:
        for line in apply_file(file, url, key, start=start):
            click.echo(line)
    except CannotApply as error:
        fail(*error.lines)


def _scopes(text: str) -> list[Scope]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in names if name not in set(Scope)]
    if unknown or not names:
        usage(f"--scopes {text}: choose from {','.join(Scope)}")
    return [Scope(name) for name in names]


def _print_keys(new: NewStore, database_url: str) -> None:
    click.echo(f"store            {new.store}")
    click.echo(f"publishable key  {new.publishable_key}   for browsers: assign and storefront events")
    click.echo(f"secret key       {new.secret_key}   for servers only")
    click.echo("Keep the keys now: they are shown this once, and only their hashes are stored.", err=True)
    click.echo(f"Next: rialto serve --database {shown(database_url)}", err=True)

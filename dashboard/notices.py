"""Calm messages for everything that keeps the page from showing figures, each with the way out."""

import shlex
from dataclasses import dataclass

from dashboard.client import KeyRefused, NotFound, ServiceDown, ServiceError


@dataclass(frozen=True, slots=True)
class Notice:
    """What is the matter, what to do, and the commands that do it."""

    title: str
    advice: str
    commands: tuple[str, ...] = ()
    detail: str = ""


def of_error(error: ServiceError, url: str) -> Notice:
    """The notice for a failed call."""
    if isinstance(error, ServiceDown):
        return _down(url, error)
    if isinstance(error, KeyRefused):
        return _missing_scope(url, error) if error.status == 403 else _refused(url, error)
    if isinstance(error, NotFound):
        return Notice(
            "This experiment is not in the store any more",
            "Choose another one above, or reload the page. The key may belong to another store.",
            detail=error.detail,
        )
    return Notice(
        "The service could not answer",
        f"It runs at {url} but something went wrong there. Its log names the cause; "
        "this page goes on by itself as soon as the service answers.",
        ("rialto verify",),
        error.detail,
    )


def no_key(url: str) -> Notice:
    """The dashboard was started without a key."""
    return Notice(
        "The dashboard needs a key to read the store",
        "Stop it (Ctrl-C) and start it again with a secret key, the one that begins with sk_. "
        "rialto init prints a store's first keys once.",
        (f"rialto dashboard --url {shlex.quote(url)} --key sk_YOUR_KEY",),
    )


def no_experiments() -> Notice:
    """The store is empty."""
    return Notice(
        "No experiment yet",
        "Describe one in a YAML file and apply it, or watch a simulated shop first.",
        ("rialto apply experiment.yaml --start", "rialto demo"),
    )


def not_started(key: str) -> Notice:
    """The experiment is a draft."""
    return Notice(
        "This experiment has not started",
        f"It is a draft: nobody is assigned yet. Start it with POST /v1/experiments/{key}/start, "
        "or apply its file with --start.",
        ("rialto apply experiment.yaml --start",),
    )


def no_data(key: str, touchpoint: str) -> Notice:
    """The experiment runs but nobody was assigned."""
    place = touchpoint or "its touchpoint"
    return Notice(
        "Nobody has been assigned yet",
        f"{key} is ready and waits for the shop to ask for offers at {place}: with rialto.js in the page, "
        "or from your server as below. The figures appear here by themselves.",
        (
            "curl -X POST $RIALTO_URL/v1/assign -H 'Authorization: Bearer pk_YOUR_KEY' "
            f'-d \'{{"touchpoint": "{place}", "unit_id": "visitor-1"}}\'',
        ),
    )


def nothing_selected(window: str, matured: bool, segment: str | None) -> Notice:
    """The filters leave nobody over."""
    if matured:
        return Notice(
            "Nobody's window has closed yet",
            f"With “Matured only” on, a visitor counts once the window ({window}) after the assignment is "
            "over. Wait for it, or switch “Matured only” off to see everyone so far.",
        )
    return Notice(
        "Nobody in this selection",
        f"Nobody of the segment “{segment}” has been assigned yet: choose another one, or all visitors.",
    )


def _down(url: str, error: ServiceError) -> Notice:
    return Notice(
        "The service does not answer",
        f"Nothing answers at {url}. Start the service in a terminal; this page goes on by itself once it is "
        "up. If it runs somewhere else, start the dashboard with its address.",
        ("rialto serve --database sqlite:///rialto.db", "rialto dashboard --url http://HOST:PORT"),
        error.detail,
    )


def _refused(url: str, error: ServiceError) -> Notice:
    return Notice(
        "The service does not accept this key",
        "It is mistyped, revoked, or of another ledger. Stop the dashboard (Ctrl-C) and start it with a "
        "valid secret key (it begins with sk_). A new store with new keys comes from rialto init.",
        (f"rialto dashboard --url {shlex.quote(url)} --key sk_YOUR_KEY",),
        error.detail,
    )


def _missing_scope(url: str, error: ServiceError) -> Notice:
    return Notice(
        "This key may not read reports",
        "The dashboard needs a secret key with the scope “read”; a publishable key (pk_) never has it. "
        "Make one with POST /v1/keys, then start the dashboard again.",
        (f"rialto dashboard --url {shlex.quote(url)} --key sk_YOUR_KEY",),
        error.detail,
    )

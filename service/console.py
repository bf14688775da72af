"""The terminal: progress goes to stderr, so that stdout stays what was asked for."""

from __future__ import annotations

from rich.console import Console


def on_stderr() -> Console:
    """A console that writes to stderr."""
    return Console(stderr=True)

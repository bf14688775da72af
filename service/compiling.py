"""What a process compiles for itself, once it has a use for it."""

from __future__ import annotations

import functools
import logging
import threading

from experiments.allocation.winners import compile_winners

log = logging.getLogger(__name__)


@functools.cache
def compile_beside() -> threading.Thread:
    """Compile the loop of decisions by context in a thread, once a process; till then they take longer."""
    thread = threading.Thread(target=_compile, name="compiling", daemon=True)
    thread.start()
    return thread


def _compile() -> None:
    try:
        compile_winners()
    except Exception:  # decisions are the same without it
        log.exception("decisions by context could not be compiled; they go on as they are")

"""How the demo hears that it should end: Ctrl-C, SIGTERM, a closed terminal."""

import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stop:
    """Set by the first signal; a second one interrupts whatever the demo is waiting for.

    A flag rather than an exception, so that no signal can fall between the start of a process and the
    moment someone knows that it has to be stopped.
    """

    def __init__(self) -> None:
        self._asked = threading.Event()
        self._is_closing = False

    @property
    def is_asked(self) -> bool:
        """Whether the demo should end."""
        return self._asked.is_set()

    def wait(self, seconds: float) -> None:
        """Sleep, unless asked to end."""
        self._asked.wait(seconds)

    @contextmanager
    def listening(self) -> Generator[None]:
        """Hear signals for as long as the context lasts."""
        before = {number: signal.signal(number, self._ask) for number in SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextmanager
    def closing(self) -> Generator[None]:
        """While processes are being stopped no signal may interrupt that."""
        self._is_closing = True
        try:
            yield
        finally:
            self._is_closing = False

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self._asked.is_set() and not self._is_closing:
            raise KeyboardInterrupt
        self._asked.set()

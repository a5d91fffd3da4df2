"""Ctrl-C and SIGTERM: the first asks a run to finish its update, save and leave; a second Ctrl-C leaves at once."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType


class StopNow(BaseException):
    """Raised by the first signal inside a stretch that may be left half done, such as an evaluation."""


class StopRequest:
    """Whether somebody asked the run to stop."""

    def __init__(self) -> None:
        self.asked = False
        self._interruptible = False

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Listen to the two signals; in any thread but the main one, where Python allows no handlers, do nothing."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {kind: signal.signal(kind, self._handle) for kind in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for kind, handler in before.items():
                signal.signal(kind, handler)

    @contextlib.contextmanager
    def interruptible(self) -> Iterator[None]:
        """A stretch that is left at once, by StopNow, when a stop is asked for."""
        if self.asked:
            raise StopNow
        self._interruptible = True
        try:
            yield
        finally:
            self._interruptible = False

    def _handle(self, kind: int, frame: FrameType | None) -> None:
        if self.asked and kind == signal.SIGINT:
            raise KeyboardInterrupt
        self.asked = True
        if self._interruptible:
            self._interruptible = False
            raise StopNow

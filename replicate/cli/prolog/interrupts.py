"""Stop a goal, and nothing else, by Ctrl-C or when its time is up."""

from __future__ import annotations

import _thread
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

__all__ = ["Interrupts", "TimeIsUp"]


class TimeIsUp(Exception):
    """Stop a goal that has taken its time."""


class Interrupts:
    """Raise `KeyboardInterrupt` or `TimeIsUp` inside `running` blocks only; for the main thread.

    Elsewhere, Ctrl-C waits for the next such block, unless it's forgotten; with `leave` it does what it did before.
    """

    def __init__(self, *, leave: bool) -> None:
        self._leave = leave
        self._inside = False
        self._due = False
        self._waiting = False
        self._before: Any = signal.SIG_DFL

    def __enter__(self) -> Interrupts:
        self._before = signal.signal(signal.SIGINT, self._handle)
        return self

    def __exit__(self, *exc_info: object) -> None:
        signal.signal(signal.SIGINT, self._before)

    @contextmanager
    def running(self, seconds: float | None = None) -> Iterator[None]:
        """Let what runs here be stopped, and stop it after some seconds."""
        # The clock is a thread's, since setitimer isn't everywhere; like Ctrl-C it makes the main thread run the handler,
        # where nothing can come in between.
        clock = None if seconds is None else threading.Timer(seconds, self._time_is_up)
        if clock is not None:
            clock.daemon = True
            clock.start()
        self._inside = True
        try:
            if self._waiting:
                self._waiting = False
                raise KeyboardInterrupt
            yield
        finally:
            self._inside = False
            if clock is not None:
                clock.cancel()
                clock.join()

    def forget(self) -> None:
        """Forget a Ctrl-C that came too late for what it was meant for."""
        self._waiting = False

    def _time_is_up(self) -> None:
        self._due = True
        _thread.interrupt_main()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        due, self._due = self._due, False
        if self._inside:
            self._inside = False
            raise TimeIsUp if due else KeyboardInterrupt
        if due:
            return
        if not self._leave:
            self._waiting = True
        elif callable(self._before):
            self._before(number, frame)

"""Bounds on what a guest may use: time, memory, table elements (promise P7).

A running guest is stopped by its engine: `Engine.tick` makes every running guest of an engine look at its `Limit`, and one
thread for all pools, the ticker, calls it when a deadline passes, when a limit is cancelled, and now and then while the main
thread is inside a guest, where Python handles signals such as Ctrl-C only when the guest looks up.
"""

from __future__ import annotations

import heapq
import itertools
import os
import threading
import time
import weakref
from typing import TYPE_CHECKING

import attrs

from replicate.errors import ArgumentRangeError, ArgumentTypeError, GuestInterruptedError, GuestTimeoutError

if TYPE_CHECKING:
    from replicate.interfaces import Engine

__all__ = ["NO_LIMITS", "Limit", "ResourceLimits", "Ticker", "ticker"]

_SIGNAL_SECONDS = 0.05
"""How long a Ctrl-C may wait while the main thread is inside a guest."""


@attrs.frozen(kw_only=True)
class ResourceLimits:
    """Bound what one instance may grow to; None is no bound but the module's own."""

    memory_bytes: int | None = None
    """For each linear memory."""
    table_elements: int | None = None
    """For each table."""


NO_LIMITS = ResourceLimits()


class Limit:
    """Bound one transaction: by a deadline (`time.monotonic` seconds), by being cancelled, or not at all.

    `seconds` is how long it may take; None and infinity are no bound, and what is negative has passed. Raises
    `ArgumentTypeError` and `ArgumentRangeError` for what isn't a number of seconds.
    """

    __slots__ = ("__weakref__", "_reason", "deadline", "engine", "seconds")

    def __init__(self, engine: Engine, seconds: float | None) -> None:
        self.engine = engine
        self.seconds = seconds
        self.deadline = None if seconds is None else _deadline(seconds)
        self._reason: str | None = None

    @property
    def remaining(self) -> float | None:
        """Give the seconds that are left, not below 0, or None without a deadline."""
        return None if self.deadline is None else max(self.deadline - time.monotonic(), 0.0)

    def cancel(self, reason: str) -> None:
        """Have the guest stopped as soon as it looks up."""
        self._reason = reason
        ticker.tick_soon(self.engine)

    @property
    def interrupted(self) -> bool:
        """Tell whether `check` would raise."""
        return self._reason is not None or (self.deadline is not None and time.monotonic() >= self.deadline)

    def check(self) -> None:
        """Raise `GuestInterruptedError` after `cancel`, and `GuestTimeoutError` after the deadline."""
        if self._reason is not None:
            raise GuestInterruptedError(self._reason)
        if self.deadline is not None and time.monotonic() >= self.deadline:
            raise GuestTimeoutError(f"the transaction didn't end within its timeout of {self.seconds} s")


def _deadline(seconds: float) -> float | None:
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
        raise ArgumentTypeError(f"timeout is {seconds!r}; give seconds as a number, or None for no bound")
    if seconds != seconds:
        raise ArgumentRangeError("timeout isn't a number (NaN); give seconds, or None for no bound")
    # What the system can't count to is no bound either.
    return time.monotonic() + seconds if seconds < threading.TIMEOUT_MAX else None


class Ticker:
    """Run one daemon thread that ticks engines when they have something to look at, and sleeps otherwise."""

    def __init__(self) -> None:
        self._condition = threading.Condition(threading.Lock())
        self._due: list[tuple[float, int, weakref.ref[Engine]]] = []
        self._numbers = itertools.count()
        self._main_inside: dict[int, list[Engine]] = {}
        self._thread: threading.Thread | None = None
        self._wakes_at = 0.0

    def watch(self, limit: Limit) -> None:
        """Tick the limit's engine when its deadline passes."""
        if limit.deadline is not None:
            self._schedule(limit.deadline, limit.engine)

    def tick_soon(self, engine: Engine) -> None:
        """Tick an engine now."""
        engine.tick()

    def tick_at(self, when: float, engine: Engine) -> None:
        """Tick an engine at a time, in `time.monotonic` seconds."""
        self._schedule(when, engine)

    def main_enters(self, engine: Engine) -> None:
        """Note that the main thread may be inside a guest of this engine from now on."""
        with self._condition:
            self._main_inside.setdefault(id(engine), []).append(engine)
            self._start()
            if self._wakes_at > time.monotonic() + _SIGNAL_SECONDS:
                self._condition.notify()

    def main_leaves(self, engine: Engine) -> None:
        """Note that the main thread has left."""
        entries = self._main_inside.get(id(engine))
        if entries:
            entries.pop()
            if not entries:
                self._main_inside.pop(id(engine), None)

    def _schedule(self, when: float, engine: Engine) -> None:
        with self._condition:
            heapq.heappush(self._due, (when, next(self._numbers), weakref.ref(engine)))
            self._start()
            if when < self._wakes_at:
                self._condition.notify()

    def _start(self) -> None:
        if self._thread is None:
            self._wakes_at = float("inf")
            self._thread = threading.Thread(target=self._run, name="replicate-ticker", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        condition = self._condition
        while True:
            with condition:
                now = time.monotonic()
                ticked = [entries[0] for entries in list(self._main_inside.values()) if entries]
                while self._due and self._due[0][0] <= now:
                    engine = heapq.heappop(self._due)[2]()
                    if engine is not None:
                        ticked.append(engine)
            for engine in {id(engine): engine for engine in ticked}.values():
                engine.tick()
            del ticked
            with condition:
                wakes = self._due[0][0] if self._due else float("inf")
                if self._main_inside:
                    wakes = min(wakes, time.monotonic() + _SIGNAL_SECONDS)
                self._wakes_at = wakes
                delay = wakes - time.monotonic()
                if delay > 0:
                    condition.wait(None if wakes == float("inf") else delay)
                self._wakes_at = 0.0


ticker = Ticker()


def _after_fork() -> None:
    """Give a forked child a ticker of its own: the parent's thread isn't there."""
    ticker.__init__()  # type: ignore[misc]


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)

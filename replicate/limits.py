"""Bounds on what a guest may use: time, memory, table elements (promise P7).

A running guest is stopped by its engine: `Engine.tick` makes every running guest of an engine look at its `Limit`. It's
called when a limit is cancelled, and by one thread for all, the ticker, when a deadline passes, and now and then while the
main thread may be inside a guest, where Python handles signals such as Ctrl-C only when the guest looks up.
"""

from __future__ import annotations

import _thread
import heapq
import itertools
import os
import queue
import threading
import time
import weakref
from collections import deque
from typing import TYPE_CHECKING, Any

import attrs

from replicate.errors import ArgumentRangeError, ArgumentTypeError, GuestInterruptedError, GuestTimeoutError

if TYPE_CHECKING:
    from replicate.interfaces import Engine

__all__ = ["NO_LIMITS", "Limit", "ResourceLimits", "Ticker", "check_timeout", "is_amount", "ticker"]

_SIGNAL_SECONDS = 0.05
"""How long a Ctrl-C may wait while the main thread is inside a guest."""
_MORE_TICKS = 4
"""How many ticks there are for a guest that was called, or looked up."""
_NEVER = float("inf")
_FEW = 1000
"""So many deadlines are kept without looking whether anybody needs them."""


def is_amount(value: Any) -> bool:
    """Tell whether a value is a number of something: an int, and not below 0."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _check_amount(instance: Any, attribute: attrs.Attribute[int | None], value: Any) -> None:
    if value is not None and not is_amount(value):
        kind = ArgumentRangeError if isinstance(value, int) else ArgumentTypeError
        raise kind(f"{attribute.name} is {value!r:.200}; give an int, or None for no bound")


@attrs.frozen(kw_only=True)
class ResourceLimits:
    """Bound what one instance may grow to; None is no bound but the module's own."""

    memory_bytes: int | None = attrs.field(default=None, validator=_check_amount)
    """For each linear memory."""
    table_elements: int | None = attrs.field(default=None, validator=_check_amount)
    """For each table."""


NO_LIMITS = ResourceLimits()


class Limit:
    """Bound one transaction: by a deadline (`time.monotonic` seconds), by being cancelled, or not at all.

    `seconds` is how long it may take; None and infinity are no bound, and what is negative has passed. What `outer` says holds
    too. Raises `ArgumentTypeError` and `ArgumentRangeError` for what isn't a number of seconds.
    """

    __slots__ = ("__weakref__", "_outer", "_reason", "deadline", "engine", "seconds")

    def __init__(self, engine: Engine, seconds: float | None, *, outer: Limit | None = None) -> None:
        self.engine = engine
        self.seconds = seconds
        self.deadline = None if seconds is None else _deadline(seconds)
        self._reason: str | None = None
        self._outer = outer

    @property
    def remaining(self) -> float | None:
        """Give the seconds that are left, not below 0, or None without a deadline."""
        return None if self.deadline is None else max(self.deadline - time.monotonic(), 0.0)

    def cancel(self, reason: str) -> None:
        """Have the guest stopped as soon as it looks up; `GuestInterruptedError` says `reason`. Any thread may call this."""
        self._reason = reason
        self.engine.tick()

    @property
    def interrupted(self) -> bool:
        """Tell whether `check` would raise."""
        return (
            self._reason is not None
            or (self.deadline is not None and time.monotonic() >= self.deadline)
            or (self._outer is not None and self._outer.interrupted)
        )

    def check(self) -> None:
        """Raise `GuestInterruptedError` after `cancel`, and `GuestTimeoutError` after the deadline."""
        if self._reason is not None:
            raise GuestInterruptedError(self._reason)
        if self.deadline is not None and time.monotonic() >= self.deadline:
            raise GuestTimeoutError(f"the timeout of {self.seconds} s passed before this was done")
        if self._outer is not None:
            self._outer.check()


def check_timeout(seconds: float | None) -> float | None:
    """Raise `ArgumentTypeError` or `ArgumentRangeError` for what is neither None nor a number of seconds."""
    if seconds is not None:
        _deadline(seconds)
    return seconds


def _deadline(seconds: float) -> float | None:
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
        raise ArgumentTypeError(f"timeout is {seconds!r}; give seconds as a number, or None for no bound")
    if seconds != seconds:
        raise ArgumentRangeError("timeout isn't a number (NaN); give seconds, or None for no bound")
    # What the system can't count to is no bound either.
    return time.monotonic() + seconds if seconds < threading.TIMEOUT_MAX else None


class Ticker:
    """Run one daemon thread that ticks engines when their guests have something to look at, and sleeps otherwise.

    Python runs signal handlers in the main thread's own code only, so while that thread is inside a guest, Ctrl-C has to wait
    until the guest looks up. A call can't afford to say where it is. So the ticker has every guest look up once in
    `_SIGNAL_SECONDS` as long as guests are called at all: `unheard` isn't empty if nobody has called one since the last tick,
    and who calls one then calls `hear`. The ticker refills `unheard` before it ticks, a caller looks at `unheard` before it
    enters the guest: one of the two sees the other. A guest that looks up in the main thread says so with `hear_inside`, and
    the ticks go on. A tick that finds the main thread in a host function is noticed when it goes back into the guest. One that
    comes while a guest looks up is lost, which is why there are some more of them than are heard.

    The main thread's stack would say where it is, too. But with Python 3.11, to hold a frame of another thread that runs, or
    only to ask for one (`sys._current_frames`), ends in a segmentation fault if garbage is collected at the wrong moment.

    Nothing here holds a lock that an exception from a signal handler could leave held.
    """

    def __init__(self) -> None:
        self.unheard: list[None] = []
        self._watched: list[weakref.ref[Engine]] = []
        self.reset()

    def reset(self) -> None:
        """Begin without a thread and without deadlines, as in a forked child, which hasn't its parent's thread."""
        self.unheard[:] = [None]
        self._inside: deque[None] = deque()
        """Not empty if the main thread has looked up in a guest since the thread last looked."""
        self._posted: deque[tuple[float, weakref.ref[Any]]] = deque()
        """Deadlines that the thread hasn't seen yet, of limits or engines."""
        self._due: list[tuple[float, int, weakref.ref[Any]]] = []
        self._pruned = _FEW
        self._numbers = itertools.count()
        self._wake: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._wakes_at = 0.0
        """When the thread will wake by itself; 0 while it's awake, and looks at everything before it sleeps."""
        self._running = False
        self._starting = threading.Lock()

    # -- what others tell it -------------------------------------------------------------------------------------------

    def watch_main_thread(self, engine: Engine) -> None:
        """Tick an engine now and then while the main thread may be inside one of its guests."""
        self._watched = [known for known in self._watched if known() is not None] + [weakref.ref(engine)]

    def hear(self) -> None:
        """Note that a guest is being called; for who has found `unheard` not empty."""
        try:
            self.unheard.pop()
        except IndexError:  # somebody else was faster
            return
        try:
            self._look_by(time.monotonic() + _SIGNAL_SECONDS)
        except RuntimeError:
            # The system has no more threads: this guest can't be interrupted, but it can be called.
            self.unheard.append(None)

    def hear_inside(self) -> None:
        """Note that a guest that runs in this thread has looked up."""
        if _thread.get_ident() == threading.main_thread().ident:
            self._inside.append(None)
            try:
                self._look_by(time.monotonic() + _SIGNAL_SECONDS)
            except RuntimeError:  # see `hear`
                pass

    def watch(self, limit: Limit) -> None:
        """Tick the limit's engine when its deadline passes, unless nobody needs the limit any more."""
        if limit.deadline is not None:
            self._posted.append((limit.deadline, weakref.ref(limit)))
            self._look_by(limit.deadline)

    def tick_at(self, when: float, engine: Engine) -> None:
        """Tick an engine at a time, in `time.monotonic` seconds."""
        self._posted.append((when, weakref.ref(engine)))
        self._look_by(when)

    def _look_by(self, when: float) -> None:
        if not self._running:
            with self._starting:
                if not self._running:
                    self._running = True
                    try:
                        _thread.start_new_thread(self._run, ())
                    except BaseException:
                        self._running = False
                        raise
        if when < self._wakes_at:
            self._wakes_at = 0.0
            self._wake.put(None)

    # -- the thread ----------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        left = 0
        while True:
            heard = not self.unheard
            if heard:
                self.unheard.append(None)
            while self._inside:
                self._inside.pop()
                heard = True
            left = _MORE_TICKS if heard else max(left - 1, 0)
            ticked = self._due_engines()
            if left:
                ticked += [engine for known in self._watched if (engine := known()) is not None]
            for engine in {id(engine): engine for engine in ticked}.values():
                engine.tick()
            now = time.monotonic()
            wakes = self._due[0][0] if self._due else _NEVER
            if left:
                wakes = min(wakes, now + _SIGNAL_SECONDS)
            del ticked
            self._wakes_at = wakes
            # Who has posted something, called a guest or looked up in one before that didn't wake this thread.
            if wakes > now and not self._posted and (left or (self.unheard and not self._inside)):
                try:
                    self._wake.get(timeout=None if wakes == _NEVER else wakes - now)
                except queue.Empty:
                    pass
            self._wakes_at = 0.0

    def _due_engines(self) -> list[Engine]:
        due = self._due
        while self._posted:
            when, target = self._posted.popleft()
            heapq.heappush(due, (when, next(self._numbers), target))
        if len(due) > self._pruned:
            # Most transactions end long before their deadline.
            due[:] = [entry for entry in due if entry[2]() is not None]
            heapq.heapify(due)
            self._pruned = 2 * len(due) + _FEW
        now = time.monotonic()
        found: list[Engine] = []
        while due and due[0][0] <= now:
            one = heapq.heappop(due)[2]()
            if one is not None:
                found.append(one.engine if isinstance(one, Limit) else one)
        return found


ticker = Ticker()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=ticker.reset)

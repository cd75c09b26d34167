"""Reads that last: answers that are taken one by one, while the same thread goes on using the pool.

A transaction belongs to its thread or task, which can have one of a pool's at a time, or replicas could all be taken by those
that wait for one more. A pinned read isn't counted as one: it has a replica to itself, and the pool has a place for another
in its stead, which is filled only if reads need it. So nobody ever waits for a pinned read to end.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from replicate.callables import run_whole
from replicate.errors import ConcurrentUseError, DeadHandleError
from replicate.limits import Limit, ticker

if TYPE_CHECKING:
    from replicate.core import PoolCore
    from replicate.decisions import Slot
    from replicate.handles import Guest

__all__ = ["AsyncPinnedRead", "PinnedRead"]

T = TypeVar("T")


class PinnedRead:
    """Be a read that stays open between calls of `run`, at the version it began with; see `Pool.pin`.

    Ends by `close`, at the end of ``with``, when `run` raises, or when nobody holds it any more. Hazards: one `run` at a time,
    a second one meanwhile raises `ConcurrentUseError`. What was collected as garbage is given back when the pool is next used.
    """

    def __init__(self, core: PoolCore, slot: Slot, guest: Guest, limit: Limit) -> None:
        self._core = core
        self._slot = slot
        self._guest = guest
        self._seconds = limit.seconds
        self._left = limit.remaining
        self._limit: Limit | None = None
        self._lock = threading.Lock()
        self._running = False
        self._unwanted = False
        self._open = True

    @property
    def is_open(self) -> bool:
        """Tell whether `run` can be called."""
        return self._open

    @property
    def is_running(self) -> bool:
        """Tell whether a thread is inside `run`."""
        return self._running

    def run(self, fn: Callable[[Guest], T]) -> T:
        """Call ``fn(guest)``, and give what it returns; a transaction of the pool that it opens is nested.

        What's left of the pin's timeout bounds it.
        """
        with self._lock:
            if not self._open:
                raise DeadHandleError("this read has ended; open another one")
            if self._running:
                raise ConcurrentUseError("another thread is inside this read: it's for one at a time")
            limit = self._limit = Limit(self._core.engine, self._left)
            self._running = True
        limit.seconds = self._seconds
        failed, began = True, time.monotonic()
        entered = self._core.enter_step()
        try:
            instance = self._guest._live()
            instance.limit = limit
            ticker.watch(limit)
            limit.check()
            result = run_whole(fn, self._guest)
            failed = False
            return result
        finally:
            if entered is not None:
                self._core.leave(entered)
            if self._left is not None:
                self._left = max(self._left - (time.monotonic() - began), 0.0)
            with self._lock:
                self._running, self._limit = False, None
                ends = self._open and (failed or self._unwanted)
                self._open = not ends
            if ends:
                self._core.end_read(self._slot, failed=failed, dirty=True)

    def close(self, *, clean: bool = False) -> None:
        """Give the replica back; one that's inside `run`, in another thread, is stopped. Closing twice is fine.

        `clean` promises that the guest is as it was, and need not be reset under the cheaper rule.
        """
        if self._core.is_forked:
            return
        with self._lock:
            if not self._open:
                return
            if self._running:
                self._unwanted = True
                if self._limit is not None:
                    self._limit.cancel("this read was closed while it was running")
                return
            self._open = False
        self._core.end_read(self._slot, failed=False, dirty=not clean)

    def __del__(self) -> None:
        # Garbage is collected at any moment, this thread may be holding the pool's locks: leave it to the pool's next user.
        if getattr(self, "_open", False):
            self._core.orphans.append(self._slot)

    def __enter__(self) -> PinnedRead:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class AsyncPinnedRead:
    """Be a `PinnedRead` whose `run` is awaited; see `AsyncPool.pin`. A task that is cancelled in it ends the read."""

    def __init__(
        self, read: PinnedRead, job: Callable[[Callable[[], Any], Callable[[], None]], Awaitable[Any]]
    ) -> None:
        self._read = read
        self._job = job

    @property
    def is_open(self) -> bool:
        """Tell whether `run` can be called."""
        return self._read.is_open

    @property
    def is_running(self) -> bool:
        """Tell whether a step is under way, that of a cancelled task for instance."""
        return self._read.is_running

    async def run(self, fn: Callable[[Guest], T]) -> T:
        """Call ``fn(guest)`` in a worker thread; see `PinnedRead.run`."""
        read = self._read
        entered = read._core.enter_step()
        try:
            result: T = await self._job(lambda: read.run(fn), read.close)
            return result
        finally:
            if entered is not None:
                read._core.leave(entered)

    def close(self, *, clean: bool = False) -> None:
        """Give the replica back; see `PinnedRead.close`. Needs no waiting."""
        self._read.close(clean=clean)

    async def __aenter__(self) -> AsyncPinnedRead:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self.close()

"""Serve a crowd of readers from few threads: one for each replica, which keeps it busy while the callers sleep.

When many more threads want to read than there are replicas, handing a replica from one thread to the next leaves it idle
for as long as waking that thread takes, and every thread that wakes wants the interpreter lock, from those that are in the
middle of a read too. So reads that may run on any thread are queued, and the threads here run them one after the other;
what a caller waits for is only to be told.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Any

from replicate.errors import PoolClosedError
from replicate.limits import Limit
from replicate.owners import acting_for

if TYPE_CHECKING:
    from replicate.core import PoolCore
    from replicate.handles import Guest

__all__ = ["Servers"]

_IDLE_SECONDS = 5.0
"""How long a thread without work stays."""
_LOOK_SECONDS = 1.0
"""How often a thread that waits looks whether any thread is at work."""


def _bounded(remaining: float | None) -> float:
    return _LOOK_SECONDS if remaining is None else min(remaining, _LOOK_SECONDS)


class _Job:
    """Be one queued read. Who claims it runs it, or gives it up."""

    __slots__ = ("_unclaimed", "began", "done", "error", "fn", "limit", "owner", "result")

    def __init__(self, fn: Callable[[Guest], Any], limit: Limit, owner: Hashable) -> None:
        self.fn = fn
        self.limit = limit
        self.owner = owner
        self.began = time.monotonic()
        self.result: Any = None
        self.error: BaseException | None = None
        self.done = threading.Lock()
        self.done.acquire()
        self._unclaimed = [self]

    def claim(self) -> bool:
        """Take the job; only one thread gets it."""
        try:
            self._unclaimed.pop()
        except IndexError:
            return False
        return True


class Servers:
    """Run queued reads of one pool; `read` does one for somebody who has entered and has waited since some time."""

    def __init__(self, core: PoolCore, read: Callable[[Callable[[Guest], Any], Limit, float], Any]) -> None:
        self._core = core
        self._read = read
        self._jobs = core.queued
        self._lock = threading.Lock()
        self._idle: list[threading.Lock] = []
        self._active = 0
        """Threads that have work, or look for some."""

    def run(self, fn: Callable[[Guest], Any], limit: Limit, owner: Hashable) -> Any:
        """Have ``fn(guest)`` called for `owner`, and wait for what it gives or raises.

        Raises `PoolTimeoutError` and `PoolClosedError` for a read that wasn't begun. A read whose caller is interrupted,
        by Ctrl-C, is stopped. Where no thread can be started, the caller does the read itself.
        """
        job = _Job(fn, limit, owner)
        try:
            self._jobs.append(job)
            if self._active < self._core.state.size:
                self._call()
            if self._core.state.closed:
                self.close()
            while not job.done.acquire(timeout=_bounded(limit.remaining)):
                if limit.remaining == 0:
                    in_vain = self._core.no_replica(limit)
                    if self._take_back(job):
                        raise in_vain
                    job.done.acquire()
                    break
                if not self._active and self._take_back(job):
                    return self._read(fn, limit, job.began)
        except BaseException:
            if not self._take_back(job):
                limit.cancel("the thread that waited for this read was interrupted")
            raise
        if job.error is None:
            return job.result
        try:
            raise job.error
        finally:
            # The exception knows this frame, by its traceback: the frame isn't to know it.
            job.error = None

    def _take_back(self, job: _Job) -> bool:
        """Claim a job for its caller, and take it out of the queue."""
        if not job.claim():
            return False
        try:
            self._jobs.remove(job)
        except ValueError:
            pass
        return True

    def refresh(self) -> None:
        """Get as many threads to work as there are replicas for now, after a pool has grown."""
        for _ in range(min(len(self._jobs), self._core.state.size)):
            self._call()

    def close(self) -> None:
        """Have those that wait for a read to begin told that there's none to come."""
        while self._jobs:
            try:
                job = self._jobs.popleft()
            except IndexError:
                return
            if job.claim():
                job.error = PoolClosedError(f"pool {self._core.name!r} was closed while waiting for a replica")
                job.done.release()

    def _call(self) -> None:
        """Get another thread to work, if there's a replica for it."""
        with self._lock:
            if self._active >= self._core.state.size:
                return
            self._active += 1
            waker = self._idle.pop() if self._idle else None
        if waker is not None:
            waker.release()
            return
        try:
            threading.Thread(target=self._serve, name=f"replicate-{self._core.name}", daemon=True).start()
        except RuntimeError:
            # The system has no more threads. Who waits looks now and then whether anybody is at work.
            with self._lock:
                self._active -= 1

    def _serve(self) -> None:
        """Run jobs until there have been none for a while."""
        waker = threading.Lock()
        waker.acquire()
        while True:
            try:
                job = self._jobs.popleft()
            except IndexError:
                if not self._rest(waker):
                    return
                continue
            if job.claim():
                try:
                    with acting_for(job.owner):
                        job.result = self._read(job.fn, job.limit, job.began)
                except BaseException as error:
                    job.error = error
                job.done.release()
            del job

    def _rest(self, waker: threading.Lock) -> bool:
        """Wait for work; tell whether there may be any."""
        with self._lock:
            self._active -= 1
            self._idle.append(waker)
        # Who queued a job just now may have seen this thread as active.
        if self._jobs:
            self._call()
        if waker.acquire(timeout=_IDLE_SECONDS):
            return True
        with self._lock:
            if waker in self._idle:
                self._idle.remove(waker)
                return False
        waker.acquire()  # called just now
        return True

"""Many threads that do something at once, again and again."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from types import TracebackType

__all__ = ["Crowd"]


class Crowd:
    """Keep threads that sleep until all are woken, do the same once, and meet: a request from each of many clients.

    Use it as a context manager: on leaving, also on Ctrl-C, each thread finishes what it's in the middle of and ends.
    """

    def __init__(self, threads: int) -> None:
        # A lock for each to sleep at: a barrier has all of them wake each other, one by one.
        self._gates = [threading.Lock() for _ in range(threads)]
        self._all_met = threading.Lock()
        for lock in (*self._gates, self._all_met):
            lock.acquire()
        self._counting = threading.Lock()
        self._missing = 0
        self._act: Callable[[], object] = _nothing
        self._stop = False
        self._failures: deque[BaseException] = deque()
        self._ended: deque[threading.Lock] = deque()
        self._threads = [threading.Thread(target=self._live, args=(gate,), daemon=True) for gate in self._gates]

    def seconds(self, act: Callable[[], object], times: int) -> float:
        """Have all threads do it once, so many times, and give the mean seconds from waking the first until the last has done.

        Raises what a thread met.
        """
        self._act = act
        began = time.perf_counter()
        for _ in range(times):
            self._missing = len(self._gates)
            for gate in self._gates:
                gate.release()
            self._all_met.acquire()
            if self._failures:
                raise self._failures.popleft()
        return (time.perf_counter() - began) / times

    def _live(self, gate: threading.Lock) -> None:
        try:
            while True:
                gate.acquire()
                if self._stop:
                    return
                try:
                    self._act()
                except BaseException as error:
                    self._failures.append(error)
                with self._counting:
                    self._missing -= 1
                    if not self._missing:
                        self._all_met.release()
        finally:
            self._ended.append(gate)

    def __enter__(self) -> Crowd:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop = True
        # Not joined: before Python 3.13 a join that Ctrl-C ends takes the thread for ended. Nor is a gate opened once for all:
        # a thread may just have been let through.
        while len(self._ended) < sum(thread.ident is not None for thread in self._threads):
            for gate in self._gates:
                if gate.locked():
                    gate.release()
            time.sleep(0.001)


def _nothing() -> None:
    pass

"""Many threads that do something at once, again and again."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from types import TracebackType

__all__ = ["Crowd"]


class Crowd:
    """Keep threads that wait at a gate, all do the same when it opens, and meet there again.

    Use it as a context manager: on leaving, also on Ctrl-C, each thread finishes what it's in the middle of and ends.
    """

    def __init__(self, threads: int) -> None:
        self._gate = threading.Barrier(threads + 1)
        self._act: Callable[[], object] = _nothing
        self._times = 0
        self._stop = False
        self._failures: deque[BaseException] = deque()
        self._ended: deque[int] = deque()
        self._threads = [threading.Thread(target=self._live, args=(number,), daemon=True) for number in range(threads)]

    def seconds(self, act: Callable[[], object], times: int) -> float:
        """Give the seconds, for each time, that it takes until all threads have done it so many times.

        Raises what a thread met.
        """
        self._act, self._times = act, times
        began = time.perf_counter()
        self._gate.wait()
        self._gate.wait()
        took = time.perf_counter() - began
        if self._failures:
            raise self._failures.popleft()
        return took / times

    def _live(self, number: int) -> None:
        try:
            while True:
                self._gate.wait()
                try:
                    act = self._act
                    for _ in range(self._times):
                        if self._stop:
                            return
                        act()
                except BaseException as error:
                    self._failures.append(error)
                self._gate.wait()
        except threading.BrokenBarrierError:
            pass
        finally:
            self._ended.append(number)

    def __enter__(self) -> Crowd:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop = True
        self._gate.abort()
        # Not joined: before Python 3.13 a join that Ctrl-C ends takes the thread for ended.
        while len(self._ended) < sum(thread.ident is not None for thread in self._threads):
            time.sleep(0.001)


def _nothing() -> None:
    pass

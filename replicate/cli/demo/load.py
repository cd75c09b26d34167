"""Ask many questions from many threads, check every answer, and measure."""

from __future__ import annotations

import statistics
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import attrs

from replicate.errors import ReplicateError

__all__ = ["Comparison", "Question", "Round", "compare", "run_load"]


@attrs.frozen
class Question:
    """Be a question to a guest, and the answer that a model of it in Python gives."""

    text: str
    goal: Any
    expected: Any


Ask = Callable[[Question], Any]


def run_load(ask: Ask, questions: Sequence[Question], *, threads: int) -> float:
    """Ask all `questions`, shared out among `threads`, and give the seconds from the first to the last answer.

    Raises the first exception that a thread met, or `ReplicateError` for a wrong answer. Ctrl-C ends the threads first.
    """
    return _Crowd(ask, questions, min(threads, len(questions))).run()


class _Crowd:
    """Be the threads that ask.

    None is joined: before Python 3.13 a `threading.Thread.join` that Ctrl-C ends takes the thread for ended, and the next
    one returns at once while it's still inside a guest.
    """

    def __init__(self, ask: Ask, questions: Sequence[Question], threads: int) -> None:
        self._ask = ask
        self._shares = [questions[number::threads] for number in range(threads)]
        self._ready = threading.Barrier(threads + 1)
        self._begun: deque[int] = deque()
        self._ended: deque[int] = deque()
        self._all_ended = threading.Event()
        self._stop = threading.Event()
        self._failures: list[BaseException] = []

    def run(self) -> float:
        threads = [threading.Thread(target=self._work, args=item) for item in enumerate(self._shares)]
        try:
            for thread in threads:
                thread.start()
            self._ready.wait()
            began = time.perf_counter()
            self._all_ended.wait()
            seconds = time.perf_counter() - began
        except BaseException:
            self._stop.set()
            self._ready.abort()
            # A thread that begins later finds the barrier broken, and asks nothing.
            while len(self._ended) < len(self._begun):
                time.sleep(0.001)
            raise
        if self._failures:
            raise self._failures[0]
        return seconds

    def _work(self, number: int, share: Sequence[Question]) -> None:
        self._begun.append(number)
        try:
            self._ready.wait()
            for question in share:
                if self._stop.is_set():
                    return
                answer = self._ask(question)
                if answer != question.expected:
                    raise ReplicateError(
                        f"wrong answer to {question.text!r}: got {answer!r}, expected {question.expected!r}; "
                        "this is a bug, please report it with the output of 'replicate engines'"
                    )
        except threading.BrokenBarrierError:
            pass
        except BaseException as error:
            self._failures.append(error)
            self._stop.set()
        finally:
            self._ended.append(number)
            if len(self._ended) == len(self._shares):
                self._all_ended.set()


@attrs.frozen
class Round:
    """Hold the seconds that one load took on the locked instance and on the pool."""

    locked: float
    pool: float

    @property
    def ratio(self) -> float:
        """How many times faster the pool was."""
        return self.locked / self.pool


@attrs.frozen
class Comparison:
    """Hold the rounds of one load: `queries` of them, from `threads` threads."""

    queries: int
    threads: int
    rounds: tuple[Round, ...]

    @property
    def ratio(self) -> float:
        """The median round's."""
        return statistics.median(each.ratio for each in self.rounds)


_LEAST_SECONDS = 0.2
_MOST_LAPS = 50


def compare(locked: Ask, pool: Ask, questions: Sequence[Question], *, threads: int, rounds: int) -> Comparison:
    """Put the same load on both, in turns, so that whatever else the machine does hits both.

    The questions are repeated until a round takes long enough to be measured. Both are warmed up first.
    """
    once = min(run_load(locked, questions, threads=threads) for _ in range(2))
    run_load(pool, questions, threads=threads)
    laps = min(_MOST_LAPS, max(1, round(_LEAST_SECONDS / once)))
    load = list(questions) * laps
    measured = []
    for number in range(rounds):
        order = (locked, pool) if number % 2 == 0 else (pool, locked)
        took = {ask: run_load(ask, load, threads=threads) for ask in order}
        measured.append(Round(took[locked], took[pool]))
    return Comparison(len(load), min(threads, len(load)), tuple(measured))

"""Reads that may run on any thread: queued when there's no idle replica, run by the pool's threads, told to their callers."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from replicate import Pool
from replicate.errors import (
    ArgumentRangeError,
    ArgumentTypeError,
    NestedTransactionError,
    PoolClosedError,
    PoolTimeoutError,
)

WAT = """(module (memory (export "memory") 1)
  (func (export "put") (param i32) (i32.store (i32.const 0) (local.get 0)))
  (func (export "get") (result i32) (i32.load (i32.const 0)))
  (func (export "forever") (loop $l (br $l))))"""


@pytest.fixture
def pool() -> Iterator[Pool]:
    """Give a pool of one replica."""
    with Pool.open(WAT, replicas=1) as pool:
        yield pool


class Busy:
    """Keep a pool's only replica until told otherwise."""

    def __init__(self, pool: Pool) -> None:
        self._inside, self.end = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=pool.read, args=(self._read,))
        self._thread.start()
        assert self._inside.wait(60)

    def _read(self, guest: Any) -> None:
        self._inside.set()
        self.end.wait(60)

    def __enter__(self) -> Busy:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.end.set()
        self._thread.join(60)


class Aside:
    """Do something in another thread, and give what comes of it."""

    def __init__(self, do: Callable[[], Any]) -> None:
        self.outcome: list[Any] = []
        self.thread = threading.Thread(target=self._run, args=(do,))
        self.thread.start()

    def _run(self, do: Callable[[], Any]) -> None:
        try:
            self.outcome.append(do())
        except BaseException as error:
            self.outcome.append(error)

    def get(self) -> Any:
        self.thread.join(60)
        return self.outcome[0]


def queued(pool: Pool, number: int) -> None:
    """Wait until that many reads are queued and one has been taken up."""
    for _ in range(6000):
        if len(pool._servers._jobs) == number and pool._servers._active:
            return
        time.sleep(0.01)
    raise AssertionError(pool._servers._jobs)


def test_an_idle_replica_is_used_on_the_callers_own_thread(pool: Pool) -> None:
    assert pool.read(lambda guest: threading.get_ident(), any_thread=True) == threading.get_ident()


def test_a_read_that_has_to_wait_is_run_by_a_thread_of_the_pool(pool: Pool) -> None:
    with Busy(pool) as busy:
        asked = Aside(lambda: pool.read(lambda guest: threading.current_thread().name, any_thread=True))
        queued(pool, 0)
        busy.end.set()
        assert asked.get() == f"replicate-{pool.name}"
    assert pool.stats().read_waits == 1


def test_an_exception_arrives_as_it_was_and_costs_one_read(pool: Pool) -> None:
    error = LookupError("not there")

    def fail(guest: Any) -> None:
        guest.call("put", 7)
        raise error

    with Busy(pool) as busy:
        asked = Aside(lambda: pool.read(fail, any_thread=True))
        queued(pool, 0)
        busy.end.set()
        assert asked.get() is error
    assert pool.read(lambda guest: guest.call("get")) == 0
    assert pool.stats().failed_reads == 1


def test_a_queued_read_sees_what_was_written_before_it_was_asked(pool: Pool) -> None:
    with Busy(pool) as busy:
        first = Aside(lambda: pool.read(lambda guest: guest.call("get"), any_thread=True))
        queued(pool, 0)
        pool.write(lambda guest: guest.call("put", 5))
        second = Aside(lambda: pool.read(lambda guest: guest.call("get"), any_thread=True))
        queued(pool, 1)
        busy.end.set()
        assert second.get() == 5
        assert first.get() in (0, 5)


def test_waiting_in_the_queue_is_bounded_and_what_was_given_up_never_runs(pool: Pool) -> None:
    ran = []
    with Busy(pool) as busy:
        first = Aside(lambda: pool.read(lambda guest: ran.append(1), any_thread=True))
        queued(pool, 0)
        with pytest.raises(PoolTimeoutError, match=r"within 0.05 s; replicas=1 idle=0"):
            pool.read(lambda guest: ran.append(2), any_thread=True, timeout=0.05)
        busy.end.set()
        first.get()
    assert pool.read(lambda guest: guest.call("get"), any_thread=True) == 0
    assert ran == [1]


def test_closing_tells_those_in_the_queue_at_once(pool: Pool) -> None:
    with Busy(pool):
        asked = [Aside(lambda: pool.read(lambda guest: 1, any_thread=True)) for _ in range(5)]
        queued(pool, 4)
        pool.close()
        assert {type(each.get()) for each in asked} == {PoolClosedError}


def test_a_transaction_inside_a_queued_read_is_refused(pool: Pool) -> None:
    with Busy(pool) as busy:
        asked = Aside(lambda: pool.read(lambda guest: pool.write(lambda guest: None), any_thread=True))
        queued(pool, 0)
        busy.end.set()
        assert isinstance(asked.get(), NestedTransactionError)


def test_threads_without_work_go_away_and_come_back(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("replicate.serving._IDLE_SECONDS", 0.01)
    for _ in range(3):
        with Busy(pool) as busy:
            asked = Aside(lambda: pool.read(lambda guest: threading.current_thread(), any_thread=True))
            queued(pool, 0)
            busy.end.set()
            server = asked.get()
        server.join(60)
        assert not server.is_alive()


def test_a_crowd_gets_all_its_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("replicate.serving._IDLE_SECONDS", 0.001)
    wrong: list[Any] = []
    with Pool.open(WAT, replicas=2) as pool:

        def work(number: int) -> None:
            try:
                for turn in range(50):
                    if turn % 10 == number % 10:
                        pool.write(lambda guest: guest.call("put", guest.call("get") + 1))
                    if turn % 20 == 5:
                        pool.resize(1 + number % 3)
                    before = pool.version
                    got = pool.read(lambda guest: guest.call("get"), any_thread=True, timeout=60)
                    if not before <= got <= pool.version:
                        wrong.append((before, got))
            except BaseException as error:
                wrong.append(error)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(32)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == []
        assert pool.read(lambda guest: guest.call("get")) == pool.version == 32 * 5


@pytest.mark.parametrize(
    ("timeout", "error"), [("1", ArgumentTypeError), (True, ArgumentTypeError), (float("nan"), ArgumentRangeError)]
)
def test_a_timeout_is_a_number_of_seconds(pool: Pool, timeout: Any, error: type[Exception]) -> None:
    for ask in (pool.read, pool.write, lambda fn, timeout: pool.read(fn, timeout=timeout, any_thread=True)):
        with pytest.raises(error, match="timeout"):
            ask(lambda guest: None, timeout=timeout)
    assert pool.read(lambda guest: guest.call("get"), timeout=float("inf")) == 0
    assert pool.write(lambda guest: guest.call("get"), timeout=1e300) == 0


def test_a_pool_that_grows_serves_those_in_the_queue(pool: Pool) -> None:
    running, end = threading.Event(), threading.Event()
    with Busy(pool) as busy:
        first = Aside(lambda: pool.read(lambda guest: (running.set(), end.wait(60)), any_thread=True))
        queued(pool, 0)
        second = Aside(lambda: pool.read(lambda guest: guest.call("get"), any_thread=True))
        queued(pool, 1)
        busy.end.set()
        assert running.wait(60)
        pool.resize(2)
        assert second.get() == 0
        end.set()
        first.get()


def test_without_threads_callers_do_their_reads_themselves(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("replicate.serving._LOOK_SECONDS", 0.05)
    right = threading.Thread.start

    def start(self: threading.Thread) -> None:
        if self.name.startswith("replicate-"):
            raise RuntimeError("can't start new thread")
        right(self)

    with Busy(pool) as busy:
        monkeypatch.setattr(threading.Thread, "start", start)
        asked = [
            Aside(lambda: pool.read(lambda guest: threading.current_thread() is not None, any_thread=True))
            for _ in range(3)
        ]
        time.sleep(0.1)
        busy.end.set()
        assert [each.get() for each in asked] == [True] * 3
    assert pool.stats().readers_waiting == 0


def test_what_the_caller_has_open_counts_for_the_thread_that_reads_for_it() -> None:
    with Pool.open(WAT, replicas=1, name="A") as one, Pool.open(WAT, replicas=1, name="B") as other:

        def around() -> object:
            return one.write(lambda guest: other.read(lambda guest: one.write(lambda guest: 1), any_thread=True))

        with pytest.raises(NestedTransactionError, match="'A'"):
            around()
        with Busy(other) as busy:
            asked = Aside(around)
            queued(other, 0)
            busy.end.set()
            assert isinstance(asked.get(), NestedTransactionError)
        assert one.write(lambda guest: 2) == 2


INTERRUPTED = """
import signal, threading, time
from replicate import Pool

pool = Pool.open(WAT, replicas=1)
holding, end, begun = threading.Event(), threading.Event(), threading.Event()
threading.Thread(target=pool.read, args=(lambda guest: (holding.set(), end.wait(60)),)).start()
holding.wait()
threading.Timer(0.2, end.set).start()  # then the endless read begins, in a thread of the pool

def interrupt():
    begun.wait()
    time.sleep(0.3)
    signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

threading.Thread(target=interrupt).start()
try:
    pool.read(lambda guest: (begun.set(), guest.call("forever")), any_thread=True)
except KeyboardInterrupt:
    pass
print(pool.read(lambda guest: guest.call("get"), timeout=60), pool.stats().interruptions)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="a lock isn't interrupted by Ctrl-C there")
def test_ctrl_c_stops_the_read_that_it_waited_for() -> None:
    done = subprocess.run(
        [sys.executable, "-c", f"WAT = {WAT!r}{INTERRUPTED}"], capture_output=True, text=True, timeout=120
    )
    assert (done.stdout, done.stderr) == ("0 1\n", "")

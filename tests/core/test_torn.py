"""An exception from a signal handler, at whatever instruction it strikes, leaves no transaction open and loses nothing."""

from __future__ import annotations

import contextlib
import dis
import subprocess
import sys
import threading
from collections.abc import Callable
from types import CodeType, FrameType
from typing import Any

import pytest

from replicate import Pool
from replicate.errors import NestedTransactionError
from replicate.signals import carry_through, deaf_entry

COUNTER = """(module (memory (export "memory") 1) (global $n (mut i32) (i32.const 0))
  (func (export "bump") (result i32) (i32.store (i32.const 8) (i32.add (global.get $n) (i32.const 1)))
    (global.set $n (i32.add (global.get $n) (i32.const 1))) (global.get $n))
  (func (export "n") (result i32 i32) (global.get $n) (i32.load (i32.const 8))))"""


class Struck(BaseException):
    """Be what a signal handler raises."""


class Striker:
    """Raise `Struck` at the n-th place where CPython may run a signal handler in this library's own code.

    Those are a function's entry, unless it's deaf, a call's end, of which what was called knows nothing, and a loop's turn.
    """

    def __init__(self, after: int) -> None:
        self.left = after
        self.where = ""

    def start(self) -> None:
        """Begin to strike in this thread."""
        sys.settrace(self.trace)
        sys.setprofile(self.profile)

    def _strike(self, frame: FrameType, what: str) -> None:
        self.left -= 1
        if self.left < 0 and not self.where:
            self.where = f"{frame.f_code.co_filename}:{frame.f_lineno} {frame.f_code.co_name} {what}"
            rest()
            raise Struck

    def profile(self, frame: FrameType, event: str, argument: object) -> None:
        """Be told of calls and of their ends."""
        own, back = _is_ours(frame), frame.f_back
        if frame.f_code.co_name in ("_look_up", "_enter_host"):
            return  # C has called these: nothing looks for signals when they return
        if event == "call" and own and not _is_deaf(frame.f_code):
            self._strike(frame, "entered")
        elif event == "c_return" and own:
            self._strike(frame, f"after {getattr(argument, '__name__', argument)}")
        elif event == "return" and back is not None and _is_ours(back) and back.f_lasti in _calls(back.f_code):
            self._strike(back, f"after {frame.f_code.co_name}")

    def trace(self, frame: FrameType, event: str, argument: object) -> Any:
        """Be told of instructions."""
        if not _is_ours(frame):
            return None
        frame.f_trace_opcodes = True
        if event == "opcode" and frame.f_lasti in _turns(frame.f_code):
            self._strike(frame, "a turn")
        return self.trace


def rest() -> None:
    """Strike no more in this thread."""
    sys.setprofile(None)
    sys.settrace(None)


def _is_ours(frame: FrameType) -> bool:
    return "/replicate" in frame.f_code.co_filename


_known: dict[CodeType, frozenset[int]] = {}


def _turns(code: CodeType) -> frozenset[int]:
    """Find the jumps back."""
    if code not in _known:
        steps = [
            step for step in dis.get_instructions(code) if step.opcode in dis.hasjrel or step.opcode in dis.hasjabs
        ]
        _known[code] = frozenset(
            step.offset for step in steps if step.argval <= step.offset and not step.opname.endswith("NO_INTERRUPT")
        )
    return _known[code]


_known_calls: dict[CodeType, frozenset[int]] = {}


def _calls(code: CodeType) -> frozenset[int]:
    """Find the calls that are written as such: not those of ``with``, nor of properties."""
    if code not in _known_calls:
        steps = dis.get_instructions(code)
        _known_calls[code] = frozenset(step.offset for step in steps if step.opname.startswith("CALL"))
    return _known_calls[code]


def _is_deaf(code: CodeType) -> bool:
    steps = list(dis.get_instructions(code))
    if sys.version_info >= (3, 11):
        return next(step.arg for step in steps if step.opname == "RESUME") == 3
    return steps[0].opname == "SETUP_FINALLY"


def struck(act: Callable[[Striker], Any]) -> int:
    """Do something once for each place that it can be struck at; give how many there were. `act` sees to what follows."""
    for after in range(100_000):
        striker = Striker(after)
        try:
            act(striker)
        except Struck:
            pass
        finally:
            rest()
        if not striker.where:
            return after
        _places.append(striker.where)
    raise AssertionError("there's no end to it")


_places: list[str] = []


class Watched:
    """Be a pool that is looked at after each strike: nothing may be open, lost or torn."""

    def __init__(self, **options: Any) -> None:
        self.pool = Pool.open(COUNTER, replicas=2, **options)
        self.expected = {0}
        """The values that the counter may have."""

    def check(self) -> None:
        pool, core = self.pool, self.pool._core
        where = _places[-1:] or ["nowhere"]
        stats = pool.stats()
        assert (stats.replicas, stats.idle, stats.reading, stats.writing) == (2, 2, 0, False), where
        assert (stats.readers_waiting, stats.writers_waiting, core.owners) == (0, 0, {}), where
        assert (core.state.sharing, core.state.committer, core.state.decided) == (0, None, []), where
        assert (len(core.state.resters), core.state.resuming) == (0, {}), where
        assert not core.lock.locked(), where
        assert not core.keeping.locked(), where
        assert core.image.commits == pool.version, where
        with pool.reading(timeout=60) as one:
            seen = one.call("n")
        assert seen[0] == seen[1], where
        assert seen[0] == pool.version, where
        assert seen[0] in self.expected, where
        value = pool.write(lambda guest: guest.call("bump"), timeout=60)
        assert value == seen[0] + 1, where
        self.expected = {value}

    def read(self) -> None:
        self.pool.read(lambda guest: guest.call("bump"))

    def write(self) -> None:
        [value] = self.expected
        self.expected = {value, value + 1}
        assert self.pool.write(lambda guest: guest.call("bump")) == value + 1
        self.expected = {value + 1}

    def fail(self) -> None:
        with contextlib.suppress(ZeroDivisionError):
            self.pool.write(lambda guest: (guest.call("bump"), 1 / 0))

    def growing(self) -> None:
        with contextlib.suppress(ZeroDivisionError):
            self.pool.read(lambda guest: (guest.memory.grow(1), 1 / 0))

    def snapshot(self) -> None:
        self.pool.snapshot()

    def any_thread(self) -> None:
        self.pool.read(lambda guest: guest.call("n"), any_thread=True)

    def passed(self, guest: Any) -> Any:
        """Have who ends the next transaction rest."""
        self.pool._core.state.passed = True
        return guest.call("bump")

    def rest_after_a_read(self) -> None:
        self.pool.read(self.passed)

    def rest_after_a_write(self) -> None:
        [value] = self.expected
        self.expected = {value, value + 1}
        self.pool.write(self.passed)
        self.expected = {value + 1}

    def timed(self) -> None:
        self.pool.read(lambda guest: guest.call("n"), timeout=60)


@pytest.mark.parametrize("memory", ["copy", "auto"])
@pytest.mark.parametrize(
    "what",
    [
        *("read", "write", "fail", "growing", "snapshot", "any_thread", "timed"),
        *("rest_after_a_read", "rest_after_a_write"),
    ],
)
def test_a_transaction_struck_anywhere_leaves_the_pool_whole(what: str, memory: Any) -> None:
    watched = Watched(memory=memory)
    act = getattr(watched, what)

    def once(striker: Striker) -> None:
        try:
            striker.start()
            act()
        finally:
            rest()
            _places.append(striker.where)
            watched.check()

    with watched.pool:
        watched.check()
        assert struck(once) > 30


@pytest.mark.parametrize("what", ["read", "write"])
def test_a_wait_struck_anywhere_costs_nobody_else_anything(what: str) -> None:
    """Another has the replica, or the leader, and a third waits for it too."""
    with Pool.open(COUNTER, replicas=1) as pool:
        transaction = {"read": pool.read, "write": pool.write}[what]
        waiting = {"read": "readers_waiting", "write": "writers_waiting"}[what]

        def once(striker: Striker) -> None:
            free, inside = threading.Event(), threading.Event()
            answers: list[Any] = []
            holder = threading.Thread(target=transaction, args=(lambda guest: (inside.set(), free.wait(60)),))
            third = threading.Thread(target=lambda: answers.append(transaction(lambda guest: guest.call("n")[0])))
            holder.start()
            assert inside.wait(60)
            third.start()
            while not getattr(pool.stats(), waiting):
                threading.Event().wait(0.001)
            threading.Timer(0.005, free.set).start()
            try:
                striker.start()
                transaction(lambda guest: guest.call("n"), timeout=60)
            finally:
                rest()
                _places.append(striker.where)
                for thread in (holder, third):
                    thread.join(60)
                    assert not thread.is_alive(), _places[-1:]
                assert len(answers) == 1
                assert (pool._core.owners, pool.stats().idle) == ({}, 1), _places[-1:]

        assert struck(once) > 50


def test_what_is_carried_through_is_done_and_told_afterwards() -> None:
    calls: list[int] = []

    def step() -> None:
        calls.append(1)
        if len(calls) < 3:
            raise Struck

    with pytest.raises(Struck):
        carry_through(step, fatal=(MemoryError,))
    assert len(calls) == 3
    carry_through(step, fatal=(MemoryError,))
    with pytest.raises(MemoryError):
        carry_through(lambda: bytearray(1 << 62), fatal=(MemoryError,))


def test_a_deaf_function_still_works() -> None:
    def add(one: int, other: int) -> int:
        try:
            return one + other
        finally:
            pass

    assert deaf_entry(add)(3, 4) == 7


@pytest.mark.parametrize("what", ["reading", "writing"])
def test_a_transaction_that_nobody_holds_any_more_ends_with_the_next(what: str) -> None:
    with Pool.open(COUNTER, replicas=1) as pool:
        lost = getattr(pool, what)()
        guest = lost.__enter__()
        guest.call("bump")
        with pytest.raises(NestedTransactionError):
            pool.read(lambda guest: guest.call("n"))
        del lost
        assert pool.read(lambda guest: guest.call("n"), timeout=60) == (0, 0)
        assert pool.write(lambda guest: guest.call("bump"), timeout=60) == 1
        assert not guest.is_alive


HAMMER = """
import signal, sys, random, threading, time
from replicate import Pool
from replicate.errors import NestedTransactionError

class Struck(Exception): pass
armed = [False]
def hit(*_):
    if armed[0]: raise Struck

signal.signal(signal.SIGALRM, hit)
random.seed(int(sys.argv[1]))
reported = struck = 0
with Pool.open(WAT, replicas=2) as pool:
    stop, wrong, others = threading.Event(), [], [0]
    def beside():
        try:
            while not stop.is_set():
                value = pool.read(lambda guest: guest.call("n"))
                if value[0] != value[1]: wrong.append(value)
                if random.random() < 0.1:
                    pool.write(lambda guest: guest.call("bump"))
                    others[0] += 1
        except BaseException as error: wrong.append(error)
    thread = threading.Thread(target=beside)
    thread.start()
    unsure = 0
    signal.setitimer(signal.ITIMER_REAL, 1e-4, 1e-4)
    for turn in range(600):
        began = ended = False
        try:
            try:
                armed[0] = True
                if turn % 3 == 0:
                    began = True
                    pool.write(lambda guest: guest.call("bump"), timeout=60)
                    ended = True
                elif turn % 3 == 1:
                    pool.read(lambda guest: guest.call("bump"), any_thread=turn % 2 == 0)
                else:
                    with pool.writing() as guest:
                        guest.call("bump")
                        raise ZeroDivisionError
            finally:
                armed[0] = False
        except Struck:
            armed[0] = False
            struck += 1
        except ZeroDivisionError:
            pass
        reported += ended
        unsure += began and not ended
    signal.setitimer(signal.ITIMER_REAL, 0)
    stop.set()
    thread.join()
    state = pool._core.state
    value = pool.read(lambda guest: guest.call("n"), timeout=60)
    assert not wrong, wrong
    assert value[0] == value[1] == pool.version, (value, pool.version)
    assert reported + others[0] <= pool.version <= reported + others[0] + unsure, (reported, others, pool.version, unsure)
    pool.write(lambda guest: guest.call("bump"), timeout=60)
    figures = pool.stats()
    assert (figures.replicas, figures.idle, figures.writing) == (2, 2, False), figures
    assert pool._core.owners == {} and state.sharing == 0
print("struck", struck)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there are no interval timers there")
@pytest.mark.skipif(
    sys.version_info[:2] not in ((3, 11), (3, 12)),
    reason="3.10 looks for signals on an exception's way out of a with, whose lock two signals at once leave held; "
    "3.13 was seen to hold one, too",
)
@pytest.mark.parametrize("seed", ["1", "2"])
def test_a_hail_of_signals_leaves_no_transaction_open(seed: str) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", f"WAT = {COUNTER!r}\n{HAMMER}", seed],
        capture_output=True,
        text=True,
        timeout=240,
    )
    # What strikes in a weak reference's callback can only be printed.
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout.split()[1]) > 10

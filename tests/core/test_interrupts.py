"""Ctrl-C, deadlines and cancellation reach every guest, in a pool or not, and leave everything usable (promise P7)."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from typing import Any

import pytest

from replicate import Adapter, AsyncPool, Guest, Pool, load_engine
from replicate.configuration import Configuration
from replicate.errors import (
    ArgumentRangeError,
    ArgumentTypeError,
    DeadHandleError,
    GuestInterruptedError,
    GuestTimeoutError,
)
from replicate.limits import Limit, Ticker
from replicate_wasmtime import WasmtimeEngine

ENDLESS = """(module (import "h" "soon" (func $soon)) (import "h" "back" (func $back)) (memory (export "memory") 1)
  (global $depth (mut i32) (i32.const 0))
  (func $forever (export "forever") (call $soon) (i32.store (i32.const 0) (i32.const 9)) (loop $l (br $l)))
  (func (export "around") (call $back) (loop $l (br $l)))
  (func (export "set") (param i32) (i32.store (i32.const 0) (local.get 0)))
  (func (export "get") (result i32) (i32.load (i32.const 0)))
  (func (export "refs") (param externref) (call $forever)) %s)"""
START, INITIALIZE, MAIN = (
    "(start $forever)",
    '(export "_initialize" (func $forever))',
    '(export "_start" (func $forever))',
)
PLAIN = ENDLESS % ""
NOTHING = {"h": {"soon": lambda: None, "back": lambda: None}}


class Endless(Adapter):
    """Start with a call that never returns."""

    def source(self) -> str:
        return PLAIN

    def start(self, guest: Guest) -> None:
        guest.call("forever")


# -- Ctrl-C ----------------------------------------------------------------------------------------------------------------

SCRIPT = """
import signal, sys, threading, time
sys.path.insert(0, FOLDER)
from test_interrupts import ENDLESS, INITIALIZE, MAIN, PLAIN, START, Endless
from replicate import Pool, load_engine

def soon():
    threading.Timer(0.3, signal.pthread_kill, [threading.main_thread().ident, signal.SIGINT]).start()

def back():
    instance.call("set", 7)
    time.sleep(0.3)  # the ticker looks meanwhile, and has to go on looking
    soon()

imports = {"h": {"soon": soon, "back": back}}
engine = load_engine("wasmtime")
instance = engine.compile(PLAIN).instantiate(imports)
before = instance.snapshot()

cases = {
    "call": lambda: instance.call("forever"),
    "call again": lambda: instance.call("forever"),
    "bits": lambda: instance.call_bits("forever"),
    "reference": lambda: instance.call("refs", object()),
    "after a host function": lambda: instance.call("around"),
    "export": lambda: instance.exports.forever(),
    "start": lambda: engine.compile(ENDLESS % START).instantiate(imports),
    "pool start": lambda: Pool.open(ENDLESS % START, imports=imports, workers=WORKERS),
    "initialize": lambda: Pool.open(ENDLESS % INITIALIZE, imports=imports, workers=WORKERS),
    "main": lambda: Pool.open(ENDLESS % MAIN, imports=imports, run_start=True, workers=WORKERS),
    "init": lambda: Pool.open(PLAIN, imports=imports, init=lambda guest: guest.call("forever"), workers=WORKERS),
    "adapter": lambda: Pool.open(Endless(), imports=imports, workers=WORKERS),
}
for name, case in cases.items():
    if WORKERS == "processes" and case.__code__.co_names[0] != "Pool":
        continue
    time.sleep(0.2)  # until the ticker has nothing to look for: a call has to wake it
    try:
        case()
        print(name, "returned")
    except KeyboardInterrupt:
        pass
if WORKERS == "threads":
    print(instance.call("get"))
    instance.call("set", 3)
    print(instance.call("get"))
    instance.restore(before)
    print(instance.snapshot() == before)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there's no pthread_kill there")
@pytest.mark.parametrize("workers", ["threads", *(["processes"] if sys.platform == "linux" else [])])
def test_ctrl_c_ends_every_guest_that_the_main_thread_waits_for(workers: str) -> None:
    head = f"FOLDER, WORKERS = {str(__file__).rpartition('/')[0]!r}, {workers!r}\n"
    done = subprocess.run([sys.executable, "-c", head + SCRIPT], capture_output=True, text=True, timeout=120)
    assert (done.stdout, done.stderr) == ("9\n3\nTrue\n" if workers == "threads" else "", "")


def test_a_guest_that_runs_elsewhere_isnt_ticked_again_and_again() -> None:
    """A tick costs every running guest a turn of the interpreter lock, and only in the main thread it tells it something."""
    engine = WasmtimeEngine(cache=False)
    module = engine.compile(PLAIN)
    ticks: list[int] = []
    right = WasmtimeEngine.tick

    class Counting(WasmtimeEngine):
        __slots__ = ()

        def tick(self) -> None:
            ticks.append(1)
            right(self)

    engine.__class__ = Counting

    def run(timeout: float) -> None:
        with module.instantiate(NOTHING) as instance, pytest.raises(GuestTimeoutError), instance.within(timeout):
            instance.call("forever")

    thread = threading.Thread(target=run, args=(2.0,))
    thread.start()
    thread.join()
    assert len(ticks) <= 8, "some for the call, and one for its deadline; and what other tests have left running"
    del ticks[:]
    run(2.0)
    assert len(ticks) >= 10


def test_ticks_that_come_while_a_guest_looks_up_cost_no_later_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine sets the next deadline after the look: what has ticked by then isn't noticed."""
    looks: list[float] = []
    right = Limit.check

    def slow(self: Limit) -> None:
        looks.append(time.monotonic())
        if len(looks) < 3:
            time.sleep(0.4)  # the ticker goes on meanwhile, as often as it does for one look
        right(self)

    engine = WasmtimeEngine(cache=False)
    with engine.compile(PLAIN).instantiate(NOTHING) as instance, pytest.raises(GuestTimeoutError):
        with instance.within(3.0):
            monkeypatch.setattr(Limit, "check", slow)
            instance.call("forever")
    assert len(looks) > 10


def test_deadlines_that_nobody_needs_any_more_are_forgotten() -> None:
    ticker = Ticker()
    engine = load_engine("wasmtime")
    ticker._look_by = lambda when: None  # type: ignore[method-assign]
    kept = [Limit(engine, 3600.0) for _ in range(10)]
    for number in range(10_000):
        ticker.watch(kept[number] if number < 10 else Limit(engine, 3600.0))
    assert ticker._due_engines() == []
    ticker.watch(Limit(engine, 3600.0))
    ticker._due_engines()
    assert len(ticker._due) < 2000
    assert {entry[2]() for entry in ticker._due} >= set(kept)


# -- bounds on a lone instance ---------------------------------------------------------------------------------------------


def test_a_lone_call_can_be_bounded() -> None:
    with load_engine("wasmtime").compile(PLAIN).instantiate(NOTHING) as instance:
        for _ in range(2):
            with pytest.raises(GuestTimeoutError, match="0.05 s"), instance.within(0.05):
                instance.call("forever")
            assert instance.call("get") == 9
        with instance.within(60.0):
            instance.call("set", 4)
        assert (instance.call("get"), instance.limit) == (4, None)


def test_a_lone_call_can_be_cancelled_from_another_thread() -> None:
    limits: list[Limit] = []
    imports = {"h": {"soon": lambda: threading.Timer(0.05, limits[0].cancel, ["enough"]).start(), "back": lambda: None}}
    with load_engine("wasmtime").compile(PLAIN).instantiate(imports) as instance:
        with pytest.raises(GuestInterruptedError, match="enough"), instance.within(None) as limit:
            limits.append(limit)
            instance.call("forever")
        assert instance.call("get") == 9


@pytest.mark.parametrize("inner", [None, 600.0])
def test_a_bound_inside_another_cant_be_wider(inner: float | None) -> None:
    with load_engine("wasmtime").compile(PLAIN).instantiate(NOTHING) as instance:
        with pytest.raises(GuestTimeoutError), instance.within(0.1), instance.within(inner):
            instance.call("forever")
        with instance.within(None) as outer, instance.within(60.0):
            outer.cancel("outside")
            with pytest.raises(GuestInterruptedError, match="outside"):
                instance.call("forever")


@pytest.mark.parametrize(
    ("timeout", "error"), [("1", ArgumentTypeError), (True, ArgumentTypeError), (float("nan"), ArgumentRangeError)]
)
def test_a_bound_is_a_number_of_seconds(timeout: Any, error: type[Exception]) -> None:
    module = load_engine("wasmtime").compile(PLAIN)
    with module.instantiate(NOTHING) as instance, pytest.raises(error):
        instance.within(timeout)
    with pytest.raises(error):
        module.instantiate(NOTHING, timeout=timeout)
    with pytest.raises(error):
        Pool.open(PLAIN, imports=NOTHING, timeout=timeout)


def test_a_start_function_can_be_bounded() -> None:
    with pytest.raises(GuestTimeoutError):
        load_engine("wasmtime").compile(ENDLESS % START).instantiate(NOTHING, timeout=0.05)


# -- opening ---------------------------------------------------------------------------------------------------------------

WAYS: dict[str, Any] = {
    "start": (ENDLESS % START, {}),
    "initialize": (ENDLESS % INITIALIZE, {}),
    "main": (ENDLESS % MAIN, {"run_start": True}),
    "init": (PLAIN, {"init": lambda guest: guest.call("forever")}),
    "adapter": (Endless(), {}),
}
PLACES = ["threads", *(["processes"] if sys.platform == "linux" else [])]


@pytest.mark.parametrize("workers", PLACES)
@pytest.mark.parametrize("way", WAYS)
def test_opening_is_bounded_and_frees_everything(way: str, workers: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []
    right = Configuration.create

    def create(self: Configuration) -> Any:
        made.append(right(self))
        return made[-1]

    monkeypatch.setattr(Configuration, "create", create)
    source, options = WAYS[way]
    with pytest.raises(GuestTimeoutError, match=r"0\.2 s"):
        Pool.open(source, imports=NOTHING, workers=workers, timeout=0.2, **options)
    [leader] = made
    with pytest.raises(DeadHandleError):
        leader.call("get")
    if workers == "processes":
        leader.process._process.wait(60)


def test_opening_that_ends_too_late_is_undone() -> None:
    wait = threading.Event().wait
    with pytest.raises(GuestTimeoutError):
        Pool.open(PLAIN, imports=NOTHING, timeout=0.05, init=lambda guest: wait(0.1))


def test_opening_in_time_bounds_nothing_afterwards() -> None:
    with Pool.open(PLAIN, imports=NOTHING, timeout=0.2, init=lambda guest: guest.call("set", 5)) as pool:
        threading.Event().wait(0.3)
        pool.write(lambda guest: guest.call("set", guest.call("get") + 1))
        assert pool.read(lambda guest: guest.call("get")) == 6


@pytest.mark.parametrize("workers", PLACES)
def test_a_task_that_is_cancelled_while_it_opens_a_pool_stops_the_guest(workers: Any) -> None:
    ended = threading.Event()
    inside = threading.Event()

    def init(guest: Guest) -> None:
        inside.set()
        try:
            guest.call("forever")
        except GuestInterruptedError:
            ended.set()
            raise

    async def main() -> None:
        opening = asyncio.ensure_future(_opened(PLAIN, imports=NOTHING, workers=workers, init=init))
        assert await asyncio.to_thread(inside.wait, 60)
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening
        assert await asyncio.to_thread(ended.wait, 60)
        with pytest.raises(GuestTimeoutError):
            await _opened(
                PLAIN, imports=NOTHING, workers=workers, timeout=0.1, init=lambda guest: guest.call("forever")
            )

    asyncio.run(main())


async def _opened(*args: Any, **options: Any) -> AsyncPool:
    return await AsyncPool.open(*args, **options)

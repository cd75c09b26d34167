"""What a Prolog query costs, alone and by a hundred threads: ``python tests/bench/bench_trealla.py``. Needs the module."""

from __future__ import annotations

import multiprocessing
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import wasmtime
from figures import Figure, best_of, show
from replicate_trealla import Prolog, PrologPool

from replicate import small_state
from replicate.configuration import usable_cores

PROGRAM = "test(123). nrev([], []). nrev([H|T], R) :- nrev(T, S), append(S, [H], R)."
GOAL = "test(X)"
THREADS = 100


def through_func_call(prolog: Prolog) -> None:
    """Have an interpreter's guest calls go through wasmtime-py's ``Func.__call__``."""
    instance: Any = prolog._instance
    store = instance.cell.store

    def slow(name: str) -> Callable[..., Any]:
        buffer = instance._function_buffer(name)
        native = wasmtime.Func._from_raw(wasmtime._ffi.wasmtime_func_t.from_buffer(bytearray(buffer.raw)))
        return lambda *args: native(store, *args)

    prolog.query_once(GOAL)
    instance._functions.update({name: slow(name) for name in list(instance._functions)})


def from_threads(query: Callable[[], Any], per_thread: int) -> float:
    """Give the seconds a query takes when a hundred threads ask at once."""
    barrier = threading.Barrier(THREADS + 1)
    wrong: list[Any] = []

    def work() -> None:
        barrier.wait()
        for _ in range(per_thread):
            answer = query()
            if answer is None or answer["X"] != 123:
                wrong.append(answer)

    threads = [threading.Thread(target=work) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    barrier.wait()
    began = time.perf_counter()
    for thread in threads:
        thread.join()
    assert not wrong, wrong[0]
    return (time.perf_counter() - began) / (THREADS * per_thread)


def _spin(count: int) -> float:
    began = time.perf_counter()
    total = 0
    for number in range(count):
        total += number
    return time.perf_counter() - began


def real_cores(cores: int) -> float:
    """Give how many cores' worth of work this many processes get done just now: a shared machine gives less than it says."""
    with multiprocessing.get_context("spawn").Pool(cores) as processes:
        processes.map(_spin, [1000] * cores)
        alone = min(processes.apply(_spin, (3_000_000,)) for _ in range(3))
        together = min(max(processes.map(_spin, [3_000_000] * cores, chunksize=1)) for _ in range(3))
    return cores * alone / together


def main() -> int:
    cores = usable_cores()
    single, slow = Prolog(program=PROGRAM), Prolog(program=PROGRAM)
    through_func_call(slow)
    pool = PrologPool(replicas=cores, program=PROGRAM)
    strict = PrologPool(replicas=cores, program=PROGRAM, reset="each_read")
    times = best_of(
        [
            lambda: slow.query_once(GOAL),
            lambda: single.query_once(GOAL),
            lambda: pool.query_once(GOAL),
            lambda: strict.query_once(GOAL),
        ],
        calls=50,
        rounds=20,
    )
    for name, seconds in zip(["Func.__call__", "one interpreter", "pool", "pool, each_read"], times, strict=True):
        print(f"{name:18} {seconds * 1e6:8.1f} us")

    lock = threading.Lock()

    def locked() -> Any:
        with lock:
            return single.query_once(GOAL)

    rounds = [
        (
            from_threads(locked, 20),
            from_threads(lambda: pool.query_once(GOAL), 20),
            from_threads(lambda: strict.query_once(GOAL), 20),
        )
        for _ in range(5)
    ]
    best = [min(column) for column in zip(*rounds, strict=True)]
    given = real_cores(cores)
    print(
        f"{THREADS} threads: locked {best[0] * 1e6:.0f} us, pool {best[1] * 1e6:.0f} us, each_read {best[2] * 1e6:.0f} us"
    )
    print(f"two processes get {given:.2f} cores' worth of work done just now, of {cores}\n")

    opens = []
    for _ in range(5):
        began = time.perf_counter()
        PrologPool(replicas=cores).close()
        opens.append(time.perf_counter() - began)
    core = pool.pool._core
    assert core.leader is not None
    leader = core.leader
    known = small_state.capture(leader)
    small = best_of([lambda: small_state.capture(leader, known=known)], calls=200)[0]
    figures = [
        Figure("one-fact query through the pool, against Func.__call__", 3, times[0] / times[2]),
        Figure(
            "100 threads: pool against one locked interpreter",
            0.9 * cores,
            best[0] / best[1],
            detail=f"{given:.2f} real cores",
        ),
        Figure("opening a second pool", 30, min(opens) * 1e3, better="at most", unit="ms"),
        Figure("state other than memory, at a commit", 20, small * 1e6, better="at most", unit="us"),
    ]
    return show(figures)


if __name__ == "__main__":
    sys.exit(main())

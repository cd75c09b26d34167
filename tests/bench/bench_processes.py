"""What worker processes cost and give: ``python tests/bench/bench_processes.py``."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from figures import Figure, best_of, show

from replicate import Pool

WAT = """(module (memory (export "memory") 64)
  (func (export "one") (result i32) i32.const 1)
  (func (export "touch") (param $pages i32) (param $value i32)
    (loop $l (local.set $pages (i32.sub (local.get $pages) (i32.const 1)))
      (i32.store (i32.mul (local.get $pages) (i32.const 8192)) (local.get $value))
      (br_if $l (local.get $pages))))
  (func (export "spin") (param $turns i32) (result i32) (local $x i32)
    (loop $l (local.set $x (i32.add (i32.mul (local.get $x) (i32.const 1664525)) (i32.const 1013904223)))
      (local.set $turns (i32.sub (local.get $turns) (i32.const 1))) (br_if $l (local.get $turns))) (local.get $x)))"""

_WORK_SECONDS = 0.005
_ROUNDS = 12


def one(guest: Any) -> Any:
    """Do nothing in the guest."""
    return guest.call("one")


def throughput(pool: Pool, turns: int, threads: int, seconds: float = 0.5) -> float:
    """Count reads a second of some guest work."""
    counts = [0] * threads
    stop = time.perf_counter() + seconds

    def work(number: int) -> None:
        while time.perf_counter() < stop:
            pool.read(lambda guest: guest.call("spin", turns))
            counts[number] += 1

    workers = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return sum(counts) / seconds


def parallel(engine: str) -> Figure:
    """Compare two replicas with one."""
    with (
        Pool.open(WAT, engine=engine, workers="processes", replicas=1) as single,
        Pool.open(WAT, engine=engine, workers="processes", replicas=2) as double,
    ):
        turns = 1_000_000
        (seconds,) = best_of([lambda: single.read(lambda guest: guest.call("spin", turns))], calls=1)
        turns = int(turns * _WORK_SECONDS / seconds)
        double.read(one)
        rounds = [(throughput(single, turns, 1), throughput(double, turns, 2)) for _ in range(_ROUNDS)]
        best_single, best_double = (max(column) for column in zip(*rounds, strict=True))
    return Figure(
        f"{engine}: 2 replicas, 5 ms a read, against 1",
        1.8,
        best_double / best_single,
        detail=f"{best_single:.0f}/s, {best_double:.0f}/s",
    )


def round_trip(engine: str) -> Figure:
    """Compare a read in a worker with one in this process, on wasmtime there."""
    with Pool.open(WAT, replicas=1) as here, Pool.open(WAT, engine=engine, workers="processes", replicas=1) as there:
        near, far = best_of([lambda: here.read(one), lambda: there.read(one)], calls=200)
    return Figure(
        f"{engine}: a read in a worker takes longer by",
        60,
        (far - near) * 1e6,
        "at most",
        "us",
        f"{near * 1e6:.1f} us here",
    )


def commit(engine: str) -> list[Figure]:
    """Measure a write of 50 pages in 25 ranges whose commit reaches 8 workers."""
    with Pool.open(WAT, engine=engine, workers="processes", replicas=8) as pool:
        barrier = threading.Barrier(8)
        readers = [
            threading.Thread(target=pool.read, args=(lambda guest: (one(guest), barrier.wait()),)) for _ in range(8)
        ]
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join()
        value = [0]

        def write(guest: Any) -> None:
            value[0] += 1
            guest.call("touch", 50, value[0])

        def look(guest: Any) -> Any:
            return guest.memory.unpack("<i", 0)[0]

        best = best_read = 1.0
        for _ in range(200):
            began = time.perf_counter()
            pool.write(write)
            best = min(best, time.perf_counter() - began)
            began = time.perf_counter()
            assert pool.read(look) == value[0]
            best_read = min(best_read, time.perf_counter() - began)
    return [
        Figure(f"{engine}: a write of 50 pages with 8 workers", 1000, best * 1e6, "at most", "us"),
        Figure(f"{engine}: the first read after it", 1000, best_read * 1e6, "at most", "us"),
    ]


def figures(engines: list[str] | None = None) -> list[Figure]:
    """Measure, and give the figures that have a goal."""
    found: list[Figure] = []
    measures: list[Callable[[str], Any]] = [round_trip, commit, parallel]
    for engine in engines or ["wasmtime", "wasmer"]:
        for measure in measures:
            some = measure(engine)
            found += some if isinstance(some, list) else [some]
    return found


def main(engines: list[str]) -> int:
    """Print the figures."""
    return show(figures(engines))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

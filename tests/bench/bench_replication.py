"""What commits, resets and replicas cost: ``python tests/bench/bench_replication.py``. Needs copy-on-write (Linux)."""

from __future__ import annotations

import re
import statistics
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from figures import Figure, show

from replicate import Pool
from replicate.memory_modes import why_not_copy_on_write

PAGE = 4096


def wat(mib: int) -> str:
    """Give a guest of that many MiB."""
    return f"""(module (memory (export "memory") {mib * 16} 65536)
      (func (export "peek") (param i32) (result i32) (i32.load (local.get 0)))
      (func (export "spin") (param $n i32) (loop $l (br_if $l (local.tee $n (i32.sub (local.get $n) (i32.const 1))))))
      (func (export "touch") (param $n i32) (param $stride i32) (param $v i32) (local $p i32)
        (loop $l (i32.store (local.get $p) (local.get $v))
          (local.set $p (i32.add (local.get $p) (local.get $stride)))
          (br_if $l (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))))"""


def median(act: Callable[[], object], times: int) -> float:
    """Give the median seconds of an action."""
    samples = []
    for _ in range(times):
        began = time.perf_counter()
        act()
        samples.append(time.perf_counter() - began)
    return statistics.median(samples)


def fill(mib: int) -> Callable[[Any], object]:
    """Give what writes to every page."""
    return lambda guest: guest.call("touch", mib * 256, PAGE, 7)


def whole_write(mib: int, *, memory: Any, replicas: int, times: int) -> float:
    """Give the seconds of a write that dirties 50 scattered pages."""
    values = iter(range(1 << 30))
    with Pool.open(wat(mib), replicas=replicas, memory=memory, init=fill(mib)) as pool:

        def write() -> None:
            value = next(values)
            pool.write(lambda guest: guest.call("touch", 50, 2 * PAGE, value))

        for _ in range(3):
            write()
        return median(write, times)


def full_copy(mib: int) -> float:
    """Give the seconds of copying the guest to one replica."""
    with Pool.open(wat(mib), replicas=1, memory="copy", init=fill(mib)) as pool:
        core = pool._core
        replica = core.instances[0]
        return median(lambda: core.image.restore(replica), 5)


def pss() -> int:
    """Give this process's proportional set size in bytes."""
    with open("/proc/self/smaps_rollup") as file:
        found = re.search(r"^Pss:\s+(\d+) kB", file.read(), re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024


def hand_over_beside_readers(readers: int) -> float:
    """Give the seconds for which a commit has the image for itself while replicas are mid-read."""
    with Pool.open(wat(16), replicas=readers, init=fill(16)) as pool:
        inside, go = threading.Barrier(readers + 1), threading.Event()

        def read(guest: Any) -> None:
            guest.call("peek", 0)
            inside.wait(60)
            go.wait(60)

        threads = [threading.Thread(target=pool.read, args=(read,)) for _ in range(readers)]
        for thread in threads:
            thread.start()
        inside.wait(60)
        samples: list[float] = []
        right = pool._core.image.commit

        def timed(*args: Any) -> Any:
            began = time.perf_counter()
            result = right(*args)
            samples.append(time.perf_counter() - began)
            return result

        pool._core.image.commit = timed  # type: ignore[method-assign]
        for value in range(20):
            pool.write(lambda guest, value=value: guest.call("touch", 50, (value % 7 + 1) * PAGE, value))
        go.set()
        for thread in threads:
            thread.join()
        return statistics.median(samples)


def beside_a_busy_thread() -> float:
    """Give the median seconds of a whole write while another Python thread never rests."""
    with Pool.open(wat(16), replicas=1, init=fill(16)) as pool:
        stop = threading.Event()

        def busy() -> None:
            while not stop.is_set():
                sum(range(1000))

        thread = threading.Thread(target=busy)
        thread.start()
        core = pool._core
        with pool.writing() as guest:
            guest.call("touch", 50, 2 * PAGE, 1)
        samples = []
        for value in range(20):
            transaction = pool.writing()
            guest = transaction.__enter__()
            guest.call("touch", 50, 2 * PAGE, value)
            began = time.perf_counter()
            transaction.__exit__(None, None, None)
            samples.append(time.perf_counter() - began)
        stop.set()
        thread.join()
        assert core.state.version == 21
        return statistics.median(samples)


def reads_beside_a_long_write(seconds: float) -> tuple[float, float]:
    """Give how many reads get done beside a write of so many seconds, against without, and the longest of them in seconds."""
    with Pool.open(wat(16), replicas=1, init=fill(16)) as pool:

        def spin(guest: Any) -> None:
            end = time.perf_counter() + seconds
            while time.perf_counter() < end:
                guest.call("spin", 50_000_000)

        def count(while_: Callable[[], bool]) -> tuple[float, float]:
            reads, longest, began = 0, 0.0, time.perf_counter()
            while while_():
                before = time.perf_counter()
                pool.read(lambda guest: guest.call("spin", 200_000))
                longest = max(longest, time.perf_counter() - before)
                reads += 1
            return reads / (time.perf_counter() - began), longest

        end = time.perf_counter() + seconds
        alone, _ = count(lambda: time.perf_counter() < end)
        writer = threading.Thread(target=pool.write, args=(spin,))
        writer.start()
        beside, longest = count(writer.is_alive)
        writer.join()
        return beside / alone, longest


def figures() -> list[Figure]:
    """Measure, and give the figures that have a goal; none where memory can't be kept copy-on-write."""
    if why_not_copy_on_write() is not None:
        print(why_not_copy_on_write())
        return []
    found = []
    large = whole_write(256, memory="copy-on-write", replicas=16, times=300)
    small = whole_write(16, memory="copy-on-write", replicas=16, times=300)
    copy = full_copy(256)
    found.append(
        Figure(
            "write of 50 pages, 256 MiB, against 16 full copies", 500, 16 * copy / large, detail=f"{large * 1e6:.0f} us"
        )
    )
    found.append(Figure("the same at 16 MiB, in times of 256 MiB", 2, small / large, better="at most"))

    with Pool.open(wat(256), replicas=16, init=fill(256), reset="on_commit") as pool:
        core = pool._core

        def spawn() -> None:
            instance = core.config.create()
            core.image.restore(instance)
            instance.close()

        found.append(Figure("new replica of 256 MiB", 150, median(spawn, 200) * 1e6, better="at most", unit="us"))
        replica = core.instances[0]
        dirty: list[float] = []
        for _ in range(300):
            for start in range(22):
                replica.memory_view(0)[start * 8 * PAGE : start * 8 * PAGE + PAGE + 1] = b"x" * (PAGE + 1)
            began = time.perf_counter()
            core.image.restore(replica)
            dirty.append(time.perf_counter() - began)
        found.append(
            Figure("reset of 44 pages in 22 ranges", 40, statistics.median(dirty) * 1e6, better="at most", unit="us")
        )

    before = pss()
    with Pool.open(wat(256), replicas=1, init=fill(256)) as pool:
        one = pss()
        pool.resize(17)
        core = pool._core
        core._make_replicas(17)
        used = pss() - one
    found.append(
        Figure("16 more idle replicas of 256 MiB", 2, 100 * used / (16 * 256 << 20), better="at most", unit="%")
    )
    assert one > before
    found.append(
        Figure(
            "commit's exclusive time, 8 replicas mid-read",
            1000,
            hand_over_beside_readers(8) * 1e6,
            better="at most",
            unit="us",
        )
    )
    found.append(
        Figure("commit beside a busy Python thread", 5, beside_a_busy_thread() * 1e3, better="at most", unit="ms")
    )
    beside, longest = reads_beside_a_long_write(2.0)
    found.append(Figure("reads during a write of 2 s, against without", 0.9, beside))
    found.append(Figure("the longest of these reads", 100, longest * 1e3, better="at most", unit="ms"))
    return found


def main() -> int:
    return show(figures()) if why_not_copy_on_write() is None else 1


if __name__ == "__main__":
    sys.exit(main())

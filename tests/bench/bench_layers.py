"""Where the time of a read, a write, a commit and a reset goes, step by step: ``python tests/bench/bench_layers.py``.

Each row is the median of what one step took, in a transaction on a guest of 16 MiB that is done step by step, as `Pool.read`
and `Pool.write` do it. Looking at the clock between the steps takes time too, which is measured and taken off.
``bench_layers.py beside [SECONDS]`` only watches readers and writers that never rest beside each other, so many seconds each.
"""

from __future__ import annotations

import mmap
import os
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from bench_replication import PAGE, fill, wat
from figures import best_of

from replicate import Pool
from replicate.memory_modes import page_map, why_not_copy_on_write
from replicate.owners import current_owner
from replicate.waiting import Asking, ThreadWaiter

MIB = 16
TIMES = 2000
clock = time.perf_counter
_SHARES = (("half", 0.5), ("99 %", 0.99), ("99.9 %", 0.999), ("the longest", 1.0))


class Steps:
    """Collect what each step took."""

    def __init__(self) -> None:
        self.taken: dict[str, list[float]] = {}
        self._since = 0.0
        self._off = statistics.median([abs(clock() - clock()) for _ in range(1000)])

    def begin(self) -> None:
        self._since = clock()

    def note(self, name: str) -> None:
        """Note that the step which has just ended is called so."""
        now = clock()
        self.taken.setdefault(name, []).append(max(0.0, now - self._since - self._off))
        self._since = clock()

    @contextmanager
    def inside(self, owner: Any, methods: dict[str, str]) -> Iterator[None]:
        """Measure calls of these methods too, which are parts of a step."""
        right = {method: getattr(owner, method) for method in methods}

        def timed(method: str, name: str) -> Callable[..., Any]:
            def call(*args: Any, **named: Any) -> Any:
                began = clock()
                result = right[method](*args, **named)
                self.taken.setdefault(name, []).append(max(0.0, clock() - began - self._off))
                return result

            return call

        for method, name in methods.items():
            setattr(owner, method, timed(method, name))
        try:
            yield
        finally:
            for method in methods:
                delattr(owner, method)

    def show(self, title: str) -> None:
        """Print the steps; those that are parts of another are indented, and don't count twice."""
        print(title)
        parts: list[str] = []
        for name, samples in self.taken.items():
            row = f"  {name:58} {statistics.median(samples) * 1e6:8.2f} us"
            if name.startswith(" "):
                # They end, and so are noted, before the step that they're parts of.
                parts.append(row)
            else:
                print("\n".join([row, *parts]))
                parts.clear()
        whole = [sum(parts) for parts in zip(*self._steps(), strict=True)]
        print(f"  {'all steps':58} {statistics.median(whole) * 1e6:8.2f} us\n")

    def _steps(self) -> list[list[float]]:
        return [samples for name, samples in self.taken.items() if not name.startswith(" ")]


def read(pool: Pool, act: Callable[[Any], Any], name: str) -> None:
    """Do reads step by step."""
    core, steps = pool._core, Steps()
    with steps.inside(core.image, {"restore": "    of which: restoring the replica"}):
        for _ in range(TIMES):
            steps.begin()
            owner = current_owner()
            slot = core.enter_read(owner, Asking())
            steps.note("enter, and take an idle replica")
            assert slot is not None
            guest = core.start_read(slot)
            steps.note("make it equal to the committed state, give a handle")
            act(guest)
            steps.note("what the caller does with the guest")
            core.end_read(slot, failed=False, owner=owner)
            steps.note("take the handle back, free the replica, leave")
    steps.show(f"A read, {name}")


def write(pool: Pool, act: Callable[[Any], Any], name: str) -> None:
    """Do writes step by step."""
    core, steps = pool._core, Steps()
    parts = {
        "prepare": "    of which: looking what the write changed",
        "commit": "    of which: copying it into the image",
    }
    with steps.inside(core.image, parts):
        for _ in range(TIMES):
            steps.begin()
            owner = core.enter()
            assert core.event(core.state.write_wanted, ThreadWaiter())
            steps.note("enter, and take the leader")
            guest = core.start_write()
            steps.note("give a handle")
            act(guest)
            steps.note("what the caller does with the guest")
            core.commit()
            steps.note("commit")
            core.end_write()
            core.leave(owner)
            steps.note("take the handle back, let the next writer in, leave")
    steps.show(f"A write, {name}")


def touch(pages: int) -> Callable[[Any], Any]:
    """Give what writes to every second of so many pages."""
    return lambda guest: guest.call("touch", pages, 2 * PAGE, 1)


def kernel() -> None:
    """Measure the system calls and copies that commits and resets are made of."""
    pages = page_map()
    with Pool.open(wat(MIB), replicas=1, init=fill(MIB)) as pool:
        core = pool._core
        leader = core.leader
        assert leader is not None
        base = leader.memory_address(0)
        view = leader.memory_view(0)

        once = best_of(
            [
                lambda: None,
                lambda: pages.faults(),
                lambda: pages.private(base, base + MIB * (1 << 20)),
                lambda: bytes(view[: 64 * PAGE]),
            ],
            calls=200,
        )
    print("What it is made of")
    print(f"  {'asking how many page faults there have been':58} {(once[1] - once[0]) * 1e6:8.2f} us")
    print(f"  {f'having the kernel list private pages among {MIB} MiB':58} {(once[2] - once[0]) * 1e6:8.2f} us")
    print(f"  {'copying 64 pages that are in the cache':58} {(once[3] - once[0]) * 1e6:8.2f} us")
    print(f"  {'a page fault that copies a page':58} {page_fault() * 1e6:8.2f} us\n")


def page_fault(pages: int = 1024) -> float:
    """Give the seconds that the first write to a page of a private mapping takes."""
    file = os.memfd_create("bench-layers")
    try:
        os.pwrite(file, b"x" * (pages * PAGE), 0)
        samples = []
        for _ in range(20):
            room = mmap.mmap(file, pages * PAGE, flags=mmap.MAP_PRIVATE)
            began = clock()
            for at in range(0, pages * PAGE, PAGE):
                room[at] = 1
            first = clock() - began
            began = clock()
            for at in range(0, pages * PAGE, PAGE):
                room[at] = 1
            samples.append((first - (clock() - began)) / pages)
            room.close()
        return statistics.median(samples)
    finally:
        os.close(file)


def handles() -> None:
    """Measure the handle that a transaction gives."""
    with Pool.open(wat(MIB), replicas=1) as pool, pool.reading() as guest:
        memory = guest.memory
        look, change = best_of([lambda: memory.read(0, 1), lambda: memory.write(0, b"x")], calls=1000)
    print("A guest handle")
    print(f"  {'guest.memory.read of a byte':58} {look * 1e6:8.2f} us")
    print(f"  {'guest.memory.write of a byte':58} {change * 1e6:8.2f} us\n")


def beside(readers: int, writers: int, *, rest_seconds: float = 0.0, seconds: float = 3.0, **options: Any) -> None:
    """Watch every read and write of threads that never rest, writers apart, which rest for so long after each write."""
    with Pool.open(wat(MIB), init=fill(MIB), **{"replicas": 2, **options}) as pool:
        taken: dict[str, list[float]] = {"reads": [], "writes": []}
        change = touch(1)

        def look(guest: Any) -> None:
            guest.call("peek", 0)

        def keep_on(name: str, act: Callable[[], object], rest: float) -> None:
            samples, now = [], clock()
            while now < end:
                act()
                samples.append(clock() - now)
                if rest:
                    time.sleep(rest)
                now = clock()
            taken[name].extend(samples)

        jobs: list[tuple[str, Callable[[], object], float]] = [("reads", lambda: pool.read(look), 0.0)] * readers
        jobs += [("writes", lambda: pool.write(change), rest_seconds)] * writers
        end = clock() + seconds
        threads = [threading.Thread(target=keep_on, args=job) for job in jobs[1:]]
        for thread in threads:
            thread.start()
        keep_on(*jobs[0])
        for thread in threads:
            thread.join()
    rests = f", rests of {rest_seconds * 1e3:g} ms after each write" if rest_seconds else ""
    print(f"  {readers} reader(s), {writers} writer(s){rests}{''.join(f', {k}={v!r}' for k, v in options.items())}")
    for name, samples in taken.items():
        samples.sort()
        shares = [f"{share} {samples[round(at * (len(samples) - 1))] * 1e3:.3f} ms" for share, at in _SHARES]
        print(f"    {name:6} {len(samples) / seconds:7.0f} a second: {', '.join(shares)}")


def all_beside(seconds: float) -> None:
    """Watch readers and writers that never rest beside each other, few and many."""
    print("Reads and writes beside each other")
    for readers, writers in ((1, 1), (2, 1), (1, 2), (16, 1)):
        beside(readers, writers, seconds=seconds)
    beside(2, 1, seconds=seconds, reset="on_commit")
    beside(3, 1, seconds=seconds, replicas=1)
    beside(1, 1, seconds=seconds, rest_seconds=0.0005)


def main() -> int:
    if sys.argv[1:2] == ["beside"]:
        all_beside(float(sys.argv[2]) if sys.argv[2:] else 3.0)
        return 0
    if why_not_copy_on_write() is not None:
        print(why_not_copy_on_write())
        return 1
    with (
        Pool.open(wat(MIB), replicas=1, init=fill(MIB), reset="on_commit") as relaxed,
        Pool.open(wat(MIB), replicas=1, init=fill(MIB)) as strict,
    ):
        read(relaxed, lambda guest: guest.call("peek", 0), 'one call that changes nothing, reset="on_commit"')
        read(strict, lambda guest: guest.call("peek", 0), 'one call that changes nothing, reset="each_read"')
        read(strict, touch(44), 'one call that writes 44 pages in 44 ranges, reset="each_read"')
        write(strict, touch(1), "one call that writes 1 page")
        write(strict, touch(50), "one call that writes 50 pages in 50 ranges")
    kernel()
    handles()
    all_beside(3.0)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""What a module's commits, replicas and memory cost: by dirty pages, by the guest's size, by replicas."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING

from replicate.cli.bench.machine import proportional_bytes
from replicate.cli.bench.recorder import Recorder
from replicate.cli.bench.rounds import Sampler, Variant, timed
from replicate.cli.bench.subject import GuestPages
from replicate.cli.terminal import terminal
from replicate.errors import ReplicateError
from replicate.memory_modes import MemoryMode, why_not_copy_on_write

if TYPE_CHECKING:
    from replicate import Guest, Pool
    from replicate.cli.bench.subject import Subject

__all__ = ["measure_commits", "measure_memory", "measure_spawning"]

_PAGE = 4096
_DIRTY_PAGES = (1, 8, 64, 512)
_SIZES = (16 << 20, 64 << 20, 256 << 20)
"""The sizes that a guest is grown to; the larger ones take some GiB with plain copies."""
_DIRTY = 50
_MEMORY_ROUNDS = 2
_MEETING_SECONDS = 60.0


def _modes(subject: Subject) -> tuple[tuple[MemoryMode, ...], str]:
    """Give the ways of keeping memory that this system and engine have, and why not both."""
    reason = why_not_copy_on_write()
    if reason is None and not subject.loaded.module.engine.traits.stable_memory:
        reason = "the engine doesn't keep memories at one address"
    if reason is None:
        return ("copy-on-write", "copy"), ""
    return ("copy",), f"copy-on-write couldn't be measured: {reason}"


def _sizes(subject: Subject) -> tuple[list[int], str]:
    """Give the sizes in bytes of the guests to measure, its own and those it can grow to, and why not more."""
    own = subject.memory_bytes
    if not own:
        return [], "the module has no memory, or several, so nothing was measured by its size"
    sizes = [own, *(size for size in _SIZES if size > own and subject.can_grow_to(size))]
    if len(sizes) == 1:
        return sizes, f"the memory can't grow to {_SIZES[0] >> 20} MiB, so nothing was measured by the guest's size"
    return sizes, ""


def measure_commits(recorder: Recorder, subject: Subject) -> None:
    """Measure what a write and the read after it cost, with one replica: by dirty pages, and by the guest's size."""
    (modes, why_copies), (sizes, why_few) = _modes(subject), _sizes(subject)
    for why in (why_copies, why_few):
        if why:
            recorder.note(why)
    if not sizes:
        return
    with ExitStack() as stack:

        def variant(mode: MemoryMode, group: str, pages: int, size: int) -> Variant:
            # A pool for each: what one write leaves private in a leader, another would pay for.
            pool = stack.enter_context(subject.open_pool(1, "on_commit", memory=mode, size_bytes=size))
            write = GuestPages(pages)

            def act() -> None:
                pool.write(write)
                pool.read(_look)

            by_pages = group == "commit pages"
            return Variant(
                group=group,
                name=f"{mode}, {f'{pages} pages' if by_pages else _spelled(size)}",
                curve=mode,
                x=pages if by_pages else size,
                sample=timed(act, recorder.pace),
            )

        middle = sizes[min(1, len(sizes) - 1)]
        dirty = min(_DIRTY, sizes[0] // (2 * _PAGE))
        with terminal.working("growing guests"):
            by_pages = [
                variant(mode, "commit pages", pages, middle)
                for mode in modes
                for pages in _DIRTY_PAGES
                if 2 * pages * _PAGE <= middle
            ]
            by_size = [variant(mode, "commit size", dirty, size) for mode in modes for size in sizes]
        recorder.measure(f"a write and the read after it, by dirty pages, in a guest of {_spelled(middle)}", by_pages)
        recorder.measure(f"a write of {dirty} pages and the read after it, by the guest's size", by_size)


def _spelled(size_bytes: int) -> str:
    return f"{size_bytes / (1 << 20):.3g} MiB"


def _look(guest: Guest) -> None:
    """Be a read that does nothing."""


def measure_spawning(recorder: Recorder, subject: Subject) -> None:
    """Measure what making one more replica costs, by the guest's size."""
    sizes, _ = _sizes(subject)
    variants = []
    with ExitStack() as stack:
        for mode in _modes(subject)[0]:
            for size in sizes or [0]:
                pool = stack.enter_context(subject.open_pool(1, "on_commit", memory=mode, size_bytes=size or None))
                variants.append(
                    Variant(
                        group="spawn",
                        name=f"{mode}, {_spelled(size)}",
                        curve=mode,
                        x=size,
                        sample=timed(_spawning(pool), recorder.pace),
                    )
                )
        recorder.measure("making a replica and closing it, by the guest's size", variants)


def _spawning(pool: Pool) -> Callable[[], object]:
    core = pool._core

    def spawn() -> None:
        instance = core.config.create()
        try:
            core.image.restore(instance)
        finally:
            instance.close()

    return spawn


def measure_memory(recorder: Recorder, subject: Subject, sizes: Sequence[int]) -> None:
    """Measure by how much this process's proportional set size grows with a pool, each of whose replicas has read."""
    if proportional_bytes() is None:
        recorder.note("memory couldn't be measured: that needs Linux, and /proc/self/smaps_rollup")
        return
    variants = [
        Variant(
            group="memory",
            name=f"{mode}, replicas {size}",
            curve=mode,
            x=size,
            role="memory",
            unit="bytes",
            sample=_footprint(subject, mode, size),
        )
        for mode in _modes(subject)[0]
        for size in sizes
    ]
    recorder.measure("memory of a pool whose replicas have all read", variants, rounds=_MEMORY_ROUNDS)


def _footprint(subject: Subject, mode: MemoryMode, size: int) -> Sampler:
    def sample() -> Sequence[float]:
        before = proportional_bytes() or 0
        with subject.open_pool(size, "on_commit", memory=mode) as pool:
            _read_on_all(pool, subject)
            return (max(0, (proportional_bytes() or 0) - before),)

    return sample


def _read_on_all(pool: Pool, subject: Subject) -> None:
    """Read once on each replica, all at the same time: else the first would do all the reads."""
    inside, failures = threading.Barrier(pool.replicas), list[BaseException]()

    def read(guest: Guest) -> None:
        subject.read(guest)
        inside.wait(_MEETING_SECONDS)

    def work() -> None:
        try:
            pool.read(read)
        except BaseException as error:
            failures.append(error)
            inside.abort()

    threads = [threading.Thread(target=work, daemon=True) for _ in range(pool.replicas)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for error in failures:
        if not isinstance(error, threading.BrokenBarrierError):
            raise error
    if failures:
        raise ReplicateError(f"not all of {pool.replicas} replicas read within {_MEETING_SECONDS:.0f} s")

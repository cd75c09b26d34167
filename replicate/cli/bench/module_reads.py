"""What reads of a module cost: alone, from a crowd, and beside a writer."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, cast, get_args

from replicate.adapter import ResetRule
from replicate.cli.bench.crowd import Crowd
from replicate.cli.bench.recorder import Recorder
from replicate.cli.bench.rounds import CrowdSamples, Sampler, Variant, timed
from replicate.configuration import usable_cores

if TYPE_CHECKING:
    from collections.abc import Iterator

    from replicate import Pool
    from replicate.cli.bench.subject import Subject

__all__ = ["LOCKED", "measure_calls", "measure_latency", "measure_scaling"]

LOCKED = "one instance behind a lock"
_RULES = cast("tuple[ResetRule, ...]", get_args(ResetRule))
_MOST_OF_A_SLICE = 500
"""A result keeps that many latencies of a slice, drawn by chance."""
_ENDING_SECONDS = 60.0


def _spelled(rule: str) -> str:
    return f"pool, reset {rule.replace('_', ' ')}"


def measure_calls(recorder: Recorder, subject: Subject) -> None:
    """Measure one thread: the bare call, reads under both rules, a write."""
    pace, read, write = recorder.pace, subject.read, subject.write
    with ExitStack() as stack:
        single = stack.enter_context(subject.open_single())
        pools = {rule: stack.enter_context(subject.open_pool(1, rule)) for rule in _RULES}
        bare = "bare Instance.call" if subject.place.here else "one instance"
        acts: list[tuple[str, Callable[[], object]]] = [(f"read, {bare}", single.caller(read))]
        for rule, pool in pools.items():
            acts.append((f"read, {_spelled(rule)}", lambda pool=pool: pool.read(read)))  # type: ignore[misc]
        if write is not None:
            acts.append((f"write, {bare}", single.caller(write)))
            acts.append(("write, pool", lambda: pools["on_commit"].write(write)))
            for rule, pool in pools.items():

                def both(pool: Pool = pool) -> None:
                    pool.write(write)
                    pool.read(read)

                acts.append((f"write and the read after it, {_spelled(rule)}", both))
        recorder.measure(
            "one thread",
            [Variant(group="calls", name=name, curve=name, sample=timed(act, pace)) for name, act in acts],
        )


def measure_scaling(recorder: Recorder, subject: Subject, crowd: Crowd, sizes: Sequence[int]) -> None:
    """Measure a crowd's reads: one locked instance against pools of these sizes."""
    crowds, read = CrowdSamples(crowd, recorder.pace), subject.read
    with ExitStack() as stack:
        look, lock = stack.enter_context(subject.open_single()).caller(read), threading.Lock()

        def locked() -> None:
            with lock:
                look()

        variants = [
            Variant(
                group="scaling",
                name=LOCKED,
                curve=LOCKED,
                x=1,
                role="crowd",
                sample=crowds.of(locked),
            )
        ]
        for size in sorted({*sizes, usable_cores()}):
            for rule in _RULES:
                pool = stack.enter_context(subject.open_pool(size, rule))
                variants.append(
                    Variant(
                        group="scaling",
                        name=f"{_spelled(rule)}, replicas {size}",
                        curve=_spelled(rule),
                        x=size,
                        role="crowd",
                        sample=crowds.of(lambda pool=pool: pool.read(read, any_thread=True)),  # type: ignore[misc]
                    )
                )
        recorder.measure("all threads read at once", variants)


@contextmanager
def _writing(write: Callable[[], object]) -> Iterator[None]:
    """Have another thread write, over and over."""
    stop, begun, failures = threading.Event(), threading.Event(), list[BaseException]()

    def work() -> None:
        try:
            while not stop.is_set():
                write()
                begun.set()
        except BaseException as error:
            failures.append(error)
        finally:
            begun.set()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        begun.wait()
        yield
    finally:
        stop.set()
        thread.join(_ENDING_SECONDS)
    if failures:
        raise failures[0]


def measure_latency(recorder: Recorder, subject: Subject) -> None:
    """Watch one reader's every read, with and without a writer that never rests, on a pool and on a locked instance."""
    read, write = subject.read, subject.write
    seconds, draw = recorder.pace.slice_seconds, random.Random(0)

    def watched(act: Callable[[], object]) -> Sequence[float]:
        clock, found = time.perf_counter, list[float]()
        end = clock() + seconds
        before = clock()
        while before < end or not found:
            act()
            after = clock()
            found.append(after - before)
            before = after
        return found if len(found) <= _MOST_OF_A_SLICE else draw.sample(found, _MOST_OF_A_SLICE)

    def beside(act: Callable[[], object], change: Callable[[], object]) -> Sampler:
        def sample() -> Sequence[float]:
            with _writing(change):
                return watched(act)

        return sample

    with ExitStack() as stack:
        pool = stack.enter_context(subject.open_pool(usable_cores(), "each_read"))
        single, lock = stack.enter_context(subject.open_single()), threading.Lock()
        look = single.caller(read)

        def pooled() -> object:
            return pool.read(read)

        def locked() -> object:
            with lock:
                return look()

        samplers: list[tuple[str, Sampler]] = [
            ("pool", lambda: watched(pooled)),
            (LOCKED, lambda: watched(locked)),
        ]
        if write is not None:
            alter = single.caller(write)

            def change() -> None:
                with lock:
                    alter()

            samplers += [
                ("pool, beside a writer", beside(pooled, lambda: pool.write(write))),
                (f"{LOCKED}, beside a writer", beside(locked, change)),
            ]
        recorder.measure(
            "every read of one thread watched",
            [
                Variant(group="latency", name=name, curve=name, role="latency", sample=sample)
                for name, sample in samplers
            ],
        )

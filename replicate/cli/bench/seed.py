"""The benchmark of the article that this library grew out of: a crowd asks Trealla Prolog, one interpreter or a pool.

https://github.com/trealla-prolog/go has the original: 100 concurrent queries in an iteration, a pool against one locked
interpreter.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, cast, get_args

import attrs

from replicate.adapter import ResetRule
from replicate.cli.bench.crowd import Crowd
from replicate.cli.bench.opening import Placement, Workers, place
from replicate.cli.bench.recorder import Recorder
from replicate.cli.bench.results import Result
from replicate.cli.bench.rounds import CrowdSamples, Pace, Variant, timed
from replicate.cli.terminal import plain, terminal
from replicate.configuration import usable_cores
from replicate.errors import ReplicateError
from replicate_trealla import Prolog, PrologPool
from replicate_trealla.fetch import module_path

__all__ = ["LOCKED", "PROGRAM", "WORKLOADS", "SeedOptions", "Workload", "pool_name", "run_seed"]

PROGRAM = """
:- dynamic(added/1).
test(123).
app([], L, L).
app([X|Xs], L, [X|Ys]) :- app(Xs, L, Ys).
nrev([], []).
nrev([X|Xs], R) :- nrev(Xs, Ys), app(Ys, [X], R).
range(N, N, [N]) :- !.
range(M, N, [M|L]) :- K is M + 1, range(K, N, L).
nrev30(L) :- range(1, 30, R), nrev(R, L).
"""
LOCKED = "one interpreter behind a lock"
_RULES = cast("tuple[ResetRule, ...]", get_args(ResetRule))


@attrs.frozen
class Workload:
    """Be what the crowd asks."""

    group: str
    title: str
    goal: str
    answer: dict[str, int]


WORKLOADS = (
    Workload("seed fact", "one fact: test(X)", "test(X)", {"X": 123}),
    Workload("seed nrev30", "nrev30: a list of 30 reversed naively", "nrev30([X|_])", {"X": 30}),
    Workload("seed nrev30 x10", "ten times nrev30", "(between(1, 10, _), nrev30(_), fail ; X = 1)", {"X": 1}),
)


@attrs.frozen(kw_only=True)
class SeedOptions:
    """Say how to measure it."""

    engine: str = "wasmtime"
    wasm: Path | None = None
    sizes: tuple[int, ...] = (1, 2, 4, 8, 16)
    threads: int = 100
    workers: Workers | None = None
    pace: Pace = attrs.field(factory=Pace)


def pool_name(replicas: int, rule: str) -> str:
    """Name the variant of a pool."""
    return f"pool of {replicas}, reset {rule.replace('_', ' ')}"


def run_seed(options: SeedOptions) -> Result:
    """Measure it; raises what fetching the module and opening pools raise, and `ReplicateError` for a wrong answer."""
    where = place(options.engine, options.workers)
    with terminal.working("looking for the module") as status:
        wasm = module_path(options.wasm, progress=lambda line: status.update(plain(line)))
    with terminal.working("compiling"):
        digest = where.engine.compile(wasm).info.digest
    recorder = Recorder(where.engine, options.pace)
    if not where.here:
        recorder.note(
            "the one interpreter behind a lock is in a worker process too: many threads can't use this engine here"
        )
    sizes = tuple(sorted({*options.sizes, usable_cores()}))
    for _ in recorder.passes():
        with ExitStack() as stack:
            with terminal.working("opening pools"):
                single = _open_single(where, wasm)
                stack.callback(single.close)
                pools = {
                    (size, rule): stack.enter_context(
                        PrologPool(wasm=wasm, program=PROGRAM, replicas=size, reset=rule, **where.opening)
                    )
                    for size in sizes
                    for rule in _RULES
                }
            # Entered last, left first: nobody asks any more when the pools are closed.
            crowd = stack.enter_context(Crowd(options.threads))
            _measure_alone(recorder, single, pools)
            for workload in WORKLOADS:
                _measure_crowd(recorder, crowd, workload, single, pools)
    return recorder.result(
        "seed",
        subject={},
        settings={"threads": options.threads, "engine": where.name, "workers": where.workers.value},
        module=digest,
    )


def _open_single(where: Placement, wasm: Path) -> Prolog | PrologPool:
    """Open one interpreter, here or, where that can't be, as a pool of one replica that isn't reset."""
    if where.here:
        return Prolog(engine=where.name, wasm=wasm, program=PROGRAM)
    return PrologPool(wasm=wasm, program=PROGRAM, replicas=1, reset="on_commit", **where.opening)


Pools = dict[tuple[int, ResetRule], PrologPool]


def _ask(target: Prolog | PrologPool, workload: Workload) -> Callable[[], object]:
    """Give what asks; the answer is looked at once, here."""
    goal, found = workload.goal, target.query_once(workload.goal)
    if found != workload.answer:
        raise ReplicateError(
            f"wrong answer to {goal!r}: got {found!r}, expected {workload.answer!r}; this is a bug, please report it with the "
            "output of 'replicate engines'"
        )
    return lambda: target.query_once(goal)


def _measure_alone(recorder: Recorder, single: Prolog | PrologPool, pools: Pools) -> None:
    size = usable_cores()
    alone = "one interpreter, no pool" if isinstance(single, Prolog) else "one interpreter"
    targets: list[tuple[str, Prolog | PrologPool]] = [
        (alone, single),
        *((pool_name(size, rule), pools[size, rule]) for rule in _RULES),
    ]
    variants = [
        Variant(
            group="seed alone",
            name=f"{workload.title}, {name}",
            curve=name,
            sample=timed(_ask(target, workload), recorder.pace),
        )
        for workload in WORKLOADS
        for name, target in targets
    ]
    changes: list[tuple[str, Any]] = [(alone, single.query_once if isinstance(single, Prolog) else single.execute)]
    changes += [(pool_name(size, rule), pools[size, rule].execute) for rule in _RULES]
    variants += [
        Variant(
            group="seed alone",
            name=f"assertz and retract, {name}",
            curve=name,
            sample=timed(_change(execute), recorder.pace),
        )
        for name, execute in changes
    ]
    recorder.measure("one thread asks", variants)


def _change(execute: Callable[[str], object]) -> Callable[[], object]:
    # What is added goes again, so that the last write isn't another one than the first.
    return lambda: execute("assertz(added(1)), retract(added(1))")


def _measure_crowd(
    recorder: Recorder, crowd: Crowd, workload: Workload, single: Prolog | PrologPool, pools: Pools
) -> None:
    crowds = CrowdSamples(crowd, recorder.pace)
    lock, alone = threading.Lock(), _ask(single, workload)

    def locked() -> None:
        with lock:
            alone()

    variants = [
        Variant(
            group=workload.group,
            name=LOCKED,
            curve=LOCKED,
            x=1,
            role="crowd",
            sample=crowds.of(locked),
        )
    ]
    for (size, rule), pool in pools.items():
        variants.append(
            Variant(
                group=workload.group,
                name=pool_name(size, rule),
                curve=f"pool, reset {rule.replace('_', ' ')}",
                x=size,
                role="crowd",
                sample=crowds.of(_ask(pool, workload)),
            )
        )
    recorder.measure(f"all threads ask at once: {workload.title}", variants)

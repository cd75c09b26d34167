"""`replicate bench FILE`: what a pool would give for any module."""

from __future__ import annotations

from pathlib import Path

import attrs

from replicate.cli.bench.crowd import Crowd
from replicate.cli.bench.module_costs import measure_commits, measure_memory, measure_spawning
from replicate.cli.bench.module_reads import measure_calls, measure_latency, measure_scaling
from replicate.cli.bench.opening import Workers, place
from replicate.cli.bench.recorder import Recorder
from replicate.cli.bench.results import Result
from replicate.cli.bench.rounds import Pace
from replicate.cli.bench.subject import Subject
from replicate.cli.calls import WrittenCall
from replicate.cli.files import load_module

__all__ = ["ModuleOptions", "run_module"]


@attrs.frozen(kw_only=True)
class ModuleOptions:
    """Say what to measure, and how."""

    file: str
    read: WrittenCall
    write: WrittenCall | None = None
    before: tuple[WrittenCall, ...] = ()
    engine: str = "wasmtime"
    sizes: tuple[int, ...] = (1, 2, 4, 8, 16)
    threads: int = 100
    workers: Workers | None = None
    pace: Pace = attrs.field(factory=Pace)


def run_module(options: ModuleOptions) -> Result:
    """Measure it all; raises `ReplicateError` for calls that can't be measured, and what opening pools raises."""
    where = place(options.engine, options.workers)
    loaded = load_module(options.file, where.engine)
    loaded.check_imports(instead="measure it in Python, with a pool that has imports=")
    loaded.module.check_replicable()
    subject = Subject(
        loaded,
        where,
        Subject.call(options.read),
        None if options.write is None else Subject.call(options.write),
        tuple(map(Subject.call, options.before)),
    )
    subject.check()
    recorder = Recorder(where.engine, options.pace)
    if not where.here:
        recorder.note(
            "the one instance behind a lock is in a worker process too: many threads can't use this engine here"
        )
    if where.workers is Workers.processes:
        recorder.note(
            "commits by pages and size, and replicas' memory, weren't measured: they're in the worker processes"
        )
    if subject.write is None:
        recorder.note("without --write the cost of your writes, and reads beside a writer, weren't measured")
    for _ in recorder.passes():
        measure_calls(recorder, subject)
        with Crowd(options.threads) as crowd:
            measure_scaling(recorder, subject, crowd, options.sizes)
        measure_latency(recorder, subject)
        if where.workers is Workers.threads:
            measure_commits(recorder, subject)
            measure_spawning(recorder, subject)
            measure_memory(recorder, subject, options.sizes)
    return recorder.result(
        "module",
        subject={
            "file": Path(options.file).name,
            "read": options.read.text.strip(),
            "write": "" if options.write is None else options.write.text.strip(),
            "before": "; ".join(each.text.strip() for each in options.before),
        },
        settings={
            "threads": options.threads,
            "engine": where.name,
            "workers": where.workers.value,
        },
        module=loaded.module.info.digest,
    )

"""`replicate bench FILE`: what a pool would give for any module."""

from __future__ import annotations

from pathlib import Path

import attrs

from replicate import Pool
from replicate.cli.bench.crowd import Crowd
from replicate.cli.bench.module_costs import measure_commits, measure_memory, measure_spawning
from replicate.cli.bench.module_reads import measure_calls, measure_latency, measure_scaling
from replicate.cli.bench.opening import Workers, worker_options
from replicate.cli.bench.recorder import Recorder
from replicate.cli.bench.results import Result
from replicate.cli.bench.rounds import Pace
from replicate.cli.bench.subject import Subject
from replicate.cli.calls import WrittenCall
from replicate.cli.files import load_module
from replicate.registry import load_engine

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
    workers: Workers = Workers.threads
    pace: Pace = attrs.field(factory=Pace)


def run_module(options: ModuleOptions) -> Result:
    """Measure it all; raises `ReplicateError` for calls that can't be measured, and what opening pools raises."""
    opening = worker_options(options.workers, Pool.open)
    loaded = load_module(options.file, options.engine)
    loaded.check_imports(instead="measure it in Python, with a pool that has imports=")
    loaded.module.check_replicable()
    subject = Subject(
        loaded,
        options.engine,
        Subject.call(options.read),
        None if options.write is None else Subject.call(options.write),
        tuple(map(Subject.call, options.before)),
        opening,
    )
    subject.check()
    recorder = Recorder(load_engine(options.engine), options.pace)
    if subject.write is None:
        recorder.note("without --write the cost of your writes, and reads beside a writer, weren't measured")
    for _ in recorder.passes():
        measure_calls(recorder, subject)
        with Crowd(options.threads) as crowd:
            measure_scaling(recorder, subject, crowd, options.sizes)
        measure_latency(recorder, subject)
        if options.workers is Workers.threads:
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
            "engine": load_engine(options.engine).name,
            "workers": options.workers.value,
        },
        module=loaded.module.info.digest,
    )

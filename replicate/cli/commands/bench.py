"""`replicate bench`: what a pool gives, measured here."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import attrs
import typer

from replicate.cli.bench import rounds as measuring
from replicate.cli.bench.comparison import compare_results
from replicate.cli.bench.module import ModuleOptions, run_module
from replicate.cli.bench.opening import Workers, parse_sizes
from replicate.cli.bench.page import save_page, save_pictures
from replicate.cli.bench.results import Result, dump, load_result, save_result
from replicate.cli.bench.rounds import Pace
from replicate.cli.bench.screen import show_comparison, show_result
from replicate.cli.bench.slow_down import slowed_down
from replicate.cli.calls import parse_call
from replicate.cli.failures import exit_codes
from replicate.cli.files import check_output
from replicate.cli.options import Debug, EngineName
from replicate.cli.terminal import cell, terminal
from replicate.errors import ReplicateError

__all__ = ["BENCH_EXIT_CODES", "SLOWER", "bench"]

SLOWER = 3
BENCH_EXIT_CODES = exit_codes(also="3: with --compare, something got significantly slower. ")
_SEED = "seed"


def bench(
    target: Annotated[
        str,
        typer.Argument(
            metavar="seed|FILE",
            help="'seed', a .wasm or .wat file (- for standard input), or a .json file from before, to show it again.",
        ),
    ],
    read: Annotated[str | None, typer.Option(metavar="CALL", help="What a read does, like 'get(1)'.")] = None,
    write: Annotated[str | None, typer.Option(metavar="CALL", help="What a write does, like 'put(1, 2)'.")] = None,
    call: Annotated[
        list[str] | None, typer.Option(metavar="CALL", help="A call before everything, to fill the guest; any number.")
    ] = None,
    sizes: Annotated[str, typer.Option(metavar="N,N", help="Replicas of the pools that are compared.")] = "1,2,4,8,16",
    threads: Annotated[int, typer.Option(min=1, max=1000, help="Threads that read at once.")] = 100,
    workers: Annotated[
        Workers | None, typer.Option(help="What replicas run in. [dim]\\[default: what's better with the engine][/]")
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds, each with every variant in turn.")] = 20,
    wasm: Annotated[
        Path | None, typer.Option(metavar="PATH", help="For 'seed': your own build of Trealla Prolog.")
    ] = None,
    compare: Annotated[
        Path | None, typer.Option(metavar="OLD.json", help="Tell what has changed since, and what is noise.")
    ] = None,
    threshold: Annotated[
        float, typer.Option(metavar="PERCENT", min=1, max=1000, help="With --compare: smaller changes don't count.")
    ] = 10.0,
    json_file: Annotated[
        Path | None,
        typer.Option("--json", metavar="FILE", help="Keep all samples; - prints them, and nothing else."),
    ] = None,
    report: Annotated[
        Path | None, typer.Option(metavar="FILE.html", help="Write a page with pictures, all in one file.")
    ] = None,
    pictures: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Write each picture as an SVG file into this folder.")
    ] = None,
    slow_down: Annotated[
        float, typer.Option(hidden=True, min=1, help="Have guest calls take so many times as long.")
    ] = 1.0,
    engine: EngineName = "wasmtime",
    debug: Debug = False,
) -> None:
    """Measure what a pool gives: the benchmark of Trealla Prolog ('seed'), or your module with your calls.

    Variants are measured by turns in one process, after a warm-up; medians and quartiles are shown, every sample can be
    kept. --compare takes a change for one if the medians differ by the threshold, and both a bootstrap interval and a
    rank test say it isn't chance.

    The JSON has: kind, schema, benchmark, subject, settings, module, machine, began, seconds, reference, cores, others,
    repeated, groups, notes, series, each with group, name, curve, x, role, unit, samples.
    """
    counts = parse_sizes(sizes)
    pace = attrs.evolve(measuring.DEFAULT_PACE, rounds=rounds)
    # Before measuring for minutes.
    old = None if compare is None else load_result(compare)
    for path in (json_file, report):
        check_output(path, target)
    if pictures is not None and pictures.exists() and not pictures.is_dir():
        raise ReplicateError(f"can't write pictures to {str(pictures)!r}: it's a file; give a folder")
    if target.endswith(".json"):
        result = load_result(Path(target))
    else:
        with slowed_down(slow_down):
            result = _measure(target, read, write, call or [], counts, threads, workers, wasm, engine, pace)
    # Kept first: what took minutes isn't lost when it can't be compared.
    if json_file is not None and str(json_file) != "-":
        save_result(result, json_file)
    comparison = None if old is None else compare_results(old, result, least=threshold / 100)
    if report is not None:
        save_page(result, comparison, report)
    drawn = [] if pictures is None else save_pictures(result, pictures)
    if json_file is not None and str(json_file) == "-":
        terminal.raw(dump(result))
    else:
        show_result(result)
        if comparison is not None:
            show_comparison(comparison)
        for path in filter(None, (json_file, report, *drawn)):
            terminal.say(cell(f"{path} written"))
    if comparison is not None and comparison.slower:
        raise typer.Exit(SLOWER)


def _measure(
    target: str,
    read: str | None,
    write: str | None,
    before: list[str],
    sizes: tuple[int, ...],
    threads: int,
    workers: Workers | None,
    wasm: Path | None,
    engine: str,
    pace: Pace,
) -> Result:
    if target == _SEED:
        for option, value in (("--read", read), ("--write", write), ("--call", before or None)):
            if value is not None:
                raise typer.BadParameter("is for a FILE; 'seed' has its own queries", param_hint=option)
        from replicate.cli.bench.seed import SeedOptions, run_seed

        return run_seed(SeedOptions(engine=engine, wasm=wasm, sizes=sizes, threads=threads, workers=workers, pace=pace))
    if wasm is not None:
        raise typer.BadParameter("is for 'seed'; give your module as FILE", param_hint="--wasm")
    if read is None:
        raise typer.BadParameter("is needed: what does a read of your module call? Like 'get(1)'", param_hint="--read")
    return run_module(
        ModuleOptions(
            file=target,
            read=parse_call(read),
            write=None if write is None else parse_call(write),
            before=tuple(map(parse_call, before)),
            engine=engine,
            sizes=sizes,
            threads=threads,
            workers=workers,
            pace=pace,
        )
    )

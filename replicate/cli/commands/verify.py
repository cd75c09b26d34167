"""`replicate verify`: whether a module's state is carried bit for bit, tried with drawn calls."""

from __future__ import annotations

import random
import warnings
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from replicate import load_engine
from replicate.cli.files import read_module_bytes
from replicate.cli.options import Debug, EngineName
from replicate.cli.terminal import cell, terminal
from replicate.errors import ReplicateError, ReplicateWarning

__all__ = ["verify"]

_NEEDED = ("hypothesis", "pytest")


def verify(
    file: Annotated[str, typer.Argument(metavar="FILE", help="A .wasm or .wat file, or - for standard input.")],
    calls: Annotated[int, typer.Option("--calls", metavar="N", min=1, help="The most calls in a script.")] = 20,
    scripts: Annotated[int, typer.Option("--scripts", metavar="N", min=1, help="How many scripts to try.")] = 100,
    engine: EngineName = "wasmtime",
    seed: Annotated[
        int | None, typer.Option("--seed", metavar="S", min=0, help="Draw the same scripts again.", show_default=False)
    ] = None,
    skip: Annotated[
        list[str] | None, typer.Option("--skip", metavar="NAME", help="An export not to call; any number.")
    ] = None,
    timeout: Annotated[
        float, typer.Option("--timeout", metavar="SECONDS", min=0.001, help="The longest that a call may take.")
    ] = 5.0,
    debug: Debug = False,
) -> None:
    """Try whether a module's state is carried to replicas bit for bit.

    Scripts of random calls run on a lone instance, and beside it on instances whose state goes through snapshots, files and
    pools after every call. All must give the same results, traps and states. If one doesn't, the shortest script that
    shows it is printed, and the exit code is 1. Imports that aren't WASI are given stand-ins that return zeros. An export
    that takes longer than --timeout is left out from then on, and named at the end.

    Needs the extra 'testing'.
    """
    try:
        from replicate.testing import assert_replicable
    except ModuleNotFoundError as error:
        if error.name not in _NEEDED:
            raise
        raise ReplicateError(
            f"'replicate verify' needs {' and '.join(_NEEDED)}: pip install 'wasm-replicate[testing]'"
        ) from error
    wasm = read_module_bytes(file, load_engine(engine))
    seed = random.SystemRandom().getrandbits(32) if seed is None else seed
    with _progress() as progress, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ReplicateWarning)
        task = progress.add_task("scripts", total=scripts)
        assert_replicable(
            wasm,
            engine=engine,
            max_examples=scripts,
            max_calls=calls,
            seed=seed,
            skip=skip or (),
            timeout=timeout,
            on_example=lambda: progress.advance(task),
        )
        tried = int(progress.tasks[0].completed)
        progress.update(task, total=tried)
    for each in caught:
        terminal.progress_console.print(cell(f"warning: {each.message}", "yellow"))
    terminal.say(cell(f"carried bit for bit: {tried} scripts of up to {calls} calls on {engine}, --seed {seed}"))


def _progress() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    console = terminal.progress_console
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)

"""`replicate engines install`: an environment for an engine's worker processes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from replicate.cli.options import Debug, complete_engine
from replicate.cli.terminal import cell, terminal
from replicate.processes.environments import load_environment
from replicate.processes.installing import install_environment

__all__ = ["install"]

_WIDEST_NEWS = 100


def install(
    engine: Annotated[
        str,
        typer.Argument(metavar="ENGINE", help="The engine; see 'replicate engines'.", autocompletion=complete_engine),
    ],
    force: Annotated[bool, typer.Option("--force", help="Build it again, even if it's there and works.")] = False,
    python: Annotated[
        Path | None,
        typer.Option(
            "--python", metavar="PATH", help="The interpreter to build it with; with --force, if another one did."
        ),
    ] = None,
    debug: Debug = False,
) -> None:
    """Set up an interpreter for an engine whose runtime can't be imported in this one.

    A virtual environment is made in this library's cache folder ($REPLICATE_CACHE_DIR), and pip installs the runtime into it,
    from wherever its own settings say. The engine's worker processes run there.
    """
    with terminal.working(f"{engine}: starting") as status:
        installed = install_environment(
            engine,
            force=force,
            python=python,
            on_progress=lambda what: status.update(cell(f"{engine}: {what}"[:_WIDEST_NEWS])),
        )
    done = "built" if installed.built else "there already, and works (--force builds it again)"
    terminal.say(cell(f"{engine}: {done}: {installed.interpreter.path}, Python {installed.interpreter.version}"))
    variable = load_environment(engine).variable
    if os.environ.get(variable):
        terminal.say(cell(f"it isn't used as long as ${variable} is set: that names the interpreter"))

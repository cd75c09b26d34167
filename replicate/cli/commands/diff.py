"""`replicate diff`: what changed from one snapshot to another."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from replicate import Snapshot, load_engine
from replicate.binary import read_module
from replicate.cli.failures import exit_codes
from replicate.cli.files import read_module_bytes
from replicate.cli.options import Debug, EngineName
from replicate.cli.terminal import cell, terminal

__all__ = ["DIFFERENT", "DIFF_EXIT_CODES", "diff"]

DIFFERENT = 3
DIFF_EXIT_CODES = exit_codes(done="the states are equal", also="3: they differ. ")


def diff(
    before: Annotated[Path, typer.Argument(metavar="A", help="A snapshot.")],
    after: Annotated[Path, typer.Argument(metavar="B", help="A later one of the same module.")],
    module: Annotated[
        str | None, typer.Option("--module", metavar="FILE", help="The module: its names and types make it readable.")
    ] = None,
    most: Annotated[int, typer.Option("--most", metavar="N", min=1, help="Lines to show of each sort of change.")] = 20,
    engine: EngineName = "wasmtime",
    debug: Debug = False,
) -> None:
    """Show what differs between two snapshots of one module.

    That is memory sizes and ranges of bytes, globals, table elements, dropped segments and host-side values; each as it was
    and as it is.
    """
    info = None if module is None else read_module(read_module_bytes(module, load_engine(engine)))
    found = Snapshot.load(before).diff(Snapshot.load(after), info=info)
    for line in found.lines(max_lines=most):
        terminal.say(cell(line))
    if found:
        raise typer.Exit(DIFFERENT)
    terminal.say("no difference")

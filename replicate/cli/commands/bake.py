"""`replicate bake`: a plain module that starts where a snapshot was taken."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from replicate import Snapshot, load_engine
from replicate.cli.files import check_output, read_module_bytes
from replicate.cli.options import Debug, EngineName
from replicate.cli.terminal import cell, size_of, terminal
from replicate.errors import ReplicateError
from replicate.outfiles import write_whole

__all__ = ["bake"]


def bake(
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="The module, a .wasm or .wat file, or - for standard input.")
    ],
    snapshot: Annotated[Path, typer.Argument(metavar="SNAP", help="A snapshot of it.")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="OUT", help="Where the new module goes.")],
    without_export: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="An export to leave out, _initialize for instance; any number."),
    ] = None,
    ignore_host_state: Annotated[
        bool, typer.Option("--ignore-host-state", help="Leave out host-side values, WASI's for instance.")
    ] = False,
    engine: EngineName = "wasmtime",
    debug: Debug = False,
) -> None:
    """Write a plain module whose initial state is a snapshot, for any runtime.

    It has no start function. An exported _initialize stays, and a host that follows WASI calls it again: leave it out with
    --without-export if the snapshot was taken after it.
    """
    check_output(output, file, snapshot)
    taken = Snapshot.load(snapshot)
    with terminal.working("writing"):
        wasm = read_module_bytes(file, load_engine(engine))
        baked = taken.to_wasm(wasm, ignore_host_state=ignore_host_state, without_exports=without_export or ())
        write_whole(output, baked, what="the module", error=ReplicateError)
    terminal.say(cell(f"{output}: {size_of(len(baked))}"))

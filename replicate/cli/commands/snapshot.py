"""`replicate snapshot`: start a module, call it, and keep the state that this leaves."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from replicate import FuncRef
from replicate.cli.calls import parse_call
from replicate.cli.files import check_output, load_module
from replicate.cli.options import Debug, EngineName
from replicate.cli.terminal import cell, size_of, terminal

__all__ = ["snapshot"]


def snapshot(
    file: Annotated[str, typer.Argument(metavar="FILE", help="A .wasm or .wat file, or - for standard input.")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="SNAP", help="Where the snapshot goes.")],
    call: Annotated[
        list[str] | None,
        typer.Option("--call", metavar="CALL", help="A call before, like 'put(1, -2)'; any number, done in turn."),
    ] = None,
    engine: EngineName = "wasmtime",
    debug: Debug = False,
) -> None:
    """Start a module, call its exports, and save the state they leave.

    The start function and, if there is one, _initialize run first. WASI is given, other imports aren't. Arguments are
    integers (7, -7, 0x1f), floats (1.5, inf, nan) and null. If a call traps nothing is saved.
    """
    calls = [parse_call(each) for each in call or []]
    check_output(output, file)
    loaded = load_module(file, engine)
    with loaded.start() as instance:
        for each in calls:
            result = instance.call(each.name, *each.args)
            terminal.facts([(each.text, cell(_spell(result)))])
        taken = instance.snapshot()
    taken.save(output)
    terminal.say(cell(f"{output}: {size_of(output.stat().st_size)}"))


def _spell(result: Any) -> str:
    if result is None:
        return "-"
    if isinstance(result, FuncRef):
        return "a function" if result.index is None else f"function {result.index}"
    if isinstance(result, (tuple, list)):
        return ", ".join(map(_spell, result))
    return repr(result)

"""Options that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

from replicate import engine_names

__all__ = ["AsJson", "Debug", "EngineName", "complete_engine"]

Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
"""Every command has it; `failures.guarded` looks at it."""

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, whose fields don't change within a schema number.")]


def complete_engine(begun: str) -> list[str]:
    """Give the registered engines whose names begin so, for the shell."""
    return [name for name in engine_names() if name.startswith(begun)]


EngineName = Annotated[
    str,
    typer.Option(
        "--engine", metavar="NAME", help="The engine; see 'replicate engines'.", autocompletion=complete_engine
    ),
]

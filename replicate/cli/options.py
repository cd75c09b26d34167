"""Options that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

__all__ = ["AsJson", "Debug", "EngineName"]

Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
"""Every command has it; `failures.guarded` looks at it."""

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, whose fields don't change within a schema number.")]

EngineName = Annotated[str, typer.Option("--engine", metavar="NAME", help="The engine; see 'replicate engines'.")]

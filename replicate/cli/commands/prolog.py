"""`replicate prolog`: a toplevel over a pool of Prolog interpreters."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from replicate.cli.failures import exit_codes
from replicate.cli.options import Debug

__all__ = ["PROLOG_EXIT_CODES", "prolog"]

PROLOG_EXIT_CODES = exit_codes(
    done="done, as after halt",
    also="halt(N): N. 1 is also: a goal of --goal failed, or one of the input was an error. ",
)


def prolog(
    files: Annotated[
        list[Path] | None, typer.Argument(metavar="FILE", help="Programs to consult first.", show_default=False)
    ] = None,
    goal: Annotated[
        list[str] | None,
        typer.Option("--goal", "-g", metavar="GOAL", help="Run this goal, or several, and exit.", show_default=False),
    ] = None,
    timeout: Annotated[
        float | None,
        typer.Option(
            "--timeout", metavar="SECONDS", min=0, help="The longest that an answer may take.", show_default=False
        ),
    ] = None,
    answers: Annotated[
        int | None,
        typer.Option("--answers", metavar="N", min=1, help="The most answers of a goal in a pipe.", show_default=False),
    ] = None,
    replicas: Annotated[int, typer.Option("--replicas", metavar="N", min=1, help="Replicas, for '??'.")] = 1,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No greeting, no warnings.")] = False,
    wasm: Annotated[
        Path | None,
        typer.Option("--wasm", metavar="PATH", help="Your own build of Trealla Prolog.", show_default=False),
    ] = None,
    debug: Debug = False,
) -> None:
    """Talk to Prolog: consult programs, type goals, see their answers one by one.

    A goal ends with a period, on whichever line. After an answer, ; or space gives the next one, and Enter or . stops. Ctrl-C
    stops a goal; Ctrl-D or 'halt.' leaves. '\\[file].' adds one more program's clauses, '\\[user].' those that you type, up to
    Ctrl-D.

    Each goal is a transaction on the leader: what it changes is kept when it has ended, with success or failure, or when
    you've seen enough answers. A goal that throws, is stopped, or takes longer than --timeout changes nothing.
    '?? Goal.' asks a replica: nothing that the goal changes is kept.

    If the input isn't a terminal, each goal in it is asked in turn and all its answers are printed. Goals can't read from it.
    """
    from replicate.cli.prolog.main import Choices, main

    choices = Choices(
        files=tuple(files or ()),
        goals=tuple(goal or ()),
        timeout=timeout,
        answers=answers,
        replicas=replicas,
        quiet=quiet,
        wasm=wasm,
    )
    code = main(choices)
    if code:
        raise typer.Exit(code)

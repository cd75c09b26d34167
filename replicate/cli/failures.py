"""Turn what goes wrong in a command into one message and an exit code."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import typer

from replicate.cli.terminal import terminal
from replicate.errors import ReplicateError

__all__ = ["FAILURE", "INTERRUPTED", "exit_codes", "guarded"]

P = ParamSpec("P")
T = TypeVar("T")

FAILURE = 1
INTERRUPTED = 130


def exit_codes(*, done: str = "done", also: str = "") -> str:
    """Spell the exit codes of a command for its help; `also` is what it has besides the usual ones."""
    return f"0: {done}. 1: an error, told on standard error. 2: wrong usage. {also}130: interrupted with Ctrl-C."


def guarded(command: Callable[P, T]) -> Callable[P, T]:
    """Report the library's and the system's errors as one message and exit 1, and Ctrl-C with 130.

    With ``--debug`` errors go through, traceback and all. Anything else goes through anyway: it is a bug, and its traceback
    is what a report of it needs.
    """

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return command(*args, **kwargs)
        except BrokenPipeError as error:
            # Whoever reads the output has seen enough, `head` for instance.
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            raise typer.Exit(FAILURE) from error
        except (ReplicateError, OSError) as error:
            if kwargs.get("debug"):
                raise
            terminal.error(str(error))
            raise typer.Exit(FAILURE) from error
        except KeyboardInterrupt as interrupt:
            terminal.error("interrupted")
            raise typer.Exit(INTERRUPTED) from interrupt

    return run

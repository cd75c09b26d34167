"""Put the toplevel together."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import attrs

from replicate.cli.failures import FAILURE
from replicate.cli.prolog.base import Base
from replicate.cli.prolog.halting import Halted
from replicate.cli.prolog.interrupts import Interrupts
from replicate.cli.prolog.screen import Screen
from replicate.cli.prolog.sources import Keyboard, Pipe, Source, read_file
from replicate.cli.prolog.toplevel import Outcome, Toplevel
from replicate_trealla.text import split_clauses

__all__ = ["Choices", "main"]


@attrs.frozen(kw_only=True)
class Choices:
    """Hold the command's arguments."""

    files: tuple[Path, ...]
    goals: tuple[str, ...]
    timeout: float | None
    answers: int | None
    replicas: int
    quiet: bool
    wasm: Path | None


def main(choices: Choices) -> int:
    """Consult the files, ask the goals, and give the exit code."""
    interactive = not choices.goals and sys.stdin.isatty() and sys.stdout.isatty()
    if isinstance(sys.stdin, io.TextIOWrapper):
        # What isn't UTF-8 is an error of the goal that it's in.
        sys.stdin.reconfigure(encoding="utf-8", errors="surrogateescape")
    source: Source = Keyboard() if interactive else Pipe(sys.stdin, limit=choices.answers)
    programs = [read_file(path) for path in choices.files]
    screen = Screen()
    with (
        Base(screen, wasm=choices.wasm, replicas=choices.replicas) as base,
        Interrupts(leave=not interactive) as interrupts,
    ):
        toplevel = Toplevel(base, screen, interrupts, timeout=choices.timeout, interactive=interactive)
        try:
            toplevel.consult(programs, quiet=choices.quiet)
            if choices.goals:
                return 0 if all(_prove(toplevel, goal) for goal in choices.goals) else FAILURE
            if interactive and not choices.quiet:
                screen.news("Trealla Prolog in a pool: a goal ends with a period, Ctrl-D leaves, --help says more.")
            fine = toplevel.converse(source)
        except Halted as halted:
            return halted.code
    return 0 if fine or interactive else FAILURE


def _prove(toplevel: Toplevel, goal: str) -> bool:
    """Run the goals of one option; all have to succeed."""
    clauses, rest = split_clauses(goal)
    for each in (*clauses, *filter(None, [rest])):
        outcome = toplevel.ask(each, None)
        if outcome is Outcome.FAILURE:
            toplevel.screen.warning(f"goal failed: {each}")
        if outcome is not Outcome.SUCCESS:
            return False
    return True

"""The toplevel: take a goal, run it as a transaction, show its answers, again and again."""

from __future__ import annotations

import enum
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import attrs

from replicate.cli.prolog.base import Base
from replicate.cli.prolog.halting import halting, raise_if_halted
from replicate.cli.prolog.interrupts import Interrupts, TimeIsUp
from replicate.cli.prolog.printing import answer_text, error_text
from replicate.cli.prolog.screen import Screen
from replicate.cli.prolog.sources import Source, read_file
from replicate.cli.terminal import terminal
from replicate.errors import ReplicateError
from replicate_trealla import (
    Answer,
    Atom,
    Compound,
    Interpreter,
    PrologError,
    PrologSyntaxError,
    Term,
    to_prolog,
)
from replicate_trealla.writing import Operators, Writer

__all__ = ["Outcome", "Toplevel"]

_LAST = "Replicate_is_last"
# The variable tells whether the goal has left any choices.
_GOAL = "setup_call_cleanup(true,(\n{}\n)," + _LAST + "=true)"
_PREFIX = re.compile(r"\s*(?:\?\?|\?-|:-)?\s*")
_CONSULTS = re.compile(r"\[|consult\b")
_SURROGATE = re.compile("[\ud800-\udfff]")
_OP = re.compile(r"\bop\b")
_HALTS = re.compile(r"\bhalt\b")


class Outcome(enum.Enum):
    """Say how a goal went."""

    SUCCESS = "success"
    FAILURE = "failure"
    ERROR = "error"


@attrs.define(eq=False)
class Toplevel:
    """Run goals, each as a transaction.

    `timeout` bounds the time to each answer, in seconds. Ctrl-C stops a goal, and with `interactive` no more than that.
    """

    base: Base
    screen: Screen
    interrupts: Interrupts
    timeout: float | None = None
    interactive: bool = False
    _writer: Writer = attrs.field(factory=lambda: Writer(Operators([])), init=False)
    _writer_is_old: bool = attrs.field(default=True, init=False)

    def converse(self, source: Source) -> bool:
        """Ask all goals of a source, and tell whether none was an error; `Halted` goes through."""
        fine = True
        for clause in source.clauses("?- "):
            fine &= self.ask(clause, source) is not Outcome.ERROR
        return fine

    def ask(self, clause: str, source: Source | None) -> Outcome:
        """Ask one goal. Without a source, show none of its answers, and stop at the first."""
        prefix = _PREFIX.match(clause)
        assert prefix is not None
        goal = clause[prefix.end() :]
        self.interrupts.forget()
        try:
            if _SURROGATE.search(goal):
                raise PrologSyntaxError(f"the goal isn't UTF-8 text: {goal!r:.80}")
            if _CONSULTS.match(goal) and self._consults(goal, source):
                return Outcome.SUCCESS
            if _HALTS.search(goal):
                goal = to_prolog(halting(self.base.read(goal)))
            return self._run(goal, source, keep="??" not in prefix[0])
        except PrologError as error:
            raise_if_halted(error.ball)
            self.screen.error(error_text(error, self._writer))
        except ReplicateError as error:
            self.screen.error(str(error))
        except TimeIsUp:
            self.screen.error(
                f"no answer within {self.timeout:g} s, so the goal was stopped, and what it did is undone"
            )
        except KeyboardInterrupt:
            if not self.interactive:
                raise
            self.screen.cut()
            self.screen.error("interrupted, and what the goal did is undone")
        return Outcome.ERROR

    # -- goals ---------------------------------------------------------------------------------------------------------

    def _run(self, goal: str, source: Source | None, *, keep: bool) -> Outcome:
        with self.base.asking(keep=keep) as guest:
            # It's a generator, which the signature doesn't say.
            interpreter = Interpreter(guest)
            if self._writer_is_old:
                self._writer = Writer(Operators.of(interpreter))
            self._writer_is_old = _OP.search(goal) is not None
            answers: Any = interpreter.query(_GOAL.format(goal), stream=True)
            try:
                return self._show(answers, source)
            finally:
                with self.interrupts.running(self.timeout):
                    answers.close()

    def _show(self, answers: Iterator[Answer], source: Source | None) -> Outcome:
        number = 0
        while (answer := self._next(answers)) is not None:
            number += 1
            is_last = answer.pop(_LAST) == Atom("true")
            if source is None:
                return Outcome.SUCCESS
            text = answer_text(answer, self._writer, terminal.width)
            if is_last:
                self.screen.answer(text)
                self._next(answers)  # lets it end, which is cheaper than stopping it
                return Outcome.SUCCESS
            self.screen.answer(text, "")
            with self.interrupts.running():
                wanted = source.wants_more(number)
            self.screen.end(more=wanted)
            if not wanted:
                return Outcome.SUCCESS
        if source is not None:
            self.screen.answer("false")
        return Outcome.SUCCESS if number else Outcome.FAILURE

    def _next(self, answers: Iterator[Answer]) -> Answer | None:
        with self.interrupts.running(self.timeout):
            return next(answers, None)

    # -- what the interpreter can't do by itself -----------------------------------------------------------------------

    def _consults(self, goal: str, source: Source | None) -> bool:
        """Load the files, or the clauses from the terminal, that a goal names; False if it's another goal."""
        names = _names(self.base.read(goal))
        if names is None:
            return False
        self.consult([self._program(name, source) for name in names])
        if source is not None:
            self.screen.answer("true")
        return True

    def consult(self, programs: list[tuple[str, str]], *, quiet: bool = False) -> None:
        """Load programs, given as names and texts, all of them or none, and show what they had to say."""
        with self.interrupts.running(self.timeout):
            done = self.base.consult(programs)
        self._writer_is_old = True
        self.screen.wrote(done.stdout.encode(), error=False)
        for each in () if quiet else done.warnings:
            self.screen.warning(each)

    def _program(self, name: str, source: Source | None) -> tuple[str, str]:
        if name != "user":
            path = Path(name)
            with_ending = path.with_name(f"{path.name}.pl") if path.name else path
            return read_file(path if path.is_file() or not with_ending.is_file() else with_ending)
        clauses = source.clauses("|: ") if source is not None else iter(())
        return "user", "".join(f"{clause}.\n" for clause in iter(lambda: next(clauses, "end_of_file"), "end_of_file"))


def _names(term: Term) -> list[str] | None:
    """Give the names of the files that a goal consults; None if it's another goal."""
    items: Sequence[Term]
    if isinstance(term, Compound) and term.indicator == "consult/1":
        items = term.args[0] if isinstance(term.args[0], list) else [term.args[0]]
    elif isinstance(term, str):
        items = [Atom(name) for name in term]  # [a, b], which comes as a string, like all lists of characters
    elif isinstance(term, list):
        items = term
    else:
        return None
    if not all(isinstance(item, (Atom, str)) for item in items):
        return None
    return [item.name if isinstance(item, Atom) else str(item) for item in items]

"""What can go wrong inside the interpreter, as exceptions of the library's family."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from replicate.errors import ArgumentError, Frame, ReplicateError, Trap, TrapCode

if TYPE_CHECKING:
    from typing_extensions import Self

    from replicate_trealla.terms import Term

__all__ = [
    "ConsultError",
    "ConversionError",
    "InterpreterError",
    "MutationError",
    "OutOfMemoryError",
    "PrologError",
    "PrologResourceError",
    "PrologSyntaxError",
    "StackOverflowError",
    "TermError",
]


class PrologError(ReplicateError):
    """Report what a goal threw and nothing caught.

    `ball` is the term that was thrown: an unknown predicate, for instance, throws
    ``error(existence_error(procedure, foo/1), foo/1)``. None where the interpreter gave only a message.
    """

    def __init__(self, message: str, *, ball: Term | None = None) -> None:
        super().__init__(message)
        self.ball = ball

    @classmethod
    def of(cls, ball: object) -> Self:
        """Make the exception for a term, or a value that has one, with its text as the message.

        `replicate_trealla.iso` makes the standard's terms.
        """
        from replicate_trealla.answers import shown  # these need this file
        from replicate_trealla.to_terms import to_term

        term = to_term(ball)
        return cls(shown(term), ball=term)


class PrologResourceError(PrologError):
    """Report a goal that needed more of something than there is: memory, in the first place; see `max_memory`."""


class StackOverflowError(PrologResourceError, Trap):
    """Report a goal whose terms are nested deeper than the interpreter's own stack lets it go; the interpreter is lost.

    A pool goes on with a fresh one; a single `Prolog` can't be used any more.
    """

    def __init__(self, message: str, *, code: TrapCode = TrapCode.STACK_OVERFLOW, frames: Iterable[Frame] = ()) -> None:
        PrologResourceError.__init__(self, message)
        Trap.__init__(self, message, code=code, frames=frames)


class ConsultError(PrologError):
    """Report program text that the interpreter didn't take whole.

    `line` and `column` count from 1, and are None where it isn't known.
    """

    def __init__(
        self, message: str, *, ball: Term | None = None, line: int | None = None, column: int | None = None
    ) -> None:
        super().__init__(message, ball=ball)
        self.line = line
        self.column = column


class PrologSyntaxError(ConsultError):
    """Report a goal or program text that isn't Prolog.

    Of a goal, the place is that of a bracket or quote which has no partner; Trealla tells none.
    """


class MutationError(ReplicateError):
    """Report a goal that changed facts, flags or operators in a read, of a pool with ``on_mutation="raise"``.

    Nothing of it stays. Use `PrologPool.execute`, or `writing`, for goals that are to change something.
    """


class InterpreterError(ReplicateError):
    """Report an interpreter that ended, or that gave no answer where one was due.

    The goal halted it, or it ran out of memory. A pool goes on with a fresh one; a single `Prolog` can't be used any more.
    """


class OutOfMemoryError(PrologResourceError, InterpreterError):
    """Report an interpreter that ran out of memory, and is lost."""


class TermError(ArgumentError, TypeError):
    """Report a Python value that has no Prolog term, or a term that has no Python value."""


class ConversionError(TermError):
    """Report a term that isn't what a type asks for; `path` says which part of what was converted it is."""

    def __init__(self, message: str, *, path: str) -> None:
        super().__init__(message)
        self.path = path

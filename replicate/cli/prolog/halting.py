"""Leave by `halt`: typed goals throw it instead, since the interpreter ends without saying with which status."""

from __future__ import annotations

from functools import reduce

from replicate_trealla import Atom, Compound, Term, Variable

__all__ = ["Halted", "halting", "raise_if_halted"]

_CONTROL = {";/2", "->/2", "*->/2", "\\+/1", "call/1", "once/1", "ignore/1", "forall/2", ":/2"}
_HALT = "$toplevel_halt"


class Halted(Exception):
    """Leave the toplevel, with a status from 0 to 255, as systems take it."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code & 0xFF


def halting(goal: Term) -> Term:
    """Make a goal's calls of ``halt`` ones that throw."""
    if goal == Atom("halt"):
        return _throw(0)
    if not isinstance(goal, Compound):
        return goal
    if goal.indicator == "halt/1" and isinstance(goal.args[0], (int, Variable)):
        return _throw(goal.args[0])
    if goal.indicator == ",/2":
        # Conjunctions may be long.
        parts: list[Term] = []
        rest: Term = goal
        while isinstance(rest, Compound) and rest.indicator == ",/2":
            parts.append(halting(rest.args[0]))
            rest = rest.args[1]
        return reduce(lambda following, part: Compound(",", (part, following)), reversed(parts), halting(rest))
    if goal.indicator in _CONTROL:
        return Compound(goal.functor, tuple(halting(each) for each in goal.args))
    return goal


def raise_if_halted(ball: Term | None) -> None:
    """Raise `Halted` for what such a goal has thrown."""
    if isinstance(ball, Compound) and ball.functor == _HALT and isinstance(ball.args[0], int):
        raise Halted(ball.args[0])


def _throw(code: Term) -> Compound:
    return Compound("throw", (Compound(_HALT, (code,)),))

"""Write answers and errors as Prolog toplevels do."""

from __future__ import annotations

from replicate_trealla import Answer, Compound, PrologError, PrologSyntaxError, Term, Variable, to_prolog
from replicate_trealla.answers import shown

__all__ = ["answer_text", "error_text"]


def answer_text(answer: Answer, width: int) -> str:
    """Write an answer without its end: ``X = 1, Y = foo(bar)``, an equation a line where they don't fit into `width`."""
    parts = [f"{name} = {_written(value)}" for name, value in answer.items() if value != Variable(name)]
    parts += [_written(_local(goal)) for goal in answer.residual]
    line = ", ".join(parts)
    return (line if len(line) < width else ",\n".join(parts)) or "true"


def _written(term: Term) -> str:
    return shown(term)


def _local(goal: Term) -> Term:
    """Take the module off a residual goal, which is the constraint library's own."""
    return goal.args[1] if isinstance(goal, Compound) and goal.indicator == ":/2" else goal


def error_text(error: PrologError) -> str:
    """Write what a goal threw, without the goal, which is in sight."""
    ball = error.ball
    if ball is None:
        return str(error)
    if isinstance(error, PrologSyntaxError) and isinstance(ball, Compound) and isinstance(ball.args[0], Compound):
        return f"syntax error: {to_prolog(ball.args[0].args[0])}"
    return shown(ball)

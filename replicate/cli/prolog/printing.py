"""Write answers and errors as Prolog toplevels do."""

from __future__ import annotations

from replicate_trealla import Answer, Atom, Compound, ConsultError, PrologError, PrologSyntaxError, Term, Variable
from replicate_trealla.writing import Writer

__all__ = ["answer_text", "error_text"]

_GOAL = 999
_READING = Atom("/")(Atom("read_term_from_chars"), 3)


def answer_text(answer: Answer, writer: Writer, width: int) -> str:
    """Write an answer without its end: ``X = 1, Y = foo(bar)``, an equation a line where they don't fit into `width`."""
    parts = [f"{name} = {writer.write(value)}" for name, value in answer.items() if value != Variable(name)]
    parts += [writer.write(_local(goal), _GOAL) for goal in answer.residual]
    line = ", ".join(parts)
    return (line if len(line) < width else ",\n".join(parts)) or "true"


def _local(goal: Term) -> Term:
    """Take the module off a residual goal, which is the constraint library's own."""
    return goal.args[1] if isinstance(goal, Compound) and goal.indicator == ":/2" else goal


def error_text(error: PrologError, writer: Writer) -> str:
    """Write what a goal threw, without the goal, which is in sight, or a program's fault, with its place."""
    ball = error.ball
    if isinstance(error, PrologSyntaxError) and isinstance(ball, Compound) and ball.args[-1] == _READING:
        # Its place would be one in what the goal was wrapped into.
        kind = ball.args[0]
        return f"syntax error: {writer.write(kind.args[0] if isinstance(kind, Compound) else kind)}"
    if ball is None or (isinstance(error, ConsultError) and error.line is not None):
        return str(error)
    return writer.write(ball)

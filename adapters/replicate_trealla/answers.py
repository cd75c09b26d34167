"""What the driver sends, as Python values. `driver.pl` describes the tokens."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from fractions import Fraction
from typing import Any, NoReturn, TypeVar

from replicate_trealla.errors import InterpreterError, PrologError, PrologResourceError, PrologSyntaxError
from replicate_trealla.from_terms import convert_fields
from replicate_trealla.terms import Atom, Compound, Opaque, Term, Variable
from replicate_trealla.text import place_of, unpartnered
from replicate_trealla.writing import write

__all__ = ["Answer", "ball_of", "decode_answer", "decode_terms", "is_answer", "raise_ball", "shown"]

T = TypeVar("T")

_DIGITS = 4000
_read_json = json.JSONDecoder().raw_decode
_STREAM = re.compile(rb""" "(?:[^"\\]|\\.)*" | '[^']*'\(\d+\) """, re.VERBOSE)


class Answer(dict[str, Term]):
    """Be one answer: a dict of the query's variables, without those whose names start with an underscore.

    It's false where it's empty, as dicts are: compare with None to tell an answer without variables from none.
    """

    stdout: str = ""
    """What the goal wrote to its standard output on the way to this answer."""
    stderr: str = ""
    residual: tuple[Term, ...] = ()
    """The goals that still constrain the answer's variables, as of ``dif/2`` or ``freeze/2``."""

    def to(self, kind: type[T]) -> T:
        """Make an object of a class whose fields are named like the variables: ``first_name`` is ``FirstName``.

        The class is a dataclass, an attrs class or a named tuple, whose fields' types say what their values are made into:
        see `replicate_trealla.from_terms`. Case and underscores don't count where a name isn't there exactly, and a field of
        type ``Annotated[int, Variable("N")]`` is for N. Further variables are left out; a field without one keeps its
        default. With ``dict[str, int]``, all values are made into this type.

        Raises `TermError` for a field without variable or default, and for what doesn't fit, saying where it is.
        """
        made: T = convert_fields(self, kind)
        return made


def is_answer(data: bytes) -> bool:
    """Tell answers from the end and from what the goal threw."""
    return data[1:2] in (b"1", b"3")


def decode_answer(data: bytes, out: bytes, err: bytes) -> Answer:
    """Make an answer of a message."""
    tokens = _load(data)
    reader = _Reader(tokens)
    names, values, residual = _read_answer(reader, tokens)
    if reader.variables:
        pairs = list(zip(names, values, strict=True))
        known = {value.name: name for name, value in reversed(pairs) if type(value) is Variable}
        if known:
            reader = _Reader(tokens, known)
            names, values, residual = _read_answer(reader, tokens)
    answer = Answer(zip(names, values, strict=True))
    if residual:
        answer.residual = residual
    if out or err:
        answer.stdout, answer.stderr = out.decode("utf-8", "replace"), err.decode("utf-8", "replace")
    return answer


def _read_answer(reader: _Reader, tokens: list[Any]) -> tuple[list[str], list[Term], tuple[Term, ...]]:
    residual: tuple[Term, ...] = ()
    if tokens[0] == 3:
        residual = tuple(_goals(reader.term()))
    names, values = [], []
    while reader.at < len(tokens):
        names.append(tokens[reader.at])
        reader.at += 1
        values.append(reader.term())
    return names, values, residual


def _goals(term: Term) -> Iterator[Term]:
    """Give the goals in lists of them, in which they come from some libraries."""
    todo = [term]
    while todo:
        item = todo.pop()
        if isinstance(item, list):
            todo.extend(reversed(item))
        else:
            yield item


class _Reader:
    """Read terms off a list of tokens, without recursion: terms may be nested deep."""

    __slots__ = ("at", "known", "tokens", "variables")

    def __init__(self, tokens: list[Any], known: dict[str, str] | None = None) -> None:
        self.tokens = tokens
        self.at = 1
        self.known = known or {}
        self.variables: dict[str, Variable] = {}

    def term(self) -> Term:
        """Read the next term."""
        tokens = self.tokens
        open_terms: list[tuple[str | None, int, list[Term]]] = []
        while True:
            token = tokens[self.at]
            self.at += 1
            kind = type(token)
            value: Term
            if kind is int:
                value = token
            elif kind is str:
                value = Atom(token)
            elif not token:
                value = []
            else:
                tag = token[0]
                if tag == 5:
                    open_terms.append((_name(token[2]), token[1], []))
                    continue
                if tag == 6:
                    open_terms.append((None, token[1], []))
                    continue
                value = self._tagged(tag, token)
            while open_terms:
                functor, count, items = open_terms[-1]
                items.append(value)
                if len(items) < count:
                    break
                open_terms.pop()
                value = items if functor is None else Compound(functor, tuple(items))
            else:
                return value

    def _tagged(self, tag: int, token: list[Any]) -> Term:
        if tag == 0:
            return Atom("")
        if tag == 1:
            text: str = token[1]
            return text
        if tag == 2:
            return float(token[1])
        if tag == 3:
            return Fraction(token[1], token[2])
        if tag in (4, 8):
            name: str = token[1]
            variable = self.variables.get(name)
            if variable is None:
                variable = self.variables[name] = Variable(self.known.get(name, name))
            return variable
        return Opaque(token[1])


def _name(token: Any) -> str:
    return token if type(token) is str else ""


def _load(data: bytes) -> list[Any]:
    try:
        tokens: list[Any] = _read_json(data.decode())[0]
    except ValueError:
        # Python refuses to read very large ints at once, and 0.33 takes what was a stream for an integer once it's closed.
        try:
            tokens = json.loads(_STREAM.sub(_opaque, data), parse_int=_large_int)
        except ValueError as error:
            raise InterpreterError(f"the interpreter sent what can't be read: {data!r:.200}") from error
    return tokens


def _opaque(match: re.Match[bytes]) -> bytes:
    text = match[0]
    return text if text.startswith(b'"') else b"[7,%s]" % json.dumps(text.decode()).encode()


def _large_int(digits: str) -> int:
    sign, digits = (-1, digits[1:]) if digits.startswith("-") else (1, digits)
    value = 0
    for chunk in _chunks(digits):
        value = value * 10 ** len(chunk) + int(chunk)
    return sign * value


def _chunks(digits: str) -> Iterator[str]:
    for start in range(0, len(digits), _DIGITS):
        yield digits[start : start + _DIGITS]


def decode_terms(data: bytes) -> list[Any]:
    """Give the terms that follow the first token."""
    tokens = _load(data)
    reader = _Reader(tokens)
    terms = []
    while reader.at < len(tokens):
        terms.append(reader.term())
    return terms


# -- what goals throw --------------------------------------------------------------------------------------------------


def ball_of(data: bytes) -> Term:
    """Give what a goal threw."""
    return _Reader(_load(data)).term()


def raise_ball(data: bytes, goal: str) -> NoReturn:
    """Raise the exception for a message that holds what a goal threw; `goal` is shown in it."""
    cause: Exception | None = getattr(data, "error", None)
    if cause is not None and data.is_itself:  # type: ignore[attr-defined]
        raise cause
    ball = ball_of(data)
    kind = ball.args[0] if isinstance(ball, Compound) and ball.indicator == "error/2" else None
    if isinstance(kind, Compound) and kind.functor == "syntax_error":
        context = ball.args[1] if isinstance(ball, Compound) else None
        if isinstance(context, Compound) and context.args == (Atom("read_term_from_chars"), 3):
            raise syntax_error(str(kind.args[0]), goal, ball)
    if isinstance(kind, Compound) and kind.functor == "resource_error":
        raise PrologResourceError(f"{shown(ball)}, thrown by {goal:.200}", ball=ball) from cause
    raise PrologError(f"{shown(ball)}, thrown by {goal:.200}", ball=ball) from cause


def syntax_error(reason: str, goal: str, ball: Term) -> PrologSyntaxError:
    """Make the error for a goal, with its place if a bracket or a quote explains it."""
    at = unpartnered(goal)
    if at is None:
        return PrologSyntaxError(f"{reason}: {goal:.200}", ball=ball)
    line, column = place_of(goal, at)
    where = f"line {line}, column {column}"
    return PrologSyntaxError(
        f"{reason}: {goal[at : at + 1]!r} at {where} has no partner: {goal:.200}", ball=ball, line=line, column=column
    )


def shown(term: Term) -> str:
    """Write a term for a message."""
    return write(term)[:500]

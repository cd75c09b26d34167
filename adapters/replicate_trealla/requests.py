"""What is asked, as `driver.pl` wants it written, once it has been checked."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import TypeAlias

from replicate.errors import ArgumentRangeError, ArgumentTypeError
from replicate_trealla.errors import PrologSyntaxError
from replicate_trealla.terms import Atom, Compound, variable_name, write_term
from replicate_trealla.text import check_goal

__all__ = ["Bindings", "checked_limit", "request_for", "with_rationals"]

Bindings: TypeAlias = Mapping[str, object]


def request_for(goal: str, bindings: Bindings | None, mode: str = "all") -> bytes:
    """Write a request for a goal's answers.

    Raises `PrologSyntaxError` for text that's no goal, `TermError` for a value that's no term, and `ArgumentTypeError` where
    there's no text, or no mapping.
    """
    if not isinstance(goal, str):
        raise ArgumentTypeError(_no_goal(goal))
    check_goal(goal)
    if bindings is not None and not isinstance(bindings, Mapping):
        raise ArgumentTypeError(
            f"bindings is {bindings!r:.80}; give a dict from names of variables to values, as bindings={{'X': 1}}"
        )
    if bindings or mode != "all":
        goal = f"'$replicate'({mode},[{_write_bindings(bindings or {}, goal)}]):-\n{goal}"
    try:
        return goal.encode()
    except UnicodeEncodeError as error:
        raise PrologSyntaxError(f"the goal isn't Unicode text: {goal!r:.80}") from error


def _no_goal(given: object) -> str:
    if isinstance(given, (Atom, Compound)):
        return f"the goal is the term {given!r:.80}; give Prolog text, which str() writes of it"
    if isinstance(given, (bytes, bytearray)):
        return "the goal is bytes; give str, as by .decode('utf-8')"
    if isinstance(given, os.PathLike):
        return f"the goal is the path {os.fspath(given)!r:.80}; files are loaded by consult"
    return f"the goal is {given!r:.80}; give Prolog text, as in query_all('member(X, [1, 2])')"


def _write_bindings(bindings: Bindings, goal: str) -> str:
    def write(rationals: list[Fraction], name: str) -> str:
        return ",".join(
            f"=({variable_name(key)},{write_term(value, rationals, name)})" for key, value in bindings.items()
        )

    computed, written = with_rationals(write, goal)
    return ",".join([*computed, *([written] if written else [])])


def with_rationals(write: Callable[[list[Fraction], str], str], goal: str = "") -> tuple[list[str], str]:
    """Write terms whose rationals, which have no notation, are variables; give those variables' bindings, and the text."""
    name = "_Rational"
    while True:
        rationals: list[Fraction] = []
        written = write(rationals, name)
        if not rationals or (name not in goal and written.count(name) == len(rationals)):
            break
        name += "_"  # some variable has this name
    return [f"{name}{at} is {value.numerator} rdiv {value.denominator}" for at, value in enumerate(rationals)], written


def checked_limit(limit: int | None) -> int | None:
    """Give `limit`, or raise `ArgumentRangeError` if it isn't a number of answers."""
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 0):
        raise ArgumentRangeError(f"limit is {limit!r}; give a number of answers, or None for all")
    return limit

"""Read calls as they are written on a command line: ``put(1, -2)``, ``scale(0x10, 1.5)``, ``clear()``."""

from __future__ import annotations

import re

import attrs
import typer

__all__ = ["CallSyntaxError", "WrittenCall", "parse_call"]

_INTEGER = re.compile(r"[+-]?(0[xX][0-9a-fA-F][0-9a-fA-F_]*|[0-9][0-9_]*)")
_DECIMAL = re.compile(r"[+-]?([0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))([eE][+-]?[0-9]+)?")
_SPECIAL = re.compile(r"[+-]?(inf|nan)")


class CallSyntaxError(typer.BadParameter):
    """Report a call that can't be read: wrong usage, exit code 2."""


@attrs.frozen
class WrittenCall:
    """Hold a call: the export's name, and arguments as `Instance.call` takes them."""

    text: str
    name: str
    args: tuple[int | float | None, ...]


def parse_call(text: str) -> WrittenCall:
    """Read ``name(argument, ...)``; raise `CallSyntaxError` saying what is wrong.

    Arguments are integers (decimal or, with ``0x``, hexadecimal, also for vectors), floats (``1.5``, ``-2e9``, ``inf``,
    ``nan``) and ``null``. A name may contain anything but an opening parenthesis.
    """
    name, opening, rest = text.strip().partition("(")
    name = name.strip()
    if not opening or not rest.endswith(")"):
        raise CallSyntaxError(
            f"{text!r} isn't a call; write it like 'put(1, -2)', with parentheses also around nothing"
        )
    if not name:
        raise CallSyntaxError(f"{text!r} has no function's name before its parenthesis")
    inner = rest[:-1].strip()
    args = tuple(_argument(each.strip(), position, text) for position, each in enumerate(inner.split(","), 1) if inner)
    return WrittenCall(text, name, args)


def _argument(written: str, position: int, text: str) -> int | float | None:
    if written == "null":
        return None
    if _INTEGER.fullmatch(written):
        try:
            return int(written, 16 if "x" in written.lower() else 10)
        except ValueError as error:
            raise CallSyntaxError(f"argument {position} of {text!r} isn't a number: {written!r}") from error
    if _DECIMAL.fullmatch(written) or _SPECIAL.fullmatch(written):
        return float(written)
    what = f"is {written!r}" if written else "is missing"
    raise CallSyntaxError(
        f"argument {position} of {text!r} {what}; give an integer (7, -7, 0x1f), a float (1.5, -2e9, inf, nan) or null"
    )

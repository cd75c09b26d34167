"""Prolog terms as Python values, and back as text.

====================  =============================================================================
Prolog                Python
====================  =============================================================================
atom                  `Atom`
integer               int, of any size
float                 float
rational              `fractions.Fraction`
string                str
list                  list
compound term         `Compound`
unbound variable      `Variable`
stream, map, ...      `Opaque`, which can't be given back
====================  =============================================================================

To Prolog a string *is* the list of its characters, so terms that are equal there would be different values here if it
mattered how one was made. It doesn't: a list of single characters is always a str (``[a, b]`` arrives as ``"ab"``; take
`list` of it for the characters), and the empty list is always ``[]`` (also where ``""`` was meant).
"""

from __future__ import annotations

import math
import re
from fractions import Fraction
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import attrs

from replicate_trealla.errors import TermError

__all__ = ["Atom", "Compound", "Opaque", "Term", "Variable", "to_prolog"]


@attrs.frozen(repr=False)
class Atom:
    """Be an atom. Calling one makes a compound term: ``Atom("point")(1, 2)`` is ``point(1, 2)``."""

    name: str

    def __call__(self, *args: Term) -> Compound:
        """Make a compound term of this functor."""
        return Compound(self.name, args)

    @property
    def indicator(self) -> str:
        """The name and number of arguments, as in ``"foo/0"``."""
        return f"{self.name}/0"

    def __str__(self) -> str:
        return _shown(self)

    def __repr__(self) -> str:
        return f"Atom({self.name!r})"


def _args(given: tuple[Term, ...]) -> tuple[Term, ...]:
    args = tuple(given)
    if not args:
        raise TermError("a compound term has at least one argument; use Atom for a name alone")
    return args


@attrs.frozen(repr=False, eq=False)
class Compound:
    """Be a compound term. However deep it's nested, it can be compared and hashed."""

    functor: str
    args: tuple[Term, ...] = attrs.field(converter=_args)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Compound):
            return NotImplemented
        try:
            return self.functor == other.functor and self.args == other.args
        except RecursionError:
            return _same(self, other)

    def __hash__(self) -> int:
        return _hash(self, 3)

    @property
    def indicator(self) -> str:
        """The name and number of arguments, as in ``"point/2"``."""
        return f"{self.functor}/{len(self.args)}"

    def __str__(self) -> str:
        return _shown(self)

    def __repr__(self) -> str:
        try:
            return f"Compound({self.functor!r}, {self.args!r})"
        except RecursionError:
            return f"Compound({self.functor!r}, ...)"


def _same(one: object, other: object) -> bool:
    """Compare without recursion."""
    todo = [(one, other)]
    while todo:
        one, other = todo.pop()
        if isinstance(one, Compound) and isinstance(other, Compound):
            if one.functor != other.functor or len(one.args) != len(other.args):
                return False
            todo.extend(zip(one.args, other.args, strict=True))
        elif isinstance(one, list) and isinstance(other, list):
            if len(one) != len(other):
                return False
            todo.extend(zip(one, other, strict=True))
        elif one != other:
            return False
    return True


def _hash(term: object, levels: int) -> int:
    """Hash the upper levels alone: terms may be nested deep. Lists, which can't be hashed, may be inside."""
    if isinstance(term, (Compound, list)):
        if not levels:
            return 0
        name, parts = (term.functor, term.args) if isinstance(term, Compound) else (None, tuple(term[:8]))
        return hash((name, *(_hash(part, levels - 1) for part in parts)))
    return hash(term)


@attrs.frozen(repr=False)
class Variable:
    """Be an unbound variable.

    In an answer, a variable of the query has its own name, and any other one a name with an underscore that means
    something within this answer only. Given in `bindings`, it stands for the goal's variable of this name.
    """

    name: str

    def __str__(self) -> str:
        return _shown(self)

    def __repr__(self) -> str:
        return f"Variable({self.name!r})"


def _shown(term: Term) -> str:
    from replicate_trealla.writing import write  # which needs this file

    return write(term)


@attrs.frozen
class Opaque:
    """Stand for what lives in the interpreter only, such as a stream; `text` is how the interpreter writes it."""

    text: str

    def __str__(self) -> str:
        return self.text


if TYPE_CHECKING:
    Term: TypeAlias = "Atom | Compound | Variable | Opaque | str | int | float | Fraction | list[Term]"
else:
    # Annotations with it are looked up when terms are converted, and a recursive one can't be.
    Term = Atom | Compound | Variable | Opaque | str | int | float | Fraction | list


# -- Python to Prolog --------------------------------------------------------------------------------------------------

_PLAIN = re.compile(r"[a-z][A-Za-z0-9_]*")
_VARIABLE = re.compile(r"[A-Z_][A-Za-z0-9_]*")
_ESCAPED = re.compile(r"[\x00-\x1f\x7f-\xa0\\'\"\u2000-\u200f\u2028-\u202f\u205f-\u206f\u3000\ufeff]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_DECIMAL_LIMIT = 4000
_OWN = frozenset((Atom, Compound, Variable, Opaque, str, int, float, Fraction, list))


def to_prolog(value: object) -> str:
    """Write a value as Prolog text that reads back as the same term, whatever operators and quotes it contains.

    Python values that aren't terms are made into terms first: `replicate_trealla.to_terms` says how. A `Fraction` is written
    as the expression ``N rdiv D``, since Trealla has no notation for rationals; as a binding it's evaluated. Raises
    `TermError` for what has no term: infinite floats, an `Opaque`, objects of other classes, a list that contains itself.
    """
    return write_term(value, None)


def variable_name(name: str) -> str:
    """Give `name` if it's that of a Prolog variable; raise `TermError` otherwise."""
    if not isinstance(name, str) or not _VARIABLE.fullmatch(name):
        raise TermError(
            f"{name!r} isn't a variable's name: it starts with A-Z or _, and goes on with letters, digits and _"
        )
    return name


def write_term(value: object, rationals: list[Fraction] | None, name: str = "_Rational") -> str:
    """Write a term; with `rationals`, append fractions there and write variables ``<name><index>`` in their places."""
    pieces: list[str] = []
    todo: list[object] = [value]
    around: dict[int, object] = {}
    while todo:
        given = todo.pop()
        kind = type(given)
        if kind is _Text:
            pieces.append(str(given))
            continue
        if kind is _End:
            pieces.append(given.text)  # type: ignore[attr-defined]
            del around[given.of]  # type: ignore[attr-defined]
            continue
        item = given if kind in _OWN else _lowered(given)
        if isinstance(item, (Compound, list)):
            if id(given) in around:
                raise TermError(f"a {kind.__qualname__} that contains itself has no Prolog term")
            around[id(given)] = given
            elements = list(item.args) if isinstance(item, Compound) else item
            pieces.append(f"{_functor(item)}(" if isinstance(item, Compound) else "[")
            todo.append(_End(")" if isinstance(item, Compound) else "]", id(given)))
            for position in range(len(elements) - 1, -1, -1):
                todo.append(elements[position])
                if position:
                    todo.append(_COMMA)
        elif isinstance(item, Fraction) and rationals is not None:
            pieces.append(f"{name}{len(rationals)}")
            rationals.append(item)
        else:
            pieces.append(_atomic(item))
    return "".join(pieces)


def _lowered(value: object) -> object:
    from replicate_trealla.to_terms import lowered  # which needs this file

    return lowered(value)


class _Text(str):
    """Be text to write as it is."""

    __slots__ = ()


class _End(NamedTuple):
    """End a term: that of the object with this id."""

    text: str
    of: int


_COMMA = _Text(",")


def _atomic(item: object) -> str:
    if isinstance(item, Atom):
        return _quote(item.name)
    if isinstance(item, str):
        return f'"{_escape(item)}"'
    if isinstance(item, int):
        # Python refuses to write very large ints in decimal.
        return str(item) if item.bit_length() < 3 * _DECIMAL_LIMIT else f"{'-' if item < 0 else ''}0x{abs(item):x}"
    if isinstance(item, float):
        return _float(item)
    if isinstance(item, Fraction):
        return f"({item.numerator} rdiv {item.denominator})"
    if isinstance(item, Variable):
        return variable_name(item.name)
    assert isinstance(item, Opaque)
    raise TermError(f"{item.text} lives in the interpreter only; it can't be given back")


def _float(value: float) -> str:
    if not math.isfinite(value):
        raise TermError(f"{value} has no Prolog term: Trealla's floats are finite")
    text = repr(value)
    if "." not in text:
        mantissa, _, exponent = text.partition("e")
        text = f"{mantissa}.0e{exponent}"
    return text


def _functor(term: Compound) -> str:
    if isinstance(term.functor, str) and "\0" in term.functor:
        raise TermError(f"{term.indicator!r}: Trealla cuts the name of a compound term off at a zero byte")
    return _quote(term.functor)


def _quote(name: str) -> str:
    if not isinstance(name, str):
        raise TermError(f"{name!r} isn't the name of an atom or a compound term; give a str")
    name = str.__str__(name)
    if _PLAIN.fullmatch(name) or name in ("[]", "{}"):
        return name
    return f"'{_escape(name)}'"


def _escape(text: str) -> str:
    if _SURROGATE.search(text):
        raise TermError(f"{text!r:.80} isn't Unicode text: it contains half of a surrogate pair")
    return _ESCAPED.sub(_escape_one, text)


def _escape_one(match: re.Match[str]) -> str:
    character = match[0]
    if character in "\\'\"":
        return f"\\{character}"
    return f"\\x{ord(character):x}\\"

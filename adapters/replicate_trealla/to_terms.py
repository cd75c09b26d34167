"""Make terms of Python values.

=======================================  ===========================================================
Python                                   Prolog
=======================================  ===========================================================
Atom, Compound, Variable, str, int,      themselves
float, Fraction, list
True, False, None                        the atoms ``true``, ``false``, ``none``
dataclass, attrs class, named tuple      ``class_name(Field, ...)``; without fields, an atom
Enum member                              the atom of its value if that's a str, otherwise of its name
tuple                                    a list
dict                                     a list of ``Key-Value``; keys that are str are atoms (not ``"[]"``)
Decimal                                  the integer or rational it is, exactly
datetime, date, time                     the string of ISO 8601
bytes                                    the list of the bytes, as integers
=======================================  ===========================================================

Anything else is refused, sets too, since their order would be anything: sort them into a list.
"""

from __future__ import annotations

import datetime
import enum
from collections.abc import Callable, Mapping
from decimal import Decimal
from fractions import Fraction
from typing import Any

from replicate_trealla.errors import TermError
from replicate_trealla.records import is_record, record_of
from replicate_trealla.terms import Atom, Compound, Opaque, Term, Variable

__all__ = ["atom_of", "lowered", "substitute", "to_term", "variables_of"]

_LARGEST_EXPONENT = 20_000
_KNOWN = (Atom, Compound, Variable, Opaque)


def to_term(value: object) -> Term:
    """Make a term of a value, nested ones too; raise `TermError` for what has none. Bindings are made into terms so."""
    return _rebuilt(value, lambda leaf: leaf)


def substitute(term: object, values: Mapping[str, object]) -> Term:
    """Put values in the places of variables, given by their names; other variables stay. Values are made into terms.

    ::

        substitute(Atom("f")(Variable("X"), Variable("Y")), {"X": 1})  # f(1, Y)
    """
    terms = {name: to_term(value) for name, value in values.items()}
    return _rebuilt(term, lambda leaf: terms.get(leaf.name, leaf) if isinstance(leaf, Variable) else leaf)


def variables_of(term: object) -> list[Variable]:
    """Give the variables of a term, each once, in the order in which they're first met."""
    found: dict[Variable, None] = {}

    def note(leaf: Any) -> Any:
        if isinstance(leaf, Variable):
            found.setdefault(leaf)
        return leaf

    _rebuilt(term, note)
    return list(found)


def lowered(value: object) -> Any:
    """Give a term for a value, in which the arguments and elements are still to be made into terms."""
    if isinstance(value, _KNOWN):
        return value
    if isinstance(value, enum.Enum):
        return atom_of(value)
    if value is None:
        return Atom("none")
    if isinstance(value, bool):
        return Atom("true" if value else "false")
    # By their own classes' methods, since those of a subclass may say anything.
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return int.__index__(value)
    if isinstance(value, float):
        return float.__float__(value)
    kind: Any = type(value)
    if is_record(kind):
        record = record_of(kind)
        args = tuple(getattr(value, field.name) for field in record.fields)
        return Compound(record.functor, args) if args else Atom(record.functor)
    if isinstance(value, (list, tuple)):
        return list(value)
    return _other(value)


def _other(value: object) -> Any:
    if isinstance(value, Fraction):
        return Fraction(value.numerator, value.denominator)
    if isinstance(value, Mapping):
        return [Compound("-", (_key(key), item)) for key, item in value.items()]
    if isinstance(value, Decimal):
        if not value.is_finite() or (value and abs(value.adjusted()) > _LARGEST_EXPONENT):
            raise TermError(
                f"{value!r} has no Prolog term: it isn't finite, or its exponent is beyond {_LARGEST_EXPONENT}"
            )
        fraction = Fraction(value)
        return fraction.numerator if fraction.denominator == 1 else fraction
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, (bytes, bytearray)):
        return list(value)
    hint = "; sort it into a list" if isinstance(value, (set, frozenset)) else ""
    if isinstance(value, type):
        hint = f"; give an instance of {value.__qualname__}"
    raise TermError(
        f"{type(value).__qualname__} has no Prolog term{hint or ': give terms, plain values or records of them'} "
        "(replicate_trealla.to_terms lists them)"
    )


def _key(key: Any) -> Any:
    # The atom [] is the empty list.
    return Atom(key) if isinstance(key, str) and not isinstance(key, enum.Enum) and key != "[]" else key


def atom_of(member: enum.Enum) -> Atom:
    """Give the atom for a member of an enumeration."""
    if isinstance(member.value, str):
        return Atom(member.value)
    if member.name not in type(member).__members__:
        raise TermError(f"{member!r} is a combination of flags, which has no name; give a list of single ones")
    return Atom(member.name)


def _rebuilt(value: object, leaf: Callable[[Any], Any]) -> Term:
    """Make a term with `leaf` applied to what has no parts; without recursion, since terms may be nested deep."""
    open_terms: list[tuple[object, str | None, list[Any], list[Any]]] = []
    path: set[int] = set()
    todo = [value]
    while True:
        given = todo.pop()
        item = lowered(given)
        if isinstance(item, (Compound, list)) and item != []:
            if id(given) in path:
                raise TermError(f"a {type(given).__qualname__} that contains itself has no Prolog term")
            path.add(id(given))
            functor, parts = (item.functor, item.args) if isinstance(item, Compound) else (None, item)
            # What is given is held here, so that nothing else gets its id.
            open_terms.append((given, functor, [], todo))
            todo = list(reversed(parts))
            continue
        done: Any = leaf(item)
        while open_terms:
            holder, functor, parts, outer = open_terms[-1]
            parts.append(done)
            if todo:
                break
            open_terms.pop()
            path.discard(id(holder))
            done, todo = (parts if functor is None else Compound(functor, tuple(parts))), outer
        else:
            term: Term = done
            return term

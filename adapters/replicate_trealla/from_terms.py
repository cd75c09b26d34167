"""Make Python values of terms, by type.

============================  ======================================================================================
Type                          Terms
============================  ======================================================================================
Term, Any, object             any, as it is
Atom, Compound, Variable,     these
Opaque, list
int, Fraction                 an integer; for Fraction a rational, too
float                         a float or an integer
Decimal                       an integer, or a rational that has finitely many decimals
str                           a string or an atom
bool                          the atoms ``true`` and ``false``
None                          the atom ``none``; in a union with other types, an unbound variable, too
list[T], Sequence[T], set[T]  a list
tuple[A, B], tuple[T, ...]    a list of as many; for two also the pair ``A-B``
dict[K, V], Mapping[K, V]     a list of ``Key-Value`` or ``Key=Value``, each key once
Literal, Enum                 what is one of these values
Union, Optional, A | B        what the term's own Python type is, if that's among them, or the first type that fits
dataclass, attrs class,       a compound term of its functor, each argument as its field's type says
named tuple
datetime, date, time          a string or an atom of ISO 8601
bytes                         a list of integers from 0 to 255
============================  ======================================================================================

Generic records, NewType, Annotated and type variables are seen through.
"""

from __future__ import annotations

import collections.abc
import datetime
import enum
import types
import typing
from collections.abc import Callable
from decimal import Context, Decimal, Inexact, InvalidOperation
from fractions import Fraction
from typing import Any, TypeVar, overload

from replicate_trealla.errors import ConversionError, TermError
from replicate_trealla.records import Field, hints_of, is_record, record_of
from replicate_trealla.terms import Atom, Compound, Opaque, Term, Variable
from replicate_trealla.to_terms import atom_of
from replicate_trealla.writing import write

__all__ = ["convert", "convert_fields"]

T = TypeVar("T")
_Variables = dict[Any, Any]

_AS_IT_IS = (Term, Any, object)
_OWN = (Atom, Compound, Variable, Opaque)
_NONE = type(None)
_LISTS = {list: list, collections.abc.Sequence: list, collections.abc.Iterable: list, collections.abc.Collection: list}
_SETS = {set: set, frozenset: frozenset, collections.abc.Set: frozenset}
_DICTS = {dict, collections.abc.Mapping, collections.abc.MutableMapping}
_DECIMALS = Context(prec=50_000, traps=[Inexact, InvalidOperation])


def _mismatch(path: str, expected: str, term: object) -> ConversionError:
    return ConversionError(f"{path}: expected {expected}, got {_seen(term):.200}", path=path)


@overload
def convert(term: Term, kind: type[T], *, path: str = "term") -> T: ...
@overload
def convert(term: Term, kind: Any, *, path: str = "term") -> Any: ...
def convert(term: Term, kind: Any, *, path: str = "term") -> Any:
    """Make a value of type `kind` of a term; see above for what fits what.

    `path` is what the term is called in errors. Raises `TermError` for a term that doesn't fit, saying which part of it,
    and for a type that nothing is made into.
    """
    try:
        return _convert(term, kind, path, {})
    except RecursionError as error:
        raise TermError(f"{path} is nested too deep to be made into {_named(kind)}; take it apart as a term") from error


def convert_fields(terms: dict[str, Term], kind: Any) -> Any:
    """Make an object of a class whose fields are named like an answer's variables, or a dict of them."""
    origin, variables = _generic(kind)
    if origin is dict:
        wanted = typing.get_args(kind)[1:] or (Any,)
        return {name: convert(term, wanted[0], path=f"answer[{name!r}]") for name, term in terms.items()}
    if not is_record(origin):
        raise TermError(
            f"{_named(kind)} isn't a dataclass, an attrs class or a named tuple: use convert for a single term"
        )
    hints = hints_of(origin)
    names = {field: _variable_for(field, hints.get(field.name), terms) for field in record_of(origin).fields}
    missing = [field.name for field, name in names.items() if name is None and field.required]
    if missing:
        raise TermError(
            f"the answer has no variable for {', '.join(missing)} of {origin.__qualname__}; it has {', '.join(terms) or 'none'}"
        )
    try:
        values = {
            field.argument: _convert(terms[name], hints.get(field.name, Any), f"answer[{name!r}]", variables)
            for field, name in names.items()
            if name is not None
        }
    except RecursionError as error:
        raise TermError(f"the answer is nested too deep to be made into {origin.__qualname__}") from error
    return _made(origin, values, "answer")


def _variable_for(field: Field, hint: Any, terms: dict[str, Term]) -> str | None:
    for each in getattr(hint, "__metadata__", ()):
        if isinstance(each, Variable):
            return each.name if each.name in terms else None
    if field.name in terms:
        return field.name
    alike = [name for name in terms if _plain(name) == _plain(field.name)]
    if len(alike) > 1:
        raise TermError(
            f"the answer's variables {' and '.join(alike)} could both be {field.name}; annotate the field as "
            f"Annotated[..., Variable({alike[0]!r})]"
        )
    return alike[0] if alike else None


def _plain(name: str) -> str:
    return name.replace("_", "").casefold()


# -- by kind of type ---------------------------------------------------------------------------------------------------


def _convert(term: Term, kind: Any, path: str, variables: _Variables) -> Any:
    if kind is None:
        kind = _NONE
    if any(kind is each for each in _AS_IT_IS):
        return term
    if isinstance(kind, TypeVar):
        return _convert(term, variables.get(kind, kind.__bound__ or Any), path, variables)
    simple = _SIMPLE.get(kind) if isinstance(kind, type) else None
    if simple is not None:
        return simple(term, path)
    origin = typing.get_origin(kind)
    if origin is typing.Annotated:
        return _convert(term, kind.__origin__, path, variables)
    if origin in (typing.Union, types.UnionType):
        return _union(term, kind, path, variables)
    if origin is typing.Literal:
        return _literal(term, kind, path)
    through = getattr(kind, "__supertype__", None) or getattr(kind, "__value__", None)
    if through is not None and not isinstance(kind, type):
        return _convert(term, through, path, variables)
    return _collected(term, kind, path, variables)


def _collected(term: Term, kind: Any, path: str, variables: _Variables) -> Any:
    bare = typing.get_origin(kind) or kind
    args = typing.get_args(kind)
    if bare in _LISTS or bare in _SETS:
        element = args[0] if args else Any
        made = [_convert(each, element, f"{path}[{at}]", variables) for at, each in enumerate(_items(term, kind, path))]
        return made if bare in _LISTS else _hashed(_SETS[bare], made, path)
    if bare is tuple:
        return _tuple(term, kind, args, path, variables)
    if bare in _DICTS:
        return _dict(term, kind, args or (Any, Any), path, variables)
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return _member(term, kind, path)
    origin, own = _generic(kind)
    if is_record(origin):
        return _record(term, origin, path, {**variables, **own} if own else variables)
    raise TermError(f"{path}: nothing is made into {_named(kind)} (replicate_trealla.from_terms lists what is)")


def _items(term: Term, kind: Any, path: str) -> list[Term]:
    if isinstance(term, str):
        return [Atom(character) for character in term]
    if not isinstance(term, list):
        raise _mismatch(path, _named(kind), term)
    return term


def _tuple(term: Term, kind: Any, args: tuple[Any, ...], path: str, variables: _Variables) -> tuple[Any, ...]:
    if isinstance(term, Compound) and term.indicator == "-/2" and len(args) == 2 and args[1] is not ...:
        return tuple(
            _convert(each, wanted, f"{path}.args[{at}]", variables)
            for at, (each, wanted) in enumerate(zip(term.args, args, strict=True))
        )
    items = _items(term, kind, path)
    if args in ((), ((),)):
        if kind is not tuple and kind is not typing.Tuple and items:  # noqa: UP006 - tuple[()]
            raise _mismatch(path, "an empty list", term)
        args = (Any, ...)
    if args[-1] is ...:
        args = (args[0],) * len(items)
    if len(items) != len(args):
        raise _mismatch(path, f"a list of {len(args)}, as of {_named(kind)}", term)
    return tuple(
        _convert(each, wanted, f"{path}[{at}]", variables)
        for at, (each, wanted) in enumerate(zip(items, args, strict=True))
    )


def _dict(term: Term, kind: Any, args: tuple[Any, ...], path: str, variables: _Variables) -> dict[Any, Any]:
    made: dict[Any, Any] = {}
    for at, pair in enumerate(_items(term, kind, path)):
        if not isinstance(pair, Compound) or pair.indicator not in ("-/2", "=/2"):
            raise _mismatch(f"{path}[{at}]", "Key-Value or Key=Value", pair)
        [key] = _hashed(set, [_convert(pair.args[0], args[0], f"{path}[{at}].args[0]", variables)], path)
        if key in made:
            raise TermError(f"{path}[{at}]: the key {key!r} is there twice")
        made[key] = _convert(pair.args[1], args[1], f"{path}[{key!r}]", variables)
    return made


def _hashed(kind: Callable[[list[Any]], Any], items: list[Any], path: str) -> Any:
    try:
        return kind(items)
    except TypeError as error:
        raise TermError(f"{path}: {error}, so it can't be in a set or a key: give a type that is hashable") from error


def _union(term: Term, kind: Any, path: str, variables: _Variables) -> Any:
    members = typing.get_args(kind)
    if _NONE in members and (term == Atom("none") or (isinstance(term, Variable) and Variable not in members)):
        return None
    if type(term) in members:
        return term
    best: ConversionError | None = None
    for member in members:
        try:
            return _convert(term, member, path, variables)
        except ConversionError as error:
            if len(error.path) > len(best.path if best else path):
                best = error
    raise best or _mismatch(path, _named(kind), term)


def _literal(term: Term, kind: Any, path: str) -> Any:
    for value in typing.get_args(kind):
        try:
            if _convert(term, type(value), path, {}) == value:
                return value
        except ConversionError:
            pass
    raise _mismatch(path, f"one of {', '.join(map(repr, typing.get_args(kind)))}", term)


def _member(term: Term, kind: type[enum.Enum], path: str) -> Any:
    written = Atom("[]") if term == [] else term
    for member in kind:
        if written == atom_of(member) or (type(term) in (str, int) and term == member.value):
            return member
    raise _mismatch(path, f"{_named(kind)} ({', '.join(str(atom_of(member)) for member in kind)})", term)


# -- records -----------------------------------------------------------------------------------------------------------


def _record(term: Term, cls: Any, path: str, variables: _Variables) -> Any:
    record = record_of(cls)
    args = term.args if isinstance(term, Compound) else ()
    name = term.functor if isinstance(term, Compound) else term.name if isinstance(term, Atom) else None
    if (name, len(args)) != (record.functor, len(record.fields)):
        raise _mismatch(path, f"{record.functor}/{len(record.fields)}, as of {cls.__qualname__}", term)
    hints = hints_of(cls)
    values = {
        field.argument: _convert(arg, hints.get(field.name, Any), f"{path}.args[{at}]", variables)
        for at, (field, arg) in enumerate(zip(record.fields, args, strict=True))
    }
    return _made(cls, values, path)


def _made(cls: Any, values: dict[str, Any], path: str) -> Any:
    try:
        return cls(**values)
    except (TypeError, ValueError) as error:
        raise TermError(f"{path}: {cls.__qualname__} can't be made of this: {error}") from error


def _generic(kind: Any) -> tuple[Any, _Variables]:
    """Split a class with arguments, as ``Box[int]``, into the class and what its type variables stand for."""
    origin = typing.get_origin(kind)
    if origin is None:
        return kind, {}
    parameters = getattr(origin, "__parameters__", ())
    return origin, dict(zip(parameters, typing.get_args(kind), strict=False))


# -- plain values ------------------------------------------------------------------------------------------------------


def _int(term: Term, path: str) -> int:
    if type(term) is int:
        return term
    raise _mismatch(path, "int", term)


def _float(term: Term, path: str) -> float:
    if type(term) is float:
        return term
    try:
        return float(_int(term, path))
    except ConversionError:
        raise _mismatch(path, "float", term) from None
    except OverflowError as error:
        raise _mismatch(path, "float, which holds no integer of this size", term) from error


def _str(term: Term, path: str) -> str:
    if isinstance(term, Atom):
        return term.name
    if term == []:
        return ""
    if isinstance(term, str):
        return term
    raise _mismatch(path, "str", term)


def _bool(term: Term, path: str) -> bool:
    if isinstance(term, Atom) and term.name in ("true", "false"):
        return term.name == "true"
    raise _mismatch(path, "bool (true or false)", term)


def _none(term: Term, path: str) -> None:
    if term != Atom("none"):
        raise _mismatch(path, "None (none)", term)


def _fraction(term: Term, path: str) -> Fraction:
    if isinstance(term, (int, Fraction)):
        return Fraction(term)
    raise _mismatch(path, "Fraction", term)


def _decimal(term: Term, path: str) -> Decimal:
    if not isinstance(term, (int, Fraction)):
        raise _mismatch(path, "Decimal", term)
    try:
        return _DECIMALS.divide(Decimal(term.numerator), Decimal(term.denominator))
    except (Inexact, InvalidOperation) as error:
        raise _mismatch(path, "Decimal, with finitely many digits", term) from error


def _bytes(term: Term, path: str) -> bytes:
    if isinstance(term, list) and all(type(each) is int and 0 <= each < 256 for each in term):
        return bytes(term)  # type: ignore[arg-type]
    raise _mismatch(path, "bytes (a list of integers from 0 to 255)", term)


def _iso(cls: Any) -> Callable[[Term, str], Any]:
    def read(term: Term, path: str) -> Any:
        text = _str(term, path) if isinstance(term, (Atom, str)) else None
        try:
            return cls.fromisoformat(text)
        except (TypeError, ValueError) as error:
            raise _mismatch(path, f"{cls.__name__}, as ISO 8601 text", term) from error

    return read


def _own(cls: Any) -> Callable[[Term, str], Any]:
    def same(term: Term, path: str) -> Any:
        if type(term) is not cls:
            raise _mismatch(path, cls.__name__, term)
        return term

    return same


_SIMPLE: dict[Any, Callable[[Term, str], Any]] = {
    int: _int,
    float: _float,
    str: _str,
    bool: _bool,
    _NONE: _none,
    Fraction: _fraction,
    Decimal: _decimal,
    bytes: _bytes,
    **{cls: _own(cls) for cls in _OWN},
    **{cls: _iso(cls) for cls in (datetime.datetime, datetime.date, datetime.time)},
}


def _seen(term: Any) -> str:
    # Python refuses to write large ints, and terms nested deep.
    try:
        return repr(term)
    except (ValueError, RecursionError):
        return write(term)


def _named(kind: Any) -> str:
    return (
        kind.__qualname__ if isinstance(kind, type) and not typing.get_args(kind) else str(kind).replace("typing.", "")
    )

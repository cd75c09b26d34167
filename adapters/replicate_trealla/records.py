"""See classes as compound terms: a dataclass ``PathStep(x, y)`` as ``path_step(X, Y)``.

Dataclasses, attrs classes and named tuples are records: their functor is the class's name in snake case, and their arguments
are the fields of ``__init__``, in their order. `functor` says otherwise, and so does an attribute of the class itself,
``__prolog__ = ("step", "y", "x")``.
"""

from __future__ import annotations

import dataclasses
import re
import typing
from collections.abc import Callable
from functools import lru_cache
from typing import Any, TypeVar

import attrs

from replicate_trealla.errors import TermError

__all__ = ["Field", "Record", "functor", "hints_of", "is_record", "record_of"]

C = TypeVar("C", bound="type[Any]")

_WORDS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_ATTRIBUTE = "__prolog__"


@attrs.frozen
class Field:
    """Be one argument of a record's term, or a field of a class that's read from an answer."""

    name: str
    argument: str
    """What ``__init__`` calls it."""
    required: bool


@attrs.frozen
class Record:
    """Be what's known of a class as a compound term."""

    functor: str
    fields: tuple[Field, ...]


def functor(name: str | None = None, *fields: str) -> Callable[[C], C]:
    """Decorate a dataclass, attrs class or named tuple: `name` is its functor, and `fields` are the arguments, in order.

    None is the class's name in snake case, and no fields are all of them. Fields left out must have defaults.

    ::

        @functor("edge", "source", "target")
        @dataclass
        class Connection: ...

    Put it above the decorator that makes the class a record. Subclasses don't inherit it.
    """
    if name is not None and not isinstance(name, str):
        raise TermError(f"{name!r} is no functor: write @functor('name'), or @functor() for the class's own name")

    def decorate(cls: C) -> C:
        setattr(cls, _ATTRIBUTE, (_snake(cls) if name is None else name, *fields))
        checked: Any = cls
        record_of(checked)
        return cls

    return decorate


def is_record(cls: object) -> bool:
    """Tell whether a class's instances are compound terms."""
    if not isinstance(cls, type):
        return False
    return dataclasses.is_dataclass(cls) or attrs.has(cls) or _is_named_tuple(cls)


@lru_cache(maxsize=1024)
def record_of(cls: Any) -> Record:
    """Give what is known of a record; raise `TermError` for a class that's none."""
    fields = {field.name: field for field in _fields(cls)}
    declared = vars(cls).get(_ATTRIBUTE)
    if declared is None:
        return Record(_snake(cls), tuple(fields.values()))
    if not isinstance(declared, tuple) or not all(isinstance(name, str) for name in declared) or not declared:
        raise TermError(
            f"{cls.__qualname__}.{_ATTRIBUTE} is {declared!r}; give a tuple of the functor and names of fields"
        )
    name, *order = declared
    unknown = [each for each in order if each not in fields]
    if unknown or len(set(order)) < len(order):
        fault = f"has no field {unknown[0]!r}" if unknown else "is given a field twice"
        raise TermError(f"{cls.__qualname__} {fault}; its fields are {', '.join(fields) or 'none'}")
    return Record(name, tuple(fields[each] for each in order) if order else tuple(fields.values()))


def _fields(cls: type[Any]) -> list[Field]:
    # A class that is both, as of attrs.dataclass, is made by attrs.
    if attrs.has(cls):
        return [
            Field(each.name, each.alias or each.name, each.default is attrs.NOTHING)
            for each in attrs.fields(cls)
            if each.init
        ]
    if dataclasses.is_dataclass(cls):
        return [
            Field(
                each.name,
                each.name,
                each.default is dataclasses.MISSING and each.default_factory is dataclasses.MISSING,
            )
            for each in dataclasses.fields(cls)
            if each.init
        ]
    if _is_named_tuple(cls):
        return [Field(name, name, name not in cls._field_defaults) for name in cls._fields]
    raise TermError(f"{cls.__qualname__} is no dataclass, attrs class or named tuple, so it has no fields to speak of")


def hints_of(cls: type[Any]) -> dict[str, Any]:
    """Give the types of a class's fields; raise `TermError` if a name in them can't be looked up."""
    try:
        return typing.get_type_hints(cls, localns={cls.__name__: cls}, include_extras=True)
    except (NameError, AttributeError, TypeError, SyntaxError) as error:
        raise TermError(
            f"the types of {cls.__qualname__}'s fields can't be looked up: {error}; define and import them where the module "
            "sees them at run time"
        ) from error


def _is_named_tuple(cls: type[Any]) -> bool:
    return issubclass(cls, tuple) and hasattr(cls, "_fields") and hasattr(cls, "_field_defaults")


def _snake(cls: type[Any]) -> str:
    return _WORDS.sub("_", cls.__name__).lower()

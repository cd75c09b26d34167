"""Tell which functions a typed function reference may refer to: when two types are one, and which are declared subtypes.

Types are compared as WebAssembly 3.0 does (chapter "Validation", type equivalence and matching): types that are defined
together (``rec``) stand and fall together, so a group gets a canonical number by what it looks like from inside, with
references within it by position and all others by canonical number. Two types are one if their groups look alike and
they have the same place in it. Beyond that there are only subtypes that are declared to be ones.
"""

from __future__ import annotations

from typing import TypeAlias

from replicate.binary.module import ModuleInfo
from replicate.binary.types import ArrayType, DefinedType, FieldType, FuncType, StructType, ValType

__all__ = ["Subtypes"]

_Reference: TypeAlias = "tuple[str, int]"
_Value: TypeAlias = "str | tuple[bool, _Reference]"


class Subtypes:
    """Know how the types of one module, described by `info`, relate.

    Nothing is worked out before the first question about a reference to a type of the module.
    """

    def __init__(self, info: ModuleInfo) -> None:
        self._info = info
        self._canonical: tuple[int, ...] = ()
        self._accepted: dict[int, frozenset[int]] = {}

    def accepted(self, kind: ValType) -> frozenset[int] | None:
        """Return the types, by index, of the functions that a reference of type `kind` may refer to.

        None stands for functions of any type, also of other modules: `kind` is ``funcref`` or ``(ref func)``.
        """
        if not kind.is_func or kind.is_null:
            return frozenset()
        if kind.index is None:
            return None
        accepted = self._accepted.get(kind.index)
        if accepted is None:
            wanted = self.canonical[kind.index]
            types = self._info.types
            accepted = self._accepted[kind.index] = frozenset(
                index for index in range(len(types)) if wanted in self._upwards(index)
            )
        return accepted

    def is_subtype(self, function: int, kind: ValType) -> bool:
        """Return whether a reference of type `kind` may refer to the function with this index."""
        accepted = self.accepted(kind)
        return accepted is None or self._info.functions[function] in accepted

    @property
    def canonical(self) -> tuple[int, ...]:
        """Give each type a number that it shares with exactly those types of the module that are the same."""
        if not self._canonical:
            self._canonical = _canonical(self._info)
        return self._canonical

    def _upwards(self, index: int) -> set[int]:
        """Return the numbers of a type and of all its supertypes."""
        found = {self.canonical[index]}
        supertype = self._info.declarations[index].supertype
        while supertype is not None:  # each is defined before the one that names it
            found.add(self.canonical[supertype])
            supertype = self._info.declarations[supertype].supertype
        return found


def _canonical(info: ModuleInfo) -> tuple[int, ...]:
    numbers: list[int] = []
    known: dict[tuple[object, ...], int] = {}
    while len(numbers) < len(info.types):
        start = len(numbers)
        group = _Group(numbers, start)
        members = range(start, start + info.declarations[start].size)
        # The number of a group is the index of the first type of the first one that looks like it.
        first = known.setdefault(tuple(group.look(info, index) for index in members), start)
        numbers += range(first, first + len(members))
    return tuple(numbers)


class _Group:
    """Look at types from inside the group that starts with the type `start`; `numbers` has those of all before."""

    def __init__(self, numbers: list[int], start: int) -> None:
        self._numbers = numbers
        self._start = start

    def look(self, info: ModuleInfo, index: int) -> tuple[object, ...]:
        declared, type_ = info.declarations[index], info.types[index]
        supertype = None if declared.supertype is None else self._reference(declared.supertype)
        return declared.is_final, declared.is_shared, supertype, type(type_), self._structure(type_)

    def _structure(self, type_: DefinedType) -> object:
        if isinstance(type_, FuncType):
            return tuple(map(self._value, type_.params)), tuple(map(self._value, type_.results))
        if isinstance(type_, StructType):
            return tuple(map(self._field, type_.fields))
        if isinstance(type_, ArrayType):
            return self._field(type_.element)
        return self._reference(type_.function)

    def _field(self, field: FieldType) -> tuple[bool, _Value]:
        storage = field.storage
        return field.mutable, self._value(storage) if isinstance(storage, ValType) else storage

    def _value(self, type_: ValType) -> _Value:
        return type_.text if type_.index is None else (type_.is_nullable, self._reference(type_.index))

    def _reference(self, index: int) -> _Reference:
        # Engines refuse a reference to a type of a later group, which has no number yet.
        return ("inside", index - self._start) if index >= self._start else ("outside", self._numbers[index])

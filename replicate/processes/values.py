"""References on their way between processes: each side keeps its objects, the other gets their numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs

from replicate.binary import FuncType, ValType
from replicate.errors import DeadHandleError
from replicate.values import FuncRef

__all__ = ["FunctionNumber", "ObjectNumber", "ParentObjects", "WorkerObjects", "has_references"]


@attrs.frozen
class ObjectNumber:
    """Stand for an object of the parent; in the worker it is the host object itself."""

    number: int


@attrs.frozen
class FunctionNumber:
    """Stand for a reference to a function of the worker's instance."""

    number: int
    index: int | None = attrs.field(eq=False)


def has_references(kind: FuncType) -> bool:
    """Tell whether any parameter or result is a reference."""
    return not all(value.is_number for value in (*kind.params, *kind.results))


class ParentObjects:
    """Number the host objects that a worker's guest holds, and make references of those to its functions."""

    def __init__(self, make: Callable[[FunctionNumber], FuncRef], is_ours: Callable[[FuncRef], int | None]) -> None:
        self._make = make
        self._number_of = is_ours
        self._objects: dict[int, Any] = {}

    def out(self, value: Any, kind: ValType | None) -> Any:
        """Give what stands for a value on its way to the worker."""
        if isinstance(value, FuncRef):
            number = self._number_of(value)
            if number is not None:
                return FunctionNumber(number, value.index)
        elif value is None or (kind is not None and not kind.is_extern):
            return value
        number = len(self._objects)
        self._objects[number] = value
        return ObjectNumber(number)

    def came(self, value: Any) -> Any:
        """Give the value that something from the worker stands for."""
        if isinstance(value, tuple):
            return tuple(map(self.came, value))
        if isinstance(value, ObjectNumber):
            return self._objects[value.number]
        if isinstance(value, FunctionNumber):
            return self._make(value)
        return value

    def forget(self) -> None:
        """Forget the objects: the guest holds none."""
        self._objects.clear()


class WorkerObjects:
    """Number the references to functions that the parent has been given."""

    def __init__(self) -> None:
        self._functions: dict[int, FuncRef] = {}
        self._next = 0

    def out(self, value: Any) -> Any:
        """Give what stands for a value on its way to the parent."""
        if isinstance(value, tuple):
            return tuple(map(self.out, value))
        if isinstance(value, FuncRef):
            self._next += 1
            self._functions[self._next] = value
            return FunctionNumber(self._next, value.index)
        return value

    def came(self, value: Any) -> Any:
        """Give the value that something from the parent stands for."""
        return self.function(value) if isinstance(value, FunctionNumber) else value

    def function(self, number: FunctionNumber) -> FuncRef:
        """Give the reference; raise `DeadHandleError` for one of an earlier transaction."""
        found = self._functions.get(number.number)
        if found is None:
            raise DeadHandleError("this function reference belongs to a transaction that has ended; fetch it again")
        return found

    def forget(self) -> None:
        """Forget the references of a transaction that has ended."""
        self._functions.clear()

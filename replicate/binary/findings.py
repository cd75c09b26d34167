"""Find what a module can put into its state that no host can carry to another instance."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from replicate.binary.effects import Effects, changing_globals, changing_tables
from replicate.binary.module import Kind, ModuleInfo, describe
from replicate.binary.types import MemoryType, ValType
from replicate.errors import Finding

__all__ = ["can_be_captured", "find_obstacles"]

_SHARED = "it is shared between threads, which may write it at any moment; build the module without threads"
_FOREIGN = {
    "any": "it can change and holds references to garbage-collected objects, which can't be copied between instances",
    "exn": "it can change and holds references to exceptions, which can't be copied between instances",
    "cont": "it can change and holds suspended computations, which can't be copied between instances",
}
_INTEGERS = "it can change and holds integers as references, which aren't carried yet; keep them in an i32"
_NEVER_NULL = "it can change and always refers to objects of the host, which can't be copied between instances"
_OBJECTS = "it holds references to garbage-collected objects, and the module's code changes such objects in place"


def can_be_captured(type_: ValType) -> bool:
    """Return whether values of this type can be carried to another instance, those that a commit will refuse aside."""
    return _obstacle(type_) is None


def find_obstacles(info: ModuleInfo, effects: Effects) -> tuple[Finding, ...]:
    """Return the parts of a module's state that can never be captured, and why."""
    return tuple(_Search(info, effects).find())


def _obstacle(type_: ValType) -> str | None:
    if type_.is_extern and not type_.is_nullable:
        return _NEVER_NULL
    return _INTEGERS if _is_integer(type_) else _FOREIGN.get(type_.hierarchy)


def _is_integer(type_: ValType) -> bool:
    return type_.text in ("i31ref", "(ref i31)")


class _Search:
    def __init__(self, info: ModuleInfo, effects: Effects) -> None:
        self._info = info
        self._objects_change = effects.objects_mutated
        self._changing_globals = changing_globals(info, effects)
        self._changing_tables = changing_tables(info, effects)

    def find(self) -> Iterator[Finding]:
        info = self._info
        yield from self._findings("memory", enumerate(map(self._memory, info.memories)))
        yield from self._findings("global", ((index, self._global(index)) for index in range(len(info.globals))))
        yield from self._findings("table", ((index, self._table(index)) for index in range(len(info.tables))))
        for index, segment in enumerate(info.elements):
            if segment.mode == "passive" and self._holds_changing_objects(segment.type):
                place = describe("element segment", index, info.element_names.get(index))
                yield Finding(place, f"{_OBJECTS} ({segment.type})")

    def _findings(self, kind: Kind, reasons: Iterable[tuple[int, str | None]]) -> Iterator[Finding]:
        labels = self._info.labels(kind)
        for index, reason in reasons:
            if reason is not None:
                yield Finding(describe(kind, index, labels.get(index)), reason)

    def _memory(self, memory: MemoryType) -> str | None:
        return _SHARED if memory.shared else None

    def _global(self, index: int) -> str | None:
        type_ = self._info.globals[index]
        reason = None
        if type_.shared and type_.mutable:
            return _SHARED
        if index in self._changing_globals and not type_.value.is_null:
            reason = _obstacle(type_.value)
        elif self._holds_changing_objects(type_.value, imported=index < self._info.imported_globals):
            reason = _OBJECTS
        return None if reason is None else f"{reason} ({type_.value})"

    def _table(self, index: int) -> str | None:
        type_ = self._info.tables[index]
        reason = None
        if type_.shared:
            return _SHARED
        if index in self._changing_tables:
            reason = _obstacle(type_.element)
        elif self._holds_changing_objects(type_.element):
            reason = _OBJECTS
        return None if reason is None else f"{reason} ({type_.element})"

    def _holds_changing_objects(self, type_: ValType, *, imported: bool = False) -> bool:
        """Return whether something of this type that never changes itself can refer to an object that does.

        Objects get there from constant expressions, or from the host. The module can disguise any reference to an object
        as one to a host object (``extern.convert_any``); what it's given as such is one.
        """
        if not self._objects_change or type_.is_null or _is_integer(type_):
            return False
        if type_.hierarchy == "any":
            return self._info.constant_objects or imported
        return type_.is_extern and self._info.constant_objects and not imported

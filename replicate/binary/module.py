"""What a core module is made of, without its code: the description that `read_module` returns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeAlias

import attrs

from replicate.binary.types import (
    Declaration,
    DefinedType,
    ExternType,
    FuncType,
    GlobalType,
    MemoryType,
    TableType,
    TagType,
    ValType,
)

__all__ = [
    "DataSegment",
    "ElementSegment",
    "Export",
    "Import",
    "Kind",
    "ModuleInfo",
    "Section",
    "SegmentKind",
    "describe",
]

Kind: TypeAlias = Literal["func", "table", "memory", "global", "tag"]
"""What an import or export is: the index space that its index belongs to."""

SegmentKind: TypeAlias = Literal["data", "element"]
"""What a segment fills: memories or tables."""


def describe(kind: str, index: int, label: str | None) -> str:
    """Return how messages call a part of a module: ``global 0 ($__stack_pointer)``."""
    return f"{kind} {index}" if label is None else f"{kind} {index} (${label})"


@attrs.frozen
class Import:
    """Name something that the module needs from its host; `index` is its place in the index space of its `kind`."""

    module: str
    name: str
    kind: Kind
    type: ExternType
    index: int


@attrs.frozen
class Export:
    """Name something that the module gives its host."""

    name: str
    kind: Kind
    index: int


@attrs.frozen
class ElementSegment:
    """Describe a list of references that a table can be filled with.

    `functions` has an entry for each of the `length` elements: the function's index, or None where the element is null
    or computed. Active and declarative segments are dropped by instantiation, so only passive ones are state.
    """

    mode: Literal["active", "passive", "declarative"]
    type: ValType
    length: int
    functions: tuple[int | None, ...]


@attrs.frozen
class DataSegment:
    """Describe `length` bytes that a memory can be filled with.

    Active segments are dropped by instantiation, so only passive ones are state.
    """

    mode: Literal["active", "passive"]
    length: int


@attrs.frozen
class Section:
    """Locate a section's content: the bytes from `start` up to `end` of the module. `id` 0 is a custom section."""

    id: int
    start: int
    end: int


def _names() -> Mapping[int, str]:
    return attrs.field(factory=dict, kw_only=True, eq=False, repr=False)


@attrs.frozen
class ModuleInfo:
    """Describe a core module: its types, imports, index spaces, exports and segments.

    Every index space lists the imported ones first, as the specification does; `functions` holds type indices (see
    `function_type`). All indices in here are within their index space; code bodies haven't been looked at.
    """

    digest: str
    """SHA-256 of the module's bytes, in hexadecimal."""
    size: int
    """Length of the module in bytes."""
    types: tuple[DefinedType, ...]
    declarations: tuple[Declaration, ...]
    """What the definition of each of `types` says besides: its group, supertype and finality."""
    imports: tuple[Import, ...]
    functions: tuple[int, ...]
    tables: tuple[TableType, ...]
    memories: tuple[MemoryType, ...]
    globals: tuple[GlobalType, ...]
    tags: tuple[TagType, ...]
    imported_functions: int
    imported_tables: int
    imported_memories: int
    imported_globals: int
    exports: tuple[Export, ...]
    start: int | None
    elements: tuple[ElementSegment, ...]
    data: tuple[DataSegment, ...]
    constant_functions: frozenset[int]
    """Functions that a constant expression or an element segment refers to."""
    constant_objects: bool
    """Whether a constant expression makes an object of the garbage-collected heap."""
    sections: tuple[Section, ...] = attrs.field(repr=False)
    module_name: str | None = attrs.field(default=None, kw_only=True, eq=False)
    function_names: Mapping[int, str] = _names()
    table_names: Mapping[int, str] = _names()
    memory_names: Mapping[int, str] = _names()
    global_names: Mapping[int, str] = _names()
    tag_names: Mapping[int, str] = _names()
    element_names: Mapping[int, str] = _names()
    data_names: Mapping[int, str] = _names()

    def function_type(self, index: int) -> FuncType:
        """Return what the function with this index takes and returns."""
        found = self.types[self.functions[index]]
        assert isinstance(found, FuncType)
        return found

    def exposed(self, kind: Kind) -> frozenset[int]:
        """Return the indices of those that the module imports or exports, so that its host can change them."""
        imported = {each.index for each in self.imports if each.kind == kind}
        return frozenset(imported | {each.index for each in self.exports if each.kind == kind})

    def labels(self, kind: Kind | SegmentKind) -> Mapping[int, str]:
        """Return names by index: those that the producer left in the name section, else those of exports."""
        names = {
            "func": self.function_names,
            "table": self.table_names,
            "memory": self.memory_names,
            "global": self.global_names,
            "tag": self.tag_names,
            "element": self.element_names,
            "data": self.data_names,
        }
        first_exports = {export.index: export.name for export in reversed(self.exports) if export.kind == kind}
        return {**first_exports, **names[kind]}

"""Read a core module's sections into a `ModuleInfo`."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from typing import Literal, TypeAlias

from replicate.binary.cursor import Cursor
from replicate.binary.expressions import Constant, read_constant
from replicate.binary.module import DataSegment, ElementSegment, Export, Import, Kind, ModuleInfo, Section
from replicate.binary.names import Names, read_names
from replicate.binary.signature import HEADER, check_header
from replicate.binary.type_reader import TypeReader, custom_descriptors
from replicate.binary.types import FUNCREF, ExternType, FuncType, GlobalType, MemoryType, TableType, TagType, ValType

__all__ = ["CODE", "SECTION_ORDER", "read_module"]

SECTION_ORDER = (1, 2, 3, 4, 5, 13, 6, 7, 8, 9, 12, 10, 11)
"""The ids of the sections in the order that the specification prescribes."""

CODE = 10
"""The id of the section with the functions' bodies."""

_CUSTOM = 0
_NAME = "name"
_KINDS: tuple[Kind, ...] = ("func", "table", "memory", "global", "tag")
_EXACT_FUNCTION = 0x20
_TABLE_WITH_INITIALISER = 0x40
# Compact imports: after an empty name, several items of one module, each with its type or all of one type.
_COMPACT_TYPED, _COMPACT_ALIKE = 0x7F, 0x7E
_DATA_MODES: dict[int, Literal["active", "passive"]] = {0: "active", 1: "passive", 2: "active"}
_DATA_NAMES_MEMORY = 2
# Of up to 127 bytes, for memory 0, at an offset of up to 28 bits.
_MATCH_SHORT_DATA = re.compile(rb"\0\x41[\x80-\xff]{0,3}[\0-\x7f]\x0b[\0-\x7f]", re.DOTALL).match
_ElementMode: TypeAlias = Literal["active", "passive", "declarative"]
# Element segments: a byte of flags.
_NOT_ACTIVE, _NAMES_TABLE_OR_DECLARATIVE, _HAS_EXPRESSIONS = 1, 2, 4


def read_module(wasm: bytes) -> ModuleInfo:
    """Return what the core module `wasm` is made of.

    The code isn't looked at, so it may still be invalid; everything else is well-formed and its indices in range.
    Raises `InvalidModuleError` for malformed bytes, with their offset, `ComponentError` for a component, and
    `UnsupportedError` for types of the proposal for custom descriptors.
    """
    check_header(wasm)
    reader = _Reader(wasm)
    reader.read()
    return reader.info()


class _Reader:
    def __init__(self, wasm: bytes) -> None:
        self._wasm = wasm
        self._type_reader = TypeReader()
        self._names = Names()
        self._sections: list[Section] = []
        self._imports: list[Import] = []
        self._functions: list[int] = []
        self._tables: list[TableType] = []
        self._memories: list[MemoryType] = []
        self._globals: list[GlobalType] = []
        self._tags: list[TagType] = []
        self._exports: list[Export] = []
        self._elements: list[ElementSegment] = []
        self._data: list[DataSegment] = []
        self._start: int | None = None
        self._data_count: int | None = None
        self._body_count = 0
        self._imported: dict[Kind, int] = dict.fromkeys(_KINDS, 0)
        self._constant_objects = False
        self._referenced: set[int] = set()
        self._read_by_id: dict[int, Callable[[Cursor], None]] = {
            1: self._type_reader.read_section,
            2: self._read_imports,
            3: self._read_functions,
            4: self._read_tables,
            5: self._read_memories,
            6: self._read_globals,
            7: self._read_exports,
            8: self._read_start,
            9: self._read_elements,
            10: self._read_code,
            11: self._read_data,
            12: self._read_data_count,
            13: self._read_tags,
        }

    # -- the module ------------------------------------------------------------------------------------------------

    def read(self) -> None:
        cursor = Cursor(self._wasm, len(HEADER), len(self._wasm))
        rank = -1
        while cursor.position < cursor.end:
            at = cursor.position
            section = cursor.byte()
            content = cursor.sub(cursor.u32())
            self._sections.append(Section(section, content.position, content.end))
            if section == _CUSTOM:
                if content.name() == _NAME:
                    self._names = read_names(content)
                continue
            if section not in self._read_by_id:
                raise cursor.fail(f"unknown section {section}", at=at)
            if SECTION_ORDER.index(section) <= rank:
                raise cursor.fail(f"section {section} twice or out of order", at=at)
            rank = SECTION_ORDER.index(section)
            self._read_by_id[section](content)
            content.finish(f"section {section}")
        self._check_counts(cursor)

    def info(self) -> ModuleInfo:
        return ModuleInfo(
            digest=hashlib.sha256(self._wasm).hexdigest(),
            size=len(self._wasm),
            types=self._type_reader.types,
            declarations=self._type_reader.declarations,
            imports=tuple(self._imports),
            functions=tuple(self._functions),
            tables=tuple(self._tables),
            memories=tuple(self._memories),
            globals=tuple(self._globals),
            tags=tuple(self._tags),
            imported_functions=self._imported["func"],
            imported_tables=self._imported["table"],
            imported_memories=self._imported["memory"],
            imported_globals=self._imported["global"],
            exports=tuple(self._exports),
            start=self._start,
            elements=tuple(self._elements),
            data=tuple(self._data),
            constant_functions=frozenset(self._referenced),
            constant_objects=self._constant_objects,
            sections=tuple(self._sections),
            module_name=self._names.module,
            function_names=self._names.functions,
            table_names=self._names.tables,
            memory_names=self._names.memories,
            global_names=self._names.globals,
            tag_names=self._names.tags,
            element_names=self._names.elements,
            data_names=self._names.data,
        )

    def _check_counts(self, cursor: Cursor) -> None:
        defined = len(self._functions) - self._imported["func"]
        if defined != self._body_count:
            raise cursor.fail(f"{defined} functions declared, but {self._body_count} bodies")
        if self._data_count is not None and self._data_count != len(self._data):
            raise cursor.fail(f"{self._data_count} data segments announced, but {len(self._data)} there")

    def _constant(self, cursor: Cursor) -> Constant:
        constant = read_constant(cursor)
        self._refer(cursor, constant.functions)
        self._constant_objects |= constant.makes_object
        return constant

    def _refer(self, cursor: Cursor, functions: Sequence[int]) -> None:
        if functions and max(functions) >= len(self._functions):
            raise cursor.fail(f"a reference to function {max(functions)} of only {len(self._functions)}")
        self._referenced.update(functions)

    # -- imports ---------------------------------------------------------------------------------------------------

    def _read_imports(self, cursor: Cursor) -> None:
        for _ in range(cursor.count("imports")):
            module, name = cursor.name(), cursor.name()
            compact = cursor.peek() if not name else -1
            if compact == _COMPACT_TYPED:
                cursor.byte()
                for _ in range(cursor.count("imports")):
                    item = cursor.name()
                    self._add_import(module, item, *self._import_type(cursor))
            elif compact == _COMPACT_ALIKE:
                cursor.byte()
                kind, type_, index = self._import_type(cursor)
                for item in [cursor.name() for _ in range(cursor.count("imports"))]:
                    self._add_import(module, item, kind, type_, index)
            else:
                self._add_import(module, name, *self._import_type(cursor))

    def _import_type(self, cursor: Cursor) -> tuple[Kind, ExternType, int]:
        """Return kind and type, and for a function the index of its type."""
        kind = self._kind(cursor)
        if kind == "func":
            index = self._type_reader.function_type_index(cursor)
            return kind, self._function_type(index), index
        if kind == "table":
            return kind, self._type_reader.table_type(cursor), 0
        if kind == "memory":
            return kind, self._type_reader.memory_type(cursor), 0
        if kind == "global":
            return kind, self._type_reader.global_type(cursor), 0
        return kind, self._tag_type(cursor), 0

    def _add_import(self, module: str, name: str, kind: Kind, type_: ExternType, type_index: int) -> None:
        self._imports.append(Import(module, name, kind, type_, self._imported[kind]))
        self._imported[kind] += 1
        if isinstance(type_, FuncType):
            self._functions.append(type_index)
        elif isinstance(type_, TableType):
            self._tables.append(type_)
        elif isinstance(type_, MemoryType):
            self._memories.append(type_)
        elif isinstance(type_, GlobalType):
            self._globals.append(type_)
        else:
            self._tags.append(type_)

    def _kind(self, cursor: Cursor) -> Kind:
        kind = cursor.byte()
        if kind == _EXACT_FUNCTION:
            raise custom_descriptors(f"an import of a function of exactly one type ({kind:#04x})", cursor.position - 1)
        if kind >= len(_KINDS):
            raise cursor.fail(f"unknown kind {kind:#x} of import or export", at=cursor.position - 1)
        return _KINDS[kind]

    # -- definitions -----------------------------------------------------------------------------------------------

    def _read_functions(self, cursor: Cursor) -> None:
        start = cursor.position
        indices = cursor.u32s(cursor.count("functions"))
        types = self._type_reader.types
        for index in set(indices):
            if index >= len(types) or not isinstance(types[index], FuncType):
                raise cursor.fail(f"a function of type {index}, which is no function type of this module", at=start)
        self._functions += indices

    def _read_tables(self, cursor: Cursor) -> None:
        for _ in range(cursor.count("tables")):
            initialised = cursor.peek() == _TABLE_WITH_INITIALISER
            if initialised:
                cursor.byte()
                self._reserved(cursor, "a table's reserved byte")
            self._tables.append(self._type_reader.table_type(cursor))
            if initialised:
                self._constant(cursor)

    def _read_memories(self, cursor: Cursor) -> None:
        for _ in range(cursor.count("memories")):
            self._memories.append(self._type_reader.memory_type(cursor))

    def _read_tags(self, cursor: Cursor) -> None:
        for _ in range(cursor.count("tags")):
            self._tags.append(self._tag_type(cursor))

    def _tag_type(self, cursor: Cursor) -> TagType:
        self._reserved(cursor, "a tag's attribute")
        return TagType(self._function_type(self._type_reader.function_type_index(cursor)))

    @staticmethod
    def _reserved(cursor: Cursor, what: str) -> None:
        value = cursor.byte()
        if value:
            raise cursor.fail(f"{what} is {value:#x} instead of 0", at=cursor.position - 1)

    def _function_type(self, index: int) -> FuncType:
        found = self._type_reader.types[index]
        assert isinstance(found, FuncType)
        return found

    def _read_globals(self, cursor: Cursor) -> None:
        for _ in range(cursor.count("globals")):
            self._globals.append(self._type_reader.global_type(cursor))
            self._constant(cursor)

    def _read_exports(self, cursor: Cursor) -> None:
        sizes: dict[Kind, int] = {
            "func": len(self._functions),
            "table": len(self._tables),
            "memory": len(self._memories),
            "global": len(self._globals),
            "tag": len(self._tags),
        }
        for _ in range(cursor.count("exports")):
            name = cursor.name()
            kind = self._kind(cursor)
            self._exports.append(Export(name, kind, cursor.index(sizes[kind], kind)))

    def _read_start(self, cursor: Cursor) -> None:
        self._start = cursor.index(len(self._functions), "function")

    def _read_data_count(self, cursor: Cursor) -> None:
        self._data_count = cursor.u32()

    def _read_code(self, cursor: Cursor) -> None:
        self._body_count = cursor.count("function bodies")
        for _ in range(self._body_count):
            cursor.skip(cursor.u32())

    # -- segments --------------------------------------------------------------------------------------------------

    def _read_elements(self, cursor: Cursor) -> None:
        for _ in range(cursor.count("element segments")):
            flags = cursor.u32()
            if flags > 7:
                raise cursor.fail(f"an element segment with flags {flags:#x}", at=cursor.position - 1)
            mode: _ElementMode
            if not flags & _NOT_ACTIVE:
                table = cursor.u32() if flags & _NAMES_TABLE_OR_DECLARATIVE else 0
                if table >= len(self._tables):
                    raise cursor.fail(f"an element segment for table {table} of only {len(self._tables)}")
                self._constant(cursor)
                mode = "active"
            else:
                mode = "declarative" if flags & _NAMES_TABLE_OR_DECLARATIVE else "passive"
            type_ = self._element_type(cursor, flags)
            self._elements.append(self._element_segment(cursor, mode, type_, flags))

    def _element_type(self, cursor: Cursor, flags: int) -> ValType:
        if not flags & (_NOT_ACTIVE | _NAMES_TABLE_OR_DECLARATIVE):
            return FUNCREF
        if flags & _HAS_EXPRESSIONS:
            return self._type_reader.reference_type(cursor)
        if self._kind(cursor) != "func":
            raise cursor.fail("an element segment of other things than functions", at=cursor.position - 1)
        return FUNCREF

    def _element_segment(self, cursor: Cursor, mode: _ElementMode, type_: ValType, flags: int) -> ElementSegment:
        length = cursor.count("elements")
        functions: tuple[int | None, ...]
        if flags & _HAS_EXPRESSIONS:
            functions = tuple(self._constant(cursor).function for _ in range(length))
        else:
            indices = cursor.u32s(length)
            self._refer(cursor, indices)
            functions = tuple(indices)
        return ElementSegment(mode, type_, length, functions)

    def _read_data(self, cursor: Cursor) -> None:
        alike: dict[tuple[int, int], DataSegment] = {}  # Wizer makes tens of thousands of short ones
        wasm, end, found = self._wasm, cursor.end, self._data
        for _ in range(cursor.count("data segments")):
            short = _MATCH_SHORT_DATA(wasm, cursor.position, end)
            if (
                short is not None
                and self._memories
                and (after := short.end() + (length := wasm[short.end() - 1])) <= end
            ):
                flags, cursor.position = 0, after
            else:
                flags = cursor.u32()
                if flags not in _DATA_MODES:
                    raise cursor.fail(f"a data segment with flags {flags:#x}", at=cursor.position - 1)
                if _DATA_MODES[flags] == "active":
                    memory = cursor.u32() if flags == _DATA_NAMES_MEMORY else 0
                    if memory >= len(self._memories):
                        raise cursor.fail(f"a data segment for memory {memory} of only {len(self._memories)}")
                    self._constant(cursor)
                length = cursor.u32()
                cursor.skip(length)
            segment = alike.get((flags, length))
            if segment is None:
                segment = alike[flags, length] = DataSegment(_DATA_MODES[flags], length)
            found.append(segment)

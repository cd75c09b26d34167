"""Rewrite a module so that instantiation gives it another initial state. The technique is that of pre-initialisation.

No index moves: segments that the new state replaces stay, with other or no content, and new ones come after them. An
active segment counts as dropped once a module is instantiated, so its content can't be seen but through what it wrote.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

import attrs

from replicate.binary import leb
from replicate.binary.cursor import Cursor
from replicate.binary.expressions import read_constant
from replicate.binary.module import ModuleInfo
from replicate.binary.reader import CODE, SECTION_ORDER
from replicate.binary.scanner import Scanner
from replicate.binary.signature import HEADER
from replicate.binary.type_reader import TypeReader
from replicate.binary.types import PAGE_SIZE, MemoryType, TableType, ValType

__all__ = ["Content", "InitialState", "with_initial_state"]

_TYPE, _TABLE, _MEMORY, _GLOBAL, _EXPORT, _START, _ELEMENT, _DATA, _DATA_COUNT = 1, 4, 5, 6, 7, 8, 9, 11, 12
_CUSTOM = 0
_END = b"\x0b"
_I32_CONST, _I64_CONST, _F32_CONST, _F64_CONST, _V128_CONST = b"\x41", b"\x42", b"\x43", b"\x44", b"\xfd\x0c"
_REF_NULL, _REF_FUNC = b"\xd0", b"\xd2"
_TABLE_WITH_INITIALISER = 0x40
_LONG_REFERENCE_TYPE = 0x63
_HAS_MAXIMUM, _IS_64, _HAS_PAGE_SIZE = 1, 4, 8
_NOT_ACTIVE, _NAMES_TABLE_OR_DECLARATIVE, _HAS_EXPRESSIONS = 1, 2, 4
_PASSIVE_DATA, _DATA_NAMES_MEMORY = 1, 2
_EMPTY_PASSIVE_DATA = b"\1\0"
_DECLARATIVE_FUNCTIONS = b"\3\0"

_GAP = 16  # zeros in a row that are left out: a segment of its own takes about half of that
_MOST_SEGMENTS = 100_000  # what engines accept: https://www.w3.org/TR/wasm-js-api-2/#limits
_NULLS = 8
_ZEROS = re.compile(rb"\0{%d,}" % _GAP)
_REFERENCES = Scanner({(_REF_FUNC[0], None): None})


@attrs.frozen
class Content:
    """Give a memory's size in bytes, and what isn't zero in it: (offset, bytes), in order, not overlapping."""

    size: int
    runs: tuple[tuple[int, bytes], ...] = attrs.field(repr=False)


@attrs.frozen(kw_only=True)
class InitialState:
    """Say what instantiation is to make, by index. What isn't mentioned stays as the module has it, except memories."""

    memories: tuple[Content, ...]
    """All memories; the module imports none."""
    globals: Mapping[int, int | None]
    """Bit patterns of numbers, indices of functions, None for null."""
    tables: Mapping[int, tuple[int | None, ...]]
    """Indices of functions, None for null."""
    dropped_data: frozenset[int]
    dropped_elements: frozenset[int]
    without_exports: frozenset[str] = frozenset()


def with_initial_state(wasm: bytes, info: ModuleInfo, state: InitialState) -> bytes:
    """Return the module `wasm`, described by `info`, starting with `state` and without a start function.

    `state` has to fit the module's types; nothing in it may be imported. Custom sections stay.
    """
    return _Writer(wasm, info, state).encode()


class _Writer:
    def __init__(self, wasm: bytes, info: ModuleInfo, state: InitialState) -> None:
        self._wasm = wasm
        self._info = info
        self._state = state
        self._types = TypeReader()

    def encode(self) -> bytes:
        found = {section.id: section for section in self._info.sections if section.id != _CUSTOM}
        cursors = {id_: Cursor(self._wasm, section.start, section.end) for id_, section in found.items()}
        if _TYPE in cursors:
            self._types.read_section(cursors[_TYPE])
        data = self._data(cursors.get(_DATA))
        replaced: dict[int, list[bytes]] = {
            _TABLE: self._tables(cursors.get(_TABLE)),
            _MEMORY: [_memory_type(type_, content.size) for type_, content in self._memories()],
            _GLOBAL: self._globals(cursors.get(_GLOBAL)),
            _ELEMENT: self._elements(cursors.get(_ELEMENT)),
            _DATA: data,
        }
        if self._state.without_exports:
            replaced[_EXPORT] = self._exports(cursors.get(_EXPORT))
        sections: list[tuple[int, bytes]] = []
        for section in self._info.sections:
            if section.id == _START:
                continue
            content = self._wasm[section.start : section.end]
            if section.id in replaced:
                content = leb.vector(replaced[section.id])
            elif section.id == _DATA_COUNT:
                content = leb.unsigned(len(data))
            sections.append((section.id, content))
        for id_ in (_ELEMENT, _DATA):
            if id_ not in found and replaced[id_]:
                sections.insert(_place(sections, id_), (id_, leb.vector(replaced[id_])))
        encoded = [HEADER]
        for id_, content in sections:
            encoded += (bytes([id_]), leb.unsigned(len(content)), content)
        return b"".join(encoded)

    def _memories(self) -> Iterator[tuple[MemoryType, Content]]:
        return zip(self._info.memories, self._state.memories, strict=True)

    # -- tables, globals, exports ----------------------------------------------------------------------------------

    def _tables(self, cursor: Cursor | None) -> list[bytes]:
        items = []
        for index in _indices(cursor, self._info.imported_tables):
            assert cursor is not None
            start = cursor.position
            initialised = cursor.peek() == _TABLE_WITH_INITIALISER
            if initialised:
                cursor.skip(2)
            type_ = self._types.table_type(cursor)
            initial = self._constant(cursor) if initialised else b""
            elements = self._state.tables.get(index)
            if elements is None:
                items.append(self._wasm[start : cursor.position])
            elif type_.element.is_nullable:
                items.append(_table_type(type_, len(elements)))
            else:
                # Elements that are never null need something to start with, until segments overwrite it.
                items.append(bytes([_TABLE_WITH_INITIALISER, 0]) + _table_type(type_, len(elements)) + initial)
        return items

    def _globals(self, cursor: Cursor | None) -> list[bytes]:
        items = []
        for index in _indices(cursor, self._info.imported_globals):
            assert cursor is not None
            start = cursor.position
            type_ = self._types.global_type(cursor)
            declared = self._wasm[start : cursor.position]
            initial = self._constant(cursor)
            if index in self._state.globals:
                initial = _value(type_.value, self._state.globals[index]) + _END
            items.append(declared + initial)
        return items

    def _exports(self, cursor: Cursor | None) -> list[bytes]:
        items = []
        for _ in _indices(cursor, 0):
            assert cursor is not None
            start = cursor.position
            name = cursor.name()
            cursor.byte()
            cursor.u32()
            if name not in self._state.without_exports:
                items.append(self._wasm[start : cursor.position])
        return items

    def _constant(self, cursor: Cursor) -> bytes:
        start = cursor.position
        read_constant(cursor)
        return self._wasm[start : cursor.position]

    # -- segments --------------------------------------------------------------------------------------------------

    def _elements(self, cursor: Cursor | None) -> list[bytes]:
        items = []
        for index in _indices(cursor, 0):
            assert cursor is not None
            start = cursor.position
            flags = cursor.u32()
            table = cursor.u32() if flags & 3 == _NAMES_TABLE_OR_DECLARATIVE else 0
            if not flags & _NOT_ACTIVE:
                read_constant(cursor)
            # An emptied segment keeps its type, which instructions that name it are checked against.
            type_at = cursor.position
            if flags & (_NOT_ACTIVE | _NAMES_TABLE_OR_DECLARATIVE):
                if flags & _HAS_EXPRESSIONS:
                    self._types.reference_type(cursor)
                else:
                    cursor.byte()
            written_type = self._wasm[type_at : cursor.position]
            for _ in range(cursor.u32()):
                if flags & _HAS_EXPRESSIONS:
                    read_constant(cursor)
                else:
                    cursor.u32()
            if not flags & _NOT_ACTIVE and table in self._state.tables:
                named = leb.unsigned(table) if flags & _NAMES_TABLE_OR_DECLARATIVE else b""
                offset = _offset(0, self._info.tables[table])
                items.append(bytes([flags]) + named + offset + written_type + leb.unsigned(0))
            elif index in self._state.dropped_elements:
                items.append(bytes([flags]) + written_type + leb.unsigned(0))
            else:
                items.append(self._wasm[start : cursor.position])
        for table, references in self._state.tables.items():
            items += self._table_content(table, references)
        declared = self._functions_named_by_code()
        if declared:
            # Code may only name functions that something outside of it names, which may have been replaced.
            items.append(_DECLARATIVE_FUNCTIONS + leb.vector([leb.unsigned(each) for each in declared]))
        return items

    def _table_content(self, table: int, references: tuple[int | None, ...]) -> Iterator[bytes]:
        type_ = self._info.tables[table]
        for start, group in _groups(references):
            offset = _offset(start, type_)
            functions = [each for each in group if each is not None]
            if type_.element.text == "funcref" and len(functions) == len(group):
                head = b"\0" + offset if table == 0 else b"\2" + leb.unsigned(table) + offset + b"\0"
                yield head + leb.vector([leb.unsigned(each) for each in functions])
            else:
                values = [_value(type_.element, each) + _END for each in group]
                yield b"\6" + leb.unsigned(table) + offset + type_.element.code + leb.vector(values)

    def _functions_named_by_code(self) -> list[int]:
        found: set[bytes] = set()
        for section in self._info.sections:
            if section.id == CODE:
                cursor = Cursor(self._wasm, section.start, section.end)
                for _ in range(cursor.u32()):
                    length = cursor.u32()
                    start = cursor.position
                    cursor.skip(length)
                    _REFERENCES.scan_body(self._wasm, start, cursor.position, found)
        return sorted({operands[0] for _, operands in _REFERENCES.decode(found)})

    def _data(self, cursor: Cursor | None) -> list[bytes]:
        passive = sum(segment.mode == "passive" for segment in self._info.data)
        fresh = iter(self._memory_contents(max(_MOST_SEGMENTS - passive, 1)))
        items = []
        for index in _indices(cursor, 0):
            assert cursor is not None
            start = cursor.position
            flags = cursor.u32()
            if flags == _DATA_NAMES_MEMORY:
                cursor.u32()
            if flags != _PASSIVE_DATA:
                read_constant(cursor)
            cursor.skip(cursor.u32())
            if flags != _PASSIVE_DATA:
                items.append(next(fresh, None) or b"\0" + _offset(0, self._info.memories[0]) + b"\0")
            elif index in self._state.dropped_data:
                items.append(_EMPTY_PASSIVE_DATA)
            else:
                items.append(self._wasm[start : cursor.position])
        return [*items, *fresh]

    def _memory_contents(self, most: int) -> list[bytes]:
        """Encode all memories' contents as active segments, leaving zeros out, but shorter ones where there'd be too many."""
        pieces = [list(_pieces(content)) for _, content in self._memories()]
        gap = _GAP
        largest = max((content.size for _, content in self._memories()), default=0)
        grouped = [_grouped(each, gap) for each in pieces]
        while sum(map(len, grouped)) > most and gap <= largest:
            gap *= 2
            grouped = [_grouped(each, gap) for each in pieces]
        encoded = []
        for index, groups in enumerate(grouped):
            type_ = self._info.memories[index]
            head = b"\0" if index == 0 else bytes([_DATA_NAMES_MEMORY]) + leb.unsigned(index)
            for group in groups:
                content = _filled(group)
                encoded.append(head + _offset(group[0][0], type_) + leb.unsigned(len(content)) + content)
        return encoded


_Piece = tuple[int, memoryview]


def _pieces(content: Content) -> Iterator[_Piece]:
    """Cut a memory's content at long stretches of zeros."""
    for offset, data in content.runs:
        view = memoryview(data)
        at = 0
        for zeros in _ZEROS.finditer(data):
            if zeros.start() > at:
                yield offset + at, view[at : zeros.start()]
            at = zeros.end()
        if at < len(data):
            yield offset + at, view[at:]


def _grouped(pieces: Iterable[_Piece], gap: int) -> list[list[_Piece]]:
    """Put pieces together that are less than `gap` bytes apart."""
    groups: list[list[_Piece]] = []
    end = -1
    for piece in pieces:
        if groups and piece[0] - end < gap:
            groups[-1].append(piece)
        else:
            groups.append([piece])
        end = piece[0] + len(piece[1])
    return groups


def _filled(group: list[_Piece]) -> bytes:
    """Give a group's bytes, with the zeros in between."""
    parts: list[bytes | memoryview] = []
    end = group[0][0]
    for start, data in group:
        parts += (bytes(start - end), data)
        end = start + len(data)
    return b"".join(parts)


def _groups(references: tuple[int | None, ...]) -> Iterator[tuple[int, tuple[int | None, ...]]]:
    """Cut a table's content at long stretches of nulls."""
    start = end = -1
    for position, reference in enumerate(references):
        if reference is None:
            continue
        if start < 0:
            start = position
        elif position - end > _NULLS:
            yield start, references[start:end]
            start = position
        end = position + 1
    if start >= 0:
        yield start, references[start:end]


def _indices(cursor: Cursor | None, first: int) -> range:
    """Read how many items a section has, and number them from `first`; none where there is no section."""
    count = 0 if cursor is None else cursor.u32()
    return range(first, first + count)


def _place(sections: list[tuple[int, bytes]], id_: int) -> int:
    """Find where a new section goes: right after the last one that has to be before it."""
    rank = SECTION_ORDER.index(id_)
    before = (at for at, (each, _) in enumerate(sections) if each != _CUSTOM and SECTION_ORDER.index(each) < rank)
    return max(before, default=-1) + 1


def _offset(value: int, type_: MemoryType | TableType) -> bytes:
    """Encode a constant expression for a place in a memory or table."""
    width = 64 if type_.is_64 else 32
    return (_I64_CONST if type_.is_64 else _I32_CONST) + leb.signed(_as_signed(value, width)) + _END


def _as_signed(bits: int, width: int) -> int:
    return bits - (1 << width) if bits >> (width - 1) else bits


def _value(type_: ValType, value: int | None) -> bytes:
    """Encode the instruction that makes a value: a number of these bits, a reference to a function, or null."""
    if type_.is_reference:
        if value is None:
            # In the short form of a reference type the code is that of the heap type, too.
            heap_type = type_.code[1:] if type_.code[0] == _LONG_REFERENCE_TYPE else type_.code
            return _REF_NULL + heap_type
        return _REF_FUNC + leb.unsigned(value)
    assert value is not None
    if type_.text == "i32":
        return _I32_CONST + leb.signed(_as_signed(value, 32))
    if type_.text == "i64":
        return _I64_CONST + leb.signed(_as_signed(value, 64))
    if type_.text == "f32":
        return _F32_CONST + value.to_bytes(4, "little")
    if type_.text == "f64":
        return _F64_CONST + value.to_bytes(8, "little")
    return _V128_CONST + value.to_bytes(16, "little")


def _limits(flags: int, minimum: int, maximum: int | None) -> bytes:
    encoded = bytes([flags]) + leb.unsigned(minimum)
    return encoded if maximum is None else encoded + leb.unsigned(maximum)


def _memory_type(type_: MemoryType, size: int) -> bytes:
    own_pages = type_.page_size != PAGE_SIZE
    flags = _HAS_MAXIMUM * (type_.maximum is not None) | _IS_64 * type_.is_64 | _HAS_PAGE_SIZE * own_pages
    encoded = _limits(flags, size // type_.page_size, type_.maximum)
    return encoded + leb.unsigned(type_.page_size.bit_length() - 1) if own_pages else encoded


def _table_type(type_: TableType, length: int) -> bytes:
    flags = _HAS_MAXIMUM * (type_.maximum is not None) | _IS_64 * type_.is_64
    return type_.element.code + _limits(flags, length, type_.maximum)

"""Cut the import section into its items, so that some can be left out."""

from __future__ import annotations

from collections.abc import Iterator

from replicate.binary import leb
from replicate.binary.cursor import Cursor
from replicate.binary.module import Kind, ModuleInfo
from replicate.binary.type_reader import TypeReader

__all__ = ["split_imports"]

_TYPE, _IMPORT = 1, 2
_KINDS: tuple[Kind, ...] = ("func", "table", "memory", "global", "tag")
_COMPACT_TYPED, _COMPACT_ALIKE = 0x7F, 0x7E


def split_imports(wasm: bytes, info: ModuleInfo) -> Iterator[tuple[Kind, bytes, bytes]]:
    """Yield each import: its kind, both names encoded, and its type encoded without the kind. Compact ones are spelled out."""
    types = TypeReader()
    for section in info.sections:
        cursor = Cursor(wasm, section.start, section.end)
        if section.id == _TYPE:
            types.read_section(cursor)
        elif section.id == _IMPORT:
            yield from _items(cursor, types)


def _items(cursor: Cursor, types: TypeReader) -> Iterator[tuple[Kind, bytes, bytes]]:
    for _ in range(cursor.u32()):
        module, name = leb.name(cursor.name()), cursor.name()
        compact = cursor.peek() if not name else -1
        if compact == _COMPACT_TYPED:
            cursor.byte()
            for _ in range(cursor.u32()):
                item = leb.name(cursor.name())
                kind, type_ = _type(cursor, types)
                yield kind, module + item, type_
        elif compact == _COMPACT_ALIKE:
            cursor.byte()
            kind, type_ = _type(cursor, types)
            for _ in range(cursor.u32()):
                yield kind, module + leb.name(cursor.name()), type_
        else:
            kind, type_ = _type(cursor, types)
            yield kind, module + leb.name(name), type_


def _type(cursor: Cursor, types: TypeReader) -> tuple[Kind, bytes]:
    kind = _KINDS[cursor.byte()]
    start = cursor.position
    if kind == "table":
        types.table_type(cursor)
    elif kind == "memory":
        types.memory_type(cursor)
    elif kind == "global":
        types.global_type(cursor)
    else:
        if kind == "tag":
            cursor.byte()
        cursor.u32()
    return kind, cursor.data[start : cursor.position]

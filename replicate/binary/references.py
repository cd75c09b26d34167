"""Read and replace the references to functions that a module makes outside and inside of its code."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import attrs

from replicate.binary import leb
from replicate.binary.cursor import Cursor
from replicate.binary.expressions import read_constant
from replicate.binary.module import ModuleInfo
from replicate.binary.plan import Fill
from replicate.binary.reader import CODE
from replicate.binary.scanner import Scanner, read_instruction
from replicate.binary.type_reader import TypeReader

__all__ = ["initial_contents", "redirect_references"]

_TYPE, _TABLE, _GLOBAL, _ELEMENT = 1, 4, 6, 9
_I32_CONST, _I64_CONST, _GLOBAL_GET, _REF_NULL, _REF_FUNC, _END = 0x41, 0x42, 0x23, 0xD0, 0xD2, 0x0B
_TABLE_WITH_INITIALISER = 0x40
_NOT_ACTIVE, _NAMES_TABLE_OR_DECLARATIVE, _HAS_EXPRESSIONS = 1, 2, 4
_REFERENCES = Scanner({(_REF_FUNC, None): None})


def initial_contents(wasm: bytes, info: ModuleInfo) -> dict[int, tuple[Fill, ...]]:
    """Say what instantiation writes to each table, by index; tables for which that can't be foretold are left out.

    An element that is given by an imported global counts as null.
    """
    fills: dict[int, list[Fill]] = {index: [] for index in range(len(info.tables))}
    unknown: set[int] = set()
    for index, initial in _table_initialisers(wasm, info):
        if initial is not None:
            known, function = _value(initial, info)
            fills[index].append(Fill(0, None, (function,) * info.tables[index].minimum))
            if not known:
                unknown.add(index)
    for segment in _segments(wasm, info):
        if segment.table is None:
            continue
        place = _place(segment.offset, info)
        functions = []
        for element in segment.elements:
            known, function = (True, element) if isinstance(element, int) else _value(element, info)
            functions.append(function)
            if not known or place is None:
                unknown.add(segment.table)
        if place is not None:
            fills[segment.table].append(Fill(*place, tuple(functions)))
    return {index: tuple(found) for index, found in fills.items() if index not in unknown}


def redirect_references(wasm: bytes, info: ModuleInfo, targets: Mapping[int, int]) -> dict[int, bytes]:
    """Give the sections, by id, in which references to functions are made, with each to a key of `targets` made to its value.

    Calls by index stay as they are.
    """
    redirected: dict[int, bytes] = {}
    segments = []
    for segment in _segments(wasm, info):
        elements = [
            leb.unsigned(targets.get(each, each)) if isinstance(each, int) else _redirected(each, targets)
            for each in segment.elements
        ]
        segments.append(segment.head + leb.vector(elements))
    if segments:
        redirected[_ELEMENT] = leb.vector(segments)
    for id_, items in ((_TABLE, _split_tables(wasm, info)), (_GLOBAL, _split_globals(wasm, info))):
        written = [head + (_redirected(initial, targets) if initial else b"") for head, initial in items]
        if written:
            redirected[id_] = leb.vector(written)
    code = _cursor(wasm, info, CODE)
    if code is not None:
        redirected[CODE] = leb.vector([_redirected_body(wasm, *span, targets) for span in _bodies(code)])
    return redirected


# -- element segments --------------------------------------------------------------------------------------------------


@attrs.frozen
class _Segment:
    """Be an element segment: what comes before its elements, where it goes if it's active, and the elements.

    An element is a function's index, or a constant expression.
    """

    head: bytes
    table: int | None
    offset: bytes
    elements: tuple[int | bytes, ...]


def _segments(wasm: bytes, info: ModuleInfo) -> Iterator[_Segment]:
    cursor, types = _cursor(wasm, info, _ELEMENT), _types(wasm, info)
    for _ in range(cursor.u32() if cursor is not None else 0):
        assert cursor is not None
        start = cursor.position
        flags = cursor.u32()
        table = cursor.u32() if flags & 3 == _NAMES_TABLE_OR_DECLARATIVE else 0
        offset = b"" if flags & _NOT_ACTIVE else _constant(cursor)
        if flags & (_NOT_ACTIVE | _NAMES_TABLE_OR_DECLARATIVE):
            if flags & _HAS_EXPRESSIONS:
                types.reference_type(cursor)
            else:
                cursor.byte()
        head = wasm[start : cursor.position]
        elements: tuple[int | bytes, ...]
        count = cursor.u32()
        if flags & _HAS_EXPRESSIONS:
            elements = tuple(_constant(cursor) for _ in range(count))
        else:
            elements = tuple(cursor.u32s(count))
        yield _Segment(head, None if flags & _NOT_ACTIVE else table, offset, elements)


# -- tables, globals, code ---------------------------------------------------------------------------------------------


def _table_initialisers(wasm: bytes, info: ModuleInfo) -> Iterator[tuple[int, bytes | None]]:
    for index, (_, initial) in enumerate(_split_tables(wasm, info), info.imported_tables):
        yield index, initial or None


def _split_tables(wasm: bytes, info: ModuleInfo) -> Iterator[tuple[bytes, bytes]]:
    """Yield each defined table's type, and the expression of its initial value if it has one."""
    cursor, types = _cursor(wasm, info, _TABLE), _types(wasm, info)
    for _ in range(cursor.u32() if cursor is not None else 0):
        assert cursor is not None
        start = cursor.position
        initialised = cursor.peek() == _TABLE_WITH_INITIALISER
        if initialised:
            cursor.skip(2)
        types.table_type(cursor)
        head = wasm[start : cursor.position]
        yield head, _constant(cursor) if initialised else b""


def _split_globals(wasm: bytes, info: ModuleInfo) -> Iterator[tuple[bytes, bytes]]:
    cursor, types = _cursor(wasm, info, _GLOBAL), _types(wasm, info)
    for _ in range(cursor.u32() if cursor is not None else 0):
        assert cursor is not None
        start = cursor.position
        types.global_type(cursor)
        head = wasm[start : cursor.position]
        yield head, _constant(cursor)


def _bodies(cursor: Cursor) -> Iterator[tuple[int, int]]:
    for _ in range(cursor.u32()):
        length = cursor.u32()
        start = cursor.position
        cursor.skip(length)
        yield start, cursor.position


def _redirected_body(wasm: bytes, start: int, end: int, targets: Mapping[int, int]) -> bytes:
    parts = []
    at = start
    for found, after in _REFERENCES.locate(wasm, start, end):
        function = Cursor(wasm, found + 1, after).u32()
        parts += [wasm[at : found + 1], leb.unsigned(targets.get(function, function))]
        at = after
    body = b"".join([*parts, wasm[at:end]])
    return leb.unsigned(len(body)) + body


# -- constant expressions ----------------------------------------------------------------------------------------------


def _constant(cursor: Cursor) -> bytes:
    start = cursor.position
    read_constant(cursor)
    return cursor.data[start : cursor.position]


def _redirected(expression: bytes, targets: Mapping[int, int]) -> bytes:
    cursor = Cursor(expression, 0, len(expression))
    parts = []
    while cursor.position < cursor.end:
        start = cursor.position
        (opcode, _), operands = read_instruction(cursor)
        if opcode == _REF_FUNC:
            parts += [expression[start : start + 1], leb.unsigned(targets.get(operands[0], operands[0]))]
        else:
            parts.append(expression[start : cursor.position])
    return b"".join(parts)


def _value(expression: bytes, info: ModuleInfo) -> tuple[bool, int | None]:
    """Tell whether it's known what a reference is, and the function it refers to if it does to any."""
    cursor = Cursor(expression, 0, len(expression))
    (opcode, _), operands = read_instruction(cursor)
    alone = cursor.position == len(expression) - 1
    if opcode == _REF_FUNC:
        return alone, operands[0]
    if opcode == _GLOBAL_GET:
        return alone and operands[0] < info.imported_globals, None
    return alone and opcode == _REF_NULL, None


def _place(expression: bytes, info: ModuleInfo) -> tuple[int, int | None] | None:
    """Give an offset as a number and a global to be added to it, or None if it isn't as simple as that."""
    cursor = Cursor(expression, 0, len(expression))
    opcode = cursor.byte()
    offset, base = 0, None
    if opcode == _I32_CONST:
        offset = cursor.s32() & 0xFFFFFFFF
    elif opcode == _I64_CONST:
        offset = cursor.s64() & 0xFFFFFFFFFFFFFFFF
    elif opcode == _GLOBAL_GET:
        base = cursor.u32()
        if base >= info.imported_globals:
            return None
    return (offset, base) if cursor.peek() == _END else None


def _cursor(wasm: bytes, info: ModuleInfo, id_: int) -> Cursor | None:
    for section in info.sections:
        if section.id == id_:
            return Cursor(wasm, section.start, section.end)
    return None


def _types(wasm: bytes, info: ModuleInfo) -> TypeReader:
    types = TypeReader()
    cursor = _cursor(wasm, info, _TYPE)
    if cursor is not None:
        types.read_section(cursor)
    return types

"""Read types: value types, those a module defines, and those of tables, memories and globals."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from replicate.binary.cursor import Cursor
from replicate.binary.leb import signed
from replicate.binary.types import (
    F32,
    F64,
    I32,
    I64,
    PAGE_SIZE,
    V128,
    ArrayType,
    ContType,
    Declaration,
    DefinedType,
    FieldType,
    FuncType,
    GlobalType,
    Hierarchy,
    MemoryType,
    StructType,
    TableType,
    ValType,
    heap_type,
)
from replicate.errors import UnsupportedError

__all__ = ["TypeReader", "custom_descriptors"]

_NUMBERS = {number.code[0]: number for number in (I32, I64, F32, F64, V128)}
_SHORT = {code: found for code in range(0x66, 0x80) if (found := heap_type(code, nullable=True)) is not None}
_PACKED: dict[int, Literal["i8", "i16"]] = {0x78: "i8", 0x77: "i16"}
_REF_NULL, _REF, _SHARED = 0x63, 0x64, 0x65
_REC, _SUB_FINAL, _SUB = 0x4E, 0x4F, 0x50
_DESCRIPTORS, _EXACT = (0x4D, 0x4C), 0x62
_FUNC, _STRUCT, _ARRAY, _CONT = 0x60, 0x5F, 0x5E, 0x5D
_HIERARCHIES: dict[type[DefinedType], Hierarchy] = {
    FuncType: "func",
    StructType: "any",
    ArrayType: "any",
    ContType: "cont",
}
_HAS_MAXIMUM, _IS_SHARED, _IS_64, _HAS_PAGE_SIZE = 1, 2, 4, 8


def custom_descriptors(what: str, at: int) -> UnsupportedError:
    """Return the error to raise for `what`, which only that proposal has, at an offset."""
    return UnsupportedError(
        f"the module has {what} at byte {at} ({at:#x}): that's of the proposal for custom descriptors, which isn't supported"
    )


class TypeReader:
    """Read types, and keep those that the module defines in `types`.

    A reference may name a type that is defined later, and its hierarchy depends on that type: so the type section is
    read twice where it has such references.
    """

    def __init__(self) -> None:
        self.types: tuple[DefinedType, ...] = ()
        self.declarations: tuple[Declaration, ...] = ()
        """For each of `types` what its definition says besides."""
        self._hierarchy: Callable[[Cursor, int], Hierarchy] = self._known_hierarchy

    def read_section(self, cursor: Cursor) -> None:
        """Read the content of the type section."""
        start = cursor.position
        references: list[int] = []

        def remember(_: Cursor, index: int) -> Hierarchy:
            references.append(index)
            return "any"

        self._hierarchy = remember
        self.types, self.declarations = self._definitions(cursor)
        self._hierarchy = self._known_hierarchy
        if references:
            cursor.position = start
            self.types, self.declarations = self._definitions(cursor)

    def value_type(self, cursor: Cursor) -> ValType:
        """Read the type of a value."""
        number = _NUMBERS.get(cursor.peek())
        if number is not None:
            cursor.byte()
            return number
        return self.reference_type(cursor)

    def reference_type(self, cursor: Cursor) -> ValType:
        """Read the type of a reference."""
        at = cursor.position
        code = cursor.byte()
        if code in (_REF_NULL, _REF):
            return self._heap_type(cursor, nullable=code == _REF_NULL)
        found = heap_type(cursor.byte(), nullable=True, shared=True) if code == _SHARED else _SHORT.get(code)
        if found is None:
            raise cursor.fail(f"no type is encoded as {code:#04x}", at=at)
        return found

    def table_type(self, cursor: Cursor) -> TableType:
        """Read the type of a table."""
        element = self.reference_type(cursor)
        flags = self._limit_flags(cursor, _HAS_MAXIMUM | _IS_SHARED | _IS_64)
        minimum, maximum = self._limits(cursor, flags)
        return TableType(element, minimum, maximum, bool(flags & _IS_64), shared=bool(flags & _IS_SHARED))

    def memory_type(self, cursor: Cursor) -> MemoryType:
        """Read the type of a memory."""
        flags = self._limit_flags(cursor, _HAS_MAXIMUM | _IS_SHARED | _IS_64 | _HAS_PAGE_SIZE)
        minimum, maximum = self._limits(cursor, flags)
        page_size = PAGE_SIZE
        if flags & _HAS_PAGE_SIZE:
            at = cursor.position
            logarithm = cursor.u32()
            if logarithm not in (0, 16):
                raise cursor.fail(f"a page size of 2 to the power of {logarithm}, which must be 0 or 16", at=at)
            page_size = 1 << logarithm
        shared = bool(flags & _IS_SHARED)
        return MemoryType(minimum, maximum, bool(flags & _IS_64), shared=shared, page_size=page_size)

    def global_type(self, cursor: Cursor) -> GlobalType:
        """Read the type of a global."""
        value = self.value_type(cursor)
        flags = cursor.byte()
        if flags > 3:
            raise cursor.fail(f"a global's flags are {flags:#x}", at=cursor.position - 1)
        return GlobalType(value, bool(flags & 1), shared=bool(flags & 2))

    def function_type_index(self, cursor: Cursor) -> int:
        """Read the index of a type that must be a function's."""
        at = cursor.position
        index = cursor.index(len(self.types), "type")
        if not isinstance(self.types[index], FuncType):
            raise cursor.fail(f"type {index} isn't a function's", at=at)
        return index

    def _known_hierarchy(self, cursor: Cursor, index: int) -> Hierarchy:
        if index >= len(self.types):
            raise cursor.fail(f"type {index} of only {len(self.types)}")
        return _HIERARCHIES[type(self.types[index])]

    def _heap_type(self, cursor: Cursor, *, nullable: bool) -> ValType:
        at = cursor.position
        shared = cursor.peek() == _SHARED
        if shared:
            cursor.byte()
        code = cursor.peek()
        if code == _EXACT and not shared:
            raise custom_descriptors(f"a reference to exactly one type ({code:#04x})", at)
        index = cursor.s33()
        if index >= 0 and not shared:
            prefix, word = (_REF_NULL, "ref null") if nullable else (_REF, "ref")
            encoded = bytes([prefix]) + signed(index)
            hierarchy = self._hierarchy(cursor, index)
            return ValType(f"({word} {index})", encoded, hierarchy, is_nullable=nullable, index=index)
        found = heap_type(code, nullable=nullable, shared=shared)
        if found is None:
            raise cursor.fail(f"no heap type is encoded as {code:#04x}", at=at)
        return found

    def _definitions(self, cursor: Cursor) -> tuple[tuple[DefinedType, ...], tuple[Declaration, ...]]:
        types: list[DefinedType] = []
        declarations: list[Declaration] = []
        for _ in range(cursor.count("types")):
            start, size = len(types), 1
            if cursor.peek() == _REC:
                cursor.byte()
                size = cursor.count("recursive types")
            for index in range(start, start + size):
                supertype, final, shared = self._declared(cursor, index)
                declarations.append(Declaration(start, size, supertype, final, shared))
                types.append(self._structure(cursor))
        return tuple(types), tuple(declarations)

    @staticmethod
    def _declared(cursor: Cursor, index: int) -> tuple[int | None, bool, bool]:
        """Read what comes before a type's structure: its supertype, whether it's final, whether it's shared."""
        supertypes: list[int] = []
        final = True
        at = cursor.position
        if cursor.peek() in (_SUB, _SUB_FINAL):
            final = cursor.byte() == _SUB_FINAL
            supertypes = cursor.u32s(cursor.count("supertypes"))
        if len(supertypes) > 1:
            raise cursor.fail(f"type {index} has {len(supertypes)} supertypes; one is allowed", at=at)
        if supertypes and supertypes[0] >= index:
            raise cursor.fail(f"type {index} has the supertype {supertypes[0]}, which isn't defined before it", at=at)
        shared = cursor.peek() == _SHARED
        if shared:
            cursor.byte()
        return supertypes[0] if supertypes else None, final, shared

    def _structure(self, cursor: Cursor) -> DefinedType:
        at = cursor.position
        code = cursor.byte()
        if code == _FUNC:
            return FuncType(self._value_types(cursor), self._value_types(cursor))
        if code == _STRUCT:
            return StructType(tuple(self._field(cursor) for _ in range(cursor.count("fields"))))
        if code == _ARRAY:
            return ArrayType(self._field(cursor))
        if code == _CONT:
            function = cursor.s33()
            if function < 0:
                raise cursor.fail("a continuation of no function type", at=at)
            return ContType(function)
        if code in _DESCRIPTORS:
            raise custom_descriptors(f"a type that has or is a descriptor ({code:#04x})", at)
        raise cursor.fail(f"no type starts with {code:#04x}", at=at)

    def _value_types(self, cursor: Cursor) -> tuple[ValType, ...]:
        return tuple(self.value_type(cursor) for _ in range(cursor.count("types")))

    def _field(self, cursor: Cursor) -> FieldType:
        storage: ValType | Literal["i8", "i16"] | None = _PACKED.get(cursor.peek())
        if storage is None:
            storage = self.value_type(cursor)
        else:
            cursor.byte()
        return FieldType(storage, cursor.flag("a field's mutability"))

    @staticmethod
    def _limit_flags(cursor: Cursor, known: int) -> int:
        flags = cursor.byte()
        if flags & ~known:
            raise cursor.fail(f"limits with flags {flags:#x}", at=cursor.position - 1)
        return flags

    @staticmethod
    def _limits(cursor: Cursor, flags: int) -> tuple[int, int | None]:
        # Wasm 3.0 encodes the limits of 32-bit memories and tables as 64-bit numbers too.
        minimum = cursor.u64()
        return minimum, cursor.u64() if flags & _HAS_MAXIMUM else None

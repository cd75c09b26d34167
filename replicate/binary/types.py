"""The types of core Wasm, as values: numbers and references, functions, memories, tables, globals and tags.

Spelled as in the text format and encoded as in the binary format of WebAssembly 3.0 (chapter "Types" of both), plus the
types of threads, custom page sizes and stack switching.
"""

from __future__ import annotations

from typing import ClassVar, Literal, TypeAlias

import attrs

from replicate.errors import ImportTypeError

__all__ = [
    "ANYREF",
    "EXNREF",
    "EXTERNREF",
    "F32",
    "F64",
    "FUNCREF",
    "I32",
    "I64",
    "PAGE_SIZE",
    "V128",
    "ArrayType",
    "ContType",
    "Declaration",
    "DefinedType",
    "ExternType",
    "FieldType",
    "FuncType",
    "GlobalType",
    "Hierarchy",
    "MemoryType",
    "StructType",
    "TableType",
    "TagType",
    "ValType",
    "heap_type",
]

PAGE_SIZE = 65536
"""Bytes in a Wasm page, unless a memory's type says otherwise."""

Hierarchy: TypeAlias = Literal["number", "func", "extern", "any", "exn", "cont"]
"""The five families of references, no value of which is ever a member of another, and that of numbers and vectors."""

_NUMBERS = {"i32": 0x7F, "i64": 0x7E, "f32": 0x7D, "f64": 0x7C, "v128": 0x7B}

# heap type: code, hierarchy, name of the nullable reference type, whether it is the bottom of its hierarchy
_HEAP_TYPES: dict[str, tuple[int, Hierarchy, str, bool]] = {
    "func": (0x70, "func", "funcref", False),
    "extern": (0x6F, "extern", "externref", False),
    "any": (0x6E, "any", "anyref", False),
    "eq": (0x6D, "any", "eqref", False),
    "i31": (0x6C, "any", "i31ref", False),
    "struct": (0x6B, "any", "structref", False),
    "array": (0x6A, "any", "arrayref", False),
    "exn": (0x69, "exn", "exnref", False),
    "cont": (0x68, "cont", "contref", False),
    "none": (0x71, "any", "nullref", True),
    "noextern": (0x72, "extern", "nullexternref", True),
    "nofunc": (0x73, "func", "nullfuncref", True),
    "noexn": (0x74, "exn", "nullexnref", True),
    "nocont": (0x75, "cont", "nullcontref", True),
}
_HEAP_NAMES = {code: name for name, (code, _, _, _) in _HEAP_TYPES.items()}
_SHARED = 0x65
_REF = 0x64
_REF_NULL = 0x63


@attrs.frozen
class ValType:
    """Name the type of a value: a number, a vector or a reference.

    `text` is its spelling in the text format (``"i32"``, ``"funcref"``, ``"(ref null 3)"``) and `code` its shortest
    binary encoding, so that two spellings of one type are equal. `hierarchy` is the family a reference belongs to,
    which for a reference to a type of the module (``"(ref 3)"``) depends on that module: don't mix such types of two.
    """

    text: str
    code: bytes
    hierarchy: Hierarchy
    is_nullable: bool = attrs.field(default=False, kw_only=True)
    is_null: bool = attrs.field(default=False, kw_only=True)
    """Whether null is the only value it can have, if any: the bottom of its hierarchy."""
    is_shared: bool = attrs.field(default=False, kw_only=True)
    """Whether it refers to something that threads share."""
    index: int | None = attrs.field(default=None, kw_only=True)
    """The type of the module that it refers to, if it refers to one."""

    _named: ClassVar[dict[str, ValType]]

    @property
    def is_number(self) -> bool:
        """Whether its values are plain bits: i32, i64, f32, f64 or v128."""
        return self.hierarchy == "number"

    @property
    def is_reference(self) -> bool:
        """Whether its values are references."""
        return self.hierarchy != "number"

    @property
    def is_func(self) -> bool:
        """Whether its values are references to functions."""
        return self.hierarchy == "func"

    @property
    def is_extern(self) -> bool:
        """Whether its values are references to something of the host's."""
        return self.hierarchy == "extern"

    @classmethod
    def parse(cls, text: str) -> ValType:
        """Return the type spelled `text`, ``"i32"`` or ``"(ref func)"`` for instance.

        Raises `ImportTypeError` for anything else, references to a module's own types included: they mean nothing
        without the module.
        """
        found = cls._named.get(" ".join(text.split()))
        if found is None:
            raise ImportTypeError(f"no value type is called {text!r}; use one of {', '.join(cls._plain())}")
        return found

    @classmethod
    def _plain(cls) -> tuple[str, ...]:
        return tuple(name for name in cls._named if not name.startswith("("))

    def __str__(self) -> str:
        return self.text


def heap_type(code: int, *, nullable: bool, shared: bool = False) -> ValType | None:
    """Return the reference type with the abstract heap type encoded as the byte `code`, or None if there is none."""
    name = _HEAP_NAMES.get(code)
    if name is None:
        return None
    _, hierarchy, abbreviation, bottom = _HEAP_TYPES[name]
    prefix = bytes([_SHARED]) if shared else b""
    target = f"(shared {name})" if shared else name
    if not nullable:
        text, encoded = f"(ref {target})", bytes([_REF]) + prefix + bytes([code])
    elif shared:
        text, encoded = f"(ref null {target})", prefix + bytes([code])
    else:
        text, encoded = abbreviation, bytes([code])
    return ValType(text, encoded, hierarchy, is_nullable=nullable, is_null=bottom, is_shared=shared)


def _named_types() -> dict[str, ValType]:
    types = {name: ValType(name, bytes([code]), "number") for name, code in _NUMBERS.items()}
    for name, (code, _, _, _) in _HEAP_TYPES.items():
        nullable, other = heap_type(code, nullable=True), heap_type(code, nullable=False)
        assert nullable is not None
        assert other is not None
        types |= {nullable.text: nullable, f"(ref null {name})": nullable, other.text: other}
    return types


ValType._named = _named_types()

I32 = ValType.parse("i32")
I64 = ValType.parse("i64")
F32 = ValType.parse("f32")
F64 = ValType.parse("f64")
V128 = ValType.parse("v128")
FUNCREF = ValType.parse("funcref")
EXTERNREF = ValType.parse("externref")
ANYREF = ValType.parse("anyref")
EXNREF = ValType.parse("exnref")


def _several(types: tuple[ValType, ...]) -> str:
    return f"({', '.join(map(str, types))})"


@attrs.frozen
class FuncType:
    """Say what a function takes and returns."""

    params: tuple[ValType, ...]
    results: tuple[ValType, ...]

    def __str__(self) -> str:
        results = str(self.results[0]) if len(self.results) == 1 else _several(self.results)
        return f"{_several(self.params)} -> {results}"


@attrs.frozen
class FieldType:
    """Say what a field of a struct, or the elements of an array, hold: a value, or a packed ``"i8"`` or ``"i16"``."""

    storage: ValType | Literal["i8", "i16"]
    mutable: bool

    def __str__(self) -> str:
        return f"(mut {self.storage})" if self.mutable else str(self.storage)


@attrs.frozen
class StructType:
    """Say what fields a struct has (garbage collection)."""

    fields: tuple[FieldType, ...]

    def __str__(self) -> str:
        return "(struct" + "".join(f" (field {field})" for field in self.fields) + ")"


@attrs.frozen
class ArrayType:
    """Say what elements an array has (garbage collection)."""

    element: FieldType

    def __str__(self) -> str:
        return f"(array {self.element})"


@attrs.frozen
class ContType:
    """Give the type, by index, of the function that a continuation runs (stack switching)."""

    function: int

    def __str__(self) -> str:
        return f"(cont {self.function})"


DefinedType: TypeAlias = FuncType | StructType | ArrayType | ContType
"""What a module can define in its type section."""


@attrs.frozen
class Declaration:
    """Say what a type's definition adds to its structure, and what makes two of one structure different types.

    The types that are defined together with it (``rec``) are `size` types from the index `start` on. `supertype` is the
    index of the type that it's declared to be a subtype of.
    """

    start: int
    size: int
    supertype: int | None = None
    is_final: bool = True
    is_shared: bool = False


def _limits(minimum: int, maximum: int | None, *, is_64: bool, shared: bool) -> str:
    words = ["i64"] * is_64 + [str(minimum)] + [str(maximum)] * (maximum is not None) + ["shared"] * shared
    return " ".join(words)


@attrs.frozen
class MemoryType:
    """Say how large a linear memory is at first and at most, counted in Wasm pages of `page_size` bytes."""

    minimum: int
    maximum: int | None = None
    is_64: bool = False
    shared: bool = attrs.field(default=False, kw_only=True)
    page_size: int = attrs.field(default=PAGE_SIZE, kw_only=True)

    def __str__(self) -> str:
        page = "" if self.page_size == PAGE_SIZE else f" (pagesize {self.page_size})"
        return f"(memory {_limits(self.minimum, self.maximum, is_64=self.is_64, shared=self.shared)}{page})"


@attrs.frozen
class TableType:
    """Say what a table holds, and how many elements it has at first and at most."""

    element: ValType
    minimum: int
    maximum: int | None = None
    is_64: bool = False
    shared: bool = attrs.field(default=False, kw_only=True)

    def __str__(self) -> str:
        return f"(table {_limits(self.minimum, self.maximum, is_64=self.is_64, shared=self.shared)} {self.element})"


@attrs.frozen
class GlobalType:
    """Say what a global holds and whether that can change."""

    value: ValType
    mutable: bool
    shared: bool = attrs.field(default=False, kw_only=True)

    def __str__(self) -> str:
        words = ["shared"] * self.shared + [f"(mut {self.value})" if self.mutable else str(self.value)]
        return f"(global {' '.join(words)})"


@attrs.frozen
class TagType:
    """Say what an exception with this tag carries: the parameters of `function`."""

    function: FuncType

    def __str__(self) -> str:
        return f"(tag {self.function})"


ExternType: TypeAlias = FuncType | TableType | MemoryType | GlobalType | TagType
"""What a module can import or export."""

"""Add functions, tables, globals and exports to a module, moving none of its own indices."""

from __future__ import annotations

from collections.abc import Sequence

from replicate.binary import leb
from replicate.binary.cursor import Cursor
from replicate.binary.import_items import split_imports
from replicate.binary.module import Kind, ModuleInfo
from replicate.binary.reader import CODE, SECTION_ORDER
from replicate.binary.signature import HEADER
from replicate.binary.types import FuncType, ValType

__all__ = ["ELEMENT", "GLOBAL", "Additions"]

_TYPE, _IMPORT, _FUNCTION, _TABLE, _MEMORY, _EXPORT, _START = 1, 2, 3, 4, 5, 7, 8
GLOBAL, ELEMENT = 6, 9
_KIND_CODES: dict[Kind, bytes] = {"func": b"\0", "table": b"\1", "memory": b"\2", "global": b"\3", "tag": b"\4"}
_FUNC = b"\x60"
_NO_LOCALS, _END = b"\0", b"\x0b"
_ACTION = FuncType((), ())


class Additions:
    """Collect what is to be added to each section, all of it at the end of its index space."""

    def __init__(self, wasm: bytes, info: ModuleInfo) -> None:
        self._wasm = wasm
        self._info = info
        self.prefix = _free_prefix(info)
        self.replaced: dict[int, bytes] = {}
        """Sections to have another content, of as many items as theirs."""
        self._added: dict[int, list[bytes]] = {
            id_: [] for id_ in (_TYPE, _FUNCTION, _TABLE, _MEMORY, GLOBAL, _EXPORT, ELEMENT, CODE)
        }
        self._types: dict[FuncType, int] = {}
        self._own_tables: list[bytes] = []

    def export(self, kind: Kind, index: int, name: str | None = None) -> str:
        """Export something under a name of ours, and return the name."""
        full = self.prefix + (f"{kind}:{index}" if name is None else name)
        self._added[_EXPORT].append(leb.name(full) + _KIND_CODES[kind] + leb.unsigned(index))
        return full

    def helper(self, name: str, code: bytes, *, type_: FuncType = _ACTION, locals_: bytes = _NO_LOCALS) -> str:
        """Add and export a function, and return its export; `code` lacks the end."""
        return self.export("func", self.function(self._type_index(type_), code, locals_=locals_), name)

    def function(self, type_index: int, code: bytes, *, locals_: bytes = _NO_LOCALS) -> int:
        """Add a function, and return its index."""
        body = locals_ + code + _END
        index = len(self._info.functions) + len(self._added[_FUNCTION])
        self._added[_FUNCTION].append(leb.unsigned(type_index))
        self._added[CODE].append(leb.unsigned(len(body)) + body)
        return index

    def table(self, encoded: bytes) -> int:
        """Add a table of the encoded type, and return its index."""
        self._added[_TABLE].append(encoded)
        return len(self._info.tables) + len(self._added[_TABLE]) - 1

    def own_imported_tables(self) -> None:
        """Have the module define the tables that it imports; they are the first in their index space as before."""
        items = list(split_imports(self._wasm, self._info))
        self._own_tables = [type_ for kind, _, type_ in items if kind == "table"]
        if self._own_tables:
            kept = [name + _KIND_CODES[kind] + type_ for kind, name, type_ in items if kind != "table"]
            self.replaced[_IMPORT] = leb.vector(kept)

    def memory(self, encoded: bytes) -> int:
        """Add a memory of the encoded type, and return its index."""
        self._added[_MEMORY].append(encoded)
        return len(self._info.memories) + len(self._added[_MEMORY]) - 1

    def variable(self, type_: ValType, initial: bytes) -> int:
        """Add a mutable global, and return its index; `initial` lacks the end."""
        self._added[GLOBAL].append(type_.code + b"\1" + initial + _END)
        return len(self._info.globals) + len(self._added[GLOBAL]) - 1

    def element(self, encoded: bytes) -> None:
        """Add an element segment."""
        self._added[ELEMENT].append(encoded)

    def encode(self) -> bytes:
        """Return the module with all that was added, and without its start section."""
        added = self._added
        if self._own_tables and all(section.id != _TABLE for section in self._info.sections):
            added[_TABLE] = self._own_tables + added[_TABLE]
        missing = [id_ for id_ in SECTION_ORDER if added.get(id_)]
        encoded = [HEADER]
        for section in self._info.sections:
            if section.id != 0:
                rank = SECTION_ORDER.index(section.id)
                while missing and SECTION_ORDER.index(missing[0]) < rank:
                    id_ = missing.pop(0)
                    encoded += _section(id_, leb.vector(added[id_]))
            content = self.replaced.get(section.id) or self._wasm[section.start : section.end]
            if section.id == _TABLE:
                content = _extended(content, before=self._own_tables)
            if missing and section.id == missing[0]:
                encoded += _section(section.id, _extended(content, after=added[missing.pop(0)]))
            elif section.id != _START:
                encoded += _section(section.id, content)
        for id_ in missing:
            encoded += _section(id_, leb.vector(added[id_]))
        return b"".join(encoded)

    def _type_index(self, type_: FuncType) -> int:
        if type_ not in self._types:
            self._types[type_] = len(self._info.types) + len(self._types)
            self._added[_TYPE].append(_FUNC + _codes(type_.params) + _codes(type_.results))
        return self._types[type_]


def _free_prefix(info: ModuleInfo) -> str:
    taken = {export.name.partition(":")[0] for export in info.exports}
    stem, number = "replicate", 0
    while stem in taken:
        stem, number = f"replicate{number}", number + 1
    return f"{stem}:"


def _codes(types: Sequence[ValType]) -> bytes:
    return leb.vector([type_.code for type_ in types])


def _section(id_: int, content: bytes) -> tuple[bytes, bytes, bytes]:
    return bytes([id_]), leb.unsigned(len(content)), content


def _extended(content: bytes, *, before: Sequence[bytes] = (), after: Sequence[bytes] = ()) -> bytes:
    """Return the encoded vector `content` with more items."""
    if not before and not after:
        return content
    cursor = Cursor(content, 0, len(content))
    count = leb.unsigned(cursor.u32() + len(before) + len(after))
    return b"".join([count, *before, content[cursor.position :], *after])

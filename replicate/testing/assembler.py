"""Put modules together: index spaces, segments and functions in, text and binary out, the two in step."""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from replicate.binary import FuncType, GlobalType, MemoryType, TableType, ValType, leb
from replicate.binary.signature import HEADER
from replicate.testing.instructions import Code, op

__all__ = ["Assembler", "signature"]

_KINDS = {"func": b"\0", "table": b"\1", "memory": b"\2", "global": b"\3"}
_END = op("end")


def signature(params: Sequence[str], results: Sequence[str]) -> FuncType:
    """Make a function type from the spelling of its value types."""
    return FuncType(tuple(map(ValType.parse, params)), tuple(map(ValType.parse, results)))


@attrs.define(eq=False)
class _Lines:
    """Be one section: its entries in both formats."""

    text: list[str] = attrs.field(factory=list)
    binary: list[bytes] = attrs.field(factory=list)

    def add(self, text: str, binary: bytes) -> int:
        self.text.append(text)
        self.binary.append(binary)
        return len(self.binary) - 1


class Assembler:
    """Collect a module's parts. Imports come first, as the format has it: their methods raise if called too late."""

    def __init__(self) -> None:
        self.types: list[FuncType] = []
        self.functions: list[FuncType] = []
        self.memories: list[MemoryType] = []
        self.tables: list[TableType] = []
        self.globals: list[GlobalType] = []
        self.exported: set[str] = set()
        self._defined: set[str] = set()
        self._imports = _Lines()
        self._function_types: list[int] = []
        self._bodies: list[tuple[tuple[str, ...], Code] | None] = []
        self._tables = _Lines()
        self._memories = _Lines()
        self._globals = _Lines()
        self._exports = _Lines()
        self._elements = _Lines()
        self._data = _Lines()
        self._start: int | None = None

    # -- index spaces --------------------------------------------------------------------------------------------------

    def type(self, kind: FuncType) -> int:
        """Give the index of a function type, adding it if it's new."""
        if kind not in self.types:
            self.types.append(kind)
        return self.types.index(kind)

    def import_function(self, module: str, name: str, kind: FuncType) -> int:
        """Import a function; give its index."""
        number = self.type(kind)
        self._import(module, name, "func", f"(func (type {number}))", leb.unsigned(number))
        self.functions.append(kind)
        return len(self.functions) - 1

    def import_memory(self, module: str, name: str, kind: MemoryType) -> int:
        """Import a memory; give its index."""
        self._import(module, name, "memory", str(kind), _memory(kind))
        self.memories.append(kind)
        return len(self.memories) - 1

    def import_table(self, module: str, name: str, kind: TableType) -> int:
        """Import a table; give its index."""
        self._import(module, name, "table", str(kind), _table(kind))
        self.tables.append(kind)
        return len(self.tables) - 1

    def import_global(self, module: str, name: str, kind: GlobalType) -> int:
        """Import a global; give its index."""
        self._import(module, name, "global", str(kind), _global(kind))
        self.globals.append(kind)
        return len(self.globals) - 1

    def _import(self, module: str, name: str, kind: str, text: str, binary: bytes) -> None:
        if kind in self._defined:
            raise ValueError(f"import {module}.{name} comes after a definition of a {kind}")
        encoded = leb.name(module) + leb.name(name) + _KINDS[kind] + binary
        self._imports.add(f'(import "{module}" "{name}" {text})', encoded)

    def memory(self, kind: MemoryType) -> int:
        """Define a memory; give its index."""
        self._defined.add("memory")
        self._memories.add(str(kind), _memory(kind))
        self.memories.append(kind)
        return len(self.memories) - 1

    def table(self, kind: TableType, *, initial: Code = ()) -> int:
        """Define a table, whose elements are null or the value of the constant expression `initial`; give its index."""
        self._defined.add("table")
        if initial:
            self._tables.add(f"{str(kind)[:-1]} {_flat(initial)})", b"\x40\0" + _table(kind) + _expression(initial))
        else:
            self._tables.add(str(kind), _table(kind))
        self.tables.append(kind)
        return len(self.tables) - 1

    def global_(self, kind: GlobalType, initial: Code) -> int:
        """Define a global; give its index."""
        self._defined.add("global")
        self._globals.add(f"{str(kind)[:-1]} {_flat(initial)})", _global(kind) + _expression(initial))
        self.globals.append(kind)
        return len(self.globals) - 1

    def declare_function(self, kind: FuncType) -> int:
        """Reserve the index of a function whose body follows with `body`."""
        self._defined.add("func")
        self._function_types.append(self.type(kind))
        self._bodies.append(None)
        self.functions.append(kind)
        return len(self.functions) - 1

    def body(self, function: int, code: Code, *, variables: Sequence[str] = ()) -> None:
        """Give a declared function its code, without the final ``end``, and the types of its local variables."""
        at = function - (len(self.functions) - len(self._bodies))
        self._bodies[at] = (tuple(variables), code)

    def function(self, kind: FuncType, code: Code, *, variables: Sequence[str] = (), export: str | None = None) -> int:
        """Define a function; give its index."""
        index = self.declare_function(kind)
        self.body(index, code, variables=variables)
        if export is not None:
            self.export(export, "func", index)
        return index

    # -- the rest ------------------------------------------------------------------------------------------------------

    def export(self, name: str, kind: str, index: int) -> None:
        """Export something under a name that isn't taken."""
        if name in self.exported:
            raise ValueError(f"{name!r} is exported already")
        self.exported.add(name)
        self._exports.add(f'(export "{name}" ({kind} {index}))', leb.name(name) + _KINDS[kind] + leb.unsigned(index))

    def start(self, function: int) -> None:
        """Make a function the start function."""
        self._start = function

    def data(self, content: bytes, *, memory: int | None = None, offset: Code = ()) -> int:
        """Add a data segment, active if a memory is given and passive otherwise; give its index."""
        bytes_ = leb.unsigned(len(content)) + content
        text = '"' + "".join(f"\\{byte:02x}" for byte in content) + '"'
        if memory is None:
            return self._data.add(f"(data {text})", b"\1" + bytes_)
        mode = b"\0" if memory == 0 else b"\2" + leb.unsigned(memory)
        where = f"(memory {memory}) (offset {_flat(offset)})"
        return self._data.add(f"(data {where} {text})", mode + _expression(offset) + bytes_)

    def elements(
        self,
        kind: ValType,
        items: Sequence[Code],
        *,
        table: int | None = None,
        offset: Code = (),
        declared: bool = False,
    ) -> int:
        """Add an element segment of constant expressions: active if a table is given, else declarative or passive."""
        text = f"{kind} " + " ".join(f"(item {_flat(item)})" for item in items)
        vector = kind.code + leb.vector([_expression(item) for item in items])
        if table is not None:
            where = f"(table {table}) (offset {_flat(offset)})"
            return self._elements.add(
                f"(elem {where} {text})", b"\6" + leb.unsigned(table) + _expression(offset) + vector
            )
        return self._elements.add(f"(elem {'declare ' * declared}{text})", (b"\7" if declared else b"\5") + vector)

    # -- results -------------------------------------------------------------------------------------------------------

    def binary(self) -> bytes:
        """Encode the module."""
        functions = [leb.unsigned(number) for number in self._function_types]
        return b"".join(
            [
                HEADER,
                _section(1, [_function_type(kind) for kind in self.types]),
                _section(2, self._imports.binary),
                _section(3, functions),
                _section(4, self._tables.binary),
                _section(5, self._memories.binary),
                _section(6, self._globals.binary),
                _section(7, self._exports.binary),
                b"" if self._start is None else _sized(8, leb.unsigned(self._start)),
                _section(9, self._elements.binary),
                _sized(12, leb.unsigned(len(self._data.binary))) if self._data.binary else b"",
                _section(10, [_body(*body) for body in self._complete()]),
                _section(11, self._data.binary),
            ]
        )

    def text(self) -> str:
        """Write the module in the text format."""
        first = len(self.functions) - len(self._bodies)
        lines = [f"(type {_spelled(kind)})" for kind in self.types]
        lines += [*self._imports.text, *self._tables.text, *self._memories.text, *self._globals.text]
        lines += [*self._exports.text, *self._elements.text, *self._data.text]
        if self._start is not None:
            lines.append(f"(start {self._start})")
        for at, (variables, code) in enumerate(self._complete()):
            lines.append(f"(func (;{first + at};) (type {self._function_types[at]})")
            if variables:
                lines.append(f"  (local {' '.join(variables)})")
            depth = 1
            for instruction in code:
                depth -= instruction.text == "end"
                lines.append("  " * depth + instruction.text)
                depth += instruction.text.partition(" ")[0] in ("block", "loop", "if")
            lines[-1] += ")"
        return "(module\n" + "\n".join(f"  {line}" for line in lines) + ")\n"

    def _complete(self) -> list[tuple[tuple[str, ...], Code]]:
        bodies = [body for body in self._bodies if body is not None]
        if len(bodies) != len(self._bodies):
            raise ValueError("a declared function has no body")
        return bodies


def _flat(code: Code) -> str:
    return " ".join(instruction.text for instruction in code)


def _expression(code: Code) -> bytes:
    return b"".join(instruction.binary for instruction in code) + _END.binary


def _sized(id_: int, content: bytes) -> bytes:
    return bytes([id_]) + leb.unsigned(len(content)) + content


def _section(id_: int, items: Sequence[bytes]) -> bytes:
    return _sized(id_, leb.vector(items)) if items else b""


def _limits(minimum: int, maximum: int | None, flags: int) -> bytes:
    if maximum is None:
        return bytes([flags]) + leb.unsigned(minimum)
    return bytes([flags | 1]) + leb.unsigned(minimum) + leb.unsigned(maximum)


def _memory(kind: MemoryType) -> bytes:
    custom = kind.page_size != 65536
    encoded = _limits(kind.minimum, kind.maximum, 4 * kind.is_64 + 8 * custom)
    return encoded + leb.unsigned(kind.page_size.bit_length() - 1) if custom else encoded


def _table(kind: TableType) -> bytes:
    return kind.element.code + _limits(kind.minimum, kind.maximum, 4 * kind.is_64)


def _global(kind: GlobalType) -> bytes:
    return kind.value.code + bytes([kind.mutable])


def _function_type(kind: FuncType) -> bytes:
    params, results = ([value.code for value in values] for values in (kind.params, kind.results))
    return b"\x60" + leb.vector(params) + leb.vector(results)


def _spelled(kind: FuncType) -> str:
    params, results = (" ".join(map(str, values)) for values in (kind.params, kind.results))
    return f"(func{f' (param {params})' if params else ''}{f' (result {results})' if results else ''})"


def _body(variables: Sequence[str], code: Code) -> bytes:
    runs: list[tuple[str, int]] = []
    for kind in variables:
        if runs and runs[-1][0] == kind:
            runs[-1] = (kind, runs[-1][1] + 1)
        else:
            runs.append((kind, 1))
    encoded = leb.vector([leb.unsigned(count) + ValType.parse(kind).code for kind, count in runs])
    content = encoded + _expression(code)
    return leb.unsigned(len(content)) + content

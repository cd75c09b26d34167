"""What the functions of a random module do: small operations on one part of its state each.

An operation takes values of its parameter types and leaves values of its result types; it's exported as it is, and built
into longer functions. Addresses, indices and lengths are mostly masked so that calls succeed, near the start of a memory
or near its end (which moves as it grows), and sometimes taken as they come.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeAlias

import attrs

from replicate.binary import FUNCREF, I32, I64, FuncType, ValType
from replicate.testing.assembler import Assembler, signature
from replicate.testing.instructions import Code, const, null, op

__all__ = ["Operation", "Place", "Places", "Tools", "memory_digest"]

Place: TypeAlias = str
"""How an address or index is made from an operand: ``"low"``, ``"end"`` or ``"raw"``."""
_LEAF = signature((), ("i32",))
_UNARY = signature(("i32",), ("i32",))


@attrs.frozen
class Operation:
    """Be something a function can do; `build` makes its code from the code of each operand."""

    name: str
    params: tuple[str, ...]
    results: tuple[str, ...]
    build: Callable[[Sequence[Code]], Code]
    safe: bool = attrs.field(default=False, kw_only=True)
    """Whether it never traps."""

    @property
    def type(self) -> FuncType:
        """Give the type of the function that does this and nothing else."""
        return signature(self.params, self.results)


Places: TypeAlias = Callable[[], Place]
"""Draw how the next address or index is made."""


def _and(operand: Code, kind: str, mask: int) -> Code:
    return (*operand, const(kind, mask), op(f"{kind}.and"))


def _shifted(operand: Code, kind: str) -> Code:
    """Add something to an integer: storing zeros where zeros are changes nothing."""
    return (*operand, const(kind, 0x51), op(f"{kind}.add")) if kind in ("i32", "i64") else operand


def _plain(name: str, params: Sequence[str], results: Sequence[str], *code: Code, safe: bool = False) -> Operation:
    """Make an operation that pushes its operands in order and then runs `code`."""

    def build(operands: Sequence[Code]) -> Code:
        return (*(one for operand in operands for one in operand), *(one for part in code for one in part))

    return Operation(name, tuple(params), tuple(results), build, safe=safe)


def memory_digest(module: Assembler, memory: int) -> int:
    """Define ``(at, length) -> i64``, a hash of the bytes of a memory; it traps where they end. Give its index."""
    kind = "i64" if module.memories[memory].is_64 else "i32"
    code: Code = (
        op("block", ""),
        op("loop", ""),
        op("local.get", 1),
        op(f"{kind}.eqz"),
        op("br_if", 1),
        op("local.get", 2),
        op("local.get", 0),
        op("i64.load8_u", memory, 0),
        op("i64.xor"),
        const("i64", 0x100000001B3),
        op("i64.mul"),
        op("local.set", 2),
        *(op("local.get", 0), const(kind, 1), op(f"{kind}.add"), op("local.set", 0)),
        *(op("local.get", 1), const(kind, 1), op(f"{kind}.sub"), op("local.set", 1)),
        op("br", 0),
        op("end"),
        op("end"),
        op("local.get", 2),
    )
    return module.function(signature((kind, kind), ("i64",)), code, variables=("i64",))


@attrs.frozen
class Tools:
    """Make the operations of one module's parts. `pick` is a function ``(which) -> funcref``, None without functions."""

    module: Assembler
    place: Places
    pick: int | None
    scratch: int | None
    """A table of one element, through which a reference is called."""

    # -- memories ------------------------------------------------------------------------------------------------------

    def _memory_kind(self, memory: int) -> str:
        return "i64" if self.module.memories[memory].is_64 else "i32"

    def _bytes(self, memory: int) -> Code:
        kind, type_ = self._memory_kind(memory), self.module.memories[memory]
        shift = const(kind, type_.page_size.bit_length() - 1)
        return (op("memory.size", memory), shift, op(f"{kind}.shl"))

    def _address(self, memory: int, place: Place, operand: Code) -> Code:
        kind, type_ = self._memory_kind(memory), self.module.memories[memory]
        if place == "raw":
            return operand
        if place == "end":
            down = _and(operand, kind, 0xFF)
            return (*self._bytes(memory), *down, op(f"{kind}.sub"), const(kind, 16), op(f"{kind}.sub"))
        size = type_.minimum * type_.page_size
        # Up to 16 bytes can be read or written at what is left.
        mask = (1 << (size.bit_length() - 1)) - 16 if size > 32 else 15
        return _and(operand, kind, mask)

    def _always(self, memory: int) -> bool:
        """Tell whether a low address is always inside."""
        type_ = self.module.memories[memory]
        return type_.minimum * type_.page_size > 32

    def memory_writes(self, memory: int, stores: Iterable[str], sources: Iterable[int]) -> Iterator[Operation]:
        """Give what changes a memory: these stores, copies from these memories, growth and filling."""
        kind, name = self._memory_kind(memory), f"m{memory}"
        for store in stores:
            place, value = self.place(), store.partition(".")[0]
            yield self._store(f"{name}_{store}", memory, store, value, place)
        yield _plain(f"{name}_grow", (kind,), (kind,), _and((), kind, 3), (op("memory.grow", memory),), safe=True)
        place = self.place()
        yield Operation(
            f"{name}_fill",
            (kind, "i32", kind),
            (),
            lambda given: (
                *self._address(memory, place, given[0]),
                *_shifted(given[1], "i32"),
                *_and(given[2], kind, 0xFF),
                op("memory.fill", memory),
            ),
        )
        for source in sources:
            yield self._copy(memory, source, self.place(), self.place())

    def _store(self, name: str, memory: int, store: str, value: str, place: Place) -> Operation:
        return Operation(
            name,
            (self._memory_kind(memory), value),
            (),
            lambda given: (
                *self._address(memory, place, given[0]),
                *_shifted(given[1], value),
                op(store, memory, 0),
            ),
            safe=place == "low" and self._always(memory),
        )

    def _copy(self, memory: int, source: int, to: Place, from_: Place) -> Operation:
        kinds = self._memory_kind(memory), self._memory_kind(source)
        length = "i64" if kinds == ("i64", "i64") else "i32"
        return Operation(
            f"m{memory}_copy_m{source}",
            (*kinds, length),
            (),
            lambda given: (
                *self._address(memory, to, given[0]),
                *self._address(source, from_, given[1]),
                *_and(given[2], length, 0x1FF),
                op("memory.copy", memory, source),
            ),
        )

    def memory_reads(self, memory: int, loads: Iterable[str], digest: int) -> Iterator[Operation]:
        """Give what looks at a memory, all of it included."""
        kind, name = self._memory_kind(memory), f"m{memory}"
        for load in loads:
            yield self._load(f"{name}_{load}", memory, load, self.place())
        whole: Code = (const(kind, 0), *self._bytes(memory), op("call", digest))
        yield _plain(f"{name}_see", (), ("i64", kind), whole, (op("memory.size", memory),))

    def _load(self, name: str, memory: int, load: str, place: Place) -> Operation:
        return Operation(
            name,
            (self._memory_kind(memory),),
            (load.partition(".")[0],),
            lambda given: (*self._address(memory, place, given[0]), op(load, memory, 0)),
        )

    def memory_init(self, memory: int, segment: int) -> Operation:
        """Give the operation that copies part of a data segment into a memory."""
        kind, place = self._memory_kind(memory), self.place()
        return Operation(
            f"m{memory}_init_d{segment}",
            (kind, "i32", "i32"),
            (),
            lambda given: (
                *self._address(memory, place, given[0]),
                *_and(given[1], "i32", 3),
                *_and(given[2], "i32", 7),
                op("memory.init", memory, segment),
            ),
        )

    def segment_probe(self, kind: str, segment: int, target: int) -> Operation:
        """Give the operation that traps exactly when a segment, not empty, is gone; `target` is any memory or table."""
        if kind == "data":
            width, instruction, name = self._memory_kind(target), "memory.init", f"d{segment}"
        else:
            width, instruction, name = self._table_kind(target), "table.init", f"e{segment}"
        code = (const(width, 0), const("i32", 1), const("i32", 0), op(instruction, target, segment))
        return _plain(f"{name}_see", (), (), code)

    def segment_drop(self, kind: str, segment: int) -> Operation:
        """Give the operation that drops a segment."""
        instruction = op("data.drop" if kind == "data" else "elem.drop", segment)
        return _plain(f"{'d' if kind == 'data' else 'e'}{segment}_drop", (), (), (instruction,), safe=True)

    # -- globals -------------------------------------------------------------------------------------------------------

    def global_reads(self, index: int) -> Iterator[Operation]:
        """Give what looks at a global, every bit of it."""
        kind, get, name = self.module.globals[index].value.text, op("global.get", index), f"g{index}"
        if kind == "f32":
            yield _plain(f"{name}_see", (), ("i32",), (get, op("i32.reinterpret_f32")))
        elif kind == "f64":
            yield _plain(f"{name}_see", (), ("i64",), (get, op("i64.reinterpret_f64")))
        elif kind == "v128":
            lanes = (get, op("i64x2.extract_lane", 0), get, op("i64x2.extract_lane", 1))
            yield _plain(f"{name}_see", (), ("i64", "i64"), lanes)
        elif kind == "funcref":
            yield _plain(f"{name}_see", (), ("i32",), (get, op("ref.is_null")))
            if self.scratch is not None:
                put = (const("i32", 0), get, op("table.set", self.scratch))
                called = (const("i32", 0), op("call_indirect", self.scratch, self.module.type(_LEAF)))
                yield _plain(f"{name}_call", (), ("i32",), put, called)
        elif kind == "externref":
            yield _plain(f"{name}_see", (), ("i32",), (get, op("ref.is_null")))
        else:
            yield _plain(f"{name}_see", (), (kind,), (get,))

    def global_writes(self, index: int) -> Iterator[Operation]:
        """Give what changes a global: from bits, from a value of its type, and in place."""
        type_ = self.module.globals[index].value
        kind, name, set_ = type_.text, f"g{index}", op("global.set", index)
        get = op("global.get", index)
        if kind == "funcref":
            if self.pick is not None:
                yield _plain(f"{name}_set", ("i32",), (), (op("call", self.pick), set_), safe=True)
            return
        if kind == "externref":
            yield _plain(f"{name}_set", (), (), (null(type_), set_), safe=True)
            return
        yield _plain(f"{name}_set", (kind,), (), (set_,), safe=True)
        if kind in ("i32", "i64"):
            yield Operation(
                f"{name}_add", (kind,), (kind,), lambda given: (get, *given[0], op(f"{kind}.add"), set_, get)
            )
        elif kind in ("f32", "f64"):
            bits, quiet, exponent = ("i32", 22, 0x7F80_0001) if kind == "f32" else ("i64", 51, 0x7FF0_0000_0000_0001)
            yield _plain(f"{name}_bits", (bits,), (), (op(f"{kind}.reinterpret_{bits}"), set_), safe=True)
            signalling = (const(bits, (1 << quiet) - 1), op(f"{bits}.and"), const(bits, exponent), op(f"{bits}.or"))
            yield _plain(f"{name}_nan", (bits,), (), signalling, (op(f"{kind}.reinterpret_{bits}"), set_), safe=True)
        else:
            yield Operation(
                f"{name}_high",
                ("i64",),
                (),
                lambda given: (get, *given[0], op("i64x2.replace_lane", 1), set_),
            )

    def global_values(self, index: int) -> Iterator[Operation]:
        """Give what passes a global to the host and back as a value of its own type."""
        kind, name = self.module.globals[index].value.text, f"g{index}"
        yield _plain(f"{name}_get", (), (kind,), (op("global.get", index),))
        if self.module.globals[index].mutable and kind in ("funcref", "externref"):
            yield _plain(f"{name}_put", (kind,), (), (op("global.set", index),))

    # -- tables --------------------------------------------------------------------------------------------------------

    def _table_kind(self, table: int) -> str:
        return "i64" if self.module.tables[table].is_64 else "i32"

    def _index(self, table: int, place: Place, operand: Code) -> Code:
        kind = self._table_kind(table)
        if place == "raw":
            return operand
        if place == "end":
            down = _and(operand, kind, 1)
            return (op("table.size", table), const(kind, 1), op(f"{kind}.sub"), *down, op(f"{kind}.sub"))
        return (*operand, op("table.size", table), op(f"{kind}.rem_u"))

    def table_reads(self, table: int) -> Iterator[Operation]:
        """Give what looks at a table, every element of it."""
        kind, name = self._table_kind(table), f"t{table}"
        element = self.module.tables[table].element
        yield _plain(f"{name}_size", (), (kind,), (op("table.size", table),))
        around = (op("table.size", table), op(f"{kind}.rem_u"))
        yield _plain(f"{name}_null", (kind,), ("i32",), around, (op("table.get", table), op("ref.is_null")))
        if element.is_func:
            called = op("call_indirect", table, self.module.type(_LEAF))
            yield _plain(f"{name}_see", (kind,), ("i32",), around, (called,))
            unary, place = op("call_indirect", table, self.module.type(_UNARY)), self.place()
            yield Operation(
                f"{name}_apply",
                (kind, "i32"),
                ("i32",),
                lambda given: (*given[1], *self._index(table, place, given[0]), unary),
            )

    def table_writes(self, table: int, sources: Iterable[int]) -> Iterator[Operation]:
        """Give what changes a table: setting, filling, growing, and copying from these tables."""
        kind, name = self._table_kind(table), f"t{table}"
        element = self.module.tables[table].element
        which = ("i32",) if element.is_func and self.pick is not None else ()

        def value(operands: Sequence[Code]) -> Code:
            if not which:
                return (null(element),)
            assert self.pick is not None
            return (*operands[0], op("call", self.pick))

        places = [self.place() for _ in range(2)]
        yield Operation(
            f"{name}_set",
            (kind, *which),
            (),
            lambda given: (*self._index(table, places[0], given[0]), *value(given[1:]), op("table.set", table)),
            safe=places[0] == "low" and self.module.tables[table].minimum > 0,
        )
        yield Operation(
            f"{name}_fill",
            (kind, kind, *which),
            (),
            lambda given: (
                *self._index(table, places[1], given[0]),
                *value(given[2:]),
                *_and(given[1], kind, 3),
                op("table.fill", table),
            ),
        )
        yield Operation(
            f"{name}_grow",
            (kind, *which),
            (kind,),
            lambda given: (*value(given[1:]), *_and(given[0], kind, 3), op("table.grow", table)),
            safe=True,
        )
        for source in sources:
            yield self._table_copy(table, source, self.place(), self.place())

    def _table_copy(self, table: int, source: int, to: Place, from_: Place) -> Operation:
        kinds = self._table_kind(table), self._table_kind(source)
        length = "i64" if kinds == ("i64", "i64") else "i32"
        return Operation(
            f"t{table}_copy_t{source}",
            (*kinds, length),
            (),
            lambda given: (
                *self._index(table, to, given[0]),
                *self._index(source, from_, given[1]),
                *_and(given[2], length, 3),
                op("table.copy", table, source),
            ),
        )

    def table_init(self, table: int, segment: int) -> Operation:
        """Give the operation that copies part of an element segment into a table."""
        kind, place = self._table_kind(table), self.place()
        return Operation(
            f"t{table}_init_e{segment}",
            (kind, "i32", "i32"),
            (),
            lambda given: (
                *self._index(table, place, given[0]),
                *_and(given[1], "i32", 1),
                *_and(given[2], "i32", 3),
                op("table.init", table, segment),
            ),
        )

    def table_values(self, table: int) -> Iterator[Operation]:
        """Give what passes a table's elements to the host and back as references."""
        kind, name, element = self._table_kind(table), f"t{table}", self.module.tables[table].element.text
        place = self.place()
        yield Operation(
            f"{name}_get",
            (kind,),
            (element,),
            lambda given: (*self._index(table, place, given[0]), op("table.get", table)),
        )
        yield Operation(
            f"{name}_put",
            (kind, element),
            (),
            lambda given: (*self._index(table, "low", given[0]), *given[1], op("table.set", table)),
        )

    # -- functions -----------------------------------------------------------------------------------------------------

    def call(self, name: str, function: int) -> Operation:
        """Give the operation that calls a function."""
        kind = self.module.functions[function]
        params, results = tuple(map(str, kind.params)), tuple(map(str, kind.results))
        return _plain(name, params, results, (op("call", function),), safe=name == "host_note")

    @staticmethod
    def define_pick(module: Assembler, functions: Sequence[int]) -> int:
        """Define ``(which) -> funcref``: one of these functions, or null for an eighth of the numbers. Give its index."""
        which = (op("local.get", 0), const("i32", 7), op("i32.and"))
        code: Code = (*which, const("i32", 7), op("i32.eq"), op("if", ""), null(FUNCREF), op("return"), op("end"))
        for at, function in enumerate(functions[1:], 1):
            test = (*which, const("i32", len(functions)), op("i32.rem_u"), const("i32", at), op("i32.eq"))
            code += (*test, op("if", ""), op("ref.func", function), op("return"), op("end"))
        return module.function(FuncType((I32,), (FUNCREF,)), (*code, op("ref.func", functions[0])))

    def widen(self, kind: ValType) -> Code:
        """Turn a value on the stack into an i64, for hashing."""
        if kind == I64:
            return ()
        return {
            "i32": (op("i64.extend_i32_u"),),
            "f32": (op("i32.reinterpret_f32"), op("i64.extend_i32_u")),
            "f64": (op("i64.reinterpret_f64"),),
            "v128": (op("i64x2.extract_lane", 1),),
        }.get(kind.text, (op("ref.is_null"), op("i64.extend_i32_u")))

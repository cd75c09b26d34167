"""Random valid modules, full of state: `modules` draws them, `GeneratedModule` is one."""

from __future__ import annotations

import enum
import functools
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import attrs
from hypothesis import strategies as st

from replicate.binary import EXTERNREF, FUNCREF, PAGE_SIZE, V128, FuncType, GlobalType, MemoryType, TableType, ValType
from replicate.imports import HostFunction, HostGlobal
from replicate.interfaces import EngineTraits
from replicate.testing.assembler import Assembler, signature
from replicate.testing.instructions import Code, Instruction, const, null, op
from replicate.testing.operations import Operation, Place, Tools, memory_digest
from replicate.testing.random_calls import Call, boundaries

__all__ = ["Feature", "GeneratedModule", "HostRefusal", "features_of", "generate", "host_functions", "modules"]

_T = TypeVar("_T")


class Feature(enum.Flag):
    """Name what a random module may use beyond WebAssembly 2.0, which every engine has to have."""

    NONE = 0
    MULTI_MEMORY = enum.auto()
    MEMORY64 = enum.auto()
    """64-bit memories and tables."""
    EXTENDED_CONST = enum.auto()
    TAIL_CALLS = enum.auto()
    TABLE_INITIALIZERS = enum.auto()
    """Tables that start with a function in every element (typed function references)."""
    REFERENCE_VALUES = enum.auto()
    """References as arguments and results of exports and imports."""
    CUSTOM_PAGE_SIZES = enum.auto()
    """Memories counted in bytes."""
    ALL = (
        MULTI_MEMORY
        | MEMORY64
        | EXTENDED_CONST
        | TAIL_CALLS
        | TABLE_INITIALIZERS
        | REFERENCE_VALUES
        | CUSTOM_PAGE_SIZES
    )


def features_of(traits: EngineTraits) -> Feature:
    """Give what an engine with these traits can run. No trait promises custom page sizes: ask for them explicitly."""
    claims = {
        Feature.MULTI_MEMORY: traits.multi_memory,
        Feature.MEMORY64: traits.memory64,
        Feature.EXTENDED_CONST: traits.extended_const,
        Feature.TAIL_CALLS: traits.tail_calls,
        Feature.TABLE_INITIALIZERS: traits.gc,
        Feature.REFERENCE_VALUES: traits.reference_values,
    }
    return functools.reduce(lambda all_, one: all_ | one, (one for one, has in claims.items() if has), Feature.NONE)


class HostRefusal(Exception):
    """Be raised by a random module's host function, to end the guest's call."""


def _mix(value: int) -> int:
    mixed = value * 0x9E3779B97F4A7C15 + 1 & 2**64 - 1
    return mixed - 2**64 if mixed >> 63 else mixed


def _note(guest: Any, value: int) -> int:
    notes = guest.state.setdefault("notes", {"count": 0, "last": []})
    notes["count"] += 1
    notes["last"] = [*notes["last"][-2:], value]
    return int(notes["count"])


def _back(guest: Any, value: int) -> int:
    return int(guest.call("inner", value))


def _fail(value: int) -> None:
    if value & 3 == 0:
        raise HostRefusal(f"the host refuses {value}")


_HOST_TYPES = {
    "leaf": signature((), ("i32",)),
    "mix": signature(("i64",), ("i64",)),
    "note": signature(("i32",), ("i32",)),
    "back": signature(("i32",), ("i32",)),
    "fail": signature(("i32",), ()),
    "pair": signature(("f32", "f64"), ("f64", "f32")),
    "same": signature(("funcref",), ("funcref",)),
}


def host_functions() -> dict[str, Any]:
    """Give the host functions that random modules import from ``"host"``.

    All are deterministic. ``note`` keeps a nested value in the guest's `state`, ``back`` calls the export ``inner``,
    ``fail`` raises `HostRefusal` for every fourth argument.
    """
    return {
        "leaf": lambda: 1000,
        "mix": _mix,
        "note": HostFunction(_note, caller=True),
        "back": HostFunction(_back, caller=True),
        "fail": _fail,
        "pair": lambda single, double: (double, single),
        "same": lambda reference: reference,
    }


@attrs.frozen
class GeneratedModule:
    """Be a random module in both formats, with what it takes to run it."""

    wasm: bytes = attrs.field(repr=False)
    observers: tuple[Call, ...] = attrs.field(repr=False)
    """Calls whose results, together, depend on everything the module can change."""
    given: dict[str, Any] = attrs.field(repr=False)
    """The values of imported globals, by name."""
    choices: tuple[int, ...] = attrs.field(default=(), repr=False)
    """What `generate` decided; empty for a module drawn by Hypothesis."""

    _assembler: Assembler = attrs.field(kw_only=True, eq=False, repr=False)

    @property
    def wat(self) -> str:
        """The module in the text format."""
        return self._assembler.text()

    def imports(self) -> dict[str, dict[str, Any]]:
        """Give the module's imports, made afresh."""
        return {"host": {**host_functions(), **self.given}}

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        # Hypothesis, like IPython, would spell out the fields otherwise.
        printer.text(repr(self))

    def __repr__(self) -> str:
        # What a failing property prints: the module can be read, and pasted.
        return f"<GeneratedModule of {len(self.wasm)} bytes:\n{self.wat}>"


@functools.cache
def _below(limit: int) -> st.SearchStrategy[int]:
    return st.integers(0, limit - 1)


_STORES = ("i32.store8", "i64.store", "i32.store", "v128.store", "f32.store", "f64.store", "i32.store16", "i64.store32")
_LOADS = ("i32.load8_u", "i64.load", "i32.load", "v128.load", "f32.load", "f64.load", "i32.load16_s")
_GLOBAL_KINDS = ("i32", "f32", "funcref", "v128", "f64", "i64", "funcref", "f32", "v128", "f64", "i64", "externref")
_PLACES: tuple[Place, ...] = ("low", "end", "low", "end", "raw")
_SLOTS_SEEN = 10


class _Draft:
    """Make one module's decisions, and the module with them."""

    def __init__(self, below: Callable[[int], int], features: Feature) -> None:
        self.below = below
        self.features = features
        self.module = Assembler()
        self.given: dict[str, Any] = {}
        self.frozen: set[tuple[str, int]] = set()
        self.leaves: list[int] = []
        self.host: dict[str, int] = {}
        self.passive_data: list[int] = []
        self.passive_elements: list[tuple[int, ValType]] = []
        self.operations: list[Operation] = []
        self.observed: list[Operation] = []

    # -- drawing -------------------------------------------------------------------------------------------------------

    def chance(self, one_in: int) -> bool:
        """Draw True once in so many times; shrinks to False."""
        return self.below(one_in) == one_in - 1

    def mostly(self, one_in: int) -> bool:
        """Draw False once in so many times; shrinks to True."""
        return self.below(one_in) != one_in - 1

    def pick(self, items: Sequence[_T]) -> _T:
        return items[self.below(len(items))]

    def pick_some(self, items: Sequence[_T], most: int) -> list[_T]:
        """Draw at least one and at most so many, all different."""
        if not items:
            return []
        first = self.below(len(items))
        count = 1 + self.below(min(most, len(items)))
        return [items[(first + at) % len(items)] for at in range(count)]

    def has(self, feature: Feature) -> bool:
        return feature in self.features

    def place(self) -> Place:
        return self.pick(_PLACES)

    def constant(self, kind: str) -> Instruction:
        known = boundaries(kind)
        return const(kind, self.pick(known))

    # -- state ---------------------------------------------------------------------------------------------------------

    def make(self) -> GeneratedModule:
        module = self.module
        self.draw_imported_functions()
        self.draw_memories()
        self.draw_leaf_types()
        self.draw_tables()
        self.draw_globals()
        self.define_leaves()
        self.draw_segments()
        functions = self.targets()
        pick = Tools.define_pick(module, functions)
        tools = Tools(module, self.place, pick, self.scratch)
        self.draw_operations(tools)
        self.draw_long_functions(tools)
        return GeneratedModule(module.binary(), self.observers(), self.given, assembler=module)

    def draw_imported_functions(self) -> None:
        names = [name for name in _HOST_TYPES if name != "same" or self.has(Feature.REFERENCE_VALUES)]
        for name in names:
            if self.chance(2 if name == "leaf" else 3):
                self.host[name] = self.module.import_function("host", name, _HOST_TYPES[name])

    def imported_first(self, count: int) -> Iterable[bool]:
        imported = sum(self.chance(4) for _ in range(count))
        return [True] * imported + [False] * (count - imported)

    def show(self, kind: str, index: int) -> None:
        """Export a part of the state, or keep it hidden."""
        if self.chance(3):
            name = "memory" if kind == "memory" and index == 0 else f"{kind}{index}"
            self.module.export(name, kind, index)

    def freeze(self, kind: str, index: int) -> None:
        """Leave a part of the state to constant content: no function of the module will change it."""
        if self.chance(7):
            self.frozen.add((kind, index))

    def draw_memories(self) -> None:
        count = self.pick((1, 2, 3, 2, 0)) if self.has(Feature.MULTI_MEMORY) else self.pick((1, 1, 1, 0))
        for imported in self.imported_first(count):
            is_64 = self.has(Feature.MEMORY64) and self.chance(3)
            page = 1 if self.has(Feature.CUSTOM_PAGE_SIZES) and self.chance(8) else PAGE_SIZE
            if page == 1:
                minimum = self.pick((4096, 100, 0, 4097, 9000))
                kind = MemoryType(minimum, self.pick((minimum + 5, 20000)), is_64, page_size=1)
            else:
                minimum = self.pick((1, 1, 2, 0))
                kind = MemoryType(minimum, self.pick((minimum + 3, None, minimum, minimum + 1)), is_64)
            if imported:
                index = self.module.import_memory("host", f"memory{len(self.module.memories)}", kind)
            else:
                index = self.module.memory(kind)
            self.show("memory", index)
            self.freeze("memory", index)

    def draw_leaf_types(self) -> None:
        """Decide on the functions that tables and reference globals are about; their bodies come later."""
        count = 1 + self.below(3)
        self.leaf_types = [
            _HOST_TYPES["leaf"] if self.mostly(4) else signature(("i32",), ("i32",)) for _ in range(count)
        ]
        first = len(self.module.functions)
        self.leaves = list(range(first, first + count))

    def draw_tables(self) -> None:
        for imported in self.imported_first(self.pick((1, 2, 0, 3, 1, 2))):
            element = EXTERNREF if self.chance(8) else FUNCREF
            minimum = self.pick((3, 1, 4, 2, 5, 0))
            is_64 = self.has(Feature.MEMORY64) and self.chance(4)
            kind = TableType(element, minimum, self.pick((minimum + 6, None, minimum, minimum + 2)), is_64)
            initial: Code = ()
            if element is FUNCREF and self.has(Feature.TABLE_INITIALIZERS) and self.chance(4):
                initial = (op("ref.func", self.pick(self.leaves)),)
            if imported:
                index = self.module.import_table("host", f"table{len(self.module.tables)}", kind)
            else:
                index = self.module.table(kind, initial=initial)
            self.show("table", index)
            self.freeze("table", index)
        self.state_tables = len(self.module.tables)
        self.scratch = self.module.table(TableType(FUNCREF, 1, 1)) if self.chance(2) else None

    def draw_globals(self) -> None:
        module = self.module
        for imported in self.imported_first(self.pick((3, 2, 4, 6, 1, 5, 0))):
            kind = self.pick(_GLOBAL_KINDS)
            type_ = GlobalType(ValType.parse(kind), mutable=self.mostly(6))
            if imported:
                index = module.import_global("host", f"global{len(module.globals)}", type_)
                self.given[f"global{index}"] = HostGlobal(self.host_value(kind))
            else:
                index = module.global_(type_, self.initial(kind, type_))
            self.show("global", index)
            self.freeze("global", index)
        # The scan has to see that what `inner` and unary leaves count is state.
        self.counter = module.global_(GlobalType(ValType.parse("i32"), mutable=True), (const("i32", 0),))

    def host_value(self, kind: str) -> Any:
        if kind in ("funcref", "externref"):
            return None
        if kind in ("f32", "f64"):
            return self.pick((0.0, -0.5, float("nan"), float("-inf")))
        return self.pick((0, 1, 2**31, 2**32 - 1))

    def initial(self, kind: str, type_: GlobalType) -> Code:
        if kind == "externref" or (kind == "funcref" and self.chance(2)):
            return (null(type_.value),)
        if kind == "funcref":
            return (op("ref.func", self.pick(self.leaves)),)
        same = [at for at, other in enumerate(self.module.globals) if other.value == type_.value and not other.mutable]
        constant_imports = [at for at in same if f"global{at}" in self.given]
        if constant_imports and self.chance(2):
            return (op("global.get", self.pick(constant_imports)),)
        if kind in ("i32", "i64") and self.has(Feature.EXTENDED_CONST) and self.chance(3):
            return (self.constant(kind), const(kind, 3), op(f"{kind}.add"))
        return (self.constant(kind),)

    def define_leaves(self) -> None:
        """Define what tables and reference globals refer to: functions that can be told apart by calling them."""
        module = self.module
        for number, kind in enumerate(self.leaf_types):
            if not kind.params:
                counted: Code = (op("global.get", self.counter), const("i32", 1), op("i32.add"))
                counts = self.chance(5)
                code = (*counted, op("global.set", self.counter)) if counts else ()
                module.function(kind, (*code, const("i32", 100 + number)))
            else:
                module.function(kind, (op("local.get", 0), const("i32", 3 + number), op("i32.mul")))

    def draw_segments(self) -> None:
        module = self.module
        for _ in range(self.below(4)):
            content = bytes([0x41 + self.below(20)]) * (1 + self.below(6))
            memory = self.below(len(module.memories)) if module.memories else None
            if memory is not None and self.chance(3):
                type_ = module.memories[memory]
                if type_.minimum * type_.page_size >= 64:
                    offset = const("i64" if type_.is_64 else "i32", self.pick((0, 8, 40)))
                    module.data(content, memory=memory, offset=(offset,))
                    continue
            self.passive_data.append(module.data(content))
        functions = self.targets()
        for _ in range(self.below(4)):
            kind = EXTERNREF if self.chance(8) else FUNCREF
            items = [self.reference(kind, functions) for _ in range(1 + self.below(3))]
            fitting = [
                at
                for at in range(self.state_tables)
                if module.tables[at].element == kind and module.tables[at].minimum >= len(items)
            ]
            if fitting and self.chance(2):
                table = self.pick(fitting)
                zero = const("i64" if module.tables[table].is_64 else "i32", 0)
                module.elements(kind, items, table=table, offset=(zero,))
            else:
                self.passive_elements.append((module.elements(kind, items), kind))
        module.elements(FUNCREF, [(op("ref.func", function),) for function in functions], declared=True)

    def targets(self) -> list[int]:
        """List the functions that references are made to."""
        return [*([self.host["leaf"]] if "leaf" in self.host else []), *self.leaves]

    def reference(self, kind: ValType, functions: Sequence[int]) -> Code:
        if kind is EXTERNREF or self.chance(4):
            return (null(kind),)
        return (op("ref.func", self.pick(functions)),)

    # -- functions -----------------------------------------------------------------------------------------------------

    def draw_operations(self, tools: Tools) -> None:
        """Draw what can be done to each part, and export most of it."""
        module = self.module
        for memory in range(len(module.memories)):
            digest = memory_digest(module, memory)
            self.observed += self.export_all(tools.memory_reads(memory, self.pick_some(_LOADS, 2), digest))
            if ("memory", memory) not in self.frozen:
                sources = self.pick_some(range(len(module.memories)), 1)
                self.export_some(tools.memory_writes(memory, self.pick_some(_STORES, 3), sources))
                self.export_some(tools.memory_init(memory, at) for at in self.pick_some(self.passive_data, 2))
        for index, kind in enumerate(module.globals):
            self.observed += self.export_all(tools.global_reads(index))
            passes = kind.value != V128 and (kind.value.is_number or self.has(Feature.REFERENCE_VALUES))
            if passes and self.chance(3):
                self.export_all(tools.global_values(index))
            if kind.mutable and ("global", index) not in self.frozen:
                self.export_some(tools.global_writes(index))
        for table in range(self.state_tables):
            self.observed += self.export_all(tools.table_reads(table))
            element = module.tables[table].element
            if self.has(Feature.REFERENCE_VALUES) and self.chance(3):
                self.export_all(tools.table_values(table))
            if ("table", table) not in self.frozen:
                same = [at for at in range(self.state_tables) if module.tables[at].element == element]
                self.export_some(tools.table_writes(table, self.pick_some(same, 1)))
                segments = [at for at, kind in self.passive_elements if kind == element]
                self.export_some(tools.table_init(table, at) for at in self.pick_some(segments, 2))
        self.draw_drops(tools)
        for name, function in self.host.items():
            self.export_all([tools.call(f"host_{name}", function)])

    def draw_drops(self, tools: Tools) -> None:
        module = self.module
        for at in self.passive_data:
            if module.memories and self.mostly(4):
                self.observed += self.export_all([tools.segment_probe("data", at, 0)])
                self.export_all([tools.segment_drop("data", at)])
        for at, kind in self.passive_elements:
            targets = [table for table in range(self.state_tables) if module.tables[table].element == kind]
            if targets and self.mostly(4):
                self.observed += self.export_all([tools.segment_probe("element", at, targets[0])])
                self.export_all([tools.segment_drop("element", at)])

    def export_all(self, operations: Iterable[Operation]) -> list[Operation]:
        return [self.export(operation) for operation in operations]

    def export_some(self, operations: Iterable[Operation]) -> None:
        for operation in operations:
            if self.mostly(5):
                self.export(operation)

    def export(self, operation: Operation) -> Operation:
        if operation.name in self.module.exported:
            operation = attrs.evolve(operation, name=f"{operation.name}_")
        code = operation.build([(op("local.get", at),) for at in range(len(operation.params))])
        self.module.function(operation.type, code, export=operation.name)
        self.operations.append(operation)
        return operation

    def draw_long_functions(self, tools: Tools) -> None:
        """Make functions of several operations, one that the host calls back, and a start function."""
        module = self.module
        counted: Code = (op("global.get", self.counter), op("local.get", 0), op("i32.add"))
        inner = (*counted, op("global.set", self.counter), op("global.get", self.counter))
        module.function(signature(("i32",), ("i32",)), inner, export="inner")
        if not self.operations:
            return
        kind = signature(("i32", "i64"), ("i64",))
        for number in range(1 + self.below(4)):
            code = self.sequence(tools, 1 + self.below(5), traps=True)
            function = module.function(kind, code, variables=("i64",), export=f"long{number}")
            if self.has(Feature.TAIL_CALLS) and self.chance(4):
                passed = (op("local.get", 0), op("local.get", 1), op("return_call", function))
                module.function(kind, passed, export=f"tail{number}")
        if self.chance(3):
            # A start function takes nothing: its parameters are variables here, and zero.
            code = (*self.sequence(tools, 1 + self.below(3), traps=False), op("drop"))
            module.start(module.function(FuncType((), ()), code, variables=("i32", "i64", "i64")))

    def sequence(self, tools: Tools, length: int, *, traps: bool) -> Code:
        """Make code that does several operations with locals 0 (i32) and 1 (i64), hashing their results in local 2."""
        code: Code = ()
        safe = self.operations if traps else [one for one in self.operations if one.safe]
        for _ in range(length if safe else 0):
            operation = self.pick(safe)
            code += operation.build([self.operand(kind) for kind in operation.params])
            for kind in reversed(operation.type.results):
                rotated = (op("local.get", 2), const("i64", 7), op("i64.rotl"), op("i64.add"), op("local.set", 2))
                code += (*tools.widen(kind), *rotated)
            if traps and self.chance(4):
                test = (op("local.get", 0), const("i32", 3), op("i32.and"), const("i32", self.below(4)), op("i32.eq"))
                code += (*test, op("if", ""), op("unreachable"), op("end"))
        return (*code, op("local.get", 2))

    def operand(self, kind: str) -> Code:
        if kind in ("i32", "i64"):
            choice = self.below(4)
            if choice == 0:
                return (op("local.get", 0),) if kind == "i32" else (op("local.get", 1),)
            if choice == 1:
                return (
                    (op("local.get", 1), op("i32.wrap_i64"))
                    if kind == "i32"
                    else (op("local.get", 0), op("i64.extend_i32_s"))
                )
        same = [at for at, type_ in enumerate(self.module.globals) if type_.value.text == kind]
        if same and self.chance(2):
            return (op("global.get", self.pick(same)),)
        if kind in ("funcref", "externref"):
            return (null(ValType.parse(kind)),)
        return (self.constant(kind),)

    def observers(self) -> tuple[Call, ...]:
        found = []
        for operation in self.observed:
            if operation.name.endswith(("_see", "_size", "_call")) and not operation.params:
                found.append(Call(operation.name))
            elif operation.name.endswith(("_see", "_null")) and len(operation.params) == 1:
                found += [Call(operation.name, at) for at in range(_SLOTS_SEEN)]
        return tuple(found)


@st.composite
def modules(draw: st.DrawFn, *, features: Feature = Feature.ALL) -> GeneratedModule:
    """Draw a valid module, with state of every kind that `features` allow.

    Memories, globals and tables, imported, exported and hidden, that never change and that do; passive and active
    segments; a start function; host functions that end up in tables, call back or fail; exports that read and change all
    of it, one thing at a time or several in a row with a trap in between. `features_of` fits `features` to an engine.

    Hazard: most of what Hypothesis draws are variations of examples it has drawn before, some five of each. To try many
    modules that have nothing to do with each other, use `generate` with many seeds.
    """
    return _Draft(lambda limit: draw(_below(limit)), features).make()


def generate(choices: int | Sequence[int], *, features: Feature = Feature.ALL) -> GeneratedModule:
    """Make a module like those of `modules` from a seed, or from `GeneratedModule.choices`, changed or not.

    Any choices make a module; where they run out the simplest are made.
    """
    made: list[int] = []
    if isinstance(choices, int):
        rng = random.Random(choices)
        following: Iterator[int] = iter(lambda: rng.getrandbits(30), None)
    else:
        following = iter(choices)

    def below(limit: int) -> int:
        made.append(next(following, 0) % limit)
        return made[-1]

    return attrs.evolve(_Draft(below, features).make(), choices=tuple(made))

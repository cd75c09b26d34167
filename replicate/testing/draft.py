"""How a random module comes about: one decision after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import attrs

from replicate.binary import EXTERNREF, FUNCREF, PAGE_SIZE, V128, FuncType, GlobalType, MemoryType, TableType, ValType
from replicate.imports import HostGlobal
from replicate.testing.assembler import Assembler, signature
from replicate.testing.features import Feature
from replicate.testing.instructions import Code, Instruction, const, null, op
from replicate.testing.operations import Operation, Place, Tools, memory_digest
from replicate.testing.random_calls import Call, boundaries
from replicate.testing.random_host import HOST_TYPES

__all__ = ["Draft"]

_T = TypeVar("_T")

_STORES = ("i32.store8", "i64.store", "i32.store", "v128.store", "f32.store", "f64.store", "i32.store16", "i64.store32")
_LOADS = ("i32.load8_u", "i64.load", "i32.load", "v128.load", "f32.load", "f64.load", "i32.load16_s")
_GLOBAL_KINDS = ("i32", "f32", "funcref", "v128", "f64", "i64", "funcref", "f32", "v128", "f64", "i64", "externref")
_PLACES: tuple[Place, ...] = ("low", "end", "low", "end", "raw")
_SLOTS_SEEN = 10


class Draft:
    """Make one module's decisions, each a number below a limit, and the module with them."""

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

    def make(self) -> None:
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

    def draw_imported_functions(self) -> None:
        names = [name for name in HOST_TYPES if name != "same" or self.has(Feature.REFERENCE_VALUES)]
        for name in names:
            if self.chance(2 if name == "leaf" else 3):
                self.host[name] = self.module.import_function("host", name, HOST_TYPES[name])

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
            HOST_TYPES["leaf"] if self.mostly(4) else signature(("i32",), ("i32",)) for _ in range(count)
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
            kind = EXTERNREF if self.has(Feature.EXTERN_ELEMENTS) and self.chance(8) else FUNCREF
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

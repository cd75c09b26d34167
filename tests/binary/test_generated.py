"""Modules made at random, of which the test knows all that the reader, the scanner and the rewriter have to find out."""

from __future__ import annotations

from typing import TypeAlias, TypeVar

import attrs
import wasmtime
from hypothesis import given, settings
from hypothesis import strategies as st

from replicate.binary import GlobalType, MemoryType, SegmentSlot, TableType, ValType, prepare, read_module

from .support import Running, assemble, engine

Draw: TypeAlias = st.DrawFn
T = TypeVar("T")

ZERO = {
    "i32": "i32.const 0",
    "i64": "i64.const 0",
    "f32": "f32.const 0",
    "f64": "f64.const 0",
    "v128": "v128.const i64x2 0 0",
    "funcref": "ref.null func",
    "externref": "ref.null extern",
}
REFERENCES = ("funcref", "externref")
FILLER = ("(drop (i32.const 36))", "(block (br_table 0 0 (i32.const 1)))", "(drop (f64.const 0x1.2424d2fcp3))", "nop")


@attrs.define(eq=False)
class Model:
    """A module in the making: its text, and what ought to be found in it."""

    imports: list[str] = attrs.field(factory=list)
    fields: list[str] = attrs.field(factory=list)
    code: list[list[str]] = attrs.field(factory=list)
    functions: int = 0
    memories: list[MemoryType] = attrs.field(factory=list)
    tables: list[TableType] = attrs.field(factory=list)
    globals: list[GlobalType] = attrs.field(factory=list)
    data: list[tuple[str, int]] = attrs.field(factory=list)
    elements: list[tuple[str, str, int]] = attrs.field(factory=list)
    exports: list[tuple[str, str, int]] = attrs.field(factory=list)
    start: int | None = None
    facts: dict[str, set[int]] = attrs.field(factory=dict)

    def note(self, fact: str, index: int) -> None:
        self.facts.setdefault(fact, set()).add(index)

    def fact(self, name: str) -> set[int]:
        return self.facts.get(name, set())

    @property
    def wat(self) -> str:
        bodies = [f"(func $f{index} {' '.join(code)})" for index, code in enumerate(self.code, self.imported_functions)]
        return "(module\n" + "\n".join([*self.imports, *self.fields, *bodies]) + ")"

    @property
    def imported_functions(self) -> int:
        return self.functions - len(self.code)


def define_spaces(draw: Draw, model: Model) -> None:
    for imported in (True, False):
        # imports come first in every index space
        if imported and not draw(st.booleans()):
            continue
        for _ in range(draw(st.integers(0, 2))):
            is_64, minimum = draw(st.booleans()), draw(st.integers(0, 3))
            maximum = draw(st.none() | st.integers(minimum, 9))
            memory = MemoryType(minimum, maximum, is_64)
            add(model, model.memories, "memory", memory, str(memory)[len("(memory ") : -1], imported)
        for _ in range(draw(st.integers(0, 2))):
            element, minimum = draw(st.sampled_from(REFERENCES)), draw(st.integers(1, 3))
            maximum = draw(st.none() | st.integers(minimum, 9))
            table = TableType(ValType.parse(element), minimum, maximum)
            add(model, model.tables, "table", table, str(table)[len("(table ") : -1], imported)
        for _ in range(draw(st.integers(0, 3))):
            value, mutable = draw(st.sampled_from(sorted(ZERO))), draw(st.booleans())
            text = f"(mut {value})" if mutable else value
            initial = "" if imported else f" ({ZERO[value]})"
            add(model, model.globals, "global", GlobalType(ValType.parse(value), mutable), text + initial, imported)


def add(model: Model, space: list[T], kind: str, type_: T, text: str, imported: bool) -> None:
    if imported:
        model.imports.append(f'(import "host" "{kind}{len(space)}" ({kind} {text}))')
    else:
        model.fields.append(f"({kind} {text})")
    space.append(type_)


def define_segments(draw: Draw, model: Model) -> None:
    for _ in range(draw(st.integers(0, 3))):
        length = draw(st.integers(0, 3))
        model.data.append(("passive", length))
        model.fields.append(f'(data "{"x" * length}")')
    has_active = draw(st.booleans())
    if model.memories and has_active:
        constant = "i64.const 0" if model.memories[0].is_64 else "i32.const 0"
        model.data.append(("active", 0))
        model.fields.append(f'(data ({constant}) "")')
    for _ in range(draw(st.integers(0, 3))):
        functions = draw(st.lists(st.integers(0, model.functions - 1), max_size=3))
        mode = draw(st.sampled_from(["passive", "declarative"]))
        for function in functions:
            model.note("functions_referenced", function)
        model.elements.append((mode, "funcref", len(functions)))
        keyword = "declare " if mode == "declarative" else ""
        if draw(st.booleans()):
            model.fields.append(f"(elem {keyword}func {' '.join(map(str, functions))})")
        else:
            items = " ".join(f"(ref.func {function})" for function in functions)
            model.fields.append(f"(elem {keyword}funcref {items})")
    if draw(st.booleans()):
        model.elements.append(("passive", "externref", 2))
        model.fields.append("(elem externref (ref.null extern) (ref.null extern))")


def possible_effects(model: Model) -> list[tuple[str, int, str]]:
    """Return code, with the fact and the index that it adds to it."""
    found = []
    for index, type_ in enumerate(model.globals):
        if type_.mutable:
            found.append(("globals_set", index, f"(global.set {index} ({ZERO[str(type_.value)]}))"))
    for index, table in enumerate(model.tables):
        null = f"({ZERO[str(table.element)]})"
        found += [
            ("tables_written", index, f"(table.set {index} (i32.const 0) {null})"),
            ("tables_written", index, f"(table.fill {index} (i32.const 0) {null} (i32.const 0))"),
            ("tables_written", index, f"(drop (table.grow {index} {null} (i32.const 0)))"),
            ("tables_written", index, f"(table.copy {index} {index} (i32.const 0) (i32.const 0) (i32.const 0))"),
        ]
    for index, memory in enumerate(model.memories):
        zero = ZERO["i64" if memory.is_64 else "i32"]
        found.append(("memories_grown", index, f"(drop (memory.grow {index} ({zero})))"))
    found += [("data_dropped", index, f"(data.drop {index})") for index in range(len(model.data))]
    found += [("elements_dropped", index, f"(elem.drop {index})") for index in range(len(model.elements))]
    referenced = sorted(model.fact("functions_referenced"))
    return found + [("functions_referenced", index, f"(drop (ref.func {index}))") for index in referenced]


def write_code(draw: Draw, model: Model, code: list[str]) -> None:
    effects = possible_effects(model)
    for _ in range(draw(st.integers(0, 6))):
        changes = draw(st.booleans())
        if effects and changes:
            fact, index, text = draw(st.sampled_from(effects))
            model.note(fact, index)
            code.append(text)
        else:
            code.append(draw(st.sampled_from(FILLER)))


def define_exports(draw: Draw, model: Model) -> None:
    spaces = {
        "func": model.functions,
        "memory": len(model.memories),
        "table": len(model.tables),
        "global": len(model.globals),
    }
    for kind, size in spaces.items():
        for index in range(size):
            if draw(st.integers(0, 3)) == 0:
                name = draw(st.sampled_from(["", "replicate:", "replicate0:", "é"])) + f"{kind}{index}"
                model.exports.append((name, kind, index))
                model.fields.append(f'(export "{name}" ({kind} {index}))')
    if draw(st.booleans()):
        model.start = draw(st.integers(0, model.functions - 1))
        model.fields.append(f"(start {model.start})")


@st.composite
def modules(draw: Draw) -> Model:
    model = Model()
    imported = draw(st.integers(0, 2)) if draw(st.booleans()) else 0
    model.imports += [f'(import "host" "f{index}" (func))' for index in range(imported)]
    model.code = [[] for _ in range(draw(st.integers(1, 4)))]
    model.functions = imported + len(model.code)
    define_spaces(draw, model)
    define_segments(draw, model)
    for code in model.code:
        write_code(draw, model, code)
    define_exports(draw, model)
    return model


@settings(deadline=None)
@given(modules())
def test_the_reader_finds_what_the_module_was_made_of(model: Model) -> None:
    info = read_module(assemble(model.wat))

    assert list(info.memories) == model.memories
    assert list(info.tables) == model.tables
    assert list(info.globals) == model.globals
    assert len(info.functions) == model.functions
    assert info.imported_functions == model.imported_functions
    assert [(each.mode, each.length) for each in info.data] == model.data
    assert [(each.mode, str(each.type), each.length) for each in info.elements] == model.elements
    assert [(each.name, each.kind, each.index) for each in info.exports] == model.exports
    assert info.start == model.start


@settings(deadline=None)
@given(modules())
def test_the_scanner_finds_the_effects_that_were_put_in(model: Model) -> None:
    effects = prepare(assemble(model.wat)).effects

    for fact in ("globals_set", "tables_written", "memories_grown", "data_dropped", "elements_dropped"):
        assert getattr(effects, fact) == model.fact(fact), fact
    assert effects.functions_referenced == model.fact("functions_referenced")
    assert not effects.objects_mutated


@settings(deadline=None)
@given(modules())
def test_the_rewritten_module_is_valid_and_keeps_its_imports_and_exports(model: Model) -> None:
    wasm = assemble(model.wat)
    wasmtime.Module.validate(engine(), wasm)
    prepared = prepare(wasm)
    after = read_module(prepared.wasm)

    wasmtime.Module.validate(engine(), prepared.wasm)
    assert after.imports == prepared.info.imports
    assert after.exports[: len(model.exports)] == prepared.info.exports
    assert not any(each.name.startswith(prepared.plan.prefix) for each in prepared.info.exports)
    assert len({each.name for each in after.exports}) == len(after.exports)
    assert after.start is None


@settings(deadline=None)
@given(modules())
def test_the_plan_holds_all_that_the_code_or_the_host_can_change(model: Model) -> None:
    plan = prepare(assemble(model.wat)).plan
    slots = {slot.index for slot in plan.globals}
    visible = {(kind, index) for _, kind, index in model.exports}

    assert [slot.index for slot in plan.memories] == list(range(len(model.memories)))
    assert slots >= model.fact("globals_set")
    assert slots >= {index for kind, index in visible if kind == "global" and model.globals[index].mutable}
    assert all(model.globals[index].mutable for index in slots)
    assert {slot.index for slot in plan.tables if slot.changes} == model.fact("tables_written")
    assert {slot.index for slot in plan.tables if slot.exposed} >= {index for kind, index in visible if kind == "table"}
    assert [(slot.kind, slot.index) for slot in plan.segments] == [
        *(("data", index) for index in sorted(model.fact("data_dropped")) if model.data[index][1]),
        *(
            ("element", index)
            for index in sorted(model.fact("elements_dropped"))
            if model.elements[index][0] == "passive" and model.elements[index][2]
        ),
    ]


@settings(max_examples=50, deadline=None)
@given(modules().filter(lambda model: not model.imports), st.data())
def test_probes_tell_which_segments_have_been_dropped(model: Model, data: st.DataObject) -> None:
    prepared = prepare(assemble(model.wat))
    slots = prepared.plan.segments
    guest = Running(prepared.wasm)
    choices: st.SearchStrategy[set[SegmentSlot]] = st.sets(st.sampled_from(slots)) if slots else st.just(set())
    dropped = data.draw(choices)

    for slot in dropped:
        guest.call(slot.drop)
    assert {slot for slot in slots if guest.traps(slot.probe)} == dropped

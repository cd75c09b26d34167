from __future__ import annotations

import pickle

import pytest
import wasmtime

from replicate.binary import (
    FUNCREF,
    I32,
    GlobalSlot,
    GlobalType,
    MemorySlot,
    MemoryType,
    Prepared,
    TableSlot,
    TableType,
    prepare,
    read_module,
)

from .support import Running, assemble, engine


def prepared(wat: str) -> Prepared:
    return prepare(assemble(f"(module {wat})"))


# -- what the plan lists -----------------------------------------------------------------------------------------------


def test_every_memory_has_a_slot_the_imported_and_the_exported_too() -> None:
    plan = prepared('(import "a" "m" (memory 1)) (memory $hidden 2 3) (memory (export "m") 4)').plan

    assert plan.memories == (
        MemorySlot(0, "replicate:memory:0", MemoryType(1), None),
        MemorySlot(1, "replicate:memory:1", MemoryType(2, 3), "hidden"),
        MemorySlot(2, "replicate:memory:2", MemoryType(4), "m"),
    )


def test_every_mutable_global_has_a_slot_and_no_constant_has() -> None:
    plan = prepared(
        """(import "a" "g" (global (mut i32))) (import "a" "c" (global i32)) (global $sp (mut i32) (i32.const 0))
        (global i64 (i64.const 0)) (global (export "g") (mut i32) (i32.const 0))"""
    ).plan

    mutable = GlobalType(I32, mutable=True)
    assert plan.globals == (
        GlobalSlot(0, "replicate:global:0", mutable, None),
        GlobalSlot(2, "replicate:global:2", mutable, "sp"),
        GlobalSlot(4, "replicate:global:4", mutable, "g"),
    )


def test_every_table_has_a_slot_that_says_who_can_write_it() -> None:
    plan = prepared(
        """(import "a" "t" (table 1 funcref)) (table $fixed 2 funcref) (table (export "t") 3 funcref) (table 4 funcref)
        (func (table.set 3 (i32.const 0) (ref.null func)))"""
    ).plan

    assert plan.tables == (
        TableSlot(0, "replicate:table:0", TableType(FUNCREF, 1), changes=False, label=None, exposed=True),
        TableSlot(1, "replicate:table:1", TableType(FUNCREF, 2), changes=False, label="fixed", exposed=False),
        TableSlot(2, "replicate:table:2", TableType(FUNCREF, 3), changes=False, label="t", exposed=True),
        TableSlot(3, "replicate:table:3", TableType(FUNCREF, 4), changes=True, label=None, exposed=False),
    )
    assert [slot.is_state for slot in plan.tables] == [True, False, True, True]


@pytest.mark.parametrize(
    ("fields", "is_listed"),
    [
        ("(global (mut funcref) (ref.null func))", False),
        ('(global (export "g") (mut funcref) (ref.null func))', True),
        ('(import "" "" (global (mut funcref)))', True),
        ("(global (mut funcref) (ref.null func)) (func (global.set 0 (ref.null func)))", True),
        ("(global (mut nullfuncref) (ref.null nofunc)) (func (global.set 0 (ref.null nofunc)))", False),
        ("(global (mut externref) (ref.null extern)) (func (global.set 0 (ref.null extern)))", True),
        ("(global (mut i32) (i32.const 0))", True),
    ],
)
def test_a_global_of_references_has_a_slot_where_it_can_have_several_values(fields: str, is_listed: bool) -> None:
    assert bool(prepared(fields).plan.globals) is is_listed


FUNCTIONS = """
  (import "" "i" (func)) (import "" "j" (func)) (func) (func $referenced) (func (export "f")) (elem declare func 1 $referenced)
"""


@pytest.mark.parametrize(
    "holder",
    [
        '(table (export "t") 1 funcref)',
        '(import "" "t" (table 1 funcref))',
        "(table 1 funcref) (func (drop (table.grow 0 (ref.null func) (i32.const 1))))",
        "(type $t (func)) (table 1 (ref null $t)) (func (table.set (i32.const 0) (ref.null $t)))",
        "(global (mut funcref) (ref.null func)) (func (global.set 0 (ref.null func)))",
        '(import "" "g" (global (mut funcref)))',
    ],
)
def test_functions_have_slots_where_a_reference_to_them_can_become_state(holder: str) -> None:
    imports, definitions = (holder, "") if holder.startswith("(import") else ("", holder)
    plan = prepared(imports + FUNCTIONS + definitions).plan

    assert [(slot.index, slot.export) for slot in plan.functions] == [
        (1, "replicate:func:1"),
        (3, "replicate:func:3"),
        (4, "replicate:func:4"),
    ]


@pytest.mark.parametrize(
    "holder",
    [
        "",
        "(table 3 funcref) (elem (i32.const 0) $referenced) (func (call_indirect (i32.const 0)))",
        '(table (export "t") 1 externref)',
        "(global (mut funcref) (ref.func $referenced)) (global (mut i32) (i32.const 0)) (func (global.set 1 (i32.const 0)))",
        "(global funcref (ref.func $referenced))",
    ],
)
def test_functions_have_no_slots_where_tables_and_globals_are_fixed(holder: str) -> None:
    assert prepared(FUNCTIONS + holder).plan.functions == ()


def test_only_segments_that_can_be_dropped_and_matter_have_a_slot() -> None:
    plan = prepared(
        """(memory 1) (table 1 funcref) (func $f
          (data.drop $active) (data.drop $empty) (data.drop $passive)
          (elem.drop $eactive) (elem.drop $eempty) (elem.drop $edeclarative) (elem.drop $epassive))
        (data $active (i32.const 0) "a") (data $empty "") (data $kept "b") (data $passive "c")
        (elem $eactive (i32.const 0) $f) (elem $eempty func) (elem $edeclarative declare func $f) (elem $ekept func $f)
        (elem $epassive func $f)"""
    ).plan

    assert [(slot.kind, slot.index, slot.label) for slot in plan.segments] == [
        ("data", 3, "passive"),
        ("element", 4, "epassive"),
    ]


def test_slots_say_in_words_where_they_are() -> None:
    plan = prepared(
        """(memory 1) (global $__stack_pointer (mut i32) (i32.const 0)) (table $calls 1 funcref) (data $d "a")
        (func (data.drop 0))"""
    ).plan

    assert plan.memories[0].describe == "memory 0"
    assert plan.globals[0].describe == "global 0 ($__stack_pointer)"
    assert plan.tables[0].describe == "table 0 ($calls)"
    assert plan.segments[0].describe == "data segment 0 ($d)"


def test_all_of_it_can_be_kept_for_another_process() -> None:
    result = prepared('(memory 1) (table 1 funcref) (data "a") (func $f (param i32 v128) (data.drop 0)) (start $f)')

    assert pickle.loads(pickle.dumps(result)) == result


def test_a_module_without_state_stays_as_it_is() -> None:
    wasm = assemble('(module (func (export "f")) (global i32 (i32.const 0)))')

    assert prepare(wasm).wasm == wasm


# -- names of the exports ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("taken", "prefix"),
    [
        ((), "replicate:"),
        (("memory", "replicated:x", "a:replicate:"), "replicate:"),
        (("replicate:x",), "replicate0:"),
        (("replicate0:", "replicate:"), "replicate1:"),
    ],
)
def test_a_prefix_that_is_taken_is_avoided(taken: tuple[str, ...], prefix: str) -> None:
    exports = "".join(f'(export "{name}" (memory 0))' for name in taken)
    result = prepared(f"(memory 1) {exports}")

    assert result.plan.prefix == prefix
    assert result.plan.memories[0].export == f"{prefix}memory:0"
    wasmtime.Module.validate(engine(), result.wasm)


def test_an_instrumented_module_can_be_instrumented_again() -> None:
    once = prepared("(memory 1) (func) (start 0)")
    twice = prepare(once.wasm)

    assert [each.name for each in twice.info.exports] == ["replicate:memory:0", "replicate:start"]
    assert twice.plan.memories[0].export == "replicate0:memory:0"
    wasmtime.Module.validate(engine(), twice.wasm)


# -- the rewritten module ----------------------------------------------------------------------------------------------


def test_hidden_state_can_be_read_and_written() -> None:
    result = prepared(
        """(memory 1) (global $n (mut i32) (i32.const 7)) (table 3 funcref) (data (i32.const 5) "x")
        (func (export "n") (result i32) (global.get $n))"""
    )
    guest = Running(result.wasm)

    assert guest["replicate:memory:0"].read(guest.store, 5, 6) == b"x"
    assert guest["replicate:table:0"].size(guest.store) == 3
    assert guest["replicate:global:0"].value(guest.store) == 7
    guest["replicate:global:0"].set_value(guest.store, 8)
    assert guest.call("n") == 8


def test_a_function_is_the_same_under_its_slot_and_in_the_table() -> None:
    result = prepared(
        """(table (export "t") 2 funcref) (func $a (result i32) (i32.const 1)) (func $b (result i32) (i32.const 2))
        (elem (i32.const 0) $b)"""
    )
    guest = Running(result.wasm)

    assert [(slot.index, guest.call(slot.export)) for slot in result.plan.functions] == [(1, 2)]


def test_the_start_function_runs_when_called_and_not_before() -> None:
    result = prepared('(global (export "n") (mut i32) (i32.const 0)) (func (global.set 0 (i32.const 1))) (start 0)')
    assert result.plan.start == "replicate:start"
    guest = Running(result.wasm)

    assert guest["n"].value(guest.store) == 0
    guest.call("replicate:start")
    assert guest["n"].value(guest.store) == 1


def test_an_imported_start_function_is_exported_too() -> None:
    result = prepared('(import "" "" (func)) (start 0)')

    assert result.plan.start == "replicate:start"
    assert read_module(result.wasm).start is None
    wasmtime.Module.validate(engine(), result.wasm)


def test_a_module_without_a_start_function_has_none_in_its_plan() -> None:
    assert prepared('(func (export "_start"))').plan.start is None


@pytest.mark.parametrize(
    ("context", "segment", "drop"),
    [
        ("(memory 1)", '(data "abc")', "data.drop"),
        ("(memory 0)", '(data "abc")', "data.drop"),
        ("(memory i64 1)", '(data "abc")', "data.drop"),
        ("(memory 0 0 (pagesize 1))", '(data "abc")', "data.drop"),
        ("", '(data "abc")', "data.drop"),
        ("(table 1 funcref)", "(elem func $f $f)", "elem.drop"),
        ("", "(elem func $f $f)", "elem.drop"),
        ("(table i64 1 externref)", "(elem externref (ref.null extern) (ref.null extern))", "elem.drop"),
        ("", "(elem (ref func) (ref.func $f) (ref.func $f))", "elem.drop"),
        ("(type $t (func))", "(elem (ref $t) (ref.func $f) (ref.func $f))", "elem.drop"),
        ("", "(elem anyref (ref.null any) (ref.null any))", "elem.drop"),
        ("(type $s (struct))", "(elem (ref $s) (struct.new $s) (struct.new $s))", "elem.drop"),
        ("", "(elem exnref (ref.null exn) (ref.null exn))", "elem.drop"),
    ],
)
def test_a_probe_traps_exactly_when_the_segment_has_been_dropped(context: str, segment: str, drop: str) -> None:
    wat = f'{context} (func $f (export "keep")) {segment} {segment} (func (export "code") ({drop} 0) ({drop} 1))'
    result = prepared(wat)
    first, second = result.plan.segments
    guest = Running(result.wasm)

    assert (guest.traps(first.probe), guest.traps(second.probe)) == (False, False)
    guest.call(second.drop)
    assert (guest.traps(first.probe), guest.traps(second.probe)) == (False, True)
    guest.call("code")
    assert (guest.traps(first.probe), guest.traps(second.probe)) == (True, True)
    guest.call(first.drop)  # dropping twice is fine
    assert guest.traps(first.probe)


def test_a_probe_works_with_an_imported_memory_of_any_size() -> None:
    wasm = prepared('(import "" "m" (memory i64 0)) (data "abc") (func (data.drop 0))')
    store = wasmtime.Store(engine())
    limits = wasmtime.MemoryType(wasmtime.Limits(0, None), is_64=True)
    instance = wasmtime.Instance(store, wasmtime.Module(engine(), wasm.wasm), [wasmtime.Memory(store, limits)])
    exports = instance.exports(store)
    (slot,) = wasm.plan.segments

    exports[slot.probe](store)  # type: ignore[operator]
    exports[slot.drop](store)  # type: ignore[operator]
    with pytest.raises(wasmtime.Trap):
        exports[slot.probe](store)  # type: ignore[operator]


def test_a_probe_changes_nothing() -> None:
    result = prepared(
        """(memory (export "m") 1) (data "abc") (table 1 funcref) (elem func $f)
        (func $f (data.drop 0) (elem.drop 0))"""
    )
    guest = Running(result.wasm)
    before = bytes(guest["m"].read(guest.store))

    for slot in result.plan.segments:
        guest.call(slot.probe)
    assert bytes(guest["m"].read(guest.store)) == before
    assert guest["replicate:table:0"].get(guest.store, 0).value is None
    assert not any(guest.traps(slot.probe) for slot in result.plan.segments)


def test_element_segments_of_one_type_share_a_table() -> None:
    result = prepared(
        """(elem func $f) (elem func $f) (elem externref (ref.null extern))
        (func $f (elem.drop 0) (elem.drop 1) (elem.drop 2))"""
    )

    assert [str(table) for table in read_module(result.wasm).tables] == ["(table 0 0 funcref)", "(table 0 0 externref)"]


def test_nothing_that_a_module_defines_changes_its_index() -> None:
    result = prepared(
        """(import "" "" (func)) (import "" "" (memory 1)) (import "" "" (table 1 funcref)) (import "" "" (global (mut i32)))
        (type (func (param i32))) (tag $t (param i64)) (func $f (param f32) (data.drop 0) (elem.drop 0))
        (memory 2) (table 3 funcref) (global (mut i64) (i64.const 0)) (data "abc") (elem func $f) (export "f" (func $f))"""
    )
    before, after = result.info, read_module(result.wasm)

    for space in (
        "types",
        "imports",
        "functions",
        "tables",
        "memories",
        "globals",
        "tags",
        "elements",
        "data",
        "exports",
    ):
        old, new = getattr(before, space), getattr(after, space)
        assert new[: len(old)] == old, space
    wasmtime.Module.validate(engine(), result.wasm)


def test_custom_sections_stay_where_they_are() -> None:
    result = prepared(
        """$named (@custom "before types" (before type) "1") (@custom "after code" (after code) "2") (memory $mem 1)
        (func $f (data.drop 0)) (data "abc") (start $f)"""
    )
    before, after = result.info, read_module(result.wasm)

    assert (after.module_name, after.function_names, after.memory_names) == ("named", {0: "f"}, {0: "mem"})
    assert [each.id for each in before.sections if each.id != 8] == [each.id for each in after.sections if each.id != 7]
    wasmtime.Module.validate(engine(), result.wasm)


def test_sections_that_a_module_lacks_are_added_in_their_place() -> None:
    result = prepared('(data "abc") (elem externref (ref.null extern)) (func (data.drop 0) (elem.drop 0))')

    assert [each.id for each in read_module(result.wasm).sections] == [1, 3, 4, 5, 7, 9, 12, 10, 11]
    wasmtime.Module.validate(engine(), result.wasm)


def test_counts_that_grow_by_a_byte_are_written_anew() -> None:
    functions = "(func)" * 126
    result = prepared(f'(memory 1) (data "abc") {functions} (func (export "f") (data.drop 0))')
    guest = Running(result.wasm)

    assert len(result.info.functions) == 127
    guest.call("f")
    assert guest.traps(result.plan.segments[0].probe)

from __future__ import annotations

import pickle
from typing import Any

import attrs
import pytest

from replicate.binary import Effects, read_module, scan_effects
from replicate.binary.effects import changing_globals, changing_tables
from replicate.errors import InvalidModuleError

from .support import assemble

NOTHING = Effects(
    globals_set=frozenset(),
    tables_written=frozenset(),
    memories_grown=frozenset(),
    data_dropped=frozenset(),
    elements_dropped=frozenset(),
    functions_referenced=frozenset(),
    objects_mutated=False,
)

CONTEXT = """
  (type $s (struct (field (mut i32))))
  (type $a (array (mut i8)))
  (type $r (array (mut funcref)))
  (import "" "imported" (func $imported))
  (global (mut i32) (i32.const 0)) (global (mut i32) (i32.const 0)) (global $two (mut i32) (i32.const 0))
  (table 1 funcref) (table $one 1 funcref) (table $two 1 funcref)
  (memory 1) (memory $one 1)
  (data "a") (data $one "b")
  (elem func) (elem $one funcref)
"""


def effects(code: str, fields: str = "") -> Effects:
    wasm = assemble(f"(module {CONTEXT} {fields} (func $f (local i32) {code} unreachable))")
    return scan_effects(wasm, read_module(wasm))


@pytest.mark.parametrize(
    ("code", "fact", "index"),
    [
        ("(global.set $two (i32.const 1))", "globals_set", 2),
        ("(table.set $two (i32.const 0) (ref.null func))", "tables_written", 2),
        ("(table.init $two $one (i32.const 0) (i32.const 0) (i32.const 0))", "tables_written", 2),
        ("(table.copy $two $one (i32.const 0) (i32.const 0) (i32.const 0))", "tables_written", 2),
        ("(drop (table.grow $two (ref.null func) (i32.const 1)))", "tables_written", 2),
        ("(table.fill $two (i32.const 0) (ref.null func) (i32.const 1))", "tables_written", 2),
        ("(drop (memory.grow $one (i32.const 1)))", "memories_grown", 1),
        ("(data.drop $one)", "data_dropped", 1),
        ("(elem.drop $one)", "elements_dropped", 1),
        ("(drop (ref.func $f))", "functions_referenced", 1),
        ("(drop (ref.func $imported))", "functions_referenced", 0),
    ],
)
def test_an_instruction_has_its_own_effect_and_no_other(code: str, fact: str, index: int) -> None:
    expected: dict[str, Any] = {fact: frozenset({index})}
    assert effects(code) == attrs.evolve(NOTHING, **expected)


@pytest.mark.parametrize(
    "code",
    [
        "(struct.set $s 0 (struct.new_default $s) (i32.const 1))",
        "(array.set $a (ref.null $a) (i32.const 0) (i32.const 1))",
        "(array.fill $a (ref.null $a) (i32.const 0) (i32.const 1) (i32.const 1))",
        "(array.copy $a $a (ref.null $a) (i32.const 0) (ref.null $a) (i32.const 0) (i32.const 1))",
        "(array.init_data $a $one (ref.null $a) (i32.const 0) (i32.const 0) (i32.const 1))",
        "(array.init_elem $r $one (ref.null $r) (i32.const 0) (i32.const 0) (i32.const 1))",
    ],
)
def test_writing_into_objects_is_an_effect(code: str) -> None:
    assert effects(code) == attrs.evolve(NOTHING, objects_mutated=True)


@pytest.mark.parametrize(
    "code",
    [
        "(drop (global.get $two))",
        "(drop (table.get $two (i32.const 0)))",
        "(drop (table.size $two))",
        "(drop (memory.size $one))",
        "(i32.store $one (i32.const 0) (i32.const 0x24242424))",
        "(memory.init $one $one (i32.const 0) (i32.const 0) (i32.const 0))",
        "(memory.copy $one 0 (i32.const 0) (i32.const 0) (i32.const 0))",
        "(memory.fill $one (i32.const 0) (i32.const 0) (i32.const 0))",
        "(drop (struct.get $s 0 (struct.new_default $s)))",
        "(drop (array.new_data $a $one (i32.const 0) (i32.const 0)))",
        "(drop (i32.const 36)) (drop (i32.const 38)) (drop (i64.const -46)) (drop (f32.const 0x1.a4a4a4p10))",
        "(block (br_table 0 0 0 0 (i32.const 0)))",
    ],
)
def test_reading_has_no_effect(code: str) -> None:
    assert effects(code) == NOTHING


@pytest.mark.parametrize(
    "fields",
    [
        "(elem declare func $f)",
        "(elem func $f)",
        "(elem (i32.const 0) $f)",
        "(elem (table $one) (i32.const 0) funcref (ref.null func) (ref.func $f))",
        "(global funcref (ref.func $f))",
        "(table 1 funcref (ref.func $f))",
        "(type $h (struct (field funcref))) (global (ref $h) (struct.new $h (ref.func $f)))",
    ],
)
def test_constant_expressions_refer_to_functions_too(fields: str) -> None:
    assert effects("", fields).functions_referenced == {1}


def test_effects_of_all_functions_add_up() -> None:
    found = effects("(global.set 0 (i32.const 0))", "(func (global.set 1 (i32.const 0))) (func) (func (data.drop 0))")

    assert found.globals_set == {0, 1}
    assert found.data_dropped == {0}


def test_a_module_without_code_has_no_effects() -> None:
    wasm = assemble("(module (memory 1))")

    assert scan_effects(wasm, read_module(wasm)) == NOTHING


@pytest.mark.parametrize(
    ("code", "size"),
    [
        ("global.set {}", 3),
        ("table.set {}", 3),
        ("memory.grow {}", 2),
        ("data.drop {}", 2),
        ("elem.drop {}", 2),
        ("ref.func {}", 2),
        ("struct.set {} 0", 4),
    ],
)
def test_the_first_index_out_of_range_is_refused(code: str, size: int) -> None:
    effects(code.format(size - 1))
    with pytest.raises(InvalidModuleError, match=f"{size}.* of only {size}"):
        effects(code.format(size))


def test_what_the_host_can_see_can_change_too() -> None:
    wasm = assemble(
        """(module
          (import "" "g" (global (mut i32))) (import "" "c" (global i32)) (import "" "t" (table 1 funcref))
          (global (mut i32) (i32.const 0)) (global (export "g") (mut i32) (i32.const 0)) (global (export "c") i32
          (i32.const 0)) (global (mut i32) (i32.const 0)) (table 1 funcref) (table (export "t") 1 funcref)
          (table 1 funcref) (func (global.set 5 (i32.const 0)) (table.set 3 (i32.const 0) (ref.null func))))"""
    )
    info = read_module(wasm)
    found = scan_effects(wasm, info)

    assert changing_globals(info, found) == {0, 3, 5}
    assert changing_tables(info, found) == {0, 2, 3}


def test_effects_can_be_sent_to_a_worker_process() -> None:
    assert pickle.loads(pickle.dumps(effects("(data.drop 0)"))) == effects("(data.drop 0)")

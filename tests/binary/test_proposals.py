"""A module for every proposal: read, scanned, rewritten, and compiled again."""

from __future__ import annotations

import pytest
import wasmtime

from replicate.binary import prepare, read_module

from .support import assemble, bodies, engine, instructions, stack_switching_engine

SAMPLES = {
    "MVP": """
      (memory 1) (table 2 funcref) (global (mut i32) (i32.const 0)) (type $t (func (param i32) (result i32)))
      (func $f (type $t) (local i64 f32 f64)
        (block $out (loop $again (br_if $out (i32.eqz (local.get 0))) (br_table $again $out $out (local.get 0))))
        (if (result i32) (local.get 0) (then (i32.load8_u offset=36 (i32.const 0))) (else (i32.const 38)))
        (i32.store16 offset=4000 align=1 (i32.const 0) (i32.const -1))
        (local.set 1 (i64.extend_i32_u (local.get 0))) (local.set 2 (f32.const 1.5)) (drop (memory.grow (i32.const 1)))
        (local.set 3 (f64.promote_f32 (local.get 2))) (global.set 0 (i32.trunc_f64_s (local.get 3)))
        (call_indirect (type $t) (i32.const 0)) (drop (select (i32.const 1) (i32.const 2) (i32.const 0))))
      (elem (i32.const 0) $f)""",
    "sign extension and saturating truncation": """
      (func (result i64) (i64.extend8_s (i64.trunc_sat_f32_u (f32.const 1)))) (func (result i32)
      (i32.extend16_s (i32.trunc_sat_f64_s (f64.const 1))))""",
    "multiple values": """
      (func $two (result i32 i64) (i32.const 1) (i64.const 2))
      (func (result i32) (call $two) (block (param i32 i64) (result i32) drop))""",
    "bulk memory": """
      (memory 1) (data "abc") (table 1 funcref) (elem func 0)
      (func (memory.init 0 (i32.const 0) (i32.const 0) (i32.const 1)) (data.drop 0)
        (memory.copy (i32.const 0) (i32.const 1) (i32.const 1)) (memory.fill (i32.const 0) (i32.const 1) (i32.const 1))
        (table.init 0 (i32.const 0) (i32.const 0) (i32.const 1)) (elem.drop 0)
        (table.copy (i32.const 0) (i32.const 0) (i32.const 0)))""",
    "reference types": """
      (table 1 externref) (table $f 1 funcref) (elem declare func 0)
      (func (param externref) (result i32) (table.set 0 (i32.const 0) (local.get 0)) (drop (table.get 0 (i32.const 0)))
        (drop (table.grow 0 (ref.null extern) (i32.const 1))) (table.fill $f (i32.const 0) (ref.func 0) (i32.const 1))
        (drop (select (result externref) (local.get 0) (local.get 0) (i32.const 0))) (table.size $f)
        (drop (ref.is_null (local.get 0))))""",
    "vectors": """
      (memory 1) (global (mut v128) (v128.const i32x4 36 36 36 36))
      (func (result v128) (v128.store16_lane offset=36 3 (i32.const 0) (global.get 0)) (v128.load8x8_s (i32.const 0))
        (global.set 0 (v128.load64_lane 1 (i32.const 0) (global.get 0))) (global.get 0)
        (i8x16.shuffle 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 31) (i32.const 36) (i16x8.replace_lane 7) (global.get 0)
        (i32x4.dot_i16x8_s) (global.set 0) (f64x2.abs (global.get 0)))""",
    "relaxed vectors": """
      (func (param v128) (result v128) (i8x16.relaxed_swizzle (local.get 0) (local.get 0)) (i32x4.relaxed_trunc_f32x4_u)
        (f64x2.relaxed_nmadd (local.get 0) (local.get 0)) (i32x4.relaxed_dot_i8x16_i7x16_add_s (local.get 0) (local.get 0)))""",
    "tail calls": """
      (table 1 funcref) (type $t (func)) (func $f) (func (return_call $f)) (func (return_call_indirect (type $t)
      (i32.const 0))) (func (param (ref $t)) (return_call_ref $t (local.get 0)))""",
    "several memories": """
      (memory 1) (memory 1) (memory $big i64 1) (func (i32.store 1 offset=36 (i32.const 0) (i32.load 1 (i32.const 0)))
        (memory.copy 1 0 (i32.const 0) (i32.const 0) (i32.const 0)) (drop (memory.grow 1 (i32.const 1)))
        (drop (memory.size $big)) (memory.fill 1 (i32.const 0) (i32.const 0) (i32.const 0)))""",
    "64 bits": """
      (memory i64 1) (table i64 1 funcref) (data "abc") (elem func 0)
      (func (drop (i64.load offset=0x100000000 (i64.const 0))) (memory.init 0 (i64.const 0) (i32.const 0) (i32.const 0))
        (data.drop 0) (elem.drop 0) (drop (table.grow (ref.null func) (i64.const 1))))""",
    "extended constant expressions": """
      (memory 1) (global i32 (i32.const 3)) (global i32 (i32.add (global.get 0) (i32.mul (i32.const 2) (i32.const 4))))
      (data (i32.add (i32.const 1) (global.get 0)) "abc")""",
    "threads": """
      (memory 1 1) (func (result i32) (drop (i32.atomic.rmw.cmpxchg (i32.const 0) (i32.const 1) (i32.const 2)))
        (i64.atomic.store32 offset=8 (i32.const 0) (i64.const 1)) (atomic.fence)
        (memory.atomic.notify (i32.const 0) (i32.const 1)))""",
    "exceptions": """
      (tag $e (param i32)) (tag)
      (func (result i32) (block $caught (result i32) (try_table (result i32) (catch $e $caught) (i32.const 36)
        (throw $e))))
      (func (param exnref) (block (result exnref) (try_table (catch_all_ref 0)) (unreachable)) (throw_ref))""",
    "typed function references": """
      (type $t (func (param i32) (result i32))) (elem declare func $f) (table 1 (ref $t) (ref.func $f))
      (global (mut (ref null $t)) (ref.null $t))
      (func $f (type $t) (local (ref null $t)) (global.set 0 (ref.func $f))
        (block $null (drop (call_ref $t (i32.const 1) (br_on_null $null (global.get 0)))))
        (drop (block $some (result (ref $t)) (br_on_non_null $some (global.get 0)) (ref.as_non_null (global.get 0))))
        (local.get 0))""",
    "garbage collection": """
      (rec (type $list (struct (field $head i32) (field $tail (mut (ref null $list))))))
      (type $bytes (array (mut i8))) (data "hello") (elem $e anyref (ref.null any)) (type $refs (array (mut anyref)))
      (func (export "f") (param anyref) (result i32) (local (ref null $list))
        (local.set 1 (struct.new $list (i32.const 1) (ref.null $list)))
        (drop (struct.get $list $head (local.get 1)))
        (drop (array.get_u $bytes (array.new_data $bytes 0 (i32.const 0) (i32.const 5)) (i32.const 0)))
        (drop (array.new_elem $refs $e (i32.const 0) (i32.const 0)))
        (drop (array.new_fixed $bytes 2 (i32.const 1) (i32.const 2)))
        (drop (ref.test (ref $list) (local.get 0))) (drop (ref.cast (ref null $bytes) (local.get 0)))
        (drop (block $is (result (ref $list)) (drop (br_on_cast $is anyref (ref $list) (local.get 0))) (unreachable)))
        (drop (ref.eq (ref.i31 (i32.const 36)) (local.get 1))) (drop (extern.convert_any (local.get 0)))
        (data.drop 0) (elem.drop $e) (array.len (array.new_default $bytes (i32.const 3))))""",
    "wide arithmetic": """
      (func (param i64 i64 i64 i64) (result i64 i64) (i64.add128 (local.get 0) (local.get 1) (local.get 2) (local.get 3))
        (drop) (drop) (i64.mul_wide_u (local.get 0) (local.get 1)))""",
    "custom page sizes": """(memory 0 100 (pagesize 1)) (func (drop (memory.grow (i32.const 36))))""",
    "stack switching": """
      (type $f (func)) (type $c (cont $f)) (tag $t) (func $g (suspend $t)) (elem declare func $g)
      (func (export "run") (block $on (result (ref $c)) (resume $c (on $t $on) (cont.new $c (ref.func $g))) (return))
      (drop))""",
}


STARTS_BLOCK = (0x02, 0x03, 0x04, 0x1F)  # block loop if try_table
END = 0x0B


def compiled_by(name: str) -> wasmtime.Engine:
    return stack_switching_engine() if name == "stack switching" else engine()


@pytest.mark.parametrize("name", SAMPLES)
def test_the_engine_takes_a_module_before_and_after_it_is_rewritten(name: str) -> None:
    wasm = assemble(f"(module {SAMPLES[name]})")

    wasmtime.Module.validate(compiled_by(name), wasm)
    wasmtime.Module.validate(compiled_by(name), prepare(wasm).wasm)


@pytest.mark.parametrize("name", SAMPLES)
def test_the_code_is_read_up_to_the_end_of_its_outermost_block(name: str) -> None:
    wasm = assemble(f"(module {SAMPLES[name]})")

    for body in bodies(wasm, read_module(wasm)):
        depth = 1
        for offset, (opcode, _), _ in instructions(body):
            depth += (opcode in STARTS_BLOCK) - (opcode == END)
            assert (depth == 0) == (offset == body.end - 1)


@pytest.mark.parametrize("name", SAMPLES)
def test_what_a_module_exports_comes_first_and_unchanged(name: str) -> None:
    wasm = assemble(f"(module {SAMPLES[name]})")
    prepared = prepare(wasm)
    after = read_module(prepared.wasm)

    assert after.exports[: len(prepared.info.exports)] == prepared.info.exports
    assert all(each.name.startswith(prepared.plan.prefix) for each in after.exports[len(prepared.info.exports) :])


LEGACY_EXCEPTIONS = """
  (tag $e (param i32)) (global (mut i32) (i32.const 0))
  (func try i32.const 1 throw $e catch $e global.set 0 catch_all rethrow 0 end try nop delegate 0)"""


def test_legacy_exceptions_are_read_although_no_engine_here_takes_them() -> None:
    wasm = assemble(f"(module {LEGACY_EXCEPTIONS})")

    assert prepare(wasm).effects.globals_set == {0}

"""Functions added for hosts that can't do everything: what is added, and what stays as it was."""

from __future__ import annotations

import pytest
import wasmtime

from replicate.binary import F32, I32, I64, Fill, FuncType, HostAccess, Prepared, prepare, read_module

from .support import assemble, engine

NO_ACCESS = HostAccess(exact_f32=False, references=False, imported_tables=False)


def helped(wat: str, access: HostAccess = NO_ACCESS) -> Prepared:
    prepared = prepare(assemble(f"(module {wat})"), access=access)
    wasmtime.Module.validate(engine(), prepared.wasm)
    return prepared


def sections(wasm: bytes) -> dict[int, bytes]:
    return {section.id: wasm[section.start : section.end] for section in read_module(wasm).sections}


def test_a_host_that_can_do_everything_gets_no_helpers() -> None:
    assert prepare(assemble('(module (func (export "f") (param f32)))')).plan.helpers is None


def test_a_function_with_f32_values_is_called_with_their_bits() -> None:
    plan = helped(
        '(func (export "f") (param i64 f32) (result f32 i64 f32) (unreachable)) (func (export "g") (param i64))'
    ).plan

    assert plan.helpers is not None
    assert set(plan.helpers.bit_calls) == {0}
    assert plan.helpers.types[plan.helpers.bit_calls[0]] == FuncType((I64, I32), (I32, I64, I32))
    assert F32 not in plan.helpers.types[plan.helpers.bit_calls[0]].params


def test_only_f32_globals_that_a_host_reads_are_read_by_their_bits() -> None:
    plan = helped(
        """(global (mut f32) (f32.const 1)) (global (export "c") f32 (f32.const 1)) (global f32 (f32.const 1))
        (global (mut f64) (f64.const 1))"""
    ).plan

    assert plan.helpers is not None
    assert {index: bool(set_) for index, (_, set_) in plan.helpers.bit_globals.items()} == {0: True, 1: False}


def test_what_never_changes_has_no_function_and_its_content_is_known() -> None:
    wat = """(import "m" "base" (global $base i32)) (table 9 funcref) (func $f) (func $g)
        (elem (i32.const 1) $f $g) (elem (global.get $base) $g) (elem (i32.const 0) funcref (ref.null func) (ref.func $f))
        (func (call_indirect (i32.const 1)))"""
    prepared = helped(wat)
    helpers = prepared.plan.helpers

    assert helpers is not None
    assert (helpers.types, helpers.tables, helpers.hand) == ({}, {}, None)
    assert helpers.contents == {0: (Fill(1, None, (0, 1)), Fill(0, 0, (1,)), Fill(0, None, (None, 0)))}
    assert sections(prepared.wasm)[10] == sections(assemble(f"(module {wat})"))[10]


def test_where_only_a_host_could_change_a_table_nothing_is_identified() -> None:
    prepared = helped(
        '(table (export "t") 2 funcref) (func $f) (elem (i32.const 0) $f) (func (call_indirect (i32.const 0)))'
    )
    helpers = prepared.plan.helpers

    assert helpers is not None
    assert helpers.hand is not None
    assert (helpers.hand.functions, helpers.hand.identify) == ({0: 0}, ())
    assert set(helpers.tables) == {0}


def test_references_are_made_to_stand_ins_and_direct_calls_are_not() -> None:
    prepared = helped(
        """(import "m" "f" (func $host (result i32))) (table 2 funcref) (func $one (result i32) (call $host))
        (global (mut funcref) (ref.func $host)) (elem (i32.const 0) $one $host) (elem declare func $one)
        (func (table.set (i32.const 1) (ref.func $one)) (drop (call $one)))"""
    )
    helpers = prepared.plan.helpers
    info = read_module(prepared.wasm)

    assert helpers is not None
    assert helpers.hand is not None
    assert len(helpers.hand.identify) == 1
    stand_ins = set(info.elements[0].functions)
    assert stand_ins.isdisjoint({0, 1})
    assert info.elements[1].functions[0] in stand_ins
    assert info.constant_functions >= stand_ins
    # `call $host` in $one and `call $one` are as they were, though all code was written anew.
    assert b"\x10\x00" in sections(prepared.wasm)[10]
    assert b"\x10\x01" in sections(prepared.wasm)[10]


@pytest.mark.parametrize("own", ["", "(table $own 4 funcref)"])
def test_imported_tables_become_the_modules_own(own: str) -> None:
    prepared = helped(
        f"""(import "m" "f" (func)) (import "m" "t" (table 1 3 funcref)) (import "m" "g" (global i32))
        (import "m" "u" (table 2 externref)) {own} (func (table.set 0 (i32.const 0) (ref.null func)))"""
    )
    info = read_module(prepared.wasm)

    assert [(item.name, item.kind) for item in info.imports] == [("f", "func"), ("g", "global")]
    assert info.tables[: len(prepared.info.tables)] == prepared.info.tables
    assert [item.name for item in prepared.info.imports] == ["f", "t", "g", "u"]


def test_what_no_function_can_tell_apart_is_refused_with_its_place() -> None:
    wat = """(type $f (func)) (func $one (type $f)) (func $two (param (ref $f)))
        (table $typed 1 (ref null $f)) (table $any 1 funcref) (elem declare func $one $two)
        (func (table.set $typed (i32.const 0) (ref.func $one)) (table.set $any (i32.const 0) (ref.func $two)))"""
    assert helped(wat, HostAccess()).plan.findings == ()
    reasons = {finding.place: finding.reason for finding in helped(wat).plan.findings}

    assert set(reasons) == {"table 0 ($typed)", "table 1 ($any)"}
    assert "(ref 0)" in reasons["table 1 ($any)"]

from __future__ import annotations

import pytest

from replicate.binary import prepare
from replicate.errors import Finding

from .support import assemble


def findings(wat: str) -> tuple[Finding, ...]:
    types = "(type $s (struct (field (mut i32)))) (type $a (array (mut i8))) (type $f (func)) (type $c (cont $f))"
    return prepare(assemble(f"(module {types} {wat})")).plan.findings


def places(wat: str) -> list[str]:
    return [finding.place for finding in findings(wat)]


SET = "(func (param {0}) (global.set 0 (local.get 0)))"
MUTATES = "(func (struct.set $s 0 (struct.new_default $s) (i32.const 1)))"


@pytest.mark.parametrize(
    "wat",
    [
        "(memory 1 2) (table 1 funcref) (global (mut i32) (i32.const 0)) (func (global.set 0 (i32.const 1)))",
        "(table 1 externref) (func (table.set (i32.const 0) (ref.null extern)))",
        "(global (mut externref) (ref.null extern)) (func (global.set 0 (ref.null extern)))",
        "(table 1 (ref $f) (ref.func 0)) (func (type $f))",
        "(table 1 (ref $f) (ref.func 0)) (func $g (type $f) (table.set (i32.const 0) (ref.func $g)))",
        "(global (ref $s) (struct.new_default $s)) (func (result i32) (struct.get $s 0 (global.get 0)))",
        "(global (ref i31) (ref.i31 (i32.const 1)))" + MUTATES,
        "(global nullref (ref.null none)) (global (mut anyref) (ref.null any))" + MUTATES,
        "(global (mut nullref) (ref.null none)) (func (global.set 0 (ref.null none)))",
        "(table 1 anyref)" + MUTATES,
        '(import "" "host object" (global externref))' + MUTATES,
        '(import "" "host object" (global externref)) (global (ref i31) (ref.i31 (i32.const 1)))'
        "(elem declare anyref (item (struct.new_default $s)))" + MUTATES,
        "(table 1 exnref)",
        "(elem anyref (ref.null any))" + MUTATES,
        "(elem declare anyref (item (struct.new_default $s)))" + MUTATES,
    ],
)
def test_what_can_be_captured_is_not_complained_about(wat: str) -> None:
    assert findings(wat) == ()


@pytest.mark.parametrize(
    ("wat", "place", "reason"),
    [
        ("(memory $m 1 2 shared)", "memory 0 ($m)", "threads"),
        ('(import "" "" (memory 1)) (import "" "" (memory 1 2 shared))', "memory 1", "threads"),
        ("(global $g (mut anyref) (ref.null any))" + SET.format("anyref"), "global 0 ($g)", "garbage-collected"),
        ("(global (mut eqref) (ref.null eq))" + SET.format("eqref"), "global 0", "eqref"),
        ("(global (mut i31ref) (ref.null i31))" + SET.format("i31ref"), "global 0", "integers as references"),
        ('(table (export "t") 1 (ref i31) (ref.i31 (i32.const 1)))', "table 0 ($t)", "integers as references"),
        ("(global (mut (ref null $s)) (ref.null $s))" + SET.format("(ref null $s)"), "global 0", "(ref null 0)"),
        ("(global (mut (ref null $a)) (ref.null $a))" + SET.format("(ref null $a)"), "global 0", "(ref null 1)"),
        ('(global (export "g") (mut structref) (ref.null struct))', "global 0 ($g)", "structref"),
        ('(import "" "" (global (mut arrayref)))', "global 0", "arrayref"),
        ("(global (mut exnref) (ref.null exn))" + SET.format("exnref"), "global 0", "exceptions"),
        ("(global (mut (ref null $c)) (ref.null $c))" + SET.format("(ref null $c)"), "global 0", "computations"),
        ('(import "" "" (global (mut (ref extern))))', "global 0", "always refers"),
        ("(table $t 1 anyref) (func (table.set (i32.const 0) (ref.null any)))", "table 0 ($t)", "garbage-collected"),
        ('(table (export "t") 1 anyref)', "table 0 ($t)", "garbage-collected"),
        ("(table 1 exnref) (func (drop (table.grow 0 (ref.null exn) (i32.const 1))))", "table 0", "exceptions"),
        ('(import "" "" (table 1 (ref null $c)))', "table 0", "computations"),
    ],
)
def test_what_can_never_be_captured_is_named_with_its_reason(wat: str, place: str, reason: str) -> None:
    (finding,) = findings(wat)

    assert finding.place == place
    assert reason in finding.reason


@pytest.mark.parametrize(
    "change",
    [
        "(struct.set $s 0 (struct.new_default $s) (i32.const 1))",
        "(array.set $a (ref.null $a) (i32.const 0) (i32.const 1))",
    ],
)
@pytest.mark.parametrize(
    ("holder", "place"),
    [
        ("(global (ref $s) (struct.new_default $s))", "global 0"),
        ("(global (mut anyref) (array.new_fixed $a 0))", "global 0"),
        ("(global externref (extern.convert_any (struct.new_default $s)))", "global 0"),
        ("(table 1 (ref $s) (struct.new_default $s))", "table 0"),
        ("(elem (ref $s) (struct.new_default $s))", "element segment 0"),
        ('(import "" "" (global anyref))', "global 0"),
    ],
)
def test_a_constant_reference_to_an_object_that_the_code_can_change_is_refused(
    holder: str, place: str, change: str
) -> None:
    (finding,) = findings(f"{holder} (func {change})")

    assert finding.place == place
    assert "changes such objects in place" in finding.reason


def test_a_small_integer_is_no_object() -> None:
    integers = "(global (ref i31) (ref.i31 (i32.const 1))) (global i31ref (ref.null i31))"

    assert places(integers + "(global (ref $s) (struct.new_default $s))" + MUTATES) == ["global 2"]


def test_every_obstacle_is_listed() -> None:
    wat = """(memory 1 1 shared) (global (mut anyref) (ref.null any)) (global (mut exnref) (ref.null exn))
    (table 1 anyref) (func (global.set 0 (ref.null any)) (global.set 1 (ref.null exn)) (table.set (i32.const 0)
    (ref.null any)))"""

    assert places(wat) == ["memory 0", "global 0", "global 1", "table 0"]


def test_what_cannot_be_captured_has_no_slot() -> None:
    wat = '(module (global (export "g") (mut anyref) (ref.null any)) (table (export "t") 1 exnref))'
    plan = prepare(assemble(wat)).plan

    assert (plan.globals, plan.tables) == ((), ())
    assert len(plan.findings) == 2

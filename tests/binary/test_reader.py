from __future__ import annotations

import hashlib
from typing import Any

import pytest
import wasmtime
from wasm_tools.api import parse_wasm_bytes  # type: ignore[import-untyped]

from replicate.binary import (
    EXTERNREF,
    FUNCREF,
    I32,
    I64,
    ArrayType,
    ContType,
    DataSegment,
    ElementSegment,
    Export,
    FieldType,
    FuncType,
    GlobalType,
    Import,
    MemoryType,
    ModuleInfo,
    StructType,
    TableType,
    TagType,
    read_module,
)

from .support import assemble, engine

HEADER = b"\0asm\1\0\0\0"
FUNCTION_TYPE = b"\1\4\1\x60\0\0"


def read(wat: str) -> ModuleInfo:
    return read_module(assemble(f"(module {wat})"))


def section(id_: int, content: bytes) -> bytes:
    return bytes([id_, len(content)]) + content


# -- what is found -----------------------------------------------------------------------------------------------------


def test_the_empty_module_is_empty() -> None:
    info = read_module(HEADER)

    assert info.size == 8
    assert info.digest == hashlib.sha256(HEADER).hexdigest()
    assert (info.types, info.imports, info.functions, info.exports, info.start, info.sections) == (
        (),
        (),
        (),
        (),
        None,
        (),
    )


def test_imports_have_their_type_and_their_place_in_their_index_space() -> None:
    info = read(
        """(import "a" "f" (func (param i32 i64) (result i32))) (import "a" "g" (global (mut i32)))
        (import "b" "h" (func)) (import "b" "m" (memory 1 2)) (import "b" "t" (table 1 externref))
        (import "b" "é" (tag (param i32)))"""
    )

    assert info.imports == (
        Import("a", "f", "func", FuncType((I32, I64), (I32,)), 0),
        Import("a", "g", "global", GlobalType(I32, mutable=True), 0),
        Import("b", "h", "func", FuncType((), ()), 1),
        Import("b", "m", "memory", MemoryType(1, 2), 0),
        Import("b", "t", "table", TableType(EXTERNREF, 1), 0),
        Import("b", "é", "tag", TagType(FuncType((I32,), ())), 0),
    )
    assert (info.imported_functions, info.imported_globals, info.imported_memories, info.imported_tables) == (
        2,
        1,
        1,
        1,
    )


def test_index_spaces_start_with_what_is_imported() -> None:
    info = read(
        """(import "" "" (func (param i32))) (import "" "" (memory 5)) (import "" "" (table 5 funcref))
        (import "" "" (global i64)) (import "" "" (tag (param i64)))
        (func (result i64) i64.const 0) (memory 6) (table 6 externref) (global i32 (i32.const 0)) (tag)"""
    )

    assert [info.function_type(index) for index in range(2)] == [FuncType((I32,), ()), FuncType((), (I64,))]
    assert info.memories == (MemoryType(5), MemoryType(6))
    assert info.tables == (TableType(FUNCREF, 5), TableType(EXTERNREF, 6))
    assert info.globals == (GlobalType(I64, mutable=False), GlobalType(I32, mutable=False))
    assert info.tags == (TagType(FuncType((I64,), ())), TagType(FuncType((), ())))


def test_exports_keep_their_order() -> None:
    info = read('(func $f) (memory (export "m") 1) (export "f" (func $f)) (export "" (func $f)) (tag (export "e"))')

    assert info.exports == (
        Export("m", "memory", 0),
        Export("f", "func", 0),
        Export("", "func", 0),
        Export("e", "tag", 0),
    )


@pytest.mark.parametrize(
    ("wat", "expected"),
    [
        ("(memory 1)", MemoryType(1)),
        ("(memory 1 65536)", MemoryType(1, 65536)),
        ("(memory 1 2 shared)", MemoryType(1, 2, shared=True)),
        ("(memory i64 1)", MemoryType(1, is_64=True)),
        ("(memory i64 1 0x1000000000000)", MemoryType(1, 1 << 48, is_64=True)),
        ("(memory 0 7 (pagesize 1))", MemoryType(0, 7, page_size=1)),
        ("(memory i64 3 (pagesize 65536))", MemoryType(3, is_64=True)),
    ],
)
def test_memories_have_their_limits(wat: str, expected: MemoryType) -> None:
    assert read(wat).memories == (expected,)


@pytest.mark.parametrize(
    ("wat", "expected"),
    [
        ("(table 1 funcref)", TableType(FUNCREF, 1)),
        ("(table 1 9 externref)", TableType(EXTERNREF, 1, 9)),
        ("(table i64 1 9 externref)", TableType(EXTERNREF, 1, 9, is_64=True)),
        ("(table 1 funcref (ref.null func))", TableType(FUNCREF, 1)),
        ("(table 1 (ref null func))", TableType(FUNCREF, 1)),
    ],
)
def test_tables_have_their_limits(wat: str, expected: TableType) -> None:
    assert read(wat).tables == (expected,)


def test_the_start_function_is_known() -> None:
    assert read("(func) (func) (start 1)").start == 1


@pytest.mark.parametrize(
    ("wat", "mode", "functions"),
    [
        ("(elem (i32.const 0) 0 1)", "active", (0, 1)),
        ("(elem (table 1) (i32.const 0) func 0 1)", "active", (0, 1)),
        ("(elem func 1 0)", "passive", (1, 0)),
        ("(elem declare func 1)", "declarative", (1,)),
        ("(elem (i32.const 0) funcref (ref.func 1) (ref.null func))", "active", (1, None)),
        ("(elem (table 1) (i32.const 0) funcref (ref.func 1) (global.get 0))", "active", (1, None)),
        ("(elem funcref (ref.func 1))", "passive", (1,)),
        ("(elem declare funcref (ref.func 1))", "declarative", (1,)),
    ],
)
def test_element_segments_of_every_encoding_are_read(wat: str, mode: Any, functions: tuple[int | None, ...]) -> None:
    info = read(f'(import "" "" (global funcref)) (table 9 funcref) (table 9 funcref) (func) (func) {wat}')

    assert info.elements == (ElementSegment(mode, FUNCREF, len(functions), functions),)


def test_an_element_segment_of_host_references_refers_to_no_function() -> None:
    info = read("(elem externref (ref.null extern) (ref.null extern))")

    assert info.elements == (ElementSegment("passive", EXTERNREF, 2, (None, None)),)
    assert info.constant_functions == frozenset()


def test_an_object_that_holds_a_function_is_not_that_function() -> None:
    info = read("(type $s (struct (field funcref))) (func $f) (elem anyref (item (struct.new $s (ref.func $f))))")

    assert info.elements[0].functions == (None,)
    assert info.constant_functions == {0}


def test_data_segments_of_every_encoding_are_read() -> None:
    info = read('(memory 1) (memory 1) (data (i32.const 0) "abc") (data (memory 1) (i32.const 0) "de") (data "f")')

    assert info.data == (DataSegment("active", 3), DataSegment("active", 2), DataSegment("passive", 1))


def test_types_of_the_garbage_collected_heap_are_read() -> None:
    info = read(
        """(type $f (func)) (rec (type $s (sub (struct (field (mut i8)) (field (ref null $a)))))
        (type $a (array (mut i64)))) (type (sub final $s (struct (field (mut i8)) (field (ref null $a)) (field i16))))"""
    )

    function, struct, array, last = info.types
    assert function == FuncType((), ())
    assert isinstance(struct, StructType)
    assert struct.fields[0] == FieldType("i8", mutable=True)
    assert str(struct.fields[1]) == "(ref null 2)"
    assert array == ArrayType(FieldType(I64, mutable=True))
    assert str(last) == "(struct (field (mut i8)) (field (ref null 2)) (field i16))"


def test_a_reference_to_a_type_that_is_defined_later_is_resolved() -> None:
    info = read("(rec (type (func (param (ref null 1) (ref null 2)))) (type (struct)) (type (func)))")

    assert isinstance(info.types[0], FuncType)
    assert [parameter.hierarchy for parameter in info.types[0].params] == ["any", "func"]


def test_continuation_types_are_read() -> None:
    info = read("(type $f (func)) (type $c (cont $f)) (func (param (ref $c)))")

    assert info.types[1] == ContType(0)
    assert info.function_type(0).params[0].hierarchy == "cont"


@pytest.mark.parametrize(
    ("initialiser", "makes"),
    [
        ("(global (ref null struct) (struct.new_default $s))", True),
        ("(table 1 (ref null any) (array.new_fixed $a 0))", True),
        ("(elem anyref (item (array.new $a (i32.const 0) (i32.const 0))))", True),
        ("(global externref (extern.convert_any (struct.new_default $s)))", True),
        ("(global anyref (ref.i31 (i32.const 0)))", False),
        ("(global anyref (ref.null any))", False),
    ],
)
def test_objects_in_constant_expressions_are_noticed(initialiser: str, makes: bool) -> None:
    assert read(f"(type $s (struct)) (type $a (array i8)) {initialiser}").constant_objects is makes


@pytest.mark.parametrize(
    "expression",
    [
        "(i32.add (i32.const 1) (i32.mul (global.get 0) (i32.sub (i32.const 3) (i32.const 2))))",
        "(i32.const 0x0b0b0b0b)",
    ],
)
def test_constant_expressions_of_several_instructions_are_read_to_their_end(expression: str) -> None:
    info = read(f'(import "" "" (global i32)) (global i32 {expression}) (global i64 (i64.const 0))')

    assert [type_.value for type_ in info.globals] == [I32, I32, I64]


@pytest.mark.parametrize(
    ("type_", "value"),
    [
        ("f32", "f32.const 0x1.161616p11"),
        ("f64", "f64.const 0x1.b0b0b0b0b0b0bp-800"),
        ("v128", "v128.const i8x16 11 11 11 11 11 11 11 11 11 11 11 11 11 11 11 11"),
        ("i64", "i64.const 0x0b0b0b0b0b0b0b0b"),
    ],
)
def test_constants_full_of_end_bytes_are_read_to_their_end(type_: str, value: str) -> None:
    assert len(read(f"(global {type_} ({value})) (global i32 (i32.const 0))").globals) == 2


def test_compact_imports_are_spelled_out() -> None:
    typed = b"\1a\0\x7f" + b"\2\1x\0\0\1y\2\0\1"  # module a: function x, memory y
    alike = b"\1b\0\x7e" + b"\3\x7f\0" + b"\2\1p\1q"  # module b: globals p and q
    info = read_module(HEADER + FUNCTION_TYPE + section(2, b"\2" + typed + alike))

    assert info.imports == (
        Import("a", "x", "func", FuncType((), ()), 0),
        Import("a", "y", "memory", MemoryType(1), 0),
        Import("b", "p", "global", GlobalType(I32, mutable=False), 0),
        Import("b", "q", "global", GlobalType(I32, mutable=False), 1),
    )


# -- names -------------------------------------------------------------------------------------------------------------


def test_names_come_from_the_name_section() -> None:
    info = read_module(
        assemble(
            """(module $mod (func $f) (memory $mem 1) (table $tab 1 funcref) (global $glob i32 (i32.const 0)) (tag $tag)
            (elem $elem func) (data $data ""))"""
        )
    )

    assert info.module_name == "mod"
    assert info.function_names == {0: "f"}
    assert info.memory_names == {0: "mem"}
    assert info.table_names == {0: "tab"}
    assert info.global_names == {0: "glob"}
    assert info.tag_names == {0: "tag"}
    assert info.element_names == {0: "elem"}
    assert info.data_names == {0: "data"}


def test_a_part_without_a_name_is_labelled_by_its_first_export() -> None:
    info = read('(func $f (export "one")) (func (export "two") (export "three")) (func)')

    assert info.labels("func") == {0: "f", 1: "two"}


@pytest.mark.parametrize(
    "content", [b"\x01\x80", b"\x01\x04\x02\x00\x01f", b"\x01\x05\x01\x00\x02\xff\xff", b"\xff\xff"]
)
def test_a_malformed_name_section_is_only_bad_advice(content: bytes) -> None:
    info = read_module(HEADER + section(0, b"\x04name" + content))

    assert info.function_names == {}


def test_names_before_the_malformed_part_are_kept() -> None:
    info = read_module(HEADER + section(0, b"\x04name" + b"\x00\x02\x01m" + b"\x01\x04\x01\x00\x01f" + b"\x07\x09"))

    assert info.module_name == "m"
    assert info.function_names == {0: "f"}


# -- against other readers ---------------------------------------------------------------------------------------------

RICH = """
  (import "env" "f" (func (param i32 i64 f32 f64 v128 funcref externref) (result i32 i64)))
  (import "env" "t" (table 1 7 externref)) (import "env" "m" (memory i64 1 7))
  (import "env" "g" (global (mut f32))) (import "env" "c" (global externref))
  (func (export "a") (param i32) (result f64) (f64.const 0))
  (func (export "b"))
  (memory (export "m") 3) (memory (export "m2") 1 2)
  (table (export "t") 4 funcref) (table (export "t64") i64 1 2 externref)
  (global (export "g") (mut i64) (i64.const 0)) (global (export "c") v128 (v128.const i64x2 0 0))
  (elem (table 1) (i32.const 0) func 1 2) (elem func 0) (data (memory 1) (i32.const 0) "abc") (data "defg")
"""


def word(type_: wasmtime.ValType) -> str:
    """Return what wasmtime-py calls a value type, in the words of the specification."""
    return str(type_).replace("anyref", "externref")


def spelled(type_: Any) -> object:
    """Return a type of wasmtime's like `ours` does."""
    if isinstance(type_, wasmtime.FuncType):
        return f"({', '.join(map(word, type_.params))}) -> ({', '.join(map(word, type_.results))})"
    if isinstance(type_, wasmtime.GlobalType):
        return (word(type_.content), type_.mutable)
    if isinstance(type_, wasmtime.MemoryType):
        return (type_.limits.min, type_.limits.max, type_.is_64)
    assert isinstance(type_, wasmtime.TableType)
    return (word(type_.element), type_.limits.min, type_.limits.max)


def ours(type_: object) -> object:
    if isinstance(type_, FuncType):
        return f"({', '.join(map(str, type_.params))}) -> ({', '.join(map(str, type_.results))})"
    if isinstance(type_, GlobalType):
        return (str(type_.value), type_.mutable)
    if isinstance(type_, MemoryType):
        return (type_.minimum, type_.maximum, type_.is_64)
    assert isinstance(type_, TableType)
    return (str(type_.element), type_.minimum, type_.maximum)


def test_wasmtime_sees_the_same_imports_and_exports() -> None:
    plain = RICH.replace("v128 (v128.const i64x2 0 0)", "f64 (f64.const 0)").replace("v128", "f64")
    wasm = assemble(f"(module {plain})")  # wasmtime-py aborts the process when asked about a v128
    info = read_module(wasm)
    module = wasmtime.Module(engine(), wasm)
    spaces: dict[str, Any] = {
        "func": [info.function_type(index) for index in range(len(info.functions))],
        "table": info.tables,
        "memory": info.memories,
        "global": info.globals,
    }

    assert [(each.module, each.name, ours(each.type)) for each in info.imports] == [
        (each.module, each.name, spelled(each.type)) for each in module.imports
    ]
    assert [(each.name, ours(spaces[each.kind][each.index])) for each in info.exports] == [
        (each.name, spelled(each.type)) for each in module.exports
    ]


def test_wasm_tools_sees_the_same_module() -> None:
    wasm = assemble(f"(module {RICH})")
    info = read_module(wasm)
    report = parse_wasm_bytes(wasm)

    assert report["errors"] == []
    assert [(each.name, each.kind, each.index) for each in info.exports] == [
        (each["name"], each["kind"], each["ref_index"]) for each in report["exports"]
    ]
    assert [(each.module, each.name, each.kind) for each in info.imports] == [
        (each["module"], each["name"], each["kind"]) for each in report["imports"]
    ]
    assert [(each.id, each.start, each.end - each.start) for each in info.sections] == [
        (each["id"], each["offset"], each["size"]) for each in report["sections"]
    ]
    assert [each.length for each in info.data] == [each["size"] for each in report["data_segments"]]
    assert [list(each.functions) for each in info.elements] == [each["func_indices"] for each in report["elements"]]
    assert [(each.minimum, each.maximum) for each in info.memories[info.imported_memories :]] == [
        (each["limits"]["min"], each["limits"]["max"]) for each in report["memories"]
    ]

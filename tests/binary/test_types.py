from __future__ import annotations

import pytest

from replicate.binary import (
    EXTERNREF,
    F64,
    FUNCREF,
    I32,
    I64,
    V128,
    FuncType,
    GlobalType,
    MemoryType,
    TableType,
    ValType,
    read_module,
)
from replicate.errors import ImportTypeError

from .support import assemble

ABSTRACT = {
    "func": "funcref",
    "extern": "externref",
    "any": "anyref",
    "eq": "eqref",
    "i31": "i31ref",
    "struct": "structref",
    "array": "arrayref",
    "exn": "exnref",
    "none": "nullref",
    "noextern": "nullexternref",
    "nofunc": "nullfuncref",
    "noexn": "nullexnref",
}


def parameter(text: str) -> ValType:
    """Return the type that the reader makes of `text` in a module."""
    types = "(type (func)) (type (struct)) (type (array i8))"
    info = read_module(assemble(f'(module {types} (import "" "" (func (param {text}))))'))
    return info.function_type(0).params[0]


@pytest.mark.parametrize("text", ["i32", "i64", "f32", "f64", "v128", *ABSTRACT.values()])
def test_a_type_is_spelled_as_in_the_text_format(text: str) -> None:
    assert str(parameter(text)) == text


@pytest.mark.parametrize("heap", ABSTRACT)
def test_a_reference_that_is_never_null_is_spelled_out(heap: str) -> None:
    found = parameter(f"(ref {heap})")

    assert found.text == f"(ref {heap})"
    assert not found.is_nullable


@pytest.mark.parametrize(("heap", "short"), ABSTRACT.items())
def test_both_spellings_of_a_nullable_reference_are_one_type(heap: str, short: str) -> None:
    assert ValType.parse(f"(ref null {heap})") == ValType.parse(short) == parameter(short)
    assert ValType.parse(short).is_nullable


@pytest.mark.parametrize("text", ["i32", "v128", "funcref", "(ref extern)", "nullref"])
def test_a_parsed_type_is_the_one_that_the_reader_finds(text: str) -> None:
    assert ValType.parse(text) == parameter(text)


@pytest.mark.parametrize(("index", "hierarchy"), [(0, "func"), (1, "any"), (2, "any")])
def test_a_reference_to_a_type_of_the_module_belongs_to_the_hierarchy_of_that_type(index: int, hierarchy: str) -> None:
    found = parameter(f"(ref null {index})")

    assert (found.text, found.hierarchy, found.is_func) == (f"(ref null {index})", hierarchy, hierarchy == "func")


def test_a_long_type_index_is_read_whole() -> None:
    types = "(type (func))" * 100
    info = read_module(assemble(f'(module {types} (type (struct)) (import "" "" (func (param (ref 100)))))'))

    assert info.function_type(0).params[0].text == "(ref 100)"
    assert info.function_type(0).params[0].hierarchy == "any"


def test_numbers_are_no_references() -> None:
    for number in (I32, I64, F64, V128):
        assert number.is_number
        assert not number.is_reference
        assert not number.is_nullable


def test_references_tell_functions_from_host_objects() -> None:
    assert FUNCREF.is_func
    assert not FUNCREF.is_extern
    assert EXTERNREF.is_extern
    assert not EXTERNREF.is_func
    assert ValType.parse("nullfuncref").is_func


@pytest.mark.parametrize("short", [name for name in ABSTRACT.values() if name.startswith("null")])
def test_the_bottom_of_a_hierarchy_holds_nothing_but_null(short: str) -> None:
    assert ValType.parse(short).is_null


@pytest.mark.parametrize("text", ["int", "", "(ref 3)", "ref func", "i32 i32"])
def test_an_unknown_type_is_refused_by_name(text: str) -> None:
    with pytest.raises(ImportTypeError, match="i32") as caught:
        ValType.parse(text)
    assert repr(text) in str(caught.value)


def test_a_function_type_reads_as_an_arrow() -> None:
    assert str(FuncType((I32, I32), (I32,))) == "(i32, i32) -> i32"
    assert str(FuncType((), ())) == "() -> ()"
    assert str(FuncType((F64,), (I32, I64))) == "(f64) -> (i32, i64)"


def test_the_other_types_read_as_in_the_text_format() -> None:
    assert str(MemoryType(1, 16, is_64=True, shared=True)) == "(memory i64 1 16 shared)"
    assert str(MemoryType(1, page_size=1)) == "(memory 1 (pagesize 1))"
    assert str(TableType(FUNCREF, 1, 2)) == "(table 1 2 funcref)"
    assert str(GlobalType(I32, mutable=True)) == "(global (mut i32))"
    assert str(GlobalType(I32, mutable=False)) == "(global i32)"

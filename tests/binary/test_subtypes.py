"""Which types are one, and which are subtypes; `tests/engine/test_typed_references.py` compares it with an engine's answers."""

from __future__ import annotations

import pytest

from replicate.binary import Declaration, FuncType, Subtypes, ValType, read_module
from replicate.errors import InvalidModuleError

from .support import assemble

HEADER = b"\0asm\1\0\0\0"


def canonical(types: str) -> tuple[int, ...]:
    return Subtypes(read_module(assemble(f"(module {types})"))).canonical


def test_the_definitions_of_types_are_read() -> None:
    info = read_module(
        assemble(
            """(module (type (func)) (rec (type $a (sub (func))) (type (sub final $a (func))))
            (type (sub $a (func))) (rec))"""
        )
    )

    assert info.declarations == (
        Declaration(0, 1),
        Declaration(1, 2, None, is_final=False),
        Declaration(1, 2, 1),
        Declaration(3, 1, 1, is_final=False),
    )


def test_types_that_look_alike_are_one() -> None:
    assert canonical("(type (func (param i32))) (type (func)) (type (func (param i32)))") == (0, 1, 0)


def test_what_a_type_refers_to_counts_and_not_its_index() -> None:
    types = "(type (func)) (type (func (param (ref 0)))) (type (func)) (type (func (param (ref 2))))"
    assert canonical(types) == (0, 1, 0, 1)


def test_a_group_is_one_with_another_that_refers_to_itself_likewise() -> None:
    types = """(rec (type (func (param (ref 1)))) (type (func (param (ref 0)))))
        (rec (type (func (param (ref 3)))) (type (func (param (ref 2)))))
        (rec (type (func (param (ref 1)))) (type (func (param (ref 4)))))"""
    assert canonical(types) == (0, 1, 0, 1, 4, 5)


@pytest.mark.parametrize(
    "types",
    [
        "(type (func)) (type (sub (func)))",
        "(type (func)) (rec (type (func)) (type (func)))",
        "(type (sub (func))) (type (sub 0 (func)))",
        "(type (func (param (ref null func)))) (type (func (param (ref func))))",
        "(type (func (param (ref null 0)))) (type (func (param (ref 1))))",
        "(type (func (param i32))) (type (func (result i32)))",
        "(type (struct (field i32))) (type (struct (field (mut i32))))",
        "(type (struct (field i8))) (type (array i8))",
        "(type (struct)) (type (func))",
    ],
)
def test_types_that_differ_are_not_one(types: str) -> None:
    assert len(set(canonical(types))) > 1


def test_only_what_is_declared_is_a_subtype() -> None:
    info = read_module(
        assemble(
            """(module (type $top (sub (func))) (type $below (sub $top (func))) (type $bottom (sub final $below (func)))
            (type $like (sub $top (func))) (type $aside (sub (func (param i32))))
            (import "" "" (func (param (ref $top) (ref $below) (ref $bottom) (ref $aside) nullfuncref funcref externref)))
            (func (type $top)) (func (type $below)) (func (type $bottom)) (func (type $like)) (func (type $aside)))"""
        )
    )
    subtypes = Subtypes(info)
    kinds = info.function_type(0).params

    accepted = {kind.text: [at for at in range(1, 6) if subtypes.is_subtype(at, kind)] for kind in kinds}
    assert accepted == {
        "(ref 0)": [1, 2, 3, 4],
        "(ref 1)": [2, 3, 4],  # $like is defined as $below is, so that it's the same type
        "(ref 2)": [3],
        "(ref 4)": [5],
        "nullfuncref": [],
        "funcref": [1, 2, 3, 4, 5],
        "externref": [],
    }


def test_a_reference_to_a_type_of_the_module_names_it() -> None:
    info = read_module(assemble("(module (type (func (param (ref null 0) funcref))))"))

    assert isinstance(info.types[0], FuncType)
    assert [kind.index for kind in info.types[0].params] == [0, None]
    assert ValType.parse("(ref func)").index is None


@pytest.mark.parametrize(
    ("types", "message"),
    [
        (b"\1\x50\1\0\x60\0\0", "type 0 has the supertype 0"),
        (b"\2\x50\1\1\x60\0\0\x60\0\0", "type 0 has the supertype 1"),
        (b"\3\x50\0\x60\0\0\x50\0\x60\0\0\x50\2\0\1\x60\0\0", "type 2 has 2 supertypes"),
    ],
)
def test_a_supertype_that_cannot_be_is_refused(types: bytes, message: str) -> None:
    with pytest.raises(InvalidModuleError, match=message):
        read_module(HEADER + bytes([1, len(types)]) + types)

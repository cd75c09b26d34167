"""Typed function references: the library's idea of which function is of which type is wasmtime's own."""

from __future__ import annotations

import ctypes
from typing import TypeAlias

import attrs
import pytest
import wasmtime
from hypothesis import given, settings
from hypothesis import strategies as st

from replicate.binary import FuncType, Subtypes, read_module
from replicate.errors import ArgumentTypeError, HostResultError
from replicate.imports import Companion
from replicate_wasmtime import WasmtimeEngine, _capi
from replicate_wasmtime.instance import WasmtimeInstance

Value: TypeAlias = "str | tuple[bool, int]"
"""A value type: a word, or whether it's nullable, and the type that it refers to."""

WORDS = ("i32", "f64", "funcref", "structref", "anyref")
ENGINE = WasmtimeEngine(cache=False)


@attrs.frozen
class Defined:
    """A type of the module, its references as indices; `is_struct` takes fields where a function has parameters."""

    params: tuple[Value, ...]
    results: tuple[Value, ...]
    supertype: int | None
    is_final: bool
    is_struct: bool

    def text(self) -> str:
        params, results = ([_text(value) for value in values] for values in (self.params, self.results))
        if self.is_struct:
            body = "(struct" + "".join(f" (field {value})" for value in params) + ")"
        else:
            body = f"(func (param {' '.join(params)}) (result {' '.join(results)}))"
        if self.is_final and self.supertype is None:
            return f"(type {body})"
        final = " final" if self.is_final else ""
        supertype = "" if self.supertype is None else f" {self.supertype}"
        return f"(type (sub{final}{supertype} {body}))"

    def moved(self, start: int, by: int) -> Defined:
        """Give the same type for a copy of its group: what it refers to from `start` on moves too."""

        def value(old: Value) -> Value:
            return old if isinstance(old, str) or old[1] < start else (old[0], old[1] + by)

        supertype = self.supertype
        return attrs.evolve(
            self,
            params=tuple(map(value, self.params)),
            results=tuple(map(value, self.results)),
            supertype=supertype if supertype is None or supertype < start else supertype + by,
        )


def _text(value: Value) -> str:
    return value if isinstance(value, str) else f"(ref {'null ' * value[0]}{value[1]})"


@st.composite
def groups(draw: st.DrawFn) -> list[list[Defined]]:
    """Draw the recursion groups of a type section, most of them valid, many of them alike."""
    found: list[list[Defined]] = []
    types: list[Defined] = []
    for _ in range(draw(st.integers(1, 5))):
        start = len(types)
        kind = draw(st.sampled_from(["new", "copy", "altered"])) if found else "new"
        if kind == "new":
            size = draw(st.integers(1, 3))
            group: list[Defined] = []
            for _ in range(size):
                group.append(draw(_defined([*types, *group], start + size)))
        else:
            source = draw(st.integers(0, len(found) - 1))
            old = sum(map(len, found[:source]))
            group = [each.moved(old, start - old) for each in found[source]]
            if kind == "altered":
                at = draw(st.integers(0, len(group) - 1))
                group[at] = attrs.evolve(group[at], is_final=not group[at].is_final)
        found.append(group)
        types += group
    return found


@st.composite
def _defined(draw: st.DrawFn, before: list[Defined], end: int) -> Defined:
    value = st.one_of(st.sampled_from(WORDS), st.tuples(st.booleans(), st.integers(0, end - 1)))
    open_types = [index for index, each in enumerate(before) if not each.is_final]
    is_final = draw(st.sampled_from([False, False, True]))
    supertype = draw(st.sampled_from([None, *open_types])) if open_types else None
    if supertype is not None:
        above = before[supertype]
        results = list(above.results)
        if results and draw(st.booleans()) and isinstance(results[0], tuple):
            results[0] = (False, results[0][1])  # never null is a subtype of perhaps null
        params = above.params + (("i32",) if above.is_struct and draw(st.booleans()) else ())
        return Defined(params, tuple(results), supertype, is_final, above.is_struct)
    is_struct = draw(st.sampled_from([False, False, False, True]))
    some = st.lists(value, max_size=2).map(tuple)
    return Defined(draw(some), () if is_struct else draw(some), None, is_final, is_struct)


def _sections(found: list[list[Defined]]) -> str:
    lines = []
    for group in found:
        text = " ".join(each.text() for each in group)
        lines.append(f"(rec {text})" if len(group) > 1 else text)
    return "\n".join(lines)


def _module(found: list[list[Defined]]) -> tuple[str, list[int]]:
    """Give a module with a function and a global of each function type, and these types."""
    types = [each for group in found for each in group]
    functions = [index for index, each in enumerate(types) if not each.is_struct]
    parts = [_sections(found)]
    for at in functions:
        parts.append(f'(func $f{at} (export "f{at}") (type {at}) unreachable)')
        parts.append(f'(global (export "g{at}") (mut (ref null {at})) (ref.null {at}))')
    for number, at in enumerate(functions):
        parts.append(f'(func (export "take{at}") (param (ref null {at})))')
        parts.append(f'(func (export "is{at}") (param funcref) (result i32) (ref.test (ref {at}) (local.get 0)))')
        parts.append(f'(func (export "get{at}") (result funcref) (ref.func {number}))')
    return "(module\n" + "\n".join(parts) + ")", functions


def _can_be_stored(instance: WasmtimeInstance, function: int, type_: int) -> bool:
    """Ask wasmtime whether it puts a function into a global; in this it takes all types of one structure for the same."""
    value = _capi.Value(_capi.FUNCREF)
    extern = instance._extern(f"f{function}")
    ctypes.memmove(ctypes.addressof(value) + 8, ctypes.addressof(extern) + 8, 16)
    target = ctypes.addressof(instance._extern(f"g{type_}")) + 8
    error = _capi.global_set(instance.cell.context, target, ctypes.addressof(value))
    if error is None:
        return True
    assert "type mismatch" in str(_capi.take_error(error))
    return False


def _is_valid(text: str) -> bool:
    try:
        wasmtime.Module.validate(ENGINE.native, wasmtime.wat2wasm(text))
    except wasmtime.WasmtimeError:
        return False
    return True


@settings(deadline=None, max_examples=150)
@given(groups())
def test_a_function_is_of_a_type_exactly_if_wasmtime_says_so(found: list[list[Defined]]) -> None:
    while not _is_valid(f"(module {_sections(found)})"):
        found = found[:-1]
    text, functions = _module(found)
    with ENGINE.compile(text).instantiate() as instance:
        assert isinstance(instance, WasmtimeInstance)
        subtypes = Subtypes(instance.module.info)
        for function, of in enumerate(functions):
            reference = instance.call(f"get{of}")
            for type_ in functions:
                kind = instance.module.info.globals[functions.index(type_)].value
                expected = bool(instance.call(f"is{type_}", reference))
                assert expected == subtypes.is_subtype(function, kind), (of, type_)
                if expected:
                    instance.call(f"take{type_}", reference)
                    assert _can_be_stored(instance, of, type_)
                else:
                    with pytest.raises(ArgumentTypeError):
                        instance.call(f"take{type_}", reference)


def test_a_companions_types_are_not_the_guests() -> None:
    """They have indices of their own: a function of the guest's type 1 isn't one of the companion's type 1."""
    guest = """(module (type (func)) (type $t (func (param i64) (result i64))) (import "host" "call" (func $call (result f64)))
        (func $f (type $t) local.get 0) (elem declare func $f)
        (func (export "f") (result funcref) (ref.func $f))
        (func (export "call") (result f64) (call $call)))"""
    wat = """(module (type (func)) (type $t (func (param f64) (result f64)))
        (import "host" "pick" (func $pick (result (ref $t))))
        (func (export "call") (result f64) (call_ref $t (f64.const 1.5) (call $pick))))"""
    given: list[object] = []
    companion = Companion(wat, {"pick": lambda: given[0]})
    with ENGINE.compile(guest).instantiate({"host": {"call": companion.function("call", float)}}) as instance:
        given.append(instance.call("f"))
        with pytest.raises(HostResultError, match="no function of this module"):
            instance.call("call")


def test_the_types_of_a_module_without_typed_references_are_never_compared() -> None:
    info = read_module(ENGINE.wat_to_wasm('(module (type (func)) (func (export "f") (param funcref)))'))
    subtypes = Subtypes(info)
    kind = info.types[1]
    assert isinstance(kind, FuncType)
    assert subtypes.accepted(kind.params[0]) is None
    assert subtypes._canonical == ()

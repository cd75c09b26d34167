"""Calls of a guest's exports, and strategies that draw them."""

from __future__ import annotations

import functools
import random
import struct
from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

import attrs
from hypothesis import strategies as st

from replicate.binary import FuncType, ModuleInfo, ValType
from replicate.errors import MissingExportError
from replicate.values import signed, value_to_bits

__all__ = ["Call", "as_call", "boundaries", "callable_exports", "calls", "describe_value", "generate_calls", "values"]

Bits: TypeAlias = "int | None"
"""A number as an unsigned bit pattern, or a null reference."""

_WIDTH = {"i32": 32, "i64": 64, "f32": 32, "f64": 64, "v128": 128}
_NEVER_DRAWN = frozenset({"_start", "_initialize"})


@attrs.frozen(init=False)
class Call:
    """Be one call of an export. Numbers are unsigned bit patterns, as `Instance.call_bits` takes them; null is None."""

    name: str
    args: tuple[Bits, ...]

    def __init__(self, name: str, *args: Bits) -> None:
        self.__attrs_init__(name, args)

    def __repr__(self) -> str:
        shown = [repr(self.name), *(repr(arg) if arg is None or arg < 1 << 16 else hex(arg) for arg in self.args)]
        return f"Call({', '.join(shown)})"

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        # Hypothesis, like IPython, would spell out the fields otherwise.
        printer.text(repr(self))


def boundaries(kind: str) -> Sequence[int]:
    """Give the bit patterns of a number type that are most likely to go wrong; the first is the simplest."""
    return _BOUNDARIES[kind]


def _float_boundaries(layout: str, patterns: Iterable[int]) -> list[int]:
    exact = [0.0, 1.0, -0.0, 0.5, -1.0, float("inf"), float("-inf"), 2.0**31, -(2.0**63)]
    return [*(int.from_bytes(struct.pack(layout, value), "little") for value in exact), *patterns]


_INTEGERS = [0, 1, 2, 3, 4, 7, 8, 15, 16, 255, 4095, 4096, 65535, 65536, -1, -2, -8]
_BOUNDARIES: dict[str, list[int]] = {
    "i32": [*(value & 2**32 - 1 for value in _INTEGERS), 2**31 - 1, 2**31, 0x7FA00001, 0xFFA00003],
    "i64": [
        *(value & 2**64 - 1 for value in _INTEGERS),
        2**31,
        2**32 - 1,
        2**32,
        2**63 - 1,
        2**63,
        (0x7FF4 << 48) | 1,
        (0xFFF4 << 48) | 3,
    ],
    # Quiet and signalling NaNs with payloads, of both signs; the smallest and the largest subnormal.
    "f32": _float_boundaries("<f", [0x7FC00000, 0x7FA00001, 0xFFA00003, 0x7F800001, 0xFFC00000, 1, 0x007FFFFF]),
    "f64": _float_boundaries(
        "<d", [0x7FF8 << 48, (0x7FF4 << 48) | 1, (0xFFF4 << 48) | 3, (0x7FF0 << 48) | 1, 0xFFF8 << 48, 1, 2**52 - 1]
    ),
    "v128": [
        *(0, 1, 1 << 64, 1 << 127, 2**128 - 1, 2**64 - 1, (2**64 - 1) << 64),
        0x0F0E0D0C0B0A09080706050403020100,
        0x7FA00001_FFA00003_7FC00000_FFC00000,
    ],
}


@functools.cache
def values(kind: ValType) -> st.SearchStrategy[Bits]:
    """Draw arguments of a type: boundaries, small numbers and anything; NaNs with payloads; null for references."""
    if kind.is_reference:
        return st.none()
    text = kind.text
    anything = st.integers(0, (1 << _WIDTH[text]) - 1)
    known = st.sampled_from(_BOUNDARIES[text])
    if text in ("i32", "i64"):
        return st.one_of(st.integers(0, 9), known, known, anything)
    return st.one_of(known, known, anything)


def callable_exports(info: ModuleInfo, names: Sequence[str] | None = None) -> dict[str, FuncType]:
    """Give the exported functions that drawn arguments can be given to, or those of `names`, with their types.

    ``_initialize`` is left out, as it's part of starting a module; so is ``_start``, unless it's all there is. So are functions
    with a parameter that no host can make: garbage-collected objects, exceptions, references that are never null.
    Raises `MissingExportError` for a name that isn't among them.
    """
    exported = {export.name: export.index for export in info.exports if export.kind == "func"}
    types = {name: info.function_type(index) for name, index in exported.items()}
    usable = {name: kind for name, kind in types.items() if all(map(_can_be_made, kind.params))}
    if names is not None:
        missing = [name for name in names if name not in usable]
        if missing:
            raise MissingExportError(
                f"no function that can be called is exported as {', '.join(map(repr, missing))}; "
                f"there are {', '.join(usable) or 'none'}"
            )
        return {name: usable[name] for name in names}
    return {name: kind for name, kind in usable.items() if name not in _NEVER_DRAWN} or {
        name: kind for name, kind in usable.items() if name == "_start"
    }


def _can_be_made(kind: ValType) -> bool:
    return kind.is_number or (kind.is_nullable and (kind.is_func or kind.is_extern))


def calls(
    info: ModuleInfo, *, names: Sequence[str] | None = None, min_calls: int = 0, max_calls: int = 20
) -> st.SearchStrategy[list[Call]]:
    """Draw sequences of calls of a module's exports; see `callable_exports` for `names`."""
    usable = callable_exports(info, names)
    if not usable:
        return st.just([])
    return st.lists(_one_call(tuple(usable.items())), min_size=min_calls, max_size=max_calls)


@st.composite
def _one_call(draw: st.DrawFn, usable: Sequence[tuple[str, FuncType]]) -> Call:
    name, kind = usable[draw(_index(len(usable)))]
    return Call(name, *[draw(values(param)) for param in kind.params])


def generate_calls(rng: random.Random, info: ModuleInfo, count: int) -> list[Call]:
    """Make so many calls of a module's exports, like those of `calls`, without Hypothesis."""
    usable = list(callable_exports(info).items())
    picked = [rng.choice(usable) for _ in range(count if usable else 0)]
    return [Call(name, *[_generate_value(rng, param) for param in kind.params]) for name, kind in picked]


def _generate_value(rng: random.Random, kind: ValType) -> Bits:
    if kind.is_reference:
        return None
    choice = rng.randrange(4)
    if choice == 0:
        return rng.getrandbits(_WIDTH[kind.text])
    if choice == 1 and kind.text in ("i32", "i64"):
        return rng.randrange(10)
    return rng.choice(_BOUNDARIES[kind.text])


@functools.cache
def _index(length: int) -> st.SearchStrategy[int]:
    return st.integers(0, length - 1)


def as_call(given: Call | Sequence[Any], types: dict[str, FuncType]) -> Call:
    """Make a `Call` of what a user has written: a `Call`, or a name and Python values as `Instance.call` takes them."""
    if isinstance(given, Call):
        return given
    name, *args = given
    kind = types.get(name)
    if kind is None or len(args) != len(kind.params):
        return Call(name, *args)
    return Call(
        name,
        *(
            value_to_bits(arg, param, what=f"argument {position} of {name!r}") if param.is_number else arg
            for position, (arg, param) in enumerate(zip(args, kind.params, strict=True), 1)
        ),
    )


def describe_value(value: Any, kind: ValType) -> str:
    """Spell a value as a reader of the text format would."""
    if value is None:
        return "null"
    if not isinstance(value, int):
        return str(value)
    if kind.text in ("i32", "i64"):
        number = signed(value, _WIDTH[kind.text])
        return str(number) if -(1 << 20) < number < 1 << 20 else hex(value)
    if kind.text in ("f32", "f64"):
        layout, length = ("<f", 4) if kind.text == "f32" else ("<d", 8)
        number = struct.unpack(layout, value.to_bytes(length, "little"))[0]
        return repr(number) if number == number else f"nan {value:#x}"
    return hex(value)

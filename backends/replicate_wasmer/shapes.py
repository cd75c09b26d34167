"""How the values of one function type look to wasmer: signed ints, floats, and unsigned ints of 128 bits."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from replicate.binary import FuncType, ValType
from replicate.values import bits_to_value, value_to_bits

from ._runtime import wasmer

__all__ = ["Shape", "native_type"]

_LAYOUT = {"i32": "i", "i64": "q", "f32": "f", "f64": "d"}
_NATIVE = {"i32": "I32", "i64": "I64", "f32": "F32", "f64": "F64", "v128": "V128"}


class Shape:
    """Hold the checks of one function type.

    `plain` says that all values are i32, i64, f32 or f64, so that packing and unpacking them checks ranges and rounds.
    """

    __slots__ = ("has_references", "pack_params", "pack_results", "plain", "type", "unpack_params", "unpack_results")

    def __init__(self, kind: FuncType) -> None:
        self.type = kind
        self.plain = all(value.text in _LAYOUT for value in kind.params + kind.results)
        self.has_references = any(value.is_reference for value in kind.params + kind.results)
        params = struct.Struct("=" + "".join(_LAYOUT.get(value.text, "") for value in kind.params))
        results = struct.Struct("=" + "".join(_LAYOUT.get(value.text, "") for value in kind.results))
        self.pack_params: Callable[..., bytes] = params.pack
        self.unpack_params: Callable[[bytes], tuple[Any, ...]] = params.unpack
        self.pack_results: Callable[..., bytes] = results.pack
        self.unpack_results: Callable[[bytes], tuple[Any, ...]] = results.unpack

    def native(self) -> Any:
        """Make wasmer's type of it."""
        return wasmer.FunctionType(
            [native_type(value) for value in self.type.params], [native_type(value) for value in self.type.results]
        )

    def results_to_bits(self, value: Any) -> Any:
        """Turn what wasmer gives into bit patterns."""
        kinds = self.type.results
        if not kinds:
            return None
        if len(kinds) == 1:
            return value_to_bits(value, kinds[0], what="a result")
        return tuple(value_to_bits(one, kind, what="a result") for one, kind in zip(value, kinds, strict=True))

    def params_from_bits(self, bits: list[int]) -> list[Any]:
        """Turn bit patterns into what wasmer takes."""
        return [bits_to_value(one, kind) for one, kind in zip(bits, self.type.params, strict=True)]


def native_type(kind: ValType) -> Any:
    """Give wasmer's type of a number."""
    return getattr(wasmer.Type, _NATIVE[kind.text])

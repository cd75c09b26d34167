"""How the values of one function type lie in wasmtime's array of raw 16-byte values."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from replicate.binary import FuncType, Subtypes, ValType

__all__ = ["Shape", "decode_bits", "encode_bits"]

_LAYOUT = {"i32": "i12x", "i64": "q8x", "f32": "f12x", "f64": "d8x"}


class Shape:
    """Hold the layouts of one function type.

    `plain` says that all values are i32, i64, f32 or f64, so that one `struct` call packs the arguments and one unpacks
    the results. `count` is the number of slots: arguments and results share them. `params` and `results` pair each type
    with the types of functions that a reference of it may refer to, as `Subtypes.accepted` gives them.
    """

    __slots__ = (
        *("count", "pack", "pack_results", "params", "plain", "results", "size", "type"),
        *("unpack_params", "unpack_results"),
    )

    def __init__(self, kind: FuncType, subtypes: Subtypes | None) -> None:
        """Lay out `kind`, a type of the guest that `subtypes` is about; of another module if that is None.

        The guest's functions fit no type that another module defines, as far as anyone can tell here.
        """
        self.type = kind
        self.params = tuple((value, _accepted(value, subtypes)) for value in kind.params)
        self.results = tuple((value, _accepted(value, subtypes)) for value in kind.results)
        self.count = max(len(kind.params), len(kind.results))
        self.size = 16 * self.count
        self.plain = all(value.text in _LAYOUT for value in kind.params + kind.results)
        params = struct.Struct("=" + "".join(_LAYOUT.get(value.text, "16x") for value in kind.params))
        results = struct.Struct("=" + "".join(_LAYOUT.get(value.text, "16x") for value in kind.results))
        self.pack: Callable[..., None] = params.pack_into
        self.unpack_params: Callable[..., tuple[Any, ...]] = params.unpack_from
        self.pack_results: Callable[..., None] = results.pack_into
        self.unpack_results: Callable[..., tuple[Any, ...]] = results.unpack_from


def _accepted(kind: ValType, subtypes: Subtypes | None) -> frozenset[int] | None:
    if subtypes is not None and kind.is_func:
        return subtypes.accepted(kind)
    return None if kind.index is None and not kind.is_null else frozenset()


def encode_bits(bits: int) -> bytes:
    """Lay a number's bit pattern into a slot."""
    return bits.to_bytes(16, "little")


def decode_bits(slot: bytes, kind: ValType) -> int:
    """Read a number's bit pattern from a slot."""
    width = {"i32": 4, "f32": 4, "i64": 8, "f64": 8, "v128": 16}[kind.text]
    return int.from_bytes(slot[:width], "little")

"""How Wasm values look in Python, and the checks that every engine shares.

==========  ====================================================================================
Wasm type   Python value
==========  ====================================================================================
i32, i64    int. Signed results; arguments may be given signed or unsigned (``-1`` or ``2**32 - 1``)
f32, f64    float. An f32 argument must be in f32's range; it is rounded to nearest
v128        int of 128 bits, little-endian lanes; as an argument also 16 ``bytes``
funcref     `FuncRef`, a callable, or None
externref   any Python object, or None
==========  ====================================================================================

Python floats can't carry every bit pattern: the conversion between f32 and f64 quiets signalling NaNs. Where bits matter
use `Instance.call_bits`, which takes and gives numbers as unsigned integers holding the bit pattern.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Sequence
from typing import Any

from replicate.binary import FuncType, ValType
from replicate.errors import ArgumentRangeError, ArgumentTypeError, ArityError, DeadHandleError, HostResultError

__all__ = ["FuncRef", "bits_to_value", "check_bits", "explain_arguments", "signed", "split_results", "value_to_bits"]

_WIDTH = {"i32": 32, "i64": 64, "f32": 32, "f64": 64, "v128": 128}


class FuncRef:
    """Hold a reference to a function of one instance, for as long as that instance isn't replaced or handed on.

    Call it like the function. Using it after its transaction, or on another instance, raises `DeadHandleError`.
    `index` is the function's index in its module where the engine can tell, else None. A parameter of a type such as
    ``(ref $t)`` takes functions that are declared to be of that type, and so none without an index.
    """

    __slots__ = ("_call", "_is_alive", "_native", "index")

    def __init__(
        self,
        *,
        index: int | None,
        native: object,
        call: Callable[..., Any],
        is_alive: Callable[[], bool],
    ) -> None:
        self.index = index
        self._native = native
        self._call = call
        self._is_alive = is_alive

    def native(self) -> object:
        """Return the engine's own reference, for backends; raise `DeadHandleError` when it's gone."""
        if not self._is_alive():
            raise DeadHandleError(
                "this function reference belongs to a transaction that has ended; fetch it again inside a new one"
            )
        return self._native

    def __call__(self, *args: Any) -> Any:
        self.native()
        return self._call(*args)

    def __repr__(self) -> str:
        state = "alive" if self._is_alive() else "dead"
        return f"<FuncRef function {'?' if self.index is None else self.index}, {state}>"


def signed(bits: int, width: int) -> int:
    """Read an unsigned `width`-bit pattern as two's complement."""
    return bits - (1 << width) if bits >> (width - 1) else bits


def value_to_bits(value: Any, kind: ValType, *, what: str) -> int:
    """Turn a Python number into the bit pattern of the number type `kind`, or raise an `ArgumentError`.

    `what` names the value in the message: ``"argument 1 of 'put'"``.
    """
    text = kind.text
    if text in ("i32", "i64"):
        if not isinstance(value, int):
            raise ArgumentTypeError(f"{what} must be an int for {text}, not {_describe(value)}")
        width = _WIDTH[text]
        if not -(1 << (width - 1)) <= value < 1 << width:
            raise ArgumentRangeError(f"{what} is {value}, which doesn't fit {text} (-2**{width - 1} .. 2**{width}-1)")
        return value & ((1 << width) - 1)
    if text in ("f32", "f64"):
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise ArgumentTypeError(f"{what} must be a float for {text}, not {_describe(value)}")
        try:
            packed = struct.pack("<f" if text == "f32" else "<d", value)
        except OverflowError as error:
            raise ArgumentRangeError(f"{what} is {value!r}, which is beyond the range of {text}") from error
        return int.from_bytes(packed, "little")
    if text == "v128":
        if isinstance(value, (bytes, bytearray)):
            if len(value) != 16:
                raise ArgumentRangeError(f"{what} has {len(value)} bytes; a v128 has 16")
            return int.from_bytes(value, "little")
        if not isinstance(value, int):
            raise ArgumentTypeError(f"{what} must be an int or 16 bytes for v128, not {_describe(value)}")
        if not -(1 << 127) <= value < 1 << 128:
            raise ArgumentRangeError(f"{what} is {value}, which doesn't fit v128")
        return value & ((1 << 128) - 1)
    raise ArgumentTypeError(f"{what} has the reference type {text}, which has no bit pattern")


def bits_to_value(bits: int, kind: ValType) -> int | float:
    """Turn a number's bit pattern into the Python value described in this module's table."""
    text = kind.text
    if text in ("i32", "i64"):
        return signed(bits, _WIDTH[text])
    if text == "f32":
        value: float = struct.unpack("<f", bits.to_bytes(4, "little"))[0]
        return value
    if text == "f64":
        value = struct.unpack("<d", bits.to_bytes(8, "little"))[0]
        return value
    return bits


def check_bits(bits: Any, kind: ValType, *, what: str) -> int:
    """Check that `bits` is an unsigned integer of the width of `kind`."""
    width = _WIDTH[kind.text]
    if not isinstance(bits, int):
        raise ArgumentTypeError(f"{what} must be the bit pattern of a {kind} as an int, not {_describe(bits)}")
    if not 0 <= bits < 1 << width:
        raise ArgumentRangeError(f"{what} is {bits}, which isn't an unsigned {width}-bit pattern")
    return bits


def explain_arguments(name: str, kind: FuncType, args: Sequence[Any]) -> list[Any]:
    """Check `args` against the function's type and give number bit patterns and references, or say what is wrong."""
    if len(args) != len(kind.params):
        raise ArityError(f"{name!r} takes {len(kind.params)} argument(s) {kind}, and got {len(args)}")
    return [
        value_to_bits(value, param, what=f"argument {position} of {name!r}") if param.is_number else value
        for position, (value, param) in enumerate(zip(args, kind.params, strict=True), 1)
    ]


def split_results(name: str, kind: FuncType, value: Any) -> tuple[Any, ...]:
    """Take what a host function of this type has returned apart; raise `HostResultError` for too few or too many values."""
    count = len(kind.results)
    if count == 1:
        values: tuple[Any, ...] = (value,)
    elif value is None:
        values = ()
    else:
        values = tuple(value) if isinstance(value, (tuple, list)) else (value,)
    if len(values) != count:
        raise HostResultError(f"host function {name} must return {count} value(s) {kind}, and returned {value!r:.80}")
    return values


def _describe(value: object) -> str:
    if isinstance(value, float) and math.isfinite(value):
        return f"the float {value!r}"
    return f"{type(value).__name__} {value!r:.60}"

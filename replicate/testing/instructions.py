"""Instructions of core Wasm, each as text and as binary, for modules that the kit makes itself.

`op` makes one instruction, flat (not folded), as in ``op("i32.const", 5)``. Indices and immediates come in the order of
the text format. Only what the kit's own modules use is known here.
"""

from __future__ import annotations

import functools
import math
import struct
from typing import TypeAlias

import attrs

from replicate.binary import ValType, leb

__all__ = ["Code", "Instruction", "const", "null", "op"]


@attrs.frozen
class Instruction:
    """Be one instruction in both formats."""

    text: str
    binary: bytes


Code: TypeAlias = tuple[Instruction, ...]

_PLAIN = {
    "unreachable": 0x00,
    "end": 0x0B,
    "return": 0x0F,
    "drop": 0x1A,
    "ref.is_null": 0xD1,
    "i32.eqz": 0x45,
    "i32.eq": 0x46,
    "i64.eqz": 0x50,
    "i32.add": 0x6A,
    "i32.sub": 0x6B,
    "i32.mul": 0x6C,
    "i32.rem_u": 0x70,
    "i32.and": 0x71,
    "i32.or": 0x72,
    "i32.shl": 0x74,
    "i64.add": 0x7C,
    "i64.sub": 0x7D,
    "i64.mul": 0x7E,
    "i64.rem_u": 0x82,
    "i64.and": 0x83,
    "i64.or": 0x84,
    "i64.xor": 0x85,
    "i64.shl": 0x86,
    "i64.rotl": 0x89,
    "i32.wrap_i64": 0xA7,
    "i64.extend_i32_s": 0xAC,
    "i64.extend_i32_u": 0xAD,
    "i32.reinterpret_f32": 0xBC,
    "i64.reinterpret_f64": 0xBD,
    "f32.reinterpret_i32": 0xBE,
    "f64.reinterpret_i64": 0xBF,
}
_ONE_INDEX = {
    "br": b"\x0c",
    "br_if": b"\x0d",
    "call": b"\x10",
    "return_call": b"\x12",
    "local.get": b"\x20",
    "local.set": b"\x21",
    "local.tee": b"\x22",
    "global.get": b"\x23",
    "global.set": b"\x24",
    "table.get": b"\x25",
    "table.set": b"\x26",
    "memory.size": b"\x3f",
    "memory.grow": b"\x40",
    "ref.func": b"\xd2",
    "data.drop": b"\xfc\x09",
    "memory.fill": b"\xfc\x0b",
    "elem.drop": b"\xfc\x0d",
    "table.grow": b"\xfc\x0f",
    "table.size": b"\xfc\x10",
    "table.fill": b"\xfc\x11",
    "i64x2.extract_lane": b"\xfd\x1d",
    "i64x2.replace_lane": b"\xfd\x1e",
}
_VECTOR = {"i64x2.splat": b"\xfd\x12"}
_TWO_INDICES = {
    "memory.copy": b"\xfc\x0a",
    "table.copy": b"\xfc\x0e",
}
_TWO_SWAPPED = {  # in binary the second index of the text comes first
    "memory.init": b"\xfc\x08",
    "table.init": b"\xfc\x0c",
    "call_indirect": b"\x11",
}
_ACCESSES = {  # with the exponent of the natural alignment
    "i32.load": (b"\x28", 2),
    "i64.load": (b"\x29", 3),
    "f32.load": (b"\x2a", 2),
    "f64.load": (b"\x2b", 3),
    "i32.load8_u": (b"\x2d", 0),
    "i32.load16_s": (b"\x2e", 1),
    "i64.load8_u": (b"\x31", 0),
    "i32.store": (b"\x36", 2),
    "i64.store": (b"\x37", 3),
    "f32.store": (b"\x38", 2),
    "f64.store": (b"\x39", 3),
    "i32.store8": (b"\x3a", 0),
    "i32.store16": (b"\x3b", 1),
    "i64.store32": (b"\x3e", 2),
    "v128.load": (b"\xfd\x00", 4),
    "v128.store": (b"\xfd\x0b", 4),
}
_BLOCKS = {"block": b"\x02", "loop": b"\x03", "if": b"\x04"}
_BLOCK_TYPES = {"": b"\x40", "i32": b"\x7f", "i64": b"\x7e"}
_HEAP_TYPES = {"funcref": ("func", b"\x70"), "externref": ("extern", b"\x6f")}


@functools.lru_cache(maxsize=4096)
def op(name: str, *immediates: int | str) -> Instruction:
    """Make an instruction.

    Accesses take a memory and an offset, blocks the type of their result (``""`` for none), and ``call_indirect`` a table
    and a type.
    """
    if name in _PLAIN:
        return Instruction(name, bytes([_PLAIN[name]]))
    if name in _VECTOR:
        return Instruction(name, _VECTOR[name])
    if name in _BLOCKS:
        (result,) = immediates
        return Instruction(f"{name} (result {result})" if result else name, _BLOCKS[name] + _BLOCK_TYPES[str(result)])
    numbers = tuple(map(int, immediates))
    if name in _ACCESSES:
        memory, offset = numbers
        code, align = _ACCESSES[name]
        where = leb.unsigned(align) if memory == 0 else leb.unsigned(align | 0x40) + leb.unsigned(memory)
        text = f"{name} {memory} offset={offset}"
        return Instruction(text, code + where + leb.unsigned(offset))
    if name in _ONE_INDEX:
        (index,) = numbers
        return Instruction(f"{name} {index}", _ONE_INDEX[name] + leb.unsigned(index))
    first, second = numbers
    if name in _TWO_INDICES:
        return Instruction(f"{name} {first} {second}", _TWO_INDICES[name] + leb.unsigned(first) + leb.unsigned(second))
    spelled = f"(type {second})" if name == "call_indirect" else str(second)
    return Instruction(f"{name} {first} {spelled}", _TWO_SWAPPED[name] + leb.unsigned(second) + leb.unsigned(first))


@functools.lru_cache(maxsize=4096)
def const(kind: str, bits: int) -> Instruction:
    """Make the constant of the number type `kind` whose bit pattern is `bits` (integers may be negative)."""
    if kind in ("i32", "i64"):
        width = 32 if kind == "i32" else 64
        bits &= (1 << width) - 1
        value = bits - (1 << width) if bits >> (width - 1) else bits
        return Instruction(f"{kind}.const {value}", (b"\x41" if kind == "i32" else b"\x42") + leb.signed(value))
    if kind == "f32":
        return Instruction(f"f32.const {_float_text(bits, 8, 23)}", b"\x43" + bits.to_bytes(4, "little"))
    if kind == "f64":
        return Instruction(f"f64.const {_float_text(bits, 11, 52)}", b"\x44" + bits.to_bytes(8, "little"))
    low, high = bits & (2**64 - 1), bits >> 64
    return Instruction(f"v128.const i64x2 {low} {high}", b"\xfd\x0c" + bits.to_bytes(16, "little"))


def null(kind: ValType) -> Instruction:
    """Make the null reference of the type funcref or externref."""
    heap, code = _HEAP_TYPES[kind.text]
    return Instruction(f"ref.null {heap}", b"\xd0" + code)


def _float_text(bits: int, exponent: int, mantissa: int) -> str:
    width = 1 + exponent + mantissa
    sign = "-" if bits >> (width - 1) else ""
    payload = bits & ((1 << mantissa) - 1)
    if bits >> mantissa & ((1 << exponent) - 1) != (1 << exponent) - 1:
        raw = bits.to_bytes(width // 8, "little")
        value: float = struct.unpack("<f" if width == 32 else "<d", raw)[0]
        return sign + math.fabs(value).hex()
    return f"{sign}nan:{payload:#x}" if payload else f"{sign}inf"

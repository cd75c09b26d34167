"""Read constant expressions: the initial values of globals, tables and segments."""

from __future__ import annotations

import re

import attrs

from replicate.binary.cursor import Cursor
from replicate.binary.scanner import Instruction, pattern_of, read_instruction

__all__ = ["Constant", "read_constant"]

_END: Instruction = (0x0B, None)
_REF_FUNC: Instruction = (0xD2, None)
_VECTOR_CONST: Instruction = (0xFD, 0x0C)
# struct.new struct.new_default array.new array.new_default array.new_fixed
_MAKES_OBJECT: frozenset[Instruction] = frozenset((0xFB, suffix) for suffix in (0x00, 0x01, 0x06, 0x07, 0x08))
# any.convert_extern extern.convert_any ref.i31
_CONVERTS: frozenset[Instruction] = frozenset((0xFB, suffix) for suffix in (0x1A, 0x1B, 0x1C))
# i32.const i64.const f32.const f64.const; global.get ref.null ref.func; add, sub and mul of i32 and i64
_PLAIN: frozenset[Instruction] = frozenset(
    (opcode, None) for opcode in (*range(0x41, 0x45), 0x23, 0xD0, 0xD2, 0x6A, 0x6B, 0x6C, 0x7C, 0x7D, 0x7E)
)
# A module can have tens of thousands of data segments: their usual offsets are recognised at a glance.
_MATCH_SIMPLE = re.compile(b"(?:" + pattern_of(_PLAIN - {_REF_FUNC}) + b")\x0b", re.DOTALL).match
_ALLOWED = _PLAIN | _MAKES_OBJECT | _CONVERTS | {_VECTOR_CONST}


@attrs.frozen
class Constant:
    """Say what a constant expression refers to."""

    functions: tuple[int, ...]
    """The functions that it takes a reference of."""
    function: int | None
    """The function that it is a reference to, if it is just that."""
    makes_object: bool
    """Whether it makes an object of the garbage-collected heap."""


_NOTHING = Constant((), None, False)


def read_constant(cursor: Cursor) -> Constant:
    """Read a constant expression with its end."""
    simple = _MATCH_SIMPLE(cursor.data, cursor.position, cursor.end)
    if simple is not None:
        cursor.position = simple.end()
        return _NOTHING
    functions: list[int] = []
    makes_object = False
    count = 0
    while True:
        at = cursor.position
        instruction, operands = read_instruction(cursor)
        if instruction == _END:
            break
        if instruction not in _ALLOWED:
            raise cursor.fail("an instruction that a constant expression can't have", at=at)
        count += 1
        if instruction == _REF_FUNC:
            functions += operands
        elif instruction in _MAKES_OBJECT:
            makes_object = True
    if not functions and not makes_object:
        return _NOTHING
    alone = functions[0] if count == 1 and functions else None
    return Constant(tuple(functions), alone, makes_object)

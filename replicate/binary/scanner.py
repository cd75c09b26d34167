"""Find the few instructions of interest in code, without looking at the others one by one in Python.

The instructions' shapes (`replicate.binary.opcodes`) make a regular expression that runs over everything uninteresting
in C. It can't go astray: an instruction's first bytes decide on how many more there are, so there is one way only to
cut code into instructions. What has no simple shape (``br_table``, ``try_table``, overlong opcodes) is read in Python.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from typing import TypeAlias

from replicate.binary.cursor import Cursor
from replicate.binary.leb import unsigned
from replicate.binary.opcodes import PREFIXES, immediates

__all__ = ["Instruction", "Scanner", "pattern_of", "read_instruction", "skip_locals"]

Instruction: TypeAlias = "tuple[int, int | None]"
"""An opcode, and the number after it if it is one of the `PREFIXES`."""

_U32 = rb"[\x80-\xff]{0,4}[\x00-\x7f]"
_U64 = rb"[\x80-\xff]{0,9}[\x00-\x7f]"
# A heap type is an index or, in one byte, a negative number; 0x62 and 0x65 would start an exact or a shared one.
_HEAP_TYPE = rb"(?:[\x00-\x61\x63\x64\x66-\x7f]|[\x80-\xff]{1,4}[\x00-\x7f])"
# 0x63 and 0x64 start the long form of a reference type, of which a heap type is the rest.
_VALUE_TYPE = rb"(?:[\x66-\x7f]|[\x63\x64]" + _HEAP_TYPE + rb")"
_SHAPES: dict[str, bytes] = {
    "u": _U32,
    "i": _U32,
    "l": _U64,
    "b": rb".",
    "f": rb".{4}",
    "d": rb".{8}",
    "v": rb".{16}",
    "h": _HEAP_TYPE,
    "t": rb"(?:[\x00-\x61\x66-\x7f]|[\x63\x64]" + _HEAP_TYPE + rb"|[\x80-\xff]{1,4}[\x00-\x7f])",
    "m": rb"(?:[\x00-\x3f]|[\x40-\x7f]" + _U32 + rb")" + _U64,  # bit 6 of the alignment: a memory's index follows
}
_LOCALS = re.compile(_U32 + _VALUE_TYPE, re.DOTALL)
_END = 0x0B
_RUN = 1000  # instructions in a match; bounds the memory that the regular expression takes


def read_instruction(cursor: Cursor) -> tuple[Instruction, list[int]]:
    """Read an instruction of any shape; return it with those of its immediates that are plain indices."""
    at = cursor.position
    opcode = cursor.byte()
    suffix = cursor.u32() if opcode in PREFIXES else None
    letters = immediates(opcode, suffix)
    if letters is None:
        shown = f"{opcode:#04x}" if suffix is None else f"{opcode:#04x} {suffix:#04x}"
        raise cursor.fail(f"unknown instruction {shown}", at=at)
    operands: list[int] = []
    for letter in letters:
        if letter == "u":
            operands.append(cursor.u32())
        else:
            _skip(cursor, letter)
    return (opcode, suffix), operands


def skip_locals(cursor: Cursor) -> None:
    """Step over the locals that a function's body starts with."""
    for _ in range(cursor.count("groups of locals")):
        simple = _LOCALS.match(cursor.data, cursor.position, cursor.end)
        if simple is None:
            cursor.u32()
            _skip_value_type(cursor)
        else:
            cursor.position = simple.end()


def _skip(cursor: Cursor, letter: str) -> None:
    """Step over an immediate of the shape that `letter` stands for in `replicate.binary.opcodes`."""
    if letter == "m":
        if cursor.u32() & 0x40:
            cursor.u32()
        cursor.u64()
    elif letter == "i":
        cursor.s32()
    elif letter == "l":
        cursor.s64()
    elif letter == "t":
        _skip_block_type(cursor)
    elif letter == "h":
        _skip_heap_type(cursor)
    elif letter == "V":
        for _ in range(cursor.count("types")):
            _skip_value_type(cursor)
    elif letter == "B":
        cursor.u32s(cursor.count("labels") + 1)
    elif letter == "C":
        for _ in range(cursor.count("catch clauses")):
            # catch and catch_ref give a tag and a label, catch_all and catch_all_ref a label
            cursor.u32s(2 if cursor.byte() < 2 else 1)
    elif letter == "H":
        for _ in range(cursor.count("handlers")):
            # (on tag label) or (on tag switch)
            cursor.u32s(1 if cursor.byte() else 2)
    else:
        cursor.skip({"b": 1, "f": 4, "d": 8, "v": 16}[letter])


def _skip_value_type(cursor: Cursor) -> None:
    """Step over a value type."""
    code = cursor.byte()
    if code in (0x63, 0x64):
        _skip_heap_type(cursor)
    elif code == 0x65:
        cursor.byte()
    elif not 0x66 <= code < 0x80:
        raise cursor.fail(f"no value type starts with {code:#04x}", at=cursor.position - 1)


def _skip_heap_type(cursor: Cursor) -> None:
    if cursor.peek() == 0x65:
        cursor.byte()
    cursor.s33()


def _skip_block_type(cursor: Cursor) -> None:
    if cursor.peek() in (0x63, 0x64, 0x65):
        _skip_value_type(cursor)
    else:
        cursor.s33()


def _one_of(values: Iterable[int]) -> bytes:
    return b"[" + re.escape(bytes(sorted(values))) + b"]"


def _encoded(opcodes: Iterable[int]) -> bytes:
    """Return the pattern of any of the numbers `opcodes` as LEB128."""
    tails: dict[bytes, set[int]] = {}
    for opcode in opcodes:
        first, *tail = unsigned(opcode)
        tails.setdefault(bytes(tail), set()).add(first)
    return b"(?:" + b"|".join(_one_of(firsts) + re.escape(tail) for tail, firsts in tails.items()) + b")"


def _by_shape(instructions: Iterable[Instruction]) -> dict[tuple[int | None, bytes], set[int]]:
    """Return the opcodes (under None) or second opcodes (under their prefix) that immediates of one shape follow."""
    shapes: dict[tuple[int | None, bytes], set[int]] = {}
    for opcode, suffix in instructions:
        letters = immediates(opcode, suffix)
        if letters is None or any(letter not in _SHAPES for letter in letters):
            continue
        shape = b"".join(_SHAPES[letter] for letter in letters)
        if suffix is None:
            shapes.setdefault((None, shape), set()).add(opcode)
        else:
            shapes.setdefault((opcode, shape), set()).add(suffix)
    return shapes


def pattern_of(instructions: Iterable[Instruction]) -> bytes:
    """Return the regular expression of any of `instructions` that has a simple shape, in its usual encodings."""
    choices = []
    for (prefix, shape), opcodes in _by_shape(instructions).items():
        first = _one_of(opcodes) if prefix is None else re.escape(bytes([prefix])) + _encoded(opcodes)
        choices.append(first + shape)
    return b"|".join(choices) or rb"(?!)"


def _all_instructions() -> Iterator[Instruction]:
    # The most frequent come first: the regular expression tries its choices in this order.
    frequent = [0x20, 0x41, 0x28, 0x6A, 0x02]
    for opcode in [*frequent, *range(0x100)]:
        if opcode in PREFIXES:
            yield from ((opcode, suffix) for suffix in PREFIXES[opcode])
        else:
            yield opcode, None


class Scanner:
    """Collect the distinct instructions among `wanted` that code contains.

    All of `wanted` must have indices for immediates only.
    """

    def __init__(self, wanted: Collection[Instruction]) -> None:
        self._wanted = frozenset(wanted)
        quiet = pattern_of(each for each in _all_instructions() if each not in self._wanted)
        pattern = rb"(?:%b){0,%d}(%b)?" % (quiet, _RUN, pattern_of(self._wanted))
        self._match = re.compile(pattern, re.DOTALL).match

    def scan_body(self, data: bytes, start: int, end: int, found: set[bytes]) -> None:
        """Add the wanted instructions of the function body `data[start:end]`, locals included, to `found`, encoded."""
        add = found.add
        for at, after in self.locate(data, start, end):
            add(data[at:after])

    def locate(self, data: bytes, start: int, end: int) -> Iterator[tuple[int, int]]:
        """Yield where each wanted instruction of the function body `data[start:end]` starts and ends."""
        last = end - 1
        if start > last or data[last] != _END:
            raise Cursor(data, end, end).fail("a function body that doesn't end with `end`")
        cursor = Cursor(data, start, last)
        skip_locals(cursor)
        position = cursor.position
        match = self._match
        while position < last:
            step = match(data, position, last)
            assert step is not None  # the pattern matches the empty string
            reached = step.end()
            at = step.start(1)
            if at >= 0:
                yield at, reached
            elif reached == position:
                cursor.position = position
                instruction, _ = read_instruction(cursor)
                reached = cursor.position
                if instruction in self._wanted:
                    yield position, reached
            position = reached

    def decode(self, found: Iterable[bytes]) -> Iterator[tuple[Instruction, list[int]]]:
        """Yield the instructions and immediates that `scan_body` has encoded."""
        for encoded in found:
            yield read_instruction(Cursor(encoded, 0, len(encoded)))

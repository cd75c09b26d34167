"""Every instruction's immediates: the one table that the scanner and the constant expressions are made from.

Covers WebAssembly 3.0 with threads, wide arithmetic, stack switching and the legacy exception handling; opcodes as in
the chapter "Instructions" of the binary format and in the proposals' overviews.

An instruction's immediates are spelled with one letter each:

    u  an index or another unsigned number of 32 bits      m  a memory argument: alignment, memory, offset
    i  a signed number of 32 bits                          l  a signed number of 64 bits
    b  a byte       f  4 bytes       d  8 bytes            v  16 bytes
    t  a block type                  h  a heap type        V  value types, as many as a number says
    B  labels, as many as a number says, and one more      C  catch clauses        H  resume handlers
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

__all__ = ["PREFIXES", "immediates"]


def _table(groups: Mapping[str, Iterable[int]]) -> dict[int, str]:
    return {opcode: letters for letters, opcodes in groups.items() for opcode in opcodes}


_PLAIN = _table(
    {
        # unreachable nop else throw_ref end return catch_all drop select; numeric; ref.is_null ref.eq ref.as_non_null
        "": [0x00, 0x01, 0x05, 0x0A, 0x0B, 0x0F, 0x19, 0x1A, 0x1B, *range(0x45, 0xC5), 0xD1, 0xD3, 0xD4],
        "t": [0x02, 0x03, 0x04, 0x06],  # block loop if try
        "u": [
            *[0x07, 0x08, 0x09, 0x0C, 0x0D],  # catch throw rethrow br br_if
            *[0x10, 0x12, 0x14, 0x15, 0x18],  # call return_call call_ref return_call_ref delegate
            *[*range(0x20, 0x27), 0x3F, 0x40],  # local.* global.* table.get table.set memory.size memory.grow
            *[0xD2, 0xD5, 0xD6, 0xE0, 0xE2],  # ref.func br_on_null br_on_non_null cont.new suspend
        ],
        "uu": [0x11, 0x13, 0xE1, 0xE6],  # call_indirect return_call_indirect cont.bind switch
        "B": [0x0E],  # br_table
        "V": [0x1C],  # select with types
        "tC": [0x1F],  # try_table
        "m": range(0x28, 0x3F),  # loads and stores
        "i": [0x41],
        "l": [0x42],
        "f": [0x43],
        "d": [0x44],
        "h": [0xD0],  # ref.null
        "uH": [0xE3, 0xE5],  # resume resume_throw_ref
        "uuH": [0xE4],  # resume_throw
    }
)

_GARBAGE_COLLECTION = _table(
    {
        "": [0x0F, 0x1A, 0x1B, 0x1C, 0x1D, 0x1E],  # array.len; conversions; ref.i31 i31.get_s i31.get_u
        # struct.new* array.new* array.get* array.set array.fill
        "u": [0x00, 0x01, 0x06, 0x07, 0x0B, 0x0C, 0x0D, 0x0E, 0x10],
        # struct.get* struct.set array.new_fixed array.new_data array.new_elem array.copy array.init_*
        "uu": [*range(0x02, 0x06), 0x08, 0x09, 0x0A, 0x11, 0x12, 0x13],
        "h": range(0x14, 0x18),  # ref.test ref.cast
        "buhh": [0x18, 0x19],  # br_on_cast br_on_cast_fail
    }
)

_BULK = _table(
    {
        "": [*range(0x08), 0x13, 0x14, 0x15, 0x16],  # saturating truncations; wide arithmetic
        "u": [0x09, 0x0B, 0x0D, 0x0F, 0x10, 0x11],  # data.drop memory.fill elem.drop table.grow table.size table.fill
        "uu": [0x08, 0x0A, 0x0C, 0x0E],  # memory.init memory.copy table.init table.copy
    }
)

_NOT_VECTOR = {0x9A, 0xA2, 0xA5, 0xA6, 0xAF, 0xB0, 0xB2, 0xB3, 0xB4, 0xBB, 0xC2, 0xC5, 0xC6, 0xCF, 0xD0, 0xD2, 0xD3}
_NOT_VECTOR |= {0xD4, 0xE2, 0xEE}
_VECTOR = _table(
    {
        "": {*range(0x0E, 0x15), *range(0x23, 0x54), *range(0x5E, 0x114)} - _NOT_VECTOR,
        "m": [*range(0x0C), 0x5C, 0x5D],  # loads and stores
        "v": [0x0C, 0x0D],  # v128.const i8x16.shuffle
        "b": range(0x15, 0x23),  # extract_lane replace_lane
        "mb": range(0x54, 0x5C),  # load_lane store_lane
    }
)

_ATOMIC = _table({"m": [0x00, 0x01, 0x02, *range(0x10, 0x4F)], "b": [0x03]})

PREFIXES: Mapping[int, Mapping[int, str]] = {0xFB: _GARBAGE_COLLECTION, 0xFC: _BULK, 0xFD: _VECTOR, 0xFE: _ATOMIC}
"""The bytes that a second opcode follows, with the immediates of each of those."""


def immediates(opcode: int, suffix: int | None) -> str | None:
    """Return the immediates of an instruction, or None if no instruction has that opcode.

    `suffix` is the number after one of the `PREFIXES`, None for an opcode of one byte.
    """
    return _PLAIN.get(opcode) if suffix is None else PREFIXES[opcode].get(suffix)

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from replicate.binary import leb
from replicate.binary.opcodes import PREFIXES, immediates
from replicate.binary.scanner import Instruction, Scanner
from replicate.errors import InvalidModuleError

GLOBAL_SET: Instruction = (0x24, None)
TABLE_COPY: Instruction = (0xFC, 0x0E)
ALL: list[Instruction] = [(op, None) for op in range(256) if op not in PREFIXES and immediates(op, None) is not None]
ALL += [(prefix, suffix) for prefix, suffixes in PREFIXES.items() for suffix in suffixes]

U32 = st.integers(0, 2**32 - 1).map(leb.unsigned)
HEAP_TYPE = st.one_of(st.integers(0, 2**31).map(leb.signed), st.sampled_from([b"\x70", b"\x6e", b"\x65\x70"]))
VALUE_TYPE = st.one_of(
    st.sampled_from([b"\x7f", b"\x7b", b"\x70", b"\x6f"]),
    st.builds(bytes.__add__, st.sampled_from([b"\x63", b"\x64"]), HEAP_TYPE),
)


def joined(*parts: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    return st.tuples(*parts).map(b"".join)


def vectors(items: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    return st.lists(items, max_size=300).map(leb.vector)


IMMEDIATES: dict[str, st.SearchStrategy[bytes]] = {
    "u": U32,
    "i": st.integers(-(2**31), 2**31 - 1).map(leb.signed),
    "l": st.integers(-(2**63), 2**63 - 1).map(leb.signed),
    "b": st.binary(min_size=1, max_size=1),
    "f": st.binary(min_size=4, max_size=4),
    "d": st.binary(min_size=8, max_size=8),
    "v": st.binary(min_size=16, max_size=16),
    "t": st.one_of(st.just(b"\x40"), VALUE_TYPE, st.integers(0, 2**31).map(leb.signed)),
    "h": HEAP_TYPE,
    "m": st.one_of(
        joined(st.integers(0, 0x3F).map(leb.unsigned), st.integers(0, 2**64 - 1).map(leb.unsigned)),
        joined(st.integers(0x40, 0x7F).map(leb.unsigned), U32, st.integers(0, 2**64 - 1).map(leb.unsigned)),
    ),
    "V": vectors(VALUE_TYPE),
    "B": joined(vectors(U32), U32),
    "C": vectors(st.one_of(joined(st.sampled_from([b"\0", b"\1"]), U32, U32), joined(st.just(b"\2"), U32))),
    "H": vectors(st.one_of(joined(st.just(b"\0"), U32, U32), joined(st.just(b"\1"), U32))),
}


@st.composite
def encoded(draw: Callable[..., bytes], instruction: Instruction) -> bytes:
    """Return an encoding of `instruction` with any immediates."""
    opcode, suffix = instruction
    letters = immediates(opcode, suffix)
    assert letters is not None
    head = bytes([opcode]) + (b"" if suffix is None else leb.unsigned(suffix))
    return head + b"".join(draw(IMMEDIATES[letter]) for letter in letters)


def scan(body: bytes, *wanted: Instruction) -> set[tuple[Instruction, tuple[int, ...]]]:
    scanner = Scanner(wanted)
    found: set[bytes] = set()
    scanner.scan_body(b"before" + body + b"after", 6, 6 + len(body), found)
    return {(instruction, tuple(indices)) for instruction, indices in scanner.decode(found)}


@settings(deadline=None)
@given(st.lists(st.sampled_from(ALL), max_size=20).flatmap(lambda chosen: st.tuples(*map(encoded, chosen))))
def test_code_is_cut_between_instructions_whatever_their_immediates(code: tuple[bytes, ...]) -> None:
    # Immediates are full of bytes that would be a global.set, if the scanner ever lost its step.
    marked = b"".join(each + b"\x24" + leb.unsigned(1000 + index) for index, each in enumerate(code))

    found = scan(b"\0" + marked + b"\x0b", GLOBAL_SET)

    markers = {(GLOBAL_SET, (1000 + index,)) for index in range(len(code))}
    own = {(GLOBAL_SET, indices) for each in code if each[0] == 0x24 for indices in scan_one(each)}
    assert found == markers | own


def scan_one(code: bytes) -> set[tuple[int, ...]]:
    return {indices for _, indices in scan(b"\0" + code + b"\x0b", GLOBAL_SET)}


@pytest.mark.parametrize("instruction", ALL, ids=lambda value: f"{value[0]:#04x}-{value[1]}")
def test_every_instruction_is_stepped_over_in_one_go(instruction: Instruction) -> None:
    @settings(max_examples=10, deadline=None)
    @given(encoded(instruction))
    def check(code: bytes) -> None:
        body = b"\0" + code * 2 + b"\xfc\x0e\x05\x06" + b"\x0b"
        expected: set[tuple[Instruction, tuple[int, ...]]] = {(TABLE_COPY, (5, 6))}
        if instruction == TABLE_COPY:
            expected |= scan(b"\0" + code + b"\x0b", TABLE_COPY)
        assert scan(body, TABLE_COPY) == expected

    check()


@settings(deadline=None)
@given(st.lists(joined(U32, VALUE_TYPE), max_size=200))
def test_locals_of_any_type_are_stepped_over(groups: list[bytes]) -> None:
    assert scan(leb.vector(groups) + b"\x24\x07\x0b", GLOBAL_SET) == {(GLOBAL_SET, (7,))}


@pytest.mark.parametrize("padding", range(5))
def test_indices_padded_for_relocation_are_understood(padding: int) -> None:
    index = bytes([0x83, *[0x80] * (padding - 1), 0x00]) if padding else b"\x03"

    assert scan(b"\0\x24" + index + b"\x0b", GLOBAL_SET) == {(GLOBAL_SET, (3,))}


def test_a_second_opcode_padded_with_zeros_is_understood() -> None:
    assert scan(b"\0\xfc\x8e\x80\x00\x01\x02\x0b", TABLE_COPY) == {(TABLE_COPY, (1, 2))}


def test_a_long_body_is_scanned_to_its_end() -> None:
    body = b"\0" + b"\x01" * 12_345 + b"\x24\x03" + b"\x01" * 54_321 + b"\x24\x04\x0b"

    assert scan(body, GLOBAL_SET) == {(GLOBAL_SET, (3,)), (GLOBAL_SET, (4,))}


def test_an_unknown_instruction_is_refused_by_its_opcode_and_offset() -> None:
    with pytest.raises(InvalidModuleError, match=r"0xfc 0x63, at byte 8 "):
        scan(b"\0\x01\xfc\x63\x0b")


@pytest.mark.parametrize(
    "body", [b"\0", b"\0\x24\x0b", b"\0\x41\x80\x0b", b"\0\x44\0\0\0\x0b", b"\0\x0e\x7f\x0b", b"\0\x1a", b""]
)
def test_a_body_cut_short_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidModuleError):
        scan(body)

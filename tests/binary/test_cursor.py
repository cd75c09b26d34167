from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replicate.binary import leb
from replicate.binary.cursor import Cursor
from replicate.errors import InvalidModuleError


def over(data: bytes) -> Cursor:
    return Cursor(data, 0, len(data))


@given(st.integers(0, 2**32 - 1))
def test_an_unsigned_number_of_32_bits_survives(number: int) -> None:
    cursor = over(leb.unsigned(number))

    assert cursor.u32() == number
    cursor.finish("the number")


@given(st.integers(0, 2**64 - 1))
def test_an_unsigned_number_of_64_bits_survives(number: int) -> None:
    assert over(leb.unsigned(number)).u64() == number


@given(st.integers(-(2**32), 2**32 - 1))
def test_a_signed_number_of_33_bits_survives(number: int) -> None:
    cursor = over(leb.signed(number))

    assert cursor.s33() == number
    cursor.finish("the number")


@given(st.integers(-(2**63), 2**63 - 1))
def test_a_signed_number_of_64_bits_survives(number: int) -> None:
    assert over(leb.signed(number)).s64() == number


@given(st.lists(st.integers(0, 2**32 - 1)))
def test_numbers_read_together_are_those_read_one_by_one(numbers: list[int]) -> None:
    cursor = over(b"".join(map(leb.unsigned, numbers)))

    assert cursor.u32s(len(numbers)) == numbers
    cursor.finish("the numbers")


@given(st.text())
def test_a_name_survives(text: str) -> None:
    assert over(leb.name(text)).name() == text


def test_an_overlong_number_is_read_as_producers_with_relocations_write_it() -> None:
    assert over(b"\x81\x80\x80\x80\x00").u32() == 1


@pytest.mark.parametrize("encoded", [b"\x80\x80\x80\x80\x80\x00", b"\xff\xff\xff\xff\x10"])
def test_a_number_of_more_than_32_bits_is_refused(encoded: bytes) -> None:
    with pytest.raises(InvalidModuleError, match="32 bits"):
        over(encoded).u32()


@pytest.mark.parametrize("encoded", [b"\x80\x80\x80\x80\x08", b"\xff\xff\xff\xff\x77"])
def test_a_signed_number_of_more_than_32_bits_is_refused(encoded: bytes) -> None:
    with pytest.raises(InvalidModuleError, match="32 bits"):
        over(encoded).s32()


@pytest.mark.parametrize("read", [Cursor.byte, Cursor.u32, Cursor.u64, Cursor.s33, Cursor.name])
def test_nothing_is_read_beyond_the_end(read: object) -> None:
    assert callable(read)
    with pytest.raises(InvalidModuleError, match="at byte 1"):
        read(Cursor(b"\x80\x80\x01", 0, 1) if read is not Cursor.byte else Cursor(b"\x80\x80", 1, 1))


def test_a_wild_count_is_refused_before_anything_is_read() -> None:
    with pytest.raises(InvalidModuleError, match="4294967295 things"):
        over(b"\xff\xff\xff\xff\x0f").count("things")


def test_a_name_that_is_not_utf_8_is_refused_at_the_wrong_byte() -> None:
    with pytest.raises(InvalidModuleError, match=r"UTF-8.* at byte 2"):
        over(b"\x02a\xff").name()


def test_an_error_gives_the_offset_in_both_notations() -> None:
    with pytest.raises(InvalidModuleError, match=r"unexpected end, at byte 17 \(0x11\)"):
        Cursor(bytes(20), 17, 17).byte()

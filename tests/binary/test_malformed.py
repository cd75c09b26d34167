"""What isn't a core module, or is a damaged one, and what is said about it."""

from __future__ import annotations

import gzip

import pytest
import wasmtime

from replicate.binary import read_module
from replicate.errors import ComponentError, InvalidModuleError, UnsupportedError

HEADER = b"\0asm\1\0\0\0"


def section(id_: int, content: bytes) -> bytes:
    return bytes([id_, len(content)]) + content


@pytest.mark.parametrize(
    ("content", "looks"),
    [
        (b"", "no bytes"),
        (b"(module)", "text format"),
        (b"\xef\xbb\xbf  (module)", "text format"),
        (b";; a comment\n(module)", "text format"),
        (gzip.compress(HEADER, mtime=0), "gzip"),
        (b"\x7fELF\x02\x01\x01", "ELF"),
        (b"<!DOCTYPE html><html>", "HTML"),
        (b'{"error": "not found"}', "JSON"),
        (b"AGFzbQEAAAA=", "base64"),
        (b"PK\x03\x04", "zip"),
        (b"version https://git-lfs.github.com/spec/v1", "Git LFS"),
        (b"\x01\x02\x03", "01 02 03"),
    ],
)
def test_something_else_is_called_what_it_looks_like(content: bytes, looks: str) -> None:
    with pytest.raises(InvalidModuleError, match="not a Wasm module") as caught:
        read_module(content)
    assert looks in str(caught.value)


def test_a_component_is_refused_by_name_with_the_way_out() -> None:
    with pytest.raises(ComponentError, match="component") as caught:
        read_module(bytes(wasmtime.wat2wasm("(component)")))
    assert "only core modules can be replicated" in str(caught.value)


def test_another_version_of_wasm_is_refused() -> None:
    with pytest.raises(InvalidModuleError, match="version 2"):
        read_module(b"\0asm\2\0\0\0")


def test_a_header_cut_short_is_refused() -> None:
    with pytest.raises(InvalidModuleError, match="6 bytes"):
        read_module(HEADER[:6])


@pytest.mark.parametrize(
    "sections",
    [
        section(1, b"\1\x4e\2\x4d\1\x5f\0\x4c\0\x5f\0"),
        section(1, b"\1\x4e\2\x5f\0\x4c\0\x5f\0"),
        section(1, b"\1\x60\1\x64\x62\0\0"),
        section(1, b"\1\x60\0\0") + section(2, b"\1\0\1f\x20\0"),
    ],
)
def test_a_proposal_that_is_not_supported_is_no_damage(sections: bytes) -> None:
    with pytest.raises(UnsupportedError, match="custom descriptors"):
        read_module(HEADER + sections)


FUNCTION_TYPE = section(1, b"\1\x60\0\0")


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        (section(14, b""), "unknown section 14"),
        (FUNCTION_TYPE + FUNCTION_TYPE, "section 1 twice or out of order"),
        (section(5, b"\1\0\1") + section(4, b"\1\x70\0\1"), "section 4 twice or out of order"),
        (section(1, b"\0\0"), "1 bytes left over"),
        (section(1, b"\1\x61"), "no type starts with 0x61"),
        (section(1, b"\1\x60\1\x7a\0"), "no type is encoded as 0x7a"),
        (section(1, b"\1\x60\1\x63\x05\0"), "type 5 of only 1"),
        (section(3, b"\1\0"), "type 0"),
        (FUNCTION_TYPE + section(3, b"\1\0"), "1 functions declared, but 0 bodies"),
        (FUNCTION_TYPE + section(10, b"\1\2\0\x0b"), "0 functions declared, but 1 bodies"),
        (section(1, b"\1\x5f\0") + section(2, b"\1\0\0\0\0"), "type 0 isn't a function's"),
        (section(2, b"\1\0\0\5\0"), "unknown kind 0x5"),
        (section(4, b"\1\x7f\0\1"), "no type is encoded as 0x7f"),
        (section(5, b"\1\x10\1"), "limits with flags 0x10"),
        (section(5, b"\1\x08\1\x0c"), "page size"),
        (section(6, b"\1\x7f\4\x41\0\x0b"), "flags are 0x4"),
        (section(6, b"\1\x7f\0\x20\0\x0b"), "constant expression"),
        (section(6, b"\1\x70\0\xd2\0\x0b"), "function 0 of only 0"),
        (section(7, b"\1\0\0\0"), "func 0 of only 0"),
        (section(8, b"\0"), "function 0 of only 0"),
        (section(9, b"\1\x08"), "element segment with flags 0x8"),
        (section(9, b"\1\0\x41\0\x0b\0"), "table 0 of only 0"),
        (section(9, b"\1\1\0\1\0"), "function 0 of only 0"),
        (section(9, b"\1\1\1\0"), "other things than functions"),
        (section(11, b"\1\3"), "data segment with flags 0x3"),
        (section(11, b"\1\0\x41\0\x0b\0"), "memory 0 of only 0"),
        (section(12, b"\2") + section(11, b"\1\1\0"), "2 data segments announced, but 1 there"),
        (section(13, b"\1\1\0"), "tag's attribute"),
        (section(0, b"\2\xff\xff"), "UTF-8"),
        (b"\1\5\0", "unexpected end"),
    ],
)
def test_malformed_sections_are_refused_with_reason_and_offset(sections: bytes, message: str) -> None:
    with pytest.raises(InvalidModuleError, match=r"at byte \d+") as caught:
        read_module(HEADER + sections)
    assert message in str(caught.value)

"""Whatever the bytes: a description comes back, or an error that says what's wrong is raised; nothing else, and soon."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from replicate.binary import prepare, read_module
from replicate.errors import InvalidModuleError, UnsupportedError

from .support import assemble

HEADER = b"\0asm\1\0\0\0"
SEED = assemble(
    """(module $name
      (rec (type $s (struct (field (mut i8)) (field (ref null $s)))) (type $a (array (mut i64)))) (type $f (func (param i32)))
      (import "a" "f" (func (param i32 (ref null $f)) (result i64))) (import "a" "m" (memory 1 2))
      (import "a" "t" (table i64 1 externref)) (import "a" "g" (global (mut v128))) (import "a" "e" (tag (param i32)))
      (memory i64 1 (pagesize 1)) (table 1 funcref) (table 2 (ref null $f) (ref.null $f)) (tag $e)
      (global $g (mut i64) (i64.const -1)) (global (ref $s) (struct.new $s (i32.const 1) (ref.null $s)))
      (global i32 (i32.add (i32.const 1) (i32.const 2))) (elem (table 1) (i32.const 0) func $g)
      (elem $e funcref (ref.func $g) (ref.null func)) (elem declare func $g) (data "abc") (data (i32.const 0) "de")
      (func $g (type $f) (local i32 i64 (ref null $s))
        (block (br_table 0 0 0 (i32.const 1))) (global.set $g (i64.const 36)) (memory.init 0 (i32.const 0) (i32.const 0)
        (i32.const 0)) (data.drop 0) (elem.drop $e) (table.set 1 (i32.const 0) (ref.func $g))
        (block $h (try_table (catch $e $h) (catch_all $h) (nop))) (drop (v128.const i64x2 1 2))
        (struct.set $s 0 (global.get 2) (i32.const 1)) (drop (select (result i32) (i32.const 1) (i32.const 2) (i32.const 3)))
        (i32.store offset=4 (i32.const 0) (i32.const 1)) (drop (memory.grow (i32.const 1))))
      (export "g" (func $g)) (export "m" (memory 0)) (start $g))"""
)


def survives(wasm: bytes) -> None:
    with contextlib.suppress(InvalidModuleError, UnsupportedError):
        prepare(wasm)


def test_the_module_that_is_damaged_below_is_sound_itself() -> None:
    assert prepare(SEED).effects.objects_mutated


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_random_bytes(content: bytes) -> None:
    survives(content)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 14), st.binary(max_size=30)), max_size=8))
def test_random_sections(sections: list[tuple[int, bytes]]) -> None:
    survives(HEADER + b"".join(bytes([id_, len(content)]) + content for id_, content in sections))


@pytest.mark.parametrize("length", range(len(SEED)))
def test_a_module_cut_short_anywhere(length: int) -> None:
    survives(SEED[:length])


@settings(deadline=None)
@given(st.integers(8, len(SEED) - 1), st.integers(0, 7))
def test_a_flipped_bit(position: int, bit: int) -> None:
    flipped = bytearray(SEED)
    flipped[position] ^= 1 << bit
    survives(bytes(flipped))


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(8, len(SEED) - 1), st.sampled_from([0, 1, 0x7F, 0x80, 0xFF])), max_size=5))
def test_bytes_replaced_by_extremes(changes: list[tuple[int, int]]) -> None:
    changed = bytearray(SEED)
    for position, value in changes:
        changed[position] = value
    survives(bytes(changed))


@settings(deadline=None)
@given(st.integers(8, len(SEED)), st.integers(0, 20), st.binary(max_size=20))
def test_bytes_cut_out_and_put_in(position: int, removed: int, inserted: bytes) -> None:
    survives(SEED[:position] + inserted + SEED[position + removed :])


def test_a_module_with_wild_counts_fails_before_it_allocates() -> None:
    for section in (1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 13):
        with pytest.raises(InvalidModuleError, match="more than fit"):
            read_module(HEADER + bytes([section, 5]) + b"\xff\xff\xff\xff\x0f")

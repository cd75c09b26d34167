"""Real guests on a real engine, in a pool: WASI's state commits, rolls back and replicates with the rest."""

from __future__ import annotations

import os
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import replicate
from replicate.errors import GuestExit
from replicate.wasi import FixedClock, Wasi

# Exports: `say(length)` prints the text at 1024, `open()` opens the file "log" for reading, `next(fd)` reads 3 bytes to
# 2048 and gives their number, `random()` and `now()` give a number, `exit(code)` exits.
GUEST = """
(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_open"
    (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "clock_time_get" (func $time (param i32 i64 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  (data (i32.const 512) "log")
  (data (i32.const 1024) "hello world")
  (func (export "say") (param $length i32) (result i32)
    (i32.store (i32.const 0) (i32.const 1024))
    (i32.store (i32.const 4) (local.get $length))
    (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
  (func (export "open") (result i32)
    (if (result i32)
      (call $open (i32.const 3) (i32.const 0) (i32.const 512) (i32.const 3) (i32.const 0) (i64.const 38) (i64.const 0)
        (i32.const 0) (i32.const 16))
      (then (i32.const -1))
      (else (i32.load (i32.const 16)))))
  (func (export "next") (param $fd i32) (result i32)
    (i32.store (i32.const 0) (i32.const 2048))
    (i32.store (i32.const 4) (i32.const 3))
    (if (result i32) (call $read (local.get $fd) (i32.const 0) (i32.const 1) (i32.const 8))
      (then (i32.const -1))
      (else (i32.load (i32.const 8)))))
  (func (export "random") (result i64)
    (drop (call $random (i32.const 32) (i32.const 8)))
    (i64.load (i32.const 32)))
  (func (export "now") (result i64)
    (drop (call $time (i32.const 0) (i64.const 0) (i32.const 32)))
    (i64.load (i32.const 32)))
  (func (export "exit") (param i32)
    (call $exit (local.get 0))))
"""

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows can't preopen folders")


class Failed(Exception):
    """Be what makes a write fail."""


@pytest.fixture
def wasi(tmp_path: Path) -> Wasi:
    (tmp_path / "log").write_bytes(b"onetwosix")
    return Wasi(preopens={"/": tmp_path}, seed=1, clock=FixedClock(100, step_ns=1))


@pytest.fixture
def pool(wasi: Wasi) -> Iterator[replicate.Pool]:
    with replicate.Pool.open(GUEST, replicas=2, imports=wasi.imports()) as pool:
        yield pool


def following(guest: replicate.Guest, fd: int) -> bytes:
    count = guest.call("next", fd)
    return guest.memory.read(2048, count) if count >= 0 else b"failed"


def test_output_of_a_write_is_seen_by_reads_and_that_of_a_failed_write_is_not(pool: replicate.Pool, wasi: Wasi) -> None:
    pool.write(lambda guest: guest.call("say", 5))

    def failing(guest: replicate.Guest) -> None:
        guest.call("say", 11)
        assert wasi.stdout(guest) == b"hellohello world"
        raise Failed

    with pytest.raises(Failed):
        pool.write(failing)
    assert pool.read(wasi.stdout) == b"hello"
    assert pool.write(wasi.take_output).stdout == b"hello"
    assert pool.read(wasi.stdout) == b""


def test_output_of_a_read_is_gone_with_it(pool: replicate.Pool, wasi: Wasi) -> None:
    with pool.reading() as guest:
        guest.call("say", 5)
        assert wasi.take_output(guest).stdout == b"hello"
        guest.call("say", 4)
    assert pool.read(wasi.stdout) == b""


def test_replicas_read_on_from_the_leaders_offset_each_for_itself(pool: replicate.Pool) -> None:
    fd = pool.write(lambda guest: guest.call("open"))
    assert fd == 4
    assert pool.write(lambda guest: following(guest, fd)) == b"one"
    for _ in range(3):
        with pool.reading() as guest:
            assert [following(guest, fd) for _ in range(3)] == [b"two", b"six", b""]
    assert pool.write(lambda guest: following(guest, fd)) == b"two"
    assert [pool.read(lambda guest: following(guest, fd)) for _ in range(4)] == [b"six"] * 4


def test_an_opened_file_is_closed_again_by_a_failed_write(pool: replicate.Pool) -> None:
    def failing(guest: replicate.Guest) -> None:
        assert guest.call("open") == 4
        raise Failed

    with pytest.raises(Failed):
        pool.write(failing)
    assert pool.read(lambda guest: following(guest, 4)) == b"failed"


def test_draws_and_times_repeat_where_the_state_is_the_same(pool: replicate.Pool) -> None:
    reads = [pool.read(lambda guest: (guest.call("random"), guest.call("now"))) for _ in range(4)]
    assert len(set(reads)) == 1
    assert pool.write(lambda guest: (guest.call("random"), guest.call("now"))) == reads[0]
    assert pool.read(lambda guest: guest.call("random")) != reads[0][0]


def test_reseeding_in_a_read_makes_its_draw_differ(pool: replicate.Pool, wasi: Wasi) -> None:
    def draw(guest: replicate.Guest) -> int:
        wasi.reseed(guest, os.urandom(16))
        return int(guest.call("random"))

    assert len({pool.read(draw) for _ in range(4)}) == 4


def test_exiting_in_a_write_rolls_it_back(pool: replicate.Pool, wasi: Wasi) -> None:
    def exiting(guest: replicate.Guest) -> None:
        guest.call("say", 5)
        guest.call("exit", 3)

    with pytest.raises(GuestExit) as caught:
        pool.write(exiting)
    assert caught.value.code == 3
    assert pool.read(wasi.stdout) == b""


def test_a_snapshot_carries_the_open_file(wasi: Wasi) -> None:
    module = replicate.load_engine("wasmtime").compile(GUEST)
    with module.instantiate(wasi.imports()) as first, module.instantiate(wasi.imports()) as second:
        fd = first.call("open")
        following(first.guest, fd)
        second.restore(first.snapshot())
        assert following(second.guest, fd) == b"two"
        assert second.snapshot() != first.snapshot()
        following(first.guest, fd)
        assert second.snapshot() == first.snapshot()


def test_a_guest_that_uses_no_wasi_state_has_none(wasi: Wasi) -> None:
    with replicate.Pool.open(GUEST, replicas=1, imports=Wasi().imports()) as pool:
        pool.write(lambda guest: struct.pack("<q", guest.call("random")))
        assert pool.read(lambda guest: dict(guest.state)) == {}


def test_each_host_function_knows_how_to_check_the_state(wasi: Wasi, tmp_path: Path) -> None:
    with replicate.Pool.open(GUEST, replicas=1, imports=wasi.imports()) as pool:
        pool.write(lambda guest: guest.call("open"))
        state = pool.read(lambda guest: dict(guest.state))
    [check] = {function.fn.check_replicable for api in wasi.imports().values() for function in api.values()}  # type: ignore[attr-defined]
    assert check(state) == ()
    (tmp_path / "log").unlink()
    assert len(check(state)) == 1


# As Emscripten declares them unless it's told to use BigInt: each 64-bit number in two halves, the lower one first.
LEGALISED = """
(module
  (import "wasi_snapshot_preview1" "path_open"
    (func $open (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_seek" (func $seek (param i32 i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_pread" (func $pread (param i32 i32 i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 512) "log")
  (func (export "open") (result i32)
    (drop (call $open (i32.const 3) (i32.const 0) (i32.const 512) (i32.const 3) (i32.const 0)
      (i32.const 38) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 16)))
    (i32.load (i32.const 16)))
  (func (export "back") (param $fd i32) (result i32 i64)
    (call $seek (local.get $fd) (i32.const -2) (i32.const -1) (i32.const 2) (i32.const 24))
    (i64.load (i32.const 24)))
  (func (export "pread") (param $fd i32) (param $upper i32) (result i32)
    (i32.store (i32.const 0) (i32.const 2048))
    (i32.store (i32.const 4) (i32.const 3))
    (drop (call $pread (local.get $fd) (i32.const 0) (i32.const 1) (i32.const 3) (local.get $upper) (i32.const 8)))
    (i32.load (i32.const 8))))
"""


def test_a_guest_may_pass_64_bit_numbers_in_halves(wasi: Wasi, tmp_path: Path) -> None:
    with replicate.Pool.open(LEGALISED, replicas=1, wasi=wasi) as pool:
        fd = pool.write(lambda guest: guest.call("open"))
        length = (tmp_path / "log").stat().st_size
        assert pool.read(lambda guest: guest.call("back", fd)) == (0, length - 2)
        assert pool.read(lambda guest: (guest.call("pread", fd, 0), guest.memory.read(2048, 3))) == (3, b"two")
        assert pool.read(lambda guest: guest.call("pread", fd, 1)) == 0
        (tmp_path / "log").unlink()
        with pytest.raises(replicate.NotReplicableError, match="unlinked"):
            pool.write(lambda guest: guest.call("back", fd))

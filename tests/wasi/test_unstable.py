"""`wasi_unstable`, WASI's preview 0, by its own layouts."""

from __future__ import annotations

import os
import struct
import sys
from pathlib import Path

import pytest

from replicate.wasi import Errno, Wasi

from .support import FakeGuest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows can't preopen folders")


@pytest.fixture
def guest(tmp_path: Path) -> FakeGuest:
    (tmp_path / "file").write_bytes(b"0123456789")
    os.utime(tmp_path / "file", ns=(1_000_000_001, 2_000_000_002))
    return FakeGuest(Wasi(preopens={"/": tmp_path}, stdin=b"typed"), api="wasi_unstable")


@pytest.mark.parametrize("by_path", [True, False])
def test_a_file_is_described_in_56_bytes(guest: FakeGuest, tmp_path: Path, by_path: bool) -> None:
    guest.memory.bytes[1000:1064] = b"\xaa" * 64
    if by_path:
        where, length = guest._put(0, "file")
        assert guest.call("path_filestat_get", 3, 0, where, length, 1000) == 0
    else:
        assert guest.call("fd_filestat_get", guest.opened("file"), 1000) == 0
    expected = (tmp_path / "file").stat()
    assert struct.unpack_from("<QQB3xIQQQQ", guest.memory.bytes, 1000) == (
        expected.st_dev,
        expected.st_ino,
        4,
        1,
        10,
        expected.st_atime_ns,
        2_000_000_002,
        expected.st_ctime_ns,
    )
    assert guest.memory.bytes[1056:1064] == b"\xaa" * 8


def test_seeking_counts_from_the_current_place_the_end_or_the_start(guest: FakeGuest) -> None:
    fd = guest.opened("file")
    guest.read(fd, 3)
    assert [guest.seek(fd, 2, whence) for whence in (0, 1, 2)] == [(0, 5), (0, 12), (0, 2)]
    assert guest.seek(fd, 0, 3)[0] == guest.seek(fd, 0, -1)[0] == Errno.INVAL


def test_subscriptions_take_56_bytes(guest: FakeGuest) -> None:
    timer = struct.pack("<QB7xQI4xQQH6x", 7, 0, 99, 1, 1000, 0, 0)
    reading = struct.pack("<QB7xI36x", 8, 1, 0)
    assert len(timer) == len(reading) == 56
    guest._put(0, timer + timer)
    assert guest.call("poll_oneoff", 0, 4096, 2, 8192) == 0
    assert struct.unpack_from("<QHB", guest.memory.bytes, 4096) == (7, 0, 0)
    guest._put(0, timer + reading)
    assert guest.call("poll_oneoff", 0, 4096, 2, 8192) == 0
    assert struct.unpack_from("<I", guest.memory.bytes, 8192) == (1,)
    assert struct.unpack_from("<QHB5xQ", guest.memory.bytes, 4096) == (8, 0, 1, 5)

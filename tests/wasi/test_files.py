"""Reading folders, and what can be done with files besides reading and writing."""

from __future__ import annotations

import os
import struct
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from replicate.wasi import Errno, Wasi

from .support import FakeGuest, dirents

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows can't preopen folders")


def test_a_listing_cut_anywhere_goes_on_from_the_last_whole_entry(guest: FakeGuest, folder: Path) -> None:
    for index in range(20):
        (folder / ("n" * index + str(index))).write_bytes(b"")
    expected = sorted(os.fsencode(name) for name in os.listdir(folder))
    for size in (45, 46, 63, 64, 100, 1000, 4096):
        assert guest.names(3, size) == expected
    _, whole = guest.readdir(3, 4096, 0)
    for size in (0, 1, 23, 24, 25, 30, 100):
        assert guest.readdir(3, size, 0) == (0, whole[:size])


def test_instances_list_one_folder_at_once_on_many_threads(wasi: Wasi, folder: Path) -> None:
    for index in range(300):
        (folder / str(index)).write_bytes(b"")
    expected = sorted(map(os.fsencode, os.listdir(folder)))

    def listings(_: int) -> bool:
        return all(FakeGuest(wasi).names(3) == expected for _ in range(10))

    with ThreadPoolExecutor(4) as threads:
        assert all(threads.map(listings, range(8)))


def test_a_listing_tells_inodes_and_types(guest: FakeGuest, folder: Path) -> None:
    (folder / "link").symlink_to("file")
    found = {name: (inode, kind) for _, inode, name, kind in dirents(guest.readdir(3, 4096, 0)[1])}
    assert found == {
        b".": (folder.stat().st_ino, 3),
        b"..": (0, 3),
        b"file": ((folder / "file").stat().st_ino, 4),
        b"sub": ((folder / "sub").stat().st_ino, 3),
        b"link": ((folder / "link").lstat().st_ino, 7),
    }


def test_unlinking_while_listing_misses_nothing(guest: FakeGuest, folder: Path) -> None:
    for index in range(10):
        (folder / "sub" / f"f{index}").write_bytes(b"")
    sub = guest.folder("sub")
    cookie, seen = 0, []
    while data := guest.readdir(sub, 60, cookie)[1]:
        for following, _, name, _ in dirents(data):
            cookie = following
            if name not in (b".", b".."):
                seen.append(name)
                assert guest.on_path("path_unlink_file", name, fd=sub) == 0
    assert seen == [f"f{index}".encode() for index in range(10)] + [b"file"]
    assert guest.names(sub) == []


def test_a_replica_goes_on_with_the_listing_that_the_leader_began(guest: FakeGuest, folder: Path) -> None:
    _, whole = guest.readdir(3, 4096, 0)
    cookie = dirents(whole)[2][0]
    (folder / "a new file").write_bytes(b"")
    assert guest.replica().readdir(3, 4096, cookie)[1] == whole[cookie:]
    assert b"a new file" in guest.names(3)


def test_a_name_that_is_not_unicode_is_left_out(guest: FakeGuest, folder: Path) -> None:
    try:
        (folder / os.fsdecode(b"\xff")).write_bytes(b"")
    except OSError:
        pytest.skip("this file system takes Unicode names only")
    assert guest.names(3) == [b"file", b"sub"]


def test_scattered_buffers_are_filled_and_written_in_order(guest: FakeGuest, folder: Path) -> None:
    fd = guest.opened("file")
    buffers = [(5000, 9), (900, 0), (100, 1), (0, 20)]
    for index, buffer in enumerate(buffers):
        guest.memory.pack("<II", 200 + 8 * index, *buffer)
    guest.memory.bytes[5000:5010] = b"\xaa" * 10
    assert guest.call("fd_read", fd, 200, 4, 400) == 0
    assert guest.memory.unpack("<I", 400) == (10,)
    assert guest.memory.bytes[5000:5010] == b"012345678\xaa"
    assert guest.memory.bytes[100:101] == b"9"
    assert guest.call("fd_pwrite", fd, 200, 3, 2, 400) == 0
    assert (folder / "file").read_bytes() == b"010123456789"


def test_times_can_be_set_one_by_one(guest: FakeGuest, folder: Path) -> None:
    fd = guest.opened("file")
    assert guest.call("fd_filestat_set_times", fd, 5, 7_000_000_001, 1 | 4) == 0
    assert guest.fstat(fd)[1][5:7] == (5, 7_000_000_001)
    assert guest.call("fd_filestat_set_times", fd, 9, 9, 1) == 0
    assert guest.fstat(fd)[1][5:7] == (9, 7_000_000_001)
    assert guest.set_times("file", 9, 9, 8) == 0
    assert guest.fstat(fd)[1][6] > 1_600_000_000 * 10**9
    assert guest.call("fd_filestat_set_times", fd, 9, 9, 1 | 2) == Errno.INVAL
    assert guest.call("fd_filestat_set_times", fd, 9, 9, 16) == Errno.INVAL
    assert guest.call("fd_filestat_set_times", fd, -1, 9, 1) == Errno.INVAL


def test_a_symlinks_own_times_are_set_without_following(guest: FakeGuest, folder: Path) -> None:
    (folder / "link").symlink_to("file")
    before = (folder / "file").stat().st_mtime_ns
    assert guest.set_times("link", 1000, 2000, 1 | 4, follow=False) == 0
    assert (folder / "link").lstat().st_mtime_ns == 2000
    assert (folder / "file").stat().st_mtime_ns == before


def test_files_can_be_synced_advised_and_allocated(guest: FakeGuest, folder: Path) -> None:
    fd = guest.opened("file")
    for name in ("fd_sync", "fd_datasync"):
        assert [guest.call(name, number) for number in (fd, 3, 1)] == [0, 0, 0]
    assert [guest.call("fd_advise", fd, 0, 10, advice) for advice in range(7)] == [0] * 6 + [Errno.INVAL]
    assert guest.call("fd_allocate", fd, 5, 20) == 0
    assert (folder / "file").stat().st_size == 25
    assert guest.call("fd_allocate", fd, 0, 0) == Errno.INVAL


def test_synchronous_writing_is_kept_by_replicas_and_cannot_be_switched(guest: FakeGuest, folder: Path) -> None:
    import fcntl

    fd = guest.opened("file", fdflags=2)
    replica = guest.replica()
    assert replica.write(fd, b"x") == (0, 1)
    [file] = replica.local["wasi"].values()
    assert fcntl.fcntl(file.fd, fcntl.F_GETFL) & os.O_DSYNC
    assert guest.call("fd_fdstat_set_flags", fd, 0) == Errno.NOTSUP
    assert guest.call("fd_fdstat_set_flags", fd, 64) == Errno.INVAL
    assert guest.call("fd_fdstat_set_flags", fd, 2 | 4) == 0
    assert guest.fdstat(fd)[1][1] == 6


def test_preopened_folders_are_found_by_name(tmp_path: Path) -> None:
    guest = FakeGuest(Wasi(preopens={"/data": tmp_path, "/ä": tmp_path}))
    assert guest.call("fd_prestat_get", 4, 0) == 0
    assert struct.unpack_from("<B3xI", guest.memory.bytes, 0) == (0, 3)
    assert guest.call("fd_prestat_dir_name", 4, 16, 2) == Errno.NAMETOOLONG
    assert guest.call("fd_prestat_dir_name", 4, 16, 3) == 0
    assert guest.memory.bytes[16:20] == b"/\xc3\xa4\0"
    assert guest.call("fd_prestat_get", 5, 0) == Errno.BADF
    assert guest.call("fd_prestat_get", 0, 0) == Errno.BADF


def test_sockets_there_are_none(guest: FakeGuest) -> None:
    for name, args in (
        ("sock_accept", (0, 0)),
        ("sock_recv", (0, 0, 0, 0, 0)),
        ("sock_send", (0, 0, 0, 0)),
        ("sock_shutdown", (0,)),
    ):
        assert guest.call(name, 3, *args) == Errno.NOTSOCK
        assert guest.call(name, 77, *args) == Errno.BADF

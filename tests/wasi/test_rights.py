"""What a descriptor may be used for, what its number may be, and what a configuration may ask for."""

from __future__ import annotations

import os
import pickle
import sys
from pathlib import Path

import pytest

from replicate.errors import WasiError
from replicate.wasi import Errno, Preopen, Wasi
from replicate.wasi import paths as wasi_paths

from .support import ALL_RIGHTS, CREAT, READ, TRUNC, WRITE, FakeGuest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows can't preopen folders")


def test_a_read_only_folder_lets_nothing_change(folder: Path) -> None:
    guest = FakeGuest(Wasi(preopens=[Preopen(folder, "/", read_only=True)]))
    before = sorted(path.stat().st_mtime_ns for path in folder.rglob("*"))
    rights = ALL_RIGHTS & ~WRITE
    assert guest.open("file")[0] == Errno.ROFS
    assert guest.open("file", oflags=TRUNC, rights=rights)[0] == Errno.ROFS
    assert guest.open("new", oflags=CREAT, rights=rights)[0] == Errno.ROFS
    for name in ("path_create_directory", "path_remove_directory", "path_unlink_file"):
        assert guest.on_path(name, "sub/file") == Errno.ROFS
    assert guest.rename("file", "other") == Errno.ROFS
    assert guest.link("file", "other") == Errno.ROFS
    assert guest.symlink("file", "other") == Errno.ROFS
    fd = guest.opened("file", rights=rights)
    assert guest.write(fd, b"x")[0] == Errno.ROFS
    assert guest.call("fd_filestat_set_size", fd, 0) == Errno.ROFS
    assert guest.call("fd_filestat_set_times", fd, 1, 1, 5) == Errno.ROFS
    assert guest.call("fd_allocate", fd, 0, 100) == Errno.ROFS
    assert guest.read(fd, 3) == (0, b"012")
    assert sorted(path.stat().st_mtime_ns for path in folder.rglob("*")) == before


def test_a_c_library_that_opens_for_writing_in_a_read_only_folder_is_told(folder: Path) -> None:
    guest = FakeGuest(Wasi(preopens=[Preopen(folder, "/", read_only=True)]))
    _, (_, _, _, inheriting) = guest.fdstat(3)
    assert guest.open("file", rights=ALL_RIGHTS & inheriting)[0] == Errno.ROFS


def test_a_state_from_elsewhere_cannot_write_to_a_read_only_folder(guest: FakeGuest, folder: Path) -> None:
    import fcntl

    fd = guest.opened("file")
    strict = FakeGuest(Wasi(preopens=[Preopen(folder, "/", read_only=True)]), state=guest.save())
    assert strict.write(fd, b"x")[0] == Errno.ROFS
    assert strict.on_path("path_unlink_file", "file") == Errno.ROFS
    assert strict.open("file")[0] == Errno.ROFS
    assert strict.read(fd, 2) == (0, b"01")
    [file] = strict.local["wasi"].values()
    assert fcntl.fcntl(file.fd, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY


def test_rights_can_be_given_up_and_never_come_back(guest: FakeGuest) -> None:
    fd = guest.opened("file")
    assert guest.call("fd_fdstat_set_rights", fd, READ, 0) == 0
    assert guest.write(fd, b"x")[0] == Errno.NOTCAPABLE
    assert guest.seek(fd, 0, 0)[0] == Errno.NOTCAPABLE
    assert guest.call("fd_fdstat_set_rights", fd, READ | WRITE, 0) == Errno.NOTCAPABLE
    assert guest.read(fd, 2) == (0, b"01")


def test_a_folder_hands_down_no_more_than_it_may(guest: FakeGuest) -> None:
    sub = guest.opened("sub", oflags=2, rights=ALL_RIGHTS & ~WRITE, inheriting=READ)
    assert guest.open("file", fd=sub)[0] == Errno.NOTCAPABLE
    fd = guest.opened("file", fd=sub, rights=ALL_RIGHTS & ~WRITE)
    assert guest.fdstat(fd)[1][2:] == (READ, 0)


def test_a_file_is_no_folder_and_a_folder_no_file(guest: FakeGuest) -> None:
    file = guest.opened("file")
    assert guest.open("x", fd=file)[0] == Errno.NOTDIR
    assert guest.stat("x", fd=file)[0] == Errno.NOTDIR
    assert guest.readdir(file, 100, 0)[0] == Errno.NOTDIR
    assert guest.read(3, 1)[0] == Errno.BADF
    assert guest.seek(3, 0, 0)[0] == Errno.BADF


@pytest.mark.parametrize("fd", [4, 99, -1, -2, 0xFFFF_FFFF, 0x8000_0000])
def test_a_number_that_is_not_open_is_a_bad_descriptor(guest: FakeGuest, fd: int) -> None:
    assert guest.close(fd) == Errno.BADF
    assert guest.fdstat(fd)[0] == Errno.BADF
    assert guest.read(fd, 1)[0] == Errno.BADF
    assert guest.call("fd_renumber", fd, 3) == Errno.BADF
    assert guest.call("fd_renumber", 3, fd) == Errno.BADF


def test_standard_streams_and_folders_can_be_closed_and_their_numbers_used(guest: FakeGuest) -> None:
    fd = guest.opened("file")
    assert guest.call("fd_renumber", fd, 1) == 0
    assert guest.write(1, b"to the file") == (0, 11)
    assert guest.close(3) == 0
    assert guest.call("fd_prestat_get", 3, 0) == Errno.BADF
    assert guest.open("file")[0] == Errno.BADF


def test_the_limit_of_descriptors_holds_and_creates_nothing(folder: Path) -> None:
    guest = FakeGuest(Wasi(preopens={"/": folder}, descriptor_limit=6))
    assert [guest.open("file")[0] for _ in range(3)] == [0, 0, Errno.MFILE]
    assert guest.open("new", oflags=CREAT)[0] == Errno.MFILE
    assert not (folder / "new").exists()
    guest.close(4)
    assert guest.opened("file") == 4


def test_a_result_outside_the_memory_is_a_fault_and_creates_nothing(guest: FakeGuest, folder: Path) -> None:
    where, length = guest._put(0, "new")
    assert guest.call("path_open", 3, 1, where, length, CREAT, ALL_RIGHTS, 0, 0, -1) == Errno.FAULT
    assert not (folder / "new").exists()


def test_a_read_whose_buffers_are_outside_the_memory_moves_nothing(guest: FakeGuest) -> None:
    fd = guest.opened("file")
    guest.memory.pack("<II", 0, (1 << 20) - 1, 2)
    assert guest.call("fd_read", fd, 0, 1, 64) == Errno.FAULT
    guest.memory.pack("<II", 0, 100, 2)
    assert guest.call("fd_read", fd, 0, 1, -1) == Errno.FAULT
    assert guest.tell(fd) == (0, 0)


@pytest.mark.parametrize("offset", [-1, 1 << 63])
def test_an_offset_that_no_file_has_is_invalid(guest: FakeGuest, offset: int) -> None:
    fd = guest.opened("file")
    assert guest.pread(fd, 1, offset)[0] == Errno.INVAL
    assert guest.pwrite(fd, b"x", offset)[0] == Errno.INVAL
    assert guest.call("fd_filestat_set_size", fd, offset) == Errno.INVAL
    assert guest.call("fd_allocate", fd, offset, 1) == Errno.INVAL
    guest.seek(fd, (1 << 63) - 1, 0)
    assert guest.seek(fd, 1, 1)[0] == Errno.INVAL


def test_standard_streams_have_no_offset(guest: FakeGuest) -> None:
    for fd in (0, 1, 2):
        assert guest.seek(fd, 0, 0)[0] == Errno.SPIPE
        assert guest.tell(fd)[0] == Errno.SPIPE


def test_a_folder_that_does_not_exist_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(WasiError, match="nowhere"):
        Wasi(preopens={"/": tmp_path / "nowhere"})


def test_two_folders_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(WasiError, match="two folders"):
        Wasi(preopens=[Preopen(tmp_path, "/"), Preopen(tmp_path, "/")])


def test_a_system_that_cannot_keep_guests_inside_gets_no_folders(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(os, "supports_dir_fd", set())
    assert not wasi_paths.supported()
    Wasi()
    with pytest.raises(WasiError, match="supports_dir_fd"):
        Wasi(preopens={"/": tmp_path})


def test_a_configuration_survives_pickling(wasi: Wasi) -> None:
    copy = pickle.loads(pickle.dumps(wasi))
    assert copy == wasi
    assert FakeGuest(copy).opened("file") == 4

"""What descriptors remember, when they can be replicated, and what they refuse."""

from __future__ import annotations

import os
import pickle
import shutil
import struct
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from replicate.errors import WasiError
from replicate.wasi import Errno, Preopen, Wasi
from replicate.wasi import paths as wasi_paths

from .support import ALL_RIGHTS, APPEND, CREAT, EXCL, TRUNC, FakeGuest, dirents

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows can't preopen folders")

READ, WRITE = 1 << 1, 1 << 6


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "folder"
    (made / "sub").mkdir(parents=True)
    (made / "file").write_bytes(b"0123456789")
    (made / "sub" / "file").write_bytes(b"below")
    return made


@pytest.fixture
def wasi(folder: Path) -> Wasi:
    return Wasi(preopens={"/": folder}, stdin=b"typed")


@pytest.fixture
def guest(wasi: Wasi) -> FakeGuest:
    return FakeGuest(wasi)


def host_descriptors() -> int:
    return len(os.listdir("/dev/fd"))


# -- state ------------------------------------------------------------------------------------------------------------


def test_clocks_arguments_and_random_bytes_need_no_state(guest: FakeGuest) -> None:
    guest.time(0)
    guest.random(8)
    guest.call("args_sizes_get", 0, 4)
    assert guest.state == {}


def test_opening_and_closing_leaves_the_state_as_it_was(guest: FakeGuest) -> None:
    guest.fdstat(3)
    before = guest.save()
    first, second = guest.opened("file"), guest.opened("sub/file")
    guest.close(first)
    guest.close(second)
    assert guest.state == before


def test_equal_runs_in_one_folder_have_equal_states(wasi: Wasi) -> None:
    def run() -> object:
        guest = FakeGuest(wasi)
        guest.read(guest.opened("file"), 3)
        guest.names(guest.folder("sub"))
        return guest.state

    assert run() == run()


def test_an_offset_rolls_back(guest: FakeGuest) -> None:
    fd = guest.opened("file")
    guest.read(fd, 2)
    saved = guest.save()
    assert guest.read(fd, 3) == (0, b"234")
    guest.restore(saved)
    assert guest.read(fd, 3) == (0, b"234")


def test_a_number_used_again_after_a_roll_back_is_not_the_old_file(guest: FakeGuest) -> None:
    guest.fdstat(3)
    saved = guest.save()
    guest.opened("file")
    guest.restore(saved)
    fd = guest.opened("sub/file")
    assert guest.read(fd, 99) == (0, b"below")


def test_a_rolled_back_close_is_undone(guest: FakeGuest) -> None:
    fd = guest.opened("file")
    saved = guest.save()
    guest.close(fd)
    guest.restore(saved)
    assert guest.read(fd, 2) == (0, b"01")


def test_appending_follows_the_flag_after_a_roll_back(guest: FakeGuest, folder: Path) -> None:
    fd = guest.opened("file")
    saved = guest.save()
    guest.call("fd_fdstat_set_flags", fd, APPEND)
    guest.write(fd, b"end")
    guest.restore(saved)
    guest.write(fd, b"AB")
    assert (folder / "file").read_bytes() == b"AB23456789end"


def test_host_descriptors_are_closed_with_the_guests_and_with_the_instance(guest: FakeGuest) -> None:
    guest.fstat(3)
    before = host_descriptors()
    fds = [guest.opened("file", rights=READ), guest.opened("file"), guest.opened("sub/file")]
    assert host_descriptors() == before + 3
    for fd in fds:
        guest.close(fd)
    assert host_descriptors() == before
    saved = guest.save()
    guest.opened("file")
    guest.restore(saved)
    guest.opened("sub/file")
    assert host_descriptors() == before + 1
    guest.local.clear()
    assert host_descriptors() == before


def test_two_descriptors_of_one_file_outlive_each_other(guest: FakeGuest, folder: Path) -> None:
    first, second = guest.opened("file"), guest.opened("file")
    (folder / "file").unlink()
    guest.close(first)
    assert guest.read(second, 3) == (0, b"012")


# -- replicas ---------------------------------------------------------------------------------------------------------


def test_a_replica_reads_on_where_the_leader_was(guest: FakeGuest, wasi: Wasi) -> None:
    fd = guest.opened("sub/file")
    guest.read(fd, 2)
    guest.read(0, 2)
    assert wasi.check_replicable(guest.state) == ()
    replica = guest.replica()
    assert replica.read(fd, 99) == (0, b"low")
    assert replica.read(0, 99) == (0, b"ped")
    assert guest.read(fd, 99) == (0, b"low")


def test_a_replica_does_not_create_or_truncate_again(guest: FakeGuest) -> None:
    fd = guest.opened("new", oflags=CREAT | EXCL | TRUNC)
    guest.write(fd, b"kept")
    assert guest.replica().pread(fd, 9, 0) == (0, b"kept")


@pytest.mark.parametrize("old", ["file", "sub/file"])
def test_descriptors_follow_what_the_guest_renames(guest: FakeGuest, wasi: Wasi, old: str) -> None:
    fd, sub = guest.opened(old), guest.folder("sub")
    assert guest.rename(old, "renamed") == 0
    assert guest.rename("sub", "below") == 0
    assert guest.rename("renamed", "below/again") == 0
    assert wasi.check_replicable(guest.state) == ()
    replica = guest.replica()
    assert replica.pread(fd, 99, 0) == guest.pread(fd, 99, 0)
    assert b"again" in replica.names(sub)


def test_renaming_a_neighbour_with_a_longer_name_moves_nothing(guest: FakeGuest, wasi: Wasi) -> None:
    fd = guest.opened("file2", oflags=CREAT)
    guest.rename("file", "other")
    assert wasi.check_replicable(guest.state) == ()
    assert guest.replica().write(fd, b"x") == (0, 1)


def test_a_file_renamed_and_then_unlinked_stays_usable_here(guest: FakeGuest, wasi: Wasi) -> None:
    fd = guest.opened("file")
    guest.rename("file", "other")
    guest.on_path("path_unlink_file", "other")
    assert guest.read(fd, 2) == (0, b"01")
    assert len(wasi.check_replicable(guest.state)) == 1


@pytest.mark.parametrize("how", ["unlinked", "replaced", "moved", "parent gone"])
def test_a_file_that_is_not_where_it_was_is_found_before_the_commit(
    guest: FakeGuest, wasi: Wasi, folder: Path, how: str
) -> None:
    fd = guest.opened("sub/file")
    other = guest.opened("file")
    path = folder / "sub" / "file"
    if how == "unlinked":
        path.unlink()
    elif how == "replaced":
        (folder / "new").write_bytes(b"new")
        os.replace(folder / "new", path)
    elif how == "moved":
        path.rename(folder / "moved")
    else:
        shutil.rmtree(folder / "sub")
    assert guest.read(fd, 2) == (0, b"be")
    [finding] = wasi.check_replicable(guest.state)
    assert finding.place == f"WASI descriptor {fd}"
    assert "'sub/file' in '/'" in finding.reason
    assert guest.replica().read(fd, 2)[0] == Errno.STALE
    assert guest.replica().read(other, 2) == (0, b"01")
    guest.close(fd)
    assert wasi.check_replicable(guest.state) == ()


def test_a_pipe_can_be_used_but_not_committed(guest: FakeGuest, wasi: Wasi, folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    fd = guest.opened("pipe", rights=READ)
    writer = os.open(folder / "pipe", os.O_WRONLY)
    try:
        os.write(writer, b"flow")
        assert guest.read(fd, 9) == (0, b"flow")
        assert guest.read(fd, 9)[0] == Errno.AGAIN
        assert guest.seek(fd, 0, 0)[0] == Errno.SPIPE
        [finding] = wasi.check_replicable(guest.state)
        assert "pipe or device" in finding.reason
    finally:
        os.close(writer)


def test_a_folder_that_the_configuration_lacks_is_found(guest: FakeGuest, folder: Path) -> None:
    fd = guest.opened("file")
    other = Wasi(preopens={"/other": folder})
    findings = other.check_replicable(guest.state)
    assert [finding.place for finding in findings] == ["WASI descriptor 3", f"WASI descriptor {fd}"]
    assert FakeGuest(other, state=guest.save()).read(fd, 1)[0] == Errno.NOTCAPABLE


def test_a_snapshot_restored_over_another_copy_of_the_folder_goes_by_path(
    guest: FakeGuest, folder: Path, tmp_path: Path
) -> None:
    fd, sub = guest.opened("sub/file"), guest.folder("sub")
    guest.read(fd, 1)
    shutil.copytree(folder, tmp_path / "copy")
    (tmp_path / "copy" / "sub" / "file").write_bytes(b"other")
    elsewhere = Wasi(preopens={"/": tmp_path / "copy"})
    assert elsewhere.check_replicable(guest.state) == ()
    restored = FakeGuest(elsewhere, state=guest.save())
    assert restored.read(fd, 9) == (0, b"ther")
    assert restored.names(sub) == [b"file"]
    restored.state["wasi"]["descriptors"][fd]["path"] = b"file"
    assert restored.pread(fd, 99, 0) == (0, b"0123456789")


def test_all_instances_have_the_folder_that_was_there_first(wasi: Wasi, folder: Path) -> None:
    first = FakeGuest(wasi)
    first.fstat(3)
    folder.rename(folder.with_name("away"))
    folder.mkdir()
    assert FakeGuest(wasi).open("file")[0] == 0


# -- read-only folders and rights --------------------------------------------------------------------------------------


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


# -- numbers ----------------------------------------------------------------------------------------------------------


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


# -- folders ----------------------------------------------------------------------------------------------------------


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


# -- more about files ---------------------------------------------------------------------------------------------------


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


# -- configuration ----------------------------------------------------------------------------------------------------


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

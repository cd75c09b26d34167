"""Descriptors roll back and replicate, and what a replica could not have is found before the commit."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

from replicate.wasi import Errno, Wasi

from .support import APPEND, CREAT, EXCL, READ, TRUNC, FakeGuest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows can't preopen folders")


def host_descriptors() -> int:
    return len(os.listdir("/dev/fd"))


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

"""What can be done with a path without opening it."""

from __future__ import annotations

import errno
import os
import stat

from replicate.wasi import rights
from replicate.wasi.caller import Caller
from replicate.wasi.calls.metadata import new_times
from replicate.wasi.calls.opening import folder_with
from replicate.wasi.descriptors import Descriptor, table
from replicate.wasi.errno import Errno, Refusal
from replicate.wasi.hostfiles import host_fd
from replicate.wasi.layout import FILESTAT, LOOKUP_SYMLINK_FOLLOW, MASK32, filestat
from replicate.wasi.paths import Place, guest_path, join, located
from replicate.wasi.system import System

__all__ = [
    "path_create_directory",
    "path_fields",
    "path_filestat_get",
    "path_filestat_set_times",
    "path_link",
    "path_readlink",
    "path_remove_directory",
    "path_rename",
    "path_symlink",
    "path_unlink_file",
]


def path_create_directory(system: System, caller: Caller, fd: int, path: int, length: int) -> int:
    """Create a folder."""
    folder = folder_with(system, caller, fd, rights.PATH_CREATE_DIRECTORY)
    name = guest_path(caller, path, length)
    with located(host_fd(system, caller, folder), name, follow=False) as place:
        os.mkdir(place.name, 0o777, dir_fd=place.parent)
    return 0


def path_remove_directory(system: System, caller: Caller, fd: int, path: int, length: int) -> int:
    """Remove an empty folder."""
    folder = folder_with(system, caller, fd, rights.PATH_REMOVE_DIRECTORY)
    name = guest_path(caller, path, length)
    with located(host_fd(system, caller, folder), name, follow=False) as place:
        os.rmdir(place.name, dir_fd=place.parent)
    return 0


def path_unlink_file(system: System, caller: Caller, fd: int, path: int, length: int) -> int:
    """Unlink a file or symlink. A descriptor on it stays usable in this instance, but can't be committed any more."""
    folder = folder_with(system, caller, fd, rights.PATH_UNLINK_FILE)
    name = guest_path(caller, path, length)
    with located(host_fd(system, caller, folder), name, follow=False) as place:
        if place.must_be_folder:
            raise Refusal(Errno.ISDIR if stat.S_ISDIR(_status(place).st_mode) else Errno.NOTDIR)
        try:
            os.unlink(place.name, dir_fd=place.parent)
        except PermissionError:  # what macOS answers for a folder
            if stat.S_ISDIR(_status(place).st_mode):
                raise Refusal(Errno.ISDIR) from None
            raise
    return 0


def path_rename(
    system: System, caller: Caller, fd: int, path: int, length: int, new_fd: int, new_path: int, new_length: int
) -> int:
    """Rename a file or folder; descriptors that this guest has open below it follow."""
    source = folder_with(system, caller, fd, rights.PATH_RENAME_SOURCE)
    target = folder_with(system, caller, new_fd, rights.PATH_RENAME_TARGET)
    old_name = guest_path(caller, path, length)
    new_name = guest_path(caller, new_path, new_length)
    with (
        located(host_fd(system, caller, source), old_name, follow=False) as old,
        located(host_fd(system, caller, target), new_name, follow=False) as new,
    ):
        if (old.must_be_folder or new.must_be_folder) and not stat.S_ISDIR(_status(old).st_mode):
            raise Refusal(Errno.NOTDIR)
        before, there = _status(old), _status_or_none(new)
        os.rename(old.name, new.name, src_dir_fd=old.parent, dst_dir_fd=new.parent)
        if there is not None and (before.st_dev, before.st_ino) == (there.st_dev, there.st_ino):
            return 0  # two links of one file: nothing happens, both stay
        was = join(source.get("path", b""), old.components)
        becomes = join(target.get("path", b""), new.components)
    _follow(table(system, caller), source["preopen"], was, target["preopen"], becomes)
    return 0


def _follow(descriptors: list[Descriptor | None], preopen: str, was: bytes, new_preopen: str, becomes: bytes) -> None:
    for found in descriptors:
        if found is None or "path" not in found or found["preopen"] != preopen:
            continue
        path = found["path"]
        if path == was or path.startswith(was + b"/"):
            found["preopen"], found["path"] = new_preopen, becomes + path[len(was) :]


def path_link(
    system: System,
    caller: Caller,
    fd: int,
    lookup: int,
    path: int,
    length: int,
    new_fd: int,
    new_path: int,
    new_length: int,
) -> int:
    """Give a file a second name."""
    source = folder_with(system, caller, fd, rights.PATH_LINK_SOURCE)
    target = folder_with(system, caller, new_fd, rights.PATH_LINK_TARGET)
    old_name = guest_path(caller, path, length)
    new_name = guest_path(caller, new_path, new_length)
    follow = bool(lookup & LOOKUP_SYMLINK_FOLLOW)
    base, new_base = host_fd(system, caller, source), host_fd(system, caller, target)
    with located(base, old_name, follow=follow, follow_before_slash=True) as old:
        _checked(old)
        with located(new_base, new_name, follow=False) as new:
            if new.must_be_folder and _status_or_none(new) is None:
                raise Refusal(Errno.NOENT)
            os.link(old.name, new.name, src_dir_fd=old.parent, dst_dir_fd=new.parent, follow_symlinks=False)
    return 0


def path_symlink(
    system: System, caller: Caller, target: int, target_length: int, fd: int, path: int, length: int
) -> int:
    """Create a symlink. One that points outside can be made, relative only, and never followed by a guest.

    Hazard: a program on the host may follow it.
    """
    folder = folder_with(system, caller, fd, rights.PATH_SYMLINK)
    content = guest_path(caller, target, target_length)
    name = guest_path(caller, path, length)
    if content.startswith(b"/"):
        raise Refusal(Errno.PERM)
    with located(host_fd(system, caller, folder), name, follow=False) as place:
        if place.must_be_folder and _status_or_none(place) is None:
            raise Refusal(Errno.NOENT)
        os.symlink(content, place.name, dir_fd=place.parent)
    return 0


def path_readlink(
    system: System, caller: Caller, fd: int, path: int, length: int, buffer: int, size: int, used: int
) -> int:
    """Write what a symlink contains, cut off at `size` bytes."""
    folder = folder_with(system, caller, fd, rights.PATH_READLINK)
    name = guest_path(caller, path, length)
    with located(host_fd(system, caller, folder), name, follow=False) as place:
        if place.must_be_folder:
            raise Refusal(Errno.INVAL if stat.S_ISDIR(_status(place).st_mode) else Errno.NOTDIR)
        content = os.readlink(place.name, dir_fd=place.parent)[: size & MASK32]
    caller.memory.write(buffer & MASK32, content)
    caller.memory.pack("<I", used & MASK32, len(content))
    return 0


def path_filestat_get(system: System, caller: Caller, fd: int, lookup: int, path: int, length: int, result: int) -> int:
    """Write what is known of a file."""
    caller.memory.pack(FILESTAT, result & MASK32, *path_fields(system, caller, fd, lookup, path, length))
    return 0


def path_fields(system: System, caller: Caller, fd: int, lookup: int, path: int, length: int) -> tuple[int, ...]:
    """Give the fields of the `FILESTAT` record of the file at a path."""
    folder = folder_with(system, caller, fd, rights.PATH_FILESTAT_GET)
    name = guest_path(caller, path, length)
    follow = bool(lookup & LOOKUP_SYMLINK_FOLLOW)
    with located(host_fd(system, caller, folder), name, follow=follow, follow_before_slash=True) as place:
        return filestat(_checked(place))


def path_filestat_set_times(
    system: System,
    caller: Caller,
    fd: int,
    lookup: int,
    path: int,
    length: int,
    access: int,
    modification: int,
    flags: int,
) -> int:
    """Set when the file at a path was last read and changed, in nanoseconds since 1970."""
    folder = folder_with(system, caller, fd, rights.PATH_FILESTAT_SET_TIMES)
    name = guest_path(caller, path, length)
    follow = bool(lookup & LOOKUP_SYMLINK_FOLLOW)
    with located(host_fd(system, caller, folder), name, follow=follow, follow_before_slash=True) as place:
        times = new_times(_checked(place), access, modification, flags)
        os.utime(place.name, ns=times, dir_fd=place.parent, follow_symlinks=False)
    return 0


def _status(place: Place) -> os.stat_result:
    return os.stat(place.name, dir_fd=place.parent, follow_symlinks=False)


def _status_or_none(place: Place) -> os.stat_result | None:
    try:
        return _status(place)
    except OSError as error:
        if error.errno == errno.ENOENT:
            return None
        raise


def _checked(place: Place) -> os.stat_result:
    found = _status(place)
    if place.must_be_folder and not stat.S_ISDIR(found.st_mode):
        raise Refusal(Errno.NOTDIR)
    return found

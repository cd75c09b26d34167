"""Descriptors themselves: what they are, what is known of their files, and their numbers."""

from __future__ import annotations

import os
import time

from replicate.wasi import rights
from replicate.wasi.caller import Caller, wasi_state
from replicate.wasi.descriptors import PREOPEN, descriptor, descriptor_with, remove, table
from replicate.wasi.errno import Errno, Refusal
from replicate.wasi.hostfiles import SYNC_FLAGS, forget_unused, host_fd
from replicate.wasi.layout import (
    FDFLAGS_ALL,
    FDSTAT,
    FILESTAT,
    FSTFLAGS_ATIM,
    FSTFLAGS_ATIM_NOW,
    FSTFLAGS_MTIM,
    FSTFLAGS_MTIM_NOW,
    MASK32,
    MASK64,
    PRESTAT,
    filestat,
)
from replicate.wasi.system import System

__all__ = [
    "fd_close",
    "fd_fdstat_get",
    "fd_fdstat_set_flags",
    "fd_fdstat_set_rights",
    "fd_filestat_get",
    "fd_filestat_set_times",
    "fd_prestat_dir_name",
    "fd_prestat_get",
    "fd_renumber",
    "file_fields",
    "new_times",
]


def fd_close(system: System, caller: Caller, fd: int) -> int:
    """Close a descriptor, a preopened folder's or standard stream's too."""
    found = descriptor(system, caller, fd)
    remove(table(system, caller), fd & MASK32)
    if "path" in found:
        forget_unused(caller, wasi_state(caller))
    return 0


def fd_renumber(system: System, caller: Caller, source: int, target: int) -> int:
    """Give an open descriptor the number of another one, which is closed."""
    found = descriptor(system, caller, source)
    replaced = descriptor(system, caller, target)
    if found is replaced:
        return 0
    descriptors = table(system, caller)
    descriptors[target & MASK32] = found
    remove(descriptors, source & MASK32)
    if "path" in replaced:
        forget_unused(caller, wasi_state(caller))
    return 0


def fd_fdstat_get(system: System, caller: Caller, fd: int, result: int) -> int:
    """Write a descriptor's file type, flags and rights."""
    found = descriptor(system, caller, fd)
    caller.memory.pack(FDSTAT, result & MASK32, found["filetype"], found["flags"], found["rights"], found["inheriting"])
    return 0


def fd_fdstat_set_flags(system: System, caller: Caller, fd: int, flags: int) -> int:
    """Set the append and non-blocking flags; the others can't change after opening (ENOTSUP)."""
    found = descriptor_with(system, caller, fd, rights.FD_FDSTAT_SET_FLAGS)
    if flags & ~FDFLAGS_ALL:
        raise Refusal(Errno.INVAL)
    if (flags ^ found["flags"]) & SYNC_FLAGS:
        raise Refusal(Errno.NOTSUP)
    found["flags"] = flags
    return 0


def fd_fdstat_set_rights(system: System, caller: Caller, fd: int, base: int, inheriting: int) -> int:
    """Give up rights; getting more is refused with ENOTCAPABLE."""
    found = descriptor(system, caller, fd)
    base, inheriting = base & MASK64, inheriting & MASK64
    if base & ~found["rights"] or inheriting & ~found["inheriting"]:
        raise Refusal(Errno.NOTCAPABLE)
    found["rights"], found["inheriting"] = base, inheriting
    return 0


def fd_filestat_get(system: System, caller: Caller, fd: int, result: int) -> int:
    """Write what is known of a descriptor's file; of a standard stream only its type."""
    caller.memory.pack(FILESTAT, result & MASK32, *file_fields(system, caller, fd))
    return 0


def file_fields(system: System, caller: Caller, fd: int) -> tuple[int, ...]:
    """Give the fields of a descriptor's `FILESTAT` record."""
    found = descriptor_with(system, caller, fd, rights.FD_FILESTAT_GET)
    if "preopen" in found:
        return filestat(os.fstat(host_fd(system, caller, found)))
    return 0, 0, found["filetype"], 0, 0, 0, 0, 0


def fd_filestat_set_times(system: System, caller: Caller, fd: int, access: int, modification: int, flags: int) -> int:
    """Set when a file was last read and changed, in nanoseconds since 1970."""
    found = descriptor_with(system, caller, fd, rights.FD_FILESTAT_SET_TIMES)
    file = host_fd(system, caller, found)
    os.utime(file, ns=new_times(os.fstat(file), access, modification, flags))
    return 0


def new_times(now: os.stat_result, access: int, modification: int, flags: int) -> tuple[int, int]:
    """Give the access and modification time that `fstflags` ask for; refuse with EINVAL contradicting ones."""
    if flags & ~(FSTFLAGS_ATIM | FSTFLAGS_ATIM_NOW | FSTFLAGS_MTIM | FSTFLAGS_MTIM_NOW):
        raise Refusal(Errno.INVAL)
    return (
        _new_time(now.st_atime_ns, access, bool(flags & FSTFLAGS_ATIM), bool(flags & FSTFLAGS_ATIM_NOW)),
        _new_time(now.st_mtime_ns, modification, bool(flags & FSTFLAGS_MTIM), bool(flags & FSTFLAGS_MTIM_NOW)),
    )


def _new_time(old: int, given: int, to_given: bool, to_now: bool) -> int:
    if to_given and to_now:
        raise Refusal(Errno.INVAL)
    if to_given:
        if given < 0:  # past the year 2262 as an unsigned number
            raise Refusal(Errno.INVAL)
        return given
    return time.time_ns() if to_now else old


def fd_prestat_get(system: System, caller: Caller, fd: int, result: int) -> int:
    """Write the length of a preopened folder's name; EBADF for any other descriptor."""
    found = descriptor(system, caller, fd)
    if found["kind"] != PREOPEN:
        raise Refusal(Errno.BADF)
    caller.memory.pack(PRESTAT, result & MASK32, 0, len(found["preopen"].encode()))
    return 0


def fd_prestat_dir_name(system: System, caller: Caller, fd: int, result: int, length: int) -> int:
    """Write a preopened folder's name, without a zero byte."""
    found = descriptor(system, caller, fd)
    if found["kind"] != PREOPEN:
        raise Refusal(Errno.BADF)
    name = found["preopen"].encode()
    if length & MASK32 < len(name):
        raise Refusal(Errno.NAMETOOLONG)
    caller.memory.write(result & MASK32, name)
    return 0

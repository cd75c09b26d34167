"""Opening a file or folder by its path."""

from __future__ import annotations

import os
from typing import NamedTuple

from replicate.wasi import rights
from replicate.wasi.caller import Caller, wasi_state
from replicate.wasi.descriptors import (
    DIRECTORY,
    FILE,
    STREAM,
    Descriptor,
    Identity,
    descriptor,
    descriptor_with,
    free_number,
    install,
    refused,
    table,
)
from replicate.wasi.errno import Errno, Refusal
from replicate.wasi.hostfiles import SYNC_FLAGS, HostFile, adopt, forget_unused, host_fd, open_flags
from replicate.wasi.layout import (
    FDFLAGS_ALL,
    FILETYPE_DIRECTORY,
    FILETYPE_REGULAR_FILE,
    LOOKUP_SYMLINK_FOLLOW,
    MASK32,
    OFLAGS_ALL,
    OFLAGS_CREAT,
    OFLAGS_DIRECTORY,
    OFLAGS_EXCL,
    OFLAGS_TRUNC,
    filetype_of,
)
from replicate.wasi.paths import guest_path, join, located
from replicate.wasi.system import System

__all__ = ["folder_with", "path_open"]

_WRITING = rights.FD_WRITE | rights.FD_ALLOCATE | rights.FD_FILESTAT_SET_SIZE


def folder_with(system: System, caller: Caller, fd: int, needed: int) -> Descriptor:
    """Give descriptor `fd`, a folder with all rights in `needed`; refuse with EBADF, ENOTDIR, ENOTCAPABLE or EROFS."""
    found = descriptor(system, caller, fd)
    if found["filetype"] != FILETYPE_DIRECTORY:
        raise Refusal(Errno.NOTDIR)
    return descriptor_with(system, caller, fd, needed)


def path_open(
    system: System,
    caller: Caller,
    fd: int,
    lookup: int,
    path: int,
    path_length: int,
    oflags: int,
    base: int,
    inheriting: int,
    fdflags: int,
    result: int,
) -> int:
    """Open, or create, a file or folder and write its descriptor.

    Rights that the folder doesn't hand down are left out silently, as libraries ask for all they know; but a guest that
    asks to read or write and may not is refused with ENOTCAPABLE or EROFS.
    """
    folder = folder_with(system, caller, fd, _needed_for(oflags))
    caller.memory.unpack("<I", result & MASK32)  # before anything is created
    wanted = _wanted(system, folder, oflags, base, fdflags)
    number = free_number(system, caller)
    name = guest_path(caller, path, path_length)
    follow = bool(lookup & LOOKUP_SYMLINK_FOLLOW) and not (oflags & OFLAGS_CREAT and oflags & OFLAGS_EXCL)
    file, components = _open(host_fd(system, caller, folder), name, follow, wanted)
    there = os.fstat(file.fd)
    identity = Identity(
        *system.roots.identity(folder["preopen"]),
        there.st_dev,
        there.st_ino,
        wanted.fdflags & SYNC_FLAGS,
        wanted.readable,
        wanted.writable,
    )
    filetype = filetype_of(there.st_mode)
    made = Descriptor(
        kind=FILE if filetype == FILETYPE_REGULAR_FILE else DIRECTORY if filetype == FILETYPE_DIRECTORY else STREAM,
        filetype=filetype,
        flags=wanted.fdflags,
        rights=wanted.rights & (rights.DIRECTORY if filetype == FILETYPE_DIRECTORY else rights.FILE),
        inheriting=inheriting & folder["inheriting"] if filetype == FILETYPE_DIRECTORY else 0,
        preopen=folder["preopen"],
        path=join(folder.get("path", b""), components),
        identity=tuple(identity),
    )
    if filetype != FILETYPE_DIRECTORY:
        made["offset"] = 0
    install(table(system, caller), number, made)
    adopt(caller, made["identity"], file)
    forget_unused(caller, wasi_state(caller))
    caller.memory.pack("<I", result & MASK32, number)
    return 0


class _Wanted(NamedTuple):
    rights: int
    oflags: int
    fdflags: int
    readable: bool
    writable: bool


def _needed_for(oflags: int) -> int:
    if oflags & ~OFLAGS_ALL or (oflags & OFLAGS_DIRECTORY and oflags & ~OFLAGS_DIRECTORY):
        raise Refusal(Errno.INVAL)
    needed = rights.PATH_OPEN
    if oflags & OFLAGS_CREAT:
        needed |= rights.PATH_CREATE_FILE
    if oflags & OFLAGS_TRUNC:
        needed |= rights.PATH_FILESTAT_SET_SIZE
    return needed


def _wanted(system: System, folder: Descriptor, oflags: int, base: int, fdflags: int) -> _Wanted:
    if fdflags & ~FDFLAGS_ALL:
        raise Refusal(Errno.INVAL)
    if oflags & OFLAGS_DIRECTORY and base & rights.FD_WRITE:
        raise Refusal(Errno.ISDIR)
    possible = folder["inheriting"] & system.granted.get(folder["preopen"], 0)
    if base & ~possible & (rights.FD_READ | rights.FD_WRITE):
        raise refused(system, folder, base)
    given = base & possible
    writable = bool(given & _WRITING) and not oflags & OFLAGS_DIRECTORY
    readable = bool(given & (rights.FD_READ | rights.FD_READDIR)) or not writable
    return _Wanted(given, oflags, fdflags, readable, writable)


def _open(base: int, path: bytes, follow: bool, wanted: _Wanted) -> tuple[HostFile, tuple[bytes, ...]]:
    with located(base, path, follow=follow, follow_before_slash=True) as place:
        folder = bool(wanted.oflags & OFLAGS_DIRECTORY)
        if place.must_be_folder and wanted.oflags & OFLAGS_CREAT:
            raise Refusal(Errno.ISDIR)
        flags = open_flags(readable=wanted.readable, writable=wanted.writable, sync_flags=wanted.fdflags, folder=folder)
        if place.must_be_folder:
            flags |= os.O_DIRECTORY
        if wanted.oflags & OFLAGS_CREAT:
            flags |= os.O_CREAT
        if wanted.oflags & OFLAGS_EXCL:
            flags |= os.O_EXCL
        if wanted.oflags & OFLAGS_TRUNC:
            flags |= os.O_TRUNC
        return HostFile(os.open(place.name, flags, 0o666, dir_fd=place.parent)), place.components

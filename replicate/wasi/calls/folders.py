"""Listing a folder."""

from __future__ import annotations

import os

from replicate.wasi import rights
from replicate.wasi.caller import Caller
from replicate.wasi.descriptors import descriptor, descriptor_with
from replicate.wasi.errno import Errno, Refusal
from replicate.wasi.hostfiles import host_fd
from replicate.wasi.layout import DIRENT, FILETYPE_DIRECTORY, MASK32, MASK64, filetype_of
from replicate.wasi.system import System

__all__ = ["fd_readdir"]


def fd_readdir(system: System, caller: Caller, fd: int, buffer: int, length: int, cookie: int, used: int) -> int:
    """Write a folder's entries from `cookie` on, as many bytes as fit, the last entry cut off if need be.

    Cookie 0 lists the folder anew, in order of names, ``.`` and ``..`` first. The listing is kept in the guest's state,
    and a cookie is a position in it: a guest that unlinks as it goes misses nothing, and a replica goes on with the
    same entries. Names that aren't UTF-8 can't be used by a guest and are left out.
    """
    found = descriptor(system, caller, fd)
    if found["filetype"] != FILETYPE_DIRECTORY:
        raise Refusal(Errno.NOTDIR)
    found = descriptor_with(system, caller, fd, rights.FD_READDIR)
    start = cookie & MASK64
    if start == 0 or "listing" not in found:
        found["listing"] = _listing(host_fd(system, caller, found))
    data = found["listing"][start : start + (length & MASK32)]
    caller.memory.write(buffer & MASK32, data)
    caller.memory.pack("<I", used & MASK32, len(data))
    return 0


def _listing(folder: int) -> bytes:
    # A listing moves the host descriptor's own position, and the folder's may be shared by several instances.
    mine = os.open(b".", os.O_RDONLY | os.O_DIRECTORY, dir_fd=folder)
    try:
        with os.scandir(mine) as entries:
            found = sorted((os.fsencode(entry.name), entry.inode(), _type(entry)) for entry in entries)
        own_inode = os.fstat(mine).st_ino
    finally:
        os.close(mine)
    # Inode 0 tells a C library that it isn't known; a preopened folder's parent is none of the guest's business.
    found[:0] = [(b".", own_inode, FILETYPE_DIRECTORY), (b"..", 0, FILETYPE_DIRECTORY)]
    records = bytearray()
    for name, inode, filetype in found:
        if _is_utf8(name):
            following = len(records) + DIRENT.size + len(name)
            records += DIRENT.pack(following, inode & MASK64, len(name), filetype)
            records += name
    return bytes(records)


def _type(entry: os.DirEntry[str]) -> int:
    try:
        return filetype_of(entry.stat(follow_symlinks=False).st_mode)
    except FileNotFoundError:  # unlinked just now
        return 0


def _is_utf8(name: bytes) -> bool:
    try:
        name.decode()
    except UnicodeDecodeError:
        return False
    return True

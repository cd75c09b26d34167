"""How WASI preview 1's records lie in guest memory, and the numbers of its enumerations."""

from __future__ import annotations

import stat
import struct
from os import stat_result
from typing import Final

__all__ = [
    "CLOCK_MONOTONIC",
    "CLOCK_PROCESS",
    "CLOCK_REALTIME",
    "CLOCK_THREAD",
    "DIRENT",
    "EVENT",
    "EVENT_CLOCK",
    "EVENT_FD_READ",
    "EVENT_FD_WRITE",
    "FDFLAGS_ALL",
    "FDFLAGS_APPEND",
    "FDFLAGS_DSYNC",
    "FDFLAGS_NONBLOCK",
    "FDFLAGS_RSYNC",
    "FDFLAGS_SYNC",
    "FDSTAT",
    "FILESTAT",
    "FILETYPE_BLOCK_DEVICE",
    "FILETYPE_CHARACTER_DEVICE",
    "FILETYPE_DIRECTORY",
    "FILETYPE_REGULAR_FILE",
    "FILETYPE_SOCKET_STREAM",
    "FILETYPE_SYMBOLIC_LINK",
    "FILETYPE_UNKNOWN",
    "FSTFLAGS_ATIM",
    "FSTFLAGS_ATIM_NOW",
    "FSTFLAGS_MTIM",
    "FSTFLAGS_MTIM_NOW",
    "LOOKUP_SYMLINK_FOLLOW",
    "MASK32",
    "MASK64",
    "OFLAGS_ALL",
    "OFLAGS_CREAT",
    "OFLAGS_DIRECTORY",
    "OFLAGS_EXCL",
    "OFLAGS_TRUNC",
    "PRESTAT",
    "SUBCLOCK_ABSTIME",
    "SUBSCRIPTION",
    "WHENCE_CUR",
    "WHENCE_END",
    "WHENCE_SET",
    "filestat",
    "filetype_of",
]

MASK32: Final = 0xFFFF_FFFF
MASK64: Final = 0xFFFF_FFFF_FFFF_FFFF

# -- records, as `struct` formats -------------------------------------------------------------------------------------

FDSTAT: Final = "<BxH4xQQ"  # filetype, flags, rights, inheriting rights
FILESTAT: Final = "<QQB7xQQQQQ"  # device, inode, filetype, links, size, access, modification, change (ns)
PRESTAT: Final = "<B3xI"  # tag (0: a folder), length of its name
DIRENT: Final = struct.Struct("<QQIB3x")  # cookie of the next one, inode, length of the name, filetype
EVENT: Final = struct.Struct("<QHB5xQH6x")  # userdata, errno, type, bytes ready, flags
SUBSCRIPTION: Final = struct.Struct("<QB7xI4xQQH6x")  # userdata, type, clock or descriptor, timeout, precision, flags

# -- enumerations and flags -------------------------------------------------------------------------------------------

FILETYPE_UNKNOWN: Final = 0
FILETYPE_BLOCK_DEVICE: Final = 1
FILETYPE_CHARACTER_DEVICE: Final = 2
FILETYPE_DIRECTORY: Final = 3
FILETYPE_REGULAR_FILE: Final = 4
FILETYPE_SOCKET_STREAM: Final = 6
FILETYPE_SYMBOLIC_LINK: Final = 7

WHENCE_SET: Final = 0
WHENCE_CUR: Final = 1
WHENCE_END: Final = 2

FDFLAGS_APPEND: Final = 1
FDFLAGS_DSYNC: Final = 2
FDFLAGS_NONBLOCK: Final = 4
FDFLAGS_RSYNC: Final = 8
FDFLAGS_SYNC: Final = 16
FDFLAGS_ALL: Final = 31

OFLAGS_CREAT: Final = 1
OFLAGS_DIRECTORY: Final = 2
OFLAGS_EXCL: Final = 4
OFLAGS_TRUNC: Final = 8
OFLAGS_ALL: Final = 15

FSTFLAGS_ATIM: Final = 1
FSTFLAGS_ATIM_NOW: Final = 2
FSTFLAGS_MTIM: Final = 4
FSTFLAGS_MTIM_NOW: Final = 8

LOOKUP_SYMLINK_FOLLOW: Final = 1

CLOCK_REALTIME: Final = 0
CLOCK_MONOTONIC: Final = 1
CLOCK_PROCESS: Final = 2
CLOCK_THREAD: Final = 3

EVENT_CLOCK: Final = 0
EVENT_FD_READ: Final = 1
EVENT_FD_WRITE: Final = 2
SUBCLOCK_ABSTIME: Final = 1

_FILETYPES = {
    stat.S_IFREG: FILETYPE_REGULAR_FILE,
    stat.S_IFDIR: FILETYPE_DIRECTORY,
    stat.S_IFLNK: FILETYPE_SYMBOLIC_LINK,
    stat.S_IFCHR: FILETYPE_CHARACTER_DEVICE,
    stat.S_IFBLK: FILETYPE_BLOCK_DEVICE,
    stat.S_IFSOCK: FILETYPE_SOCKET_STREAM,
}


def filetype_of(mode: int) -> int:
    """Translate `st_mode` to WASI's `filetype`; a pipe has none of its own and is unknown."""
    return _FILETYPES.get(stat.S_IFMT(mode), FILETYPE_UNKNOWN)


def filestat(found: stat_result) -> tuple[int, ...]:
    """Give the fields of a `FILESTAT` record; times before 1970 become 0."""
    return (
        found.st_dev & MASK64,
        found.st_ino & MASK64,
        filetype_of(found.st_mode),
        found.st_nlink,
        found.st_size,
        max(found.st_atime_ns, 0),
        max(found.st_mtime_ns, 0),
        max(found.st_ctime_ns, 0),
    )

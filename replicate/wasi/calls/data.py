"""Reading and writing what a descriptor stands for."""

from __future__ import annotations

import os

from replicate.wasi import rights
from replicate.wasi.caller import Caller
from replicate.wasi.descriptors import FILE, STDIN, STREAM, Descriptor, descriptor, descriptor_with, file_with, require
from replicate.wasi.errno import Errno, Refusal
from replicate.wasi.hostfiles import host_fd
from replicate.wasi.iovec import gather, room, scatter, spans
from replicate.wasi.layout import FDFLAGS_APPEND, FILETYPE_DIRECTORY, MASK32, MASK64, WHENCE_CUR, WHENCE_END, WHENCE_SET
from replicate.wasi.output import emit
from replicate.wasi.system import System

__all__ = [
    "fd_advise",
    "fd_allocate",
    "fd_datasync",
    "fd_filestat_set_size",
    "fd_pread",
    "fd_pwrite",
    "fd_read",
    "fd_seek",
    "fd_sync",
    "fd_tell",
    "fd_write",
]

_OFFSET_LIMIT = 1 << 63
_ADVICES = 6


def fd_read(system: System, caller: Caller, fd: int, iovs: int, count: int, read: int) -> int:
    """Read from the descriptor's offset and move it on; 0 bytes are the end."""
    found = file_with(system, caller, fd, rights.FD_READ)
    memory = caller.memory
    kind = found["kind"]
    buffers = spans(memory, iovs, count)
    length = room(buffers, memory)
    if kind == FILE:
        data = os.pread(host_fd(system, caller, found), length, found["offset"])
    elif kind == STDIN:
        data = system.stdin[found["offset"] : found["offset"] + length]
    elif kind == STREAM:
        data = os.read(host_fd(system, caller, found), length)
    else:
        raise Refusal(Errno.BADF)
    scatter(memory, buffers, data)
    memory.pack("<I", read & MASK32, len(data))
    found["offset"] += len(data)
    return 0


def fd_pread(system: System, caller: Caller, fd: int, iovs: int, count: int, offset: int, read: int) -> int:
    """Read from `offset`; the descriptor's own stays where it is."""
    found = _seekable(system, caller, fd, rights.FD_READ | rights.FD_SEEK)
    memory = caller.memory
    buffers = spans(memory, iovs, count)
    length = room(buffers, memory)
    data = os.pread(host_fd(system, caller, found), length, _offset(offset))
    scatter(memory, buffers, data)
    memory.pack("<I", read & MASK32, len(data))
    return 0


def fd_write(system: System, caller: Caller, fd: int, iovs: int, count: int, written: int) -> int:
    """Write at the descriptor's offset, or the file's end with the append flag, and move the offset on."""
    found = require(system, descriptor(system, caller, fd), rights.FD_WRITE)
    memory = caller.memory
    data = gather(memory, iovs, count)
    length = len(data)
    kind = found["kind"]
    if kind == FILE:
        length = _write(system, caller, found, data)
    elif kind == STREAM:
        length = os.write(host_fd(system, caller, found), data)
    elif data:
        emit(system, caller, kind, data)
    memory.pack("<I", written & MASK32, length)
    return 0


def _write(system: System, caller: Caller, found: Descriptor, data: bytes) -> int:
    fd = host_fd(system, caller, found)
    if found["flags"] & FDFLAGS_APPEND:
        length = os.write(fd, data)
        if length:
            found["offset"] = os.lseek(fd, 0, os.SEEK_CUR)
        return length
    length = os.pwrite(fd, data, found["offset"])
    found["offset"] += length
    return length


def fd_pwrite(system: System, caller: Caller, fd: int, iovs: int, count: int, offset: int, written: int) -> int:
    """Write at `offset`; the descriptor's own stays where it is. With the append flag, Linux writes at the end."""
    found = _seekable(system, caller, fd, rights.FD_WRITE | rights.FD_SEEK)
    memory = caller.memory
    data = gather(memory, iovs, count)
    length = os.pwrite(host_fd(system, caller, found), data, _offset(offset))
    memory.pack("<I", written & MASK32, length)
    return 0


def fd_seek(system: System, caller: Caller, fd: int, offset: int, whence: int, result: int) -> int:
    """Move the descriptor's offset, past the file's end too, and write where it is now."""
    only_tells = whence == WHENCE_CUR and not offset
    found = _seekable(system, caller, fd, rights.FD_TELL if only_tells else rights.FD_SEEK)
    if whence == WHENCE_SET:
        start = 0
    elif whence == WHENCE_CUR:
        start = found["offset"]
    elif whence == WHENCE_END:
        start = os.fstat(host_fd(system, caller, found)).st_size
    else:
        raise Refusal(Errno.INVAL)
    if not 0 <= start + offset < _OFFSET_LIMIT:
        raise Refusal(Errno.INVAL)
    caller.memory.pack("<Q", result & MASK32, start + offset)
    found["offset"] = start + offset
    return 0


def fd_tell(system: System, caller: Caller, fd: int, result: int) -> int:
    """Write where the descriptor's offset is."""
    found = _seekable(system, caller, fd, rights.FD_TELL)
    caller.memory.pack("<Q", result & MASK32, found["offset"])
    return 0


def fd_advise(system: System, caller: Caller, fd: int, offset: int, length: int, advice: int) -> int:
    """Pass on how a part of a file will be used, where the system takes such advice."""
    found = _seekable(system, caller, fd, rights.FD_ADVISE)
    if not 0 <= advice < _ADVICES:
        raise Refusal(Errno.INVAL)
    start, size = _offset(offset), _offset(length)
    if hasattr(os, "posix_fadvise"):
        advices = (
            os.POSIX_FADV_NORMAL,
            os.POSIX_FADV_SEQUENTIAL,
            os.POSIX_FADV_RANDOM,
            os.POSIX_FADV_WILLNEED,
            os.POSIX_FADV_DONTNEED,
            os.POSIX_FADV_NOREUSE,
        )
        os.posix_fadvise(host_fd(system, caller, found), start, size, advices[advice])
    return 0


def fd_allocate(system: System, caller: Caller, fd: int, offset: int, length: int) -> int:
    """Make sure that a part of a file has room, growing the file if need be."""
    found = _seekable(system, caller, fd, rights.FD_ALLOCATE)
    start, size = _offset(offset), _offset(length)
    if not size or start + size >= _OFFSET_LIMIT:
        raise Refusal(Errno.INVAL)
    file = host_fd(system, caller, found)
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file, start, size)
    elif os.fstat(file).st_size < start + size:
        os.ftruncate(file, start + size)
    return 0


def fd_datasync(system: System, caller: Caller, fd: int) -> int:
    """Wait until what was written has reached the disk."""
    found = descriptor_with(system, caller, fd, rights.FD_DATASYNC)
    if "preopen" in found:
        getattr(os, "fdatasync", os.fsync)(host_fd(system, caller, found))
    return 0


def fd_sync(system: System, caller: Caller, fd: int) -> int:
    """Wait until what was written, and what is known about the file, has reached the disk."""
    found = descriptor_with(system, caller, fd, rights.FD_SYNC)
    if "preopen" in found:
        os.fsync(host_fd(system, caller, found))
    return 0


def fd_filestat_set_size(system: System, caller: Caller, fd: int, size: int) -> int:
    """Cut a file, or fill it up with zero bytes, to `size` bytes."""
    found = file_with(system, caller, fd, rights.FD_FILESTAT_SET_SIZE)
    if found["kind"] != FILE:
        raise Refusal(Errno.INVAL)
    os.ftruncate(host_fd(system, caller, found), _offset(size))
    return 0


def _seekable(system: System, caller: Caller, fd: int, needed: int) -> Descriptor:
    found = descriptor(system, caller, fd)
    if found["kind"] != FILE:
        raise Refusal(Errno.BADF if found["filetype"] == FILETYPE_DIRECTORY else Errno.SPIPE)
    return require(system, found, needed)


def _offset(value: int) -> int:
    """Take an unsigned 64-bit argument that the system wants signed; refuse with EINVAL what doesn't fit."""
    if value & MASK64 >= _OFFSET_LIMIT:
        raise Refusal(Errno.INVAL)
    return value

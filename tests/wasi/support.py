"""A guest without an engine: memory in a bytearray, and WASI's functions called as a C library would."""

from __future__ import annotations

import copy
import struct
from typing import Any

from replicate.errors import MemoryAccessError
from replicate.wasi import Wasi

__all__ = [
    "ALL_RIGHTS",
    "APPEND",
    "CREAT",
    "DIRECTORY",
    "EXCL",
    "READ",
    "TRUNC",
    "WRITE",
    "FakeGuest",
    "FakeMemory",
    "dirents",
    "signed",
]

ALL_RIGHTS = (1 << 28) - 1
CREAT, DIRECTORY, EXCL, TRUNC = 1, 2, 4, 8
APPEND = 1
READ, WRITE = 1 << 1, 1 << 6

_PATH, _PATH2, _IOVS, _RESULT, _DATA = 0, 8192, 16384, 24576, 32768


class FakeMemory:
    """Be a linear memory of 1 MiB that counts how often it is asked."""

    def __init__(self, size: int = 1 << 20) -> None:
        self.bytes = bytearray(size)
        self.accesses = 0

    @property
    def size(self) -> int:
        self.accesses += 1
        return len(self.bytes)

    def _check(self, offset: int, length: int) -> None:
        self.accesses += 1
        if offset < 0 or length < 0 or offset + length > len(self.bytes):
            raise MemoryAccessError(f"{length} bytes at {offset}")

    def read(self, offset: int, length: int) -> bytes:
        self._check(offset, length)
        return bytes(self.bytes[offset : offset + length])

    def write(self, offset: int, data: bytes) -> None:
        self._check(offset, len(data))
        self.bytes[offset : offset + len(data)] = data

    def unpack(self, layout: str, offset: int) -> tuple[Any, ...]:
        self._check(offset, struct.calcsize(layout))
        return struct.unpack_from(layout, self.bytes, offset)

    def pack(self, layout: str, offset: int, *values: Any) -> None:
        self._check(offset, struct.calcsize(layout))
        struct.pack_into(layout, self.bytes, offset, *values)


def signed(value: int, kind: str) -> int:
    bits = 32 if kind == "i32" else 64
    value &= (1 << bits) - 1
    return value - (1 << bits) if value >> (bits - 1) else value


class FakeGuest:
    """Call WASI functions by name, or through methods that give ``(errno, result)``."""

    def __init__(self, wasi: Wasi, *, state: dict[str, Any] | None = None, api: str = "wasi_snapshot_preview1") -> None:
        self.wasi = wasi
        self.functions = wasi.imports()[api]
        self.memory = FakeMemory()
        self.state: dict[str, Any] = {} if state is None else state
        self.local: dict[str, Any] = {}

    def save(self) -> dict[str, Any]:
        return copy.deepcopy(self.state)

    def restore(self, saved: dict[str, Any]) -> None:
        """Roll back as the core does: the state's content is replaced, `local` stays."""
        self.state = copy.deepcopy(saved)

    def replica(self) -> FakeGuest:
        """Make another instance with this one's state and no host descriptor."""
        return FakeGuest(self.wasi, state=self.save())

    def call(self, name: str, *args: int) -> int:
        function = self.functions[name]
        assert function.params is not None
        given = [signed(value, kind) for value, kind in zip(args, function.params, strict=True)]
        result = function.fn(self, *given)
        assert type(result) is int, name
        return result

    def _put(self, where: int, text: bytes | str) -> tuple[int, int]:
        data = text.encode() if isinstance(text, str) else text
        self.memory.bytes[where : where + len(data)] = data
        return where, len(data)

    def _result(self, layout: str) -> Any:
        return struct.unpack_from(layout, self.memory.bytes, _RESULT)[0]

    def open(
        self,
        path: bytes | str,
        *,
        fd: int = 3,
        oflags: int = 0,
        rights: int = ALL_RIGHTS,
        inheriting: int = ALL_RIGHTS,
        fdflags: int = 0,
        follow: bool = True,
    ) -> tuple[int, int]:
        where, length = self._put(_PATH, path)
        errno = self.call("path_open", fd, int(follow), where, length, oflags, rights, inheriting, fdflags, _RESULT)
        return errno, self._result("<I")

    def opened(self, path: bytes | str, **options: Any) -> int:
        errno, fd = self.open(path, **options)
        assert errno == 0, errno
        return fd

    def folder(self, path: bytes | str, *, fd: int = 3) -> int:
        return self.opened(path, fd=fd, oflags=DIRECTORY, rights=ALL_RIGHTS & ~WRITE)

    def close(self, fd: int) -> int:
        return self.call("fd_close", fd)

    def _iovs(self, lengths: list[int]) -> tuple[int, int]:
        where = _DATA
        for index, length in enumerate(lengths):
            struct.pack_into("<II", self.memory.bytes, _IOVS + 8 * index, where, length)
            where += length
        return _IOVS, len(lengths)

    def read(self, fd: int, *lengths: int) -> tuple[int, bytes]:
        errno = self.call("fd_read", fd, *self._iovs(list(lengths)), _RESULT)
        count = self._result("<I") if errno == 0 else 0
        return errno, bytes(self.memory.bytes[_DATA : _DATA + count])

    def pread(self, fd: int, length: int, offset: int) -> tuple[int, bytes]:
        errno = self.call("fd_pread", fd, *self._iovs([length]), offset, _RESULT)
        count = self._result("<I") if errno == 0 else 0
        return errno, bytes(self.memory.bytes[_DATA : _DATA + count])

    def write(self, fd: int, *pieces: bytes) -> tuple[int, int]:
        self._put(_DATA, b"".join(pieces))
        errno = self.call("fd_write", fd, *self._iovs([len(piece) for piece in pieces]), _RESULT)
        return errno, self._result("<I") if errno == 0 else 0

    def pwrite(self, fd: int, data: bytes, offset: int) -> tuple[int, int]:
        self._put(_DATA, data)
        errno = self.call("fd_pwrite", fd, *self._iovs([len(data)]), offset, _RESULT)
        return errno, self._result("<I") if errno == 0 else 0

    def seek(self, fd: int, offset: int, whence: int) -> tuple[int, int]:
        errno = self.call("fd_seek", fd, offset, whence, _RESULT)
        return errno, self._result("<Q") if errno == 0 else 0

    def tell(self, fd: int) -> tuple[int, int]:
        errno = self.call("fd_tell", fd, _RESULT)
        return errno, self._result("<Q") if errno == 0 else 0

    def fdstat(self, fd: int) -> tuple[int, tuple[int, ...]]:
        errno = self.call("fd_fdstat_get", fd, _RESULT)
        return errno, struct.unpack_from("<BxH4xQQ", self.memory.bytes, _RESULT)

    def stat(self, path: bytes | str, *, fd: int = 3, follow: bool = True) -> tuple[int, tuple[int, ...]]:
        errno = self.call("path_filestat_get", fd, int(follow), *self._put(_PATH, path), _RESULT)
        return errno, struct.unpack_from("<QQB7xQQQQQ", self.memory.bytes, _RESULT)

    def fstat(self, fd: int) -> tuple[int, tuple[int, ...]]:
        errno = self.call("fd_filestat_get", fd, _RESULT)
        return errno, struct.unpack_from("<QQB7xQQQQQ", self.memory.bytes, _RESULT)

    def on_path(self, name: str, path: bytes | str, *, fd: int = 3) -> int:
        """Call a function that takes a folder and a path."""
        return self.call(name, fd, *self._put(_PATH, path))

    def set_times(self, path: bytes | str, access: int, modification: int, flags: int, *, follow: bool = True) -> int:
        where, length = self._put(_PATH, path)
        return self.call("path_filestat_set_times", 3, int(follow), where, length, access, modification, flags)

    def rename(self, old: bytes | str, new: bytes | str, *, fd: int = 3, new_fd: int = 3) -> int:
        return self.call("path_rename", fd, *self._put(_PATH, old), new_fd, *self._put(_PATH2, new))

    def link(self, old: bytes | str, new: bytes | str, *, follow: bool = False) -> int:
        return self.call("path_link", 3, int(follow), *self._put(_PATH, old), 3, *self._put(_PATH2, new))

    def symlink(self, target: bytes | str, path: bytes | str) -> int:
        return self.call("path_symlink", *self._put(_PATH, target), 3, *self._put(_PATH2, path))

    def readlink(self, path: bytes | str, size: int = 4096) -> tuple[int, bytes]:
        errno = self.call("path_readlink", 3, *self._put(_PATH, path), _DATA, size, _RESULT)
        count = self._result("<I") if errno == 0 else 0
        return errno, bytes(self.memory.bytes[_DATA : _DATA + count])

    def readdir(self, fd: int, size: int, cookie: int) -> tuple[int, bytes]:
        errno = self.call("fd_readdir", fd, _DATA, size, cookie, _RESULT)
        count = self._result("<I") if errno == 0 else 0
        return errno, bytes(self.memory.bytes[_DATA : _DATA + count])

    def names(self, fd: int, size: int = 65536) -> list[bytes]:
        """List a folder's entries as a C library does, without ``.`` and ``..``."""
        found, cookie = [], 0
        while True:
            errno, data = self.readdir(fd, size, cookie)
            assert errno == 0, errno
            entries = dirents(data)
            found += [name for _, _, name, _ in entries]
            if len(data) < size:
                return [name for name in found if name not in (b".", b"..")]
            cookie = entries[-1][0]

    def random(self, length: int) -> bytes:
        assert self.call("random_get", _DATA, length) == 0
        return bytes(self.memory.bytes[_DATA : _DATA + length])

    def time(self, clock: int) -> int:
        assert self.call("clock_time_get", clock, 0, _RESULT) == 0
        return int(self._result("<Q"))


def dirents(data: bytes) -> list[tuple[int, int, bytes, int]]:
    """Take whole entries apart: next cookie, inode, name, file type."""
    found, at = [], 0
    while at + 24 <= len(data):
        cookie, inode, length, filetype = struct.unpack_from("<QQIB", data, at)
        name = data[at + 24 : at + 24 + length]
        if len(name) < length:
            break
        found.append((cookie, inode, name, filetype))
        at += 24 + length
    return found

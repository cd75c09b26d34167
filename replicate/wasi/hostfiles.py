"""Host descriptors behind the guest's: opened when needed, per instance, with no state of their own.

All reading and writing is positional, the offset is the guest's state; so any host descriptor of the right file will
do, and rolling back or replicating the guest's descriptors needs nothing done here.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from replicate.errors import WasiError
from replicate.wasi.caller import Caller
from replicate.wasi.descriptors import PREOPEN, Descriptor, Identity, known_table
from replicate.wasi.errno import Errno, Refusal
from replicate.wasi.layout import FDFLAGS_APPEND, FDFLAGS_DSYNC, FDFLAGS_RSYNC, FDFLAGS_SYNC, FILETYPE_DIRECTORY
from replicate.wasi.paths import open_beneath
from replicate.wasi.rights import FD_WRITE

if TYPE_CHECKING:
    from replicate.wasi.system import System

__all__ = ["SYNC_FLAGS", "HostFile", "Roots", "adopt", "forget_unused", "host_fd", "open_flags", "reopen"]

_KEY = "wasi"
SYNC_FLAGS = FDFLAGS_DSYNC | FDFLAGS_RSYNC | FDFLAGS_SYNC
_NO_SUCH_FILE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EMLINK, errno.ENXIO, errno.EISDIR)


class HostFile:
    """Own one host descriptor, closed with this object."""

    __slots__ = ("append", "fd", "path")

    def __init__(self, fd: int, *, path: bytes | None = None) -> None:
        self.fd = fd
        self.append = False
        self.path = path
        """Set where only the path, and not the inode number, says which file this is."""

    def __del__(self, _close: Callable[[int], None] = os.close) -> None:
        _close(self.fd)


class Roots:
    """Keep each preopened folder open, for all instances: they agree on it even if somebody replaces it.

    Safe to use from several threads: a folder's host descriptor is only ever looked up in.
    """

    def __init__(self, folders: Mapping[str, str]) -> None:
        self._folders = dict(folders)
        self._opened: dict[str, HostFile] = {}
        self._identities: dict[str, tuple[int, int]] = {}
        self._lock = threading.Lock()

    def fd(self, guest: str) -> int:
        """Give the folder's host descriptor; refuse with ESTALE a folder that isn't configured.

        Raises `WasiError` for one that can't be opened any more.
        """
        found = self._opened.get(guest)
        return found.fd if found is not None else self._open(guest)

    def identity(self, guest: str) -> tuple[int, int]:
        """Give the folder's device and inode number."""
        self.fd(guest)
        return self._identities[guest]

    def _open(self, guest: str) -> int:
        with self._lock:
            if guest not in self._opened:
                if guest not in self._folders:
                    raise Refusal(Errno.STALE)
                try:
                    opened = HostFile(os.open(self._folders[guest], os.O_RDONLY | os.O_DIRECTORY))
                except OSError as error:
                    raise WasiError(
                        f"preopened folder {self._folders[guest]!r} can't be opened: {error.strerror}"
                    ) from error
                found = os.fstat(opened.fd)
                self._identities[guest] = (found.st_dev, found.st_ino)
                self._opened[guest] = opened
            return self._opened[guest].fd


def open_flags(*, readable: bool, writable: bool, sync_flags: int, folder: bool) -> int:
    """Give the flags to open a file with.

    Non-blocking, since opening a pipe would wait for its other end; never following a symlink; never a controlling
    terminal.
    """
    flags = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY
    if folder:
        return flags | os.O_RDONLY | os.O_DIRECTORY
    if writable:
        flags |= os.O_RDWR if readable else os.O_WRONLY
    if sync_flags & FDFLAGS_DSYNC:
        flags |= os.O_DSYNC
    if sync_flags & FDFLAGS_SYNC:
        flags |= os.O_SYNC
    if sync_flags & FDFLAGS_RSYNC:
        flags |= getattr(os, "O_RSYNC", os.O_SYNC)
    return flags


def host_fd(system: System, caller: Caller, found: Descriptor) -> int:
    """Give a host descriptor for an open file or folder of the guest, opening it again where this instance has none.

    Refuses with ESTALE if the file isn't there any more, or another one is in its place.
    """
    if found["kind"] == PREOPEN:
        return system.roots.fd(found["preopen"])
    kept = _kept(caller)
    file = kept.get(found["identity"])
    if file is None or (file.path is not None and file.path != found["path"]):
        file = kept[found["identity"]] = reopen(system, found)
    append = bool(found["flags"] & FDFLAGS_APPEND)
    if append != file.append:
        _set_append(file, append)
    return file.fd


def adopt(caller: Caller, identity: tuple[Any, ...], file: HostFile) -> None:
    """Keep `file`, just opened, for the descriptor with this identity."""
    _kept(caller)[identity] = file


def forget_unused(caller: Caller, state: dict[str, Any]) -> None:
    """Close the host descriptors that no open descriptor of the guest stands for (any more, or after a roll back)."""
    kept = _kept(caller)
    used = {found["identity"] for found in known_table(state) if found is not None and "identity" in found}
    for identity in [identity for identity in kept if identity not in used]:
        del kept[identity]


def reopen(system: System, found: Descriptor) -> HostFile:
    """Open the file of a descriptor by its path, and make sure that it's the same file.

    Refuses with ESTALE if it isn't. A folder that isn't the one the descriptor was opened in, another machine's or
    another copy, has other inode numbers: there the path alone decides.
    """
    identity = Identity(*found["identity"])
    root = system.roots.fd(found["preopen"])
    flags = open_flags(
        readable=identity.readable,
        writable=identity.writable and bool(system.granted.get(found["preopen"], 0) & FD_WRITE),
        sync_flags=identity.sync_flags,
        folder=found["filetype"] == FILETYPE_DIRECTORY,
    )
    try:
        file = HostFile(open_beneath(root, found["path"], flags))
    except OSError as error:
        if error.errno in _NO_SUCH_FILE:
            raise Refusal(Errno.STALE) from error
        raise
    if system.roots.identity(found["preopen"]) == (identity.root_device, identity.root_inode):
        there = os.fstat(file.fd)
        if (there.st_dev, there.st_ino) != (identity.device, identity.inode):
            raise Refusal(Errno.STALE)
    else:
        file.path = found["path"]
    return file


def _kept(caller: Caller) -> dict[tuple[Any, ...], HostFile]:
    local = caller.local
    kept: dict[tuple[Any, ...], HostFile] | None = local.get(_KEY)
    if kept is None:
        kept = local[_KEY] = {}
    return kept


def _set_append(file: HostFile, append: bool) -> None:
    import fcntl  # absent on Windows, which has no preopened folders

    flags = fcntl.fcntl(file.fd, fcntl.F_GETFL)
    fcntl.fcntl(file.fd, fcntl.F_SETFL, flags | os.O_APPEND if append else flags & ~os.O_APPEND)
    file.append = append

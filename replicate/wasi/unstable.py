"""`wasi_unstable`, WASI's preview 0: the same functions, four of which lay their arguments out differently."""

from __future__ import annotations

from struct import Struct
from typing import Final

from replicate.wasi.caller import Caller
from replicate.wasi.calls.data import fd_seek as seek
from replicate.wasi.calls.metadata import file_fields
from replicate.wasi.calls.paths import path_fields
from replicate.wasi.calls.poll import poll, records
from replicate.wasi.errno import Errno, Refusal
from replicate.wasi.layout import EVENT_CLOCK, MASK32, WHENCE_CUR, WHENCE_END, WHENCE_SET
from replicate.wasi.system import System

__all__ = ["fd_filestat_get", "fd_seek", "path_filestat_get", "poll_oneoff"]

_FILESTAT: Final = "<QQB3xIQQQQ"  # links take 32 bits
_SUBSCRIPTION: Final = Struct("<QB7xQI4xQQH6x")  # a clock's number comes second, after userdata of its own
_WHENCES: Final = (WHENCE_CUR, WHENCE_END, WHENCE_SET)


def fd_seek(system: System, caller: Caller, fd: int, offset: int, whence: int, result: int) -> int:
    """Move the descriptor's offset; `whence` is numbered current, end, start."""
    if not 0 <= whence < len(_WHENCES):
        raise Refusal(Errno.INVAL)
    return seek(system, caller, fd, offset, _WHENCES[whence], result)


def fd_filestat_get(system: System, caller: Caller, fd: int, result: int) -> int:
    """Write what is known of a descriptor's file."""
    return _write(caller, result, file_fields(system, caller, fd))


def path_filestat_get(system: System, caller: Caller, fd: int, lookup: int, path: int, length: int, result: int) -> int:
    """Write what is known of the file at a path."""
    return _write(caller, result, path_fields(system, caller, fd, lookup, path, length))


def _write(caller: Caller, result: int, fields: tuple[int, ...]) -> int:
    device, inode, filetype, links, *rest = fields
    caller.memory.pack(_FILESTAT, result & MASK32, device, inode, filetype, min(links, MASK32), *rest)
    return 0


def poll_oneoff(system: System, caller: Caller, subscriptions: int, events: int, count: int, result: int) -> int:
    """Wait until one of the subscriptions is due."""
    found = records(caller, subscriptions, count, _SUBSCRIPTION)
    same = [
        (userdata, kind, clock if kind == EVENT_CLOCK else first & MASK32, *rest)
        for userdata, kind, first, clock, *rest in found
    ]
    return poll(system, caller, same, events, result)

"""Scattered buffers in guest memory: read and written with as few memory accesses as there are buffers."""

from __future__ import annotations

from replicate.wasi.caller import CallerMemory
from replicate.wasi.errno import Errno, Refusal
from replicate.wasi.layout import MASK32

__all__ = ["gather", "room", "scatter", "spans"]

_COUNT_LIMIT = 1024  # IOV_MAX of Linux
_TRANSFER_LIMIT = 1 << 24  # bytes; a longer transfer is short, as POSIX allows
_LAYOUTS = {count: f"<{2 * count}I" for count in range(1, 9)}


def spans(memory: CallerMemory, pointer: int, count: int) -> tuple[int, ...]:
    """Read an array of buffers as offset, length, offset, length ...; refuse with EINVAL more than 1024."""
    count &= MASK32
    if not count:
        return ()
    if count > _COUNT_LIMIT:
        raise Refusal(Errno.INVAL)
    return memory.unpack(_LAYOUTS.get(count) or f"<{2 * count}I", pointer & MASK32)


def gather(memory: CallerMemory, pointer: int, count: int) -> bytes:
    """Read all buffers' content, up to 16 MiB; those that don't fit any more are left out."""
    found = spans(memory, pointer, count)
    if len(found) == 2:
        return memory.read(found[0], min(found[1], _TRANSFER_LIMIT))
    pieces = []
    left = _TRANSFER_LIMIT
    for offset, length in zip(found[::2], found[1::2], strict=True):
        if length:
            pieces.append(memory.read(offset, min(length, left)))
            left -= len(pieces[-1])
            if not left:
                break
    return b"".join(pieces)


def room(found: tuple[int, ...], memory: CallerMemory) -> int:
    """Give the buffers' size together, up to 16 MiB; refuse with EFAULT buffers outside the memory."""
    size = memory.size
    for offset, length in zip(found[::2], found[1::2], strict=True):
        if offset + length > size:
            raise Refusal(Errno.FAULT)
    return min(sum(found[1::2]), _TRANSFER_LIMIT)


def scatter(memory: CallerMemory, found: tuple[int, ...], data: bytes) -> None:
    """Write `data` into the buffers, in order."""
    start = 0
    for offset, length in zip(found[::2], found[1::2], strict=True):
        if start >= len(data):
            return
        memory.write(offset, data[start : start + length])
        start += length

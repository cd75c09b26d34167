"""Choose how committed memory is kept: copy-on-write where this system can, plain copies elsewhere."""

from __future__ import annotations

import ctypes
import mmap
import os
import threading
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal, TypeAlias

from replicate import linux
from replicate.copy_on_write import CopyOnWriteSnapshot, fits
from replicate.errors import PoolError, ReplicateWarning
from replicate.memory import MemorySnapshot, PlainCopySnapshot

if TYPE_CHECKING:
    from replicate.binary import MemorySlot
    from replicate.interfaces import Engine

__all__ = ["MemoryMode", "memory_maker", "page_map", "why_not_copy_on_write"]

MemoryMode: TypeAlias = Literal["auto", "copy", "copy-on-write"]
"""``"auto"`` takes copy-on-write where the system can; the environment variable REPLICATE_MEMORY overrides ``"auto"``."""

_lock = threading.Lock()
_page_maps: dict[int, linux.PageMap] = {}
_answers: dict[int, str | None] = {}
_warned = False


def page_map() -> linux.PageMap:
    """Give this process's page map; a forked child gets one of its own."""
    process = os.getpid()
    with _lock:
        found = _page_maps.get(process)
        if found is None:
            found = _page_maps[process] = linux.PageMap()
        return found


def why_not_copy_on_write() -> str | None:
    """Say why this system can't keep memory copy-on-write, or None if it can. Tried out once in a process."""
    process = os.getpid()
    if process not in _answers:
        try:
            _answers[process] = _try_out()
        except (OSError, MemoryError) as error:
            _answers[process] = str(error)
    return _answers[process]


def _try_out() -> str | None:
    """Do with three pages what a pool does with a memory."""
    if not linux.available:
        return "it needs Linux and memfd_create"
    page = linux.PAGE_SIZE
    pages = page_map()
    file = os.memfd_create("replicate-probe", os.MFD_CLOEXEC)
    try:
        os.pwrite(file, b"a" * 3 * page, 0)
        room = mmap.mmap(-1, 3 * page)
        address = ctypes.addressof(ctypes.c_char.from_buffer(room))
        linux.map_private(address, 3 * page, file, 0)
        view = (ctypes.c_char * (3 * page)).from_address(address)
        if view[0] != b"a" or pages.private(address, address + 3 * page):
            return "a fresh private mapping counts as written: the page map isn't to be trusted here"
        view[page] = b"b"
        linux.populate_write(address + 2 * page, page)
        os.pwrite(file, b"c" * 3 * page, 0)
        if pages.private(address, address + 3 * page) != [(address + page, address + 3 * page)]:
            return "the page map doesn't show which pages were written"
        if (view[0], view[page], view[page + 1], view[2 * page]) != (b"c", b"b", b"a", b"a"):
            return "private mappings don't keep their content here"
        linux.drop(address + page, page)
        if view[page] != b"c":
            return "dropping a private page doesn't bring the file's content back"
        return None
    finally:
        os.close(file)


def memory_maker(mode: MemoryMode, engine: Engine) -> Callable[[MemorySlot], MemorySnapshot]:
    """Give what makes the image of each memory; raise `PoolError` for a mode that can't be had here.

    Warns once, with the reason, when ``"auto"`` falls back to plain copies on Linux.
    """
    global _warned
    if mode == "auto":
        wished = os.environ.get("REPLICATE_MEMORY", "auto")
    else:
        wished = mode
    if wished not in ("auto", "copy", "copy-on-write"):
        raise PoolError(f"memory is {wished!r}; use 'auto', 'copy' or 'copy-on-write'")
    if wished == "copy":
        return _plain
    reason = why_not_copy_on_write()
    if reason is None and not engine.traits.stable_memory:
        reason = f"engine {engine.name!r} doesn't keep memories at one address"
    if reason is None:
        return _copy_on_write
    if wished == "copy-on-write":
        raise PoolError(f"memory can't be kept copy-on-write here: {reason}; use memory='auto'")
    if linux.available and not _warned:
        _warned = True
        warnings.warn(
            f"replicate copies whole memories at each commit, since copy-on-write doesn't work here: {reason}",
            ReplicateWarning,
            stacklevel=2,
        )
    return _plain


def _plain(slot: MemorySlot) -> MemorySnapshot:
    return PlainCopySnapshot(slot.index)


def _copy_on_write(slot: MemorySlot) -> MemorySnapshot:
    # A memory with pages of its own size may end inside a host page, which can't be mapped in part.
    return CopyOnWriteSnapshot(slot.index, pages=page_map()) if fits(slot.type.page_size) else _plain(slot)

"""Copy-on-write replication: commits cost what they changed, replicas what they write.

The committed content of a memory lies in one memory file, the image. Every instance's linear memory is overlaid, at the
address the runtime gave it, with a private mapping of that file. Its *private pages* are then exactly those written since
they were last dropped, by the guest or by the host, and the kernel can list them.

- Commit: the leader's private pages go to the image. A replica that is mid-read first gets private copies of the pages
  that differ, with their old content, and so keeps its version to the end.
- Restore (reset, refresh, roll back): the image's content is copied over the instance's private pages. They stay private:
  dropping them would cost a page fault each as soon as they're written again, copying costs a tenth of that
  (`PrivatePages` knows when it's enough). Private pages don't follow the image, which is why a stale replica must be
  restored, too, before a read.
- Listing private pages takes the kernel 5 ns for every page that is mapped. If the process has had no page fault since the
  last time, they're the same as then.
- A new replica is an instance and one mapping.

The mechanism is that of CRIU's and wasmtime's copy-on-write images, turned around: the image moves, under mappings that stay.
"""

from __future__ import annotations

import ctypes
import os
import weakref
from collections.abc import Iterable
from typing import TYPE_CHECKING

import attrs

from replicate import linux
from replicate.memory import CopyCost, MemorySnapshot
from replicate.memory_runs import MemoryState, read_memory
from replicate.private_pages import PrivatePages, Ranges

if TYPE_CHECKING:
    from replicate.interfaces import Instance

__all__ = ["CopyOnWriteSnapshot", "Overlay", "fits", "nonzero_ranges"]

_BLOCK = 1 << 20
_ZEROS_SIZE = 1 << 16


@attrs.define(eq=False)
class Overlay:
    """Note that the image lies over an instance's memory, at this address and for this many bytes."""

    address: int
    size: int
    owner: CopyOnWriteSnapshot
    private: PrivatePages


def fits(page_size: int) -> bool:
    """Tell whether memories with Wasm pages of this size end at the end of a host page."""
    return page_size % linux.PAGE_SIZE == 0


def nonzero_ranges(base: int, size: int) -> Ranges:
    """List the pages at an address that aren't all zeros, as offsets, copying none of them."""
    page, zeros, found = linux.PAGE_SIZE, linux.zeros(), Ranges()
    for block in range(0, size, _ZEROS_SIZE):
        length = min(_ZEROS_SIZE, size - block)
        if not linux.differs(base + block, zeros, length):
            continue
        for at in range(block, block + length, page):
            if linux.differs(base + at, zeros, min(page, block + length - at)):
                if found and found[-1][1] == at:
                    found[-1] = (found[-1][0], at + page)
                else:
                    found.append((at, at + page))
    return found


def _free(file: int, mapping: list[int], process: int) -> None:
    os.close(file)
    # In a forked child the mapping isn't there, and its place may be another's.
    if mapping[1] and os.getpid() == process:
        linux.unmap(mapping[0], mapping[1])


def _pages(ranges: Ranges) -> int:
    return sum(end - start for start, end in ranges) // linux.PAGE_SIZE


class CopyOnWriteSnapshot(MemorySnapshot):
    """Keep the image in a memory file that all instances map privately. Linux only."""

    mode = "copy-on-write"

    def __init__(self, index: int, *, pages: linux.PageMap) -> None:
        super().__init__(index)
        self._pages = pages
        self._size = 0
        self._file = os.memfd_create(f"replicate-memory-{index}", os.MFD_CLOEXEC)
        self._mapping = [0, 0]
        """Address and size of the shared mapping that commits write through."""
        self._written: Ranges = []
        """What of the leader's memory may differ from the image; a commit is to copy `_ranges` of it."""
        self._ranges: Ranges = []
        self._leader_at = 0
        self._next_size = 0
        """Where the leader's memory is, and its size, from `prepare` to `commit`."""
        self._finalizer = weakref.finalize(self, _free, self._file, self._mapping, os.getpid())

    @property
    def size(self) -> int:
        return self._size

    def close(self) -> None:
        self._finalizer()

    # -- commit --------------------------------------------------------------------------------------------------------

    def prepare(self, leader: Instance) -> None:
        self._leader_at = leader.memory_address(self.index)
        self._next_size = len(leader.memory_view(self.index))
        self._ranges = self._written = self._find_written(leader)

    def _overlay(self, instance: Instance, address: int) -> Overlay | None:
        overlay: Overlay | None = instance.overlays.get(self.index)
        # A 64-bit memory may move when it grows: what lies at its new address is no mapping of ours.
        if overlay is None or overlay.owner is not self or overlay.address != address:
            return None
        return overlay

    def _find_written(self, leader: Instance) -> Ranges:
        """List what of the leader's memory may differ from the image, as offsets."""
        size = self._next_size
        overlay = self._overlay(leader, self._leader_at)
        if overlay is None:
            if self._size:
                return [(0, size)] if size else []
            # The first commit, into a file that reads as zeros.
            return nonzero_ranges(self._leader_at, size)
        if overlay.size != size:
            # Pages that the memory grew by are an anonymous mapping: there, private means touched.
            overlay.private.forget()
        return self._private(overlay, size)

    def _private(self, overlay: Overlay, size: int) -> Ranges:
        """List an instance's private pages, as offsets."""
        base, pages = overlay.address, self._pages

        def scan() -> Ranges:
            return [(start - base, end - base) for start, end in pages.private(base, base + size)]

        return overlay.private.find(scan, pages.faults)

    def reserve(self, leader: Instance) -> None:
        size = self._next_size
        if size <= self._mapping[1]:
            return
        try:
            os.ftruncate(self._file, size)
            address = linux.map_shared(self._file, size)
        except OSError as error:
            raise MemoryError(f"no room for an image of {size} bytes: {error}") from error
        linux.advise_no_fork(address, size)
        old, self._mapping[:] = tuple(self._mapping), (address, size)
        if old[1]:
            linux.unmap(*old)

    def protect(self, leader: Instance, running: Iterable[Instance]) -> None:
        if not running:
            return
        # The runtime isn't asked where a reader's memory is: its guest is running, on another thread.
        overlays = (reader.overlays.get(self.index) for reader in running)
        readers: list[Overlay] = [overlay for overlay in overlays if overlay is not None]
        if not readers:
            return
        self._ranges = self._changed_pages(self._leader_at, self._mapping[0], self._ranges)
        for reader in readers:
            for start, end in self._ranges:
                if start < reader.size:
                    linux.populate_write(reader.address + start, min(end, reader.size) - start)

    def commit(self, leader: Instance) -> CopyCost:
        size, base, image = self._next_size, self._leader_at, self._mapping[0]
        copied = 0
        for start, end in self._ranges:
            length = end - start
            (linux.copy if length <= _BLOCK else linux.copy_long)(image + start, base + start, length)
            copied += length
        self._size = size
        overlay = self._overlay(leader, base)
        if overlay is None or overlay.size != size:
            self._map(leader, overlay, base, size)
        elif overlay.private.worn(_pages(self._written)):
            self._drop(base, self._written)
        return CopyCost(-(-copied // linux.PAGE_SIZE), copied)

    @staticmethod
    def _drop(base: int, ranges: Ranges) -> None:
        """Give private pages up. Pages that are mapped from the image stay mapped: only what's private is dropped."""
        for start, end in ranges:
            linux.drop(base + start, end - start)

    def _changed_pages(self, base: int, image: int, ranges: Ranges) -> Ranges:
        page = linux.PAGE_SIZE
        changed: Ranges = []
        for start, end in ranges:
            for at in range(start, end, page):
                if linux.differs(base + at, image + at, page):
                    if changed and changed[-1][1] == at:
                        changed[-1] = (changed[-1][0], at + page)
                    else:
                        changed.append((at, at + page))
        return changed

    # -- restore -------------------------------------------------------------------------------------------------------

    def restore(self, instance: Instance) -> CopyCost:
        self.grow(instance)
        size, base = self._size, instance.memory_address(self.index)
        overlay = self._overlay(instance, base)
        if overlay is None or overlay.size != size:
            self._map(instance, overlay, base, size)
        if overlay is None:
            return CopyCost()
        image = self._mapping[0]
        ranges = self._private(overlay, size)
        pages = _pages(ranges)
        if overlay.private.worn(pages):
            self._drop(base, ranges)
            return CopyCost()
        for start, end in ranges:
            linux.copy(base + start, image + start, end - start)
        return CopyCost(pages, pages * linux.PAGE_SIZE)

    def _map(self, instance: Instance, overlay: Overlay | None, base: int, size: int) -> None:
        """Lay the image over an instance's memory, or over what it has grown by."""
        start = overlay.size if overlay is not None else 0
        if size > start:
            linux.map_private(base + start, size - start, self._file, start)
        private = PrivatePages() if overlay is None else overlay.private
        private.forget()
        instance.overlays[self.index] = Overlay(base, size, self, private)

    def private_bytes(self, instance: Instance) -> int:
        overlay: Overlay | None = instance.overlays.get(self.index)
        if overlay is None:
            return 0
        return sum(end - start for start, end in self._pages.private(overlay.address, overlay.address + overlay.size))

    def content(self) -> MemoryState:
        if not self._size:
            return MemoryState(0, ())
        return read_memory(memoryview((ctypes.c_ubyte * self._size).from_address(self._mapping[0])).cast("B"))

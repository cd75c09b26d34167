"""Copy-on-write replication: commits cost what they changed, replicas what they write.

The committed content of a memory lies in one memory file, the image. Every instance's linear memory is overlaid, at the
address the runtime gave it, with a private mapping of that file. Its *private pages* are then exactly those written since
they were last dropped, by the guest or by the host, and the kernel can list them.

- Commit: the leader's private pages go to the image. A replica that is mid-read first gets private copies of the pages
  that differ, with their old content, and so keeps its version to the end.
- Restore (reset, refresh, roll back): the image's content is copied over the instance's private pages. They stay private:
  dropping them would cost a page fault each, about 2 us, as soon as they're written again, copying costs a tenth of that.
  Private pages don't follow the image, which is why a stale replica must be restored, too, before a read.
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

if TYPE_CHECKING:
    from replicate.interfaces import Instance

__all__ = ["KEEP_PRIVATE", "CopyOnWriteSnapshot", "Overlay", "fits"]

KEEP_PRIVATE = 8 << 20
"""Bytes of private pages that an instance keeps when it's restored or committed; with more, all are dropped."""

_BLOCK = 1 << 20
_ZEROS_SIZE = 1 << 16
_zeros = ctypes.create_string_buffer(_ZEROS_SIZE)
_ZEROS_AT = ctypes.addressof(_zeros)

Ranges = list[tuple[int, int]]


@attrs.define(eq=False)
class Overlay:
    """Note that the image lies over an instance's memory, at this address and for this many bytes."""

    address: int
    size: int
    owner: CopyOnWriteSnapshot


def fits(page_size: int) -> bool:
    """Tell whether memories with Wasm pages of this size end at the end of a host page."""
    return page_size % linux.PAGE_SIZE == 0


def _free(file: int, mapping: list[int]) -> None:
    os.close(file)
    if mapping[1]:
        linux.unmap(mapping[0], mapping[1])


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
        self._ranges: Ranges = []
        self._finalizer = weakref.finalize(self, _free, self._file, self._mapping)

    @property
    def size(self) -> int:
        return self._size

    def close(self) -> None:
        self._finalizer()

    # -- commit --------------------------------------------------------------------------------------------------------

    def prepare(self, leader: Instance) -> None:
        self._ranges = self._written(leader)

    def _overlay(self, instance: Instance) -> Overlay | None:
        overlay: Overlay | None = instance.overlays.get(self.index)
        # A 64-bit memory may move when it grows: what lies at its new address is no mapping of ours.
        if overlay is None or overlay.owner is not self or overlay.address != instance.memory_address(self.index):
            return None
        return overlay

    def _written(self, leader: Instance) -> Ranges:
        """List what of the leader's memory may differ from the image, as offsets."""
        size = len(leader.memory_view(self.index))
        overlay = self._overlay(leader)
        if overlay is None:
            if self._size:
                return [(0, size)] if size else []
            # The first commit, into a file that reads as zeros.
            return self._nonzero(leader.memory_address(self.index), size)
        base = overlay.address
        # Pages that the memory grew by are an anonymous mapping: there, private means touched.
        return [(start - base, end - base) for start, end in self._pages.private(base, base + size)]

    @staticmethod
    def _nonzero(base: int, size: int) -> Ranges:
        """List the pages that aren't all zeros, as offsets, copying none of them."""
        page, found = linux.PAGE_SIZE, Ranges()
        for block in range(0, size, _ZEROS_SIZE):
            length = min(_ZEROS_SIZE, size - block)
            if not linux.differs(base + block, _ZEROS_AT, length):
                continue
            for at in range(block, block + length, page):
                if linux.differs(base + at, _ZEROS_AT, page):
                    if found and found[-1][1] == at:
                        found[-1] = (found[-1][0], at + page)
                    else:
                        found.append((at, at + page))
        return found

    def reserve(self, leader: Instance) -> None:
        size = len(leader.memory_view(self.index))
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
        # The runtime isn't asked where a reader's memory is: its guest is running, on another thread.
        overlays = (reader.overlays.get(self.index) for reader in running)
        readers: list[Overlay] = [overlay for overlay in overlays if overlay is not None]
        if not readers:
            return
        self._ranges = self._changed_pages(leader.memory_address(self.index), self._mapping[0], self._ranges)
        for reader in readers:
            for start, end in self._ranges:
                if start < reader.size:
                    linux.populate_write(reader.address + start, min(end, reader.size) - start)

    def commit(self, leader: Instance) -> CopyCost:
        size = len(leader.memory_view(self.index))
        base, image = leader.memory_address(self.index), self._mapping[0]
        copied = 0
        for start, end in self._ranges:
            length = end - start
            (linux.copy if length <= _BLOCK else linux.copy_long)(image + start, base + start, length)
            copied += length
        self._size = size
        overlay = self._overlay(leader)
        if overlay is None or overlay.size != size:
            self._map(leader, overlay, base, size)
        elif copied > KEEP_PRIVATE:
            self._drop(base, self._ranges)
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
        overlay = self._overlay(instance)
        if overlay is None or overlay.size != size:
            self._map(instance, overlay, base, size)
        if overlay is None:
            return CopyCost()
        image = self._mapping[0]
        ranges = self._pages.private(base, base + size)
        copied = sum(end - start for start, end in ranges)
        if copied > KEEP_PRIVATE:
            self._drop(0, ranges)
            return CopyCost()
        for start, end in ranges:
            linux.copy(start, image + start - base, end - start)
        return CopyCost(copied // linux.PAGE_SIZE, copied)

    def _map(self, instance: Instance, overlay: Overlay | None, base: int, size: int) -> None:
        """Lay the image over an instance's memory, or over what it has grown by."""
        start = overlay.size if overlay is not None else 0
        if size > start:
            linux.map_private(base + start, size - start, self._file, start)
        instance.overlays[self.index] = Overlay(base, size, self)

    def private_bytes(self, instance: Instance) -> int:
        overlay: Overlay | None = instance.overlays.get(self.index)
        if overlay is None:
            return 0
        return sum(end - start for start, end in self._pages.private(overlay.address, overlay.address + overlay.size))

    def content(self) -> MemoryState:
        if not self._size:
            return MemoryState(0, ())
        return read_memory(memoryview((ctypes.c_ubyte * self._size).from_address(self._mapping[0])).cast("B"))

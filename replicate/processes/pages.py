"""A worker's side of the committed memory: a base that doesn't change, and a log of the pages that were changed since.

The committed content of a page is its newest entry in the log, else the base's. An instance's memory is overlaid with
private mappings of both, so that its private pages are those that were written to, as in `replicate.copy_on_write`:

- Refresh: a page that changed and is private gets the new content copied in; one that isn't is mapped from the log.
- Reset: the committed content is copied over the private pages.
- Commit: private pages that differ from the committed content are appended to the log.

`mapped` notes what lies under a private page, since that's what shows when it's dropped.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import attrs

from replicate import linux
from replicate.copy_on_write import nonzero_ranges
from replicate.private_pages import PrivatePages, Ranges

if TYPE_CHECKING:
    from replicate.interfaces import Instance

__all__ = ["PAGE", "Follower", "Log", "write_base"]

PAGE = 4096
"""Bytes of an entry in the log."""
_BASE = -1


class Log:
    """Be the log of one epoch, mapped to be read."""

    def __init__(self, file: int, capacity: int) -> None:
        """`capacity` is in pages."""
        self.file = file
        self._size = capacity * PAGE
        self.address = linux.map_readable(file, self._size)

    def close(self) -> None:
        """Let go of it."""
        linux.unmap(self.address, self._size)
        os.close(self.file)


@attrs.define(eq=False)
class _Overlay:
    address: int
    size: int
    owner: Follower
    private: PrivatePages
    mapped: dict[int, int]
    """For a page: the place in the log that is mapped there; the base where there's none."""


def _runs(pages: Iterable[int], places: dict[int, int]) -> Iterator[tuple[int, int, int]]:
    """Group sorted pages that follow one another, in the memory and in the log: (first page, count, place or _BASE)."""
    first = place = count = 0
    for page in pages:
        here = places.get(page, _BASE)
        if count and page == first + count and here == (_BASE if place == _BASE else place + count):
            count += 1
            continue
        if count:
            yield first, count, place
        first, place, count = page, here, 1
    if count:
        yield first, count, place


def _pages_of(ranges: Ranges) -> Iterator[int]:
    for start, end in ranges:
        yield from range(start // PAGE, -(-end // PAGE))


class Follower:
    """Make one memory of an instance equal to the committed content of one epoch, and find where it isn't."""

    def __init__(self, index: int, base: int, log: Log, pages: linux.PageMap | None) -> None:
        """`base` is the file of the base; without `pages` nothing is mapped over the memory, and all of it is looked at."""
        self.index = index
        self.size = 0
        self._base = base
        self._base_at = 0
        self._base_size = 0
        self._log = log
        self._pages = pages
        self._places: dict[int, int] = {}

    def close(self) -> None:
        """Let go of the base."""
        if self._base_size:
            linux.unmap(self._base_at, self._base_size)
        os.close(self._base)

    # -- what is committed ---------------------------------------------------------------------------------------------

    def learn(self, entries: dict[int, int], size: int) -> None:
        """Note pages with their places in the log, and the size, of a newer version."""
        self._places.update(entries)
        self.size = size
        if size > self._base_size:
            if self._base_size:
                linux.unmap(self._base_at, self._base_size)
                self._base_size = 0
            self._base_at = linux.map_readable(self._base, size)
            self._base_size = size

    def _committed(self, page: int) -> int:
        """Give the address of a page's committed content; there's none past the committed size."""
        place = self._places.get(page, _BASE)
        return self._base_at + page * PAGE if place == _BASE else self._log.address + place * PAGE

    # -- restore -------------------------------------------------------------------------------------------------------

    def restore(self, instance: Instance, changed: Iterable[int]) -> int:
        """Make the memory equal to what is committed; `changed` are the pages learned since it last was.

        It isn't larger than what is committed; a smaller one is grown first. Gives the bytes copied.
        """
        missing = self.size - len(instance.memory_view(self.index))
        if missing > 0:
            instance.memory_grow(self.index, missing // instance.module.info.memories[self.index].page_size)
        address = instance.memory_address(self.index)
        if self._pages is None:
            return self._copy(address, range(-(-self.size // PAGE)))
        overlay = self._overlay(instance, address)
        if overlay is None:
            self._map_all(instance, address)
            return 0
        self._extend(overlay)
        ranges = self._private(overlay)
        private = set(_pages_of(ranges))
        fresh = [page for page in sorted(changed) if page not in private]
        if overlay.private.worn(len(private)):
            self._drop(overlay, ranges, fresh)
            return 0
        self._show(overlay, fresh)
        return self._copy(address, _pages_of(ranges))

    def accept(self, instance: Instance) -> None:
        """Note that what is committed is what the instance has."""
        if self._pages is None:
            return
        address = instance.memory_address(self.index)
        overlay = self._overlay(instance, address)
        if overlay is None:
            self._map_all(instance, address)
            return
        self._extend(overlay)
        ranges = self._private(overlay)
        if overlay.private.worn(sum(end - start for start, end in ranges) // PAGE):
            self._drop(overlay, ranges, ())

    def _overlay(self, instance: Instance, address: int) -> _Overlay | None:
        overlay: _Overlay | None = instance.overlays.get(self.index)
        # A memory of another epoch is overlaid with another base, and a 64-bit one may move when it grows.
        if overlay is None or overlay.owner is not self or overlay.address != address:
            return None
        return overlay

    def _private(self, overlay: _Overlay) -> Ranges:
        assert self._pages is not None
        pages, base, size = self._pages, overlay.address, overlay.size

        def scan() -> Ranges:
            return [(start - base, end - base) for start, end in pages.private(base, base + size)]

        return overlay.private.find(scan, pages.faults)

    def _map_all(self, instance: Instance, address: int) -> None:
        overlay = _Overlay(address, 0, self, PrivatePages(), {})
        self._extend(overlay)
        instance.overlays[self.index] = overlay

    def _extend(self, overlay: _Overlay) -> None:
        """Lay what is committed over what the memory has grown by."""
        start, size = overlay.size, self.size
        if size <= start:
            return
        linux.map_private(overlay.address + start, size - start, self._base, start)
        overlay.size = size
        overlay.private.forget()
        self._show(overlay, sorted(page for page in self._places if start <= page * PAGE < size))

    def _show(self, overlay: _Overlay, pages: Iterable[int]) -> None:
        """Map what is committed at these pages, dropping private copies."""
        mapped = overlay.mapped
        for first, count, place in _runs(pages, self._places):
            file, at = (self._base, first) if place == _BASE else (self._log.file, place)
            linux.map_private(overlay.address + first * PAGE, count * PAGE, file, at * PAGE)
            for page in range(count):
                if place == _BASE:
                    mapped.pop(first + page, None)
                else:
                    mapped[first + page] = place + page

    def _drop(self, overlay: _Overlay, ranges: Ranges, changed: Iterable[int]) -> None:
        """Give private pages up, and have all pages show what is committed."""
        for start, end in ranges:
            linux.drop(overlay.address + start, end - start)
        mapped, places = overlay.mapped, self._places
        stale = {page for page in _pages_of(ranges) if mapped.get(page, _BASE) != places.get(page, _BASE)}
        self._show(overlay, sorted(stale.union(changed)))

    def _copy(self, address: int, pages: Iterable[int]) -> int:
        copied = 0
        for first, count, _ in _runs(pages, self._places):
            start = first * PAGE
            length = min(count * PAGE, self.size - start)
            linux.copy(address + start, self._committed(first), length)
            copied += length
        return copied

    def private_bytes(self, instance: Instance) -> int:
        """Count the bytes that the instance shares with nobody, as far as that's known without looking."""
        overlay: _Overlay | None = instance.overlays.get(self.index)
        if overlay is None or self._pages is None:
            return len(instance.memory_view(self.index))
        return sum(end - start for start, end in overlay.private.ranges or ())

    # -- commit --------------------------------------------------------------------------------------------------------

    def changes(self, instance: Instance) -> list[int]:
        """List the pages whose content isn't the committed one, in order."""
        size, address = len(instance.memory_view(self.index)), instance.memory_address(self.index)
        overlay = self._overlay(instance, address) if self._pages is not None else None
        if overlay is None or self._pages is None:
            ranges: Ranges = [(0, size)]
        elif overlay.size == size:
            ranges = self._private(overlay)
        else:
            # Pages that the memory grew by are an anonymous mapping: there, private means touched.
            found = self._pages.private(address, address + size)
            ranges = [(start - address, end - address) for start, end in found]
            overlay.private.forget()
        changed = []
        zeros = linux.zeros()
        for page in _pages_of(ranges):
            start = page * PAGE
            length = min(PAGE, size - start)
            here = address + start
            known = max(min(length, self.size - start), 0)
            if (known and linux.differs(here, self._committed(page), known)) or (
                known < length and linux.differs(here + known, zeros, length - known)
            ):
                changed.append(page)
        return changed

    def append(self, instance: Instance, pages: list[int], tail: int) -> None:
        """Write pages to the log, from place `tail` on."""
        view = instance.memory_view(self.index)
        for first, count, _ in _runs(pages, {}):
            data: memoryview | bytes = view[first * PAGE : (first + count) * PAGE]
            if len(data) < count * PAGE:
                data = bytes(data).ljust(count * PAGE, b"\0")
            _write(self._log.file, data, tail * PAGE)
            tail += count


def write_base(instance: Instance, index: int, file: int) -> int:
    """Write all of a memory to a file that's empty; give its size."""
    view = instance.memory_view(index)
    size = len(view)
    os.ftruncate(file, size)
    for start, end in nonzero_ranges(instance.memory_address(index), size):
        _write(file, view[start:end], start)
    return size


def _write(file: int, data: memoryview | bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(file, view, offset)
        view, offset = view[written:], offset + written

"""A linear memory as a value: its size and its non-zero 4 KiB pages."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import attrs

__all__ = ["PAGE", "MemoryState", "read_memory", "write_memory"]

PAGE = 4096
"""Bytes of a page in a snapshot, whatever the host's or the guest's are."""
_BLOCK = 64 * PAGE
_ZEROS = bytes(_BLOCK)


@attrs.frozen
class MemoryState:
    """Hold a memory's `size` in bytes and its content as `runs`: (offset, bytes), in order.

    A run starts and ends at page boundaries (or the memory's end), holds no page of zeros, and never touches the next
    one: equal memories have equal runs.
    """

    size: int
    runs: tuple[tuple[int, bytes], ...] = attrs.field(repr=lambda runs: f"<{len(runs)} runs>")

    @property
    def stored(self) -> int:
        """Count the bytes that aren't in a page of zeros."""
        return sum(len(data) for _, data in self.runs)


def read_memory(view: memoryview) -> MemoryState:
    """Copy a memory's content out."""
    runs: list[tuple[int, bytes]] = []
    for start, end in _nonzero(view):
        runs.append((start, bytes(view[start:end])))
    return MemoryState(len(view), tuple(runs))


def _nonzero(view: memoryview) -> Iterator[tuple[int, int]]:
    """Give the maximal ranges of pages that aren't all zero, as offsets."""
    size = len(view)
    open_at = -1
    for block_at in range(0, size, _BLOCK):
        block = bytes(view[block_at : block_at + _BLOCK])
        if block == _ZEROS[: len(block)]:
            if open_at >= 0:
                yield open_at, block_at
                open_at = -1
            continue
        for at in range(0, len(block), PAGE):
            page = block[at : at + PAGE]
            if page == _ZEROS[: len(page)]:
                if open_at >= 0:
                    yield open_at, block_at + at
                    open_at = -1
            elif open_at < 0:
                open_at = block_at + at
    if open_at >= 0:
        yield open_at, size


def write_memory(view: memoryview, state: MemoryState, *, clear: Callable[[int, int], None]) -> None:
    """Write a memory's content in; `clear(start, end)` zeroes a range between runs."""
    at = 0
    for start, data in state.runs:
        if start > at:
            clear(at, start)
        at = start + len(data)
        view[start:at] = data
    if at < state.size:
        clear(at, state.size)

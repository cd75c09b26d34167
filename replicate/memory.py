"""How a pool keeps the committed content of a linear memory, and makes instances equal to it.

`MemorySnapshot` hides the mechanism; `PlainCopySnapshot` copies all of a memory and works everywhere.
"""

from __future__ import annotations

import abc
import ctypes
import mmap
from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar

import attrs

from replicate.memory_runs import PAGE, MemoryState, read_memory

if TYPE_CHECKING:
    from replicate.interfaces import Instance

__all__ = ["CopyCost", "MemorySnapshot", "PlainCopySnapshot"]


@attrs.frozen
class CopyCost:
    """Count what a commit or a restore copied: host pages of 4 KiB, and bytes."""

    pages: int = 0
    bytes: int = 0

    def __add__(self, other: CopyCost) -> CopyCost:
        return CopyCost(self.pages + other.pages, self.bytes + other.bytes)


class MemorySnapshot(abc.ABC):
    """Hold the committed content of one linear memory of one pool (the *image*).

    Not thread-safe by itself: `commit` needs the image for itself, `attach` and `restore` may share it with each other;
    the pool's state machine sees to that.
    """

    mode: ClassVar[str]

    def __init__(self, index: int) -> None:
        self.index = index
        """Which memory of the module this is."""

    @property
    @abc.abstractmethod
    def size(self) -> int:
        """Give the committed size in bytes."""

    def prepare(self, leader: Instance) -> None:  # noqa: B027
        """Find out what a commit has to copy; the image is still shared."""

    @abc.abstractmethod
    def reserve(self, leader: Instance) -> None:
        """Make room for the leader's present content, changing nothing that readers see; may raise `MemoryError`."""

    def protect(self, leader: Instance, running: Iterable[Instance]) -> None:  # noqa: B027
        """See to it that the instances in `running` go on seeing the present image after `commit`; may raise."""

    @abc.abstractmethod
    def commit(self, leader: Instance) -> CopyCost:
        """Take over the leader's content, after `prepare`, `reserve` and `protect`. Never fails halfway."""

    @abc.abstractmethod
    def restore(self, instance: Instance) -> CopyCost:
        """Make an instance's memory equal to the image: to refresh, reset or roll back, and to fill a fresh one.

        The instance's memory isn't larger than the image; a smaller one is grown first.
        """

    def private_bytes(self, instance: Instance) -> int:
        """Give the bytes of the instance's memory that it shares with nobody. Safe while it runs, or is being closed."""
        return self.size

    @abc.abstractmethod
    def content(self) -> MemoryState:
        """Copy the committed content out."""

    @abc.abstractmethod
    def close(self) -> None:
        """Free the image."""

    def grow(self, instance: Instance) -> None:
        """Grow an instance's memory to the image's size."""
        missing = self.size - len(instance.memory_view(self.index))
        if missing > 0:
            instance.memory_grow(self.index, missing // instance.module.info.memories[self.index].page_size)


class PlainCopySnapshot(MemorySnapshot):
    """Keep the image in a private buffer and copy all of it: portable, and as dear as the guest is large."""

    mode = "copy"

    def __init__(self, index: int) -> None:
        super().__init__(index)
        self._size = 0
        self._image = mmap.mmap(-1, PAGE)

    @property
    def size(self) -> int:
        return self._size

    def _address(self) -> int:
        return ctypes.addressof(ctypes.c_char.from_buffer(self._image))

    def reserve(self, leader: Instance) -> None:
        needed = len(leader.memory_view(self.index))
        if needed > len(self._image):
            try:
                larger = mmap.mmap(-1, needed)
            except (OSError, ValueError) as error:
                raise MemoryError(f"no room for an image of {needed} bytes: {error}") from error
            # What was committed stays committed, should the commit fail after this.
            if self._size:
                target = ctypes.addressof(ctypes.c_char.from_buffer(larger))
                ctypes.memmove(target, self._address(), self._size)
            self._image = larger

    def commit(self, leader: Instance) -> CopyCost:
        size = len(leader.memory_view(self.index))
        if size:
            ctypes.memmove(self._address(), leader.memory_address(self.index), size)
        self._size = size
        return CopyCost(-(-size // PAGE), size)

    def restore(self, instance: Instance) -> CopyCost:
        self.grow(instance)
        if self._size:
            ctypes.memmove(instance.memory_address(self.index), self._address(), self._size)
        return CopyCost(-(-self._size // PAGE), self._size)

    def content(self) -> MemoryState:
        return read_memory(memoryview(self._image)[: self._size])

    def close(self) -> None:
        self._size = 0
        self._image = mmap.mmap(-1, PAGE)

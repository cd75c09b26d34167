"""What a worker knows of the committed state, and how its instance becomes equal to it."""

from __future__ import annotations

import array
import itertools
import pickle
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import attrs

from replicate import small_state
from replicate.copy_on_write import fits
from replicate.memory_modes import page_map, why_not_copy_on_write
from replicate.plaindata import copy_plain
from replicate.processes.messages import Sync
from replicate.processes.pages import Follower, Log
from replicate.small_state import SmallState

if TYPE_CHECKING:
    from replicate.interfaces import Instance

__all__ = ["Committed", "Proposal"]


@attrs.frozen
class Proposal:
    """Be what a leader's commit comes to: its pages in the log, if they fit there, its sizes, its small state."""

    entries: list[tuple[int, bytes]] | None
    """For each memory, pairs of page and place; None if the log is too small."""
    pages: int
    """How many there are."""
    runs: int
    """How many pieces they're in."""
    sizes: tuple[int, ...]
    small: bytes | None
    """None if it's as committed."""


class Committed:
    """Follow one epoch of a pool's committed state."""

    def __init__(
        self, instance: Instance, files: Sequence[int], capacity: int, private: frozenset[int], overlay: bool
    ) -> None:
        """`files` are the bases of all memories, and the log of `capacity` pages; `overlay` them where that works."""
        *bases, log = files
        self._log = Log(log, capacity)
        stable = overlay and instance.module.engine.traits.stable_memory and why_not_copy_on_write() is None
        self._memories = [
            Follower(slot.index, base, self._log, page_map() if stable and fits(slot.type.page_size) else None)
            for slot, base in zip(instance.plan.memories, bases, strict=True)
        ]
        self._private = private
        self._sizes: tuple[int, ...] = ()
        self._small: SmallState | None = None
        self._pickled: bytes | None = None
        self.private_bytes = 0
        """Bytes of memory that the instance shared with nobody when it was last made equal."""

    def close(self) -> None:
        """Let go of the files."""
        for memory in self._memories:
            memory.close()
        self._log.close()

    def host_state(self) -> dict[str, Any]:
        """Give a copy of the committed host-side state."""
        copied: dict[str, Any] = copy_plain(self._small.host) if self._small is not None else {}
        return copied

    # -- following -----------------------------------------------------------------------------------------------------

    def sync(self, instance: Instance, sync: Sync) -> int:
        """Learn of a newer version, and make the instance equal to it; give the bytes copied."""
        changed: dict[int, dict[int, int]] = {}
        if sync.entries or sync.sizes != self._sizes:
            for index, data in sync.entries:
                numbers = array.array("I", data)
                changed.setdefault(index, {}).update(zip(numbers[::2], numbers[1::2], strict=True))
            for memory, size in zip(self._memories, sync.sizes, strict=True):
                memory.learn(changed.get(memory.index, {}), size)
            self._sizes = sync.sizes
        if sync.small is not None:
            self._small, self._pickled = pickle.loads(sync.small), sync.small
        small = self._small
        assert small is not None
        if sync.accept:
            for memory in self._memories:
                if memory.index not in self._private:
                    memory.accept(instance)
            return 0
        memories = [memory for memory in self._memories if sync.private or memory.index not in self._private]
        if any(
            len(instance.memory_view(memory.index)) > memory.size for memory in memories
        ) or small_state.must_rebuild(instance, small):
            instance.rebuild()
            memories = self._memories
        copied = 0
        for memory in memories:
            copied += memory.restore(instance, changed.get(memory.index, ()))
        small_state.restore(instance, small)
        self.private_bytes = sum([memory.private_bytes(instance) for memory in self._memories])
        return copied

    # -- leading -------------------------------------------------------------------------------------------------------

    def prepare(self, instance: Instance, tail: int, capacity: int) -> Proposal:
        """Append what the leader has and the committed state hasn't to the log, from place `tail` on.

        Raises `NotReplicableError` and `StateError`. Until a sync says that it's accepted, nothing has changed.
        """
        small = small_state.capture(instance, known=self._small)
        pickled: bytes | None = pickle.dumps(small, 5)
        if pickled == self._pickled:
            pickled = None
        entries: list[tuple[int, bytes]] = []
        total = runs = 0
        found = [(memory, memory.changes(instance)) for memory in self._memories if memory.index not in self._private]
        sizes = tuple(
            memory.size if memory.index in self._private else len(instance.memory_view(memory.index))
            for memory in self._memories
        )
        total = sum(len(pages) for _, pages in found)
        if tail + total > capacity:
            return Proposal(None, total, 0, sizes, pickled)
        for memory, pages in found:
            if pages:
                memory.append(instance, pages, tail)
                numbers = array.array("I", bytes(8 * len(pages)))
                numbers[::2] = array.array("I", pages)
                numbers[1::2] = array.array("I", range(tail, tail + len(pages)))
                entries.append((memory.index, numbers.tobytes()))
                tail += len(pages)
                runs += 1 + sum(after != before + 1 for before, after in itertools.pairwise(pages))
        return Proposal(entries, total, runs, sizes, pickled)

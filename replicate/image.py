"""The committed state of a pool: one image per memory, and the small state beside them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Protocol

from replicate import small_state
from replicate.memory import CopyCost, MemorySnapshot
from replicate.signals import carry_through
from replicate.small_state import SmallState
from replicate.snapshot import Snapshot, from_parts

if TYPE_CHECKING:
    from replicate.binary import MemorySlot
    from replicate.interfaces import Instance

__all__ = ["CommittedState", "StateImage"]


class CommittedState(Protocol):
    """Be what a pool keeps its committed state in; see `StateImage` for what the methods do.

    `commit` needs it exclusively, everything else may share it.
    """

    late_bytes: int
    """What restores have copied that their `CopyCost` doesn't know of."""
    commits: int
    """Moves on with each commit, at the moment from which it's whole."""

    @property
    def mode(self) -> str: ...
    @property
    def size(self) -> int: ...
    def open(self, leader: Instance) -> None: ...
    def prepare(self, leader: Instance) -> Any: ...
    def commit(self, leader: Instance, small: Any, running: Iterable[Instance]) -> CopyCost: ...
    def restore(self, instance: Instance, *, private: bool = True) -> CopyCost: ...
    def private_bytes(self, instance: Instance) -> int: ...
    def to_snapshot(self) -> Snapshot: ...
    def close(self) -> None: ...


class StateImage:
    """Hold a pool's committed state and make instances equal to it.

    Like `MemorySnapshot`: `commit` needs it exclusively, everything else may share it.
    """

    late_bytes = 0
    commits = 0

    def __init__(
        self,
        leader: Instance,
        make_memory: Callable[[MemorySlot], MemorySnapshot],
        *,
        private: frozenset[int] = frozenset(),
    ) -> None:
        """Begin with a leader that hasn't been started: its `private` memories are, as they are now, those of all instances.

        `open` takes the rest of the state over, when the leader has been started.
        """
        leader.module.check_replicable()
        self._module = leader.module
        self._memories = [make_memory(slot) for slot in leader.plan.memories]
        self._shared = [memory for memory in self._memories if memory.index not in private]
        self._small: SmallState
        self._take([memory for memory in self._memories if memory.index in private], leader)

    def open(self, leader: Instance) -> None:
        """Take over the state of a leader that has been started."""
        self._small = small_state.capture(leader)
        self._take(self._shared, leader)

    def _take(self, memories: list[MemorySnapshot], leader: Instance) -> None:
        for memory in memories:
            memory.prepare(leader)
            memory.reserve(leader)
            memory.protect(leader, ())
            memory.commit(leader)

    @property
    def mode(self) -> str:
        """Name how memories are kept: ``"copy"``, ``"copy-on-write"``, or ``"none"`` for a module without memory."""
        return "+".join(sorted({memory.mode for memory in self._memories})) or "none"

    @property
    def size(self) -> int:
        """Give the bytes of all committed memories together."""
        return sum(memory.size for memory in self._memories)

    def prepare(self, leader: Instance) -> SmallState:
        """Capture what `commit` needs that takes time, while the image is still shared.

        Raises `NotReplicableError` and `StateError`.
        """
        small = small_state.capture(leader, known=self._small)
        for memory in self._shared:
            memory.prepare(leader)
        return small

    def commit(self, leader: Instance, small: SmallState, running: Iterable[Instance]) -> CopyCost:
        """Take over the leader's state, of which `prepare` gave `small`; or raise, `MemoryError` say, and change nothing."""
        for memory in self._shared:
            memory.reserve(leader)
        instances = tuple(running)
        for memory in self._shared:
            memory.protect(leader, instances)
        self._cost = CopyCost()
        commits = self.commits

        def take() -> None:
            # What a signal's handler raises may end this half-way, or just after: half a commit is none.
            if self.commits == commits:
                cost = CopyCost()
                for memory in self._shared:
                    cost += memory.commit(leader)
                self._cost, self._small = cost, small
                self.commits += 1

        carry_through(take, fatal=(OSError, MemoryError))
        return self._cost

    def private_bytes(self, instance: Instance) -> int:
        """Give the bytes of an instance's memories that it shares with nobody."""
        return sum(memory.private_bytes(instance) for memory in self._memories)

    def restore(self, instance: Instance, *, private: bool = True) -> CopyCost:
        """Make an instance equal to the committed state: a fresh one, a stale one, or one that a call has changed.

        Its private memories become what instantiation makes them, or with ``private=False`` stay as they are.
        """
        memories = self._memories if private else self._shared
        if any(
            len(instance.memory_view(memory.index)) > memory.size for memory in memories
        ) or small_state.must_rebuild(instance, self._small):
            instance.rebuild()
            memories = self._memories
        cost = CopyCost()
        for memory in memories:
            cost += memory.restore(instance)
        small_state.restore(instance, self._small)
        return cost

    def to_snapshot(self) -> Snapshot:
        """Copy the committed state out as a portable value."""
        memories = tuple(memory.content() for memory in self._memories)
        return from_parts(self._module.info.digest, self._module.plan, memories, self._small)

    def close(self) -> None:
        """Free the images."""
        for memory in self._memories:
            memory.close()

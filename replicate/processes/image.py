"""The committed state of a pool whose instances are in worker processes: files that all of them map.

For each memory there's a *base*, which never changes (a file that was extended reads as zeros there), and for all of them
one *log*, to which each commit appends the pages that it changed. A version is a place in the log. So a commit disturbs
nobody who is at an older version, and waits for nobody; its work, finding and appending the pages, is done by the leader's
worker in `prepare`. When the log is full, the leader writes new bases, the log begins anew, and workers get the new files
when they next move: an *epoch* has ended.
"""

from __future__ import annotations

import array
import itertools
import mmap
import os
import pickle
import weakref
from collections.abc import Iterable
from typing import TYPE_CHECKING, cast

import attrs

from replicate.memory import CopyCost
from replicate.memory_runs import MemoryState, read_memory
from replicate.processes.committed import Proposal
from replicate.processes.messages import Sync
from replicate.processes.pages import PAGE
from replicate.snapshot import Snapshot, from_parts

if TYPE_CHECKING:
    from replicate.interfaces import Instance
    from replicate.processes.instance import RemoteInstance

__all__ = ["Epoch", "Pending", "RemoteImage", "Version"]

_LEAST_CAPACITY = (64 << 20) // PAGE
_MOST_RUNS = 8192
"""Pieces of the log that a worker may have to map; the kernel allows a process 65530 mappings."""
_MOST_VERSIONS = 65536
_numbers = itertools.count(1)


def _close(files: list[int]) -> None:
    for file in files:
        os.close(file)


class Epoch:
    """Be one set of files: the bases of all memories, and the log."""

    def __init__(self, bases: list[int], pages: int) -> None:
        """Take the bases over; `pages` is the size of the memories that the log is for."""
        self.number = next(_numbers)
        self.capacity = max(pages, _LEAST_CAPACITY)
        log = os.memfd_create("replicate-log", os.MFD_CLOEXEC)
        self.files = [*bases, log]
        self._finalizer = weakref.finalize(self, _close, self.files)
        os.ftruncate(log, self.capacity * PAGE)
        self.tail = 0
        """How many pages of the log are committed; what follows may be left from a commit that was given up."""
        self.runs = 0
        self.entries: list[list[tuple[int, bytes]]] = []
        """The pages that lead from each version to the next; see `Sync.entries`."""

    @property
    def is_worn(self) -> bool:
        """Tell whether a new one should begin, though the log isn't full."""
        return self.runs > _MOST_RUNS or len(self.entries) > _MOST_VERSIONS


@attrs.frozen(eq=False)
class Version:
    """Be a committed state."""

    epoch: Epoch
    number: int
    """How many commits of the epoch have led to it."""
    sizes: tuple[int, ...]
    small: bytes
    """The small state, pickled; the same object as long as it's the same state."""


@attrs.frozen(eq=False)
class Commit:
    """Be what a leader has prepared."""

    version: Version | None
    """The first version of a new epoch."""
    proposal: Proposal | None
    pages: int


@attrs.define(eq=False)
class Pending:
    """Make an instance equal to a version with its next request, or tell its worker that it is (`accept`)."""

    image: RemoteImage
    version: Version
    accept: bool
    private: bool
    follow: int | None = None

    @property
    def known(self) -> tuple[int, int, object]:
        """Give what the worker knows afterwards."""
        return self.version.epoch.number, self.version.number, self.version.small

    def message(self, known: tuple[int, int, object]) -> tuple[Sync, list[int]]:
        """Give what to tell a worker that knows this much, and the descriptors to pass to it."""
        version, epoch = self.version, self.version.epoch
        number, since, small = known
        attach = None
        files: list[int] = []
        if number != epoch.number:
            attach = (epoch.capacity, self.image.private_memories, self.image.overlay)
            files, since, small = epoch.files, 0, None
        entries = [entry for changed in epoch.entries[since : version.number] for entry in changed]
        sync = Sync(
            epoch=epoch.number,
            attach=attach,
            entries=entries,
            sizes=version.sizes,
            small=None if small is version.small else version.small,
            accept=self.accept,
            private=self.private,
            follow=self.follow,
        )
        return sync, files

    def done(self, copied: int) -> None:
        """Note what it cost, in bytes."""
        self.image.late_bytes += copied


class RemoteImage:
    """Hold a pool's committed state for workers; the same to a pool as `replicate.image.StateImage`."""

    mode = "log"
    commits = 0

    def __init__(self, leader: Instance, *, private: frozenset[int], overlay: bool) -> None:
        """Begin with a leader that hasn't been started; `overlay` memories where the worker's system and engine allow it."""
        leader.module.check_replicable()
        self._module = leader.module
        self._indices = [slot.index for slot in leader.plan.memories]
        self._shared = [index for index in self._indices if index not in private]
        self.private_memories = private
        self.overlay = overlay
        self.late_bytes = 0
        """What was copied by restores since they were asked for."""
        self._private = {index: _new_file(index) for index in self._indices if index in private}
        self._finalizer = weakref.finalize(self, _close, list(self._private.values()))
        self._private_sizes: dict[int, int] = {}
        if self._private:
            sizes = _remote(leader).send_files("write_bases", (list(self._private),), list(self._private.values()))
            self._private_sizes.update(zip(self._private, sizes, strict=True))
        self._now: Version

    def open(self, leader: Instance) -> None:
        """Take over the state of a leader that has been started."""
        remote = _remote(leader)
        self._now = self._begin_epoch(remote)
        remote.sync_later(Pending(self, self._now, True, False))

    def _begin_epoch(self, leader: RemoteInstance) -> Version:
        leader.state.check()
        small: bytes = leader.ask("capture")
        bases = {index: _new_file(index) for index in self._shared}
        try:
            sizes = dict(self._private_sizes)
            if bases:
                written = leader.send_files("write_bases", (list(bases),), list(bases.values()))
                sizes.update(zip(bases, written, strict=True))
            shared_pages = sum(-(-sizes[index] // PAGE) for index in bases)
            bases.update({index: os.dup(file) for index, file in self._private.items()})
        except BaseException:
            _close(list(bases.values()))
            raise
        epoch = Epoch([bases[index] for index in self._indices], shared_pages)
        return Version(epoch, 0, tuple(sizes[index] for index in self._indices), small)

    @property
    def size(self) -> int:
        """Give the bytes of all committed memories together."""
        return sum(self._now.sizes)

    # -- commit --------------------------------------------------------------------------------------------------------

    def prepare(self, leader: Instance) -> Commit:
        """Have the leader append what it has changed to the log, or write new bases; nobody looks at either yet.

        Raises `NotReplicableError` and `StateError`.
        """
        remote, epoch = _remote(leader), self._now.epoch
        remote.state.check()
        proposal: Proposal = remote.ask("prepare_commit", epoch.tail, epoch.capacity)
        if proposal.entries is None or epoch.is_worn:
            return Commit(self._begin_epoch(remote), None, proposal.pages)
        return Commit(None, proposal, proposal.pages)

    def commit(self, leader: Instance, small: Commit, running: Iterable[Instance]) -> CopyCost:
        """Make what the leader has prepared the newest version; or raise, and change nothing."""
        version, now = small.version, self._now
        if version is None:
            assert small.proposal is not None
            version = self._next_version(small.proposal)
            epoch, proposal = now.epoch, small.proposal
            assert proposal.entries is not None
            # From here to the end, plain stores: no exception of a signal handler's comes between.
            epoch.entries[now.number :] = [proposal.entries]
            epoch.tail += proposal.pages
            epoch.runs += proposal.runs
        self._now = version
        self.commits += 1
        _remote(leader).sync_later(Pending(self, version, True, False))
        return CopyCost(small.pages, small.pages * PAGE)

    def _next_version(self, proposal: Proposal) -> Version:
        now, epoch = self._now, self._now.epoch
        for file, old, new in zip(epoch.files, now.sizes, proposal.sizes, strict=False):
            if new > old:
                try:
                    os.ftruncate(file, new)
                except OSError as error:
                    raise MemoryError(f"no room for an image of {new} bytes: {error}") from error
        small = now.small if proposal.small is None else proposal.small
        return Version(epoch, now.number + 1, proposal.sizes, small)

    # -- restore -------------------------------------------------------------------------------------------------------

    def restore(self, instance: Instance, *, private: bool = True) -> CopyCost:
        """Have an instance made equal to the committed state as it is now, when it's next asked for something."""
        _remote(instance).sync_later(Pending(self, self._now, False, private))
        return CopyCost()

    def private_bytes(self, instance: Instance) -> int:
        """Give the bytes of an instance's memories that it shared with nobody when it was last restored."""
        return _remote(instance).private_bytes

    # -- the rest ------------------------------------------------------------------------------------------------------

    def to_snapshot(self) -> Snapshot:
        """Copy the committed state out as a portable value."""
        version = self._now
        memories = tuple(self._content(version, position) for position in range(len(self._indices)))
        return from_parts(self._module.info.digest, self._module.plan, memories, pickle.loads(version.small))

    def _content(self, version: Version, position: int) -> MemoryState:
        size, files = version.sizes[position], version.epoch.files
        if not size:
            return MemoryState(0, ())
        places: dict[int, int] = {}
        for changed in version.epoch.entries[: version.number]:
            for index, data in changed:
                if index == self._indices[position]:
                    numbers = array.array("I", data)
                    places.update(zip(numbers[::2], numbers[1::2], strict=True))
        with mmap.mmap(files[position], size, flags=mmap.MAP_PRIVATE) as content:
            for page, place in places.items():
                start = page * PAGE
                content[start : min(start + PAGE, size)] = os.pread(files[-1], min(PAGE, size - start), place * PAGE)
            with memoryview(content) as view:
                return read_memory(view)

    def close(self) -> None:
        """Let go of the files; those of an epoch close when the last instance that needs it is gone."""
        self._finalizer()


def _new_file(index: int) -> int:
    return os.memfd_create(f"replicate-base-{index}", os.MFD_CLOEXEC)


def _remote(instance: Instance) -> RemoteInstance:
    return cast("RemoteInstance", instance)

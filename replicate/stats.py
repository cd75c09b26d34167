"""What a pool has done and costs, as a value (promise P10)."""

from __future__ import annotations

import attrs

__all__ = ["PoolStats"]


@attrs.frozen(kw_only=True)
class PoolStats:
    """Be a pool's statistics at one moment. Counters run since the pool was opened; sizes are bytes, times seconds."""

    name: str
    engine: str
    """The engine's name and version."""
    memory_mode: str
    """How committed memory is kept: ``"copy"``, ``"copy-on-write"``, ``"log"`` in worker processes, or ``"none"`` for a module
    without memory."""
    reset: str
    version: int
    """The number of commits."""
    replicas: int
    """How many replicas the pool keeps."""
    made: int
    """How many of them exist: they're made when first needed."""
    idle: int
    reading: int
    readers_waiting: int
    writers_waiting: int
    writing: bool
    reads: int
    failed_reads: int
    commits: int
    rollbacks: int
    read_waits: int
    """Reads that found no idle replica."""
    read_wait_seconds: float
    write_waits: int
    write_wait_seconds: float
    restores: int
    """How often a replica was made equal to the committed state, to reset it or to move it to a new version."""
    restored_bytes: int
    spawns: int
    """Instances made for replicas, replacements included."""
    committed_bytes: int
    """Bytes copied by commits."""
    last_commit_pages: int
    last_commit_bytes: int
    largest_commit_pages: int
    committed_pages: int
    refreshes: int
    """Restores that moved a replica to a newer version, or filled a new one."""
    resets: int
    """Restores that undid what a read had changed."""
    interruptions: int
    """Transactions whose guest was stopped, by a timeout or a cancellation."""
    private_memories: tuple[int, ...]
    """The memories that aren't shared: each instance has its own."""
    private_bytes: tuple[int, ...]
    """For each replica that exists, the bytes of guest memory that it shares with nobody."""
    state_bytes: int
    """The size of all the guest's memories together, as committed."""

    @property
    def mean_commit_bytes(self) -> float:
        """Give the bytes that a commit has copied on average."""
        return self.committed_bytes / self.commits if self.commits else 0.0

    @property
    def full_copy_bytes(self) -> int:
        """Give the bytes that copying the whole guest to every replica would take at each commit."""
        return self.state_bytes * self.replicas

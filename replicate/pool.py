"""A pool of replicas of one Wasm module, for threads."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Hashable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from types import FunctionType, TracebackType
from typing import Any, Literal, TypeVar, cast

from replicate.adapter import Adapter, ResetRule
from replicate.callables import LATER, UNFINISHED, refuse_unfinished, run_whole, runnable
from replicate.configuration import Workers
from replicate.core import PoolCore
from replicate.decisions import Slot
from replicate.errors import PoolClosedError, PoolTimeoutError
from replicate.handles import Guest
from replicate.imports import Imports
from replicate.interfaces import Engine
from replicate.limits import Limit
from replicate.memory_modes import MemoryMode
from replicate.opening import check_core, open_core
from replicate.owners import current_owner
from replicate.pinned import PinnedRead
from replicate.serving import Servers
from replicate.signals import deaf_entry
from replicate.snapshot import Snapshot
from replicate.stats import PoolStats
from replicate.waiting import Asking, ThreadWaiter
from replicate.wasi import Wasi

__all__ = ["Pool"]

T = TypeVar("T")
_WATCH_SECONDS = 0.001
"""How often the thread that has waited longest looks for a replica without being called."""


class Pool:
    """Run writes on one leader and reads on replicas that follow it: read replicas for any Wasm module.

    ::

        with Pool.open("kv.wasm", replicas=4) as pool:
            pool.write(lambda guest: guest.call("put", 1, 42))
            pool.read(lambda guest: guest.call("get", 1))  # 42

    A write is a transaction: it commits when it returns and is rolled back, memory size included, when anything is
    raised; reads see committed states only, each one version from start to end, and every read that starts after a write
    has returned sees it. Any number of threads may use a pool.

    Hazards: opening a transaction inside another one of the same pool raises `NestedTransactionError`. A guest that never
    returns keeps its replica, or the leader, unless the transaction has a `timeout`. Side effects of host functions aren't
    rolled back.
    """

    def __init__(self, core: PoolCore) -> None:
        check_core(core, "Pool")
        self._core = core
        self._servers = Servers(core, self._read_entered)

    @classmethod
    def open(
        cls,
        source: bytes | str | Path | Adapter,
        *,
        engine: str | Engine = "wasmtime",
        replicas: int | None = None,
        min_replicas: int | None = None,
        imports: Imports | None = None,
        wasi: Wasi | None = None,
        init: Callable[[Guest], Any] | None = None,
        run_start: bool = False,
        snapshot: Snapshot | str | os.PathLike[str] | None = None,
        reset: ResetRule | None = None,
        memory: MemoryMode = "auto",
        share: Mapping[str | int, bool] | None = None,
        interruptible: bool = True,
        max_memory: int | None = None,
        max_table: int | None = None,
        name: str | None = None,
        workers: Workers | None = None,
        timeout: float | None = None,
    ) -> Pool:
        """Compile a module, start it once on the leader, and keep `replicas` read replicas of it.

        `source` is a path, a binary, WAT text, or an `Adapter`. `replicas` defaults to the number of usable cores. With
        `min_replicas` only so many are made at once, the others when reads need them, and those that no read has used
        between two commits are given up again.

        On the leader run, in this order: the start function, ``_initialize`` if exported, ``_start`` if `run_start`, the
        adapter's `start`, and ``init(guest)``. What they leave is version 0.

        With `snapshot`, a `Snapshot` or a file that one was saved in, none of these is run, and version 0 is that state, bit
        for bit; `init` and `run_start` are refused beside it. It has to be one of the same binary.

        `imports` are the host functions and the like that the module needs (see `replicate.imports`); `wasi` says what a
        WASI guest gets of the world outside: arguments, folders, output. Without it a module that imports WASI is refused.

        `reset` says when a replica forgets what reads changed in it: ``"each_read"`` (no read ever sees another's changes;
        the default) or ``"on_commit"`` (cheaper: they live until the next commit; for guests whose reads are harmless).

        `memory` says how committed memory is kept: ``"copy-on-write"`` (Linux: a commit costs what it changed), ``"copy"``
        (anywhere: a commit costs the guest's size), or the better of the two that works here.

        `share` is for modules with several memories: ``{"scratch": False}`` keeps that memory (an export, a name or an index)
        out of the state, so that it costs commits nothing. Each instance has its own, as instantiation makes it; a read finds
        it so, or under ``"on_commit"`` as the last read on that replica left it.

        A guest that runs too long is stopped (see `timeout` in `read` and `write`); with ``interruptible=False`` it isn't, and
        runs a little faster. `max_memory` (bytes, each memory) and `max_table` (elements, each table) bound what an instance
        may grow to; growing further fails inside the guest.

        `workers` says where the guests run: in ``"threads"``, those that call the pool, or in ``"processes"``, one for each
        replica and the leader, under another interpreter where the engine needs one (Linux only). None takes threads, but
        processes for an engine, given by name, whose guests don't run side by side in threads. In processes, `fn` and host
        functions run in this process unless they're told otherwise (`in_worker`), and each call of the guest, each look at
        its memory, is a question to its process.

        `timeout` bounds what runs in the guest meanwhile, the start functions and `init`, in seconds; compiling isn't counted.

        Raises `ModuleError` in its kinds, `GuestTimeoutError`, `NotReplicableError` listing what can't be carried to a
        replica, `EngineError`, `SnapshotMismatchError` for a snapshot of another binary, or that doesn't fit the limits given
        here, `SnapshotError` for one that can't be read, and whatever the start functions and `init` raise.
        """
        return cls(
            open_core(
                source,
                engine=engine,
                replicas=replicas,
                min_replicas=min_replicas,
                imports=imports,
                wasi=wasi,
                init=init,
                run_start=run_start,
                snapshot=snapshot,
                reset=reset,
                memory=memory,
                share=share,
                interruptible=interruptible,
                max_memory=max_memory,
                max_table=max_table,
                name=name,
                workers=workers,
                timeout=timeout,
            )
        )

    # -- transactions --------------------------------------------------------------------------------------------------

    def read(
        self,
        fn: Callable[[Guest], T],
        *,
        timeout: float | None = None,
        any_thread: bool = False,
        in_worker: bool = False,
    ) -> T:
        """Call ``fn(guest)`` on a replica at the newest version, and give what it returns.

        `timeout` bounds waiting for a replica and running the guest, in seconds from now on; None is no bound. Raises
        `PoolTimeoutError` when no replica came free, `GuestTimeoutError` out of the guest call that ran too long (both are
        `TimeoutError`), `PoolClosedError`, `NestedTransactionError`, and whatever `fn` raises. What `fn` changes in the guest
        is thrown away. Hazard: a host function isn't interrupted; the deadline is looked at when it returns.

        With `any_thread`, a read that finds no idle replica is run by a thread of the pool, while this one waits: with many
        more threads than replicas that's faster. It's for an `fn` that doesn't care which thread it's on: that uses no
        thread-local data, and takes no lock that its caller may hold.

        With `in_worker`, `fn` runs in the process where the guest is, as in `Guest.run`: one question instead of one for each
        use of the guest, where the pool has worker processes, and all the same where it hasn't.
        """
        core = self._core
        # Spelled out, here and in `write`: calls of functions are much of what a short read costs.
        if in_worker or type(fn) is not FunctionType or fn.__code__.co_flags & LATER:
            fn = runnable(fn, in_worker=in_worker)
        limit = core.limit(timeout)
        reading = _Reading(self, limit, waits=not any_thread)
        with reading as guest:
            if reading.slot is not None:
                result: T = fn(guest)
                if type(result) in UNFINISHED:
                    refuse_unfinished(result, fn)
                return result
            result = self._servers.run(fn, limit or Limit(core.engine, None), reading.owner)
            return result

    def _read_entered(self, fn: Callable[[Guest], Any], limit: Limit, since: float) -> Any:
        """Do a read for a thread or task that has entered, and has waited since some time."""
        with _Reading(self, limit, since=since) as guest:
            return run_whole(fn, guest)

    def write(self, fn: Callable[[Guest], T], *, timeout: float | None = None, in_worker: bool = False) -> T:
        """Call ``fn(guest)`` on the leader, commit, and give what it returned; roll back whatever it raises.

        With `in_worker`, `fn` runs in the process where the guest is; see `read`.

        `timeout` bounds waiting for the leader and running, in seconds from now on; a write that isn't done by then is rolled
        back. Writers are served first come, first served. Raises `PoolTimeoutError`, `GuestTimeoutError`, `PoolClosedError`,
        `NestedTransactionError`, `NotReplicableError` or `StateError` for a state that can't be carried to replicas (rolled
        back), and whatever `fn` raises.

        Hazard: a trap, an exit or a host function's exception that ends a guest call leaves half of what the call does, and a
        write that catches it and returns commits that half.
        """
        if in_worker or type(fn) is not FunctionType or fn.__code__.co_flags & LATER:
            fn = runnable(fn, in_worker=in_worker)
        with _Writing(self, timeout) as guest:
            result: T = fn(guest)
            if type(result) in UNFINISHED:
                refuse_unfinished(result, fn)
            return result

    def reading(self, *, timeout: float | None = None) -> AbstractContextManager[Guest]:
        """Open a read as a context manager that gives the guest handle; see `read`."""
        return _Reading(self, self._core.limit(timeout))

    def writing(self, *, timeout: float | None = None) -> AbstractContextManager[Guest]:
        """Open a write as a context manager: commit on leaving, roll back on an exception; see `write`."""
        return _Writing(self, timeout)

    def pin(self, *, timeout: float | None = None) -> PinnedRead:
        """Open a read that lasts, and isn't this thread's transaction: between its steps the thread may use the pool.

        ::

            with pool.pin() as read:
                first = read.run(lambda guest: guest.call("next"))
                pool.write(lambda guest: guest.call("put", first))
                read.run(lambda guest: guest.call("next"))  # at the version it began with

        It has a replica for itself, and while it lasts the pool makes another one if reads need it: 256 may be pinned at once.
        `timeout` bounds the seconds that it takes, waiting for a replica and in all its steps; what passes between them doesn't
        count. Raises what `read` raises, and `PoolError` when too many are pinned.
        """
        core = self._core
        limit = Limit(core.engine, timeout)
        core.check_pin()
        asking = Asking()
        try:
            slot = self._take_replica(asking.waiter, limit)
            core.event(core.state.pin, slot)
            return PinnedRead(core, slot, core.start_read(slot, limit), limit)
        except BaseException:
            core.abandon(asking)
            raise

    # -- the rest ------------------------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """The name that messages and statistics use."""
        return self._core.name

    @property
    def version(self) -> int:
        """The number of commits so far."""
        return self._core.state.version

    @property
    def replicas(self) -> int:
        """The number of replicas the pool keeps."""
        return self._core.state.size

    def resize(self, replicas: int) -> None:
        """Keep that many replicas from now on: more at once, fewer as running reads end."""
        self._core.resize(replicas)
        self._servers.refresh()

    def stats(self) -> PoolStats:
        """Give what the pool has done and what it costs."""
        return self._core.stats()

    def snapshot(self, *, timeout: float | None = None) -> Snapshot:
        """Copy the newest committed state out as a portable value; writes go on meanwhile, up to their commit."""
        with _Sharing(self, timeout):
            return self._core.snapshot()

    def branch(self, *, name: str | None = None, timeout: float | None = None) -> Pool:
        """Open a pool of its own whose version 0 is this one's newest committed state, for writes that must not count here.

        Costs a copy of the guest's pages that aren't zeros. What host functions do outside the guest is shared by both.
        """
        with _Sharing(self, timeout):
            return Pool(self._core.branch(name))

    def close(self) -> None:
        """Refuse new transactions and free the guests; transactions that are running end undisturbed first.

        Those that wait get `PoolClosedError`. Closing twice is fine.
        """
        self._core.close()
        self._servers.close()

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __repr__(self) -> str:
        core = self._core
        if core.state.closed:
            return f"<Pool {core.name!r}, closed>"
        return f"<Pool {core.name!r} version={core.state.version} {core.situation()}>"

    # -- waiting -------------------------------------------------------------------------------------------------------

    def _await(self, waiter: ThreadWaiter, limit: Limit | None, what: str) -> None:
        """Wait until the ticket is granted; raise `PoolTimeoutError` or `PoolClosedError`."""
        core = self._core
        while not waiter.granted:
            woken = waiter.wait(None if limit is None else limit.remaining)
            if waiter.closed:
                raise PoolClosedError(f"pool {core.name!r} was closed while waiting for {what}")
            if not waiter.granted and not woken and limit is not None:
                raise PoolTimeoutError(
                    f"{what} of pool {core.name!r} wasn't free within {limit.seconds} s; {core.situation()}"
                )

    def _take_replica(self, waiter: ThreadWaiter, limit: Limit | None) -> Slot:
        core = self._core
        slot: Slot | None = core.event(core.state.read_wanted, waiter)
        while slot is None:
            left = None if limit is None else limit.remaining
            if waiter.first:
                waiter.wait(_WATCH_SECONDS if left is None else min(left, _WATCH_SECONDS))
            else:
                waiter.wait(left)
            slot = core.event(self._look, waiter)
            if slot is None and limit is not None and limit.remaining == 0:
                raise core.no_replica(limit)
        return slot

    def _look(self, waiter: ThreadWaiter) -> Slot | None:
        if waiter.slot is None and waiter.closed:
            raise PoolClosedError(f"pool {self._core.name!r} was closed while waiting for a replica")
        return self._core.state.claim(waiter) if waiter.slot is None and waiter.first else waiter.slot


# Each transaction frees what it has, whatever interrupts its beginning or its end: `abandon` finds nothing to do after an end
# that was whole. Nothing can come between a ``with`` and the first instruction in it.


class _Reading:
    """Be one read transaction.

    With `since`, a time, it's for somebody who has entered and has waited since then. Without `waits` it has no guest if no
    replica is idle.
    """

    __slots__ = ("_limit", "_pool", "_since", "_waits", "owner", "slot", "waiter")

    def __init__(self, pool: Pool, limit: Limit | None, *, since: float | None = None, waits: bool = True) -> None:
        self._pool = pool
        self._limit = limit
        self._since = since
        self._waits = waits
        self.owner: Hashable = None
        self.slot: Slot | None = None
        self.waiter: ThreadWaiter | None = None

    def __enter__(self) -> Guest:
        core, limit = self._pool._core, self._limit
        try:
            if self._since is None:
                self.owner = current_owner()
                slot = core.enter_read(self.owner, self)
                if slot is None and not self._waits:
                    return cast(Guest, None)
            else:
                core.check_usable()
                slot = None
            if slot is None:
                since = self._since or time.monotonic()
                self.waiter = ThreadWaiter()
                slot = self._pool._take_replica(self.waiter, limit)
                slot.holder = self
                core.waited("read", since)
            self.slot = slot
            return core.start_read(slot, limit)
        except BaseException:
            core.abandon(self)
            raise

    @deaf_entry
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> Literal[False]:
        try:
            core = self._pool._core
            if self.slot is None:
                core.leave(self.owner)
            else:
                core.end_read(self.slot, failed=error is not None, owner=self.owner)
                # A thread that serves others would hold them up.
                if core.state.passed and self._since is None:
                    core.rest()
        except BaseException:
            self._pool._core.abandon(self)
            raise
        return False


class _Writing:
    """Be one write transaction."""

    __slots__ = ("_limit", "_owner", "_pool", "_timeout", "waiter")

    def __init__(self, pool: Pool, timeout: float | None) -> None:
        self._pool = pool
        self._timeout = timeout
        self._owner: Hashable = None
        self.waiter: ThreadWaiter | None = None

    def __enter__(self) -> Guest:
        pool, core = self._pool, self._pool._core
        limit = self._limit = core.limit(self._timeout)
        try:
            self._owner = core.enter(self)
            self.waiter = ThreadWaiter()
            if not core.event(core.state.write_wanted, self.waiter):
                began = time.monotonic()
                pool._await(self.waiter, limit, "the leader")
                core.waited("write", began)
            return core.start_write(limit)
        except BaseException:
            core.abandon(self)
            raise

    @deaf_entry
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> Literal[False]:
        try:
            core = self._pool._core
            try:
                if error is None:
                    core.commit(self._limit)
                else:
                    core.roll_back()
            finally:
                core.end_write()
                core.leave(self._owner)
                if core.state.passed:
                    core.rest()
        except BaseException:
            self._pool._core.abandon(self)
            raise
        return False


class _Sharing:
    """Keep the committed state as it is for a while."""

    __slots__ = ("_pool", "_timeout", "waiter")

    def __init__(self, pool: Pool, timeout: float | None) -> None:
        self._pool = pool
        self._timeout = timeout
        self.waiter: ThreadWaiter | None = None

    def __enter__(self) -> None:
        core = self._pool._core
        core.check_usable()
        limit = core.limit(self._timeout)
        try:
            self.waiter = ThreadWaiter()
            if not core.event(core.state.share_wanted, self.waiter):
                self._pool._await(self.waiter, limit, "the committed state")
        except BaseException:
            core.abandon(self)
            raise

    @deaf_entry
    def __exit__(self, *exc_info: object) -> None:
        try:
            core = self._pool._core
            core.event(core.state.share_done, self.waiter)
        except BaseException:
            self._pool._core.abandon(self)
            raise

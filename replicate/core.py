"""What a pool does, whoever waits for it: instances, the image, commit, roll back, restore, statistics.

`Pool` and `AsyncPool` share this; they differ in how they wait. Decisions are `PoolState`'s.
"""

from __future__ import annotations

import itertools
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

import attrs

from replicate.callables import run_whole
from replicate.configuration import Configuration
from replicate.decisions import Call, Dispose, Phase, Read, Slot
from replicate.errors import (
    ConcurrentUseError,
    NestedTransactionError,
    PoolClosedError,
    PoolError,
    PoolForkedError,
    PoolTimeoutError,
)
from replicate.handles import Guest
from replicate.interfaces import Instance
from replicate.limits import Limit, ticker
from replicate.linking import check_state
from replicate.memory import CopyCost
from replicate.options import check_option
from replicate.owners import current_owner
from replicate.pool_state import MAX_PINNED, PoolState
from replicate.signals import deaf_entry
from replicate.snapshot import Snapshot
from replicate.stats import PoolStats
from replicate.waiting import Asking, ThreadWaiter, Transaction, Waiter

__all__ = ["PoolCore"]

T = TypeVar("T")
_branch_numbers = itertools.count(1)
_REST_SECONDS = 0.001
"""How long who ends a transaction rests at most, for one that is passed."""
_forks = 0
"""How many forks there are between this process and the first that imported this."""


def _after_fork() -> None:
    global _forks
    _forks += 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def _count_references() -> int:
    """Count the references to what only a dict holds, and a variable: how many that are is the interpreter's business."""
    owners: dict[Hashable, object] = {None: object()}
    transaction: Any = owners.get(None)
    return sys.getrefcount(transaction)


_HELD_BY_NOBODY = _count_references()


class PoolCore:
    """Own a leader, its replicas and their committed state."""

    def __init__(self, config: Configuration, start: Callable[[Instance], Any]) -> None:
        """Make a leader, have `start` prepare it, and take its state as version 0."""
        self.config = config
        self.name = config.name
        self.engine = config.engine
        self.checks = config.linkage.checks
        self._resets = config.reset == "each_read"
        self._forks = _forks
        self.lock = threading.Lock()
        self.keeping = threading.Lock()
        """Held while instances that others use are looked at, and while one is closed."""
        self.owners: dict[Hashable, object] = {}
        """Who has a transaction open, and which."""
        self.orphans: deque[Slot] = deque()
        """Slots of pinned reads that were collected as garbage."""
        self.queued: deque[Any] = deque()
        """Reads that wait for a thread of the pool; see `replicate.serving`."""
        self.instances: dict[int, Instance] = {}
        self.closing: deque[Instance] = deque()
        """Instances to be closed, when no lock is held."""
        self._running_still: list[Instance] = []
        """Those that couldn't be closed because a guest was still running."""
        self.counts = dict.fromkeys(_COUNTERS, 0)
        self.seconds = {"read_wait_seconds": 0.0, "write_wait_seconds": 0.0}
        self.last_commit = CopyCost()
        self.largest_commit = CopyCost()
        leader = config.create()
        image = None
        try:
            image = self.image = config.make_image(leader)
            start(leader)
            image.open(leader)
        except BaseException:
            leader.close()
            if image is not None:
                image.close()
            raise
        self._retire_guest(leader)
        self.leader: Instance | None = leader
        self._leader_is_sound = True
        """The leader is equal to the committed state: no write has begun since, or the last one's end was whole."""
        self.state = PoolState(config.replicas, keep=config.keep)
        try:
            self._make_replicas(config.keep)
        except BaseException:
            self.close()
            self.image.close()
            raise

    def _make_replicas(self, count: int) -> None:
        slots = [slot for slot in (self.state.read_now() for _ in range(count)) if slot is not None]
        started = []
        try:
            for slot in slots:
                self.start_read(slot)
                started.append(slot)
        finally:
            for slot in started:
                self.end_read(slot, failed=False, counted=False)

    def branch(self, name: str | None) -> PoolCore:
        """Open a pool whose version 0 is this one's committed state; the caller shares the image."""
        config = attrs.evolve(self.config, name=name or f"{self.name}-branch-{next(_branch_numbers)}")
        return PoolCore(config, self.image.restore)

    # -- entering and leaving ------------------------------------------------------------------------------------------

    def check_usable(self) -> None:
        """Raise `PoolForkedError` in a forked child, and `PoolClosedError` after `close`."""
        self.check_process()
        if self.state.closed:
            raise PoolClosedError(f"pool {self.name!r} is closed; open a new one")

    @property
    def is_forked(self) -> bool:
        """Tell whether this is a forked child, where the pool is dead, and its locks may be held by nobody."""
        return _forks != self._forks

    def check_process(self) -> None:
        """Raise `PoolForkedError` in a forked child."""
        if _forks != self._forks:
            raise PoolForkedError(
                f"pool {self.name!r} was opened before os.fork() and is dead in the child: open a pool after forking"
            )
        while self.orphans:
            try:
                slot = self.orphans.popleft()
            except IndexError:
                return
            self.end_read(slot, failed=False, dirty=True)

    def enter(self, transaction: object = None) -> Hashable:
        """Note that this thread or task opens a transaction; raise `NestedTransactionError` if it has one open."""
        self.check_usable()
        owner = current_owner()
        if owner in self.owners:
            self._end_orphan(owner)
        with self.lock:
            self._enter(owner, transaction)
        return owner

    def _end_orphan(self, owner: Hashable) -> None:
        """End a transaction whose ``with`` is gone: nobody holds it any more but its pool.

        Python 3.10 looks for signals between an exception and the ``with`` that it leaves, and so does the code of
        `contextlib.ExitStack` around its entries, so that a transaction's end may not be reached.
        """
        transaction: Any = self.owners.get(owner)
        if transaction is None:
            return
        with self.lock:
            slots = len(self.state.held(transaction))
        if sys.getrefcount(transaction) <= slots + _HELD_BY_NOBODY:
            self.abandon(transaction)

    def _enter(self, owner: Hashable, transaction: object) -> None:
        if owner in self.owners:
            raise NestedTransactionError(
                f"this thread or task is already inside a transaction of pool {self.name!r}: use its guest handle, "
                "or finish it first"
            )
        self.owners[owner] = transaction

    def enter_read(self, owner: Hashable, transaction: Transaction) -> Slot | None:
        """Do `enter` and take a replica if one is free, both under one lock."""
        self.check_usable()
        if owner in self.owners:
            self._end_orphan(owner)
        with self.lock:
            self._enter(owner, transaction)
            return self.state.read_now(transaction)

    def enter_thread(self) -> Hashable:
        """Note that this worker thread runs a transaction's callable, for a task that has entered."""
        owner = threading.get_ident()
        with self.lock:
            self.owners[owner] = None
        return owner

    def enter_step(self) -> Hashable:
        """Note that this thread or task goes on with a pinned read; give None if it's inside a transaction anyway."""
        self.check_process()
        owner = current_owner()
        with self.lock:
            if owner in self.owners:
                return None
            self._enter(owner, None)
        return owner

    def check_pin(self) -> None:
        """Raise `NestedTransactionError` inside a transaction, and `PoolError` if as many reads as may be are pinned."""
        self.check_usable()
        owner = current_owner()
        with self.lock:
            if owner in self.owners:
                self._enter(owner, None)
            if self.state.pinned >= MAX_PINNED:
                raise PoolError(
                    f"{MAX_PINNED} reads of pool {self.name!r} are pinned: exhaust or close some of them, streams for instance"
                )

    def leave(self, owner: Hashable) -> None:
        """Note that a transaction has ended."""
        with self.lock:
            self.owners.pop(owner, None)

    def rest(self) -> None:
        """Leave the interpreter lock to who has been passed by too many transactions until it has ended, or for a moment.

        For who has just ended a transaction, has nothing left that could be torn, and isn't an event loop's thread.
        """
        if not self.state.passed:
            return
        asking = Asking()
        try:
            if self.event(self.state.rest_wanted, asking.waiter):
                asking.waiter.wait(_REST_SECONDS)
                self.event(self.state.rest_done, asking.waiter)
        except BaseException:
            self.abandon(asking)
            raise

    def _deliver(self) -> None:
        """Carry out what was decided under the lock; begun again after an exception, it goes on where it was."""
        state = self.state
        while state.decided:
            decision = state.decided[0]
            if isinstance(decision, Dispose):
                number = decision.slot.number
                if number in self.instances:
                    self.closing.append(self.instances[number])
                    del self.instances[number]
            else:
                ticket = decision.ticket
                assert isinstance(ticket, Waiter)
                if isinstance(decision, Read):
                    ticket.slot = decision.slot
                elif not isinstance(decision, Call):
                    ticket.granted = True
                ticket.wake()
            del state.decided[0]
        state.has_decisions = False

    def event(self, act: Callable[..., Any], *args: Any, **named: Any) -> Any:
        """Tell the state machine something, and carry out what it decides."""
        try:
            with self.lock:
                result = act(*args, **named)
                if self.state.has_decisions:
                    self._deliver()
            if self.closing:
                self._close_instances()
        except BaseException:
            self.abandon(None)
            raise
        return result

    @deaf_entry
    def abandon(self, transaction: Transaction | None, *, tries: int = 200) -> None:
        """Free whatever a transaction has, that was torn out of its beginning or its end by an exception.

        A signal handler's can come at any instruction, also in here: then this is begun again. What isn't torn has been given
        back before, so that nothing is left to do. A replica that is, or a leader, isn't trusted any more and closed.
        """
        try:
            self._free(transaction)
        except BaseException:
            if tries:
                self.abandon(transaction, tries=tries - 1)
            raise

    def _free(self, transaction: Transaction | None) -> None:
        if _forks != self._forks:
            return  # the locks may be held by threads that aren't there
        state = self.state
        ticket = None if transaction is None else transaction.waiter
        with self.lock:
            if transaction is not None:
                torn = [slot.number for slot in state.held(transaction) if slot.number in self.instances]
                for number in torn:
                    self.instances[number].guest._kill()
                    self.closing.append(self.instances[number])
                    del self.instances[number]
                if ticket is not None and state.writer is ticket and self.leader is not None:
                    self.leader.guest._kill()
                    self.closing.append(self.leader)
                    self.leader = None
                state.forget(ticket, transaction, committed=self.image.commits != state.version)
                for owner in [owner for owner, has in self.owners.items() if has is transaction]:
                    del self.owners[owner]
            else:
                state.go_on()
            self._deliver()
        self._close_instances()

    # -- replicas ------------------------------------------------------------------------------------------------------

    def start_read(self, slot: Slot, limit: Limit | None = None) -> Guest:
        """Make the slot's instance equal to the committed state if it isn't, and give a handle on it."""
        if slot.phase is Phase.STARTING:
            try:
                self._restore(slot)
            except BaseException:
                self._discard(slot.number)
                self.event(self.state.start_failed, slot)
                raise
            self.event(self.state.started, slot)
        return self._new_guest(self.instances[slot.number], limit)

    def run_read(self, slot: Slot, fn: Callable[[Guest], T], limit: Limit | None) -> T:
        """Do a whole read, for who has entered and got the slot."""
        guest = self.start_read(slot, limit)
        failed = True
        try:
            result = run_whole(fn, guest)
            failed = False
            return result
        finally:
            self.end_read(slot, failed=failed)

    def _restore(self, slot: Slot) -> None:
        instance = self.instances.get(slot.number)
        if instance is not None and instance.is_lost:
            self._discard(slot.number)
            instance = None
        if instance is None:
            instance = self.instances[slot.number] = self.config.create()
            self._count(spawns=1)
        # Under the cheaper rule a replica keeps its private memories, unless a read failed in it.
        cost = self.image.restore(instance, private=slot.dirty or self._resets)
        refreshed = slot.version != self.state.version
        self._count(restores=1, refreshes=refreshed, resets=not refreshed, restored_bytes=cost.bytes)
        adapter = self.config.adapter
        if adapter is not None and self.config.follows:
            self._new_guest(instance)
            try:
                instance.follow(adapter, self.state.version)
            finally:
                self._retire_guest(instance)

    def end_read(
        self, slot: Slot, *, failed: bool, owner: Hashable = None, counted: bool = True, dirty: bool = False
    ) -> None:
        """Take the handle back, free the slot, and note that `owner`'s transaction has ended."""
        instance = self.instances[slot.number]
        interrupted = failed and instance.limit is not None and instance.limit.interrupted
        # What a call that was cut short has left isn't what a read leaves.
        dirty = instance.cut_short is not None or instance.discarded or failed or dirty or self._resets
        dirty = not self._retire_guest(instance) or dirty
        lost = instance.gate.locked() or instance.is_lost
        if lost:
            # Its process has ended, or another thread is still inside, through a handle that was passed on.
            self._discard(slot.number)
        with self.lock:
            counts = self.counts
            if counted:
                counts["reads"] += 1
            if failed:
                counts["failed_reads"] += 1
                counts["interruptions"] += interrupted
            self.owners.pop(owner, None)
            self.state.read_done(slot, dirty=dirty, lost=lost)
            if self.state.has_decisions:
                self._deliver()
        if self.closing:
            self._close_instances()

    def _discard(self, number: int) -> None:
        instance = self.instances.get(number)
        if instance is not None:
            self.closing.append(instance)
            del self.instances[number]
            self._close_instances()

    def _close_instances(self) -> None:
        """Free the instances in `closing`, and those that couldn't be freed earlier.

        A guest that still runs is stopped, and freed later.
        """
        with self.lock:
            while self._running_still:
                self.closing.append(self._running_still[0])
                del self._running_still[0]
        while self.closing:
            with self.keeping:
                if not self.closing:
                    break
                one = self.closing[0]
                try:
                    one.close()
                except ConcurrentUseError:
                    self._running_still.append(one)
                    one.limit = Limit(self.engine, None)
                    one.limit.cancel("this guest's transaction has ended while it was running")
                del self.closing[0]

    # -- the leader ----------------------------------------------------------------------------------------------------

    def start_write(self, limit: Limit | None = None) -> Guest:
        """Give a handle on the leader, making a new one where the last roll back couldn't."""
        if self.leader is not None and self.leader.is_lost:
            self.close_leader()
        if self.leader is None:
            leader = self.config.create()
            try:
                self.image.restore(leader)
            except BaseException:
                leader.close()
                raise
            self.leader = leader
        self._leader_is_sound = False
        return self._new_guest(self.leader, limit)

    def commit(self, limit: Limit | None = None) -> None:
        """Make the leader's state the committed one, or roll it back and raise: when `limit` has run out, for instance.

        Waits, blocking the thread, for reads that are just starting: they look at the image. No read starts meanwhile, and
        none that is running is waited for.
        """
        state, image = self.state, self.image
        before = image.commits
        waiter = ThreadWaiter()
        try:
            if self.leader is None or self.leader.gate.locked():
                raise ConcurrentUseError("the write returned while another thread was still inside its guest")
            if limit is not None:
                limit.check()
            self.leader.limit = None
            check_state(self.checks, self.leader.state)
            small = image.prepare(self.leader)
            if not self.event(state.image_wanted, waiter):
                while not waiter.granted:
                    waiter.wait(None)
            try:
                # Reads may end meanwhile, but their instances are kept until the commit has seen to them.
                with self.keeping:
                    with self.lock:
                        # One that was lost in its read is gone already, before the state is told.
                        found = (self.instances.get(slot.number) for slot in state.running)
                        running = [instance for instance in found if instance is not None]
                    cost = image.commit(self.leader, small, running)
            finally:
                self.event(state.image_done, committed=image.commits != state.version)
        except BaseException:
            if image.commits == before:
                self.roll_back()
            raise
        self._leader_is_sound = True
        with self.lock:
            self.last_commit = cost
            self.largest_commit = max(self.largest_commit, cost, key=lambda cost: cost.bytes)
            self.counts["committed_pages"] += cost.pages
            self.counts["commits"] += 1
            self.counts["committed_bytes"] += cost.bytes

    def roll_back(self) -> None:
        """Make the leader equal to the committed state; where that fails, do without a leader until the next write."""
        leader = self.leader
        interrupted = leader is not None and leader.limit is not None and leader.limit.interrupted
        self._count(rollbacks=1, interruptions=interrupted)
        if leader is None:
            return
        try:
            if leader.gate.locked():
                raise ConcurrentUseError("a call is still running in the leader")
            self.image.restore(leader)
            self._leader_is_sound = True
        except BaseException as error:
            # Half restored is nothing to go on with.
            self.leader = None
            self._retire_guest(leader)
            self.closing.append(leader)
            self._close_instances()
            if not isinstance(error, Exception):
                raise

    def end_write(self) -> None:
        """Take the handle on the leader back, and let the next writer in."""
        leader = self.leader
        if leader is not None:
            self._retire_guest(leader)
            if not self._leader_is_sound or leader.gate.locked() or leader.is_lost or self.state.closed:
                self.close_leader()
        self.event(self.state.write_done, committed=self.image.commits != self.state.version)
        if self.state.closed:
            self.close_leader()

    # -- handles -------------------------------------------------------------------------------------------------------

    def _new_guest(self, instance: Instance, limit: Limit | None = None) -> Guest:
        guest = instance.guest = Guest(instance)
        instance.limit = limit
        if limit is not None:
            ticker.watch(limit)
        return guest

    def _retire_guest(self, instance: Instance) -> bool:
        """Kill the handle and all that hangs on it; tell whether the host-side state is still sound."""
        instance.guest._kill()
        instance.limit = None
        instance.cut_short = None
        instance.discarded = False
        instance.generation += 1
        return instance.settle_state()

    # -- the rest ------------------------------------------------------------------------------------------------------

    def _count(self, **amounts: int) -> None:
        with self.lock:
            for name, amount in amounts.items():
                self.counts[name] += amount

    def waited(self, kind: str, since: float) -> None:
        """Count a wait that began at `since`."""
        with self.lock:
            self.counts[f"{kind}_waits"] += 1
            self.seconds[f"{kind}_wait_seconds"] += time.monotonic() - since

    def limit(self, timeout: float | None) -> Limit | None:
        """Give the limit of a transaction with this timeout, None if it has no bound."""
        return None if timeout is None else Limit(self.engine, timeout)

    def no_replica(self, limit: Limit) -> PoolTimeoutError:
        """Make the error for a read that waited in vain."""
        return PoolTimeoutError(
            f"no replica of pool {self.name!r} was free within {limit.seconds} s; {self.situation()}. "
            "Resize the pool, shorten the reads or wait longer"
        )

    def situation(self) -> str:
        """Describe who has what, for error messages."""
        state = self.state
        idle = sum(slot.phase.value == "idle" for slot in state.slots.values())
        return (
            f"replicas={state.size} idle={idle} readers_waiting={len(state.readers) + len(self.queued)} "
            f"writing={'yes' if state.writer else 'no'} writers_waiting={len(state.writers)}"
        )

    def snapshot(self) -> Snapshot:
        """Copy the committed state out; the caller shares the image."""
        return self.image.to_snapshot()

    def resize(self, replicas: int) -> None:
        """Keep that many replicas."""
        check_option("replicas", replicas)
        self.check_usable()
        self.event(self.state.resize, replicas)

    def stats(self) -> PoolStats:
        """Give the statistics; raise `PoolForkedError` in a forked child."""
        self.check_process()
        with self.lock:
            state = self.state
            phases = [slot.phase.value for slot in state.slots.values()]
            instances = list(self.instances.values())
            figures = PoolStats(
                name=self.name,
                engine=self.engine.version,
                memory_mode=self.image.mode,
                reset=self.config.reset,
                version=state.version,
                replicas=state.size,
                made=len(instances),
                idle=phases.count("idle"),
                reading=len(phases) - phases.count("idle"),
                readers_waiting=len(state.readers) + len(self.queued),
                writers_waiting=len(state.writers),
                writing=state.writer is not None,
                last_commit_pages=self.last_commit.pages,
                last_commit_bytes=self.last_commit.bytes,
                largest_commit_pages=self.largest_commit.pages,
                state_bytes=self.image.size,
                private_memories=tuple(sorted(self.config.private_memories)),
                private_bytes=(),
                read_wait_seconds=self.seconds["read_wait_seconds"],
                write_wait_seconds=self.seconds["write_wait_seconds"],
                **{**self.counts, "restored_bytes": self.counts["restored_bytes"] + self.image.late_bytes},
            )
        private = tuple(self.image.private_bytes(instance) for instance in instances)
        return attrs.evolve(figures, private_bytes=private)

    def close(self) -> None:
        """Refuse new transactions and free everything that none is using; the rest goes as they end.

        In a forked child there's nothing to do: the locks may be held by threads that aren't there.
        """
        if _forks != self._forks:
            return
        with self.lock:
            for ticket in self.state.waiting:
                assert isinstance(ticket, Waiter)
                ticket.closed = True
                ticket.wake()
            self.state.close()
            writing = self.state.writer is not None
            self._deliver()
        self._close_instances()
        if not writing:
            self.close_leader()

    def sweep(self) -> None:
        """Free what couldn't be freed while it was running."""
        self._close_instances()

    def close_leader(self) -> None:
        """Free the leader, once no write is using it."""
        leader, self.leader = self.leader, None
        if leader is not None:
            self.closing.append(leader)
            self._close_instances()


_COUNTERS = (
    "reads",
    "failed_reads",
    "interruptions",
    "refreshes",
    "resets",
    "committed_pages",
    "commits",
    "rollbacks",
    "read_waits",
    "write_waits",
    "restores",
    "restored_bytes",
    "spawns",
    "committed_bytes",
)

"""Every decision of a pool, without threads, time or I/O: who gets which replica, who writes, who may touch the image.

`PoolState` is told what happened and answers with what to do, as a list of decisions for the caller to carry out. All
interleavings of these events are explored by a state machine in the tests; `Pool` and `AsyncPool` only add the waiting.

Who uses the image (the committed state): a *starting* read, which makes its replica equal to it, shares it; a commit has it
for itself, and while it has, no read starts. A read that is running needs no image. So a write never waits for a running
read, nor a read for a running write, only both for the hand-over itself.

Reads aren't served strictly in turn. A thread that has just ended a read and wants the next one may take the idle replica
ahead of those that wait, because waking one of them takes longer than a short query. When a replica comes free, the one
that has waited longest is called to look, and keeps looking now and then; the others sleep until it's their turn. If it
comes too late it's called again after ever more reads, and after it has been overtaken `PATIENCE` times it's handed the
replica itself. So is at once who found the image in a commit's hands: beside a writer that never rests, whoever comes to look
for himself may find the next commit under way, again and again. Writers are served strictly first come, first served.

Who gets the interpreter lock isn't decided here, and a thread that wants it back after a guest call can be kept out by one that
gives it up and retakes it all the time. That shows: transactions pass by, one after the other, while another doesn't end. Then
who ends one is asked to *rest*, for a moment at most, until one that was passed ends. If none does, a rest was in vain, and the
next one comes after twice as many passes.

An exception from a signal handler (see `replicate.signals`) may end any event half-way, and must not tear what it does. So
each step first makes what it needs, and then changes things by plain stores and deletions, the last of which may be a call.
What isn't done yet, `go_on` does; and `forget` frees whatever a transaction has got, since slots know their holder.
"""

from __future__ import annotations

from collections import deque

from replicate.decisions import Call, Commit, Decision, Dispose, Phase, Read, Resume, Share, Slot, Ticket, Write
from replicate.errors import PoolClosedError

__all__ = ["LEAST_PASSES", "MAX_PINNED", "MOST_PASSES", "PATIENCE", "PoolState"]

PATIENCE = 32
"""How many times the read that has waited longest may be overtaken."""
LEAST_PASSES = 96
"""How many transactions may end while another is under way before those that end one rest for its sake."""
MOST_PASSES = 2048
"""How many, where resting doesn't help: beside reads that take long, for instance."""
MAX_PINNED = 256
"""How many reads of a pool may be pinned at once."""
_BACK_OFF = 4
"""How many times more reads end before a reader is called again that came too late."""


# Looking a member up in its class is a call, before Python 3.11.
_IDLE, _STARTING, _READING = Phase


class PoolState:
    """Decide for one pool. Every method is an event; `decisions` gives and forgets what follows from it."""

    def __init__(self, size: int, *, keep: int | None = None) -> None:
        self.keep = 0
        """How many instances stay though they aren't used."""
        self.version = 0
        self.closed = False
        self.slots: dict[int, Slot] = {}
        self.readers: deque[Ticket] = deque()
        self.writers: deque[Ticket] = deque()
        self.sharers: deque[Ticket] = deque()
        self.writer: Ticket | None = None
        self.sharers_in: dict[Ticket, None] = {}
        """Who reads the image now, starting reads apart."""
        self.committer: Ticket | None = None
        """Through whom the writer wants, or has, the image."""
        self.committing = False
        self._numbers = 0
        self.passed = False
        """Whether so many transactions have passed another that who ends one now is to rest."""
        self.passes = LEAST_PASSES
        """How many that are."""
        self.resters: deque[Ticket] = deque()
        self.resuming: dict[Ticket, int] = {}
        """Who has been told to resume and hasn't yet, and how many transactions had ended then."""
        self._ends = 0
        """How many transactions have ended."""
        self._look_at = LEAST_PASSES
        """How many will have when it's time to look whether one is passed; 0 while one is."""
        self._writing_since = 0
        self.has_decisions = False
        """Whether anything was decided that isn't carried out."""
        self.decided: list[Decision] = []
        self.resize(size)
        self.keep = size if keep is None else keep
        self.decisions()

    def decisions(self) -> list[Decision]:
        """Give the decisions since this was last called."""
        decisions, self.decided, self.has_decisions = self.decided, [], False
        return decisions

    @property
    def sharing(self) -> int:
        """Count the starting reads and others that read the image now."""
        return len(self.sharers_in) + sum(slot.phase is _STARTING for slot in self.slots.values())

    @property
    def size(self) -> int:
        """Count the slots that aren't leaving, and aren't pinned."""
        return sum(not (slot.leaving or slot.pinned) for slot in self.slots.values())

    @property
    def pinned(self) -> int:
        """Count the pinned slots."""
        return sum(slot.pinned for slot in self.slots.values())

    @property
    def running(self) -> list[Slot]:
        """List the slots whose read is running, at whatever version it started."""
        return [slot for slot in self.slots.values() if slot.phase is _READING]

    # -- reads ---------------------------------------------------------------------------------------------------------

    def read_now(self, holder: object = None) -> Slot | None:
        """Give `holder` an idle replica if there is one, and nobody who waits has been overtaken too often."""
        if self.closed:
            self._check_open()
        if not self.readers:
            return self._start_one(holder)
        front = self.readers[0]
        if front.overtaken >= PATIENCE:
            return None
        slot = self._start_one(holder)
        if slot is not None:
            front.overtaken += 1
        return slot

    def read_wanted(self, ticket: Ticket) -> Slot | None:
        """Give `ticket` an idle replica at once, or let it wait."""
        slot = self.read_now(ticket)
        if slot is None:
            ticket.first = not self.readers and not ticket.direct
            ticket.blocked = self.committer is not None
            self.readers.append(ticket)
        return slot

    def claim(self, ticket: Ticket) -> Slot | None:
        """Give a ticket that has come to look a replica, or let it wait on."""
        if not self.readers or ticket is not self.readers[0]:
            return None
        slot = self._start_one(ticket)
        if slot is None:
            ticket.overtaken += 1
            ticket.blocked = self.committer is not None
            if ticket.called:
                ticket.called = False
                ticket.left = ticket.misses
                ticket.misses *= _BACK_OFF
            return None
        del self.readers[0]
        self.go_on()
        return slot

    def pin(self, slot: Slot) -> None:
        """Note that the read which has just got this slot is to last: others get another one in its stead until it ends."""
        size = self.size
        slot.pinned = True
        if not self.closed:
            self._fit(size)
            self.go_on()

    def started(self, slot: Slot) -> None:
        """Note that a starting read's replica is equal to the image now."""
        slot.version = self.version
        slot.dirty = False
        slot.phase = _READING
        self.go_on()

    def start_failed(self, slot: Slot) -> None:
        """Note that a starting read's replica couldn't be made; the slot is free, its instance is gone."""
        self._free(slot, version=-1, dirty=False)

    def give_back(self, slot: Slot) -> None:
        """Note that a slot was given to a ticket that doesn't want it any more; nothing was done with it."""
        self._free(slot, version=slot.version, dirty=slot.dirty)

    def read_done(self, slot: Slot, *, dirty: bool, lost: bool = False) -> None:
        """Note that a read has ended: `dirty` if the replica must be reset, `lost` if its instance is gone."""
        self._free(slot, version=-1 if lost else slot.version, dirty=dirty and not lost)

    def _free(self, slot: Slot, *, version: int, dirty: bool) -> None:
        slot.version, slot.dirty, slot.holder, slot.phase = version, dirty, None, _IDLE
        self._ends += 1
        if self._ends >= self._look_at:
            self._look_round(slot.since)
        if self.readers and self.readers[0].left:
            self.readers[0].left -= 1
        if slot.leaving or slot.pinned:
            self._tidy(slot)
        self.go_on()

    def _tidy(self, slot: Slot) -> None:
        """Take a free slot away that's there too many, or that another was there for."""
        if slot.leaving:
            self._remove(slot)
        elif slot.pinned:
            size = self.size
            slot.pinned = False
            self._fit(size)

    def _start_one(self, holder: object) -> Slot | None:
        """Start a read on the idle slot that `_best` gives, if there's one."""
        slot = self._best()
        if slot is not None:
            slot.phase = _READING if slot.version == self.version and not slot.dirty else _STARTING
            slot.holder, slot.since = holder, self._ends
        return slot

    def _best(self) -> Slot | None:
        """Give the idle slot that needs least work before a read, if the image's users allow it.

        One that's at the newest version needs none, one that has an instance less than one that hasn't.
        """
        if self.committing:
            return None
        best: Slot | None = None
        version = self.version
        for slot in self.slots.values():
            if slot.phase is _IDLE:
                if slot.version == version and not slot.dirty:
                    return slot
                if best is None or (best.version < 0 <= slot.version):
                    best = slot
        return None if self.committer is not None else best

    # -- writes --------------------------------------------------------------------------------------------------------

    def write_wanted(self, ticket: Ticket) -> bool:
        """Give `ticket` the leader at once, or let it wait its turn."""
        self._check_open()
        if self.writer is None and not self.writers:
            self.writer, self._writing_since = ticket, self._ends
            return True
        self.writers.append(ticket)
        return False

    def image_wanted(self, ticket: Ticket) -> bool:
        """Give the writer the image for itself at once, or through `ticket` when those who read it have done."""
        assert self.writer is not None
        free = not self.sharing
        self.committer, self.committing = ticket, free
        return free

    def image_done(self, *, committed: bool) -> None:
        """Note that the writer is done with the image; `committed` makes what's in it the next version."""
        self.committing, self.committer = False, None
        self.version += committed
        if committed:
            self._shed()
        if self.readers and self.readers[0].called:
            # It's awake, but hasn't been let look during a whole commit.
            self.readers[0].blocked = True
        self.go_on()

    def _shed(self) -> None:
        """Give instances up that no read has used since the commit before: they'd have to be refreshed for nothing."""
        made = [slot for slot in self.slots.values() if slot.version >= 0 and not slot.pinned]
        unused = [slot for slot in made if slot.phase is _IDLE and slot.version < self.version - 1]
        for slot in unused[: max(len(made) - self.keep, 0)]:
            decision = Dispose(slot)
            slot.version, slot.dirty, self.has_decisions = -1, False, True
            self.decided.append(decision)

    def write_done(self, *, committed: bool = False) -> None:
        """Note that the writer has left the leader; `committed` says that nobody could tell `image_done` so."""
        self.writer, self.committer, self.committing = None, None, False
        self.version += committed
        self._ends += 1
        if self._ends >= self._look_at:
            self._look_round(self._writing_since)
        self.go_on()

    # -- letting others pass -------------------------------------------------------------------------------------------

    def _look_round(self, since: int) -> None:
        """Look whether one that's under way is passed, or whether what has just ended, after beginning at `since`, was.

        Looking takes a while where there are many replicas, and is done once in `passes` ends.
        """
        if self.passed:
            if self._ends - since >= self.passes:
                self._end_rest(max(self.passes // 2, LEAST_PASSES))
            return
        begun = [slot.since for slot in self.slots.values() if slot.phase is not _IDLE and not slot.pinned]
        begun.extend(self.resuming.values())
        if self.writer is not None:
            begun.append(self._writing_since)
        self.passed = bool(begun) and self._ends - min(begun) >= self.passes
        self._look_at = 0 if self.passed else self._ends + self.passes

    def _end_rest(self, passes: int) -> None:
        self.passes = passes
        self._look_at = self._ends + passes
        self.passed = False

    def rest_wanted(self, ticket: Ticket) -> bool:
        """Let one who has just ended a transaction rest for a moment, if another is passed."""
        if self.passed and not self.closed:
            self.resters.append(ticket)
            return True
        return False

    def rest_done(self, ticket: Ticket) -> None:
        """Note that a ticket goes on; one that hasn't been told to has rested in vain."""
        if ticket in self.resuming:
            since = self.resuming[ticket]
            del self.resuming[ticket]
            if self.passed:
                self._look_round(since)
        elif ticket in self.resters:
            self.resters.remove(ticket)
            if self.passed:
                self._end_rest(min(self.passes * 2, MOST_PASSES))
        self.go_on()

    # -- the rest ------------------------------------------------------------------------------------------------------

    def share_wanted(self, ticket: Ticket) -> bool:
        """Let `ticket` read the image at once, or after the commit that is under way."""
        self._check_open()
        if self.committer is None:
            self.sharers_in[ticket] = None
            return True
        self.sharers.append(ticket)
        return False

    def share_done(self, ticket: Ticket) -> None:
        """Note that a `share_wanted` ticket has finished."""
        self.sharers_in.pop(ticket, None)
        self.go_on()

    def cancelled(self, ticket: Ticket) -> None:
        """Forget a ticket that has given up waiting."""
        for queue in (self.readers, self.writers, self.sharers, self.resters):
            if ticket in queue:
                queue.remove(ticket)
        self.resuming.pop(ticket, None)
        self.go_on()

    def held(self, *holders: object) -> list[Slot]:
        """List the slots that these tickets or transactions have got."""
        return [slot for slot in self.slots.values() if any(slot.holder is one for one in holders if one is not None)]

    def forget(self, ticket: Ticket | None, transaction: object, *, committed: bool) -> None:
        """Free whatever a transaction and its ticket have got, and take them out of every queue; again does no harm.

        A replica that the transaction had is gone; `committed` says that the image has changed and nobody was told.
        """
        for slot in self.held(transaction):
            self._free(slot, version=-1, dirty=False)
        if ticket is not None:
            for slot in self.held(ticket):
                self.give_back(slot)
            if self.writer is ticket:
                self.write_done(committed=committed)
            self.share_done(ticket)
            self.cancelled(ticket)
        for slot in [slot for slot in self.slots.values() if slot.phase is _IDLE]:
            self._tidy(slot)
        self.go_on()

    def resize(self, size: int) -> None:
        """Have `size` slots: more at once, fewer as reads end."""
        self._check_open()
        self.keep = size if self.keep >= self.size else min(self.keep, size)
        self._fit(size)
        self.go_on()

    def _fit(self, size: int) -> None:
        """Make new slots, or have the least useful ones leave."""
        while self.size < size:
            leaving = next((slot for slot in self.slots.values() if slot.leaving and not slot.pinned), None)
            if leaving is not None:
                leaving.leaving = False
                continue
            self.slots[self._numbers] = Slot(self._numbers)
            self._numbers += 1
        surplus = self.size - size
        by_use = sorted(self.slots.values(), key=lambda slot: (slot.phase is not _IDLE, slot.version, not slot.dirty))
        for slot in [slot for slot in by_use if not (slot.leaving or slot.pinned)][: max(surplus, 0)]:
            slot.leaving = True
            if slot.phase is _IDLE:
                self._remove(slot)

    @property
    def waiting(self) -> list[Ticket]:
        """List the tickets that wait for anything."""
        return [*self.readers, *self.writers, *self.sharers]

    def close(self) -> None:
        """Refuse what comes from now on, and forget those that wait, who have been told."""
        self.closed = True
        for queue in (self.readers, self.writers, self.sharers):
            queue.clear()
        for slot in list(self.slots.values()):
            slot.leaving = True
            if slot.phase is _IDLE:
                self._remove(slot)

    def _remove(self, slot: Slot) -> None:
        decision = Dispose(slot)
        del self.slots[slot.number]
        self.has_decisions = True
        self.decided.append(decision)

    def _check_open(self) -> None:
        if self.closed:
            raise PoolClosedError("this pool is closed")

    @staticmethod
    def _is_due(front: Ticket) -> bool:
        """Tell whether who has waited longest is handed a replica, instead of being called to claim one."""
        return front.direct or front.blocked or front.overtaken >= PATIENCE

    def go_on(self) -> None:
        """Let everybody go on who can; again does no harm."""
        if not (self.readers or self.writers or self.sharers or self.resters or self.committer is not None):
            return
        decision: Decision
        if self.committer is not None and not self.committing and not self.sharing:
            decision = Commit(self.committer)
            self.committing = self.has_decisions = True
            self.decided.append(decision)
        while self.sharers and self.committer is None:
            ticket = self.sharers[0]
            decision = Share(ticket)
            del self.sharers[0]
            self.sharers_in[ticket], self.has_decisions = None, True
            self.decided.append(decision)
        if self.writer is None and self.writers:
            decision = Write(self.writers[0])
            self.writer, self._writing_since, self.has_decisions = decision.ticket, self._ends, True
            del self.writers[0]
            self.decided.append(decision)
        while self.resters and not self.passed:
            ticket = self.resters[0]
            decision = Resume(ticket)
            del self.resters[0]
            self.resuming[ticket], self.has_decisions = self._ends, True
            self.decided.append(decision)
        while self.readers and self._is_due(self.readers[0]):
            slot = self._best()
            if slot is None:
                return
            decision = Read(self.readers[0], slot)
            slot.phase = _READING if slot.version == self.version and not slot.dirty else _STARTING
            slot.holder, slot.since, self.has_decisions = decision.ticket, self._ends, True
            del self.readers[0]
            self.decided.append(decision)
        if not self.readers:
            return
        front = self.readers[0]
        if not (front.called or front.left or self._is_due(front)) and self._best() is not None:
            decision = Call(front)
            front.first = front.called = self.has_decisions = True
            self.decided.append(decision)

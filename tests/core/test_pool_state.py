"""Every interleaving of a pool's events: the pure state machine against what it promises."""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from replicate.decisions import Call, Commit, Dispose, Phase, Read, Resume, Share, Slot, Ticket, Write
from replicate.errors import PoolClosedError
from replicate.pool_state import LEAST_PASSES, MOST_PASSES, PATIENCE, PoolState


class PoolStateMachine(RuleBasedStateMachine):
    """Play all users of a pool at once, and track by hand what must be true of each."""

    def __init__(self) -> None:
        super().__init__()
        self.state: PoolState
        self.waiting: list[Ticket] = []
        self.called: list[Ticket] = []
        self.looking: set[Ticket] = set()
        self.write_waiting: list[Ticket] = []
        self.share_waiting: list[Ticket] = []
        self.starting: list[Slot] = []
        self.reading: dict[Slot, int] = {}
        self.content: dict[Slot, int] = {}
        self.spoiled: set[Slot] = set()
        self.writer: Ticket | None = None
        self.commit_ticket: Ticket | None = None
        self.has_image = False
        self.shares: list[Ticket] = []
        self.resting: list[Ticket] = []
        self.resumed: list[Ticket] = []
        self.passed_by: dict[object, int] = {}
        """How many transactions have ended since this began, or since others last rested."""
        self.was_passed = False
        self.image = 0
        self.closed = False

    @initialize(size=st.integers(1, 4))
    def open(self, size: int) -> None:
        self.state = PoolState(size)
        self.size = size

    def settle(self) -> None:
        """Carry out decisions as the pool does."""
        if self.was_passed and not self.state.passed:
            self.passed_by = dict.fromkeys(self.passed_by, 0)
        self.was_passed = self.state.passed
        for decision in self.state.decisions():
            if isinstance(decision, Read):
                assert decision.ticket in self.waiting
                self.waiting.remove(decision.ticket)
                if decision.ticket in self.called:
                    self.called.remove(decision.ticket)
                self.got(decision.slot)
            elif isinstance(decision, Call):
                assert decision.ticket is self.waiting[0], "who has waited longest is called"
                assert decision.ticket not in self.called
                self.called.append(decision.ticket)
                self.looking.add(decision.ticket)
            elif isinstance(decision, Write):
                assert self.writer is None
                assert decision.ticket is self.write_waiting.pop(0), "writers are served in turn"
                self.writer = decision.ticket
                self.passed_by[self.writer] = 0
            elif isinstance(decision, Commit):
                assert decision.ticket is self.commit_ticket
                self.take_image()
            elif isinstance(decision, Share):
                self.share_waiting.remove(decision.ticket)
                assert not self.has_image
                self.shares.append(decision.ticket)
            elif isinstance(decision, Resume):
                self.resting.remove(decision.ticket)
                self.resumed.append(decision.ticket)
                self.passed_by[decision.ticket] = 0
            elif isinstance(decision, Dispose):
                assert decision.slot not in self.reading
                assert decision.slot not in self.starting
                self.content.pop(decision.slot, None)

    def got(self, slot: Slot) -> None:
        """A read has this slot: alone, and with the newest state unless it's going to be made so."""
        self.passed_by[slot] = 0
        assert not self.has_image, "no read starts during a hand-over"
        assert slot not in self.reading
        assert slot not in self.starting
        if slot.phase is Phase.STARTING:
            self.starting.append(slot)
        else:
            assert self.content[slot] == self.image, "a read that needs nothing sees the newest version"
            assert slot not in self.spoiled, "and nothing that another read left"
            self.reading[slot] = self.image

    def ended(self, what: object) -> None:
        """Note that a transaction ends."""
        self.passed_by.pop(what, None)
        for other in self.passed_by:
            self.passed_by[other] += 1

    def take_image(self) -> None:
        assert not self.has_image
        assert not self.shares
        assert not self.starting, "nobody looks at the image during a commit"
        self.has_image = True

    @precondition(lambda self: not self.closed)
    @rule(direct=st.booleans())
    def ask_to_read(self, direct: bool) -> None:
        ticket = Ticket(direct=direct)
        slot = self.state.read_wanted(ticket)
        if slot is None:
            self.waiting.append(ticket)
            if ticket.first:
                assert self.waiting == [ticket], "who finds nobody waiting knows that it's the first"
                self.looking.add(ticket)
        else:
            self.got(slot)
        self.settle()

    @precondition(lambda self: any(ticket in self.looking for ticket in self.waiting))
    @rule(data=st.data())
    def look(self, data: Any) -> None:
        """One that was called, or that looks by itself now and then, tries to get a replica."""
        ticket = data.draw(st.sampled_from([ticket for ticket in self.waiting if ticket in self.looking]))
        if ticket in self.called:
            self.called.remove(ticket)
        slot = self.state.claim(ticket)
        if slot is not None:
            self.waiting.remove(ticket)
            self.got(slot)
        self.settle()

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def stop_waiting(self, data: Any) -> None:
        ticket = data.draw(st.sampled_from(self.waiting))
        self.waiting.remove(ticket)
        if ticket in self.called:
            self.called.remove(ticket)
        self.state.cancelled(ticket)
        self.settle()

    @precondition(lambda self: self.starting)
    @rule(data=st.data(), outcome=st.sampled_from(["made", "failed", "not wanted"]))
    def finish_starting(self, data: Any, outcome: str) -> None:
        slot = data.draw(st.sampled_from(self.starting))
        self.starting.remove(slot)
        if outcome != "made":
            self.ended(slot)
        if outcome == "made":
            self.content[slot] = self.image
            self.spoiled.discard(slot)
            self.reading[slot] = self.image
            self.state.started(slot)
        elif outcome == "failed":
            self.content.pop(slot, None)
            self.spoiled.discard(slot)
            self.state.start_failed(slot)
        else:
            self.state.give_back(slot)
        self.settle()

    @precondition(lambda self: self.reading)
    @rule(data=st.data(), dirty=st.booleans(), lost=st.booleans())
    def end_a_read(self, data: Any, dirty: bool, lost: bool) -> None:
        slot = data.draw(st.sampled_from(list(self.reading)))
        assert self.reading.pop(slot) == self.content[slot], "a read keeps its version to the end"
        self.ended(slot)
        if lost:
            self.content.pop(slot)
            self.spoiled.discard(slot)
        elif dirty:
            self.spoiled.add(slot)
        self.state.read_done(slot, dirty=dirty, lost=lost)
        self.settle()

    @precondition(lambda self: self.reading or self.starting)
    @rule(data=st.data())
    def pin_a_read(self, data: Any) -> None:
        slot = data.draw(st.sampled_from([*self.reading, *self.starting]))
        if not slot.pinned:
            self.state.pin(slot)
            self.passed_by.pop(slot)
            self.settle()

    @precondition(lambda self: not self.closed)
    @rule()
    def ask_to_write(self) -> None:
        ticket = Ticket()
        if self.state.write_wanted(ticket):
            assert self.writer is None
            assert not self.write_waiting
            self.writer = ticket
            self.passed_by[ticket] = 0
        else:
            self.write_waiting.append(ticket)
        self.settle()

    @precondition(lambda self: len(self.write_waiting) > 0)
    @rule(data=st.data())
    def stop_waiting_to_write(self, data: Any) -> None:
        ticket = data.draw(st.sampled_from(self.write_waiting))
        self.write_waiting.remove(ticket)
        self.state.cancelled(ticket)
        self.settle()

    @precondition(lambda self: self.writer is not None and self.commit_ticket is None)
    @rule()
    def ask_to_commit(self) -> None:
        self.commit_ticket = Ticket()
        if self.state.image_wanted(self.commit_ticket):
            self.take_image()
        self.settle()

    @precondition(lambda self: self.has_image)
    @rule(committed=st.booleans())
    def finish_commit(self, committed: bool) -> None:
        self.image += committed
        self.has_image = False
        self.commit_ticket = None
        self.state.image_done(committed=committed)
        self.settle()

    @precondition(lambda self: self.writer is not None and not self.has_image)
    @rule()
    def end_a_write(self) -> None:
        self.ended(self.writer)
        self.writer = self.commit_ticket = None
        self.state.write_done()
        self.settle()

    @precondition(lambda self: self.writer is None and not self.closed)
    @rule(times=st.integers(1, 3 * LEAST_PASSES))
    def write_again_and_again(self, times: int) -> None:
        """As `ask_to_write` and `end_a_write` do, by one that doesn't rest."""
        for _ in range(times):
            self.ask_to_write()
            self.end_a_write()

    @precondition(lambda self: self.state.passed and not self.closed)
    @rule()
    def begin_to_rest(self) -> None:
        ticket = Ticket()
        assert self.state.rest_wanted(ticket)
        self.resting.append(ticket)

    @precondition(lambda self: self.resting)
    @rule(data=st.data())
    def rest_in_vain(self, data: Any) -> None:
        ticket = data.draw(st.sampled_from(self.resting))
        self.resting.remove(ticket)
        before = self.state.passes
        self.state.rest_done(ticket)
        assert self.state.passes == min(2 * before, MOST_PASSES)
        self.settle()

    @precondition(lambda self: self.resumed)
    @rule(data=st.data(), whole=st.booleans())
    def go_on_after_a_rest(self, data: Any, whole: bool) -> None:
        ticket = data.draw(st.sampled_from(self.resumed))
        self.resumed.remove(ticket)
        self.passed_by.pop(ticket)
        if whole:
            self.state.rest_done(ticket)
        else:
            self.state.cancelled(ticket)
        self.settle()

    @precondition(lambda self: not self.closed)
    @rule()
    def ask_for_the_image(self) -> None:
        ticket = Ticket()
        if self.state.share_wanted(ticket):
            assert not self.has_image
            self.shares.append(ticket)
        else:
            self.share_waiting.append(ticket)
        self.settle()

    @precondition(lambda self: self.shares)
    @rule()
    def finish_with_the_image(self) -> None:
        self.state.share_done(self.shares.pop())
        self.settle()

    @precondition(lambda self: not self.closed)
    @rule(size=st.integers(1, 5))
    def resize(self, size: int) -> None:
        self.state.resize(size)
        self.size = size
        self.settle()

    @precondition(lambda self: not self.closed)
    @rule(really=st.integers(0, 9))
    def close(self, really: int) -> None:
        if really:
            return
        told = self.state.waiting
        self.state.close()
        assert set(told) == {*self.waiting, *self.write_waiting, *self.share_waiting}
        self.waiting, self.called, self.write_waiting, self.share_waiting = [], [], [], []
        self.closed = True
        for ask in (self.state.read_wanted, self.state.write_wanted, self.state.share_wanted):
            with pytest.raises(PoolClosedError):
                ask(Ticket())
        self.settle()

    @precondition(lambda self: self.closed)
    @rule()
    def stay_closed(self) -> None:
        assert self.state.closed

    @invariant()
    def version_counts_commits(self) -> None:
        if hasattr(self, "state"):
            assert self.state.version == self.image

    @invariant()
    def nobody_sleeps_while_there_is_something_for_them(self) -> None:
        if not hasattr(self, "state") or self.closed:
            return
        free = [slot for slot in self.state.slots.values() if slot.phase is Phase.IDLE]
        if self.waiting:
            first = self.waiting[0]
            assert self.called in ([], [first]), "only who has waited longest is called"
            if first.direct and self.commit_ticket is None:
                assert not free, "a task waits beside an idle replica"
            if not first.direct and self.commit_ticket is None and free:
                assert first in self.looking, "who waits beside an idle replica will look at it"
        if self.write_waiting:
            assert self.writer is not None
        if self.share_waiting:
            assert self.commit_ticket is not None
        if self.commit_ticket is not None and not self.has_image:
            assert self.shares or self.starting

    @invariant()
    def nobody_is_passed_again_and_again_by_those_that_arent_asked_to_rest(self) -> None:
        if not hasattr(self, "state") or self.closed:
            return
        if not self.state.passed:
            assert not self.resting, "who rests is told when there's no more reason to"
            assert all(count < 2 * self.state.passes for count in self.passed_by.values())

    @invariant()
    def replicas_are_where_they_should_be(self) -> None:
        if not hasattr(self, "state"):
            return
        slots = self.state.slots.values()
        assert {slot for slot in slots if slot.phase is Phase.READING} == set(self.reading)
        assert {slot for slot in slots if slot.phase is Phase.STARTING} == set(self.starting)
        assert self.state.sharing == len(self.shares) + len(self.starting)
        if self.closed:
            assert all(slot.phase is not Phase.IDLE for slot in slots)
        else:
            assert self.state.size == self.size, "pinned reads take no place from others, and leave none behind"
            assert all(slot.phase is not Phase.IDLE for slot in slots if slot.pinned)


TestPoolState = PoolStateMachine.TestCase
TestPoolState.settings = settings(max_examples=300, stateful_step_count=60, deadline=None)


def test_a_called_reader_can_be_overtaken_only_so_often() -> None:
    state = PoolState(1)
    slot = state.read_wanted(Ticket())
    assert slot is not None
    patient = Ticket()
    assert state.read_wanted(patient) is None
    state.started(slot)
    for _ in range(PATIENCE):
        state.read_done(slot, dirty=False)
        again = state.read_wanted(Ticket())
        assert again is slot
    state.read_done(slot, dirty=False)
    granted = [decision for decision in state.decisions() if isinstance(decision, Read)]
    assert [decision.ticket for decision in granted] == [patient]


def read_passed_by_writes(state: PoolState, writes: int) -> Slot:
    """Begin a read, and end so many writes meanwhile."""
    slot = state.read_wanted(Ticket())
    assert slot is not None
    for _ in range(writes):
        assert state.write_wanted(Ticket())
        state.write_done()
    return slot


def test_one_that_is_passed_by_many_has_others_rest_until_it_ends() -> None:
    state, resting = PoolState(2), Ticket()
    slot = read_passed_by_writes(state, LEAST_PASSES - 1)
    assert not state.rest_wanted(resting)
    assert state.write_wanted(Ticket())
    state.write_done()
    assert state.rest_wanted(resting)
    state.started(slot)
    assert not state.decisions()
    state.read_done(slot, dirty=False)
    assert [decision.ticket for decision in state.decisions() if isinstance(decision, Resume)] == [resting]
    assert not state.rest_wanted(Ticket())


def test_a_write_that_is_passed_by_reads_has_them_rest_too() -> None:
    state = PoolState(1)
    assert state.write_wanted(Ticket())
    for _ in range(LEAST_PASSES):
        slot = state.read_wanted(Ticket())
        assert slot is not None
        state.read_done(slot, dirty=False)
    assert state.rest_wanted(resting := Ticket())
    state.write_done()
    assert [decision.ticket for decision in state.decisions() if isinstance(decision, Resume)] == [resting]


def test_one_that_was_told_to_go_on_and_is_passed_has_others_rest_in_turn() -> None:
    state, first, second = PoolState(1), Ticket(), Ticket()
    slot = read_passed_by_writes(state, LEAST_PASSES)
    assert state.rest_wanted(first)
    state.read_done(slot, dirty=False)
    for _ in range(LEAST_PASSES):
        slot = state.read_wanted(Ticket())
        assert slot is not None
        state.read_done(slot, dirty=False)
    assert state.rest_wanted(second)
    state.decisions()
    state.rest_done(first)
    assert [decision.ticket for decision in state.decisions() if isinstance(decision, Resume)] == [second]


def test_who_rests_in_vain_does_so_ever_more_rarely() -> None:
    """A read that takes long isn't helped by a rest."""
    state = PoolState(2)
    slot, rests, writes = read_passed_by_writes(state, 0), 0, 100 * MOST_PASSES
    for _ in range(writes):
        assert state.write_wanted(Ticket())
        state.write_done()
        if state.rest_wanted(resting := Ticket()):
            state.rest_done(resting)
            rests += 1
    assert state.passes == MOST_PASSES
    assert rests < writes / MOST_PASSES + 10
    state.read_done(slot, dirty=False)
    while state.passes > LEAST_PASSES:
        slot = read_passed_by_writes(state, 2 * state.passes)
        assert state.passed
        state.read_done(slot, dirty=False)


@pytest.mark.parametrize("pinned", [False, True])
def test_nobody_rests_for_transactions_that_end_nor_for_pinned_reads(pinned: bool) -> None:
    state = PoolState(2)
    if pinned:
        state.pin(read_passed_by_writes(state, 0))
    for _ in range(3 * LEAST_PASSES):
        state.read_done(read_passed_by_writes(state, 3), dirty=True)
        assert not state.passed


def test_the_replica_that_needs_least_work_is_taken() -> None:
    state = PoolState(3)
    first, second = state.read_wanted(Ticket()), state.read_wanted(Ticket())
    assert first is not None
    assert second is not None
    state.started(first)
    state.started(second)
    state.read_done(first, dirty=True)
    state.read_done(second, dirty=False)
    assert state.read_wanted(Ticket()) is second
    assert state.read_wanted(Ticket()) is first


def test_who_was_called_and_let_a_commit_pass_is_handed_a_replica() -> None:
    state, patient = PoolState(1), Ticket()
    slot = state.read_wanted(Ticket())
    assert slot is not None
    state.started(slot)
    assert state.read_wanted(patient) is None
    state.read_done(slot, dirty=False)
    assert [type(each) for each in state.decisions()] == [Call]
    assert state.write_wanted(Ticket())
    assert state.image_wanted(Ticket())
    state.image_done(committed=True)
    [decision] = state.decisions()
    assert isinstance(decision, Read)
    assert decision.ticket is patient


def test_who_found_a_commit_under_way_is_handed_a_replica_at_its_end() -> None:
    """Beside a writer that never rests, whoever was only called would find the next commit under way."""
    state = PoolState(1)
    for _ in range(3):
        writer, waiting, commit = Ticket(), Ticket(), Ticket()
        assert state.write_wanted(writer)
        assert state.image_wanted(commit)
        assert state.read_wanted(waiting) is None
        state.image_done(committed=True)
        [decision] = state.decisions()
        assert isinstance(decision, Read)
        assert decision.ticket is waiting
        state.write_done()
        assert state.write_wanted(again := Ticket())
        assert not state.image_wanted(again), "the next commit waits until the read has started"
        state.started(decision.slot)
        assert [type(each) for each in state.decisions()] == [Commit]
        state.image_done(committed=True)
        state.write_done()
        state.read_done(decision.slot, dirty=True)

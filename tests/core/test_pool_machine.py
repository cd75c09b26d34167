"""Drive a pool and a plain model side by side."""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
import pytest
from drivers import DRIVERS
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from subjects import SUBJECTS

from replicate import Trap


class Stop(Exception):
    """Be raised by a write that changes its mind."""


class PoolMachine(RuleBasedStateMachine):
    """Write, fail to write, read, read and spoil, resize; after each step reads see the model."""

    driver: Any
    subject: Any

    def __init__(self) -> None:
        super().__init__()
        self.pool: Any = None
        self.snapshots: list[Any] = []

    @initialize(replicas=st.integers(1, 3), reset=st.sampled_from(["each_read", "on_commit"]))
    def open(self, replicas: int, reset: str) -> None:
        self.pool = self.driver(self.subject.source, replicas=replicas, reset=reset, **self.subject.options)
        self.reset = reset
        self.model = self.subject.fresh()
        self.version = 0

    def teardown(self) -> None:
        if self.pool is not None:
            self.pool.close()

    @rule(data=st.data(), times=st.integers(0, 4))
    def write(self, data: Any, times: int) -> None:
        calls = [data.draw(self.subject.changes()) for _ in range(times)]
        results = self.pool.write(lambda guest: [guest.call(*call) for call in calls])
        assert [self.subject.apply(self.model, call) for call in calls] == results
        self.version += 1

    @rule(data=st.data())
    def write_call_by_call(self, data: Any) -> None:
        with self.pool.writing() as guest:
            for _ in range(2):
                call = data.draw(self.subject.changes())
                assert self.subject.apply(self.model, call) == guest.call(*call)
            assert self.subject.observe(guest) == self.subject.expect(self.model), "a write sees its own changes"
        self.version += 1

    @rule(data=st.data(), how=st.sampled_from(["trap", "stop", "host", "wrong call"]))
    def fail_to_write(self, data: Any, how: str) -> None:
        calls = [data.draw(self.subject.changes()) for _ in range(2)]

        def attempt(guest: Any) -> None:
            guest.state["attempt"] = [1, 2]
            for call in calls:
                guest.call(*call)
            guest.memory.write(0, b"spoiled")
            if how == "trap":
                guest.call(*self.subject.spoil)
            elif how == "stop":
                raise Stop
            else:
                guest.call(*self.subject.failing[-1 if how == "host" else 0])

        with pytest.raises(Exception) as caught:
            self.pool.write(attempt)
        assert isinstance(caught.value, Trap) or how != "trap"

    @rule(data=st.data())
    def read_and_catch_a_trap(self, data: Any) -> None:
        """What such a read leaves is gone with it under both rules."""
        calls = [data.draw(self.subject.changes()) for _ in range(2)]

        def attempt(guest: Any) -> None:
            for call in (calls[0], self.subject.spoil, calls[1]):
                try:
                    guest.call(*call)
                except Trap:
                    guest.state["attempt"] = "trapped"

        self.pool.read(attempt)

    @rule(data=st.data(), fails=st.booleans())
    def read_and_change(self, data: Any, fails: bool) -> None:
        """What a read changes is gone with it under the strict rule; under the other, only when it fails."""
        if self.reset == "on_commit":
            fails = True
        calls = [data.draw(self.subject.changes()) for _ in range(2)]

        def change(guest: Any) -> None:
            for call in calls:
                guest.call(*call)
            guest.state["left"] = "behind"
            if fails:
                guest.call(*self.subject.spoil)

        if fails:
            with pytest.raises(Trap):
                self.pool.read(change)
        else:
            self.pool.read(change)

    @rule()
    def read_and_grow(self) -> None:
        def grow(guest: Any) -> None:
            guest.memory.grow(1)
            raise Stop

        with pytest.raises(Stop):
            self.pool.read(grow)

    @rule(replicas=st.integers(1, 4))
    def resize(self, replicas: int) -> None:
        self.pool.resize(replicas)
        assert replicas == self.pool.replicas

    @rule(value=st.one_of(st.integers(), st.binary(max_size=8), st.lists(st.text(max_size=3), max_size=3)))
    def keep_host_state(self, value: Any) -> None:
        self.pool.write(lambda guest: guest.state.__setitem__("host", value))
        self.version += 1
        assert value == self.pool.read(lambda guest: guest.state["host"])

    @rule()
    def compare_snapshots(self) -> None:
        snapshot = self.pool.snapshot()
        assert snapshot == type(snapshot).from_bytes(snapshot.to_bytes())
        self.snapshots.append((snapshot, self.version))
        for other, version in self.snapshots:
            assert version != self.version or other == snapshot

    @invariant()
    def reads_see_the_model(self) -> None:
        if self.pool is None:
            return
        assert self.version == self.pool.version
        for _ in range(2):
            with self.pool.reading() as guest:
                assert self.subject.observe(guest) == self.subject.expect(self.model)
                assert "left" not in guest.state
                assert "attempt" not in guest.state
        stats = self.pool.stats()
        assert stats.idle == stats.replicas
        assert stats.version == self.version


@pytest.mark.parametrize("driver", sorted(DRIVERS))
@pytest.mark.parametrize("subject", sorted(SUBJECTS))
def test_a_pool_does_what_its_model_does(driver: str, subject: str) -> None:
    machine = type("Machine", (PoolMachine,), {"driver": DRIVERS[driver], "subject": SUBJECTS[subject]})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=30 if driver == "threads" else 10,
            stateful_step_count=15,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )

"""Snapshots as values, tried in every order: a state machine to subclass, or to run as it is on random modules."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from replicate.imports import Imports
from replicate.interfaces import Engine, Instance, Module
from replicate.registry import load_engine
from replicate.snapshot import Snapshot
from replicate.testing.features import features_of
from replicate.testing.host_writes import HostWrite, host_writes
from replicate.testing.observation import DAMAGES, Damage, damage, observe
from replicate.testing.outcomes import HostLog, perform
from replicate.testing.random_calls import Call, callable_exports, calls
from replicate.testing.random_modules import modules
from replicate.testing.subject import Subject

__all__ = ["SnapshotMachine"]


_WAYS = st.sampled_from([*DAMAGES, "fresh", "other", "rebuilt", "here"])
"""Where a snapshot is restored: on the present instance, damaged so or not at all, or on another."""


class SnapshotMachine(RuleBasedStateMachine):
    """Call, take snapshots, go back to any of them, move between instances; each call does what it does alone.

    The host writes to memories, globals, tables and `state` in between, as users may.

    The model is a lone instance that is never restored: what an instance restored to an earlier snapshot should do is found out
    by starting afresh and repeating the calls that had led there. ::

        class MyMachine(SnapshotMachine):
            module = "guest.wasm"

        TestMine = MyMachine.TestCase

    Without a `module`, each run draws a random one. `skip` names exports that aren't called. The module must be deterministic
    and each call must come to an end.
    """

    module: ClassVar[bytes | str | Path | Module | None] = None
    engine: ClassVar[str | Engine] = "wasmtime"
    skip: ClassVar[Collection[str]] = ()

    def __init__(self) -> None:
        super().__init__()
        self.instance: Instance | None = None
        self.model: Instance | None = None
        self.others: list[Instance] = []
        self.taken: list[tuple[Snapshot, bytes, tuple[Call | HostWrite, ...]]] = []
        self.history: tuple[Call | HostWrite, ...] = ()
        self.log = HostLog()

    def imports(self) -> Imports:
        """Give the module's imports, made afresh for each instance; what is missing gets stand-ins (`default_imports`)."""
        return {}

    @initialize(data=st.data())
    def start(self, data: st.DataObject) -> None:
        """Start the guest, and the model beside it."""
        module, imports = self.module, self.imports
        if module is None:
            engine = load_engine(self.engine) if isinstance(self.engine, str) else self.engine
            drawn = data.draw(modules(features=features_of(engine.traits)), label="module")
            module, imports = drawn.wasm, drawn.imports
        self.subject = Subject.of(module, imports=imports, engine=self.engine)
        info = self.subject.module.info
        names = [name for name in callable_exports(info) if name not in self.skip]
        self.some_calls: st.SearchStrategy[list[Call]] = calls(info, names=names, min_calls=1, max_calls=4)
        self.some_writes = host_writes(references=self.subject.module.engine.traits.reference_values)
        self.instance = self.subject.start(self.log)
        self.model = self.subject.start(self.log)

    @rule(data=st.data())
    def call(self, data: st.DataObject) -> None:
        """Make some calls on the guest and on the model."""
        assert self.instance is not None
        assert self.model is not None
        for call in data.draw(self.some_calls, label="calls"):
            expected, outcome = perform(self.model, call, self.log), perform(self.instance, call, self.log)
            assert expected == outcome, call
            self.history = (*self.history, call)

    @rule(data=st.data())
    def write_from_outside(self, data: st.DataObject) -> None:
        """Change memory, globals, tables and host-side state through handles, on the guest and on the model."""
        assert self.instance is not None
        assert self.model is not None
        write = data.draw(self.some_writes, label="write")
        assert write.apply(self.model) == write.apply(self.instance), write
        self.history = (*self.history, write)

    @rule(how=_WAYS)
    def carry(self, how: Damage | str) -> None:
        """Take the state through a snapshot, and go on as if nothing had happened."""
        assert self.instance is not None
        snapshot = self.instance.snapshot()
        self._restore(snapshot, how)

    @rule()
    def take(self) -> None:
        """Take a snapshot, to be restored at any later time."""
        assert self.instance is not None
        snapshot = self.instance.snapshot()
        assert snapshot == self.instance.snapshot(), "taking a snapshot changed the guest"
        self.taken.append((snapshot, snapshot.to_bytes(), self.history))

    @precondition(lambda self: self.taken)
    @rule(data=st.data(), how=_WAYS)
    def go_back(self, data: st.DataObject, how: Damage | str) -> None:
        """Restore any of the snapshots, earlier or later in the guest's life."""
        at = data.draw(st.integers(0, len(self.taken) - 1), label="snapshot")
        snapshot, _, history = self.taken[at]
        self._restore(snapshot, how)
        self._repeat(history)

    def _restore(self, snapshot: Snapshot, how: Damage | str) -> None:
        assert self.instance is not None
        self.log.take()
        if isinstance(how, Damage):
            damage(self.instance, how)
        elif how == "rebuilt":
            self.instance.rebuild()
        elif how == "other" and self.others:
            self.others.append(self.instance)
            self.instance = self.others.pop(0)
            damage(self.instance, Damage.CONTENT)
        elif how in ("other", "fresh"):
            self.others.append(self.instance)
            self.instance = self.subject.create(self.log)
        self.instance.restore(snapshot)
        assert not self.log.take(), "restoring called the host"

    @precondition(lambda self: self.taken)
    @rule(data=st.data())
    def write_down(self, data: st.DataObject) -> None:
        """Exchange a snapshot for what is read from its bytes."""
        at = data.draw(st.integers(0, len(self.taken) - 1), label="snapshot")
        snapshot, written, history = self.taken[at]
        read = Snapshot.from_bytes(written)
        assert snapshot == read
        assert written == read.to_bytes()
        self.taken[at] = (read, written, history)

    @invariant()
    def the_guest_is_what_the_model_is(self) -> None:
        """Compare the states that the engine shows, and those in snapshots."""
        if self.instance is None or self.model is None:
            return
        differences = observe(self.model).differences(observe(self.instance))
        assert not differences, "\n".join(["alone | restored", *differences])
        assert self.model.snapshot() == self.instance.snapshot()

    @invariant()
    def snapshots_never_change(self) -> None:
        """A snapshot is a value: whatever the guest does since, it stays as it was taken."""
        for snapshot, written, _ in self.taken[-3:]:
            assert snapshot.to_bytes() == written, "a snapshot changed after it was taken"

    def teardown(self) -> None:
        """Free the instances."""
        for instance in (self.instance, self.model, *self.others):
            if instance is not None:
                instance.close()

    def _repeat(self, history: Sequence[Call | HostWrite]) -> None:
        """Make the model from scratch: what the guest is at that point if nothing was ever restored."""
        assert self.model is not None
        self.model.close()
        self.model = self.subject.start(self.log)
        for step in history:
            if isinstance(step, HostWrite):
                step.apply(self.model)
            else:
                perform(self.model, step, self.log)
        self.history = tuple(history)

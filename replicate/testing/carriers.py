"""The ways of carrying a guest's state over from one call to the next, as promised to leave no trace.

A `Carrier` runs a script of calls like a lone instance would, but takes its whole state through a snapshot now and then. Add
one of your own by subclassing it: all that the oracle knows of a carrier is this interface.
"""

from __future__ import annotations

import abc
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from replicate.binary import Prepared
from replicate.errors import GuestInterruptedError, SnapshotError
from replicate.handles import Guest
from replicate.interfaces import Engine, Instance, Module
from replicate.memory_modes import MemoryMode
from replicate.pool import Pool
from replicate.snapshot import Snapshot
from replicate.testing.observation import DAMAGES, Damage, Observation, damage, observe
from replicate.testing.outcomes import HostLog, Outcome, perform
from replicate.testing.random_calls import Call
from replicate.testing.subject import Subject

__all__ = ["CARRIERS", "Carrier", "EngineCarrier", "Lone", "carrier_names"]

_EXTRA_CALLS = 3


class Carrier(abc.ABC):
    """Run one script. `open` comes first, `close` last; in between any number of `carry`, `call` and `observe`."""

    name: ClassVar[str]
    """What users call it by."""
    means: ClassVar[str]
    """How it carries state, for messages."""

    def __init__(self, subject: Subject, seconds: float | None) -> None:
        self.subject = subject
        self.seconds = seconds
        """How long a call may take."""
        self.log = HostLog()

    @abc.abstractmethod
    def open(self) -> None:
        """Start the guest."""

    @abc.abstractmethod
    def carry(self, past: Sequence[Call]) -> Snapshot | None:
        """Take the state through a snapshot and give it; `past` are the calls so far, to be used for making a mess."""

    @abc.abstractmethod
    def call(self, call: Call) -> list[tuple[str, Outcome]]:
        """Make the script's next call, and give what it did wherever it was made, each with a word saying where."""

    @abc.abstractmethod
    def observe(self) -> Observation:
        """Look at the state as it is now."""

    @abc.abstractmethod
    def close(self) -> None:
        """Free everything."""


class Lone(Carrier):
    """Carry nothing: what all others are compared with."""

    name = "lone"
    means = "an instance that nothing is carried to"

    def open(self) -> None:
        self.instance = self.subject.start(self.log)

    def carry(self, past: Sequence[Call]) -> Snapshot | None:
        return self.instance.snapshot()

    def call(self, call: Call) -> list[tuple[str, Outcome]]:
        with self.subject.bounded(self.instance, self.seconds):
            return [("carried", perform(self.instance, call, self.log))]

    def observe(self) -> Observation:
        return observe(self.instance)

    def close(self) -> None:
        if "instance" in self.__dict__:
            self.instance.close()

    def _mess_up(self, instance: Instance, past: Sequence[Call], kind: Damage) -> None:
        """Leave nothing as it was: repeat some calls, then damage what a host can reach."""
        with self.subject.bounded(instance, self.seconds):
            for call in past[-_EXTRA_CALLS:]:
                perform(instance, call, self.log)
        damage(instance, kind)
        self.log.take()

    def _move_to_fresh(self, snapshot: Snapshot) -> None:
        """Go on with an instance that has never run."""
        instance = self.subject.create(self.log)
        try:
            instance.restore(snapshot)
        except BaseException:
            instance.close()
            raise
        self.instance.close()
        self.instance = instance


class SameInstance(Lone):
    """Restore the instance that the snapshot is of, after everything in it has changed."""

    name = "same"
    means = "the same instance, restored from its snapshot after other calls and damage"

    def carry(self, past: Sequence[Call]) -> Snapshot | None:
        snapshot = self.instance.snapshot()
        for kind in DAMAGES:
            self._mess_up(self.instance, past, kind)
            self.instance.restore(snapshot)
        return snapshot


class FreshInstance(Lone):
    """Restore on an instance that has never run, as a pool does for a new replica."""

    name = "fresh"
    means = "a fresh instance, restored from the snapshot"

    def carry(self, past: Sequence[Call]) -> Snapshot | None:
        snapshot = self.instance.snapshot()
        self._move_to_fresh(snapshot)
        return snapshot


class UsedInstance(Lone):
    """Restore on a second instance that has a past of its own; the two take turns."""

    name = "used"
    means = "a second instance with other state, restored from the snapshot"

    def open(self) -> None:
        super().open()
        self.damages = itertools.cycle(DAMAGES)
        self.other = self.subject.start(self.log)

    def carry(self, past: Sequence[Call]) -> Snapshot | None:
        snapshot = self.instance.snapshot()
        self._mess_up(self.other, past, next(self.damages))
        self.other.restore(snapshot)
        self.instance, self.other = self.other, self.instance
        return snapshot

    def close(self) -> None:
        super().close()
        if "other" in self.__dict__:
            self.other.close()


class WrittenDown(FreshInstance):
    """Write the snapshot down and read it back before restoring it."""

    name = "bytes"
    means = "a fresh instance, restored from the snapshot's bytes"

    def carry(self, past: Sequence[Call]) -> Snapshot | None:
        snapshot = self.instance.snapshot()
        written = snapshot.to_bytes()
        read = Snapshot.from_bytes(written)
        if read != snapshot or read.to_bytes() != written:
            raise SnapshotError("a snapshot that was written and read back isn't the same")
        self._move_to_fresh(read)
        return snapshot


class EngineCarrier(FreshInstance):
    """Take the state to another engine and back. Calls run on the first: engines may differ in the bits of a NaN."""

    name = "engine"
    means = "a fresh instance, restored from a snapshot that another engine has restored and taken again"
    other: Subject

    def carry(self, past: Sequence[Call]) -> Snapshot | None:
        snapshot = self.instance.snapshot()
        with self.other.create(self.log) as there:
            there.restore(snapshot)
            back = there.snapshot()
        if back != snapshot or back.to_bytes() != snapshot.to_bytes():
            raise SnapshotError(f"the snapshot that engine {self.other.module.engine.name!r} gives back isn't the same")
        self._move_to_fresh(back)
        return snapshot


class _ChangedMindError(Exception):
    """End a write that has to be rolled back."""


class ThroughPool(Carrier):
    """Make each call as a read on a replica, whose changes have to vanish, and then as a write on the leader."""

    name = "pool"
    means = "a pool: each call read on a replica first, then written on the leader"
    memory: ClassVar[MemoryMode] = "auto"

    def open(self) -> None:
        module = self.subject.module
        imports = self.log.wrap(self.subject.make_imports(), module.info)
        self.pool = Pool.open(
            b"",
            engine=_Compiled(module),
            replicas=1,
            imports=imports,
            memory=self.memory,
            max_memory=self.subject.limits.memory_bytes,
            max_table=self.subject.limits.table_elements,
            name="replicate.testing",
        )
        self.damages = itertools.cycle(DAMAGES)
        self.log.take()

    def carry(self, past: Sequence[Call]) -> Snapshot | None:
        def attempt(guest: Guest) -> None:
            for call in past[-_EXTRA_CALLS:]:
                perform(guest, call, self.log)
            damage(guest._live(), next(self.damages))
            raise _ChangedMindError

        for transaction in (self.pool.read, self.pool.write):
            try:
                transaction(attempt, timeout=self.seconds)
            except (_ChangedMindError, GuestInterruptedError):
                pass
        self.log.take()
        return self.pool.snapshot()

    def call(self, call: Call) -> list[tuple[str, Outcome]]:
        def make(guest: Guest) -> Outcome:
            return perform(guest, call, self.log)

        try:
            read = self.pool.read(make, timeout=self.seconds)
            written = self.pool.write(make, timeout=self.seconds)
        except GuestInterruptedError:
            return [("stopped", Outcome("stopped", None))]
        return [("read", read), ("written", written)]

    def observe(self) -> Observation:
        return self.pool.read(lambda guest: observe(guest._live()))

    def close(self) -> None:
        if "pool" in self.__dict__:
            self.pool.close()


class ThroughCopyingPool(ThroughPool):
    """Be a pool that copies memories whole, as pools do where copy-on-write doesn't work."""

    name = "pool-copy"
    means = "a pool that copies memories whole: each call read on a replica first, then written on the leader"
    memory = "copy"


class _Compiled(Engine):
    """Be the engine of a module, and give that module whatever it is told to compile."""

    def __init__(self, module: Module) -> None:
        self._module = module
        self.name = module.engine.name  # type: ignore[misc]
        self.traits = module.engine.traits  # type: ignore[misc]

    @property
    def version(self) -> str:
        return self._module.engine.version

    def wat_to_wasm(self, text: str) -> bytes:
        return self._module.engine.wat_to_wasm(text)

    def prepare(self, wasm: bytes) -> Prepared:
        return self._module.engine.prepare(wasm)

    def compile_prepared(self, prepared: Prepared) -> Module:
        return self._module.engine.compile_prepared(prepared)

    def compile(self, source: bytes | str | Path) -> Module:
        return self._module

    def tick(self) -> None:
        self._module.engine.tick()


CARRIERS: dict[str, type[Carrier]] = {
    carrier.name: carrier
    for carrier in (SameInstance, UsedInstance, FreshInstance, WrittenDown, ThroughPool, ThroughCopyingPool)
}
"""The carriers that need nothing but the module, by name."""


def carrier_names() -> list[str]:
    """List the carriers that can be asked for."""
    return [*CARRIERS, EngineCarrier.name]

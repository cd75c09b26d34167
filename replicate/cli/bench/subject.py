"""The module that a benchmark is about: its calls, and pools and instances of it."""

from __future__ import annotations

import abc
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import attrs

from replicate import Guest, Instance, Pool, Wasi
from replicate.adapter import ResetRule
from replicate.cli.bench.opening import Placement
from replicate.cli.calls import WrittenCall
from replicate.cli.files import LoadedModule
from replicate.errors import CallError, MissingExportError, NotReplicableError, ReplicateError
from replicate.memory_modes import MemoryMode

__all__ = ["Call", "GuestPages", "Single", "Subject"]

_PAGE = 4096


@attrs.frozen
class Call:
    """Be a call that a transaction makes; a value, so that it can be sent to another process."""

    name: str
    args: tuple[int | float | None, ...]

    def __call__(self, guest: Guest) -> Any:
        return guest.call(self.name, *self.args)


@attrs.frozen
class GuestPages:
    """Be a write that dirties `count` pages of 4 KiB, every second one, leaving each as it is."""

    count: int

    def __call__(self, guest: Guest) -> None:
        memory = guest.memory
        for at in range(0, self.count * 2 * _PAGE, 2 * _PAGE):
            memory.write(at, memory.read(at, 1))


@attrs.frozen
class _Prepare:
    """Make the calls that come before all measuring, then let the memory grow to `size_bytes`, filled."""

    calls: tuple[Call, ...]
    size_bytes: int | None

    def __call__(self, guest: Guest) -> None:
        for call in self.calls:
            call(guest)
        if self.size_bytes is not None and self.size_bytes > guest.memory.size:
            memory, before = guest.memory, guest.memory.size
            memory.grow((self.size_bytes - before) // memory.type.page_size)
            block = b"\x07" * (1 << 20)
            for at in range(before, memory.size, len(block)):
                memory.write(at, block[: memory.size - at])


@attrs.frozen
class Subject:
    """Hold the module, what's called of it, and where its instances run."""

    loaded: LoadedModule
    place: Placement
    read: Call
    write: Call | None
    before: tuple[Call, ...]

    @staticmethod
    def call(written: WrittenCall) -> Call:
        """Take a call over from the command line."""
        return Call(written.name, written.args)

    def open_pool(
        self, replicas: int, rule: ResetRule, *, memory: MemoryMode = "auto", size_bytes: int | None = None
    ) -> Pool:
        """Open a pool whose guest has been prepared and, if it can, has grown to `size_bytes`."""
        return Pool.open(
            self.loaded.wasm,
            replicas=replicas,
            reset=rule,
            memory=memory,
            wasi=Wasi() if self.loaded.uses_wasi else None,
            init=_Prepare(self.before, size_bytes),
            name=self.loaded.name,
            **self.place.opening,
        )

    def open_single(self) -> Single:
        """Make one instance, prepared like the pools' leaders: here or, where that can't be, in a process of its own."""
        if not self.place.here:
            return _Elsewhere(self.open_pool(1, "on_commit"))
        instance = self.loaded.start()
        try:
            _Prepare(self.before, None)(instance.guest)
        except BaseException:
            instance.close()
            raise
        return _Here(instance)

    def check(self) -> None:
        """Try every call twice; raise `ReplicateError` naming the one that can't be measured."""
        tried = [("--call", each, 1) for each in self.before]
        tried += [("--write", self.write, 2)] if self.write is not None else []
        bare = attrs.evolve(self, before=())
        with bare.open_pool(1, "on_commit") as pool:
            for option, call, times in [*tried, ("--read", self.read, 2)]:
                act = pool.read if option == "--read" else pool.write
                try:
                    # More than once, as the rounds do: a call that works only once can't be measured.
                    for _ in range(times):
                        act(call)
                except (CallError, MissingExportError, NotReplicableError) as error:
                    raise ReplicateError(
                        f"{option} {call.name!r} can't be measured: {error}; see 'replicate inspect' for what there is to call"
                    ) from error

    @property
    def memory_bytes(self) -> int:
        """Give the size that the guest's memory has when prepared, 0 without one."""
        if self.loaded.module.default_memory is None:
            return 0
        with self.open_pool(1, "on_commit") as pool:
            size: int = pool.read(lambda guest: guest.memory.size)
            return size

    def can_grow_to(self, size_bytes: int) -> bool:
        """Tell whether the memory's declared limit allows that size."""
        index = self.loaded.module.default_memory
        if index is None:
            return False
        kind = self.loaded.module.info.memories[index]
        most = 1 << 32 if kind.maximum is None else kind.maximum * kind.page_size
        return size_bytes <= most and size_bytes % kind.page_size == 0


class Single(AbstractContextManager["Single"]):
    """Be one instance, without replicas."""

    @abc.abstractmethod
    def caller(self, call: Call) -> Callable[[], Any]:
        """Give what makes a call."""

    @abc.abstractmethod
    def close(self) -> None:
        """Free it."""

    def __exit__(self, *exc_info: object) -> None:
        self.close()


class _Here(Single):
    def __init__(self, instance: Instance) -> None:
        self._instance = instance

    def caller(self, call: Call) -> Callable[[], Any]:
        make, name, args = self._instance.call, call.name, call.args
        return lambda: make(name, *args)

    def close(self) -> None:
        self._instance.close()


class _Elsewhere(Single):
    """Be a pool of one replica that isn't reset: what calls change in it stays, as in one instance."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    def caller(self, call: Call) -> Callable[[], Any]:
        return lambda: self._pool.read(call)

    def close(self) -> None:
        self._pool.close()

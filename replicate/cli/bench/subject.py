"""The module that a benchmark is about: its calls, and pools and instances of it."""

from __future__ import annotations

from typing import Any

import attrs

from replicate import Guest, Instance, Pool, Wasi
from replicate.adapter import ResetRule
from replicate.cli.calls import WrittenCall
from replicate.cli.files import LoadedModule
from replicate.errors import CallError, MissingExportError, ReplicateError
from replicate.memory_modes import MemoryMode

__all__ = ["Call", "GuestPages", "Subject"]

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
    """Hold the module, what's called of it, and how its pools are opened."""

    loaded: LoadedModule
    engine: str
    read: Call
    write: Call | None
    before: tuple[Call, ...]
    opening: dict[str, Any]
    """Options for `Pool.open`, the kind of workers for instance."""

    @staticmethod
    def call(written: WrittenCall) -> Call:
        """Take a call over from the command line."""
        return Call(written.name, written.args)

    def open_pool(
        self,
        replicas: int,
        rule: ResetRule,
        *,
        memory: MemoryMode = "auto",
        size_bytes: int | None = None,
        min_replicas: int | None = None,
    ) -> Pool:
        """Open a pool whose guest has been prepared and, if it can, has grown to `size_bytes`."""
        return Pool.open(
            self.loaded.wasm,
            engine=self.engine,
            replicas=replicas,
            min_replicas=min_replicas,
            reset=rule,
            memory=memory,
            wasi=Wasi() if self.loaded.uses_wasi else None,
            init=_Prepare(self.before, size_bytes),
            name=self.loaded.name,
            **self.opening,
        )

    def open_single(self) -> Instance:
        """Make one instance, prepared like the pools' leaders, with no pool around it."""
        instance = self.loaded.start()
        try:
            _Prepare(self.before, None)(instance.guest)
        except BaseException:
            instance.close()
            raise
        return instance

    def check(self) -> None:
        """Try every call once; raise `ReplicateError` naming the one that can't be measured."""
        with self.loaded.start() as instance:
            tried = [("--call", each) for each in self.before]
            tried += [("--write", self.write)] if self.write is not None else []
            # Twice, as the rounds do: a call that works only once can't be measured.
            for option, each in [*tried, *tried[len(self.before) :], ("--read", self.read), ("--read", self.read)]:
                try:
                    each(instance.guest)
                except (CallError, MissingExportError) as error:
                    raise ReplicateError(
                        f"{option} {each.name!r} can't be measured: {error}; see 'replicate inspect' for what there is to call"
                    ) from error

    @property
    def memory_bytes(self) -> int:
        """Give the size that the guest's memory has when prepared, 0 without one."""
        if self.loaded.module.default_memory is None:
            return 0
        with self.open_single() as instance:
            return instance.guest.memory.size

    def can_grow_to(self, size_bytes: int) -> bool:
        """Tell whether the memory's declared limit allows that size."""
        index = self.loaded.module.default_memory
        if index is None:
            return False
        kind = self.loaded.module.info.memories[index]
        most = 1 << 32 if kind.maximum is None else kind.maximum * kind.page_size
        return size_bytes <= most and size_bytes % kind.page_size == 0

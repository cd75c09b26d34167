"""What a WASI function needs of the guest that calls it; `replicate.Guest` has all of it."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any, Protocol

__all__ = ["STATE_KEY", "Caller", "CallerMemory", "wasi_state"]

STATE_KEY = "wasi"


class CallerMemory(Protocol):
    """Be the guest's memory; anything outside it raises `MemoryAccessError`. Offsets and lengths are bytes."""

    __slots__ = ()

    @property
    def size(self) -> int:
        """Give the size in bytes."""

    def read(self, offset: int, length: int) -> bytes:
        """Copy bytes out."""

    def write(self, offset: int, data: bytes) -> None:
        """Copy bytes in."""

    def unpack(self, layout: str, offset: int) -> tuple[Any, ...]:
        """Read values in a `struct` format."""

    def pack(self, layout: str, offset: int, *values: Any) -> None:
        """Write values in a `struct` format."""


class Caller(Protocol):
    """Be the guest that calls a WASI function, or whose WASI state is looked at."""

    __slots__ = ()

    @property
    def memory(self) -> CallerMemory:
        """Give the guest's memory."""

    @property
    def state(self) -> MutableMapping[str, Any]:
        """Hold plain data that commits, rolls back and replicates with the guest."""

    @property
    def local(self) -> dict[str, Any]:
        """Hold what belongs to this instance alone."""


def wasi_state(caller: Caller) -> dict[str, Any]:
    """Give the guest's WASI state, made empty on first use."""
    state = caller.state
    try:
        found: dict[str, Any] = state[STATE_KEY]
    except KeyError:
        state[STATE_KEY] = {}
        found = state[STATE_KEY]
    return found

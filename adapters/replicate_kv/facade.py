"""A Python face for the key-value guest, for use inside transactions."""

from __future__ import annotations

from typing import TYPE_CHECKING, overload

import attrs

from replicate.errors import AdapterError

if TYPE_CHECKING:
    from replicate.handles import Guest

__all__ = ["KeyValue"]

_NOT_FOUND = -1
_NO_MEMORY = -1
_U32 = 0xFFFF_FFFF


@attrs.define(eq=False)
class KeyValue:
    """Talk to the key-value guest behind `guest`: 64-bit ints by int keys, and bytes by bytes keys.

    It keeps nothing but the handle, so it lives as long as the transaction. Ints may be given signed or unsigned, come
    back signed, and wrap around. ``store[key]`` works for both kinds of keys; the two never meet, 1 isn't ``b"1"``.

    Hazard: every method with a bytes key writes to the guest's memory, reads too: it lends the guest a copy of the key.
    """

    guest: Guest

    def put(self, key: int, value: int) -> int:
        """Store `value` and return the value it replaces, or 0. A guest without memory traps."""
        previous: int = self.guest.call("put", key, value)
        return previous

    def get(self, key: int, *, default: int = 0) -> int:
        """Return the value of `key`, or `default`."""
        value: int = self.guest.call("get", key)
        return value if value or self.guest.call("has", key) else default

    def add(self, key: int, delta: int) -> int:
        """Add `delta` to the value of `key`, 0 if it's absent, and return the sum. A guest without memory traps."""
        total: int = self.guest.call("add", key, delta)
        return total

    def delete(self, key: int) -> bool:
        """Remove `key` and tell whether it was there."""
        return bool(self.guest.call("delete", key))

    def sum(self) -> int:
        """Add up all int values, wrapping around; this reads the whole table."""
        total: int = self.guest.call("sum")
        return total

    def clear(self) -> None:
        """Remove all entries of both kinds. The guest keeps its memory."""
        self.guest.call("clear")

    def put_bytes(self, key: bytes, value: bytes) -> bool:
        """Store a copy of `value` and tell whether `key` is new; raise `AdapterError` when the guest has no memory."""
        at = self._lend(key + value)
        answer: int = self.guest.call("put_bytes", at, len(key), at + len(key), len(value))
        self._take_back(at, len(key) + len(value))
        if answer == _NO_MEMORY:
            raise _no_memory(len(key) + len(value))
        return bool(answer)

    def get_bytes(self, key: bytes) -> bytes | None:
        """Return a copy of the value of `key`, or None."""
        at = self._lend(key)
        span: int = self.guest.call("get_bytes", at, len(key))
        self._take_back(at, len(key))
        return None if span == _NOT_FOUND else self.guest.memory.read(span >> 32 & _U32, span & _U32)

    def delete_bytes(self, key: bytes) -> bool:
        """Remove `key` and tell whether it was there."""
        at = self._lend(key)
        found: int = self.guest.call("delete_bytes", at, len(key))
        self._take_back(at, len(key))
        return bool(found)

    @overload
    def __getitem__(self, key: int) -> int: ...
    @overload
    def __getitem__(self, key: bytes) -> bytes: ...
    def __getitem__(self, key: int | bytes) -> int | bytes:
        if isinstance(key, bytes):
            found = self.get_bytes(key)
            if found is None:
                raise KeyError(key)
            return found
        value: int = self.guest.call("get", key)
        if not value and not self.guest.call("has", key):
            raise KeyError(key)
        return value

    @overload
    def __setitem__(self, key: int, value: int) -> None: ...
    @overload
    def __setitem__(self, key: bytes, value: bytes) -> None: ...
    def __setitem__(self, key: int | bytes, value: int | bytes) -> None:
        if isinstance(key, bytes) and isinstance(value, bytes):
            self.put_bytes(key, value)
        else:
            self.guest.call("put", key, value)  # which says what is wrong with a mixture

    def __delitem__(self, key: int | bytes) -> None:
        if not (self.delete_bytes(key) if isinstance(key, bytes) else self.delete(key)):
            raise KeyError(key)

    def __contains__(self, key: int | bytes) -> bool:
        if isinstance(key, bytes):
            return self.get_bytes(key) is not None
        return bool(self.guest.call("has", key))

    def __len__(self) -> int:
        entries: int = self.guest.call("count")
        return entries

    def _lend(self, data: bytes) -> int:
        # Not given back when the call in between traps: the transaction that rolls back takes it back with the rest.
        at: int = self.guest.call("alloc", len(data)) & _U32
        if not at:
            raise _no_memory(len(data))
        self.guest.memory.write(at, data)
        return at

    def _take_back(self, at: int, length: int) -> None:
        self.guest.call("release", at, length)


def _no_memory(length: int) -> AdapterError:
    return AdapterError(
        f"the key-value guest found no memory for {length} more byte(s); its memory is full or at the limit it was "
        "given: delete entries, or allow it more"
    )

"""Read numbers, names and bytes of a binary, checking every bound.

Whatever the bytes, the only thing a `Cursor` raises is `InvalidModuleError`, and the time and memory it takes are
proportional to the bytes it has been given.
"""

from __future__ import annotations

import re

from replicate.errors import InvalidModuleError

__all__ = ["Cursor"]


class Cursor:
    """Walk through the bytes of `data` from `position` up to `end`.

    Positions count from the start of `data`, so that errors name offsets in the whole module.
    """

    __slots__ = ("data", "end", "position")

    def __init__(self, data: bytes, position: int, end: int) -> None:
        self.data = data
        self.position = position
        self.end = end

    def fail(self, what: str, *, at: int | None = None) -> InvalidModuleError:
        """Return the error to raise for `what` is wrong at the offset `at` (the current one by default)."""
        offset = self.position if at is None else at
        return InvalidModuleError(f"malformed module: {what}, at byte {offset} ({offset:#x})")

    def byte(self) -> int:
        """Read one byte."""
        position = self.position
        if position >= self.end:
            raise self.fail("unexpected end")
        self.position = position + 1
        return self.data[position]

    def peek(self) -> int:
        """Return the next byte without reading it, or -1 at the end."""
        return self.data[self.position] if self.position < self.end else -1

    def flag(self, what: str) -> bool:
        """Read a byte that is 0 or 1; `what` names it in the error otherwise."""
        value = self.byte()
        if value > 1:
            raise self.fail(f"{what} is {value:#x} instead of 0 or 1", at=self.position - 1)
        return value == 1

    def u32(self) -> int:
        """Read an unsigned LEB128 number of 32 bits."""
        position = self.position
        if position < self.end:
            value = self.data[position]
            if value < 0x80:
                self.position = position + 1
                return value
        return self._unsigned(32)

    def u64(self) -> int:
        """Read an unsigned LEB128 number of 64 bits."""
        return self._unsigned(64)

    def s33(self) -> int:
        """Read a signed LEB128 number of 33 bits."""
        return self._signed(33)

    def s32(self) -> int:
        """Read a signed LEB128 number of 32 bits."""
        return self._signed(32)

    def s64(self) -> int:
        """Read a signed LEB128 number of 64 bits."""
        return self._signed(64)

    def u32s(self, count: int) -> list[int]:
        """Read `count` unsigned LEB128 numbers of 32 bits."""
        if count > self.end - self.position:
            raise self.fail(f"{count} numbers announced, more than fit")
        plain = self.data[self.position : self.position + count]
        if plain.isascii():  # every number is below 128, one byte each
            self.position += count
            return list(plain)
        read = self.u32
        return [read() for _ in range(count)]

    def count(self, what: str) -> int:
        """Read how many `what` follow; each takes a byte at least, so that a wild number fails at once."""
        at = self.position
        value = self.u32()
        if value > self.end - self.position:
            raise self.fail(f"{value} {what} announced, more than fit", at=at)
        return value

    def index(self, limit: int, what: str) -> int:
        """Read an index below `limit`; `what` names what it counts."""
        at = self.position
        value = self.u32()
        if value >= limit:
            raise self.fail(f"{what} {value} of only {limit}", at=at)
        return value

    def skip(self, length: int) -> None:
        """Step over `length` bytes."""
        if length > self.end - self.position:
            raise self.fail(f"unexpected end, {length} bytes announced")
        self.position += length

    def skip_match(self, pattern: re.Pattern[bytes], what: str) -> None:
        """Step over the bytes that `pattern` matches here; `what` names them in the error if it doesn't."""
        found = pattern.match(self.data, self.position, self.end)
        if found is None:
            raise self.fail(f"not {what}")
        self.position = found.end()

    def sub(self, length: int) -> Cursor:
        """Return a cursor over the next `length` bytes, and step over them."""
        start = self.position
        self.skip(length)
        return Cursor(self.data, start, self.position)

    def name(self) -> str:
        """Read a name: UTF-8, preceded by its length in bytes."""
        length = self.u32()
        start = self.position
        self.skip(length)
        try:
            return self.data[start : self.position].decode()
        except UnicodeDecodeError as error:
            raise self.fail("a name that isn't UTF-8", at=start + error.start) from error

    def finish(self, what: str) -> None:
        """Check that nothing is left of `what`."""
        if self.position != self.end:
            raise self.fail(f"{self.end - self.position} bytes left over at the end of {what}")

    def _unsigned(self, bits: int) -> int:
        start, value, shift = self.position, 0, 0
        while True:
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
            if shift >= bits:
                raise self.fail(f"a number longer than {bits} bits", at=start)
        if value >> bits:
            raise self.fail(f"a number larger than {bits} bits", at=start)
        return value

    def _signed(self, bits: int) -> int:
        start, value, shift = self.position, 0, 0
        while True:
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
            if shift >= bits:
                raise self.fail(f"a number longer than {bits} bits", at=start)
        if byte & 0x40:
            value -= 1 << shift
        if not -(1 << bits - 1) <= value < 1 << bits - 1:
            raise self.fail(f"a number larger than {bits} bits", at=start)
        return value

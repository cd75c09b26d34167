"""Write numbers, names and vectors as the binary format wants them."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["name", "signed", "unsigned", "vector"]


def unsigned(value: int) -> bytes:
    """Return `value`, which isn't negative, as the shortest unsigned LEB128."""
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def signed(value: int) -> bytes:
    """Return `value` as the shortest signed LEB128."""
    encoded = bytearray()
    while not -0x40 <= value <= 0x3F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value & 0x7F)
    return bytes(encoded)


def name(text: str) -> bytes:
    """Return `text` in UTF-8, preceded by its length in bytes."""
    encoded = text.encode()
    return unsigned(len(encoded)) + encoded


def vector(items: Sequence[bytes]) -> bytes:
    """Return the encoded `items`, preceded by their number."""
    return unsigned(len(items)) + b"".join(items)

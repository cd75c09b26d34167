"""Plain data: the host-side values that can be copied, compared and written down exactly.

None, bool, int, float, str, bytes, and lists, tuples and str-keyed dicts of them, as subclass-free types. Two values that
are equal here have equal encodings, which Python's ``==`` doesn't promise (``1 == True == 1.0``, ``nan != nan``).
"""

from __future__ import annotations

import struct
from typing import Any

from replicate.errors import SnapshotFormatError, StateError

__all__ = ["PLAIN", "copy_plain", "decode_plain", "encode_plain", "is_same_plain"]

_ATOMS = frozenset({type(None), bool, int, float, str, bytes})
_TAGS: dict[type[Any], bytes] = {list: b"L", tuple: b"U", dict: b"M"}
_DEPTH = 100
PLAIN = _ATOMS | _TAGS.keys()
"""The types of plain data; what lists, tuples and dicts hold may still be none."""


def copy_plain(value: Any, *, path: str = "state", depth: int = 0) -> Any:
    """Copy plain data deeply; raise `StateError` naming the first place that isn't plain."""
    kind = type(value)
    if kind in _ATOMS:
        return value
    if depth > _DEPTH:
        raise StateError(f"{path[:200]} is nested more than {_DEPTH} deep, or contains itself")
    if kind is dict:
        for key in value:
            if type(key) is not str:
                raise StateError(f"{path} has the key {key!r:.60}; only str keys can be replicated")
        return {key: copy_plain(item, path=f"{path}[{key!r}]", depth=depth + 1) for key, item in value.items()}
    if kind is list or kind is tuple:
        if kind is tuple and all(type(item) in _ATOMS for item in value):
            return value
        items = [copy_plain(item, path=f"{path}[{at}]", depth=depth + 1) for at, item in enumerate(value)]
        return items if kind is list else tuple(items)
    raise StateError(
        f"{path} is a {kind.__name__}, which can't be replicated: keep None, bool, int, float, str, bytes, "
        "and lists, tuples and dicts of them in guest.state, and other objects in guest.local"
    )


def is_same_plain(one: Any, other: Any) -> bool:
    """Tell whether two values would have the same encoding, where `other` is plain data; what isn't plain is never the same."""
    kind = type(one)
    if kind is not type(other):
        return False
    if kind is float:
        return struct.pack("<d", one) == struct.pack("<d", other)
    if kind in _ATOMS:
        return bool(one == other)
    if kind is dict:
        return len(one) == len(other) and all(key in other and is_same_plain(one[key], other[key]) for key in one)
    if kind is list or kind is tuple:
        return len(one) == len(other) and all(map(is_same_plain, one, other))
    return False


def encode_plain(value: Any, *, path: str = "state", depth: int = 0) -> bytes:
    """Write plain data down; raise `StateError` naming the first place that isn't plain."""
    out = bytearray()
    _encode(value, out, path, depth)
    return bytes(out)


def _encode(value: Any, out: bytearray, path: str, depth: int) -> None:
    kind = type(value)
    if value is None:
        out += b"N"
    elif kind is bool:
        out += b"T" if value else b"F"
    elif kind is int:
        raw = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
        out += b"I" + struct.pack("<Q", len(raw)) + raw
    elif kind is float:
        out += b"D" + struct.pack("<d", value)
    elif kind is str:
        raw = value.encode("utf-8", "surrogatepass")
        out += b"S" + struct.pack("<Q", len(raw)) + raw
    elif kind is bytes:
        out += b"B" + struct.pack("<Q", len(value)) + value
    elif kind in (list, tuple, dict) and depth <= _DEPTH:
        out += _TAGS[kind] + struct.pack("<Q", len(value))
        if kind is dict:
            if any(type(key) is not str for key in value):
                copy_plain(value, path=path)
            for key in sorted(value):
                _encode(key, out, path, depth)
                _encode(value[key], out, f"{path}[{key!r}]", depth + 1)
        else:
            for at, item in enumerate(value):
                _encode(item, out, f"{path}[{at}]", depth + 1)
    else:
        copy_plain(value, path=path, depth=depth)


def decode_plain(data: bytes) -> Any:
    """Read what `encode_plain` wrote; raise `SnapshotFormatError` for anything else."""
    reader = _Reader(data)
    value = reader.value(0)
    if reader.at != len(data):
        raise SnapshotFormatError(f"{len(data) - reader.at} bytes follow the end of the data")
    return value


class _Reader:
    __slots__ = ("at", "data")

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def take(self, length: int) -> bytes:
        if length > len(self.data) - self.at:
            raise SnapshotFormatError(f"the data ends early: {length} bytes are missing at offset {self.at}")
        self.at += length
        return self.data[self.at - length : self.at]

    def length(self) -> int:
        length: int = struct.unpack("<Q", self.take(8))[0]
        return length

    def value(self, depth: int) -> Any:
        if depth > _DEPTH + 1:
            raise SnapshotFormatError("the data is nested too deep")
        tag = self.take(1)
        if tag == b"N":
            return None
        if tag in b"TF":
            return tag == b"T"
        if tag == b"I":
            return int.from_bytes(self.take(self.length()), "little", signed=True)
        if tag == b"D":
            return struct.unpack("<d", self.take(8))[0]
        if tag == b"S":
            try:
                return self.take(self.length()).decode("utf-8", "surrogatepass")
            except UnicodeDecodeError as error:
                raise SnapshotFormatError(f"a string isn't UTF-8: {error}") from error
        if tag == b"B":
            return self.take(self.length())
        if tag in b"LU":
            items = [self.value(depth + 1) for _ in range(self.count())]
            return items if tag == b"L" else tuple(items)
        if tag == b"M":
            mapping = {}
            for _ in range(self.count()):
                key = self.value(depth + 1)
                if type(key) is not str:
                    raise SnapshotFormatError("a mapping has a key that isn't a string")
                mapping[key] = self.value(depth + 1)
            return mapping
        raise SnapshotFormatError(f"unknown tag {tag!r} at offset {self.at - 1}")

    def count(self) -> int:
        count = self.length()
        if count > len(self.data) - self.at:
            raise SnapshotFormatError(f"a collection claims {count} items and the data ends before that")
        return count

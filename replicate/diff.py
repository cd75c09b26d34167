"""What differs between two snapshots of one module, in the terms of the module."""

from __future__ import annotations

import bisect
import math
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import attrs

from replicate.binary import GlobalType, ModuleInfo, SegmentKind
from replicate.binary.module import describe
from replicate.errors import SnapshotMismatchError
from replicate.memory_runs import PAGE, MemoryState
from replicate.plaindata import encode_plain
from replicate.values import bits_to_value

if TYPE_CHECKING:
    from replicate.snapshot import Snapshot

__all__ = [
    "ByteChange",
    "ElementChange",
    "GlobalChange",
    "HostChange",
    "SegmentChange",
    "SizeChange",
    "SnapshotDiff",
    "compare",
]

_BLOCK = 64 * PAGE
_JOINED = 8
_LONG_GAP = re.compile(rb"\0{%d,}" % _JOINED)
_SHOWN_CHARACTERS = 60


@attrs.frozen(kw_only=True)
class SizeChange:
    """Say that a memory (sizes in bytes) or a table (sizes in elements) has grown or shrunk."""

    kind: str
    """``"memory"`` or ``"table"``."""
    index: int
    before: int
    after: int
    label: str | None = None

    def __str__(self) -> str:
        unit = "bytes" if self.kind == "memory" else "elements"
        return f"{describe(self.kind, self.index, self.label)}: {self.before} {unit} -> {self.after} {unit}"


@attrs.frozen(kw_only=True)
class ByteChange:
    """Give the bytes of a memory from `start` up to `end`, as they were and as they are.

    What lies past a memory's end counts as zeros. The first and the last byte differ, and never 8 or more in a row between
    them are equal.
    """

    memory: int
    start: int
    before: bytes = attrs.field(repr=lambda data: f"<{len(data)} bytes>")
    after: bytes = attrs.field(repr=lambda data: f"<{len(data)} bytes>")
    label: str | None = None

    @property
    def end(self) -> int:
        """Give the offset after the last byte."""
        return self.start + len(self.after)

    def __str__(self) -> str:
        return self.spelled(max_bytes=16)

    def spelled(self, *, max_bytes: int) -> str:
        """Describe the change, showing the first `max_bytes` bytes of each side."""
        place = describe("memory", self.memory, self.label)
        dots = " ..." if len(self.after) > max_bytes else ""
        before, after = self.before[:max_bytes].hex(" "), self.after[:max_bytes].hex(" ")
        return f"{place} at {self.start:#x}, {_count(len(self.after), 'byte')}: {before}{dots} -> {after}{dots}"


@attrs.frozen(kw_only=True)
class GlobalChange:
    """Give a global's bit patterns; for a reference the function's index, or None for null."""

    index: int
    before: int | None
    after: int | None
    type: GlobalType | None = None
    """What the module declares, if it was given."""
    label: str | None = None

    def __str__(self) -> str:
        place = describe("global", self.index, self.label)
        return f"{place}: {_spell(self.before, self.type)} -> {_spell(self.after, self.type)}"


@attrs.frozen(kw_only=True)
class ElementChange:
    """Give a table's element: a function's index, or None for null. What lies past a table's end counts as null."""

    table: int
    position: int
    before: int | None
    after: int | None
    label: str | None = None

    def __str__(self) -> str:
        place = describe("table", self.table, self.label)
        return f"element {self.position} of {place}: {_reference(self.before)} -> {_reference(self.after)}"


@attrs.frozen(kw_only=True)
class SegmentChange:
    """Say that a segment is dropped in one snapshot only; `dropped` says whether in the later one."""

    kind: SegmentKind
    index: int
    dropped: bool
    label: str | None = None

    def __str__(self) -> str:
        words = "there -> dropped" if self.dropped else "dropped -> there"
        return f"{describe(f'{self.kind} segment', self.index, self.label)}: {words}"


@attrs.frozen(kw_only=True)
class HostChange:
    """Give a host-side value under its key; each side is a tuple of it, empty where the key is missing."""

    key: str
    before: tuple[Any, ...]
    after: tuple[Any, ...]

    def __str__(self) -> str:
        before, after = (_shortened(side) for side in (self.before, self.after))
        return f"state[{self.key!r}]: {before} -> {after}"


@attrs.frozen(kw_only=True)
class SnapshotDiff:
    """List what differs between two snapshots. True if anything does; ``str()`` spells it, a line each, and cuts long ones."""

    sizes: tuple[SizeChange, ...] = ()
    memory: tuple[ByteChange, ...] = ()
    globals: tuple[GlobalChange, ...] = ()
    elements: tuple[ElementChange, ...] = ()
    segments: tuple[SegmentChange, ...] = ()
    host: tuple[HostChange, ...] = ()

    def __bool__(self) -> bool:
        return any(attrs.astuple(self, recurse=False))

    def lines(self, *, max_lines: int = 20, max_bytes: int = 16) -> Iterator[str]:
        """Describe the changes, at most `max_lines` of each sort, and `max_bytes` of each range of bytes."""
        yield from _limited(map(str, self.sizes), len(self.sizes), max_lines, "size")
        ranges = (change.spelled(max_bytes=max_bytes) for change in self.memory)
        yield from _limited(ranges, len(self.memory), max_lines, "range of bytes")
        yield from _limited(map(str, self.globals), len(self.globals), max_lines, "global")
        yield from _limited(map(str, self.elements), len(self.elements), max_lines, "element")
        yield from _limited(map(str, self.segments), len(self.segments), max_lines, "segment")
        yield from _limited(map(str, self.host), len(self.host), max_lines, "host-side value")

    def __str__(self) -> str:
        return "\n".join(self.lines()) if self else "no difference"


def compare(before: Snapshot, after: Snapshot, *, info: ModuleInfo | None = None) -> SnapshotDiff:
    """Compare two snapshots; see `Snapshot.diff`."""
    if before.module_digest != after.module_digest:
        raise SnapshotMismatchError(
            f"these snapshots are of different modules: {before.module_digest[:16]}... and {after.module_digest[:16]}...; "
            "only snapshots of the same binary can be compared"
        )
    if info is not None and info.digest != before.module_digest:
        raise SnapshotMismatchError(
            f"these snapshots are of module {before.module_digest[:16]}..., not of the given {info.digest[:16]}...; "
            "give the very binary that they were taken of"
        )
    same_parts = (
        len(before.memories) == len(after.memories)
        and [index for index, _ in before.globals] == [index for index, _ in after.globals]
        and [index for index, _ in before.tables] == [index for index, _ in after.tables]
    )
    if not same_parts:
        raise SnapshotMismatchError(
            "these snapshots have different parts, so one isn't of the module it names: it was altered"
        )
    return _Comparison(before, after, info).run()


class _Comparison:
    def __init__(self, before: Snapshot, after: Snapshot, info: ModuleInfo | None) -> None:
        self._before = before
        self._after = after
        self._info = info

    def run(self) -> SnapshotDiff:
        return SnapshotDiff(
            sizes=tuple(self._sizes()),
            memory=tuple(self._memory()),
            globals=tuple(self._globals()),
            elements=tuple(self._elements()),
            segments=tuple(self._segments()),
            host=tuple(self._host()),
        )

    def _label(self, kind: Any, index: int) -> str | None:
        return None if self._info is None else self._info.labels(kind).get(index)

    def _sizes(self) -> Iterator[SizeChange]:
        for index, (old, new) in enumerate(zip(self._before.memories, self._after.memories, strict=True)):
            if old.size != new.size:
                label = self._label("memory", index)
                yield SizeChange(kind="memory", index=index, before=old.size, after=new.size, label=label)
        for (index, one), (_, two) in zip(self._before.tables, self._after.tables, strict=True):
            if len(one) != len(two):
                label = self._label("table", index)
                yield SizeChange(kind="table", index=index, before=len(one), after=len(two), label=label)

    def _memory(self) -> Iterator[ByteChange]:
        for index, (old, new) in enumerate(zip(self._before.memories, self._after.memories, strict=True)):
            if old.runs == new.runs:
                continue
            one, two, label = _Content(old), _Content(new), self._label("memory", index)
            for start, end in _joined(_changed(one, two)):
                before, after = one.read(start, end), two.read(start, end)
                yield ByteChange(memory=index, start=start, before=before, after=after, label=label)

    def _globals(self) -> Iterator[GlobalChange]:
        for (index, old), (_, new) in zip(self._before.globals, self._after.globals, strict=True):
            if old != new:
                type_ = None if self._info is None else self._info.globals[index]
                yield GlobalChange(index=index, before=old, after=new, type=type_, label=self._label("global", index))

    def _elements(self) -> Iterator[ElementChange]:
        for (index, old), (_, new) in zip(self._before.tables, self._after.tables, strict=True):
            if old == new:
                continue
            label = self._label("table", index)
            length = max(len(old), len(new))
            padded = ((*side, *[None] * (length - len(side))) for side in (old, new))
            for position, (one, two) in enumerate(zip(*padded, strict=True)):
                if one != two:
                    yield ElementChange(table=index, position=position, before=one, after=two, label=label)

    def _segments(self) -> Iterator[SegmentChange]:
        dropped = set(self._after.dropped)
        for kind, index in sorted(dropped ^ set(self._before.dropped)):
            known: SegmentKind = "data" if kind == "data" else "element"
            is_dropped = (kind, index) in dropped
            yield SegmentChange(kind=known, index=index, dropped=is_dropped, label=self._label(known, index))

    def _host(self) -> Iterator[HostChange]:
        if self._before.host == self._after.host:
            return
        old, new = self._before.state, self._after.state
        for key in sorted({*old, *new}):
            one, two = (((side[key],) if key in side else ()) for side in (old, new))
            # Python's == takes True for 1, and no NaN for itself.
            if encode_plain(one) != encode_plain(two):
                yield HostChange(key=key, before=one, after=two)


class _Content:
    """Read any range of a memory; what isn't in a run is zero."""

    def __init__(self, memory: MemoryState) -> None:
        self._runs = memory.runs
        self._starts = [start for start, _ in memory.runs]

    def blocks(self) -> set[int]:
        """Number the blocks that have a run in them."""
        return {
            block
            for start, data in self._runs
            for block in range(start // _BLOCK, (start + len(data) - 1) // _BLOCK + 1)
        }

    def read(self, start: int, end: int) -> bytes:
        found = bytearray(end - start)
        at = max(bisect.bisect_right(self._starts, start) - 1, 0)
        for offset, data in self._runs[at:]:
            if offset >= end:
                break
            first, last = max(offset, start), min(offset + len(data), end)
            if first < last:
                found[first - start : last - start] = data[first - offset : last - offset]
        return bytes(found)


def _changed(one: _Content, two: _Content) -> Iterator[tuple[int, int]]:
    """Give the ranges that differ, in order, block by block; equal bytes cost a comparison in C."""
    for block in sorted(one.blocks() | two.blocks()):
        base = block * _BLOCK
        left, right = one.read(base, base + _BLOCK), two.read(base, base + _BLOCK)
        if left == right:
            continue
        mask = (int.from_bytes(left, "little") ^ int.from_bytes(right, "little")).to_bytes(_BLOCK, "little")
        at = _BLOCK - len(mask.lstrip(b"\0"))
        end = len(mask.rstrip(b"\0"))
        for gap in _LONG_GAP.finditer(mask, at, end):
            yield base + at, base + gap.start()
            at = gap.end()
        yield base + at, base + end


def _joined(ranges: Iterator[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Join ranges that nearly touch across a block's boundary."""
    pending: tuple[int, int] | None = None
    for start, end in ranges:
        if pending is not None and start - pending[1] < _JOINED:
            pending = (pending[0], end)
        else:
            if pending is not None:
                yield pending
            pending = (start, end)
    if pending is not None:
        yield pending


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"


def _limited(lines: Iterator[str], count: int, most: int, what: str) -> Iterator[str]:
    for _, line in zip(range(most), lines, strict=False):
        yield line
    if count > most:
        yield f"... {count - most} more of this sort ({what})"


def _reference(index: int | None) -> str:
    return "null" if index is None else f"function {index}"


def _spell(value: int | None, type_: GlobalType | None) -> str:
    if value is None:
        return "null"
    if type_ is None:
        return hex(value)
    if type_.value.is_reference:
        return _reference(value)
    if type_.value.text == "v128":
        return hex(value)
    number = bits_to_value(value, type_.value)
    return f"nan ({value:#x})" if isinstance(number, float) and math.isnan(number) else repr(number)


def _shortened(side: tuple[Any, ...]) -> str:
    if not side:
        return "missing"
    text = repr(side[0])
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}..."

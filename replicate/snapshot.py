"""Snapshots as values: one instance's whole state, portable between instances, engines and machines."""

from __future__ import annotations

import hashlib
import os
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from replicate import small_state
from replicate.errors import SnapshotError, SnapshotFormatError, SnapshotMismatchError, StateError
from replicate.memory_runs import PAGE, MemoryState, read_memory, write_memory
from replicate.outfiles import write_whole
from replicate.plaindata import decode_plain, encode_plain

if TYPE_CHECKING:
    from collections.abc import Collection

    from replicate.binary import ModuleInfo, StatePlan
    from replicate.diff import SnapshotDiff
    from replicate.interfaces import Instance

__all__ = ["Snapshot", "from_parts", "put_back", "take"]

_MAGIC = b"\x89wasm-snapshot\n\x1a"
_VERSION = 1
_HEADER = struct.Struct("<16sHxxxxxxQ32s")


@attrs.frozen(eq=False)
class Snapshot:
    """Hold all that the Wasm specification lets an instance change, and the host's `state` beside it.

    Two snapshots are equal when the states are, bit for bit. Nothing in it belongs to a process: save it, send it, restore
    it on another engine.
    """

    module_digest: str
    """SHA-256 of the module's binary, in hexadecimal."""
    memories: tuple[MemoryState, ...]
    """Every linear memory, by index."""
    globals: tuple[tuple[int, int | None], ...]
    """Every mutable global: its index, and its bit pattern, the index of the function it holds, or None for null."""
    tables: tuple[tuple[int, tuple[int | None, ...]], ...]
    """Every table that can change: its index, and for each element a function's index or None for null."""
    dropped: tuple[tuple[str, int], ...]
    """The dropped segments: ``"data"`` or ``"element"``, and the index."""
    host: bytes = attrs.field(repr=lambda host: f"<{len(host)} bytes>")
    """The host-side `state`, encoded; `state` decodes it."""

    @property
    def state(self) -> dict[str, Any]:
        """Give a copy of the host-side values."""
        value: dict[str, Any] = decode_plain(self.host)
        return value

    def to_bytes(self) -> bytes:
        """Write the snapshot down. Equal snapshots give equal bytes; the format has a version and a checksum."""
        body = encode_plain(
            {
                "module": self.module_digest,
                "memories": [[memory.size, [list(run) for run in memory.runs]] for memory in self.memories],
                "globals": [list(item) for item in self.globals],
                "tables": [[index, list(elements)] for index, elements in self.tables],
                "dropped": [list(item) for item in self.dropped],
                "host": self.host,
            }
        )
        return _HEADER.pack(_MAGIC, _VERSION, len(body), hashlib.sha256(body).digest()) + body

    @staticmethod
    def is_one(data: bytes) -> bool:
        """Tell whether bytes begin like a snapshot of any format, damaged or not."""
        return data[: len(_MAGIC)] == _MAGIC

    @classmethod
    def from_bytes(cls, data: bytes) -> Snapshot:
        """Read what `to_bytes` wrote; raise `SnapshotFormatError` for anything else and for damage."""
        if not isinstance(data, (bytes, bytearray, memoryview)):
            raise SnapshotFormatError(
                f"a snapshot is read from bytes, not from {data!r:.80}; from a file with Snapshot.load"
            )
        if len(data) < _HEADER.size:
            raise SnapshotFormatError(f"{len(data)} bytes are too few for a snapshot; is this the right file?")
        magic, version, length, digest = _HEADER.unpack_from(data)
        if magic != _MAGIC:
            raise SnapshotFormatError(f"this isn't a snapshot: it starts with {bytes(data[:8])!r}")
        if version != _VERSION:
            raise SnapshotFormatError(f"this snapshot has format {version}; this release reads format {_VERSION}")
        body = bytes(data[_HEADER.size :])
        if len(body) != length:
            raise SnapshotFormatError(
                f"the snapshot is cut or has a tail: {length} bytes were written, {len(body)} are here"
            )
        if hashlib.sha256(body).digest() != digest:
            raise SnapshotFormatError("the snapshot is damaged: its checksum doesn't match")
        return _checked(decode_plain(body))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the snapshot to a file, whole or not at all; raise `SnapshotError` if it can't be written."""
        write_whole(path, self.to_bytes(), what="the snapshot", error=SnapshotError)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Snapshot:
        """Read a snapshot from a file; raise `SnapshotFormatError` if it isn't one, `SnapshotError` if it can't be read."""
        try:
            data = Path(path).read_bytes()
        except (OSError, ValueError, TypeError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            raise SnapshotError(
                f"can't read the snapshot {path!s:.200}: {reason}; give a file that Snapshot.save wrote"
            ) from error
        try:
            return cls.from_bytes(data)
        except SnapshotFormatError as error:
            raise SnapshotFormatError(f"{os.fspath(path)!r}: {error}") from error

    def diff(self, other: Snapshot, *, info: ModuleInfo | None = None) -> SnapshotDiff:
        """List what differs from `other`, a later state of the same module, in the module's terms; false if nothing does.

        With `info` (`Module.info`) globals, memories and tables have their names, and numbers their types. Costs a
        comparison of the pages that aren't zero, and holds a copy of the bytes that differ.

        Raises `SnapshotMismatchError` for snapshots of different modules.
        """
        from replicate.diff import compare

        if not isinstance(other, Snapshot):
            raise SnapshotError(
                f"a Snapshot is compared with another one, not with {other!r:.80}; read one with Snapshot.load"
            )

        return compare(self, other, info=info)

    def to_wasm(self, wasm: bytes, *, ignore_host_state: bool = False, without_exports: Collection[str] = ()) -> bytes:
        """Write a plain module that starts with this state, on any runtime and without this library.

        `wasm` is the module's binary, the very one that the snapshot was taken of. The result has its code, types, imports,
        exports and indices; memories and tables are as large as they were, segments are dropped that were, and there is no
        start function. `ignore_host_state` leaves out values in `state`, which is refused otherwise.

        Hazard: an exported ``_initialize`` or ``_start`` that has run already stays, and hosts that follow WASI call it
        again; name it in `without_exports`.

        Raises `SnapshotMismatchError` for another module's binary, and `NotReplicableError`, with what Wasm can't express:
        the content of imported memories, tables and mutable globals.
        """
        from replicate.bake import bake

        return bake(self, wasm, ignore_host_state=ignore_host_state, without_exports=without_exports)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Snapshot):
            return NotImplemented
        return all(getattr(self, field.name) == getattr(other, field.name) for field in attrs.fields(Snapshot))

    def __hash__(self) -> int:
        return hash((self.module_digest, self.globals, self.tables, self.dropped, self.host))


def _checked(parts: Any) -> Snapshot:
    """Build a snapshot from decoded parts, refusing anything that `to_bytes` couldn't have written."""
    try:
        memories = []
        for size, runs in parts["memories"]:
            end = -1
            for offset, data in runs:
                whole = len(data) % PAGE == 0 or offset + len(data) == size
                if offset % PAGE or offset <= end or not data or not whole or offset + len(data) > size:
                    raise SnapshotFormatError(
                        f"a run of {len(data)} bytes at {offset} doesn't fit a memory of {size} bytes"
                    )
                end = offset + len(data)
            memories.append(MemoryState(int(size), tuple((int(offset), bytes(data)) for offset, data in runs)))
        host = bytes(parts["host"])
        if type(decode_plain(host)) is not dict:
            raise SnapshotFormatError("the host-side state isn't a mapping")
        return Snapshot(
            module_digest=str(parts["module"]),
            memories=tuple(memories),
            globals=tuple((int(index), None if value is None else int(value)) for index, value in parts["globals"]),
            tables=tuple(
                (int(index), tuple(None if item is None else int(item) for item in elements))
                for index, elements in parts["tables"]
            ),
            dropped=tuple((str(kind), int(index)) for kind, index in parts["dropped"]),
            host=host,
        )
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, SnapshotFormatError):
            raise
        raise SnapshotFormatError(f"the snapshot's parts don't have their form: {error!r}") from error


def take(instance: Instance) -> Snapshot:
    """Take an instance's snapshot; see `Instance.snapshot`."""
    instance.module.check_replicable()
    small = small_state.capture(instance)
    memories = tuple(read_memory(instance.memory_view(slot.index)) for slot in instance.plan.memories)
    return from_parts(instance.module.info.digest, instance.plan, memories, small)


def from_parts(
    digest: str, plan: StatePlan, memories: tuple[MemoryState, ...], small: small_state.SmallState
) -> Snapshot:
    """Build a snapshot from captured memories and small state."""
    return Snapshot(
        module_digest=digest,
        memories=memories,
        globals=tuple((slot.index, value) for slot, value in zip(plan.globals, small.globals, strict=True)),
        tables=tuple(sorted(small.tables.items())),
        dropped=tuple(sorted((plan.segments[at].kind, plan.segments[at].index) for at in small.dropped)),
        host=encode_plain(small.host),
    )


def put_back(instance: Instance, snapshot: Snapshot) -> None:
    """Restore an instance; see `Instance.restore`."""
    if not isinstance(snapshot, Snapshot):
        raise SnapshotError(
            f"a Snapshot is restored, not {snapshot!r:.80}; read one from a file with Snapshot.load(path)"
        )
    small = to_small_state(instance, snapshot)
    _check_room(instance, snapshot)
    plan = instance.plan
    try:
        shrink = any(
            len(instance.memory_view(slot.index)) > memory.size
            for slot, memory in zip(plan.memories, snapshot.memories, strict=True)
        )
        if shrink or small_state.must_rebuild(instance, small):
            instance.rebuild()
        for slot, memory in zip(plan.memories, snapshot.memories, strict=True):
            fill_memory(instance, slot.index, memory)
        small_state.restore(instance, small)
    except BaseException:
        # Half a state is none.
        instance.rebuild()
        raise


def _check_room(instance: Instance, snapshot: Snapshot) -> None:
    """Raise `SnapshotMismatchError` unless memories and tables can have the captured sizes in this instance."""
    info, linkage, limits = instance.module.info, instance.linkage, instance.limits
    for slot, memory in zip(instance.plan.memories, snapshot.memories, strict=True):
        kind = linkage.memory_type(slot.index, info)
        page = kind.page_size
        most = None if kind.maximum is None else kind.maximum * page
        _check_size(slot.describe, "bytes", memory.size, kind.minimum * page, most, limits.memory_bytes)
    tables = dict(snapshot.tables)
    for table in instance.plan.tables:
        elements = tables.get(table.index)
        if elements is not None:
            declared = linkage.table_type(table.index, info)
            least, most = declared.minimum, declared.maximum
            _check_size(table.describe, "elements", len(elements), least, most, limits.table_elements)


def _check_size(what: str, unit: str, size: int, least: int, most: int | None, limit: int | None) -> None:
    if size < least:
        raise SnapshotMismatchError(
            f"{what} has {size} {unit} in the snapshot, and at least {least} in this instance, as it was imported: "
            "restore it on an instance with the same imports"
        )
    bounds = [bound for bound in (most, limit) if bound is not None]
    if bounds and size > min(bounds):
        raise SnapshotMismatchError(
            f"{what} has {size} {unit} in the snapshot, and can't have more than {min(bounds)} in this instance: "
            "restore it on an instance with the same imports and limits"
        )


def fill_memory(instance: Instance, index: int, memory: MemoryState) -> None:
    """Grow one memory of an instance to the captured size, and write the captured content in."""
    page = instance.module.info.memories[index].page_size
    missing = memory.size - len(instance.memory_view(index))
    if missing:
        instance.memory_grow(index, missing // page)
    view = instance.memory_view(index)

    def clear(start: int, end: int) -> None:
        view[start:end] = bytes(end - start)

    write_memory(view, memory, clear=clear)


def to_small_state(instance: Instance, snapshot: Snapshot) -> small_state.SmallState:
    """Fit a snapshot to an instance's module, or raise `SnapshotMismatchError`."""
    info, plan = instance.module.info, instance.plan
    if snapshot.module_digest != info.digest:
        raise SnapshotMismatchError(
            f"this snapshot is of another module: of {snapshot.module_digest[:16]}..., not {info.digest[:16]}...; "
            "restore it on an instance of exactly the same binary"
        )
    places: dict[tuple[str, int], int] = {(segment.kind, segment.index): at for at, segment in enumerate(plan.segments)}
    fits = (
        len(snapshot.memories) == len(plan.memories)
        and tuple(index for index, _ in snapshot.globals) == tuple(slot.index for slot in plan.globals)
        and {index for index, _ in snapshot.tables} == {slot.index for slot in plan.tables if slot.is_state}
        and set(snapshot.dropped) <= set(places)
    )
    if not fits:
        raise SnapshotMismatchError(
            "this snapshot's parts aren't those of the module that its digest names: it was altered"
        )
    state = snapshot.state
    if type(state) is not dict:
        raise StateError("the snapshot's host-side state isn't a mapping")
    return small_state.SmallState(
        globals=tuple(value for _, value in snapshot.globals),
        tables=dict(snapshot.tables),
        written=frozenset(index for index, _ in snapshot.tables),
        dropped=frozenset(places[item] for item in snapshot.dropped),
        host=state,
    )

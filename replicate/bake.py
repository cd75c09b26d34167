"""Turn a snapshot into a plain Wasm module that starts where the snapshot was taken, on any runtime."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING

from replicate.binary import ModuleInfo, StatePlan, prepare
from replicate.binary.initial_state import Content, InitialState, with_initial_state
from replicate.binary.module import describe
from replicate.errors import Finding, InvalidModuleError, MissingExportError, NotReplicableError, SnapshotMismatchError

if TYPE_CHECKING:
    from replicate.snapshot import Snapshot

__all__ = ["bake"]

_WIDTH = {"i32": 32, "i64": 64, "f32": 32, "f64": 64, "v128": 128}
_BY_HOST = (
    "it is imported, and a module can't say what its host gives it; let the module define it, or restore the snapshot"
)


def bake(
    snapshot: Snapshot, wasm: bytes, *, ignore_host_state: bool = False, without_exports: Collection[str] = ()
) -> bytes:
    """Write a module whose initial state is `snapshot`; see `Snapshot.to_wasm`."""
    if not isinstance(wasm, (bytes, bytearray, memoryview)):
        raise InvalidModuleError(
            f"a snapshot is written into a module's binary, as bytes, not into {wasm!r:.80}; read the file"
        )
    digest = hashlib.sha256(wasm).hexdigest()
    if digest != snapshot.module_digest:
        raise SnapshotMismatchError(
            f"this snapshot is of another module: of {snapshot.module_digest[:16]}..., not {digest[:16]}...; "
            "give the very binary that it was taken of (for text, what the engine assembled)"
        )
    prepared = prepare(wasm)
    info, plan = prepared.info, prepared.plan
    findings = [*plan.findings, *_findings(snapshot, info, plan, ignore_host_state=ignore_host_state)]
    if findings:
        raise NotReplicableError(findings, what="this state can't be written as a plain module")
    _check_parts(snapshot, info, plan)
    known = {export.name for export in info.exports}
    unknown = [name for name in without_exports if name not in known]
    if unknown:
        raise MissingExportError(
            f"the module exports no {', '.join(map(repr, unknown))} to leave out, but {', '.join(sorted(known)) or 'nothing'}"
        )
    state = InitialState(
        memories=tuple(Content(memory.size, memory.runs) for memory in snapshot.memories),
        globals=dict(snapshot.globals),
        tables=dict(snapshot.tables),
        dropped_data=frozenset(index for kind, index in snapshot.dropped if kind == "data"),
        dropped_elements=frozenset(index for kind, index in snapshot.dropped if kind == "element"),
        without_exports=frozenset(without_exports),
    )
    return with_initial_state(wasm, info, state)


def _findings(snapshot: Snapshot, info: ModuleInfo, plan: StatePlan, *, ignore_host_state: bool) -> Iterator[Finding]:
    for memory in plan.memories:
        if memory.index < info.imported_memories:
            yield Finding(memory.describe, _BY_HOST)
    for slot in plan.globals:
        if slot.index < info.imported_globals:
            yield Finding(slot.describe, _BY_HOST)
    for table in plan.tables:
        if table.is_state and table.index < info.imported_tables:
            yield Finding(table.describe, _BY_HOST)
    if snapshot.state and not ignore_host_state:
        keys = ", ".join(map(repr, sorted(snapshot.state)))
        yield Finding(
            "host-side state",
            f"it has values ({keys:.200}), which a module has no place for; leave them out with ignore_host_state=True",
        )


def _check_parts(snapshot: Snapshot, info: ModuleInfo, plan: StatePlan) -> None:
    """Raise `SnapshotMismatchError` for a snapshot that no instance of the module can have had."""
    wrong = next(_misfits(snapshot, info, plan), None)
    if wrong is not None:
        raise SnapshotMismatchError(f"{wrong} doesn't fit the module that this snapshot's digest names: it was altered")


def _misfits(snapshot: Snapshot, info: ModuleInfo, plan: StatePlan) -> Iterator[str]:
    segments = {(segment.kind, segment.index) for segment in plan.segments}
    parts = (
        len(snapshot.memories) == len(plan.memories)
        and [index for index, _ in snapshot.globals] == [slot.index for slot in plan.globals]
        and [index for index, _ in snapshot.tables] == [slot.index for slot in plan.tables if slot.is_state]
        and all(item in segments for item in snapshot.dropped)
    )
    if not parts:
        yield "its list of parts"
        return
    for memory, content in zip(info.memories, snapshot.memories, strict=True):
        pages, rest = divmod(content.size, memory.page_size)
        if rest or not memory.minimum <= pages <= (pages if memory.maximum is None else memory.maximum):
            yield f"a memory of {content.size} bytes"
    functions = len(info.functions)
    for index, value in snapshot.globals:
        kind = info.globals[index].value
        bound = 1 << _WIDTH[kind.text] if kind.is_number else functions if kind.is_func else 0
        fits = not kind.is_number and kind.is_nullable if value is None else 0 <= value < bound
        if not fits:
            yield f"the value of {describe('global', index, None)}"
    for index, elements in snapshot.tables:
        table = info.tables[index]
        if not table.minimum <= len(elements) <= (len(elements) if table.maximum is None else table.maximum):
            yield f"a size of {len(elements)} elements of {describe('table', index, None)}"
        bound = functions if table.element.is_func else 0
        if any(not table.element.is_nullable if each is None else not 0 <= each < bound for each in elements):
            yield f"an element of {describe('table', index, None)}"

"""What `replicate inspect` has to say about a module, as values: the fields of its JSON, and what the table shows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

import attrs

from replicate.binary import (
    Export,
    FuncType,
    GlobalType,
    Import,
    Kind,
    MemoryType,
    ModuleInfo,
    Prepared,
    SegmentSlot,
    StatePlan,
    TableType,
    TagType,
)
from replicate.binary.effects import changing_globals, changing_tables
from replicate.errors import Finding
from replicate.linking import halved
from replicate.wasi.surface import PREVIEW1, UNSTABLE, Declaration

__all__ = [
    "SCHEMA",
    "EngineReport",
    "ExportReport",
    "FunctionReport",
    "GlobalReport",
    "ImportReport",
    "MemoryReport",
    "ModuleReport",
    "SegmentReport",
    "TableReport",
    "describe_module",
]

SCHEMA = 1
"""Fields may be added within a schema number; one that goes, or means something else, makes a new number."""

_WASI: Mapping[str, Mapping[str, Declaration]] = {"wasi_snapshot_preview1": PREVIEW1, "wasi_unstable": UNSTABLE}

GivenBy = Literal["wasi", "pool", "host"]


@attrs.frozen
class EngineReport:
    """Name the engine that compiled the module, and its release."""

    name: str
    version: str


@attrs.frozen
class FunctionReport:
    """Name a function by its index, and as its producer did."""

    index: int
    name: str | None


@attrs.frozen(kw_only=True)
class _Part:
    index: int
    name: str | None
    """From the name section, else its first export."""
    type: str
    imported: bool
    exports: tuple[str, ...]
    hidden: bool
    """The module neither imports nor exports it: without rewriting the module, a host can't get at it."""


@attrs.frozen(kw_only=True)
class MemoryReport(_Part):
    """Describe a linear memory. Its content can always change."""

    minimum_pages: int
    maximum_pages: int | None
    page_bytes: int
    is_64: bool
    shared: bool
    grows: bool
    """The module's code, or a host that sees it, can grow it."""


@attrs.frozen(kw_only=True)
class GlobalReport(_Part):
    """Describe a global."""

    mutable: bool
    changes: bool
    """The module's code, or a host that sees it, can set it."""


@attrs.frozen(kw_only=True)
class TableReport(_Part):
    """Describe a table."""

    minimum: int
    maximum: int | None
    changes: bool
    """The module's code, or a host that sees it, can write or grow it."""


@attrs.frozen(kw_only=True)
class SegmentReport:
    """Describe a passive segment that the code can drop."""

    kind: Literal["data", "element"]
    index: int
    name: str | None
    length: int
    """Bytes of a data segment, elements of an element segment."""


@attrs.frozen(kw_only=True)
class ImportReport:
    """Describe an import, and who gives it.

    ``wasi``: `replicate.wasi.Wasi` has it. ``pool``: a memory, table or tag, made afresh for each instance. ``host``:
    whoever opens the pool.
    """

    module: str
    name: str
    kind: Kind
    type: str
    index: int
    given_by: GivenBy


@attrs.frozen(kw_only=True)
class ExportReport:
    """Describe an export."""

    name: str
    kind: Kind
    type: str
    index: int


@attrs.frozen(kw_only=True)
class ModuleReport:
    """Describe a module from outside: its state, what it needs, and whether it can be replicated."""

    schema: int = SCHEMA
    file: str
    size_bytes: int
    """Size of the binary, which for a .wat file is the assembled one; so is its hash."""
    sha256: str
    name: str | None
    """What the producer called the module, in its name section."""
    engine: EngineReport
    replicable: bool
    findings: tuple[Finding, ...]
    """Why it can't be replicated; empty if it can."""
    notes: tuple[Finding, ...]
    """What can be carried only while it holds nothing that can't."""
    wasi: Literal["command", "reactor", "library"] | None
    """How it uses WASI: it exports ``_start``, ``_initialize`` or neither, and imports WASI; None if it doesn't import it."""
    start: FunctionReport | None
    """The start function, which runs once, on the leader."""
    has_initialize: bool
    """It exports ``_initialize``, which runs once, on the leader."""
    has_start: bool
    """It exports ``_start``, which runs when a pool is opened with ``run_start=True``."""
    memories: tuple[MemoryReport, ...]
    globals: tuple[GlobalReport, ...]
    tables: tuple[TableReport, ...]
    segments: tuple[SegmentReport, ...]
    imports: tuple[ImportReport, ...]
    exports: tuple[ExportReport, ...]

    def as_json(self) -> dict[str, Any]:
        """Give the fields as JSON has them."""
        return attrs.asdict(self)


def describe_module(
    prepared: Prepared, *, file: str, engine: EngineReport, obstacle: str | None = None
) -> ModuleReport:
    """Describe the module `prepared`; `obstacle` says why `engine` can't run it, None if it can."""
    info = prepared.info
    imports = tuple(map(_import, info.imports))
    findings = list(prepared.plan.findings)
    if obstacle is not None:
        findings.append(Finding(f"engine {engine.name}", obstacle))
    functions = {export.name for export in info.exports if export.kind == "func"}
    return ModuleReport(
        file=file,
        size_bytes=info.size,
        sha256=info.digest,
        name=info.module_name,
        engine=engine,
        replicable=not findings,
        findings=tuple(findings),
        notes=tuple(_notes(prepared.plan)),
        wasi=_wasi_kind(info, functions),
        start=None if info.start is None else FunctionReport(info.start, info.labels("func").get(info.start)),
        has_initialize="_initialize" in functions,
        has_start="_start" in functions,
        memories=_memories(prepared),
        globals=_globals(prepared),
        tables=_tables(prepared),
        segments=_segments(prepared),
        imports=imports,
        exports=tuple(_export(info, export) for export in info.exports),
    )


def _notes(plan: StatePlan) -> Iterator[Finding]:
    parts = [(slot.describe, slot.type.value, "it is null") for slot in plan.globals]
    parts += [(slot.describe, slot.type.element, "its elements are null") for slot in plan.tables if slot.is_state]
    for place, type_, carried in parts:
        if type_.is_extern and not type_.is_null:
            reason = "what else it can hold, objects of the host, means nothing in another instance"
            yield Finding(place, f"it can be carried only while {carried}: {reason} ({type_})")


def _wasi_kind(info: ModuleInfo, functions: set[str]) -> Literal["command", "reactor", "library"] | None:
    if not any(each.module in _WASI for each in info.imports):
        return None
    if "_start" in functions:
        return "command"
    return "reactor" if "_initialize" in functions else "library"


def _import(each: Import) -> ImportReport:
    return ImportReport(
        module=each.module,
        name=each.name,
        kind=each.kind,
        type=str(each.type),
        index=each.index,
        given_by=_given_by(each),
    )


def _given_by(each: Import) -> GivenBy:
    if isinstance(each.type, (MemoryType, TableType, TagType)):
        return "pool"
    declared = _WASI.get(each.module, {}).get(each.name)
    if declared is not None and isinstance(each.type, FuncType):
        params, results = tuple(map(str, each.type.params)), tuple(map(str, each.type.results))
        if params in (declared.params, halved(declared.params)) and results == declared.results:
            return "wasi"
    return "host"


def _export(info: ModuleInfo, export: Export) -> ExportReport:
    spaces: dict[Kind, Any] = {
        "memory": info.memories,
        "global": info.globals,
        "table": info.tables,
        "tag": info.tags,
    }
    found = info.function_type(export.index) if export.kind == "func" else spaces[export.kind][export.index]
    return ExportReport(name=export.name, kind=export.kind, type=str(found), index=export.index)


def _part(info: ModuleInfo, kind: Kind, index: int, type_: object, imported: int) -> dict[str, Any]:
    return {
        "index": index,
        "name": info.labels(kind).get(index),
        "type": str(type_),
        "imported": index < imported,
        "exports": tuple(each.name for each in info.exports if each.kind == kind and each.index == index),
        "hidden": index not in info.exposed(kind),
    }


def _memories(prepared: Prepared) -> tuple[MemoryReport, ...]:
    info = prepared.info
    growing = prepared.effects.memories_grown | info.exposed("memory")

    def describe(index: int, memory: MemoryType) -> MemoryReport:
        return MemoryReport(
            **_part(info, "memory", index, memory, info.imported_memories),
            minimum_pages=memory.minimum,
            maximum_pages=memory.maximum,
            page_bytes=memory.page_size,
            is_64=memory.is_64,
            shared=memory.shared,
            grows=index in growing and memory.minimum != memory.maximum,
        )

    return tuple(describe(index, memory) for index, memory in enumerate(info.memories))


def _globals(prepared: Prepared) -> tuple[GlobalReport, ...]:
    info = prepared.info
    changing = changing_globals(info, prepared.effects)

    def describe(index: int, type_: GlobalType) -> GlobalReport:
        return GlobalReport(
            **_part(info, "global", index, type_, info.imported_globals),
            mutable=type_.mutable,
            changes=index in changing,
        )

    return tuple(describe(index, type_) for index, type_ in enumerate(info.globals))


def _tables(prepared: Prepared) -> tuple[TableReport, ...]:
    info = prepared.info
    changing = changing_tables(info, prepared.effects)

    def describe(index: int, table: TableType) -> TableReport:
        return TableReport(
            **_part(info, "table", index, table, info.imported_tables),
            minimum=table.minimum,
            maximum=table.maximum,
            changes=index in changing,
        )

    return tuple(describe(index, table) for index, table in enumerate(info.tables))


def _segments(prepared: Prepared) -> tuple[SegmentReport, ...]:
    info = prepared.info

    def length(slot: SegmentSlot) -> int:
        return info.data[slot.index].length if slot.kind == "data" else info.elements[slot.index].length

    return tuple(
        SegmentReport(kind=slot.kind, index=slot.index, name=slot.label, length=length(slot))
        for slot in prepared.plan.segments
    )

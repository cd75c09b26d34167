"""Where an instrumented module keeps its state: what the host has to read, and under which export."""

from __future__ import annotations

import attrs

from replicate.binary.module import SegmentKind, describe
from replicate.binary.types import GlobalType, MemoryType, TableType
from replicate.errors import Finding

__all__ = ["FunctionSlot", "GlobalSlot", "MemorySlot", "SegmentSlot", "StatePlan", "TableSlot"]


@attrs.frozen
class MemorySlot:
    """Locate a linear memory."""

    index: int
    export: str
    type: MemoryType
    label: str | None

    @property
    def describe(self) -> str:
        """How messages call it: ``memory 0 ($memory)``."""
        return describe("memory", self.index, self.label)


@attrs.frozen
class GlobalSlot:
    """Locate a mutable global."""

    index: int
    export: str
    type: GlobalType
    label: str | None

    @property
    def describe(self) -> str:
        """How messages call it: ``global 0 ($__stack_pointer)``."""
        return describe("global", self.index, self.label)


@attrs.frozen
class TableSlot:
    """Locate a table.

    `changes` says that the module's own code can write or grow it, `exposed` that its host can, because the module
    imports or exports it. A table that is neither is the same in every instance for ever.
    """

    index: int
    export: str
    type: TableType
    changes: bool
    label: str | None
    exposed: bool = attrs.field(default=False, kw_only=True)

    @property
    def is_state(self) -> bool:
        """Whether its content can differ from what instantiation makes it."""
        return self.changes or self.exposed

    @property
    def describe(self) -> str:
        """How messages call it: ``table 0 ($__indirect_function_table)``."""
        return describe("table", self.index, self.label)


@attrs.frozen
class FunctionSlot:
    """Locate a function that a table or a global may come to refer to."""

    index: int
    export: str


@attrs.frozen
class SegmentSlot:
    """Locate a passive segment that the module's code can drop.

    `probe` names a function that traps exactly when the segment has been dropped and changes nothing; `drop` names one
    that drops it. Neither takes or returns anything.
    """

    kind: SegmentKind
    index: int
    probe: str
    drop: str
    label: str | None

    @property
    def describe(self) -> str:
        """How messages call it: ``data segment 2 ($rodata)``."""
        return describe(f"{self.kind} segment", self.index, self.label)


@attrs.frozen
class StatePlan:
    """List all that an instance of a module can change (promise P1), and how to get at it.

    Imported parts are listed like those that the module defines. What `findings` is about isn't listed at all, except
    shared memories, tables and globals.
    """

    prefix: str
    """What the names of the added exports start with; no export of the module itself does."""
    memories: tuple[MemorySlot, ...]
    """Every memory."""
    globals: tuple[GlobalSlot, ...]
    """Every mutable global, except references that nothing can set."""
    tables: tuple[TableSlot, ...]
    """Every table that can be captured, also those that are the same for ever (see `TableSlot.is_state`)."""
    functions: tuple[FunctionSlot, ...]
    """The functions that a table or a global can come to refer to; none where all of those are the same for ever."""
    segments: tuple[SegmentSlot, ...]
    """The passive segments that the code can drop."""
    start: str | None
    """The export of what was the start function, to be called once, on the leader."""
    findings: tuple[Finding, ...]
    """What can never be captured."""

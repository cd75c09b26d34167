"""Where an instrumented module keeps its state: what the host has to read, and under which export."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from replicate.binary.module import SegmentKind, describe
from replicate.binary.types import FuncType, GlobalType, MemoryType, TableType
from replicate.errors import Finding

__all__ = [
    "Fill",
    "FunctionSlot",
    "GlobalSlot",
    "HandHelpers",
    "Helpers",
    "MemorySlot",
    "PlaceHelpers",
    "SegmentSlot",
    "StatePlan",
    "TableHelpers",
    "TableSlot",
]


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
    """Locate a function that a table or a global may come to refer to; without an export where no host can refer to it."""

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


@attrs.frozen(kw_only=True)
class PlaceHelpers:
    """Name the functions that move a reference between its place and the *hand* (see `HandHelpers`).

    In a table they take the element's position. `load` returns 1 for null and 0 otherwise. Where the place isn't one for
    functions nothing is moved: `store` stores null.
    """

    load: str
    store: str
    is_func: bool


@attrs.frozen(kw_only=True)
class TableHelpers:
    """Name the functions that do with a table what its host can't: `grow` takes a number of nulls and returns the old size."""

    size: str
    grow: str
    place: PlaceHelpers


@attrs.frozen(kw_only=True)
class HandHelpers:
    """Name the functions that work on the hand, a hidden place for one reference to a function.

    `take` puts a function there, by its number in `functions`, and `drop` null. Each function of `identify` returns the index
    of the function there, or -1 where the function doesn't say who it is, and traps if it has another type; after such traps
    `calm` must be called before any function of the module is. `identify` is empty where nothing has to be identified.
    """

    functions: Mapping[int, int]
    take: str
    drop: str
    identify: tuple[str, ...]
    calm: str


@attrs.frozen
class Fill:
    """Say what instantiation writes to a table: these functions and nulls, from `offset` plus the value of a global on."""

    offset: int
    base: int | None
    functions: tuple[int | None, ...]


@attrs.frozen(kw_only=True)
class Helpers:
    """List the functions that were added to do what the engine's host can't (see `HostAccess`), by export."""

    types: Mapping[str, FuncType]
    """What each takes and returns."""
    bit_calls: Mapping[int, str]
    """For the index of an exported function: one that calls it, and takes and returns an i32 for each f32."""
    bit_globals: Mapping[int, tuple[str, str | None]]
    """For the index of a global of type f32: one that gets and one that sets it as an i32."""
    globals: Mapping[int, PlaceHelpers]
    """For the index of a reference global that can vary."""
    tables: Mapping[int, TableHelpers]
    """For the index of a table that is state."""
    contents: Mapping[int, tuple[Fill, ...]]
    """For the index of a table that the code never changes: what instantiation makes of it, in order."""
    hand: HandHelpers | None


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
    helpers: Helpers | None = attrs.field(default=None, kw_only=True, eq=False, repr=False)
    """What was added for a host that can't do everything by itself."""

"""Read, scan and rewrite core Wasm binaries, so that no part of a guest's state is out of the host's reach.

`prepare` does it all: it describes a module (`ModuleInfo`), finds out what its code can change (`Effects`), and returns
the module with its hidden state exported, with the list of where that is (`StatePlan`).

Covers WebAssembly 3.0, threads, wide arithmetic, custom page sizes, stack switching, compact imports and the legacy
exception handling. Nothing here knows a runtime.
"""

from __future__ import annotations

import attrs

from replicate.binary.access import FULL_ACCESS, HostAccess
from replicate.binary.effects import Effects, scan_effects
from replicate.binary.module import DataSegment, ElementSegment, Export, Import, Kind, ModuleInfo, Section, SegmentKind
from replicate.binary.plan import (
    Fill,
    FunctionSlot,
    GlobalSlot,
    HandHelpers,
    Helpers,
    MemorySlot,
    PlaceHelpers,
    SegmentSlot,
    StatePlan,
    TableHelpers,
    TableSlot,
)
from replicate.binary.reader import read_module
from replicate.binary.rewrite import Instrumented, instrument
from replicate.binary.signature import check_header
from replicate.binary.subtypes import Subtypes
from replicate.binary.types import (
    ANYREF,
    EXNREF,
    EXTERNREF,
    F32,
    F64,
    FUNCREF,
    I32,
    I64,
    PAGE_SIZE,
    V128,
    ArrayType,
    ContType,
    Declaration,
    DefinedType,
    ExternType,
    FieldType,
    FuncType,
    GlobalType,
    MemoryType,
    StructType,
    TableType,
    TagType,
    ValType,
)

__all__ = [
    "ANYREF",
    "EXNREF",
    "EXTERNREF",
    "F32",
    "F64",
    "FULL_ACCESS",
    "FUNCREF",
    "I32",
    "I64",
    "PAGE_SIZE",
    "V128",
    "ArrayType",
    "ContType",
    "DataSegment",
    "Declaration",
    "DefinedType",
    "Effects",
    "ElementSegment",
    "Export",
    "ExternType",
    "FieldType",
    "Fill",
    "FuncType",
    "FunctionSlot",
    "GlobalSlot",
    "GlobalType",
    "HandHelpers",
    "Helpers",
    "HostAccess",
    "Import",
    "Instrumented",
    "Kind",
    "MemorySlot",
    "MemoryType",
    "ModuleInfo",
    "PlaceHelpers",
    "Prepared",
    "Section",
    "SegmentKind",
    "SegmentSlot",
    "StatePlan",
    "StructType",
    "Subtypes",
    "TableHelpers",
    "TableSlot",
    "TableType",
    "TagType",
    "ValType",
    "check_header",
    "instrument",
    "prepare",
    "read_module",
    "scan_effects",
]


@attrs.frozen
class Prepared:
    """Give a module that is ready to be compiled: `wasm` is the instrumented one, `info` describes the original."""

    info: ModuleInfo
    effects: Effects
    wasm: bytes = attrs.field(repr=False)
    plan: StatePlan


def prepare(wasm: bytes, *, access: HostAccess = FULL_ACCESS) -> Prepared:
    """Read, scan and instrument a core module, for an engine whose host can do what `access` says.

    Takes some 0.05 s a megabyte of code, and 1 us a segment. Raises what `read_module` does. What
    can't be captured doesn't raise: see `StatePlan.findings`.
    """
    info = read_module(wasm)
    effects = scan_effects(wasm, info)
    instrumented = instrument(wasm, info, effects, access=access)
    return Prepared(info, effects, instrumented.wasm, instrumented.plan)

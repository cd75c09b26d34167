"""Rewrite a module so that its host can reach all of its state.

Everything added goes to the end of its index space: no function, global, table or memory changes its index, no
instruction of the module is touched, and what the module exports stays first among the exports. The technique is
Wizer's (https://github.com/bytecodealliance/wizer): export what is hidden. New is the probe that tells whether a
segment has been dropped: ``memory.init`` or ``table.init`` of no elements, from the second on, traps if there isn't a
first.
"""

from __future__ import annotations

import attrs

from replicate.binary import leb
from replicate.binary.cursor import Cursor
from replicate.binary.effects import Effects, changing_globals
from replicate.binary.findings import can_be_captured, find_obstacles
from replicate.binary.module import Kind, ModuleInfo
from replicate.binary.plan import FunctionSlot, GlobalSlot, MemorySlot, SegmentSlot, StatePlan, TableSlot
from replicate.binary.reader import CODE, SECTION_ORDER
from replicate.binary.signature import HEADER
from replicate.binary.types import ValType

__all__ = ["Instrumented", "instrument"]

_TYPE, _FUNCTION, _TABLE, _MEMORY, _EXPORT, _START = 1, 3, 4, 5, 7, 8
_KIND_CODES: dict[Kind, bytes] = {"func": b"\0", "table": b"\1", "memory": b"\2", "global": b"\3", "tag": b"\4"}

_NOTHING_TO_NOTHING = b"\x60\0\0"
_I32_CONST_0, _I32_CONST_1, _I64_CONST_0 = b"\x41\0", b"\x41\1", b"\x42\0"
_MEMORY_INIT, _DATA_DROP, _TABLE_INIT, _ELEM_DROP = b"\xfc\x08", b"\xfc\x09", b"\xfc\x0c", b"\xfc\x0d"
_NO_LOCALS, _END = b"\0", b"\x0b"
_EMPTY = b"\1\0\0"  # limits: at least and at most nothing


@attrs.frozen
class Instrumented:
    """Give the rewritten module, and where its state is."""

    wasm: bytes = attrs.field(repr=False)
    plan: StatePlan


def instrument(wasm: bytes, info: ModuleInfo, effects: Effects) -> Instrumented:
    """Return the module `wasm` with all of its state exported, and its start function exported instead of run.

    `info` and `effects` describe it. Hazard: an invalid module may become a valid one, so validate it as it is: a start
    function of the wrong type is exported instead of run, and an export declares the function that it names.
    """
    rewriter = _Rewriter(wasm, info, effects)
    plan = rewriter.plan()
    return Instrumented(rewriter.encode(), plan)


def _free_prefix(info: ModuleInfo) -> str:
    taken = {export.name.partition(":")[0] for export in info.exports}
    stem, number = "replicate", 0
    while stem in taken:
        stem, number = f"replicate{number}", number + 1
    return f"{stem}:"


class _Rewriter:
    """Collect what is to be added to each section."""

    def __init__(self, wasm: bytes, info: ModuleInfo, effects: Effects) -> None:
        self._wasm = wasm
        self._info = info
        self._effects = effects
        self._prefix = _free_prefix(info)
        self._types: list[bytes] = []
        self._functions: list[bytes] = []
        self._bodies: list[bytes] = []
        self._tables: list[bytes] = []
        self._table_of_type: dict[bytes, int] = {}
        self._memories: list[bytes] = []
        self._exports: list[bytes] = []

    def plan(self) -> StatePlan:
        info, labels = self._info, self._info.labels("memory")
        memories = tuple(
            MemorySlot(index, self._export("memory", index), type_, labels.get(index))
            for index, type_ in enumerate(info.memories)
        )
        globals_ = self._global_slots()
        tables = self._table_slots()
        functions = self._function_slots(globals_, tables)
        segments = (*self._data_slots(), *self._element_slots())
        start = None if info.start is None else self._export("func", info.start, "start")
        findings = find_obstacles(info, self._effects)
        return StatePlan(self._prefix, memories, globals_, tables, functions, segments, start, findings)

    def encode(self) -> bytes:
        """Return the module with all that `plan` has asked for."""
        added = {
            _TYPE: self._types,
            _FUNCTION: self._functions,
            _TABLE: self._tables,
            _MEMORY: self._memories,
            _EXPORT: self._exports,
            CODE: self._bodies,
        }
        missing = [id_ for id_ in SECTION_ORDER if added.get(id_)]
        encoded = [HEADER]
        for section in self._info.sections:
            if section.id != 0:
                rank = SECTION_ORDER.index(section.id)
                while missing and SECTION_ORDER.index(missing[0]) < rank:
                    id_ = missing.pop(0)
                    encoded += _section(id_, leb.vector(added[id_]))
            content = self._wasm[section.start : section.end]
            if missing and section.id == missing[0]:
                encoded += _section(section.id, _appended(content, added[missing.pop(0)]))
            elif section.id != _START:
                encoded += _section(section.id, content)
        for id_ in missing:
            encoded += _section(id_, leb.vector(added[id_]))
        return b"".join(encoded)

    # -- slots -----------------------------------------------------------------------------------------------------

    def _global_slots(self) -> tuple[GlobalSlot, ...]:
        info = self._info
        changing, labels = changing_globals(info, self._effects), info.labels("global")
        return tuple(
            GlobalSlot(index, self._export("global", index), type_, labels.get(index))
            for index, type_ in enumerate(info.globals)
            if type_.mutable and (type_.value.is_number or (index in changing and _can_vary(type_.value)))
        )

    def _table_slots(self) -> tuple[TableSlot, ...]:
        info, written, exposed = self._info, self._effects.tables_written, self._info.exposed("table")
        labels = info.labels("table")
        return tuple(
            TableSlot(
                index,
                self._export("table", index),
                type_,
                changes=index in written,
                label=labels.get(index),
                exposed=index in exposed,
            )
            for index, type_ in enumerate(info.tables)
            if can_be_captured(type_.element)
        )

    def _function_slots(
        self, globals_: tuple[GlobalSlot, ...], tables: tuple[TableSlot, ...]
    ) -> tuple[FunctionSlot, ...]:
        in_tables = any(slot.is_state and slot.type.element.is_func for slot in tables)
        if not in_tables and not any(slot.type.value.is_func for slot in globals_) and not self._references_escape():
            return ()
        exported = {export.index for export in self._info.exports if export.kind == "func"}
        return tuple(
            FunctionSlot(index, self._export("func", index))
            for index in sorted(self._effects.functions_referenced | exported)
        )

    def _references_escape(self) -> bool:
        """Tell whether the host can come to hold a reference to a function: by a call, or in a constant global."""
        info = self._info
        exported = [info.function_type(export.index) for export in info.exports if export.kind == "func"]
        imported = [info.function_type(index) for index in range(info.imported_functions)]
        values = [*(type_.results for type_ in exported), *(type_.params for type_ in imported)]
        constants = (info.globals[export.index].value for export in info.exports if export.kind == "global")
        return any(value.is_func for group in values for value in group) or any(value.is_func for value in constants)

    def _data_slots(self) -> list[SegmentSlot]:
        info = self._info
        slots = []
        for index in sorted(self._effects.data_dropped):
            segment = info.data[index]
            if segment.mode != "passive" or not segment.length:
                continue  # dropping it changes nothing
            if not info.memories and not self._memories:
                self._memories.append(_EMPTY)  # objects are made from data segments without any memory
            is_64 = bool(info.memories) and info.memories[0].is_64
            target = _I64_CONST_0 if is_64 else _I32_CONST_0
            number = leb.unsigned(index)
            probe = target + _I32_CONST_1 + _I32_CONST_0 + _MEMORY_INIT + number + b"\0"
            slots.append(
                SegmentSlot(
                    kind="data",
                    index=index,
                    probe=self._helper(f"data:{index}:probe", probe),
                    drop=self._helper(f"data:{index}:drop", _DATA_DROP + number),
                    label=info.data_names.get(index),
                )
            )
        return slots

    def _element_slots(self) -> list[SegmentSlot]:
        info = self._info
        slots = []
        for index in sorted(self._effects.elements_dropped):
            segment = info.elements[index]
            if segment.mode != "passive" or not segment.length:
                continue
            number = leb.unsigned(index)
            probe = _I32_CONST_0 + _I32_CONST_1 + _I32_CONST_0 + _TABLE_INIT + number
            slots.append(
                SegmentSlot(
                    kind="element",
                    index=index,
                    probe=self._helper(f"element:{index}:probe", probe + self._empty_table(segment.type)),
                    drop=self._helper(f"element:{index}:drop", _ELEM_DROP + number),
                    label=info.element_names.get(index),
                )
            )
        return slots

    # -- additions -------------------------------------------------------------------------------------------------

    def _export(self, kind: Kind, index: int, name: str | None = None) -> str:
        full = self._prefix + (f"{kind}:{index}" if name is None else name)
        self._exports.append(leb.name(full) + _KIND_CODES[kind] + leb.unsigned(index))
        return full

    def _helper(self, name: str, code: bytes) -> str:
        """Add a function without parameters and results, and return its export."""
        if not self._types:
            self._types.append(_NOTHING_TO_NOTHING)
        body = _NO_LOCALS + code + _END
        index = len(self._info.functions) + len(self._functions)
        self._functions.append(leb.unsigned(len(self._info.types)))
        self._bodies.append(leb.unsigned(len(body)) + body)
        return self._export("func", index, name)

    def _empty_table(self, element: ValType) -> bytes:
        """Return the encoded index of an empty table that elements of this type fit into, adding one if need be."""
        # Its elements must be nullable, or it would need an initial value.
        code = element.code if element.is_nullable else b"\x63" + element.code[1:]
        if code not in self._table_of_type:
            self._table_of_type[code] = len(self._info.tables) + len(self._tables)
            self._tables.append(code + _EMPTY)
        return leb.unsigned(self._table_of_type[code])


def _can_vary(type_: ValType) -> bool:
    return not type_.is_null and can_be_captured(type_)


def _section(id_: int, content: bytes) -> tuple[bytes, bytes, bytes]:
    return bytes([id_]), leb.unsigned(len(content)), content


def _appended(content: bytes, items: list[bytes]) -> bytes:
    """Return the encoded vector `content` with `items` at its end."""
    cursor = Cursor(content, 0, len(content))
    count = cursor.u32()
    return b"".join([leb.unsigned(count + len(items)), content[cursor.position :], *items])

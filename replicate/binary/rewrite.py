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
from replicate.binary.access import FULL_ACCESS, HostAccess
from replicate.binary.additions import Additions
from replicate.binary.effects import Effects, changing_globals
from replicate.binary.findings import can_be_captured, find_obstacles
from replicate.binary.helpers import HelperWriter
from replicate.binary.module import ModuleInfo
from replicate.binary.plan import FunctionSlot, GlobalSlot, MemorySlot, SegmentSlot, StatePlan, TableSlot
from replicate.binary.types import ValType

__all__ = ["Instrumented", "instrument"]

_I32_CONST_0, _I32_CONST_1, _I64_CONST_0 = b"\x41\0", b"\x41\1", b"\x42\0"
_MEMORY_INIT, _DATA_DROP, _TABLE_INIT, _ELEM_DROP = b"\xfc\x08", b"\xfc\x09", b"\xfc\x0c", b"\xfc\x0d"
_EMPTY = b"\1\0\0"  # limits: at least and at most nothing


@attrs.frozen
class Instrumented:
    """Give the rewritten module, and where its state is."""

    wasm: bytes = attrs.field(repr=False)
    plan: StatePlan


def instrument(wasm: bytes, info: ModuleInfo, effects: Effects, *, access: HostAccess = FULL_ACCESS) -> Instrumented:
    """Return the module `wasm` with all of its state exported, and its start function exported instead of run.

    `info` and `effects` describe it. What the engine's host can't do by itself (`access`), functions are added for; nothing
    else depends on it.

    Hazard: an invalid module may become a valid one, so validate it as it is: a start function of the wrong type is exported
    instead of run, and an export declares the function that it names.
    """
    rewriter = _Rewriter(wasm, info, effects, access)
    plan = rewriter.plan()
    return Instrumented(rewriter.additions.encode(), plan)


class _Rewriter:
    """Decide what is to be added."""

    def __init__(self, wasm: bytes, info: ModuleInfo, effects: Effects, access: HostAccess) -> None:
        self._wasm = wasm
        self._info = info
        self._effects = effects
        self._access = access
        self._table_of_type: dict[bytes, int] = {}
        self._has_memory = bool(info.memories)
        self.additions = Additions(wasm, info)
        self._export = self.additions.export

    def plan(self) -> StatePlan:
        info, labels = self._info, self._info.labels("memory")
        if not self._access.imported_tables:
            self.additions.own_imported_tables()
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
        plan = StatePlan(self.additions.prefix, memories, globals_, tables, functions, segments, start, findings)
        if self._access == FULL_ACCESS:
            return plan
        return HelperWriter(self._wasm, info, plan, self._access, self.additions).extended()

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
            FunctionSlot(index, self._export("func", index) if self._access.references else "")
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
            if not self._has_memory:
                self.additions.memory(_EMPTY)  # objects are made from data segments without any memory
                self._has_memory = True
            is_64 = bool(info.memories) and info.memories[0].is_64
            target = _I64_CONST_0 if is_64 else _I32_CONST_0
            number = leb.unsigned(index)
            probe = target + _I32_CONST_1 + _I32_CONST_0 + _MEMORY_INIT + number + b"\0"
            slots.append(
                SegmentSlot(
                    kind="data",
                    index=index,
                    probe=self.additions.helper(f"data:{index}:probe", probe),
                    drop=self.additions.helper(f"data:{index}:drop", _DATA_DROP + number),
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
                    probe=self.additions.helper(f"element:{index}:probe", probe + self._empty_table(segment.type)),
                    drop=self.additions.helper(f"element:{index}:drop", _ELEM_DROP + number),
                    label=info.element_names.get(index),
                )
            )
        return slots

    def _empty_table(self, element: ValType) -> bytes:
        """Return the encoded index of an empty table that elements of this type fit into, adding one if need be."""
        # Its elements must be nullable, or it would need an initial value.
        code = element.code if element.is_nullable else b"\x63" + element.code[1:]
        if code not in self._table_of_type:
            self._table_of_type[code] = self.additions.table(code + _EMPTY)
        return leb.unsigned(self._table_of_type[code])


def _can_vary(type_: ValType) -> bool:
    return not type_.is_null and can_be_captured(type_)

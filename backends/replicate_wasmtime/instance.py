"""An instance on wasmtime: the primitives of `replicate.Instance` over the C API."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from replicate.binary import Import, ValType
from replicate.errors import (
    ArgumentTypeError,
    DeadHandleError,
    HostResultError,
    InstantiationError,
    MemoryAccessError,
    MissingExportError,
    TableAccessError,
)
from replicate.interfaces import Instance, LiveReference, Reference
from replicate.limits import ResourceLimits
from replicate.linking import Linkage, LinkedFunction, LinkedGlobal, LinkedMemory, LinkedTable, LinkedTag
from replicate.values import FuncRef

from . import _capi
from .calls import bind_function, call_with_bits, native_function, new_instance
from .cell import Cell
from .companions import CompanionInstance
from .faults import engine_error
from .host import host_handler

if TYPE_CHECKING:
    from replicate.imports import Companion

    from .module import WasmtimeModule

__all__ = ["WasmtimeInstance"]

_FUNC, _GLOBAL, _TABLE, _MEMORY = _capi.EXTERN_FUNC, _capi.EXTERN_GLOBAL, _capi.EXTERN_TABLE, _capi.EXTERN_MEMORY
_WIDTHS = {"i32": 4, "i64": 8, "f32": 4, "f64": 8, "v128": 16}
_KINDS = {"func": _capi.FUNCREF, "extern": _capi.EXTERNREF, "any": _capi.ANYREF, "exn": _capi.EXNREF}
_at = ctypes.addressof


class WasmtimeInstance(Instance):
    """Be one running copy of a module in a wasmtime store of its own."""

    module: WasmtimeModule

    def __init__(self, module: WasmtimeModule, linkage: Linkage, limits: ResourceLimits) -> None:
        super().__init__(module, linkage, limits)
        self.cell: Cell
        self.replace()

    # -- life ----------------------------------------------------------------------------------------------------------

    def replace(self) -> None:
        if "cell" in self.__dict__:
            self.cell.close()
        self.cell = Cell(self.module.engine, self)
        self.gate = self.cell.gate
        self._externs: dict[str, Any] = {}
        self._views: dict[int, tuple[int, memoryview]] = {}
        self._names_by_identity: dict[int, int] | None = None
        self._numbers: dict[int, tuple[int, int, int]] = {}
        try:
            self._fill(self.cell)
        except BaseException:
            # What was there is gone, and what isn't whole is no instance: the object is closed.
            self.cell.close()
            raise

    def _fill(self, cell: Cell) -> None:
        """Make the imports and the instance in a new store."""
        value = _capi.Value()
        self._room_at = _at(value)
        self._room = memoryview(value).cast("B")
        linked = self.linkage.imports
        externs = ctypes.create_string_buffer(_capi.EXTERN_SIZE * max(len(linked), 1))
        for position, value in enumerate(linked):
            self._make_import(position, value, _at(externs) + _capi.EXTERN_SIZE * position)
        self._companions = {
            companion: CompanionInstance(cell, code, _at(externs))
            for companion, code in self.module.companions(self.linkage)
        }
        self._native = new_instance(cell, self.module.native, _at(externs), len(linked))
        for companion in self._companions.values():
            companion.complete(self)

    def _make_import(self, position: int, linked: object, extern: int) -> None:
        native_type = self.module.native_import(position, linked)
        kind = ctypes.c_uint8.from_address(extern)
        value = _capi.Value()
        error = None
        if isinstance(linked, LinkedFunction):
            if linked.companion is not None:
                return
            kind.value = _FUNC
            handler = host_handler(self, linked, self.module.shape(linked.type))
            self.cell.add_host_function(native_type, handler, extern + 8)
        elif isinstance(linked, LinkedGlobal):
            kind.value = _GLOBAL
            if linked.type.value.is_number:
                value[0] = _capi.NUMBER_KINDS[linked.type.value.text]
                ctypes.memmove(_at(value) + 8, linked.bits.to_bytes(16, "little"), 16)
                error = _capi.global_new(self.cell.context, native_type, _at(value), extern + 8)
            else:
                self._fill_reference(value, linked.type.value, linked.value)
                error = _capi.global_new(self.cell.context, native_type, _at(value), extern + 8)
                _capi.val_unroot(_at(value))
        elif isinstance(linked, LinkedMemory):
            kind.value = _MEMORY
            error = _capi.memory_new(self.cell.context, native_type, extern + 8)
        elif isinstance(linked, LinkedTable):
            kind.value = _TABLE
            self._fill_reference(value, linked.type.element, None)
            error = _capi.table_new(self.cell.context, native_type, _at(value), extern + 8)
        elif isinstance(linked, LinkedTag):
            kind.value = _capi.EXTERN_TAG
            error = _capi.tag_new(self.cell.context, native_type, extern + 8)
        if error is not None:
            raise InstantiationError(f"can't make import {position}: {engine_error(error)}")

    def close(self) -> None:
        if not self.cell.stale:
            self.cell.close()
            self.generation += 1
            for known in (self._functions, self._views, self._externs, self._numbers, self._companions):
                known.clear()
            self.guest._kill()

    def _extern(self, name: str) -> Any:
        """Give the buffer that holds a wasmtime_extern_t for an export, reserved ones included."""
        extern = self._externs.get(name)
        if extern is None:
            if self.cell.stale:
                raise DeadHandleError("this instance is closed")
            extern = _capi.Value()
            encoded = name.encode("utf-8", "surrogateescape")
            if not _capi.export_get(self.cell.context, _at(self._native), encoded, len(encoded), _at(extern)):
                raise MissingExportError(f"the module exports nothing as {name!r}")
            self._externs[name] = extern
        return extern

    def _item(self, name: str) -> int:
        return _at(self._extern(name)) + 8

    def export_for_companion(self, wanted: Import) -> Any:
        """Give the extern of what a companion imports from the guest; its memory needn't be exported."""
        memory = self.module.default_memory
        if wanted.name == "memory" and wanted.kind == "memory" and memory is not None:
            return self._extern(self.plan.memories[memory].export)
        return self._extern(wanted.name)

    def companion_memory(self, companion: Companion, name: str) -> memoryview | None:
        found = self._companions.get(companion)
        return None if found is None else found.memory(self.cell, name)

    # -- calls ---------------------------------------------------------------------------------------------------------

    def bind(self, name: str) -> Callable[..., Any]:
        shape = self.module.export_shape(name)
        return bind_function(self, name, shape, self._function_buffer(name))

    def call_bits(self, name: str, *bits: Any) -> Any:
        shape = self.module.export_shape(name)
        return call_with_bits(self, name, shape, self._function_buffer(name), bits)

    def _function_buffer(self, name: str) -> Any:
        buffer = ctypes.create_string_buffer(16)
        ctypes.memmove(buffer, self._item(name), 16)
        return buffer

    def make_funcref(self, function: Any, identity: int) -> FuncRef | None:
        """Wrap a native function: `function` is the buffer with its ``wasmtime_func_t``, `identity` its raw pointer."""
        cell, generation = self.cell, self.generation
        index = self._function_indices().get(identity)

        def call(*args: Any) -> Any:
            if index is None:
                raise DeadHandleError("this function isn't one of the module's own; it can be passed on, not called")
            shape = self.module.shape(self.module.info.function_type(index))
            return bind_function(self, f"function {index}", shape, function)(*args)

        return FuncRef(
            index=index,
            native=(cell, function, index),
            call=call,
            is_alive=lambda: not cell.stale and self.generation == generation,
        )

    # -- memories ------------------------------------------------------------------------------------------------------

    def memory_view(self, index: int) -> memoryview:
        memory = self._item(self.plan.memories[index].export)
        context = self.cell.context
        size = _capi.memory_data_size(context, memory)
        known = self._views.get(index)
        # A memory moves only when it grows, so its size tells whether the address is still right.
        if known is not None and known[0] == size:
            return known[1]
        address = _capi.memory_data(context, memory) or 0
        view = memoryview((ctypes.c_ubyte * size).from_address(address) if size else bytearray()).cast("B")
        self._views[index] = (size, view)
        return view

    def memory_address(self, index: int) -> int:
        return _capi.memory_data(self.cell.context, self._item(self.plan.memories[index].export)) or 0

    def memory_grow(self, index: int, pages: int) -> int:
        if pages < 0:
            raise MemoryAccessError(f"can't grow memory {index} by {pages} pages: memories don't shrink")
        previous = ctypes.c_uint64()
        memory = self._item(self.plan.memories[index].export)
        error = _capi.memory_grow(self.cell.context, memory, pages, _at(previous))
        if error is not None:
            raise MemoryAccessError(f"memory {index} can't grow by {pages} page(s): {engine_error(error)}")
        self._views.pop(index, None)
        return previous.value

    # -- globals -------------------------------------------------------------------------------------------------------

    def _global(self, index: int) -> int:
        name = self.module.global_export(index)
        return self._item(name)

    def _read_global(self, index: int) -> Any:
        value = _capi.Value()
        _capi.global_get(self.cell.context, self._global(index), _at(value))
        return value

    def _number(self, index: int) -> tuple[int, int, int]:
        """Give where a number global is, its kind, and where its bits end in the buffer for one."""
        found = self._numbers.get(index)
        if found is None:
            text = self.module.info.globals[index].value.text
            found = (self._global(index), _capi.NUMBER_KINDS[text], 8 + _WIDTHS[text])
            self._numbers[index] = found
        return found

    def global_bits(self, index: int) -> int:
        where, _, end = self._number(index)
        _capi.global_get(self.cell.context, where, self._room_at)
        return int.from_bytes(self._room[8:end], "little")

    def set_global_bits(self, index: int, bits: int) -> None:
        where, self._room[0], _ = self._number(index)
        self._room[8:24] = bits.to_bytes(16, "little")
        error = _capi.global_set(self.cell.context, where, self._room_at)
        if error is not None:
            raise engine_error(error)

    def _write_global(self, index: int, value: Any) -> None:
        error = _capi.global_set(self.cell.context, self._global(index), _at(value))
        if error is not None:
            raise engine_error(error)

    def global_reference(self, index: int) -> Reference:
        value = self._read_global(index)
        return self._reference(value)

    def set_global_reference(self, index: int, reference: int | None) -> None:
        value = self._function_value(reference, self.module.info.globals[index].value)
        self._write_global(index, value)

    def global_object(self, index: int) -> Any:
        value = self._read_global(index)
        return self._object(value)

    def set_global_object(self, index: int, value: Any) -> None:
        cell = _capi.Value()
        self._fill_reference(cell, self.module.info.globals[index].value, value)
        try:
            self._write_global(index, cell)
        finally:
            _capi.val_unroot(_at(cell))

    # -- references in wasmtime_val_t buffers --------------------------------------------------------------------------

    def _function_indices(self) -> dict[int, int]:
        """Map the raw pointers that identify this instance's functions to their indices."""
        known = self._names_by_identity
        if known is None:
            context = self.cell.context
            known = self._names_by_identity = {
                _capi.func_to_raw(context, self._item(slot.export)) or 0: slot.index for slot in self.plan.functions
            }
        return known

    def _reference(self, value: Any) -> Reference:
        """Read a wasmtime_val_t as state, and release what it roots."""
        kind = value[0]
        try:
            if kind == _capi.FUNCREF:
                if not any(value[8:16]):
                    return None
                identity = _capi.func_to_raw(self.cell.context, _at(value) + 8) or 0
                index = self._function_indices().get(identity)
                return index if index is not None else LiveReference("a function that isn't the module's own")
            if not any(value[8:16]):
                return None
            if kind == _capi.EXTERNREF and self.cell.is_host_object(_at(value) + 8):
                return LiveReference("a host object (externref)")
            disguise = " disguised as a host's (externref)" if kind == _capi.EXTERNREF else ""
            return LiveReference(
                f"{'an exception' if kind == _capi.EXNREF else 'a garbage-collected object'}{disguise}"
            )
        finally:
            if kind != _capi.FUNCREF:
                _capi.val_unroot(_at(value))

    def _object(self, value: Any) -> Any:
        """Read a wasmtime_val_t as a Python value, and release what it roots."""
        kind = value[0]
        if not any(value[8:16]):
            return None
        if kind == _capi.FUNCREF:
            function = ctypes.create_string_buffer(bytes(value[8:24]), 16)
            return self.make_funcref(function, _capi.func_to_raw(self.cell.context, _at(function)) or 0)
        try:
            if kind == _capi.EXTERNREF:
                return self.cell.object_of(_at(value) + 8)
            raise HostResultError("a garbage-collected object can't leave its guest")
        finally:
            _capi.val_unroot(_at(value))

    def _fill_reference(self, cell: Any, kind: ValType, value: Any) -> None:
        """Make a wasmtime_val_t of the reference type `kind` from a Python value; the caller unroots it."""
        cell[0] = _KINDS[kind.hierarchy]
        if value is None:
            return
        if kind.is_func:
            accepted = self.module.subtypes.accepted(kind)
            ctypes.memmove(_at(cell) + 8, native_function(self, value, kind, accepted, what="the value"), 16)
        elif kind.is_extern and not kind.is_null:
            self.cell.root(value, _at(cell) + 8)
        else:
            raise ArgumentTypeError(f"the value is a {type(value).__name__}; only None can be given for {kind}")

    def _function_value(self, reference: int | None, kind: ValType) -> Any:
        value = _capi.Value()
        self._fill_reference(value, kind, None)
        if reference is not None:
            ctypes.memmove(_at(value) + 8, self._item(self.module.function_export(reference)), 16)
        return value

    # -- tables --------------------------------------------------------------------------------------------------------

    def _table(self, index: int) -> int:
        return self._item(self.module.table_export(index))

    def table_size(self, index: int) -> int:
        size: int = _capi.table_size(self.cell.context, self._table(index))
        return size

    def table_references(self, index: int) -> tuple[Reference, ...]:
        table, context = self._table(index), self.cell.context
        value = _capi.Value()
        references = []
        for position in range(self.table_size(index)):
            _capi.table_get(context, table, position, _at(value))
            references.append(self._reference(value))
        return tuple(references)

    def set_table_reference(self, index: int, position: int, reference: int | None) -> None:
        value = self._function_value(reference, self.module.info.tables[index].element)
        self._write_table(index, position, value)

    def _write_table(self, index: int, position: int, value: Any) -> None:
        error = _capi.table_set(self.cell.context, self._table(index), position, _at(value))
        if error is not None:
            raise TableAccessError(f"element {position} of table {index} can't be set: {engine_error(error)}")

    def table_value(self, index: int, position: int) -> Any:
        value = _capi.Value()
        _capi.table_get(self.cell.context, self._table(index), position, _at(value))
        return self._object(value)

    def table_set(self, index: int, position: int, value: Any) -> None:
        cell = _capi.Value()
        self._fill_reference(cell, self.module.info.tables[index].element, value)
        try:
            self._write_table(index, position, cell)
        finally:
            _capi.val_unroot(_at(cell))

    def table_grow(self, index: int, elements: int, reference: int | None = None) -> int:
        if elements < 0:
            raise TableAccessError(f"can't grow table {index} by {elements} elements: tables don't shrink")
        kind = self.module.info.tables[index].element
        if reference is None and not kind.is_nullable:
            raise TableAccessError(
                f"table {index} can't grow by nulls: its elements are {kind}, only the guest can grow it"
            )
        previous = ctypes.c_uint64()
        filler = self._function_value(reference, kind)
        error = _capi.table_grow(self.cell.context, self._table(index), elements, _at(filler), _at(previous))
        if error is not None:
            raise TableAccessError(f"table {index} can't grow by {elements} element(s): {engine_error(error)}")
        return previous.value

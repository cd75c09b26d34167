"""A module compiled by wasmtime, and what its instances share: native types and value layouts."""

from __future__ import annotations

import ctypes
import threading
import weakref
from typing import TYPE_CHECKING, Any

import wasmtime

from replicate.binary import FuncType, Prepared, Subtypes
from replicate.errors import MissingExportError, UnsupportedError
from replicate.interfaces import Module
from replicate.limits import NO_LIMITS, ResourceLimits
from replicate.linking import Linkage, LinkedMemory, LinkedTable

from .companions import CompanionCode, compile_companion
from .instance import WasmtimeInstance
from .shapes import Shape

if TYPE_CHECKING:
    from replicate.imports import Companion

    from .engine import WasmtimeEngine

__all__ = ["WasmtimeModule"]


class WasmtimeModule(Module):
    """Be one module compiled by wasmtime."""

    engine: WasmtimeEngine

    def __init__(self, engine: WasmtimeEngine, prepared: Prepared, native: wasmtime.Module) -> None:
        super().__init__(engine, prepared)
        self.native = native
        self._lock = threading.Lock()
        self.subtypes = Subtypes(prepared.info)
        self._shapes: dict[FuncType, Shape] = {}
        self._declared_imports: list[wasmtime.ImportType] | None = None
        self._companions: weakref.WeakKeyDictionary[Companion, dict[Any, CompanionCode]] = weakref.WeakKeyDictionary()
        self._native_imports: dict[tuple[int, object], Any] = {}
        info = prepared.info
        self._functions = {export.name: export.index for export in info.exports if export.kind == "func"}
        self._functions.update((slot.export, slot.index) for slot in prepared.plan.functions)
        self._function_exports = {slot.index: slot.export for slot in prepared.plan.functions}
        self._tables = {export.index: export.name for export in info.exports if export.kind == "table"}
        self._tables.update((slot.index, slot.export) for slot in prepared.plan.tables)
        self._helpers = {name for slot in prepared.plan.segments for name in (slot.probe, slot.drop)}
        if prepared.plan.start is not None:
            self._helpers.add(prepared.plan.start)

    def create(self, linkage: Linkage, *, limits: ResourceLimits = NO_LIMITS) -> WasmtimeInstance:
        for index, memory in enumerate(self.info.memories):
            if memory.shared:
                raise UnsupportedError(
                    f"memory {index} is shared between threads, and an instance here has only one; "
                    "build the module without threads"
                )
        return WasmtimeInstance(self, linkage, limits)

    def close(self) -> None:
        """Free what wasmtime-py can't any more while the interpreter is going down; for its exit."""
        self._declared_imports = None
        self._native_imports.clear()
        for codes in list(self._companions.values()):
            for code in codes.values():
                code.close()
        self._companions.clear()
        self.native.close()

    def companions(self, linkage: Linkage) -> list[tuple[Companion, CompanionCode]]:
        """Give the companions among the imports, compiled."""
        found = []
        for companion, uses in linkage.companions:
            with self._lock:
                code = self._companions.setdefault(companion, {}).get(uses)
            if code is None:
                code = compile_companion(self.engine, companion, uses)
                with self._lock:
                    self._companions[companion][uses] = code
            found.append((companion, code))
        return found

    def shape(self, kind: FuncType) -> Shape:
        """Give the layout of the values of a function type of this module."""
        shape = self._shapes.get(kind)
        if shape is None:
            shape = self._shapes[kind] = Shape(kind, self.subtypes)
        return shape

    def export_shape(self, name: str) -> Shape:
        """Give the layout for an exported function, or raise `MissingExportError`."""
        index = self._functions.get(name)
        if index is not None:
            return self.shape(self.info.function_type(index))
        if name in self._helpers:
            return self.shape(FuncType((), ()))
        raise self.missing_function(name)

    def table_export(self, index: int) -> str:
        """Name an export of a table, or raise `MissingExportError` for one that isn't exported and can't be carried."""
        name = self._tables.get(index)
        if name is None:
            raise MissingExportError(
                f"table {index} of {self.info.tables[index].element} isn't exported and can't be carried: no host can read it"
            )
        return name

    def function_export(self, index: int) -> str:
        """Name an export of a function that references can be made to."""
        return self._function_exports[index]

    def native_import(self, position: int, linked: object) -> int:
        """Give the address of the native type of an import, with the limits that were linked."""
        key = (position, linked.type if isinstance(linked, (LinkedMemory, LinkedTable)) else None)
        with self._lock:
            native = self._native_imports.get(key)
            if native is None:
                native = self._native_imports[key] = self._make_native_import(position, linked)
        return ctypes.cast(native.ptr(), ctypes.c_void_p).value or 0

    def _make_native_import(self, position: int, linked: object) -> Any:
        declared = self.info.imports[position].type
        if isinstance(linked, LinkedMemory) and linked.type != declared:
            memory = linked.type
            limits = wasmtime.Limits(memory.minimum, memory.maximum)
            return wasmtime.MemoryType(limits, memory.is_64, memory.shared, memory.page_size.bit_length() - 1)
        if isinstance(linked, LinkedTable) and linked.type != declared:
            table = linked.type
            plain = {"funcref": wasmtime.ValType.funcref, "externref": wasmtime.ValType.externref}.get(
                table.element.text
            )
            if plain is None or table.is_64:
                raise UnsupportedError(
                    f"import {linked.name}: wasmtime can't make a {table}; leave it out of the imports"
                )
            return wasmtime.TableType(plain(), wasmtime.Limits(table.minimum, table.maximum))
        if self._declared_imports is None:
            self._declared_imports = list(self.native.imports)
        # Reading anything from the type of a v128 global aborts the process: only its address is used.
        return self._declared_imports[position].type

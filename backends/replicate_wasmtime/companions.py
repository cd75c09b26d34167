"""Companions: Wasm functions that a guest imports and that work on its memory.

The guest needs them to be made, and they need the guest's memory, so there's a relay between the two: functions that call
through a table, made first, with slots that are filled last.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import attrs
import wasmtime

from replicate.binary import FuncType, ModuleInfo, read_module
from replicate.errors import ImportTypeError, InstantiationError, MissingExportError, MissingImportError
from replicate.linking import LinkedFunction, fit_function
from replicate.source import read_source

from . import _capi
from .calls import new_instance
from .faults import engine_error
from .host import host_handler
from .shapes import Shape

if TYPE_CHECKING:
    from replicate.imports import Companion

    from .cell import Cell
    from .engine import WasmtimeEngine
    from .instance import WasmtimeInstance

__all__ = ["CompanionCode", "CompanionInstance", "compile_companion"]

_at = ctypes.addressof
_WASI = "wasi_snapshot_preview1"


@attrs.frozen(eq=False)
class CompanionCode:
    """Be one companion, compiled for one module's imports."""

    info: ModuleInfo
    native: wasmtime.Module
    relay: wasmtime.Module
    exports: tuple[str, ...]
    """The companion's functions that the guest imports, in the order of the relay's slots."""
    positions: tuple[int, ...]
    """Which imports of the guest these are."""
    host: tuple[LinkedFunction | None, ...]
    """For each of the companion's imports the Python function, if it's one."""
    shapes: tuple[Shape | None, ...]
    """For each Python function how its values lie."""
    host_types: list[Any]
    """For each of the companion's imports its type, which belongs to wasmtime."""
    linker: wasmtime.Linker | None
    """Has the engine's own WASI, if the companion imports from there."""

    def close(self) -> None:
        """Free what wasmtime-py can't any more while the interpreter is going down, though instances keep this."""
        self.host_types.clear()
        self.native.close()
        self.relay.close()
        if self.linker is not None:
            self.linker.close()


class CompanionInstance:
    """Be what stands beside one instance of a guest: a relay at first, and then the companion behind it."""

    def __init__(self, cell: Cell, code: CompanionCode, externs: int) -> None:
        """Make the relay, and put its functions among the guest's imports at `externs`."""
        self._code = code
        self._relay = _instantiate(cell, code.relay, None, 0)
        self._instance: Any = None
        self._views: dict[str, memoryview] = {}
        for number, position in enumerate(code.positions):
            function = _export(cell, self._relay, str(number))
            ctypes.memmove(externs + _capi.EXTERN_SIZE * position, _at(function), _capi.EXTERN_SIZE)

    def complete(self, guest: WasmtimeInstance) -> None:
        """Make the companion, and have the relay call it."""
        code, cell = self._code, guest.cell
        externs = ctypes.create_string_buffer(_capi.EXTERN_SIZE * max(len(code.info.imports), 1))
        for position, wanted in enumerate(code.info.imports):
            at = _at(externs) + _capi.EXTERN_SIZE * position
            host, shape = code.host[position], code.shapes[position]
            if host is not None and shape is not None:
                handler = host_handler(guest, host, shape)
                ctypes.c_uint8.from_address(at).value = _capi.EXTERN_FUNC
                native_type = ctypes.cast(code.host_types[position].ptr(), ctypes.c_void_p).value or 0
                cell.add_host_function(native_type, handler, at + 8)
            elif code.linker is not None and wanted.module == _WASI:
                ctypes.c_uint8.from_address(at).value = _capi.EXTERN_FUNC
                ctypes.memmove(at + 8, _capi.wasi_function(code.linker, cell.store, wanted.name), 16)
            else:
                ctypes.memmove(at, guest.export_for_companion(wanted), _capi.EXTERN_SIZE)
        self._instance = _instantiate(cell, code.native, externs, len(code.info.imports))
        table = _export(cell, self._relay, "slots")
        for number, name in enumerate(code.exports):
            value = _export(cell, self._instance, name)
            value[0] = _capi.FUNCREF
            error = _capi.table_set(cell.context, _at(table) + 8, number, _at(value))
            if error is not None:
                raise engine_error(error)

    def memory(self, cell: Cell, name: str) -> memoryview:
        """Give a view of a memory that the companion exports."""
        view = self._views.get(name)
        if view is not None:
            return view
        memory = _export(cell, self._instance, name)
        size = _capi.memory_data_size(cell.context, _at(memory) + 8)
        address = _capi.memory_data(cell.context, _at(memory) + 8)
        view = self._views[name] = memoryview((ctypes.c_ubyte * size).from_address(address)).cast("B")
        return view


def compile_companion(
    engine: WasmtimeEngine, companion: Companion, uses: Sequence[tuple[int, LinkedFunction]]
) -> CompanionCode:
    """Compile a companion for the imports in `uses`, by position; raise `ModuleError` in its kinds, or `ImportTypeError`."""
    wasm = read_source(companion.source, engine.wat_to_wasm)
    info = read_module(wasm)
    native = engine.compile_plain(wasm)
    exported = {export.name: export.index for export in info.exports if export.kind == "func"}
    names = []
    for _, linked in uses:
        assert linked.companion is not None
        name = linked.companion.name
        if name not in exported:
            raise ImportTypeError(f"import {linked.name} is {name!r} of a companion, which exports no such function")
        has = info.function_type(exported[name])
        if has != linked.type:
            raise ImportTypeError(f"import {linked.name} is {linked.type} in the module, and {has} in the companion")
        names.append(name)
    host: list[LinkedFunction | None] = []
    for wanted in info.imports:
        host.append(None)
        if wanted.module == "host":
            if wanted.name not in companion.imports or not isinstance(wanted.type, FuncType):
                raise MissingImportError(f"a companion imports host.{wanted.name}: give that function in its imports")
            host[-1] = fit_function(f"host.{wanted.name}", wanted.type, companion.imports[wanted.name])
        elif wanted.module not in ("guest", _WASI):
            raise MissingImportError(
                f"a companion imports {wanted.module}.{wanted.name}: it can only import from 'guest', 'host' and {_WASI!r}"
            )
    linker = None
    if any(wanted.module == _WASI for wanted in info.imports):
        linker = wasmtime.Linker(engine.native)
        linker.define_wasi()
    return CompanionCode(
        info=info,
        native=native,
        relay=engine.compile_plain(engine.wat_to_wasm(_relay([linked.type for _, linked in uses]))),
        exports=tuple(names),
        positions=tuple(position for position, _ in uses),
        host=tuple(host),
        # A type of the companion's isn't the guest's type of the same index, whose functions come from Python.
        shapes=tuple(None if linked is None else Shape(linked.type, None) for linked in host),
        host_types=[declared.type for declared in native.imports],
        linker=linker,
    )


def _relay(kinds: Sequence[FuncType]) -> str:
    parts = [f'(module (table (export "slots") {len(kinds)} funcref)']
    for number, kind in enumerate(kinds):
        params, results = (" ".join(map(str, types)) for types in (kind.params, kind.results))
        arguments = " ".join(f"(local.get {at})" for at in range(len(kind.params)))
        parts.append(
            f'(type $t{number} (func (param {params}) (result {results}))) (func (export "{number}") (type $t{number})'
            f" (call_indirect (type $t{number}) {arguments} (i32.const {number})))"
        )
    return " ".join(parts) + ")"


def _instantiate(cell: Cell, module: wasmtime.Module, externs: Any, count: int) -> Any:
    """Make an instance and give the buffer of its wasmtime_instance_t."""
    try:
        return new_instance(cell, module, externs and _at(externs), count)
    except InstantiationError as error:
        raise InstantiationError(f"a companion can't be made: {error}") from error


def _export(cell: Cell, instance: Any, name: str) -> Any:
    """Give the buffer of a wasmtime_extern_t."""
    extern = _capi.Value()
    encoded = name.encode()
    if not _capi.export_get(cell.context, _at(instance), encoded, len(encoded), _at(extern)):
        raise MissingExportError(f"the companion exports nothing as {name!r}")
    return extern
